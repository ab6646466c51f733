"""Making gathered turns stand while a turn behind them is under way (`commit="group"`).

Who calls another entity, or does not belong to the group, goes on once all before it stands.  Meanwhile its handler may
be cancelled, have a second call wait as well, or return while a task of its entity's nursery waits.  So no turn is
looked at before it is known what became of the commit.  If that is not known, or what was gathered does not stand, the
turn is broken off, since it was built on that.
"""

from typing import TYPE_CHECKING

import trio

from trioqueue.stores.contract import CommitAnswer, Next

if TYPE_CHECKING:
    from trioqueue.runtime.worker import Worker


class Settling:
    """What one worker commits while a turn is under way."""

    __slots__ = ("_answer", "_broken", "_error", "_over", "_worker")

    def __init__(self, worker: "Worker") -> None:
        self._worker = worker
        # Set when the commit under way is over; None: none is.
        self._over: trio.Event | None = None
        self._broken = False  # no turn under way will stand; until the worker goes on
        # Why: what was answered, or raised.  Both None: that is not known.
        self._answer: CommitAnswer | None = None
        self._error: Exception | None = None

    async def settle(self) -> bool:
        """Commits what was gathered; False: the turn under way is broken off.

        Cancelled before it is answered: likewise, as the commit may stand or not.
        """
        if not await self.wait():
            return False
        worker = self._worker
        gathered = worker.turns.take_gathered()
        if gathered is None:
            return True
        self._over, self._broken, self._answer = trio.Event(), True, None
        try:
            self._answer = await worker.commit(gathered)
            self._broken = not isinstance(self._answer, Next)
        except Exception as error:
            self._error = error  # the worker's to raise, and not the handler's
        finally:
            self._over.set()
            self._over = None
            if self._broken:
                worker.turns.let_go()
        await trio.lowlevel.checkpoint_if_cancelled()
        return not self._broken

    def concerns_turns(self) -> bool:
        """Says whether a turn has to `wait`: a commit is under way, or what stands is not known."""
        return self._over is not None or self._broken

    async def wait(self) -> bool:
        """Waits for the commit under way, if there is one; False: the turn under way is broken off."""
        while self._over is not None:
            await self._over.wait()
        return not self._broken

    def take_answer(self) -> CommitAnswer | None:
        """Says, once, what a turn was broken off for; None: only a claim tells.  Raises what the commit raised."""
        answer, error = self._answer, self._error
        self.forget()
        if error is not None:
            raise error
        return answer

    def forget(self) -> None:
        """Takes note that the worker begins anew: what was broken off is over."""
        self._broken, self._answer, self._error = False, None, None
