"""Handling one command: from its envelope to what is to be committed.

`Turns` belongs to one worker.  It holds the entity's state as it was committed last, runs the handler on a
live copy, and turns the way it ended into a commit.  It writes nothing itself: what it made stands when
`committed` is called.
"""

import base64
import logging
import math
import traceback
from collections.abc import Callable
from functools import partial
from random import random
from typing import Any

import attrs
import trio

from trioqueue._errors import (
    BadDeclaration,
    DecodeError,
    NewerVersion,
    StateTooLarge,
    TrioqueueError,
    UnknownCommand,
)
from trioqueue._names import Entity
from trioqueue.messages.codec import Codec
from trioqueue.messages.envelope import Envelope, decode_envelope
from trioqueue.messages.policy import Retry
from trioqueue.messages.raw import WILDCARD, RawCommand
from trioqueue.messages.rejection import rejection_fields, rejection_name
from trioqueue.messages.state import read_state
from trioqueue.protocol.outcome import Kind, Outcome
from trioqueue.protocol.turn import (
    Cancelled,
    Done,
    Drop,
    Ending,
    Expired,
    GiveUp,
    Raised,
    Rejected,
    Returned,
    TryAgain,
    Verdict,
    decide,
    single_leaf,
)
from trioqueue.runtime.context import Context, Receipt, Sender, Slots, TurnSlot, current_turn
from trioqueue.runtime.instruments import Instruments, TurnFacts
from trioqueue.runtime.receiver import KEEP_MS
from trioqueue.runtime.service import BoundHandler, Service
from trioqueue.stores.contract import (
    NOT_MODIFIED,
    Claimed,
    Commit,
    DeadLetter,
    LeaseLost,
    Outgoing,
    Reply,
    Withdrawn,
)
from trioqueue.stores.reports import Queued

logger = logging.getLogger("trioqueue.worker")

MAX_TRACEBACK = 16_384
"""Characters of a traceback that is kept with a dead letter and told to the caller; the end matters most."""

MAX_WHY = 1_000
"""Characters of what is said of a command that waits for an operator."""

GIVE_UP_AT_ONCE = Retry(attempts=1)
"""For commands that no repetition repairs, as their bytes stay what they are."""


class HandlerTimeout(Exception):
    """A handler took longer than its `timeout`; counted as its failure."""


class PodsDied(Exception):
    """Pods died while they handled this command; counted apart from its failures."""


@attrs.define
class Counts:
    """What the workers of one pod did."""

    created: int = 0
    passivated: int = 0
    handled: int = 0
    failed: int = 0
    dead: int = 0


@attrs.frozen
class Hold:
    """This pod can't handle the head, but another may: let go of the entity."""


@attrs.define
class Finished:
    """A turn that is over: what to commit, the state as it will then be, and who in this process waits for it."""

    commit: Commit
    state: bytes | None = attrs.field(default=None, repr=False)
    local_replies: tuple[tuple[str, bytes], ...] = attrs.field(default=(), repr=False)
    facts: TurnFacts | None = attrs.field(default=None, repr=False)


class Turns:
    """The turns of one entity in one worker."""

    # A pod may hold tens of thousands of them.
    __slots__ = (
        "_attempts",
        "_cancelled",
        "_cancels",
        "_client",
        "_codec",
        "_counts",
        "_crashes",
        "_dirty",
        "_done",
        "_entity",
        "_facts",
        "_fetched_at",
        "_instruments",
        "_live",
        "_now_us",
        "_proven",
        "_running",
        "_scope",
        "_sender",
        "_state",
        "_unknown_us",
        "epoch",
        "paused_why",
        "service",
        "slots",
        "state_version",
    )

    def __init__(
        self,
        entity: Entity,
        service: Service,
        codec: Codec,
        sender: Sender,
        slots: Slots,
        client: str,
        counts: Counts,
        instruments: Instruments,
    ) -> None:
        self.service = service
        self._instruments = instruments
        self._facts: TurnFacts | None = None  # of the turn under way; None: nobody is told
        self.paused_why = ""  # why a head of it waits for an operator, as it failed for good
        self._entity = entity
        self._codec = codec
        self._sender = sender
        self.slots = slots
        self._client = client
        self._counts = counts
        self.epoch: int | None = None  # None: never claimed
        self._done = 0
        self.state_version = ""  # names `_state`, the state that was committed last; "" with None
        self._state: bytes | None = None
        # The object that handlers change.  None, or equal to `_state` unless `_dirty`.
        self._live: Any = None
        self._dirty = False  # a handler has started on `_live`, and its turn does not stand (yet)
        # What is known of the head alone; zeros once the head of the last claim was settled.
        self._attempts = self._crashes = self._unknown_us = 0
        self._proven = False
        self._now_us, self._fetched_at = 0, 0.0  # store time of the last batch, and our time when it came
        # The command whose handler runs, its scope, and whether its caller cancelled it.
        self._running: str | None = None
        self._scope: trio.CancelScope | None = None
        self._cancelled = False
        self._cancels: set[str] = set()  # commands whose callers have gone; the worker's own

    # -------------------------------------------------------------------------------- what the worker tells
    def begin(self, claimed: Claimed) -> None:
        """Takes over a claim."""
        self.epoch, self._done = claimed.epoch, claimed.done
        self._attempts, self._crashes, self._unknown_us = (
            claimed.attempts,
            claimed.crashes,
            claimed.unknown_us,
        )
        self._proven = claimed.proven
        self.fetched(claimed.now_us)
        if claimed.state is not NOT_MODIFIED:
            assert not isinstance(claimed.state, str)
            self._state, self._live = claimed.state, None
        if self._dirty:
            # The worker was interrupted between a start and its commit, so the live copy may never have been.
            self._live, self._dirty = None, False
        self.state_version = claimed.state_version

    def fetched(self, now_us: int) -> None:
        """Notes the store's time with a new batch."""
        self._now_us, self._fetched_at = now_us, trio.current_time()

    def cancel(self, command_id: str) -> None:
        """Cancels the handler that runs, if it is this command's."""
        if self._running == command_id and self._scope is not None:
            self._cancelled = True
            self._scope.cancel(reason="the caller cancelled the command")

    def committed(self, finished: Finished) -> None:
        """Takes note that a turn stands."""
        commit = finished.commit
        if commit.state is not None:
            self.state_version, self._state = f"{commit.epoch}.{commit.done}", commit.state
        self._dirty = False
        self._done += commit.pops + (commit.retry_ms is not None or bool(commit.pause))
        self._attempts = self._crashes = self._unknown_us = 0
        self._proven = False
        if finished.facts is not None:
            finished.facts.tell()

    def put_off(self, seconds: float) -> Commit:
        """Makes the commit that lets the head wait without counting a failure."""
        return self._commit(retry_ms=math.ceil(seconds * 1000), failed=False)

    def _commit(self, **what: Any) -> Commit:
        assert self.epoch is not None
        return Commit(self._entity, self.epoch, self._done, **what)

    # -------------------------------------------------------------------------------- one turn
    async def take(
        self,
        queued: Queued,
        cancels: set[str],
        nursery: trio.Nursery,
        provided: Any,
        slot: TurnSlot,
        *,
        last: bool,
        trusted: Callable[[], bool],
    ) -> Finished | Hold:
        """Handles the head of the mailbox.

        Cancelled: the handler is cancelled and nothing of it will stand; the command is still the head.

        Args:
            queued: the head.
            cancels: commands whose callers have gone.
            nursery: the entity's, for `Context.nursery`.
            provided: what the activation yielded.
            slot: the running slot that the worker has taken for it.
            last: nothing else is in hand, so the commit asks for more.
            trusted: whether a handler may start now.

        Raises:
            LeaseLost: it may not.
        """
        want = self.service.policy.fetch if last else 0
        self._cancels = cancels
        self._facts = self._observed(queued) if self._instruments.active else None
        try:
            envelope = decode_envelope(self._codec, self._entity, queued.data)
        except DecodeError as error:
            return self._bury(queued, None, error, want)
        handlers = self.service.handlers
        bound = handlers.get(envelope.name) or handlers.get(WILDCARD)
        if self._proven and self._crashes > self.service.policy.max_crashes:
            return self._give_up(
                queued, envelope, PodsDied(f"{self._crashes} pods died while they handled it"), want
            )
        if bound is None:
            return self._hold_or_bury(
                queued, envelope, UnknownCommand(str(self._entity), envelope.name), want
            )
        try:
            command = self._command(bound, envelope)
            self._thaw()
        except NewerVersion as error:
            return self._hold_or_bury(queued, envelope, error, want)
        except DecodeError as error:
            return self._bury(queued, envelope, error, want)
        left = self._time_left(queued, envelope)
        if envelope.command_id in cancels or left <= 0:
            return self._settle(queued, envelope, bound, Drop(expired=left <= 0), [], want)
        # Asked at the last moment: decoding takes time, and the process may have stood still since.
        if not trusted():
            raise LeaseLost("the lease can no longer be trusted")
        context = self._context(envelope, queued, nursery, slot, left, bound.timeout)
        ending = await self._run(bound, command, context, provided, left)
        return self._judge(queued, envelope, bound, ending, context, want)

    def _observed(self, queued: Queued) -> TurnFacts:
        waited = max(0.0, (self._now_us - queued.accepted_us) / 1e6 + trio.current_time() - self._fetched_at)
        return TurnFacts(self._instruments, self._entity, waited)

    def _hold_or_bury(
        self, queued: Queued, envelope: Envelope, error: TrioqueueError, want: int
    ) -> Finished | Hold:
        """Leaves a command that this pod does not know to others, and gives it up once all had their time."""
        if self._unknown_us / 1e6 < self.service.policy.unknown_grace:
            return Hold()
        return self._bury(queued, envelope, error, want)

    def _command(self, bound: BoundHandler, envelope: Envelope) -> Any:
        cls = bound.handler.info.cls
        if cls is RawCommand:
            return RawCommand(
                self._entity.type, self._entity.id, envelope.name, envelope.payload, envelope.version
            )
        payload = self.service.registry.upcasted(cls, envelope.payload, envelope.version)
        return self._codec.structure(payload, cls)

    def _thaw(self) -> None:
        """Makes the live state equal to the committed one, if it isn't."""
        state = self.service.state
        if state is None or self._live is not None:
            return
        if self._state is None:
            self._live = state.cls()
            return
        version, fields = read_state(self._codec, self._state)
        self._live = self._codec.structure(
            self.service.registry.upcasted(state.cls, fields, version), state.cls
        )

    def _frozen(self) -> bytes | None:
        """Encodes the live state; None: it has not changed."""
        state = self.service.state
        if state is None:
            return None
        encoded = self._codec.dumps({"v": state.version, "s": self._codec.unstructure(self._live, state.cls)})
        if len(encoded) > self.service.policy.max_state:
            raise StateTooLarge(len(encoded), self.service.policy.max_state)
        return None if encoded == self._state else encoded

    def _time_left(self, queued: Queued, envelope: Envelope) -> float:
        """Says how many seconds the caller will still wait, by the store's clock and the time since it told it."""
        if envelope.deadline is None:
            return math.inf
        waited = (self._now_us - queued.accepted_us) / 1e6 + trio.current_time() - self._fetched_at
        return envelope.deadline - waited

    def _context(
        self,
        envelope: Envelope,
        queued: Queued,
        nursery: trio.Nursery,
        slot: TurnSlot,
        left: float,
        timeout: float | None,
    ) -> Context:
        assert self.epoch is not None
        return Context(
            entity=self._entity.type,
            entity_id=self._entity.id,
            command_id=envelope.command_id,
            attempt=self._attempts + 1,
            fence=self.epoch,
            sent_at=queued.accepted_us / 1e6,
            headers=envelope.headers,
            deadline=trio.current_time() + min(left, math.inf if timeout is None else timeout),
            nursery=nursery,
            sender=self._sender,
            task=trio.lowlevel.current_task(),
            slot=slot,
            reply_to=envelope.reply_to or "",
            waiting=envelope.chain,
            child_id=f"{self.epoch:x}-{self._done}",
        )

    async def _run(
        self, bound: BoundHandler, command: Any, context: Context, provided: Any, left: float
    ) -> Ending:
        self._running, self._cancelled, self._dirty = context.command_id, False, True
        ending: Ending | None = None
        token = current_turn.set(context)
        try:
            with trio.CancelScope(deadline=context.deadline) as self._scope:
                arguments = bound.arguments(self._live, context, provided)
                ending = Returned(await bound.handler.function(command, **arguments))
        except Exception as error:
            ending = Raised(error)
        finally:
            current_turn.reset(token)
            self._running = self._scope = None
        if ending is not None:
            return ending
        if self._cancelled:
            return Cancelled()
        if bound.timeout is not None and bound.timeout < left:
            return Raised(HandlerTimeout(f"the handler took longer than its timeout of {bound.timeout:g} s"))
        return Expired()

    def _judge(
        self,
        queued: Queued,
        envelope: Envelope,
        bound: BoundHandler,
        ending: Ending,
        context: Context,
        want: int,
    ) -> Finished:
        """Turns the way a handler ended into a commit."""
        children, withdrawn = context.close()
        self._counts.handled += 1
        info = bound.handler.info
        judge = partial(
            decide, retry=bound.retry, failures=self._attempts, is_query=info.is_query, random=random
        )
        verdict = judge(ending)
        try:
            if isinstance(verdict, Done):
                state = self._frozen()
                if info.is_query and (state is not None or children or withdrawn):
                    raise BadDeclaration(
                        f"{bound.handler.qualname} handles a query, but changed the state, sent or cancelled"
                    )
                reply = (
                    self._codec.unstructure(verdict.value, info.reply_type()) if _wanted(envelope) else None
                )
                finished = self._settle(queued, envelope, bound, Done(reply), children, want)
                finished.commit.state = state
                finished.commit.withdrawn = [self._withdrawn(receipt) for receipt in withdrawn]
                return finished
            self._live = None  # what the handler did to it never was
            return self._settle(queued, envelope, bound, verdict, [], want)
        except TrioqueueError as error:  # the answer cannot travel, or the state cannot be kept
            self._live = None
            return self._settle(queued, envelope, bound, judge(Raised(error)), [], want)

    def _withdrawn(self, receipt: Receipt[Any]) -> Withdrawn:
        outcome = self._codec.dumps(Outcome(Kind.CANCELLED).to_wire())
        entity = Entity(receipt.entity_type, receipt.entity_id)
        return Withdrawn(entity, receipt.command_id, outcome, math.ceil(receipt.kept * 1000))

    def _settle(
        self,
        queued: Queued,
        envelope: Envelope,
        bound: BoundHandler,
        verdict: Verdict,
        children: list[Outgoing],
        want: int,
    ) -> Finished:
        command_id = envelope.command_id
        match verdict:
            case TryAgain(wait, error):
                self._counts.failed += 1
                logger.warning(
                    "%s of %s failed (attempt %d), again in %.2f s: %r",
                    envelope.name,
                    self._entity,
                    self._attempts + 1,
                    wait,
                    single_leaf(error),
                    extra={"event": "retry", "entity": str(self._entity), "command_id": command_id},
                )
                if self._facts is not None:
                    self._facts.failed(envelope, self._attempts + 1, wait, single_leaf(error))
                return Finished(self._commit(retry_ms=math.ceil(wait * 1000)), facts=self._facts)
            case GiveUp(error):
                self._counts.failed += 1
                if not bound.handler.info.is_query:
                    return self._give_up(queued, envelope, error, want)
                logger.warning(
                    "%s of %s failed: %r",
                    envelope.name,
                    self._entity,
                    single_leaf(error),
                    extra={"event": "query_failed", "entity": str(self._entity), "command_id": command_id},
                )
                outcome = _failed(error)
            case Done(value):
                outcome = Outcome(Kind.DONE, value)
            case Rejected(rejection):
                fields = rejection_fields(self._codec, rejection) if _wanted(envelope) else None
                outcome = Outcome(Kind.REJECTED, fields, rejection_name(rejection))
            case Drop(expired):
                outcome = Outcome(Kind.EXPIRED if expired else Kind.CANCELLED)
        return self._finish(envelope, outcome, want, children=children)

    def _give_up(self, queued: Queued, envelope: Envelope, error: BaseException, want: int) -> Finished:
        """Ends a command that failed for good: among the dead letters, or by having its entity wait for an operator."""
        if self.service.policy.on_exhausted == "dead_letter":
            return self._bury(queued, envelope, error, want)
        why = f"{envelope.name} {envelope.command_id} failed for good: {_failed(error).value}"
        logger.error(
            "%s waits for an operator: %s",
            self._entity,
            why,
            exc_info=error,
            extra={"event": "paused", "entity": str(self._entity), "command_id": envelope.command_id},
        )
        self.paused_why = why[:MAX_WHY]
        return Finished(self._commit(pause=self.paused_why, failed=self._crashes == 0))

    def _bury(self, queued: Queued, envelope: Envelope | None, error: BaseException, want: int) -> Finished:
        """Gives a command up: to the dead letters, and the error to whoever waits."""
        self._counts.dead += 1
        outcome = _failed(error)
        command_id = envelope.command_id if envelope else f"{self.epoch:x}-{self._done}.undecodable"
        logger.error(
            "%s of %s is a dead letter after %d attempts: %s",
            envelope.name if envelope else "a command that can't be decoded",
            self._entity,
            self._attempts + 1,
            outcome.value,
            exc_info=error,
            extra={"event": "dead_letter", "entity": str(self._entity), "command_id": command_id},
        )
        record = self._codec.dumps(
            {
                "entity": str(self._entity),
                **_raw(queued.data),
                "error": outcome.value,
                "traceback": outcome.traceback,
                "attempts": self._attempts + 1,
                "crashes": self._crashes,
                "accepted_us": queued.accepted_us,
            }
        )
        finished = self._finish(envelope, outcome, want, dead=(DeadLetter(command_id, record),))
        if self._facts is not None:
            self._facts.dead(envelope, command_id, self._attempts + 1, single_leaf(error))
        return finished

    def _finish(self, envelope: Envelope | None, outcome: Outcome, want: int, **more: Any) -> Finished:
        local: tuple[tuple[str, bytes], ...] = ()
        replies: tuple[Reply, ...] = ()
        if envelope is not None and _wanted(envelope):
            wire = self._codec.dumps(outcome.to_wire())
            here = envelope.reply_to == self._client
            tell = "" if here or envelope.reply_to is None else envelope.reply_to
            replies = (Reply(envelope.command_id, tell, wire, max(KEEP_MS, envelope.keep_ms)),)
            local = ((envelope.command_id, wire),) if here else ()
        settled = (envelope.command_id,) if envelope and envelope.command_id in self._cancels else ()
        if self._facts is not None:
            self._facts.finished(envelope, outcome.kind.value, self._codec, more.get("children", ()))
        return Finished(
            self._commit(pops=1, replies=replies, settled_cancels=settled, want=want, **more),
            local_replies=local,
            facts=self._facts,
        )


def _wanted(envelope: Envelope) -> bool:
    """Says whether anybody may ask for the outcome."""
    return envelope.reply_to is not None or envelope.keep_ms > 0


def _failed(error: BaseException) -> Outcome:
    """Makes the outcome of a command that failed for good."""
    leaf = single_leaf(error)
    name = type(leaf).__name__
    try:
        text = f"{name}: {leaf}"
    except Exception:
        text = f"{name} (which has no text)"
    trace = "".join(traceback.format_exception(error))[-MAX_TRACEBACK:]
    return Outcome(Kind.DEAD, _as_text(text), name, _as_text(trace))


def _as_text(text: str) -> str:
    """Writes out lone surrogates, which may be in an error's text and can't travel."""
    return text.encode("utf-8", "backslashreplace").decode()


def _raw(data: bytes) -> dict[str, str]:
    """Keeps an envelope byte by byte in what is JSON: as text if it is text."""
    try:
        return {"envelope": data.decode()}
    except UnicodeDecodeError:
        return {"envelope_base64": base64.b64encode(data).decode()}
