"""A sender of the fault tests, in a process of its own.

    python shelf_sender.py SETTINGS

Each of its tasks sends to shelves of its own, one command after another, so that the order of sending is known.  It
writes a line before and after each send.  Numbers begin where it is told, so that one process can go on where another
one was killed.
"""

import json
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random
from typing import Any

import trio
from faults.history import Log
from faults.shelf_pod import Take

from trioqueue import AtomicQueues, StoreUnavailable, open_atomic_queues

SPACING = 0.03
"""Seconds between two sends of one task, on average: 130 a second of four tasks."""


async def send_to(queues: AtomicQueues, log: Log, shelves: list[str], first: int, dice: Random) -> None:
    """Sends for ever, one in ten with something that takes its time."""
    numbers = dict.fromkeys(shelves, first)
    while True:
        shelf = dice.choice(shelves)
        number = numbers[shelf]
        numbers[shelf] += 1
        seconds = dice.uniform(0.05, 0.3) if dice.random() < 0.1 else 0.0
        log.write(what="sending", shelf=shelf, number=number)
        await queues.send(Take(shelf, number, seconds=seconds))
        log.write(what="sent", shelf=shelf, number=number)
        await trio.sleep(dice.uniform(0, 2 * SPACING))


@asynccontextmanager
async def open_patiently(url: str, prefix: str) -> AsyncGenerator[AtomicQueues]:
    """Opens, and once more where the link broke meanwhile: a first attempt that fails is reported at once."""
    async with AsyncExitStack() as stack:
        while True:
            try:
                queues = await stack.enter_async_context(open_atomic_queues(url, prefix=prefix))
            except StoreUnavailable:
                continue
            yield queues
            return


async def main(settings: dict[str, Any]) -> None:
    log, dice = Log(settings["log"]), Random(settings["seed"])
    async with open_patiently(settings["url"], prefix=settings["prefix"]) as queues:
        # Told to end: what is under way is cancelled, and nobody knows of it.
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            print("ready", flush=True)
            async with trio.open_nursery() as nursery:
                for shelves in settings["lines"]:
                    dice_of_line = Random(dice.random())
                    nursery.start_soon(send_to, queues, log, shelves, settings["first"], dice_of_line)
                async for _ in signals:
                    nursery.cancel_scope.cancel()
                    break


if __name__ == "__main__":
    trio.run(main, json.loads(sys.argv[1]))
