"""Handlers of one entity that run at once, for types without state (`EntityPolicy.overlap`).

The mailbox stays what it is: commands leave it in the order of acceptance, each once it and all before it are settled.
So a handler that ends before an older one waits with its outcome, and while the oldest waits out a backoff, the others
run on.  What ended together is committed together.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import trio

from trioqueue.protocol.turn import Ending
from trioqueue.runtime.context import TurnSlot
from trioqueue.runtime.finished import GROUP_BYTES, Finished, Hold, Unhandled
from trioqueue.runtime.running import Running, TurnScope
from trioqueue.stores.contract import CommitAnswer, Empty, LeaseLost, Parked
from trioqueue.stores.reports import Queued

if TYPE_CHECKING:
    from trioqueue.runtime.worker import Worker


@attrs.define(eq=False)
class UnderWay:
    """A command that was begun with."""

    running: Running
    began: bool = False  # it has its running slot
    ending: Ending | None = None  # None: its handler has not ended


class Overlap:
    """The turns of one entity, several at a time.

    Invariants: `_under_way` has commands in hand alone, by their envelopes; those that have ended wait for older ones.
    `_leaving` has the envelopes of those that were let go of, as long as their handlers run.
    """

    def __init__(
        self, worker: "Worker", handlers: trio.Nursery, nursery: trio.Nursery | None, provided: Any
    ) -> None:
        self._worker = worker
        self._turns = worker.turns
        self._policy = worker.turns.service.policy
        self._handlers = handlers
        self._nursery = nursery
        self._provided = provided
        self._under_way: dict[bytes, UnderWay] = {}
        self._leaving: set[bytes] = set()

    async def serve(self) -> str:
        """Handles and commits until the entity is to be let go of; says why."""
        worker = self._worker
        while True:
            if not worker.hand:
                if isinstance(worker.answer, Parked | Empty):
                    self._forget_all_but(())
                if why := await worker.wait_for_work():
                    return why
                continue
            self._forget_all_but(worker.hand)
            self._begin(worker.hand)
            stepped = await self._commit_ended()
            if isinstance(stepped, str):
                return stepped
            if stepped is None and self._may_look():
                stepped = await worker.commit(self._turns.look())
            if stepped is not None:
                continue
            if worker.lets_go() and not self._oldest_runs():
                return "handoff"
            await worker.wait_news()

    def _begin(self, hand: Sequence[Queued]) -> None:
        """Starts the handlers of the oldest commands, as many as may run."""
        running = sum(one.ending is None for one in self._under_way.values())
        free = self._policy.overlap - running - len(self._leaving)
        for place, queued in enumerate(hand):
            if free <= 0 or self._worker.lets_go():
                return
            if queued.data in self._under_way or queued.data in self._leaving:
                continue
            slot = TurnSlot(self._turns.slots)
            found = self._prepare(queued, slot, place)
            if isinstance(found, Unhandled):
                return  # it will be another pod's, with all behind it: to begin with these would be in vain
            if isinstance(found, Running):
                one = self._under_way[queued.data] = UnderWay(found)
                self._handlers.start_soon(self._run, one, slot, name=found.envelope.command_id)
                free -= 1

    def _prepare(self, queued: Queued, slot: TurnSlot, place: int) -> Running | Callable[[], Finished | Hold]:
        worker, want = self._worker, self._policy.fetch
        return self._turns.prepare(queued, self._nursery, slot, worker.settling.settle, place, want)

    async def _run(self, one: UnderWay, slot: TurnSlot) -> None:
        scope = TurnScope()
        try:
            await slot.take()
            one.began = True
            if not self._worker.trusted():
                raise LeaseLost("the lease can no longer be trusted")
            if one.running.queued.data not in self._leaving:
                one.ending = await self._turns.run(one.running, self._provided, scope)
            scope.leave(None)
        except BaseException as error:
            scope.leave(error)
            raise
        finally:
            scope.end()
            slot.end()
            self._leaving.discard(one.running.queued.data)
        self._worker.tell_news()

    async def _commit_ended(self) -> CommitAnswer | str | None:
        """Commits the oldest commands as far as they have ended; None: none has, else why to let go."""
        size = 0
        for queued in self._worker.hand:
            ended = self._ended(queued)
            if ended is None:
                break
            if isinstance(ended, Hold):
                if not self._turns.ahead():
                    return "decline"
                break
            self._turns.join(ended)
            size += ended.size()
            if ended.ends_group() or size >= GROUP_BYTES:
                break
        gathered = self._turns.take_gathered()
        return None if gathered is None else await self._worker.commit(gathered)

    def _ended(self, queued: Queued) -> Finished | Hold | None:
        """Says what became of a command, all before which have ended; None: its handler has not."""
        one = self._under_way.get(queued.data)
        if one is None:  # it has no handler to run, or that may not begin yet
            found = self._prepare(queued, TurnSlot(self._turns.slots), self._turns.ahead())
            return None if isinstance(found, Running) else found()
        if one.ending is None:
            return None
        del self._under_way[queued.data]
        return self._turns.judge(one.running, one.ending, self._policy.fetch)

    def _may_look(self) -> bool:
        """Says whether more has come, and could be begun with."""
        worker = self._worker
        room = len(worker.hand) < self._policy.fetch and len(self._under_way) < self._policy.overlap
        return room and not worker.lets_go() and worker.take_news()

    def _oldest_runs(self) -> bool:
        one = self._under_way.get(self._worker.hand[0].data) if self._worker.hand else None
        return one is not None and one.began

    def _forget_all_but(self, hand: Sequence[Queued]) -> None:
        """Lets go of what left the mailbox otherwise: an operator took it out."""
        there = {queued.data for queued in hand}
        for data in [data for data in self._under_way if data not in there]:
            one = self._under_way.pop(data)
            one.running.let_go()
            if one.ending is None:
                self._leaving.add(data)


async def overlap(worker: "Worker", nursery: trio.Nursery | None, provided: Any) -> str:
    """Handles an entity's commands, several at a time; answers why to leave the activation.

    Children: the handlers, which end with it.
    """
    async with trio.open_nursery() as handlers:
        why = await Overlap(worker, handlers, nursery, provided).serve()
        handlers.cancel_scope.cancel()
    return why
