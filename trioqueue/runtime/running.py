"""One turn while its handler runs, and the cancel scope round it."""

import contextvars
import math
from collections.abc import Callable
from typing import Any

import attrs
import trio

from trioqueue.messages.envelope import Envelope
from trioqueue.protocol.turn import Cancelled, Ending, Expired, Raised, Returned
from trioqueue.runtime.context import Context, Receipt, TurnSlot
from trioqueue.runtime.service import BoundHandler
from trioqueue.stores.contract import Outgoing
from trioqueue.stores.reports import Queued


class HandlerTimeout(Exception):
    """A handler took longer than its `timeout`; counted as its failure.

    Its cause is what the handler was cancelled by, with the line at which that found it.
    """


class PodsDied(Exception):
    """Pods died while they handled this command; counted apart from its failures."""


class TurnScope:
    """What the handlers of one task, one after another, run in: a cancel scope, and the note whose turn it is.

    One serves many turns, since opening one costs as much as all else that Trio does for a turn.  Between two turns it
    has no deadline and nobody cancels it; once it is cancelled, it is left, and the next turn gets another one.  It
    belongs to the task that makes it, and is left before that leaves what it entered earlier.
    """

    __slots__ = ("_scope", "outside", "running", "task")

    def __init__(self) -> None:
        self._scope: trio.CancelScope | None = None  # entered; None: there is none
        self.running: Running | None = None  # whose handler runs
        self.task: trio.lowlevel.Task | None = trio.lowlevel.current_task()
        # What was open before: tasks in there are part of no turn.
        self.outside = tuple(self.task.child_nurseries)
        _scope_of_task.set(self)

    def enter(self, deadline: float) -> trio.CancelScope:
        """Gives the scope, with this deadline."""
        scope = self._scope
        if scope is None:
            scope = self._scope = trio.CancelScope(deadline=deadline)
            scope.__enter__()
        elif deadline != math.inf:
            scope.deadline = deadline
        return scope

    def leave(self, error: BaseException | None) -> bool:
        """Leaves the scope, if there is one; True: the error was its cancellation.

        Raises what is left of a group without that.
        """
        scope, self._scope = self._scope, None
        if scope is None:
            return False
        return bool(
            scope.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)
        )

    def end(self) -> None:
        """Lets go of its task, and of nurseries, which know that too.

        The task refers to this through its context: a cycle, which the garbage collector would have to find.
        """
        self.task, self.outside = None, ()


_scope_of_task: contextvars.ContextVar[TurnScope | None] = contextvars.ContextVar(
    "trioqueue_turns", default=None
)
"""Of the task itself, or of the one whose handlers have started it; see `turn_of_this_task`."""


@attrs.define(eq=False)
class Running:
    """A command whose handler is to run, or does.

    `until`: when its caller no longer waits, on Trio's clock; inf: never.  `known_by`: epoch, number and attempt, as
    its context has them.  `nursery`: the entity's, if its type has one.  `slot`: its running slot.
    """

    queued: Queued
    envelope: Envelope
    bound: BoundHandler
    command: Any = attrs.field(repr=False)
    until: float
    known_by: tuple[int, int, int]
    nursery: trio.Nursery | None
    slot: TurnSlot
    _make_context: Callable[["Running"], Context]
    # When its handler did and had ended, by the clock of instruments; None: nobody is told.
    began: float | None = None
    ended: float | None = None
    deadline: float = math.inf  # on Trio's clock
    # Made when it is asked for, which most handlers don't.
    _context: Context | None = None
    # Round the handler; None while it does not run.
    _scope: trio.CancelScope | None = None
    _cancelled: bool = False  # by its caller
    _let_go: bool = False  # by the worker, which does not look at how it ended

    def context(self) -> Context:
        """Gives what the handler sees of its turn."""
        if self._context is None:
            self._context = self._make_context(self)
        return self._context

    def close(self) -> tuple[list[Outgoing], list[Receipt[Any]]]:
        """Ends the turn and takes what it sent and cancelled."""
        return self._context.close() if self._context is not None else ([], [])

    def cancel(self) -> None:
        """Cancels the handler, as its caller has gone; it is settled so."""
        if self._scope is not None:
            self._cancelled = True
            self._scope.cancel(reason="the caller cancelled the command")

    def let_go(self) -> None:
        """Cancels the handler, as nothing of it would stand."""
        self._let_go = True
        if self._scope is not None:
            self._scope.cancel(reason="the entity is not this worker's any more")

    async def run(self, live: Any, provided: Any, scope: TurnScope) -> Ending | None:
        """Runs the handler, unless it is too late by now; None: it was let go of."""
        ending: Ending | None = None
        found_at: BaseException | None = None  # what cancelled it, which knows where it was
        bound, timeout = self.bound, self.bound.timeout
        if self.until != math.inf or timeout is not None:
            now = trio.current_time()
            if self.until <= now:
                return Expired()
            self.deadline = min(self.until, math.inf if timeout is None else now + timeout)
        self._scope = entered = scope.enter(self.deadline)
        scope.running = self
        try:
            ending = Returned(await bound.call(self.command, live, self, provided))
        except Exception as error:
            ending = Raised(error)
        except BaseException as error:
            try:
                if not scope.leave(error):
                    raise
            except Exception as rest:
                ending = Raised(rest)
            if timeout is not None:
                found_at = error
        finally:
            scope.running = self._scope = None
        if self._cancelled or self._let_go or self.deadline != math.inf:
            if entered.cancel_called:
                scope.leave(None)
            else:
                entered.deadline = math.inf
            if self._let_go:
                self.close()
                return None
        if ending is not None:
            return ending
        if self._cancelled:
            return Cancelled()
        if timeout is not None and self.deadline < self.until:
            late = HandlerTimeout(f"the handler took longer than its timeout of {timeout:g} s")
            late.__cause__ = found_at
            return Raised(late)
        return Expired()


def turn_of_this_task() -> Context | None:
    """Finds the turn that the running task is part of; tasks of `Context.nursery` are part of none."""
    scope = _scope_of_task.get()
    running = scope.running if scope is not None else None
    if scope is None or running is None:
        return None
    task = trio.lowlevel.current_task()
    while task is not scope.task:
        parent = task.parent_nursery
        if parent is None or parent in scope.outside:
            return None
        task = parent.parent_task
    return running.context()
