"""Several pods as processes of one parent, which starts anew those that die, and ends them all when it is told to.

A child's stdin is one end of a socket pair.  It writes a line into it when it serves, and it ends when it reads its
end: then its parent is gone, however that came about.  Its stdout and stderr are those of the parent.
"""

import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress

import trio

from trioqueue.cli.errors import FAILED, TERMINATED, how_ended
from trioqueue.cli.pod_end import SIGNALS, Ending

logger = logging.getLogger("trioqueue.serve")

PAUSES = (0.5, 30.0)
"""Seconds before a pod that has died is started anew: the first time, and the longest; they double each time."""

WELL_AFTER = 60.0
"""Seconds that a pod has lived after which its death counts as a first one."""

READY = b"ready\n"


# ------------------------------------------------------------------------ what a child does
def tell_parent_ready() -> None:
    """Says that this process serves."""
    with suppress(OSError):  # the parent may be gone, which `parent_gone` sees
        os.write(sys.stdin.fileno(), READY)


async def parent_gone() -> Ending:
    """Waits until the parent is gone."""
    with suppress(trio.BrokenResourceError):
        async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as stream:
            while await stream.receive_some():
                pass
    return Ending("its parent is gone")


# ------------------------------------------------------------------------ what the parent does
class Child:
    """One pod: a process, and after its death another one.

    Args:
        name: Of the pod.
        argv: What is run.
        environment: Of the process.
    """

    def __init__(self, name: str, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        self.name = name
        self._argv, self._environment = argv, environment
        self._process: trio.Process | None = None  # None while there is none
        self._told = trio.Event()  # set once it is to end: then no other process is started
        self.served = False  # whether any process of it has
        self.begun = trio.Event()  # set once one has, or it has ended without
        self.code = 0  # exit code of the last process

    async def keep(self, *, until_done: bool) -> None:
        """Runs it until it is told to end, and starts another process whenever one has died.

        One that never came to serve is not started again: something is wrong with its app or its store, and it has said
        what.  With `until_done`, one that ends well is done.
        """
        pause, longest = PAUSES
        while not self._told.is_set():
            began = trio.current_time()
            pid = await self._run()
            self.begun.set()
            if self._told.is_set() or not self.served or (until_done and not self.code):
                return
            if trio.current_time() - began > WELL_AFTER:
                pause, _ = PAUSES
            if pid is not None:
                logger.error(
                    "pod %s (process %d) ended %s: it is started anew in %.1f s",
                    self.name,
                    pid,
                    how_ended(self.code),
                    pause,
                    extra={"event": "pod_died", "pid": pid, "code": self.code},
                )
            with trio.move_on_after(pause):
                await self._told.wait()
            pause = min(pause * 2, longest)

    async def _run(self) -> int | None:
        """Runs one process to its end, and gives its number; None: it could not even be started."""
        try:
            process, stream = await self._start()
        except OSError as error:  # no room for one more, say: which is no reason to end the others
            self.code = FAILED
            logger.error(  # noqa: TRY400 - its sentence says it all
                "pod %s can't be started: %s", self.name, error, extra={"event": "pod_not_started"}
            )
            return None
        async with stream:
            self._process = process
            try:
                if self._told.is_set():
                    process.terminate()
                # Its child hears what the process says.
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._listen, stream)
                    self.code = await process.wait()
                    self._hear_last(stream)
                    nursery.cancel_scope.cancel()
            finally:
                process.kill()  # does nothing where it has ended
                self._process = None
        return process.pid

    async def _start(self) -> tuple[trio.Process, trio.SocketStream]:
        """Starts a process, and gives it with our end of the pair."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = await trio.lowlevel.open_process(
                    self._argv,
                    stdin=theirs.fileno(),
                    env=self._environment,
                    # Ctrl-C shall reach the parent alone, which then ends them in order.
                    start_new_session=True,
                )
            except BaseException:
                ours.close()
                raise
        return process, trio.SocketStream(trio.socket.from_stdlib_socket(ours))

    def _hear_last(self, stream: trio.SocketStream) -> None:
        """Takes what a process said before it ended, where that was so soon that nobody has listened yet."""
        with suppress(OSError):  # nothing more
            self.served |= bool(os.read(stream.socket.fileno(), len(READY)))

    async def _listen(self, stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            async for _ in stream:
                self.served = True
                self.begun.set()

    def end(self) -> None:
        """Tells it to end."""
        self._told.set()
        if self._process is not None:
            self._process.terminate()

    def kill(self) -> None:
        """Ends it at once."""
        if self._process is not None:
            self._process.kill()

    def failed(self) -> bool:
        """Says whether it ended otherwise than it was told to; one that is not up yet ends at once by SIGTERM."""
        return self.code not in (0, TERMINATED, -signal.SIGTERM)


async def keep_all(children: Sequence[Child], *, until_done: bool) -> int:
    """Runs these pods until they are told to end by a signal, and gives the exit code of the parent.

    A second signal kills them.  The first one is to serve before the others are started, so that what is wrong with all
    of them is told once.
    """
    killed_by = 0

    async def pass_on(signals: AsyncIterator[int]) -> None:
        nonlocal killed_by
        first = await anext(signals)
        logger.info(
            "%d pods drain, as their parent got %s; a signal now ends them at once",
            len(children),
            signal.Signals(first).name,
            extra={"event": "draining"},
        )
        for child in children:
            child.end()
        async for killed_by in signals:  # noqa: B007 - it is read below
            for child in children:
                child.kill()

    async def keep(child: Child) -> None:
        await child.keep(until_done=until_done)
        if not child.served:
            if child.code < 0 and child.failed():
                logger.error(
                    "pod %s ended %s before it served",
                    child.name,
                    how_ended(child.code),
                    extra={"event": "pod_never_served", "code": child.code},
                )
            for other in children:
                other.end()

    with trio.open_signal_receiver(*SIGNALS) as signals:
        # The outer one's child passes signals on, the inner one's are the pods.
        async with trio.open_nursery() as passing:
            passing.start_soon(pass_on, signals)
            async with trio.open_nursery() as pods:
                pods.start_soon(keep, children[0])
                await children[0].begun.wait()
                for child in children[1:]:
                    pods.start_soon(keep, child)
            passing.cancel_scope.cancel()
    if killed_by:
        return 128 + killed_by
    return max((FAILED if child.code < 0 else child.code for child in children if child.failed()), default=0)
