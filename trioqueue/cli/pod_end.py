"""What may end the process of a pod: a signal, a change of its source, no more work, the end of its parent."""

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from types import FrameType

import attrs
import trio

from trioqueue.cli.reload import Sources

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@attrs.frozen
class Ending:
    """Why a process ends.

    Attributes:
        why: For the log.
        anew: Whether it begins anew.
    """

    why: str
    anew: bool = False


def end_at_once_by_signals() -> None:
    """Has a signal end this process at once where nothing waits for one: before it serves, and once it is ending.

    The defaults would not do: SIGINT's is a traceback, and from that of SIGTERM the kernel shields the first process of
    a container.
    """

    def end(number: int, _frame: FrameType | None) -> None:
        os._exit(128 + number)

    for number in SIGNALS:
        signal.signal(number, end)


async def told_to_end(signals: AsyncIterator[int]) -> Ending:
    """Waits for a signal."""
    number = await anext(signals)
    return Ending(f"it got {signal.Signals(number).name}")


async def changed(sources: Sources) -> Ending:
    """Waits until a source has changed."""
    return Ending(f"{await sources.wait_changed()} has changed", anew=True)


async def first_of(*waits: Callable[[], Awaitable[Ending]]) -> Ending:
    """Waits until the first of these happens."""
    endings: list[Ending] = []

    async def wait(one: Callable[[], Awaitable[Ending]]) -> None:
        endings.append(await one())
        nursery.cancel_scope.cancel()

    # Its children are these waits.
    async with trio.open_nursery() as nursery:
        for one in waits:
            nursery.start_soon(wait, one)
    return endings[0]
