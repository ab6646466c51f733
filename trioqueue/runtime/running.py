"""One turn while its handler runs."""

from typing import Any

import attrs
import trio

from trioqueue.messages.envelope import Envelope
from trioqueue.protocol.turn import Cancelled, Ending, Expired, Raised, Returned
from trioqueue.runtime.context import Context, current_turn
from trioqueue.runtime.service import BoundHandler
from trioqueue.stores.reports import Queued


class HandlerTimeout(Exception):
    """A handler took longer than its `timeout`; counted as its failure."""


@attrs.define(eq=False)
class Running:
    """A command whose handler is to run, or does.

    `left`: seconds that its caller still waits, as it begins.
    """

    queued: Queued
    envelope: Envelope
    bound: BoundHandler
    command: Any = attrs.field(repr=False)
    context: Context
    left: float
    # Round the handler; None while it does not run.
    _scope: trio.CancelScope | None = None
    _cancelled: bool = False  # by its caller
    _let_go: bool = False  # by the worker, which does not look at how it ended

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

    async def run(self, live: Any, provided: Any) -> Ending | None:
        """Runs the handler; None: it was let go of."""
        ending: Ending | None = None
        self.context.begin()
        token = current_turn.set(self.context)
        try:
            with trio.CancelScope(deadline=self.context.deadline) as self._scope:
                arguments = self.bound.arguments(live, self.context, provided)
                ending = Returned(await self.bound.handler.function(self.command, **arguments))
        except Exception as error:
            ending = Raised(error)
        finally:
            current_turn.reset(token)
            self._scope = None
        if self._let_go:
            return None
        if ending is not None:
            return ending
        if self._cancelled:
            return Cancelled()
        timeout = self.bound.timeout
        if timeout is not None and timeout < self.left:
            return Raised(HandlerTimeout(f"the handler took longer than its timeout of {timeout:g} s"))
        return Expired()
