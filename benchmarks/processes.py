"""Processes of the benchmarks: started, asked for their processor time, and ended however their parent ends.

Each holds its stdin open for its parent: a line on it asks for the processor time used so far, or says that it is this
process' turn, and its end is the end of the process.  A plain thread does that, which sleeps in its read and costs
nothing while nobody asks.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

TURN = "turn"
"""What the parent says to a process that has asked for it."""

_turns = threading.Semaphore(0)


def serve_parent() -> None:
    """Answers the parent, and ends this process with it."""
    threading.Thread(target=_serve, name="parent", daemon=True).start()


def _serve() -> None:
    for line in sys.stdin:
        if line.strip() == TURN:
            _turns.release()
        else:
            say(f"cpu {time.process_time()}")
    os._exit(1)


async def wait_turn() -> None:
    """Waits until the parent says that it is this process' turn."""
    await trio.to_thread.run_sync(_turns.acquire, abandon_on_cancel=True)


def say(line: str) -> None:
    """Tells the parent a line; one write, as two threads may speak."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class Process:
    """A process that runs a module of the benchmarks."""

    def __init__(self, module: str, *args: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.{module}", *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C reaches our parent alone, whose end is ours
        )

    async def line(self) -> str:
        """Waits for what it says next."""
        assert self._process.stdout is not None
        said = await trio.to_thread.run_sync(self._process.stdout.readline, abandon_on_cancel=True)
        if not said:
            raise RuntimeError(f"{self._process.args} has ended with {self._process.wait()}")
        return str(said).rstrip("\n")

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    async def cpu(self) -> float:
        """Asks for the seconds of processor time that it has used."""
        self.tell("cpu")
        word, _, seconds = (await self.line()).partition(" ")
        assert word == "cpu", word
        return float(seconds)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@asynccontextmanager
async def open_process(module: str, *args: str) -> AsyncGenerator[Process]:
    """Starts a process, waits for its first line, and kills it at the end: nothing of it is wanted any more."""
    process = Process(module, *args)
    try:
        await process.line()
        yield process
    finally:
        process.kill()
