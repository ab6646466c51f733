"""What a measurement has at hand: a server of its own, a floor, and what time and processors cost."""

import gc
import os
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from urllib.parse import urlsplit

import attrs
import redis as redis_py
import trio

from benchmarks.figures import At, Key, percentile
from benchmarks.floor import floor
from trioqueue import AtomicQueues

FLOOR_COMMANDS = {1: 5000, 16: 20_000}
"""Commands of one floor by batch, so that each takes about 0.12 s here: less would be a matter of luck."""


@attrs.frozen
class Cost:
    """What some work took, in seconds: of the clock, of this process, and of Redis."""

    seconds: float
    client: float
    redis: float

    def __sub__(self, other: "Cost") -> "Cost":
        return Cost(self.seconds - other.seconds, self.client - other.client, self.redis - other.redis)

    def of_one(self, commands: int) -> "Cost":
        """Divides it by a number of commands."""
        return Cost(self.seconds / commands, self.client / commands, self.redis / commands)

    @property
    def processors(self) -> float:
        """Processor time on both sides."""
        return self.client + self.redis


@attrs.frozen
class Latency:
    """Of calls, in microseconds."""

    p50: float
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Latency":
        return cls(statistics.median(seconds) * 1e6, percentile(seconds, 99) * 1e6)


class Measuring:
    """One measurement in one process.

    `redis` is a client beside the measured ones; `quick` makes everything tiny; `turn` waits for the next lap's turn
    where another process is measured between our laps.
    """

    def __init__(
        self,
        url: str,
        tell: Callable[[Key, float], None],
        *,
        quick: bool,
        turn: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.url = url
        self.quick = quick
        self.redis = redis_py.Redis.from_url(url)
        self._tell = tell
        self._turn = turn

    def size(self, full: int, quick: int) -> int:
        """Chooses how much to do."""
        return quick if self.quick else full

    def note(self, what: str, unit: str, value: float, at: At = None) -> None:
        """Tells a figure."""
        self._tell(Key(what, unit, at), value)

    def end(self) -> None:
        """Ends this process as it is: to let go of 100,000 entities in order takes a minute, and measures nothing."""
        os._exit(0)

    # -------------------------------------------------------------------------------- costs
    def redis_seconds(self) -> float:
        """Reads the processor time that Redis has used, in user and in system mode."""
        cpu = self.redis.info("cpu")
        return float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])

    def so_far(self) -> Cost:
        """Reads all clocks; work costs the difference of two readings."""
        # Redis is asked first, or its answer would cost us time that is counted.
        redis = self.redis_seconds()
        return Cost(time.perf_counter(), time.process_time(), redis)

    def from_here(self) -> Cost:
        """Reads all clocks before some work.

        Else a full collection that is due from before would be charged to it, or not, by chance: 50 ms in a process
        that has nothing, a second in a pod with 100,000 entities.
        """
        gc.collect()
        return self.so_far()

    async def cost_of(self, work: Awaitable[object], commands: int) -> Cost:
        """Does some work, and says what one command of it cost."""
        began = self.from_here()
        await work
        seconds, client = time.perf_counter(), time.process_time()
        return (Cost(seconds, client, self.redis_seconds()) - began).of_one(commands)

    def note_cost(self, what: str, one: Cost, at: At = None) -> None:
        self.note(what, "commands/s", 1 / one.seconds, at)
        self.note(what, "client us", one.client * 1e6, at)
        self.note(what, "Redis us", one.redis * 1e6, at)

    async def floor(self, batch: int) -> Cost:
        """Runs the floor once, and says what one command of it cost."""
        parts = urlsplit(self.url)
        commands = self.size(FLOOR_COMMANDS[batch], 400)
        took = 0.0

        async def run() -> None:
            nonlocal took
            rate = await floor(parts.hostname or "", parts.port or 0, batch=batch, commands=commands)
            took = 1 / rate

        one = await self.cost_of(run(), commands)
        one = attrs.evolve(one, seconds=took)  # without the opening of its connections
        self.note_cost(f"floor, B{batch}", one)
        return one

    async def beside_floor(
        self, what: str, batch: int, commands: int, work: Callable[[], Awaitable[object]], at: At = None
    ) -> None:
        """Measures work between two floors, and tells its speed as a share of theirs.

        The machine is another one a second later: the mean of two floors around the work has met what it met.
        """
        before = await self.floor(batch)
        one = await self.cost_of(work(), commands)
        self.note_beside(what, batch, one, (before, await self.floor(batch)), at)

    async def laps(self, count: int) -> AsyncIterator[int]:
        """Counts laps, each when its turn has come; what is done until the next is asked for belongs to it."""
        for lap in range(count):
            if self._turn is not None:
                await self._turn()
            yield lap

    def note_beside(self, what: str, batch: int, one: Cost, floors: tuple[Cost, Cost], at: At = None) -> None:
        """Tells what a command cost, and how that compares with the floors that were run around the work."""
        seconds = statistics.mean(floor.seconds for floor in floors)
        processors = statistics.mean(floor.processors for floor in floors)
        self.note(what, f"of B{batch}", seconds / one.seconds, at)
        self.note(what, f"processor time, of B{batch}'s", one.processors / processors, at)
        self.note_cost(what, one, at)

    # -------------------------------------------------------------------------------- calls
    async def latency(self, one: Callable[[int], Awaitable[object]], times: int) -> Latency:
        """Times calls one after another."""
        took: list[float] = []
        for n in range(times):
            began = time.perf_counter()
            await one(n)
            took.append(time.perf_counter() - began)
        return Latency.of(took)

    async def trip(self, queues: AtomicQueues) -> float | None:
        """Times PING over the queues' own connection, in microseconds; None if this tree keeps it elsewhere."""
        transport = getattr(getattr(queues, "_store", None), "_transport", None)
        if transport is None:
            return None
        await trio.lowlevel.checkpoint()
        trip = await self.latency(lambda _: transport.call("PING"), self.size(3000, 100))
        self.note("trip", "us, p50", trip.p50)
        self.note("trip", "us, p99", trip.p99)
        self.note("trip", "p99 / p50", trip.p99 / trip.p50)  # what is not ours in that of a call
        return trip.p50
