"""What a measurement has at hand: a server of its own, a floor, and what time and processors cost."""

import statistics
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import attrs
import redis as redis_py
import trio

from benchmarks.figures import At, Key, percentile
from benchmarks.floor import floor
from trioqueue import AtomicQueues

FLOOR_COMMANDS = {1: 5000, 16: 20_000}
"""Commands of one floor by batch, so that each takes about 0.12 s here: less would be a matter of luck."""


@attrs.define
class Cost:
    """What some work took, in seconds: of the clock, of this process, and of Redis."""

    seconds: float = 0.0
    client: float = 0.0
    redis: float = 0.0


@attrs.frozen
class Latency:
    """Of calls, in microseconds."""

    p50: float
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Latency":
        return cls(statistics.median(seconds) * 1e6, percentile(seconds, 99) * 1e6)


class Measuring:
    """One measurement in one process.  `redis` is a client beside the measured ones; `quick` makes everything tiny."""

    def __init__(self, url: str, tell: Callable[[Key, float], None], *, quick: bool) -> None:
        self.url = url
        self.quick = quick
        self.redis = redis_py.Redis.from_url(url)
        self._tell = tell

    def size(self, full: int, quick: int) -> int:
        """Chooses how much to do."""
        return quick if self.quick else full

    def note(self, what: str, unit: str, value: float, at: At = None) -> None:
        """Tells a figure."""
        self._tell(Key(what, unit, at), value)

    # -------------------------------------------------------------------------------- costs
    def redis_seconds(self) -> float:
        """Reads the processor time that Redis has used, in user and in system mode."""
        cpu = self.redis.info("cpu")
        return float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])

    @asynccontextmanager
    async def cost(self) -> AsyncGenerator[Cost]:
        """Measures a block: what is given is filled in at its end."""
        cost = Cost()
        redis = self.redis_seconds()
        client, began = time.process_time(), time.perf_counter()
        yield cost
        cost.seconds = time.perf_counter() - began
        cost.client = time.process_time() - client
        cost.redis = self.redis_seconds() - redis

    def note_cost(self, what: str, cost: Cost, commands: int, at: At = None) -> None:
        self.note(what, "commands/s", commands / cost.seconds, at)
        self.note(what, "client us", cost.client / commands * 1e6, at)
        self.note(what, "Redis us", cost.redis / commands * 1e6, at)

    async def floor(self, batch: int) -> Cost:
        """Runs the floor once; what it costs is that of one command."""
        parts = urlsplit(self.url)
        commands = self.size(FLOOR_COMMANDS[batch], 400)
        async with self.cost() as cost:
            rate = await floor(parts.hostname or "", parts.port or 0, batch=batch, commands=commands)
        return Cost(1 / rate, cost.client / commands, cost.redis / commands)

    async def beside_floor(
        self, what: str, batch: int, commands: int, work: Callable[[], Awaitable[None]], at: At = None
    ) -> None:
        """Measures work between two floors, and tells its speed as a share of theirs.

        The machine is another one a second later: of two floors around the work, the mean has met what it met.
        """
        before = await self.floor(batch)
        async with self.cost() as cost:
            await work()
        after = await self.floor(batch)
        floor_seconds = (before.seconds + after.seconds) / 2
        self.note(what, f"of B{batch}", floor_seconds / (cost.seconds / commands), at)
        self.note_cost(what, cost, commands, at)
        for one in (before, after):
            self.note_cost(f"floor, B{batch}", one, 1)

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
        trip = (await self.latency(lambda _: transport.call("PING"), self.size(3000, 100))).p50
        self.note("trip", "us, p50", trip)
        return trip
