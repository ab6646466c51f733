"""The metrics by name, and how what was counted becomes their series.

Other people's dashboards are written on these names: they stay as they are.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from trioqueue.instruments.counts import (
    BUCKETS,
    CommandCounts,
    Durations,
    FleetSample,
    TypeCounts,
    TypeDepth,
)


class Families:
    """The metrics of one look, each with its series."""

    def __init__(self) -> None:
        of_type, of_command, of_outcome = (
            ("entity_type",),
            ("entity_type", "command"),
            ("entity_type", "command", "outcome"),
        )
        self.sent = _counter("sent", "Commands that were accepted and that this process sent.", of_command)
        self.handled = _counter("handled", "Commands that have left their mailboxes here.", of_outcome)
        self.failures = _counter(
            "failures", "Failures of handlers after which they are tried again.", of_command
        )
        self.dead = _counter("dead", "Commands that became dead letters here.", of_command)
        self.claims = _counter("claims", "Entities that came awake here.", of_type)
        self.passivations = _counter(
            "passivations", "Entities that were let go of as they were idle.", of_type
        )
        self.handoffs = _counter("handoffs", "Entities that were let go of otherwise.", of_type)
        self.paused = _counter("paused", "Entities that were let go of to wait for an operator.", of_type)
        self.leases_lost = _counter("leases_lost", "Leases that this process lost.")
        self.fenced = _counter("fenced_commits", "Commits that were refused.", of_type)
        self.redis_requests = _counter("redis_requests", "Requests to Redis, heartbeats aside.")
        self.handling = _histogram("handling_seconds", "How long turns took.", of_command)
        self.waiting = _histogram("waiting_seconds", "How long commands were in their mailboxes.", of_command)
        self.calls = _histogram("call_seconds", "How long calls of this process took.", of_outcome)
        self.loop_lag = _histogram("loop_lag_seconds", "By how much the event loop was late.")
        self.workers = _gauge("workers", "Entities that are awake here.", of_type)
        self.lease_left = _gauge("lease_left_seconds", "How long the lease can be trusted; 0: there is none.")
        self.pending = _gauge("pending", "Commands that wait, in the whole fleet.", of_type)
        self.oldest = _gauge(
            "oldest_waiting_seconds", "How long the first command of a mailbox has waited at most.", of_type
        )
        self.deepest = _gauge("deepest_mailbox", "Commands in the fullest mailbox.", of_type)
        self.pods = _gauge("pods", "Registered pods.")
        self.ready = _gauge("ready", "Entities with commands that wait for a pod.")
        self.held = _gauge("held", "Entities with commands whose type is paused.")
        self.dead_letters = _gauge("dead_letters", "Dead letters.")
        self.put_off = _gauge("put_off", "Commands that were sent with a delay and are not due.")
        self.owned = _gauge("entities_owned", "Entities that some pod owns.")

    def all(self) -> Iterator[Metric]:
        """Gives them as they were made."""
        yield from vars(self).values()

    def add_type(self, counts: TypeCounts) -> None:
        """Adds the series of an entity type that this process has served."""
        if not (counts.claims or counts.paused):
            return
        labels = (counts.name,)
        passivations, handoffs = counts.passivations, counts.handoffs
        self.claims.add_metric(labels, counts.claims)
        self.passivations.add_metric(labels, passivations)
        self.handoffs.add_metric(labels, handoffs)
        self.paused.add_metric(labels, counts.paused)
        self.fenced.add_metric(labels, counts.fenced)
        self.workers.add_metric(labels, max(0, counts.claims - passivations - handoffs))

    def add_command(self, entity_type: str, counts: CommandCounts) -> None:
        """Adds the series of a command: what a sender has of it, what a pod has, or both."""
        labels = (entity_type, counts.name)
        if counts.sent:
            self.sent.add_metric(labels, counts.sent)
        for outcome, durations in list(counts.called.items()):
            _add(self.calls, (*labels, outcome), durations)
        if counts.handled or counts.failures:
            # With their zeros: a rate can't be told of a series that begins with its first failure.
            self.failures.add_metric(labels, counts.failures)
            self.dead.add_metric(labels, counts.dead)
        for outcome, count in list(counts.handled.items()):
            self.handled.add_metric((*labels, outcome), count)
        _add(self.handling, labels, counts.handling)
        _add(self.waiting, labels, counts.waiting)

    def add_lag(self, lag: Durations) -> None:
        """Adds by how much the event loop was late."""
        _add(self.loop_lag, (), lag)

    def add_sample(self, sample: FleetSample, types: Sequence[str]) -> None:
        """Adds what was found of the fleet; types that are known and have nothing that waits have zeros."""
        for name in types:
            depth = sample.depths.get(name, TypeDepth())
            self.pending.add_metric((name,), depth.pending)
            self.oldest.add_metric((name,), depth.oldest)
            self.deepest.add_metric((name,), depth.deepest)
        counted = sample.statistics
        self.pods.add_metric((), counted.pods)
        self.ready.add_metric((), counted.ready)
        self.held.add_metric((), counted.held)
        self.dead_letters.add_metric((), counted.dead)
        self.put_off.add_metric((), counted.put_off)
        self.owned.add_metric((), counted.owned)


def _counter(name: str, text: str, labels: Sequence[str] = ()) -> CounterMetricFamily:
    return CounterMetricFamily(f"trioqueue_{name}", text, labels=labels)


def _gauge(name: str, text: str, labels: Sequence[str] = ()) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"trioqueue_{name}", text, labels=labels)


def _histogram(name: str, text: str, labels: Sequence[str] = ()) -> HistogramMetricFamily:
    return HistogramMetricFamily(f"trioqueue_{name}", text, labels=labels)


def _add(family: HistogramMetricFamily, labels: Sequence[str], durations: Durations) -> None:
    """Adds a histogram as the series of these labels; nothing while it is empty."""
    summed = list(accumulate(durations.counts))
    if summed[-1]:
        family.add_metric(labels, list(zip(BUCKETS, summed, strict=True)), durations.total)
