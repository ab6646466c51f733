"""The processes of the demo, as their parent has them: started, asked, and ended however the parent ends."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio

from trioqueue.cli.demo_pod import URL_VARIABLE, Share, read_lines
from trioqueue.cli.demo_runs import Report
from trioqueue.cli.errors import PodEnded, how_ended


class PodProcess:
    """One process; see demo_pod for what it understands."""

    def __init__(self, process: trio.Process, lines: AsyncGenerator[str, None]) -> None:
        self._process = process
        self._lines = lines
        self._asking = trio.Lock()  # held from a question to its answer, so that each task gets its own

    async def wait_ready(self) -> None:
        """Waits until it serves.

        Raises:
            PodEnded: With the reason that it gave.
        """
        await self._answer()

    async def report(self) -> Report:
        """Asks what it has done.

        Raises:
            PodEnded: It is gone.
        """
        async with self._asking:
            # Not to be cancelled in between, or the next one to ask would get this answer; a pod answers at once.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 5.0):
                await self._tell("report")
                answer = await self._answer()
                return Report(
                    tuple(answer["done"]), tuple(answer["ended"]), answer["created"], answer["passivated"]
                )
        raise PodEnded(
            f"The pod process {self._process.pid} does not answer: end it, and run the demo again."
        )

    async def race(self, phase: int) -> None:
        """Has it begin with its share of a phase."""
        async with self._asking:
            await self._tell(f"race {phase}")

    async def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            await self._process.stdin.send_all(line.encode() + b"\n")
        except trio.BrokenResourceError:
            raise await self._ended() from None

    async def _answer(self) -> Any:
        line = await anext(self._lines, None)
        if line is None:
            raise await self._ended()
        answer = json.loads(line)
        if "error" in answer:
            raise PodEnded(answer["error"])
        return answer

    async def _ended(self) -> PodEnded:
        code = await self._process.wait()
        return PodEnded(f"The pod process {self._process.pid} ended {how_ended(code)}: run the demo again.")


@asynccontextmanager
async def open_pods(
    url: str, prefix: str, count: int, *, scale: float, naive: bool
) -> AsyncGenerator[list[PodProcess], None]:
    """Starts processes, and ends them when the block is left: by SIGTERM, and 5 s later by SIGKILL.

    Should this process be killed, they end by themselves, because their stdin does.

    Raises:
        PodEnded: One could not start, with the reason that it gave.
    """
    # Its children are one task a process, which ends the process when it is cancelled.
    async with trio.open_nursery() as nursery:
        pods: list[PodProcess] = []
        try:
            for number in range(count):
                share = Share(prefix, number, count, scale, naive)
                process = await nursery.start(
                    partial(
                        trio.run_process,
                        [sys.executable, "-m", "trioqueue.cli.demo_pod", *share.argv()],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        check=False,
                        env={**os.environ, URL_VARIABLE: url},
                        # Ctrl-C shall reach this process alone, which then ends them in order.
                        start_new_session=True,
                    )
                )
                pods.append(PodProcess(process, read_lines(process.stdout)))
            for pod in pods:
                await pod.wait_ready()
            yield pods
        finally:
            nursery.cancel_scope.cancel()


async def ask_pods(pods: list[PodProcess]) -> Report:
    """Adds up what the processes have done."""
    total = Report()
    for pod in pods:
        total += await pod.report()
    return total
