"""Searching an instance: breadth first, so that a trace is a shortest one; at random, where it is too large.

A model has `start()`, `steps(state)` -> (label, state or Violation) of all that may happen next, `check(state)` and
`drain(state)`, both of which raise `Violation`.
"""

import gc
import random
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

from .rules import Violation


class Model(Protocol):
    """What can be searched."""

    def start(self) -> Any: ...
    def steps(self, s: Any) -> Iterator[tuple[tuple[Any, ...], Any]]: ...
    def check(self, s: Any) -> None: ...
    def drain(self, s: Any) -> None: ...


class Found(NamedTuple):
    """What a search found: `broken` is the promise, or None; `whole`: every state was seen."""

    states: int
    drains: int
    broken: str | None
    trace: tuple[str, ...]
    whole: bool
    seconds: float


@contextmanager
def collecting_nothing() -> Generator[None]:
    """Spares the garbage collector from looking again and again through states that are all kept, in no cycle."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@collecting_nothing()
def exhaust(model: Model, *, states: int = 10**9, seconds: float = 1e9, drain_every: int = 7) -> Found:
    """Looks at every state within reach, nearest first, and drains from some of them (0: from none)."""
    began, first = time.monotonic(), model.start()
    came: dict[Any, tuple[Any, tuple[Any, ...]] | None] = {first: None}
    todo, seen, drains = deque([first]), 0, 0

    def found(broken: Violation | None = None, s: Any = None, *last: str) -> Found:
        trace = list(last)
        while s is not None and (step := came[s]) is not None:
            s, label = step
            trace.insert(0, text(label))
        whole = not todo and broken is None
        return Found(len(came), drains, broken and str(broken), tuple(trace), whole, time.monotonic() - began)

    while todo and len(came) < states:
        s = todo.popleft()
        seen += 1
        for label, t in model.steps(s):
            if isinstance(t, Violation):
                return found(t, s, text(label))
            if t in came:
                continue
            came[t] = (s, label)
            try:
                model.check(t)
            except Violation as broken:
                return found(broken, t)
            todo.append(t)
        if drain_every and seen % drain_every == 0:
            drains += 1
            try:
                model.drain(s)
            except Violation as broken:
                return found(broken, s, "-- the faults stop, all hints are lost")
        if seen % 256 == 0 and time.monotonic() - began > seconds:
            break
    return found()


def walk(model: Model, *, walks: int, seed: int = 1, depth: int = 120, seconds: float = 1e9) -> Found:
    """Takes random ways, each with a drain at its end."""
    began, rnd, steps, done = time.monotonic(), random.Random(seed), 0, 0
    trace: list[str] = []
    try:
        while done < walks:
            if time.monotonic() - began > seconds:
                break
            s = model.start()
            trace.clear()
            for _ in range(depth):
                options = list(model.steps(s))
                if not options:
                    break
                label, t = rnd.choice(options)
                trace.append(text(label))
                if isinstance(t, Violation):
                    raise t
                s, steps = t, steps + 1
                model.check(s)
            done += 1
            trace.append("-- the faults stop, all hints are lost")
            model.drain(s)
    except Violation as broken:
        return Found(steps, done, str(broken), tuple(trace), False, time.monotonic() - began)
    return Found(steps, done, None, (), False, time.monotonic() - began)


def text(label: Iterable[Any]) -> str:
    """Turns a step's label into a line of a trace."""
    return " ".join(map(str, label))
