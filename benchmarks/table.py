"""The part `table`: everything that the design has a bar for."""

from collections.abc import Callable
from typing import Any

from benchmarks.measuring import Measuring
from benchmarks.processes import open_process
from benchmarks.rounds import Step
from benchmarks.workloads import (
    Ask,
    Count,
    Handled,
    Reserve,
    Touch,
    hot,
    in_turn,
    open_pod,
    seed,
    spinning,
    stocked,
    wide,
)
from trioqueue import AtomicQueues, Command, open_atomic_queues

SMALL_WAVE = 10
"""Commands that are sent together where nothing else goes on."""

HOT_ENTITIES = 4
"""Neighbours with endless work."""


def steps() -> list[Step]:
    """Lists what one round measures."""
    return [
        Step("table.throughput"),
        Step("table.redis_cpu"),
        Step("table.own_pod"),
        Step("table.other_pod"),
        Step("table.neighbours"),
        Step("memory.awake", rounds=3),
        Step("memory.parked", {"stateful": False}, rounds=3),
        Step("memory.parked", {"stateful": True}, rounds=3),
        Step("memory.idle", rounds=3),
    ]


async def throughput(measuring: Measuring) -> None:
    """Commands a second, each kind of work between two floors."""
    one, many = measuring.size(5000, 400), measuring.size(10_000, 400)
    handled = Handled()
    async with open_pod(measuring.url, handled) as queues:
        for cls in (Touch, Count):  # what runs for the first time in a process is slower
            await hot(queues, handled, cls, commands=measuring.size(1000, 200))
        await measuring.beside_floor("hot, commit each", 1, one, lambda: hot(queues, handled, commands=one))
        await measuring.beside_floor(
            "hot, commit group", 16, one, lambda: hot(queues, handled, Count, commands=one)
        )
        await measuring.beside_floor(
            "seed, commit each", 16, many, lambda: seed(queues, handled, commands=many)
        )
        await measuring.beside_floor(
            "seed, commit group", 16, many, lambda: seed(queues, handled, Count, commands=many)
        )
        await measuring.beside_floor("wide", 16, many, lambda: wide(queues, handled, entities=many))


async def redis_cpu(measuring: Measuring) -> None:
    """Redis' processor time a command: alone, in waves of 10, and under load, in waves of 200.

    One by one it would be the price of waking Redis for each request, which no script can change; that is shown too.
    """
    commands = measuring.size(5000, 200)
    handled = Handled()
    async with open_pod(measuring.url, handled) as queues:

        async def ask() -> None:
            for _ in range(commands // 5):
                await queues.call(Ask("alone"))

        async def small_waves(make: Callable[[int], Command[Any]]) -> None:
            await in_turn(queues, handled, make, commands=commands, wave=SMALL_WAVE)

        await ask()
        beside = measuring.beside_floor
        await beside("hot, one by one, answered", 1, commands // 5, ask)
        await beside("hot, alone", 1, commands, lambda: small_waves(lambda _: Touch("alone")))
        await beside(
            "cold with state, alone", 1, commands, lambda: small_waves(lambda n: Reserve(f"alone-{n}"))
        )
        await beside(
            "cold with state, under load", 16, commands, lambda: stocked(queues, handled, entities=commands)
        )


async def own_pod(measuring: Measuring) -> None:
    """Calls, one after another, to entities of the calling process."""
    async with open_pod(measuring.url, Handled()) as queues:
        await _calls(measuring, queues, "own pod")


async def other_pod(measuring: Measuring) -> None:
    """Calls, one after another, to entities of another process."""
    async with open_process("pod", measuring.url), open_atomic_queues(measuring.url) as queues:
        await _calls(measuring, queues, "other pod")


async def _calls(measuring: Measuring, queues: AtomicQueues, whose: str) -> None:
    await measuring.latency(lambda _: queues.call(Ask("warm")), measuring.size(200, 10))
    trip = await measuring.trip(queues)
    warm = await measuring.latency(lambda _: queues.call(Ask("warm")), measuring.size(2000, 50))
    cold = await measuring.latency(lambda n: queues.call(Ask(f"cold-{n}")), measuring.size(1000, 50))
    for how, latency in (("warm", warm), ("cold", cold)):
        what = f"call, {whose}, {how}"
        measuring.note(what, "us, p50", latency.p50)
        measuring.note(what, "us, p99", latency.p99)
        measuring.note(what, "p99 / p50", latency.p99 / latency.p50)
        if trip is not None:
            measuring.note(what, "trips, p50", latency.p50 / trip)


async def neighbours(measuring: Measuring) -> None:
    """Cold calls beside entities of the same pod that have endless work, and without them."""
    times = measuring.size(2000, 50)
    handled = Handled()
    async with open_pod(measuring.url, handled) as queues:
        await measuring.latency(lambda n: queues.call(Ask(f"first-{n}")), measuring.size(200, 10))
        quiet = await measuring.latency(lambda n: queues.call(Ask(f"quiet-{n}")), times)
        async with spinning(queues, handled, HOT_ENTITIES):
            beside = await measuring.latency(lambda n: queues.call(Ask(f"beside-{n}")), times)
    what = "cold call beside hot entities"
    measuring.note(what, "us, p99", beside.p99)
    measuring.note(what, "us, quiet p99", quiet.p99)
    measuring.note(what, "p99 / quiet p99", beside.p99 / quiet.p99)
