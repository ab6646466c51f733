"""Metrics for Prometheus: what happens in this process, and what its monitor samples of the fleet.

`prometheus_client` has counters and histograms of its own, each with a lock, and an `observe` that looks through its
buckets in Python: for two histograms and a counter that is more than all else that is done to tell of a command.  So
events are counted in plain numbers here, and made into the client's metrics when they are asked for.

Who asks is in another thread: each number is read once, and one that is a moment newer than its neighbour does no harm.
Who tells may be, where senders share it: CPython's interpreter changes threads at calls and loops, and never between
the reading and the writing of one `+=`.
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from trioqueue import BadDeclaration, Entity, Health, Instrument, Lane, Statistics
from trioqueue._mailbox import UNDECODABLE
from trioqueue._names import legal_command_name, legal_entity_type
from trioqueue.instruments.counts import BOUNDS, CommandCounts, Durations, FleetSample, TypeCounts, TypeDepth
from trioqueue.instruments.families import Families

MOST_COMMANDS = 500
"""Pairs of an entity type and a command that are told apart.  Whoever sends chooses the names, and each pair may cost
Prometheus some sixty series."""

MOST_TYPES = 100
"""Entity types that are told apart."""

OTHER = "other"
"""Label of all that is beyond that, and of names that no command or type can have."""


class Prometheus(Instrument, Collector):
    """Counts for Prometheus what happens in this process.

    Hand it to `open_atomic_queues(instruments=[...])`, and to `open_monitor`, which serves it, and without which it has
    nothing of the fleet, the lease, the loop and the requests to Redis.  It tells apart 500 pairs of an entity type and
    a command; what is beyond is `other`.  No label ever names an entity.

    Queues that are opened one after another, or side by side, may share it.

    Args:
        registry: Where it registers itself; None: `prometheus_client.REGISTRY`.

    Raises:
        ValueError: Something of these names is registered there already.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._registry = REGISTRY if registry is None else registry
        self._types: dict[str, TypeCounts] = {}  # by their labels
        self._pairs = 0  # of a type and a command in it
        self._leases_lost = 0
        self._lag = Durations()
        # Who tells of the queues that are watched, and the requests of those that are no more.  One value, as another
        # thread may look at any moment: it must not count the same requests in both.
        self._watched: tuple[tuple[Callable[[], Health], ...], int] = ((), 0)
        self._sample: FleetSample | None = None
        self._registry.register(self)

    def __repr__(self) -> str:
        return f"<Prometheus, {len(self._types)} types, {self._pairs} commands>"

    # -------------------------------------------------------------------------------- what happens
    def sent(self, entity_type: str, command: str, count: int) -> None:
        self._command(entity_type, command).sent += count

    def called(self, entity_type: str, command: str, outcome: str, seconds: float) -> None:
        called = self._command(entity_type, command).called
        durations = called.get(outcome)
        if durations is None:
            durations = called[outcome] = Durations()
        durations.observe(seconds)

    def claimed(self, entity: Entity) -> None:
        self._type(entity.type).claims += 1

    def passivated(self, entity: Entity) -> None:
        self._type(entity.type).passivations += 1

    def handed_off(self, entity: Entity) -> None:
        self._type(entity.type).handoffs += 1

    def handled(
        self, entity: Entity, command: str, command_id: str, outcome: str, waited: float, duration: float
    ) -> None:
        # Called for every command: what `_command` and `observe` do, without two calls.
        try:
            counts = self._types[entity[0]].commands[command]
        except KeyError:
            counts = self._command(entity[0], command)
        try:
            counts.handled[outcome] += 1
        except KeyError:
            counts.handled[outcome] = 1
        durations = counts.waiting
        durations.counts[bisect_left(BOUNDS, waited)] += 1
        durations.total += waited
        durations = counts.handling
        durations.counts[bisect_left(BOUNDS, duration)] += 1
        durations.total += duration

    def failed(
        self, entity: Entity, command: str, command_id: str, attempt: int, again_in: float, error: str
    ) -> None:
        self._command(entity.type, command).failures += 1

    def dead(self, entity: Entity, command: str, command_id: str, attempts: int, error: str) -> None:
        self._command(entity.type, command).dead += 1

    def paused(self, entity: Entity, why: str) -> None:
        self._type(entity.type).paused += 1

    def lease_lost(self, why: str) -> None:
        self._leases_lost += 1

    def fenced(self, entity: Entity) -> None:
        self._type(entity.type).fenced += 1

    def _type(self, name: str) -> TypeCounts:
        counts = self._types.get(name)
        if counts is None:
            label = _label(name, legal_entity_type) if len(self._types) < MOST_TYPES else OTHER
            counts = self._types.setdefault(label, TypeCounts(label))
        return counts

    def _command(self, entity_type: str, name: str) -> CommandCounts:
        commands = self._type(entity_type).commands
        counts = commands.get(name)
        if counts is None:
            label = _label(name, legal_command_name) if self._pairs < MOST_COMMANDS else OTHER
            self._pairs += label not in commands
            counts = commands.setdefault(label, CommandCounts(label))
        return counts

    # -------------------------------------------------------------------------------- for `open_monitor` alone
    @contextmanager
    def watching(self, health: Callable[[], Health]) -> Generator[None]:
        """Asks for the lease and the requests of this process here, until the block is left."""
        watched, requests = self._watched
        self._watched = (*watched, health), requests
        try:
            yield
        finally:
            last = health().requests
            watched, requests = self._watched
            self._watched = tuple(one for one in watched if one is not health), requests + last
            self._sample = None

    def lagged(self, seconds: float) -> None:
        """Counts by how much the event loop was late."""
        self._lag.observe(seconds)

    def take(self, statistics: Statistics, lanes: Iterable[Lane], *, good_for: float) -> None:
        """Takes what there is in the fleet; after so many seconds it is told no more, as it may be wrong by then."""
        found: dict[str, TypeDepth] = {}
        for lane in lanes:
            # Known from now on, so that its depth goes down to 0, and is not gone, once nothing waits.
            depth = found.setdefault(self._type(lane.entity_type).name, TypeDepth())
            depth.pending += lane.pending
            depth.oldest = max(depth.oldest, lane.waited)
            depth.deepest = max(depth.deepest, lane.pending)
        self._sample = FleetSample(time.monotonic() + good_for, statistics, found)

    # -------------------------------------------------------------------------------- showing it
    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Writes all that its registry has for who accepts these content types: the text, and its own type."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def describe(self) -> list[Metric]:
        """Names the metrics, without which a registry would not notice that two have the same."""
        return [*Families().all()]

    def collect(self) -> list[Metric]:
        """Makes the metrics of all that was counted, for a registry."""
        families = Families()
        for counts in list(self._types.values()):
            families.add_type(counts)
            for one in list(counts.commands.values()):
                families.add_command(counts.name, one)
        families.leases_lost.add_metric((), self._leases_lost)
        families.add_lag(self._lag)
        watched, requests = self._watched
        found = [health() for health in watched]
        leases = [one.lease_left for one in found if one.lease_left is not None]
        if leases:
            families.lease_left.add_metric((), min(leases))
        requests += sum(one.requests for one in found)
        families.redis_requests.add_metric((), requests)
        sample = self._sample
        if sample is not None and time.monotonic() < sample.ends_at:
            families.add_sample(sample, list(self._types))
        return [*families.all()]


def _label(name: str, check: Callable[[object], str]) -> str:
    """Makes a label of what came from whoever sends: one that can be no name is not told apart."""
    if name in ("", UNDECODABLE):
        return UNDECODABLE
    try:
        return check(name)
    except BadDeclaration:
        return OTHER
