"""What a live screen knows of a fleet: what was read last, and what it was told since, as rates and as trouble.

Nothing here waits, draws or asks what time it is: whoever watches says when each thing came, in seconds of a clock that
never goes back.
"""

from collections import Counter, deque
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Generic, Literal, TypeVar

import attrs

from trioqueue import (
    CommandDead,
    CommandFailed,
    CommandHandled,
    Entity,
    EntityPaused,
    Event,
    EventsMissed,
    Lane,
    Lanes,
    Pod,
    PodLostLease,
    Statistics,
)

K = TypeVar("K", bound=Hashable)

WINDOW = 10
"""Seconds over which a rate is taken: long enough to be read, short enough to show what a change did."""

PATIENCE = 3.0
"""Seconds that a look may take, or come late, until the store is said not to answer."""

LATE = 3.0
"""Seconds since a pod's last heartbeat from which on something is wrong with it: a lease, as it is by default."""

FAILING_FOR = 30.0
"""Seconds after the time of its next attempt for which an entity still counts as failing: what ended its failing may
have been missed."""

TROUBLES = 100
"""Kinds of trouble that are kept, the newest."""

MOST = 20
"""Entities that a list has."""

FLEET = ("pods", "owned", "with_work", "ready", "held", "dead", "put_off")
"""What of `Statistics` is about the whole fleet."""


class Rates(Generic[K]):
    """How often things happen a second, each by its key, of late.

    What is counted lies in one counter for each whole second, and goes with it.
    """

    def __init__(self, now: float) -> None:
        self._since = now
        # The sum of all seconds that are kept; no key in it is 0.
        self._sum: Counter[K] = Counter()
        self._seconds: deque[tuple[int, Counter[K]]] = deque()

    def restart(self, now: float) -> None:
        """Forgets everything: nothing was heard for a while, and that was not because nothing happened."""
        self._since = now
        self._sum.clear()
        self._seconds.clear()

    def count(self, key: K, now: float, times: int = 1) -> None:
        """Takes note that it happened."""
        second = int(now)
        if not self._seconds or self._seconds[-1][0] != second:
            self._forget(now)
            self._seconds.append((second, Counter()))
        self._seconds[-1][1][key] += times
        self._sum[key] += times

    def rate(self, key: K, now: float) -> float:
        """Says how often it happens a second."""
        self._forget(now)
        return self._sum[key] / self._span(now)

    def most(self, count: int, now: float) -> list[tuple[K, float]]:
        """Names the keys that happen most often, with their rates."""
        self._forget(now)
        span = self._span(now)
        return [(key, times / span) for key, times in self._sum.most_common(count)]

    def __len__(self) -> int:
        return len(self._sum)

    def __contains__(self, key: K) -> bool:
        return key in self._sum

    def _span(self, now: float) -> float:
        # The second that has begun is not over, so the window is between 9 and 10 s long.
        return max(1.0, now - max(self._since, int(now) - WINDOW + 1))

    def _forget(self, now: float) -> None:
        while self._seconds and self._seconds[0][0] <= int(now) - WINDOW:
            _, gone = self._seconds.popleft()
            self._sum.subtract(gone)
            for key in gone:
                if not self._sum[key]:
                    del self._sum[key]


@attrs.frozen
class Failing:
    """How an entity fails: its handler has, and tries the command again.

    Attributes:
        command: Wire name of the command.
        attempt: How often it has failed.
        error: Name of the last exception's class.
        again_in: Seconds until the next attempt; 0: it is due or runs.
    """

    command: str
    attempt: int
    error: str
    again_in: float


@attrs.frozen
class EntityRow:
    """An entity in one of the lists.

    Attributes:
        entity: As `account/42`.
        per_second: Commands of it that are handled a second.
        pending: Commands in its mailbox; None: it was not among those that were read.
        waited: Seconds since the first of them was accepted.
        mode: "owned", "ready" or "paused"; "empty" if it has no commands, and None if that is not known.
        pod: The one that owns it, or handled its last command.
        command: Wire name of the first command.
        failing: How it fails; None: it does not.
    """

    entity: str
    per_second: float
    pending: int | None
    waited: float | None
    mode: Literal["owned", "ready", "paused", "empty"] | None
    pod: str | None
    command: str
    failing: Failing | None


@attrs.frozen
class PodRow:
    """A pod; see `Pod`.

    Attributes:
        per_second: Commands that pods of this name handle a second.
    """

    name: str
    state: str
    types: tuple[str, ...]
    owned: int
    with_work: int
    heard: float | None
    per_second: float


@attrs.frozen
class Trouble:
    """Something that an operator should know of.

    Attributes:
        at: When it happened last, in seconds since the epoch.
        what: "dead", "paused", "lease lost", "pod gone" or "warning".
        who: The entity or the pod.
        text: What happened.
        times: How often, to whichever entity of the type, without other trouble between.
    """

    at: float
    what: str
    who: str
    text: str
    times: int


@attrs.frozen
class Snapshot:
    """All that is shown, at one moment.

    Attributes:
        at: When, in seconds since the epoch.
        silent_for: Seconds without an answer of the store; None: it answers.  All else is of before then.
        watched_for: Seconds for which events were counted.
        fleet: Counts of the whole fleet, as in `Statistics`; None: nothing was read yet.
        handled_per_second: Commands that left their mailboxes, of the last ten seconds.
        failed_per_second: Handlers that failed and are tried again, likewise.
        missed_per_second: Events that never came, likewise: so much the rates may be too low together.
        handled: Such commands, since watching began.
        failed: Such failures.
        dead: Commands that became dead letters.
        missed: Events that never came, so that the three above may be too low.
        failing: Entities that fail now.
        read: Entities with commands that were looked at.
        whole: Whether these are all there are.
        busiest: Those of most commands a second.
        deepest: Of those that were looked at, the ones of most commands.
        oldest: Of those, the ones whose first command waits longest; paused ones, which wait as long as an operator
            wants, come last.
        pods: All; the ones that do not serve first.
        trouble: The newest first.
    """

    at: float
    silent_for: float | None
    watched_for: float
    fleet: Mapping[str, int] | None
    handled_per_second: float
    failed_per_second: float
    missed_per_second: float
    handled: int
    failed: int
    dead: int
    missed: int
    failing: int
    read: int
    whole: bool
    busiest: tuple[EntityRow, ...]
    deepest: tuple[EntityRow, ...]
    oldest: tuple[EntityRow, ...]
    pods: tuple[PodRow, ...]
    trouble: tuple[Trouble, ...]


@attrs.define
class _Failure:
    """A failure as it was told, and when its next attempt is."""

    event: CommandFailed
    again_at: float


@attrs.define
class _Told:
    """Trouble as it was told; `key` is the same for what is shown as one."""

    key: tuple[str, ...]
    at: float
    what: str
    who: str
    text: str
    times: int = 1


class Live:
    """What is known of a fleet; `every` is how far apart two looks are meant to be."""

    def __init__(self, now: float, *, every: float) -> None:
        self._began, self._every = now, every
        self._entities: Rates[Entity] = Rates(now)
        self._pods: Rates[str] = Rates(now)
        self._kinds: Rates[str] = Rates(now)
        self._counted: Counter[str] = Counter()
        # The pod that handled an entity's last command; at each look, only of few that have no rate.
        self._handled_by: dict[Entity, str] = {}
        self._failing: dict[Entity, _Failure] = {}
        self._troubles: deque[_Told] = deque(maxlen=TROUBLES)
        # What was read last, and when; before the first time, when watching began.
        self._looked_at = now
        self._statistics: Statistics | None = None
        self._seen_pods: Sequence[Pod] = ()
        self._lanes = Lanes((), whole=True)
        # The last one for which the store answered.
        self._last: Snapshot | None = None

    # -------------------------------------------------------------------------------- taking
    def take(self, event: Event, now: float) -> None:
        """Takes note of an event."""
        match event:
            case CommandHandled():
                entity = Entity(event.entity_type, event.entity_id)
                self._count("handled", now)
                self._entities.count(entity, now)
                self._pods.count(event.pod, now)
                self._handled_by[entity] = event.pod
                self._failing.pop(entity, None)
            case CommandFailed():
                self._count("failed", now)
                self._failing[Entity(event.entity_type, event.entity_id)] = _Failure(
                    event, now + event.again_in
                )
            case CommandDead():
                self._count("dead", now)
                tries = "1 attempt" if event.attempts == 1 else f"{event.attempts} attempts"
                text = f"{event.command or 'a command'}: {event.error} after {tries}"
                self._trouble(
                    "dead", event.entity_type, event.entity_id, text, now, event.command, event.error
                )
            case EntityPaused():
                self._failing.pop(Entity(event.entity_type, event.entity_id), None)
                self._trouble(
                    "paused",
                    event.entity_type,
                    event.entity_id,
                    event.why or "by an operator",
                    now,
                    event.why,
                )
            case PodLostLease():
                self._add(
                    _Told(("lease lost", event.pod, event.why), now, "lease lost", event.pod, event.why)
                )
            case EventsMissed():
                self._count("missed", now, event.count)
            case _:
                pass

    def warn(self, line: str, now: float) -> None:
        """Takes note of a warning of this process's own."""
        self._add(_Told(("warning", line), now, "warning", "", line))

    def look(self, statistics: Statistics, pods: Sequence[Pod], lanes: Lanes, now: float) -> None:
        """Takes what was read; after a silence, rates begin anew, since no event came meanwhile."""
        if now - self._looked_at > self._every + PATIENCE:
            for rates in (self._entities, self._pods, self._kinds):
                rates.restart(now)
        still, names = {pod.incarnation for pod in pods}, {pod.name for pod in pods}
        for pod in self._seen_pods:
            if pod.incarnation not in still and pod.heard is not None and pod.heard >= LATE:
                # It told nobody: it is dead, or stands still.  One that leaves in order hands on what it has before.
                text = f"not heard of for {pod.heard:.1f} s, others take over"
                text += "; it has joined anew" * (pod.name in names)
                self._add(_Told(("pod gone", pod.incarnation), now, "pod gone", pod.name, text))
        if len(self._handled_by) > 2 * len(self._entities) + MOST:
            self._handled_by = {one: pod for one, pod in self._handled_by.items() if one in self._entities}
        self._looked_at = now
        self._statistics, self._seen_pods, self._lanes = statistics, pods, lanes

    def _count(self, kind: str, now: float, times: int = 1) -> None:
        self._counted[kind] += times
        self._kinds.count(kind, now, times)

    def _trouble(
        self, what: str, entity_type: str, entity_id: str, text: str, now: float, *same: str
    ) -> None:
        """Takes trouble of an entity: to others of its type it is the same if `same` is."""
        self._add(_Told((what, entity_type, *same), now, what, f"{entity_type}/{entity_id}", text))

    def _add(self, told: _Told) -> None:
        if self._troubles and self._troubles[0].key == told.key:
            told.times += self._troubles.popleft().times
        self._troubles.appendleft(told)

    # -------------------------------------------------------------------------------- showing
    def snapshot(self, now: float, wall: float, *, most: int = MOST) -> Snapshot:
        """Gives all that is known; while the store does not answer, what was known before.

        Args:
            now: The time, of the clock that everything was taken with.
            wall: The same moment in seconds since the epoch.
            most: Entities of each list, and troubles.
        """
        silent = now - self._looked_at
        if silent > self._every + PATIENCE and self._last is not None:
            return attrs.evolve(self._last, silent_for=silent)
        failing = self._failing_now(now)
        lanes = {Entity(lane.entity_type, lane.entity_id): lane for lane in self._lanes.lanes}

        def rows(entities: Iterable[Entity]) -> tuple[EntityRow, ...]:
            return tuple(self._row(entity, lanes.get(entity), failing, now) for entity in entities)

        self._last = Snapshot(
            at=wall,
            silent_for=silent if silent > self._every + PATIENCE else None,
            watched_for=now - self._began,
            fleet={name: getattr(self._statistics, name) for name in FLEET} if self._statistics else None,
            handled_per_second=self._kinds.rate("handled", now),
            failed_per_second=self._kinds.rate("failed", now),
            missed_per_second=self._kinds.rate("missed", now),
            handled=self._counted["handled"],
            failed=self._counted["failed"],
            dead=self._counted["dead"],
            missed=self._counted["missed"],
            failing=len(failing),
            read=len(lanes),
            whole=self._lanes.whole,
            busiest=rows(entity for entity, _ in self._entities.most(most, now)),
            deepest=rows(sorted(lanes, key=lambda one: (-lanes[one].pending, one))[:most]),
            oldest=rows(
                sorted(lanes, key=lambda one: (lanes[one].mode == "paused", -lanes[one].waited, one))[:most]
            ),
            pods=tuple(
                PodRow(
                    pod.name,
                    pod.state,
                    pod.types,
                    pod.owned,
                    pod.with_work,
                    pod.heard,
                    self._pods.rate(pod.name, now),
                )
                for pod in sorted(self._seen_pods, key=lambda one: one.state == "serving")
            ),
            trouble=tuple(
                Trouble(wall - (now - told.at), told.what, told.who, told.text, told.times)
                for told in list(self._troubles)[:most]
            ),
        )
        return self._last

    def _failing_now(self, now: float) -> dict[Entity, Failing]:
        self._failing = {
            entity: failure
            for entity, failure in self._failing.items()
            if failure.again_at + FAILING_FOR > now
        }
        return {
            entity: Failing(
                failure.event.command,
                failure.event.attempt,
                failure.event.error,
                max(0.0, failure.again_at - now),
            )
            for entity, failure in self._failing.items()
        }

    def _row(
        self, entity: Entity, lane: Lane | None, failing: dict[Entity, Failing], now: float
    ) -> EntityRow:
        empty = lane is None and self._lanes.whole
        return EntityRow(
            entity=str(entity),
            per_second=self._entities.rate(entity, now),
            pending=lane.pending if lane else 0 if empty else None,
            waited=lane.waited if lane else None,
            mode=lane.mode if lane else "empty" if empty else None,
            pod=lane.pod if lane else self._handled_by.get(entity),
            command=lane.command if lane else "",
            failing=failing.get(entity),
        )
