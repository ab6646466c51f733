"""One registration of a pod, and the workers that live by it."""

import contextvars
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from heapq import nsmallest
from random import randrange

import trio

from trioqueue._errors import TrioqueueError
from trioqueue._names import Entity
from trioqueue.runtime.counts import Counts
from trioqueue.runtime.instruments import Instruments
from trioqueue.runtime.resting import AT_ONCE, Parking
from trioqueue.runtime.turns import Turns
from trioqueue.runtime.worker import Worker
from trioqueue.stores.contract import (
    PAGE,
    ClaimWish,
    HeldLease,
    LeaseLost,
    Member,
    NotClaimed,
    PodInfo,
    SendClaimAnswer,
    Store,
)
from trioqueue.stores.reports import Report

logger = logging.getLogger("trioqueue.pod")

MOVE_AGAIN = 1.0
"""Seconds until what is due is moved once more, where that failed."""

YIELD_KEPT = 10
"""Entities without work that are let go of at one heartbeat though a scaler has them kept awake, where others wait for
room: some at a time, as it is not known how many wait, and each of them closes what it has open."""

WATCH_EVERY = 0.1
"""Seconds between two looks at the lease at most.  A deadline that a thread moved would be seen too late (Trio
looks at the old one first), so the lease is read again and again."""


FAIR_SHARE = 1.0
"""Seconds that an entity may keep its place in a full pod, while others wait for one."""

YIELDS = 100
"""Entities that give their places up after one heartbeat at most, as each costs a claim elsewhere."""


class Incarnation:
    """What a pod does under one registration: which entities it serves, and until when it may.

    A worker is registered here from before its first request until it has ended, so a late answer, a hint and an
    adoption can't start two.
    """

    def __init__(
        self,
        store: Store,
        member: Member,
        info: PodInfo,
        make_turns: Callable[[Entity], Turns],
        counts: Counts,
        deliver: Callable[[str, bytes], None],
        elsewhere: Callable[[Entity], bool],
        instruments: Instruments,
        watched: Callable[[tuple[str, ...], float], None],
    ) -> None:
        self.store = store
        self.member = member
        self.counts = counts
        self.deliver = deliver
        self.instruments = instruments
        self._watched = watched  # takes the types of which somebody wants to be told, and when that was asked
        self._draining = False
        self.pressed = False  # entities wait for a pod, and this one has no room: idle ones are let go
        self.scope = trio.CancelScope()  # round all workers
        self._ended = False  # `scope` is cancelled
        self.serving = trio.Event()  # set once workers can be started
        self.over = trio.Event()  # set with the cancellation of `scope` for a lost lease
        self._types = info.types
        self._room = info.room
        # Seconds after which a backoff is asked for again, as the store's clock may have been set meanwhile.
        self.longest_sleep = info.lease.ttl
        self._make_turns = make_turns
        self._elsewhere = elsewhere  # an older incarnation's worker of this entity has not ended yet
        self._workers: dict[Entity, Worker] = {}
        self._empty = trio.Event()  # set when a draining incarnation has no worker any more
        self._lease: HeldLease | None = None
        self._parkings: dict[float, Parking] = {}  # by how long they rest there, which policies say
        # The children of `_nursery` are the workers, each under its entity's name, and those of `run`.
        self._nursery: trio.Nursery | None = None
        self._context = contextvars.Context()  # of all children
        # Workers that wait to begin with a head that may have killed its pod, as one at a time is handed out; some of
        # them have gone on by themselves.
        self.suspects: deque[Worker] = deque()
        # The newest report that was not attended to, and the wake-up of who attends.
        self._report: Report | None = None
        self._news = trio.Event()
        # When a command that was put off is due next, as far as we were told, and the wake-up of who moves it.
        self._due_at = math.inf
        self._due_news = trio.Event()
        self._look = False  # hints may have been lost: everything with work is looked at
        self._differed = False  # the last report counted other entities than we know

    def __repr__(self) -> str:
        return f"<Incarnation {self.member.incarnation}, {len(self._workers)} workers>"

    # -------------------------------------------------------------------------------- its life
    async def run(self, lease: HeldLease) -> None:
        """Serves entities until the lease is over or `scope` is cancelled, and until every worker has ended.

        Children: the workers, who ends their rests, the watch over the lease, who attends to reports, and who moves
        what was put off.
        """
        self._lease = lease
        self._context = contextvars.copy_context()
        try:
            with self.scope:
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    self.look_soon()  # hints may have come before there was anybody to take them
                    self.serving.set()
                    nursery.start_soon(self._watch, name="lease watch")
                    nursery.start_soon(self._attend, name="reports")
                    nursery.start_soon(self._keep_clock, name="clock")
        finally:
            self._nursery = None
            self._abandon()  # what a crash has left

    async def _watch(self) -> None:
        assert self._lease is not None
        while (left := self._lease.left()) > 0:  # noqa: ASYNC110 - a thread keeps it, which sets no event
            await trio.sleep(min(left, WATCH_EVERY))
        self.end_lease("no heartbeat was confirmed in time")

    def end_lease(self, why: str) -> None:
        """Cancels all workers: this incarnation handles nothing any more."""
        if not self._ended:
            logger.warning(
                "%s gives up its lease: %s",
                self.member.incarnation,
                why,
                extra={"event": "lease_lost", "pod": self.member.incarnation, "why": why},
            )
            self.cancel(why)
            self.over.set()
            if self.instruments.active:
                self.instruments.lease_lost(why)

    def cancel(self, why: str) -> None:
        """Cancels all workers."""
        self.scope.cancel(reason=why)
        self._abandon()

    def _abandon(self) -> None:
        """Lets go of all that dozes, as this incarnation serves nothing any more."""
        self._ended = True
        for worker in list(self._workers.values()):
            worker.abandon()

    def trusted(self) -> bool:
        """Says whether handlers may start and commits be sent."""
        return not self._ended and self._lease is not None and self._lease.left() > 0

    def lease_left(self) -> float:
        """Says to any thread for how many seconds more its lease can be trusted; 0: not any more."""
        lease = self._lease
        return 0.0 if self._ended or lease is None else max(0.0, lease.peek())

    def lasts(self) -> bool:
        """Says whether it goes on serving, as far as is known."""
        return not self._ended and not self._draining

    async def drain(self) -> None:
        """Has every worker let go of its entity as soon as its handler has ended."""
        self._draining = True
        if not self._workers:
            self._empty.set()
        for number, worker in enumerate(list(self._workers.values()), 1):
            worker.hurry()
            if number % AT_ONCE == 0:
                await trio.lowlevel.checkpoint()

    def draining(self) -> bool:
        """Says whether workers shall let go of their entities."""
        return self._draining

    async def wait_empty(self) -> None:
        """Waits until a draining incarnation has let go of everything."""
        await self._empty.wait()

    def awake(self) -> int:
        """Counts the entities that are awake."""
        return len(self._workers)

    def busy(self) -> list[Entity]:
        """Names the entities whose workers have not ended."""
        return [entity for entity, worker in self._workers.items() if worker.started]

    def handling(self) -> list[Entity]:
        """Names those of them whose workers do not rest."""
        return [entity for entity in self.busy() if not self._workers[entity].rest.parked]

    def parking(self, seconds: float) -> Parking:
        """Gives what ends rests of so many seconds."""
        parking = self._parkings.get(seconds)
        if parking is None:
            parking = self._parkings[seconds] = Parking(seconds)
            self._spawn(parking.run, name=f"rests of {seconds:g} s")
        return parking

    # -------------------------------------------------------------------------------- work comes in
    def wake(self, entity: Entity) -> None:
        """Takes a hint that an entity of ours has work."""
        worker = self._workers.get(entity)
        if worker is not None:
            worker.hint()
        elif self._takes(entity):
            if self._elsewhere(entity):
                assert self._nursery is not None
                self._nursery.start_soon(self._pass_on, entity, name=f"pass on {entity}")
            else:
                self.start(self._new_worker(entity), None)

    def keep(self, entities: Sequence[Entity], seconds: float) -> None:
        """Takes a hint that entities of ours are to be kept awake for so long."""
        for entity in entities:
            if entity not in self._workers:
                self.wake(entity)
            worker = self._workers.get(entity)
            if worker is not None:
                worker.keep(seconds)

    def look_at(self, entity: Entity) -> None:
        """Takes a hint that an operator changed an entity of ours."""
        worker = self._workers.get(entity)
        if worker is not None:
            worker.look()

    async def _pass_on(self, entity: Entity) -> None:
        """Gives an entity to another pod, since an older worker of it has not ended here."""
        try:
            await self.store.release(self.member, entity, None, "handoff")
        except LeaseLost as lost:
            self.end_lease(str(lost))
        except TrioqueueError as error:
            logger.warning(
                "could not pass %s on: %s",
                entity,
                error,
                extra={
                    "event": "pass_on_failed",
                    "entity": str(entity),
                    "pod": self.member.incarnation,
                },
            )

    def wish(self, entity: Entity) -> ClaimWish | None:
        """Prepares for a claim that a send brings; None: the entity is busy, full, or not ours to serve."""
        worker = self._workers.get(entity)
        if worker is None:
            if not self._takes(entity) or self._elsewhere(entity) or len(self._workers) >= self._room:
                return None
            worker = self._new_worker(entity)
        if not worker.rest.reserve():
            return None
        return worker.wish()

    def take_claim(self, entity: Entity, answer: SendClaimAnswer) -> None:
        """Takes what became of a wish; called once for each, also when the sender has gone."""
        worker = self._workers.get(entity)
        if worker is None or not worker.rest.claiming:
            return  # it ended meanwhile; what was claimed, this incarnation has given up
        if worker.started or worker.rest.dozes:
            worker.rest.take_claim(answer)
            return
        worker.rest.claiming = False
        if not isinstance(answer, NotClaimed):
            worker.rest.hinted = False  # the claim has looked for what it was told of
            self.start(worker, answer)
        elif worker.rest.hinted:
            self.start(worker, None)
        else:
            self.forget(worker)

    def try_next_suspect(self) -> None:
        """Takes note that the suspect in hand is settled."""
        while self.suspects and not self.suspects.popleft().try_suspect():
            pass

    def cancel_command(self, entity: Entity, command_id: str) -> None:
        """Takes a hint that a command's caller has gone."""
        worker = self._workers.get(entity)
        if worker is not None:
            worker.cancel_command(command_id)

    def forget(self, worker: Worker) -> None:
        """Takes note that a worker has ended."""
        if self._workers.get(worker.entity) is worker:
            del self._workers[worker.entity]
        if worker.rest.hinted:
            self.wake(worker.entity)
        if self._draining and not self._workers:
            self._empty.set()

    def _takes(self, entity: Entity) -> bool:
        return (
            self._nursery is not None
            and not self._draining
            and not self._ended
            and entity.type in self._types
        )

    def _new_worker(self, entity: Entity) -> Worker:
        worker = self._workers[entity] = Worker(entity, self, self._make_turns(entity))
        return worker

    def start(self, worker: Worker, cause: object) -> None:
        """Gives a worker its task; `cause`: what it begins with, as the answer of a claim."""
        if self._nursery is None or self._ended:
            self.forget(worker)
            return
        self.counts.created += worker.answer is None
        worker.started = True
        self._spawn(worker.run, cause, name=str(worker.entity))

    def _spawn(self, run: Callable[..., Awaitable[None]], *arguments: object, name: str) -> None:
        """Starts a child in a context that is nobody's: else whoever wakes a worker would lend it theirs."""
        nursery = self._nursery
        assert nursery is not None
        self._context.run(lambda: nursery.start_soon(run, *arguments, name=name))

    # -------------------------------------------------------------------------------- what was put off
    def look_at_due(self, seconds: float = 0.0) -> None:
        """Has what is due moved after so many seconds, if that is sooner than what is planned."""
        due_at = trio.current_time() + seconds
        if due_at < self._due_at:
            self._due_at = due_at
            self._due_news.set()

    async def _keep_clock(self) -> None:
        """Moves, for ever, what is due into its mailboxes."""
        while True:
            with trio.CancelScope(deadline=self._due_at):
                await self._due_news.wait()
            self._due_news = trio.Event()
            if trio.current_time() < self._due_at:
                continue
            self._due_at = math.inf
            try:
                left = await self.store.move(self.member)
            except LeaseLost as lost:
                self.end_lease(str(lost))
            except TrioqueueError as error:
                logger.warning(
                    "could not move what is due: %s",
                    error,
                    extra={"event": "move_failed", "pod": self.member.incarnation},
                )
                self.look_at_due(MOVE_AGAIN)
            else:
                if left is not None:
                    self.look_at_due(left)

    # -------------------------------------------------------------------------------- reports
    def take_report(self, report: Report) -> None:
        """Takes what a heartbeat found; the newest one counts."""
        self._report = report
        self._news.set()
        self._watched(report.watched, report.asked_at)
        if report.due_in is not None:
            self.look_at_due(report.due_in)

    def look_soon(self) -> None:
        """Takes note that hints may have been lost."""
        self._look = True
        self._news.set()

    async def _attend(self) -> None:
        """Attends to reports, for ever."""
        while True:
            await self._news.wait()
            self._news = trio.Event()
            report, self._report = self._report, None
            look, self._look = self._look, False
            try:
                if look:
                    await self._wake_all()
                if report is not None and not self._draining:
                    await self._attend_to(report)
            except LeaseLost as lost:
                self.end_lease(str(lost))
            except TrioqueueError as error:
                self._look = self._look or look  # with the next report
                logger.warning(
                    "could not attend to a heartbeat's report: %s",
                    error,
                    extra={"event": "report_failed", "pod": self.member.incarnation},
                )

    async def _attend_to(self, report: Report) -> None:
        for entity in report.wakes:
            self.wake(entity)
        if len(report.wakes) >= PAGE:
            await self._wake_all()
        for entity in report.cancels:
            for command_id in await self.store.cancelled(entity):
                self.cancel_command(entity, command_id)
        # A count that differs once may only be late; twice in a row it is looked into: the answer to a claim
        # was lost, say.
        differs = report.owned != len(self._workers)
        if differs and self._differed:
            await self._look_for_lost(report.owned)
        self._differed = differs
        if report.ready:
            await self.store.assign(self.member, report.ready)
        self.pressed = report.pressed
        if report.pressed:
            self._make_room()
        for silent in report.silent:
            if silent.incarnation != self.member.incarnation and await self.store.reap(self.member, silent):
                logger.warning(
                    "%s was silent: its entities were handed on",
                    silent.incarnation,
                    extra={
                        "event": "reaped",
                        "pod": self.member.incarnation,
                        "silent": silent.incarnation,
                    },
                )

    def _make_room(self) -> None:
        """Lets go of what is idle; if nothing is, of some that are only kept awake, or else of what has long had work.

        So nothing that has work waits for ever.
        """
        workers = list(self._workers.values())
        kept = [worker for worker in workers if worker.kept_for()]
        idle = [worker for worker in workers if not worker.kept_for() and worker.yield_if_idle()]
        if idle or self._let_sleep(kept):
            return
        long_ago = trio.current_time() - FAIR_SHARE
        busy = [worker for worker in workers if worker.begun_at <= long_ago]
        for worker in nsmallest(YIELDS, busy, key=lambda worker: worker.begun_at):
            worker.yield_turn()

    def _let_sleep(self, kept: Sequence[Worker]) -> int:
        """Lets go of some of what has no work and is kept awake; says of how many."""
        count = 0
        for worker in kept:
            count += worker.yield_if_idle()
            if count == YIELD_KEPT:
                break
        if count:
            logger.warning(
                "%d entities that a scaler keeps awake are let go of, as others have commands and wait for room: "
                "raise Limits.owned, or start more pods",
                count,
                extra={"event": "kept_yielded", "pod": self.member.incarnation, "count": count},
            )
        return count

    async def _wake_all(self) -> None:
        """Wakes everything of ours that has work.

        Only when all of it is read: who is woken soon leaves the list, and what is behind moves up.
        """
        entities: list[Entity] = []
        while True:
            page = await self.store.wakes(self.member, len(entities))
            entities += page
            if len(page) < PAGE:
                break
        for entity in entities:
            self.wake(entity)

    async def _look_for_lost(self, owned: int) -> None:
        """Wakes what is ours by the store and has no worker, on one page of all that is.

        On one, as counts differ for ever while entities come and go; on any, as a round would be led past some by the
        same coming and going.  Each entity is on it with the same chance.
        """
        for entity in await self.store.owned(self.member, max(0, randrange(1 - PAGE, owned + 1))):
            if entity not in self._workers:
                self.wake(entity)
