"""Pods as real processes: started, killed, frozen, told to end, and what they wrote."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import trio

HERE = Path(__file__).parent


class PodProcess:
    """One pod; ended with the block that started it."""

    def __init__(self, url: str, log: Path) -> None:
        self.log = log
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "shelf_pod.py"), url, str(log)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )

    async def wait_ready(self) -> None:
        assert self._process.stdout is not None
        line = await trio.to_thread.run_sync(self._process.stdout.readline)
        assert line == "ready\n", f"the pod did not come up: {line!r}"

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def wait_ended(self) -> int:
        return await trio.to_thread.run_sync(self._process.wait)

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def lines(self) -> list[dict[str, Any]]:
        """Reads what the pod wrote so far."""
        if not self.log.exists():
            return []
        return [json.loads(line) for line in self.log.read_text().splitlines()]

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


async def until(condition: Callable[[], Any], seconds: float = 15.0) -> Any:
    """Waits for something another process does; there is no event to wait for."""
    with trio.fail_after(seconds):
        while not (value := condition()):  # noqa: ASYNC110
            await trio.sleep(0.002)
    return value


def pods(url: str, folder: Path, names: str) -> Iterator[PodProcess]:
    for name in names:
        yield PodProcess(url, folder / f"{name}.jsonl")
