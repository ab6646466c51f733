"""The part `latency`: how long calls take while there is other work.

Callers don't wait for each other: calls begin at moments drawn beforehand (a Poisson process), and each is timed from
the moment it was meant to begin.  Callers that begin when the last call has ended would not ask while the system
stands still, so that a standstill counted as one slow call, and not as all those that it kept from beginning.
Gil Tene named that coordinated omission: "How NOT to Measure Latency", https://www.youtube.com/watch?v=lJ8ydIuPFeU,
and the README of https://github.com/giltene/wrk2.

The callers are one process and the pod is another.
"""

import random
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence

import trio

from benchmarks.figures import At, percentile
from benchmarks.measuring import Measuring
from benchmarks.processes import open_process
from benchmarks.rounds import Step
from benchmarks.workloads import Ask, Spin
from trioqueue import AtomicQueues, open_atomic_queues

LOADS = (20, 50, 80)
"""Percent of the highest throughput that was measured right before."""

CALLERS = 64
"""Who call without a pause to find that: more of them get no more through."""

ENTITIES = 1000
"""Who are called at random, all of them awake."""

QUIET_RATE = 200
"""Calls a second where the neighbours are the load: few enough that calls don't meet."""

HOT_ENTITIES = 4

AT_LOAD = "call under load"
BESIDE = "cold call, other pod, beside hot entities"


def steps() -> list[Step]:
    """Lists what one round measures."""
    return [Step("latency.loads"), Step("latency.neighbours")]


async def loads(measuring: Measuring) -> None:
    """Calls to a thousand entities at several shares of what goes through at most."""
    seconds, entities = measuring.size(40, 3) / 10, measuring.size(ENTITIES, 50)
    dice = random.Random(1)
    async with open_process("pod", measuring.url), open_atomic_queues(measuring.url) as queues:

        async def call() -> None:
            await queues.call(Ask(f"called-{dice.randrange(entities)}"))

        for n in range(entities):
            await queues.call(Ask(f"called-{n}"))  # awake from here on
        await _closed_loop(call, seconds / 2)
        highest = await _closed_loop(call, seconds)
        measuring.note("calls, as many as go through", "calls/s", highest)
        for load in LOADS:
            took = await _open_loop(call, highest * load / 100, seconds, dice)
            _note(measuring, AT_LOAD, took, f"{load} %")


async def neighbours(measuring: Measuring) -> None:
    """Cold calls to a pod, and the same while some of its entities have endless work."""
    seconds = measuring.size(40, 3) / 10
    dice = random.Random(2)
    numbers = iter(range(10**9))
    # The pod is killed at the end: its work has none.
    async with open_process("pod", measuring.url), open_atomic_queues(measuring.url) as queues:

        async def call() -> None:
            await queues.call(Ask(f"cold-{next(numbers)}"))

        await _open_loop(call, QUIET_RATE, seconds / 4, dice)
        quiet = await _open_loop(call, QUIET_RATE, seconds, dice)
        await _begin_spinning(queues)
        beside = await _open_loop(call, QUIET_RATE, seconds, dice)
        _note(measuring, BESIDE, quiet, "quiet")
        _note(measuring, BESIDE, beside, f"{HOT_ENTITIES} hot")
        measuring.note(BESIDE, "p99 / quiet p99", percentile(beside, 99) / percentile(quiet, 99))


async def _begin_spinning(queues: AtomicQueues) -> None:
    await queues.send_many([Spin(f"spinner-{n}") for n in range(HOT_ENTITIES) for _ in range(16)])


async def _closed_loop(call: Callable[[], Awaitable[None]], seconds: float) -> float:
    """Calls as fast as answers come, and says how many a second that are."""
    calls = 0
    began = time.perf_counter()

    async def caller() -> None:
        nonlocal calls
        while time.perf_counter() < began + seconds:
            await call()
            calls += 1

    async with trio.open_nursery() as nursery:
        for _ in range(CALLERS):
            nursery.start_soon(caller)
    return calls / (time.perf_counter() - began)


async def _open_loop(
    call: Callable[[], Awaitable[None]], rate: float, seconds: float, dice: random.Random
) -> list[float]:
    """Begins so many calls a second, whatever becomes of them, and says how long each took from when it was due."""
    took: list[float] = []

    async def one(due: float) -> None:
        await call()
        took.append(trio.current_time() - due)

    async with trio.open_nursery() as nursery:
        due = trio.current_time()
        ends = due + seconds
        while (due := due + dice.expovariate(rate)) < ends:
            await trio.sleep_until(due)  # is it past already, the call is late, and its time counts from then
            nursery.start_soon(one, due)
    return took


def _note(measuring: Measuring, what: str, took: Sequence[float], at: At) -> None:
    measuring.note(what, "us, p50", statistics.median(took) * 1e6, at)
    measuring.note(what, "us, p99", percentile(took, 99) * 1e6, at)
    measuring.note(what, "us, p99.9", percentile(took, 99.9) * 1e6, at)
