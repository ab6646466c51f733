"""How patiently, how much, and for how long: the numbers a user may turn.

All are values, checked when they are made.  Durations are seconds, sizes are bytes.
"""

import math
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import attrs

from .._errors import BadDeclaration

LEASE_MARGIN = 0.1
"""Share of a lease's ttl that its holder does not use.

It covers what the holder cannot see: the two clocks run at different rates (parts in 10,000 at worst), and
noticing that trust has ended takes up to 0.1 s, which is how long the watching task sleeps.
"""

MIN_HEARTBEATS_IN_TTL = 2
"""With fewer, one lost heartbeat would end a healthy lease."""

MIN_HEARTBEATS_IN_GRACE = 1.5
"""A heartbeat on its way when the ttl ends must still count, and come with some delay."""


MAX_COMMAND_BYTES = 1_048_576
"""Bytes of one encoded command that no policy may exceed: the store refuses more, whoever sends it.

It is the size of a worker's batch, so a single command never costs more memory than a full batch does.
"""

MAX_STATE_BYTES = 1_048_576
"""Bytes of one encoded state, likewise: it is written with each commit that changes it, while Redis serves nobody."""

MAX_GROUP_BYTES = 64 * 1_048_576
"""Bytes of the commands of one `send_many`, or of one turn: they travel in one piece, and Redis hangs up at 1 GiB."""


def _seconds(
    low: float = 0.0, *, above: bool = False
) -> Callable[[Any, "attrs.Attribute[Any]", object], None]:
    def check(instance: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
        if (
            isinstance(value, (int, float))
            and not isinstance(value, bool)
            and (value > low if above else value >= low)
        ):
            return
        bound = f"more than {low:g}" if above else f"{low:g} or more"
        raise BadDeclaration(f"{_place(instance, attribute)}={value!r} is not legal: give seconds, {bound}.")

    return check


def _finite(instance: object, attribute: "attrs.Attribute[Any]", value: float) -> None:
    if not math.isfinite(value):
        raise BadDeclaration(
            f"{_place(instance, attribute)}={value!r} is not legal: give a finite number of seconds."
        )


def _count(low: int) -> Callable[[Any, "attrs.Attribute[Any]", object], None]:
    def check(instance: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or value < low:
            place = _place(instance, attribute)
            raise BadDeclaration(f"{place}={value!r} is not legal: give a whole number, {low} or more.")

    return check


def _one_of(*words: str) -> Callable[[Any, "attrs.Attribute[Any]", object], None]:
    def check(instance: object, attribute: "attrs.Attribute[Any]", value: object) -> None:
        if value not in words:
            place = _place(instance, attribute)
            raise BadDeclaration(
                f"{place}={value!r} is not legal: give one of {', '.join(map(repr, words))}."
            )

    return check


def _at_most(high: int) -> Callable[[Any, "attrs.Attribute[Any]", int], None]:
    def check(instance: object, attribute: "attrs.Attribute[Any]", value: int) -> None:
        if value > high:
            place = _place(instance, attribute)
            raise BadDeclaration(
                f"{place}={value!r} is not legal: give {high} bytes at most, and keep what is larger elsewhere."
            )

    return check


def _no_longer(high: float) -> Callable[[Any, "attrs.Attribute[Any]", float], None]:
    def check(instance: object, attribute: "attrs.Attribute[Any]", value: float) -> None:
        if value > high:
            place = _place(instance, attribute)
            raise BadDeclaration(f"{place}={value!r} is not legal: give {high:.0f} seconds at most.")

    return check


def _shorter(seconds: float, least: float) -> bool:
    """Compares as the store does, in whole microseconds: 1.5 * 0.2 is a little more than 0.3."""
    return round(seconds, 6) < round(least, 6)


def _place(instance: object, attribute: "attrs.Attribute[Any]") -> str:
    return f"{type(instance).__name__}.{attribute.name}"


def _error_types(value: object) -> tuple[type[Exception], ...]:
    given: tuple[object, ...] = tuple(value) if isinstance(value, (tuple, list)) else (value,)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    for item in given:
        if not (isinstance(item, type) and issubclass(item, Exception)):
            raise BadDeclaration(
                f"Retry.give_up_on has {item!r}: give classes of exceptions, as (ValueError,)."
            )
    return given  # type: ignore[return-value]  # pyright: ignore[reportReturnType]


LONGEST_KEPT = 3660 * 86_400.0
"""Seconds, ten years, that an outcome or a key may be kept at most: Redis refuses a time beyond its numbers, and that
in the middle of a script."""

LONGEST_WAIT = 3600.0
"""Seconds that a retry may wait at most: a later due time tells the store that its clock was set back."""


@attrs.frozen
class Retry:
    """Says how often and when a failing command is handled again, at the head of its mailbox.

    The defaults wait 51 s in all (0.1 + 0.2 + ... + 25.6): longer than a database takes to restart.

    Attributes:
        attempts: Times the handler is run before the command becomes a dead letter, the first one included.
        wait_first: Seconds between the first failure and the second attempt.
        factor: By what each wait is longer than the one before; 1 or more.
        wait_max: Seconds that no wait exceeds.
        jitter: Whether waits are spread, so that entities that failed together do not come back together.
        give_up_on: Classes of exceptions that no repetition repairs: dead letter at once.
    """

    attempts: int = attrs.field(default=10, validator=_count(1))
    wait_first: float = attrs.field(default=0.1, validator=[_seconds(), _finite])
    factor: float = attrs.field(default=2.0)
    wait_max: float = attrs.field(default=30.0, validator=[_seconds(), _finite])
    jitter: bool = True
    give_up_on: tuple[type[Exception], ...] = attrs.field(default=(), converter=_error_types)

    @wait_max.validator  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUntypedFunctionDecorator]
    def _within_an_hour(self, _: "attrs.Attribute[float]", value: float) -> None:
        if value > LONGEST_WAIT:
            raise BadDeclaration(
                f"Retry.wait_max={value!r} is not legal: give {LONGEST_WAIT:g} seconds at most."
            )

    @factor.validator  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUntypedFunctionDecorator]
    def _not_shrinking(self, _: "attrs.Attribute[float]", value: float) -> None:
        if not 1 <= value < math.inf:
            raise BadDeclaration(f"Retry.factor={value!r} is not legal: give a number, 1 or more.")

    def wait_before(self, attempt: int, random: float) -> float:
        """Returns the seconds to wait before a command that has failed `attempt` times is handled again.

        The wait is `min(wait_max, wait_first * factor ** (attempt - 1))`; with jitter that times `0.5 + random`,
        and again not more than `wait_max`.

        Args:
            attempt: Failures so far, 1 or more.
            random: A number of [0, 1), drawn by the caller so that this stays a pure function.
        """
        assert attempt >= 1
        try:
            wait = min(self.wait_max, self.wait_first * self.factor ** (attempt - 1))
        except OverflowError:
            wait = self.wait_max if self.wait_first else 0.0
        return min(self.wait_max, wait * (0.5 + random)) if self.jitter else wait

    def gives_up(self, error: BaseException, failures: int) -> bool:
        """Says whether a command that failed `failures` times, last with `error`, is handled no more.

        An ExceptionGroup gives up if any exception in it does: what no repetition repairs stays broken whatever
        else went wrong beside it.
        """
        if failures >= self.attempts or isinstance(error, self.give_up_on):
            return True
        return isinstance(error, BaseExceptionGroup) and error.subgroup(self.give_up_on) is not None  # pyright: ignore[reportUnknownMemberType]


CommitMode: TypeAlias = Literal["each", "group"]
"""When the turns of an entity are committed; see `EntityPolicy.commit`."""


FETCH, FETCH_OF_GROUPS = 64, 256
"""Commands that are read ahead, if nobody says otherwise."""


@attrs.frozen
class EntityPolicy:
    """Says how the entities of one type are served; `open_atomic_queues(entities={"account": EntityPolicy(...)})`.

    Attributes:
        idle_timeout: Seconds without a command after which the worker lets the entity go; `math.inf`: never.
        max_payload: Bytes of one encoded command, 1 MiB at most; senders of more get `PayloadTooLarge`.
        max_state: Bytes of one encoded state, 1 MiB at most; a handler that leaves more fails with `StateTooLarge`.
        retry: What happens when a handler fails; a handler may have its own.
        max_crashes: Times that a command may take its pod down with it before it becomes a dead letter.  Counted
            apart from failures: a crash costs every entity of the pod.
        timeout: Seconds a handler may take before it is cancelled, which counts as a failure; None: no limit.
        commit: "each": a handler starts when the turn of the one before it is committed.  "group": many turns are
            handled on the state in memory and committed in one request, for handlers that do nothing but change the
            state, send through `Context` and answer; a handler may have its own.
        overlap: Handlers of one entity that may run at once, for types without state; commits stay in the order of
            acceptance.
        fetch: Commands that a worker reads ahead in one request; by default 64, and 256 with `commit="group"`, as what
            is committed together has been read together.
        max_pending: Commands that a mailbox may hold; senders of more get `MailboxFull`, what handlers send does not
            count as sent.  None: as many as come.  It is the sender's policy that counts, here and in the next two.
        keep_results: Seconds that the outcome of a `send` is kept for `AtomicQueues.result`; 0: it is not.
        key_window: Seconds for which a `key` stands for the first command that was sent with it, and for which that
            command's outcome is kept.
        on_exhausted: What becomes of a command that failed for good: "dead_letter", and its entity goes on; or "pause":
            it stays the head and its entity waits until an operator resumes it.
        unknown_grace: Seconds that a command no live pod has a handler for waits, visibly, before it becomes a
            dead letter.  Longer than a roll-out takes.
    """

    idle_timeout: float = attrs.field(default=15.0, validator=_seconds())
    max_payload: int = attrs.field(default=262_144, validator=[_count(1), _at_most(MAX_COMMAND_BYTES)])
    max_state: int = attrs.field(default=262_144, validator=[_count(1), _at_most(MAX_STATE_BYTES)])
    retry: Retry = attrs.field(factory=Retry)
    max_crashes: int = attrs.field(default=3, validator=_count(1))
    timeout: float | None = attrs.field(
        default=None, validator=attrs.validators.optional(_seconds(above=True))
    )
    commit: CommitMode = attrs.field(default="each", validator=_one_of("each", "group"))
    overlap: int = attrs.field(default=1, validator=_count(1))
    fetch: int = attrs.field(
        default=attrs.Factory(
            lambda policy: FETCH_OF_GROUPS if policy.commit == "group" else FETCH, takes_self=True
        ),
        validator=_count(1),
    )
    max_pending: int | None = attrs.field(default=None, validator=attrs.validators.optional(_count(1)))
    keep_results: float = attrs.field(default=0.0, validator=[_seconds(), _no_longer(LONGEST_KEPT)])
    key_window: float = attrs.field(default=86_400.0, validator=[_seconds(0.001), _no_longer(LONGEST_KEPT)])
    on_exhausted: Literal["dead_letter", "pause"] = attrs.field(
        default="dead_letter", validator=_one_of("dead_letter", "pause")
    )
    unknown_grace: float = attrs.field(default=600.0, validator=_seconds())

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.retry, Retry):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise BadDeclaration(f"EntityPolicy.retry={self.retry!r} is not legal: give a Retry(...).")


@attrs.frozen
class Lease:
    """Says how long a pod's right to run handlers lasts, and how it is kept.

    A pod that dies is noticed after `ttl + grace` and one heartbeat.  Shorter is quicker and less patient with
    slow networks and busy machines.

    Attributes:
        ttl: Seconds that a confirmed heartbeat is worth, counted from its sending; 2 heartbeats or more.
        heartbeat: Seconds between heartbeats.
        grace: Seconds after the ttl before others may hand a silent pod's entities on; 1.5 heartbeats or more.
        stall_limit: Seconds that a handler may block the event loop before the heartbeat stops on its own accord.
    """

    ttl: float = attrs.field(default=3.0, validator=[_seconds(above=True), _finite])
    heartbeat: float = attrs.field(default=1.0, validator=[_seconds(0.001), _finite])
    grace: float = attrs.field(default=1.5, validator=[_seconds(above=True), _finite])
    stall_limit: float = attrs.field(default=10.0, validator=_seconds(above=True))

    def __attrs_post_init__(self) -> None:
        if _shorter(self.ttl, MIN_HEARTBEATS_IN_TTL * self.heartbeat):
            raise BadDeclaration(
                f"Lease.ttl={self.ttl:g} is shorter than {MIN_HEARTBEATS_IN_TTL} heartbeats of {self.heartbeat:g} s, "
                "so one lost heartbeat would end it: make it longer, or the heartbeat shorter."
            )
        if _shorter(self.grace, MIN_HEARTBEATS_IN_GRACE * self.heartbeat):
            raise BadDeclaration(
                f"Lease.grace={self.grace:g} is shorter than {MIN_HEARTBEATS_IN_GRACE} heartbeats of "
                f"{self.heartbeat:g} s, so a heartbeat on its way would come too late: make it longer, "
                "or the heartbeat shorter."
            )

    @property
    def margin(self) -> float:
        """Seconds before the end of the ttl at which the holder stops believing in its lease; a tenth of it."""
        return self.ttl * LEASE_MARGIN


@attrs.frozen
class Limits:
    """Says how much one pod takes on.

    Attributes:
        running: Handlers that run at the same time.
        owned: Entities that the pod owns at the same time, parked ones included (about 5 KiB each).
        unanswered: Seconds without an answer of the store after which callers get `OutcomeUnknown`.
    """

    running: int = attrs.field(default=100, validator=_count(1))
    owned: int = attrs.field(default=20_000, validator=_count(1))
    unanswered: float = attrs.field(default=30.0, validator=_seconds(above=True))


@attrs.frozen
class Drain:
    """Says how leaving the block of `open_atomic_queues` ends the handlers that run.

    Attributes:
        soft: Seconds they may still take.
        hard: Seconds after their cancellation to clean up and to hand the entities to other pods.
    """

    soft: float = attrs.field(default=10.0, validator=_seconds())
    hard: float = attrs.field(default=5.0, validator=_seconds())
