"""What may end the process of a pod: a signal, a change of its source, no more work, the end of its parent."""

import os
import signal
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
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
    for number in SIGNALS:
        signal.signal(number, _end_at_once)


def _end_at_once(number: int, _frame: FrameType | None) -> None:
    os._exit(128 + number)


class EndSignal:
    """The first signal by which this process is told to end; what comes after it ends it at once.

    One that comes while the queues are being opened cancels that.

    Signals are heard by a handler of our own, as Trio's waits for the event loop: a process whose loop is blocked could
    not be ended otherwise.

    Args:
        has_parent: Whether only a parent ends this process at once, by SIGKILL.  A signal may come more than once then
            and mean the same: systemd, say, sends one to all processes of a service, and the parent passes its own on.
    """

    def __init__(self, *, has_parent: bool = False) -> None:
        self.opening = trio.CancelScope()  # round the opening, and all that follows
        self.opened = False  # set when that is over: then nothing is cancelled any more
        self._has_parent = has_parent
        self._ending = False  # whether the next signal ends it at once, if it may; the handler writes it too
        self._number = 0  # of the first; the handler writes it; 0: none has come
        self._came = trio.Event()

    @contextmanager
    def listening(self) -> Generator[None]:
        """Listens in this block."""
        token = trio.lowlevel.current_trio_token()

        def hear(number: int, frame: FrameType | None) -> None:
            if self._ending and not self._has_parent:
                _end_at_once(number, frame)
            self._ending = True
            if not self._number:
                self._number = number
                token.run_sync_soon(self._tell)

        before = {number: signal.signal(number, hear) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _tell(self) -> None:
        self._came.set()
        if not self.opened:
            self.opening.cancel("told to end")

    def stop(self) -> None:
        """Has the next signal end this process at once, as it ends already."""
        self._ending = True

    def has_come(self) -> bool:
        """Says whether it came, be it that the process was ending already."""
        return self._number != 0

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
