"""Runs one kind of work for some seconds, for whoever looks into it with a profiler.

    py-spy record --rate 500 -o hot.svg -- python -m benchmarks.profile hot --seconds 10

With `--url` it uses a Redis of yours, else one of its own, whose URL it prints.  At the end it prints how many commands
a second that were, and what they cost on both sides.
"""

import argparse
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext

import trio

from benchmarks.measuring import Measuring
from benchmarks.server import RedisServer
from benchmarks.workloads import Ask, Count, Handled, hot, open_pod, seed, wide
from trioqueue import AtomicQueues, Instrument

WORK = {
    "hot": "one entity, each command committed for itself",
    "group": "one entity, committed in groups",
    "seed": "twenty entities in waves of 200",
    "wide": "one command for each of many entities, all cold",
    "calls": "calls one after another to one entity",
}
LAP = 2000
"""Commands between two looks at the clock."""


def lap_of(name: str, queues: AtomicQueues, handled: Handled) -> Callable[[int], Awaitable[None]]:
    """Finds the work of a name: a function that does the n-th lap of it."""

    async def calls(_: int) -> None:
        for _ in range(LAP):
            await queues.call(Ask("warm"))

    laps: dict[str, Callable[[int], Awaitable[None]]] = {
        "hot": lambda _: hot(queues, handled, commands=LAP),
        "group": lambda _: hot(queues, handled, Count, commands=LAP),
        "seed": lambda _: seed(queues, handled, commands=LAP),
        "wide": lambda n: wide(queues, handled, entities=LAP, name=f"lap-{n}"),
        "calls": calls,
    }
    return laps[name]


def prometheus() -> Instrument:
    """Counts for Prometheus, which is imported only where that is asked for."""
    from trioqueue.instruments import Prometheus  # noqa: PLC0415

    return Prometheus()


INSTRUMENTS: dict[str, Callable[[], Instrument]] = {"none": Instrument, "prometheus": prometheus}


async def work(name: str, url: str, seconds: float, instruments: Sequence[str]) -> None:
    """Does it in this process, pod and senders alike, and prints what it cost."""
    handled = Handled()
    told = [INSTRUMENTS[one]() for one in instruments]
    async with open_pod(url, handled, instruments=told) as queues:
        lap = lap_of(name, queues, handled)
        measuring = Measuring(url, print, quick=False)
        began, laps = measuring.so_far(), 0
        ends = time.perf_counter() + seconds
        while time.perf_counter() < ends:
            await lap(laps)
            laps += 1
        one = (measuring.so_far() - began).of_one(laps * LAP)
    print(
        f"{name}: {1 / one.seconds:,.0f} commands/s, {one.client * 1e6:.1f} us here, {one.redis * 1e6:.1f} us in Redis"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.profile",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "work", choices=WORK, help="; ".join(f"{name}: {what}" for name, what in WORK.items())
    )
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--url", help="of a Redis that may be written to")
    parser.add_argument(
        "--instrument",
        action="append",
        choices=INSTRUMENTS,
        default=[],
        help="one that is told what happens, to see what that costs; none: one that does nothing with it",
    )
    asked = parser.parse_args()
    logging.getLogger("trioqueue").setLevel(logging.ERROR)
    with nullcontext() if asked.url else RedisServer() as server:
        url = asked.url or server.url
        print(url, flush=True)
        trio.run(work, asked.work, url, asked.seconds, asked.instrument)


if __name__ == "__main__":
    main()
