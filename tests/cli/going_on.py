"""Commands that go on until they are ended: in a pipe, or on a terminal of their own."""

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from cli.command_line import CONTROL, PATIENCE, environment

from trioqueue import AtomicQueues

HOME = "\x1b[H"
"""With this a frame begins."""


class Piped:
    """A command whose output is read line by line."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self._rest = b""

    async def line(self) -> str:
        """Waits for the next line."""
        assert self.process.stdout is not None
        while b"\n" not in self._rest:
            data = await self.process.stdout.receive_some()
            assert data, f"it ended: {await self.stderr()}"
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    async def document(self) -> Any:
        """Waits for the next line, and reads it as JSON."""
        return json.loads(await self.line())

    async def end(self, number: signal.Signals) -> tuple[int, str]:
        """Sends it a signal, and says with which code it ended, and what it said on stderr."""
        self.process.send_signal(number)
        return await self.ended()

    async def ended(self) -> tuple[int, str]:
        return await self.process.wait(), await self.stderr()

    async def stderr(self) -> str:
        assert self.process.stderr is not None
        return b"".join([data async for data in self.process.stderr]).decode()


@asynccontextmanager
async def piped(*args: str, url: str, cwd: Path) -> AsyncGenerator[Piped]:
    """Starts a command, and kills it at the end of the block if it still runs."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "trioqueue.cli", *args],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=cwd,
        env=environment(TRIOQUEUE_URL=url),
    )
    try:
        with trio.fail_after(PATIENCE):
            yield Piped(process)
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            await stream.aclose()


class OnTerminal:
    """A command on a pseudo terminal; `shown` is all that it wrote."""

    def __init__(self, process: "subprocess.Popen[bytes]", ours: int, theirs: int) -> None:
        self.process = process
        self.shown = ""
        self._ours, self._theirs = ours, theirs

    @property
    def modes(self) -> list[Any]:
        """How the terminal is set."""
        return termios.tcgetattr(self._theirs)

    def press(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def resize(self, width: int, height: int) -> None:
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        self.process.send_signal(signal.SIGWINCH)  # it has no controlling terminal, which would

    def frame(self) -> list[str]:
        """Gives the lines of the newest frame that came whole."""
        frames = self.shown.split(HOME)
        return CONTROL.sub("", frames[-2] if len(frames) > 2 else "").splitlines()

    async def wait_shown(self, condition: Callable[[], bool]) -> None:
        """Waits for something on the screen."""
        while not condition():
            await trio.lowlevel.wait_readable(self._ours)
            self.shown += os.read(self._ours, 65536).decode(errors="replace")

    async def ended(self) -> int:
        """Waits until it ends, and reads the rest."""
        code = await trio.to_thread.run_sync(self.process.wait, abandon_on_cancel=True)
        os.set_blocking(self._ours, False)
        try:
            while data := os.read(self._ours, 65536):
                self.shown += data.decode(errors="replace")
        except BlockingIOError:
            pass
        return code


@asynccontextmanager
async def on_terminal(
    *args: str, url: str, cwd: Path, width: int = 80, height: int = 24
) -> AsyncGenerator[OnTerminal]:
    """Starts a command on a terminal of its own, and kills it at the end of the block if it still runs."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
    command = [sys.executable, "-m", "trioqueue.cli", *args]
    process = subprocess.Popen(  # noqa: ASYNC220 - Trio's own would have our ends not block
        command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=cwd, env=environment(TRIOQUEUE_URL=url)
    )
    try:
        with trio.fail_after(PATIENCE):
            yield OnTerminal(process, ours, theirs)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)


async def wait_watched(queues: AtomicQueues) -> None:
    """Waits until a pod of this process tells what happens: somebody watches."""
    while not queues._instruments.active:  # noqa: ASYNC110 - a pod hears of it by a hint
        await trio.sleep(0.002)
