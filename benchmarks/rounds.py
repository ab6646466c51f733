"""Rounds: every measurement of every part once, then all of them once more, so that no figure has a quiet hour alone.

Each measurement has a process and a redis-server of its own.  With a second tree, both trees measure one thing right
after each other, in turns the one and the other first.

What is compared with its smallest size has that one beside it, in another process with another server, and the two
go lap by lap: the machine is another one a second later, and a lap and its neighbour have met the same.
"""

import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs

from benchmarks import TREE_VARIABLE
from benchmarks.figures import OF_SMALLEST, At, Figures, Key
from benchmarks.processes import TURN
from benchmarks.server import ROOT, RedisServer

PATIENCE = 900.0
"""Seconds for one measurement, or for a pair of them; the longest takes about a minute."""


@attrs.frozen
class Step:
    """One measurement: a function, and what it is called with.

    Attributes:
        function: Its name, with its module's: `table.throughput`.
        options: Its keyword arguments.
        rounds: How often at most: what takes a minute need not be measured ten times.
        smallest: The options of the size that it is compared with, lap by lap; None: it is not.
    """

    function: str
    options: Mapping[str, Any] = attrs.field(factory=dict)
    rounds: int | None = None
    smallest: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        words = [
            self.function.partition(".")[2],
            *(f"{name}={value}" for name, value in self.options.items()),
        ]
        return " ".join(words if self.smallest is None else [*words, "beside the smallest"])


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


Told = tuple[Key, float]


def _run(step: Step, tree: Tree, *, quick: bool) -> Iterator[Told]:
    if step.smallest is None:
        with _open(step.function, step.options, tree, quick=quick, turns=False) as child:
            yield from child.figures()
        return
    with (
        _open(step.function, step.options, tree, quick=quick, turns=True) as child,
        _open(step.function, step.smallest, tree, quick=quick, turns=True) as smallest,
    ):
        pair = (child, smallest)
        for one in pair:  # until its first lap
            yield from one.figures()
        for lap in itertools.count():
            if not any(one.asks for one in pair):
                return
            if not all(one.asks for one in pair):
                raise MeasurementFailed(f"{step.function} on {tree.path}: one of a pair has more laps")
            told: dict[Child, list[Told]] = {}
            for one in pair if lap % 2 else reversed(pair):
                one.go_on()
                told[one] = list(one.figures())
                yield from told[one]
            yield from _compare(told[child], told[smallest])


def _compare(told: Sequence[Told], smallest: Sequence[Told]) -> Iterator[Told]:
    costs = _processor_times(told)
    for (what, _), cost in _processor_times(smallest).items():
        for (other, at), its in costs.items():
            if other == what:
                yield Key(what, OF_SMALLEST, at), its / cost


def _processor_times(told: Sequence[Told]) -> dict[tuple[str, At], float]:
    times: dict[tuple[str, At], float] = {}
    for key, value in told:
        if key.unit in ("client us", "Redis us") and not key.what.startswith("floor"):
            times[key.what, key.at] = times.get((key.what, key.at), 0.0) + value
    return times


class Child:
    """A measurement's process.  `asks`: it has asked for the turn of its next lap."""

    def __init__(self, process: subprocess.Popen[str], name: str) -> None:
        self._process, self._name = process, name
        self.asks = False

    def figures(self) -> Iterator[Told]:
        """Reads what it tells until it asks for a turn or has ended."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            if not told:
                self.asks = True
                return
            value = told.pop("value")
            yield Key(**told), value
        if self._process.wait() != 0:
            raise MeasurementFailed(f"{self._name}: exit code {self._process.returncode}")

    def go_on(self) -> None:
        """Gives it its turn."""
        assert self._process.stdin is not None
        self.asks = False
        with suppress(BrokenPipeError):  # it has ended, which is seen as its figures are read
            self._process.stdin.write(f"{TURN}\n")
            self._process.stdin.flush()


@contextmanager
def _open(
    function: str, options: Mapping[str, Any], tree: Tree, *, quick: bool, turns: bool
) -> Iterator[Child]:
    sized, paced = "quick" if quick else "full", "turns" if turns else "alone"
    with (
        RedisServer() as server,
        _process([server.url, sized, paced, function, json.dumps(options)], tree) as process,
    ):
        yield Child(process, f"{function} on {tree.path}")


@contextmanager
def _process(words: Sequence[str], tree: Tree) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.child", *words],
        cwd=ROOT,
        env={**os.environ, TREE_VARIABLE: str(tree.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        too_long = threading.Timer(PATIENCE, child.kill)
        too_long.start()
        try:
            yield child
        finally:
            too_long.cancel()
            child.kill()
