"""Pods and senders as real processes: started, killed, frozen, told to end, and what they wrote."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import trio
from faults.history import read_lines

HERE = Path(__file__).parent


class FleetProcess:
    """One process of a fleet; ended with the block that started it."""

    def __init__(self, module: str, log: Path, settings: dict[str, Any]) -> None:
        self.log, self.name = log, log.stem
        self._noise = log.with_suffix(".err").open("wb")
        paths = [str(HERE.parent), *filter(None, sys.path)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, json.dumps({"log": str(log), **settings})],
            stdout=subprocess.PIPE,
            stderr=self._noise,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )

    async def wait_ready(self) -> None:
        assert self._process.stdout is not None
        line = await trio.to_thread.run_sync(self._process.stdout.readline)
        assert line == "ready\n", f"{self.name} did not come up: {line!r}\n{self.noise()}"

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> float:
        """Ends it with SIGKILL, waits until it is gone, and says when that was."""
        self._process.kill()
        self._process.wait()
        return time.monotonic()

    def freeze(self) -> None:
        """Stops it with SIGSTOP, and waits until it stands."""
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def alive(self) -> bool:
        return self._process.poll() is None

    async def wait_ended(self) -> int:
        return await trio.to_thread.run_sync(self._process.wait)

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._noise.close()

    def noise(self) -> str:
        """Reads the end of what it said on stderr."""
        return self.log.with_suffix(".err").read_text()[-2000:]

    def lines(self) -> list[dict[str, Any]]:
        """Reads what it wrote so far."""
        return read_lines(self.log)


class PodProcess(FleetProcess):
    """One pod.

    Args:
        options: Of `open_pod`.
        mutant: The broken protocol that it runs; none.
        sends: How many commands it sends itself.
        does: What it asks for beside its work, once: one of `operations`; none.
    """

    def __init__(
        self,
        url: str,
        log: Path,
        *,
        effects: str = "",
        options: dict[str, Any] | None = None,
        mutant: str = "",
        sends: int = 0,
        does: str = "",
    ) -> None:
        settings = {
            "url": url,
            "name": log.stem,
            "effects": effects,
            "options": options or {},
            "mutant": mutant,
            "sends": sends,
            "does": does,
        }
        super().__init__("faults.shelf_pod", log, settings)

    def running(self) -> list[dict[str, Any]]:
        """Names the starts that have no end: handlers that run, or ran when the pod died."""
        open_starts: dict[tuple[str, int, int], dict[str, Any]] = {}
        for line in self.lines():
            if line["what"] in ("start", "end"):
                key = (line["shelf"], line["number"], line["fence"])
                if line["what"] == "start":
                    open_starts[key] = line
                else:
                    open_starts.pop(key, None)
        return list(open_starts.values())

    def saw(self, event: str) -> bool:
        return any(line["what"] == event for line in self.lines())


class SenderProcess(FleetProcess):
    """One sender.

    Args:
        lines: The shelves of each of its tasks.
        first: The number that it begins with.
    """

    def __init__(
        self, url: str, log: Path, *, prefix: str, lines: list[list[str]], first: int, seed: int
    ) -> None:
        settings = {"url": url, "prefix": prefix, "lines": lines, "first": first, "seed": seed}
        super().__init__("faults.shelf_sender", log, settings)

    def next_number(self, first: int) -> int:
        """Says with what a successor begins."""
        return max((line["number"] + 1 for line in self.lines()), default=first)


async def until(condition: Callable[[], Any], seconds: float = 15.0) -> Any:
    """Waits for something another process does; there is no event to wait for."""
    with trio.fail_after(seconds):
        while not (value := condition()):  # noqa: ASYNC110
            await trio.sleep(0.002)
    return value


def pods(url: str, folder: Path, names: str) -> Iterator[PodProcess]:
    for name in names:
        yield PodProcess(url, folder / f"{name}.jsonl")
