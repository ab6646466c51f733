"""How a command that goes on for long is ended by others: told to, or nobody reads what it says."""

import os
import signal
import stat
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

from trioqueue.cli.errors import UNFINISHED, Terminated


@asynccontextmanager
async def until_sigterm(said: str = UNFINISHED) -> AsyncGenerator[None, None]:
    """Turns SIGTERM into an error of the block, so that what it began is ended and removed.

    Its nursery's child waits for the signal.

    Args:
        said: What a person is told then; "": nothing, as there was nothing to finish.
    """

    async def wait(task_status: trio.TaskStatus[None]) -> None:
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            task_status.started()
            async for _ in signals:
                raise Terminated(said)

    async with _beside(wait):
        yield


@asynccontextmanager
async def until_unread() -> AsyncGenerator[None, None]:
    """Ends the block as soon as nobody reads standard output any more, as after `| head`.

    Without it, a command would notice when it writes next, which may be never.  Only Linux tells of it, and only of a
    pipe; elsewhere it is as without.
    """

    async def wait(task_status: trio.TaskStatus[None]) -> None:
        output = sys.stdout.fileno()
        task_status.started()
        if sys.platform == "linux" and stat.S_ISFIFO(os.fstat(output).st_mode):
            # Nothing can be read here, so what wakes us is the error that the other end is gone.
            await trio.lowlevel.wait_readable(output)
            raise BrokenPipeError

    async with _beside(wait):
        yield


@asynccontextmanager
async def _beside(wait: Callable[..., Awaitable[None]]) -> AsyncGenerator[None, None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(wait)
        yield
        nursery.cancel_scope.cancel()
