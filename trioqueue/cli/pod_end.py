"""What may end the process of a pod: a signal, a change of its source, no more work, the end of its parent."""

import os
import signal
from collections.abc import Awaitable, Callable
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


class EndSignal:
    """The first signal by which this process is told to end; what comes after it ends it at once.

    One that comes while the queues are being opened cancels that.
    """

    def __init__(self) -> None:
        self.opening = trio.CancelScope()  # round the opening, and all that follows
        self.opened = False  # set when that is over: then nothing is cancelled any more
        self.heard = trio.Event()  # set from when on signals are heard
        self._listening = trio.CancelScope()
        self._came = trio.Event()
        self._number = 0

    async def listen(self) -> None:
        """Listens, until a signal has come or `stop`."""
        with self._listening, trio.open_signal_receiver(*SIGNALS) as signals:
            self.heard.set()
            self._number = await anext(signals)
            self._came.set()
            if not self.opened:
                self.opening.cancel("told to end")

    def stop(self) -> None:
        """Has the next signal end this process at once."""
        self._listening.cancel("the end has begun")

    async def wait(self) -> Ending:
        """Waits until it comes."""
        await self._came.wait()
        return Ending(f"it got {signal.Signals(self._number).name}")


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
