"""A process that can stand still and die, although all of them are tasks of one Trio run.

A process is known to its tasks by a context variable, which new tasks inherit.  While it stands still, whatever becomes
runnable of it is held back: timers pass, replies come in, and nothing of it moves.  When it goes on, it finds all at
once what it has missed, as after SIGCONT.  A process that is killed never goes on: not one `finally` of it is run
while the fleet lives.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from random import Random
from typing import Any
from unittest.mock import patch

import trio
from trio._core import _run

_process: contextvars.ContextVar["Process | None"] = contextvars.ContextVar("simulated_process", default=None)


def current_process() -> "Process":
    """Finds whose task runs."""
    process = _process.get()
    assert process is not None
    return process


class Process:
    """One process: its tasks are those that were started inside `entered`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.scope = trio.CancelScope()  # round all its tasks
        self.blocked = False  # while it stands still: only its event loop does, its heartbeat goes on
        self._held: list[trio.lowlevel.Task] | None = None  # None: it runs
        self._missed: list[Callable[[], None]] = []  # what waits for it to go on
        self._context: contextvars.Context | None = None

    def __repr__(self) -> str:
        return f"<Process {self.name}>"

    @property
    def stopped(self) -> bool:
        return self._held is not None

    def enter(self) -> None:
        """Makes the running task, and what it starts, part of this process."""
        _process.set(self)
        self._context = contextvars.copy_context()

    def stop(self) -> None:
        """Has it stand still, from the next step of its tasks on."""
        if self._held is not None:
            return
        self._held = []
        runq = _run.GLOBAL_RUN_CONTEXT.runner.runq
        for task in [task for task in runq if task.context.get(_process) is self]:
            runq.remove(task)
            self._held.append(task)

    def go_on(self) -> None:
        """Has it go on, with all it missed."""
        assert self._held is not None
        held, self._held = self._held, None
        # Trio cancels in the order of a set.
        held.sort(key=lambda task: task._counter)
        _run.GLOBAL_RUN_CONTEXT.runner.runq.extend(held)
        missed, self._missed = self._missed, []
        for one in missed:
            self.tell(one)

    def kill(self) -> None:
        """Ends it without a goodbye."""
        self.dead = True
        self._missed.clear()
        self.stop()

    def bury(self) -> None:
        """Lets the tasks of a killed process unwind; whatever they do is done by a dead one."""
        assert self.dead
        if self._held is not None:
            self.scope.cancel()
            self.go_on()

    def tell(self, what: Callable[[], None]) -> None:
        """Has it do something as soon as it can."""
        if self.dead:
            return
        if self._held is not None:
            self._missed.append(what)
        else:
            assert self._context is not None
            self._context.copy().run(what)


@contextlib.contextmanager
def scheduling(seed: int) -> Iterator[None]:
    """Has Trio hold back what stands still, and take everything else in an order that only the seed decides."""
    reschedule = _run.Runner.reschedule

    def rescheduled(self: _run.Runner, task: trio.lowlevel.Task, next_send: Any = _run._NO_SEND) -> None:
        reschedule(self, task, next_send)
        process = task.context.get(_process)
        if process is not None and process._held is not None:
            assert self.runq.pop() is task
            process._held.append(task)

    with (
        patch.object(_run.Runner, "reschedule", rescheduled),
        patch.object(_run, "_r", Random(seed)),
        patch.object(_run, "_ALLOW_DETERMINISTIC_SCHEDULING", True),
    ):
        yield
