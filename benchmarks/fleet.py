"""The part `fleet`: senders and pods in processes of their own, on one Redis.

On a machine with fewer cores than processes they share, so commands a second say little; the processor time that each
side takes for a command says what each would do with a core of its own.
"""

from contextlib import AsyncExitStack

import trio

from benchmarks.figures import Figures, Key
from benchmarks.measuring import Measuring
from benchmarks.processes import Process, open_process
from benchmarks.rounds import Step
from trioqueue import open_atomic_queues

SIZES = (1, 2, 4)
LOOK_EVERY = 0.005
"""Seconds between two looks whether all is handled."""


def steps() -> list[Step]:
    """Lists what one round measures."""
    return [
        Step("fleet.fleet", {"senders": senders, "pods": pods}, rounds=3)
        for senders in SIZES
        for pods in SIZES
    ]


async def fleet(measuring: Measuring, senders: int, pods: int) -> None:
    """Has some processes send as fast as they can, and others handle."""
    commands = measuring.size(20_000, 800)
    async with AsyncExitStack() as stack:
        handling = [await stack.enter_async_context(open_process("pod", measuring.url)) for _ in range(pods)]
        sending = [
            await stack.enter_async_context(open_process("sender", measuring.url, str(commands // senders)))
            for _ in range(senders)
        ]
        queues = await stack.enter_async_context(open_atomic_queues(measuring.url))
        pods_before = await _processor_time(handling)
        began = measuring.so_far()
        for process in sending:
            process.tell("go")
        sent = 0.0
        for process in sending:
            sent += float((await process.line()).removeprefix("done "))
        while (await queues.statistics()).with_work:  # noqa: ASYNC110 - they are other processes
            await trio.sleep(LOOK_EVERY)
        cost = measuring.so_far() - began
        at = f"{senders} → {pods}"
        measuring.note("commands", "commands/s", commands / cost.seconds, at)
        measuring.note("Redis", "us a command", cost.redis / commands * 1e6, at)
        measuring.note("Redis", "% of a core", cost.redis / cost.seconds * 100, at)
        handled = await _processor_time(handling) - pods_before
        measuring.note("pods", "us a command", handled / commands * 1e6, at)
        measuring.note("senders", "us a command", sent / commands * 1e6, at)


async def _processor_time(processes: list[Process]) -> float:
    return sum([await process.cpu() for process in processes])


def derive(figures: Figures) -> None:
    """Says what each side would carry with a core of its own, from the processor time of the busiest fleet."""
    sizes = [at for at, _ in figures.series("Redis", "us a command")]
    busiest = min(sizes, key=lambda at: figures.median("Redis", "us a command", at))
    sides = [figures.values(Key(side, "us a command", busiest)) for side in ("Redis", "pods", "senders")]
    for redis, pods, senders in zip(*sides, strict=True):
        figures.add(Key("one Redis carries", "commands/s"), 1e6 / redis)
        figures.add(Key("one pod carries", "commands/s"), 1e6 / pods)
        figures.add(Key("one sender carries", "commands/s"), 1e6 / senders)
        figures.add(Key("pods like this on one Redis", "pods"), pods / redis)
