"""What is counted of what happens, in plain numbers, and what is found of the fleet."""

from bisect import bisect_left

import attrs

from trioqueue import Statistics

BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the histograms' buckets, in seconds: what is quick is committed within half a millisecond, and what
takes longer than a minute is out of order."""

BUCKETS = (*map(str, BOUNDS), "+Inf")


class Durations:
    """A histogram of seconds."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * len(BUCKETS)  # of each bucket alone, the last one without a bound
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Counts one."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds


class CommandCounts:
    """What is counted for the commands of one name."""

    __slots__ = ("called", "dead", "failures", "handled", "handling", "name", "sent", "waiting")

    def __init__(self, name: str) -> None:
        self.name = name
        self.sent = self.failures = self.dead = 0
        self.handled: dict[str, int] = {}
        self.called: dict[str, Durations] = {}
        self.handling = Durations()
        self.waiting = Durations()


class TypeCounts:
    """What is counted for the entities of one type."""

    __slots__ = ("claims", "commands", "fenced", "handoffs", "name", "passivations", "paused")

    def __init__(self, name: str) -> None:
        self.name = name
        self.claims = self.passivations = self.handoffs = self.paused = self.fenced = 0
        self.commands: dict[str, CommandCounts] = {}


@attrs.define
class TypeDepth:
    """What waits in the mailboxes of one type: commands, seconds of the first one at most, and commands at most."""

    pending: int = 0
    oldest: float = 0.0
    deepest: int = 0


@attrs.frozen
class FleetSample:
    """What a monitor found of the whole fleet; it is told until `ends_at`, by `time.monotonic()`."""

    ends_at: float
    statistics: Statistics
    depths: dict[str, TypeDepth]
