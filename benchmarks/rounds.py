"""Rounds: every measurement of every part once, then all of them once more, so that no figure has a quiet hour alone.

Each measurement has a process and a redis-server of its own.  With a second tree, both trees measure one thing right
after each other, in turns the one and the other first.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from benchmarks import TREE_VARIABLE
from benchmarks.figures import Figures, Key
from benchmarks.server import ROOT, RedisServer

PATIENCE = 900.0
"""Seconds for one measurement; the longest takes about a minute."""


@attrs.frozen
class Step:
    """One measurement: a function, and what it is called with.

    Attributes:
        function: Its name, with its module's: `table.throughput`.
        options: Its keyword arguments.
        rounds: How often at most: what takes a minute need not be measured ten times.
    """

    function: str
    options: Mapping[str, Any] = attrs.field(factory=dict)
    rounds: int | None = None

    def __str__(self) -> str:
        return " ".join(
            [self.function.partition(".")[2], *(f"{name}={value}" for name, value in self.options.items())]
        )


class MeasurementFailed(Exception):
    """A measurement ended with an error, which its process has printed."""


@attrs.frozen
class Tree:
    """A checkout whose package is measured, and what is found."""

    path: Path
    parts: dict[str, Figures] = attrs.field(factory=dict)

    def add(self, part: str, key: Key, value: float) -> None:
        self.parts.setdefault(part, Figures()).add(key, value)


def measure(
    parts: Mapping[str, Sequence[Step]],
    trees: Sequence[Tree],
    *,
    rounds: int,
    quick: bool,
    progress: Callable[[str], None],
) -> None:
    """Measures all parts on all trees, round after round."""
    for number in range(rounds):
        for part, steps in parts.items():
            for step in steps:
                if step.rounds is not None and number >= step.rounds:
                    continue
                for tree in trees if number % 2 == 0 else list(reversed(trees)):
                    progress(f"round {number + 1} of {rounds}: {part}, {step}")
                    for key, value in _run(step, tree, quick=quick):
                        tree.add(part, key, value)


def _run(step: Step, tree: Tree, *, quick: bool) -> Iterator[tuple[Key, float]]:
    with RedisServer() as server, _child(step, tree, server.url, quick=quick) as child:
        assert child.stdout is not None
        for line in child.stdout:
            told = json.loads(line)
            value = told.pop("value")
            yield Key(**told), value
        if child.wait() != 0:
            raise MeasurementFailed(f"{step.function} on {tree.path}: exit code {child.returncode}")


@contextmanager
def _child(step: Step, tree: Tree, url: str, *, quick: bool) -> Iterator[subprocess.Popen[str]]:
    words = [url, "quick" if quick else "full", step.function, json.dumps(step.options)]
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.child", *words],
        cwd=ROOT,
        env={**os.environ, TREE_VARIABLE: str(tree.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    too_long = threading.Timer(PATIENCE, child.kill)
    too_long.start()
    try:
        yield child
    finally:
        too_long.cancel()
        child.kill()
        child.wait()
