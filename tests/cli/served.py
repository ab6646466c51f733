"""A command that goes on, as a person has it: a process whose lines are read as they come, and which is ended."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from cli.command_line import PATIENCE, environment, processes

SHOP = """
import time
from pathlib import Path

import trio
from lamps import Spin, Switch

from trioqueue import Context, Registry, open_atomic_queues

registry = Registry()


@registry.handles(Switch)
async def switch(command: Switch, context: Context) -> int:
    if command.what == "hold":
        Path("held").touch()
        while not Path("go").exists():
            await trio.sleep(0.01)
    if command.what == "block":
        Path("held").touch()
        time.sleep(60)
    if command.what == "stay":
        await trio.sleep_forever()
    if command.what == "fail":
        raise OSError("jammed")
    return 1


@registry.handles(Spin)
async def spin(command: Spin) -> None:
    pass
"""
"""An app.  Its handler may fail, stay, block the event loop, or hold on until it may go, and says so by files."""


class Served:
    """The process, and all that it and its children have printed."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self._news = trio.Event()
        self._over = False  # whether nothing more will be said

    async def listen(self) -> None:
        assert self.process.stdout is not None
        kept = b""
        async for chunk in self.process.stdout:
            *lines, kept = (kept + bytes(chunk)).split(b"\n")
            self.lines += [line.decode() for line in lines]
            self._tell()
        self._over = True
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()

    async def wait_said(self, pattern: str, times: int = 1) -> list[str]:
        """Waits until so many lines match, and gives them."""
        with trio.move_on_after(PATIENCE):
            while len(found := self.said(pattern)) < times and not self._over:
                await self._news.wait()
            if len(found) >= times:
                return found
        code = self.process.poll()
        raise AssertionError(f"{pattern!r} was not said {times} times (exit code {code}): {self.lines}")

    def said(self, pattern: str) -> list[str]:
        return [line for line in self.lines if re.search(pattern, line)]

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Tells it to end, and gives its exit code."""
        self.process.send_signal(number)
        return await self.wait()

    async def wait(self) -> int:
        with trio.fail_after(PATIENCE):
            return await self.process.wait()


@asynccontextmanager
async def serving(
    *args: str,
    url: str,
    cwd: Path,
    verb: str = "serve",
    ready: int = 1,
    terminal: int | None = None,
    shown: bool = False,
    **env: str,
) -> AsyncGenerator[Served]:
    """Runs the app until the block is left, in a pod or several whose names no other test has.

    Args:
        args: Of the command line.
        url: Of the store.
        cwd: Where the app is.
        verb: Which command.
        ready: How many pods to wait for.
        terminal: What is typed comes from there.
        shown: What is printed goes there too, and is read by nobody here.
        env: Of the process.
    """
    name = f"{cwd.name}-{os.getpid()}"
    command = [sys.executable, "-m", "trioqueue.cli", verb, "shop:registry", *args]
    if verb == "serve":
        command += ["--name", name]
    if not (cwd / "shop.py").exists():
        (cwd / "shop.py").write_text(SHOP)
    async with trio.open_nursery() as nursery:  # its child reads
        process = await trio.lowlevel.open_process(
            command,
            cwd=cwd,
            env=environment(TRIOQUEUE_URL=url, **env),
            stdin=subprocess.DEVNULL if terminal is None else terminal,
            stdout=terminal if shown else subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Its own terminal, and not that in which the tests run.
            start_new_session=terminal is not None,
        )
        served = Served(process)
        if not shown:
            nursery.start_soon(served.listen)
        try:
            if ready:
                await served.wait_said(" is ready: ", ready)
            yield served
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + PATIENCE):
                process.kill()
                await process.wait()
                await until_none(name)
            nursery.cancel_scope.cancel()


def pods_of(name: str) -> list[int]:
    """Finds the processes of pods that have a parent."""
    return processes(f"--name {name}-")


def command_line_of(pid: int) -> str:
    """Reads what anybody on this machine can read of a process."""
    listed = ["ps", "-wwo", "args=", "-p", str(pid)]
    return subprocess.run(listed, capture_output=True, text=True, check=True).stdout


async def until(look: Callable[[], object]) -> None:
    """Waits for something that another process does."""
    with trio.fail_after(PATIENCE):
        while not look():  # noqa: ASYNC110 - it has no event for us
            await trio.sleep(0.005)


async def until_none(name: str) -> None:
    """Waits until no such process is left."""
    await until(lambda: not pods_of(name))
