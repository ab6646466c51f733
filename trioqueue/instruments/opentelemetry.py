"""Traces by OpenTelemetry's conventions for messaging: which send led to which handler, on whatever pod.

| span | kind | is round |
|---|---|---|
| `send account/{id}` | PRODUCER | a `send`, or a `send_many`, until it is accepted |
| `call account/{id}` | PRODUCER | a `call`, until its answer |
| `create account/{id}` | PRODUCER | a `context.send`: the command leaves with the commit, or never |
| `process account/{id}` | CONSUMER | a handler; each attempt has its own |
| `dead_letter account/{id}` | CLIENT | nothing: a command became a dead letter |

A call is waited for, so the `process` span is its child, in its trace.  What is sent is not: its `process` span begins
a trace of its own, which may go on for long after the sender's has ended, and is linked to the span that sent it.  Both
ends of a call have the kinds of messaging, not those of a request (CLIENT and SERVER): the conventions name PRODUCER
for whatever span a message carries with it, and those who draw graphs join a PRODUCER to a CONSUMER.

A `context.send` has a `create` span and no `send` span: when it is over, nobody knows yet whether the command will be
sent.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import Token
from importlib.metadata import version
from time import monotonic
from typing import Literal

from opentelemetry import propagate, trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import Span, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from trioqueue import Entity, HandlerCancelled, Instrument, Rejected, Rejection

SentBy = Literal["send", "call", "child"]

CALL = "trioqueue-call"
"""Header of a command that is called: the id of the span whose children its `process` spans are.

It names the span since a handler may pass its headers on: what it sends so is not called, and has another span.
"""

LONGEST_DEBT = 60.0
"""Seconds for which nothing more is traced after a group of commands, however large, that was."""

FAILED_KEPT = 16
"""Failed attempts of an entity whose spans are remembered until more is told of them; of some nothing ever is."""

_OPERATIONS: Mapping[SentBy, tuple[str, str]] = {
    "send": ("send", "send"),
    "call": ("call", "send"),
    "child": ("create", "create"),
}
"""The name of each way to send, and its type by the conventions."""


class Traces(Instrument):
    """Makes spans of what this process sends and handles; hand it to `open_atomic_queues(instruments=[Traces()])`.

    A dead letter has its span in any case.

    Args:
        tracer_provider: Who makes the spans; None: the global one.
        propagator: What writes a span's context into a command's headers, and reads it; None: the global one, which
            writes W3C's `traceparent` and `tracestate`, and `baggage`.
        per_second: So many commands are traced in a second of those that no recorded trace leads to, and at once those
            of a second that were not used up; `math.inf`: all.  The others cost next to nothing, and nothing travels
            with them, whereas two spans take as long as a command or two.  A `send_many` is traced whole or not at all,
            and counts as its commands.  What is sent while a recorded span is current, or brings along that its sender
            recorded it, is traced in any case; only what handlers send with their commits is counted, for itself and as
            much, as it may go on for ever.

    Raises:
        ValueError: `per_second` is below 0.
    """

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        propagator: TextMapPropagator | None = None,
        per_second: float = 50.0,
    ) -> None:
        if not per_second >= 0:
            raise ValueError(
                f"per_second={per_second!r} is no number of commands: give 0 or more, math.inf for all."
            )
        self._allowance = _Allowance(per_second)
        self._children = _Allowance(per_second)  # for what handlers send with their commits, for ever maybe
        self._tracer = trace.get_tracer("trioqueue", version("trioqueue"), tracer_provider)
        self._propagator = propagator
        # The spans of attempts that failed and of which nothing more was told yet, by the commands' ids.
        # Invariant: only entities that are awake here are in it, each with `FAILED_KEPT` at most.
        self._failed: dict[Entity, dict[str, SpanContext]] = {}

    def sending(
        self, commands: Sequence[tuple[Entity, str, str]], how: SentBy
    ) -> AbstractContextManager[Mapping[str, str]] | None:
        if not trace.get_current_span().is_recording():
            chosen = self._allowance.take(len(commands))
        else:
            chosen = how != "child" or self._children.take()
        if not chosen:
            return None
        name, kind = _OPERATIONS[how]
        attributes = _attributes(name, kind, {entity for entity, _, _ in commands})
        if len(commands) == 1:
            _, command, command_id = commands[0]
            attributes |= {"messaging.message.id": command_id, "trioqueue.command": command}
        else:
            attributes["messaging.batch.message_count"] = len(commands)
        template = attributes.get("messaging.destination.template")
        span = self._tracer.start_span(
            f"{name} {template}" if template else name, kind=SpanKind.PRODUCER, attributes=attributes
        )
        headers: dict[str, str] = {}
        try:
            # Its default setter sets the items of any mapping, which pyright does not read off its type.
            self._propagation().inject(headers, trace.set_span_in_context(span))  # pyright: ignore[reportArgumentType]
        except BaseException:
            span.end()
            raise
        if how == "call":
            headers[CALL] = _id(span.get_span_context())
        return _Sending(span, headers)

    def handling(
        self, entity: Entity, command: str, command_id: str, attempt: int, headers: Mapping[str, str]
    ) -> AbstractContextManager[None] | None:
        context = self._propagation().extract(headers, Context()) if headers else Context()
        sender = trace.get_current_span(context).get_span_context()
        if not (sender.is_valid and sender.trace_flags.sampled) and not self._allowance.take():
            return None
        links: list[trace.Link] = []
        if headers.get(CALL) != _id(sender):
            context = trace.set_span_in_context(trace.INVALID_SPAN, context)
            links = [trace.Link(sender)] if sender.is_valid else []
        attributes = _attributes("process", "process", {entity})
        attributes |= {
            "messaging.message.id": command_id,
            "trioqueue.command": command,
            "trioqueue.attempt": attempt,
        }
        name = f"process {_template(entity)}"
        span = self._tracer.start_span(name, context, SpanKind.CONSUMER, attributes, links)

        def failed() -> None:
            of_entity = self._failed.setdefault(entity, {})
            of_entity[command_id] = span.get_span_context()
            if len(of_entity) > FAILED_KEPT:
                del of_entity[next(iter(of_entity))]

        return _Handling(span, trace.set_span_in_context(span, context), failed)

    def failed(
        self,
        entity: Entity,
        command: str,
        command_id: str,
        attempt: int,
        again_in: float,
        error: str,
    ) -> None:
        self._take_failed(entity, command_id)

    def dead(self, entity: Entity, command: str, command_id: str, attempts: int, error: str) -> None:
        ran = self._take_failed(entity, command_id)
        attributes = _attributes("dead_letter", "settle", {entity})
        attributes |= {
            "messaging.message.id": command_id,
            "trioqueue.command": command,
            "trioqueue.attempt": attempts,
            "error.type": error,
        }
        context = Context()
        if ran is not None:
            context = trace.set_span_in_context(trace.NonRecordingSpan(ran), context)
        name = f"dead_letter {_template(entity)}"
        span = self._tracer.start_span(name, context, SpanKind.CLIENT, attributes)
        span.set_status(Status(StatusCode.ERROR, error))
        span.end()

    def passivated(self, entity: Entity) -> None:
        self._failed.pop(entity, None)

    def handed_off(self, entity: Entity) -> None:
        self._failed.pop(entity, None)

    def _take_failed(self, entity: Entity, command_id: str) -> SpanContext | None:
        of_entity = self._failed.get(entity)
        return of_entity.pop(command_id, None) if of_entity else None

    def _propagation(self) -> TextMapPropagator:
        return self._propagator or propagate.get_global_textmap()


class _Allowance:
    """A token bucket: so many commands a second, and at once those of one second that were not used up.

    It is kept as the time at which the next whole one is there, so that a no, as most answers in a rush are, costs a
    look at the clock: [GCRA](https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm), by which networks do it.
    There is no lock: threads that meet here at worst take a few more.
    """

    __slots__ = ("_each", "_next", "_saved")

    def __init__(self, per_second: float) -> None:
        self._each = 1 / per_second if per_second else math.inf  # seconds
        self._saved = max(0.0, 1 - self._each)  # so far back lies the next one where none was used
        self._next = monotonic() - self._saved if per_second else math.inf

    def take(self, count: int = 1) -> bool:
        """Takes so many if one is there: of a group that is more than there are, the rest is owed."""
        now = monotonic()
        if self._next > now:
            return False
        self._next = max(self._next, now - self._saved) + min(
            count * self._each, max(LONGEST_DEBT, self._each)
        )
        return True


class _Sending(AbstractContextManager[Mapping[str, str]]):
    """Is round what is sent; its span is not the current one, as nothing of the user's runs within."""

    def __init__(self, span: Span, headers: Mapping[str, str]) -> None:
        self._span, self._headers = span, headers

    def __enter__(self) -> Mapping[str, str]:
        return self._headers

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        try:
            outcome = self._note(error)
            if CALL in self._headers:
                self._span.set_attribute("trioqueue.outcome", outcome)
        finally:
            self._span.end()

    def _note(self, error: BaseException | None) -> str:
        if isinstance(error, Rejection | Rejected):
            rejection = error.name if isinstance(error, Rejected) else type(error).__name__
            self._span.set_attribute("trioqueue.rejection", rejection)
            return "rejected"
        if isinstance(error, Exception):
            _note_failure(self._span, error)
            return "failed"
        return "done" if error is None else "unanswered"


class _Handling(AbstractContextManager[None]):
    """Is round a handler, whose current span it is; `failed` is told if it fails."""

    def __init__(self, span: Span, context: Context, failed: Callable[[], None]) -> None:
        self._span, self._context, self._failed = span, context, failed
        self._token: Token[Context] | None = None  # what was current before; None: it was not entered

    def __enter__(self) -> None:
        self._token = attach(self._context)

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if self._token is not None:
            detach(self._token)
        try:
            self._span.set_attribute("trioqueue.outcome", self._note(error))
        finally:
            self._span.end()

    def _note(self, error: BaseException | None) -> str:
        if isinstance(error, Rejection):
            self._span.set_attribute("trioqueue.rejection", type(error).__name__)
            return "rejected"
        if isinstance(error, HandlerCancelled):
            return error.why
        if isinstance(error, Exception):
            self._failed()
            _note_failure(self._span, error)
            return "failed"
        # Else trio.Cancelled, and be it in a group with what was raised meanwhile.
        return "done" if error is None else "let go"


def _note_failure(span: Span, error: Exception) -> None:
    span.set_attribute("error.type", type(error).__name__)
    span.record_exception(error)
    span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))


def _attributes(name: str, kind: str, entities: set[Entity]) -> dict[str, AttributeValue]:
    """Gives what the conventions ask for; the entity is named where it is one, the template where all are of a type."""
    attributes: dict[str, AttributeValue] = {
        "messaging.system": "trioqueue",
        "messaging.operation.name": name,
        "messaging.operation.type": kind,
    }
    templates = {_template(entity) for entity in entities}
    if len(templates) == 1:
        attributes["messaging.destination.template"] = templates.pop()
    if len(entities) == 1:
        attributes["messaging.destination.name"] = str(next(iter(entities)))
    return attributes


def _id(context: SpanContext) -> str:
    return trace.format_span_id(context.span_id)


def _template(entity: Entity) -> str:
    return f"{entity.type}/{{id}}"
