"""One entity's scope in a pod: claim, activation, turn after turn, idle, release.

A worker is the only one in this process that handles its entity, and holds it under the epoch of its last claim.  It is
told of new work by being woken; what the work is, only a claim or a commit says.  It ends when the entity was
let go, or when its incarnation has lost the lease, which cancels it from outside.

A worker may be told to keep its entity awake until some time.  Until then it enters the activation although there is no
work, and does not let go of the entity for being idle.
"""

import logging
import math
import sys
from collections import deque
from random import random
from typing import TYPE_CHECKING, Any, cast

import trio

from trioqueue._errors import TrioqueueError
from trioqueue._names import Entity
from trioqueue.protocol.turn import single_leaf
from trioqueue.runtime.context import TurnSlot
from trioqueue.runtime.finished import Finished, Hold, Stopped
from trioqueue.runtime.kept import Kept
from trioqueue.runtime.overlap import overlap
from trioqueue.runtime.running import TurnScope
from trioqueue.runtime.settling import Settling
from trioqueue.runtime.turns import Turns
from trioqueue.stores.contract import (
    Backoff,
    ClaimAnswer,
    Claimed,
    ClaimWish,
    CommitAnswer,
    Empty,
    Fenced,
    Later,
    LeaseLost,
    Next,
    NotYours,
    Parked,
    Paused,
    SendClaimAnswer,
)
from trioqueue.stores.reports import Queued

if TYPE_CHECKING:
    from trioqueue.runtime.incarnation import Incarnation

logger = logging.getLogger("trioqueue.worker")

RESTED = "rested"
"""In place of what woke it: its rest was over."""

GONE = "gone"
"""In place of a reason to release: the entity is not ours any more."""

LATER_PAUSE = 0.1
"""Seconds before asking again for a head that once killed its pod, while another such one is in hand: only where we are
not told that this one is settled."""


class Worker:
    """Serves one entity.

    `entity`: whom.  `cancels`: commands of it whose callers have gone, as far as it was told.
    """

    # A pod may hold tens of thousands of them.
    __slots__ = (
        "_awake",
        "_cause",
        "_entered",
        "_failures",
        "_hinted",
        "_incarnation",
        "_news",
        "_parked",
        "_resting",
        "_service",
        "_sleep_scope",
        "_sleeper",
        "_slot_scope",
        "_suspect",
        "_yields",
        "begun_at",
        "cancels",
        "claiming",
        "entity",
        "hand",
        "kept",
        "settling",
        "started",
        "turns",
    )

    def __init__(self, entity: Entity, incarnation: "Incarnation", turns: Turns) -> None:
        self.entity = entity
        self._incarnation = incarnation
        self.turns = turns
        self._service = turns.service
        # Where it sleeps; not None exactly while it may be woken, by setting it to None and rescheduling.
        self._sleeper: trio.lowlevel.Task | None = None
        # What ends a rest without work by itself, except while a claim is on its way to it.
        self._resting = incarnation.resting(turns.service.policy.idle_timeout)
        # What does so where it rests for other reasons, or longer; None while it doesn't.
        self._sleep_scope: trio.CancelScope | None = None
        # True: the sleep is a rest without work, so a hint may end it.  False: the head waits, no hint starts
        # it earlier.
        self._parked = False
        # Round its wait for a running slot; None while it waits for none.
        self._slot_scope: trio.CancelScope | None = None
        self.claiming = False  # a send's claim is under way for it: nobody else asks meanwhile
        self._hinted = False  # told of work while it could not be woken; cleared by each claim
        self.started = False
        self._cause: Any = None  # what woke it: an answer, or None
        self.hand: deque[Queued] = deque()  # fetched and not settled: the mailbox begins with them
        self.cancels = turns.cancels
        self._suspect = False  # its head is one, and in hand
        self._failures = 0  # of the activation, since it last began
        self._entered = False  # the activation has begun
        self._awake = False  # instruments were told so
        self.kept = Kept()
        # Set by whatever may concern handlers that overlap; None while none does.
        self._news: trio.Event | None = None
        self.begun_at = math.inf  # when it was last given work, on Trio's clock; inf: it has none
        self._yields = False  # it is to hand its entity on, though there is work, as others wait for room
        self.settling = Settling(self)

    def __repr__(self) -> str:
        return f"<Worker {self.entity} {'parked' if self._parked else 'busy'}, {len(self.hand)} in hand>"

    # -------------------------------------------------------------------------------- from outside, sync
    def hint(self) -> None:
        """Tells it that there may be work."""
        self._hinted = True
        self.tell_news()
        if self._parked and self._sleeper is not None and not self.claiming:
            self._wake(None)

    def look(self) -> None:
        """Tells it that what it waits for may be over, be it work or the end of a backoff."""
        self._hinted = True
        self.tell_news()
        if self._sleeper is not None and not self.claiming:
            self._wake(None)

    def keep(self, seconds: float) -> None:
        """Tells it to keep the entity awake for so long, whether it has work or not."""
        self.kept.keep(seconds)
        if not self.started:
            self._hinted = True
        elif self._parked and self._sleeper is not None and not self.claiming:
            if self.kept.wants_to_open():
                self._wake(None)
            elif self.kept.open:
                self._rest_on()

    def _longest_rest(self) -> float:
        return self.kept.longest_rest(self._service.policy.idle_timeout)

    def _rest_on(self) -> None:
        """Has it rest for as long as it may by now, if that is longer."""
        if self._sleep_scope is not None:
            self._sleep_scope.deadline = trio.current_time() + self._longest_rest()

    def end_rest(self) -> None:
        """Tells it that its rest without work is over."""
        if self._sleeper is not None:
            self._wake(RESTED)

    def reserve(self) -> bool:
        """Keeps it asleep for a claim that a send brings; False: it is busy and finds the work by itself."""
        if self.claiming or self.started and (not self._parked or self._sleeper is None):
            return False
        self.claiming = True
        self._resting.end(self)
        if self._sleep_scope is not None:
            self._sleep_scope.deadline = math.inf
        return True

    def take_claim(self, answer: SendClaimAnswer) -> None:
        """Gives it the claim that `reserve` announced."""
        self.claiming = False
        if self._sleeper is not None:
            self._wake(answer)
        else:
            self._hinted = True  # it was woken by something else: what the claim found, it looks for itself

    def hurry(self) -> None:
        """Wakes it from any rest, since it shall let go of its entity."""
        self.tell_news()
        if self._slot_scope is not None:
            self._slot_scope.cancel(reason="the pod drains")
        if self._sleeper is not None and not self.claiming:
            self._wake(None)

    def tell_news(self) -> None:
        """Wakes what waits for the handlers that overlap, or for more to begin with."""
        if self._news is not None:
            self._news.set()

    async def wait_news(self) -> None:
        """Waits until something happens that may concern handlers that overlap."""
        assert self._news is not None
        await self._news.wait()
        self._news = trio.Event()

    def take_news(self) -> bool:
        """Says, once, that there may be more in the mailbox than is in hand."""
        hinted, self._hinted = self._hinted, False
        return hinted and not self._suspect

    def lets_go(self) -> bool:
        """Says whether the entity shall be handed on as soon as no handler runs."""
        return self._yields or self._incarnation.draining()

    def trusted(self) -> bool:
        """Says whether a handler may start."""
        return self._incarnation.trusted()

    def cancel_command(self, command_id: str) -> None:
        """Takes note that a command's caller has gone; a running handler of it is cancelled."""
        self.cancels.add(command_id)
        self.turns.cancel(command_id)

    def yield_if_idle(self) -> bool:
        """Lets go of the entity if it is idle, even if it is kept, for those that wait for room; False: it isn't."""
        if not self._parked or self._sleeper is None or self.claiming or self._hinted:
            return False
        self.kept.end()
        self._wake(None)
        return True

    def yield_turn(self) -> None:
        """Has it hand its entity on after the turn in hand, for the sake of those that wait for room."""
        self._yields = True
        self.tell_news()
        if self._sleeper is not None and not self._parked and not self.claiming:
            self._wake(None)

    def try_suspect(self) -> bool:
        """Wakes it where it waits to begin with a suspect, as the one in hand is settled; False: it does not wait."""
        if self._sleeper is None or self._parked or self.claiming:
            return False
        self._wake(None)
        return True

    def _acquit(self) -> None:
        """Lets another suspect of this pod come, if this worker had one in hand."""
        if self._suspect:
            self._suspect = False
            self._incarnation.try_next_suspect()

    def wish(self) -> ClaimWish:
        """Says what a send's claim is to ask for."""
        policy = self._service.policy
        return ClaimWish(self.entity, self.turns.state_version, policy.fetch, policy.overlap > 1)

    def hinted(self) -> bool:
        """Says whether it was told of work that it has not looked for yet."""
        return self._hinted

    def _wake(self, cause: Any) -> None:
        assert self._sleeper is not None
        self._cause = cause
        task, self._sleeper = self._sleeper, None
        trio.lowlevel.reschedule(task)

    async def _rest(self) -> bool:
        """Rests without work for as long as it may; True: it was woken, and `_cause` says by what."""
        if not self.kept.left():
            self._resting.begin(self)
            try:
                await self._sleep(parked=True)
            finally:
                self._resting.end(self)
            if self._cause is not RESTED:
                return True
            if not self.kept.left():
                return False
        return await self._sleep_for(self._longest_rest(), parked=True)

    async def _sleep_for(self, seconds: float, *, parked: bool) -> bool:
        """Rests for so long; True: it was woken, and `_cause` says by what.  False: the time is over."""
        with trio.CancelScope(deadline=trio.current_time() + seconds) as self._sleep_scope:
            try:
                await self._sleep(parked=parked)
            finally:
                self._sleep_scope = None
            return True
        return False

    # Protected, since an interrupt between noting the task and its wait would leave a wake-up for one that runs.
    @trio.lowlevel.enable_ki_protection
    async def _sleep(self, *, parked: bool) -> None:
        """Rests until it is woken; `_cause` says by what."""
        if parked and self._hinted:
            self._cause = None
            return
        self._parked = parked
        self._sleeper = trio.lowlevel.current_task()
        try:
            await trio.lowlevel.wait_task_rescheduled(self._leave)
        finally:
            self._parked = False

    def _leave(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._sleeper = None
        return trio.lowlevel.Abort.SUCCEEDED

    # -------------------------------------------------------------------------------- its life
    async def run(self, first: ClaimAnswer | None) -> None:
        """Serves the entity until it is let go of."""
        self.started = True
        try:
            await self._serve(first)
        except LeaseLost as lost:
            self._incarnation.end_lease(str(lost))
        except TrioqueueError as error:
            # The entity is still ours by the store, which reports it with the next heartbeat.
            logger.error(  # noqa: TRY400 - its sentence says it all
                "the worker of %s ends: %s", self.entity, error, extra={"event": "worker_failed"}
            )
        except BaseExceptionGroup as group:
            # Cancelled from outside, and something of the user's raised an error meanwhile: that is not the pod's end.
            cancelled, errors = group.split(trio.Cancelled)
            if cancelled is None or not isinstance(errors, ExceptionGroup):
                raise
            raised = cast("ExceptionGroup[Exception]", errors)
            if _lease_lost(raised) is None:
                logger.error(  # noqa: TRY400 - what is logged is a part of it
                    "%s raised an error while it was cancelled",
                    self.entity,
                    exc_info=raised,
                    extra={"event": "cleanup_failed", "entity": str(self.entity)},
                )
            raise cancelled from None
        finally:
            self._acquit()
            self._fall_asleep(idle=False)
            self._incarnation.forget(self)

    def _awake_now(self) -> None:
        """Has instruments told that the entity is awake, once."""
        if not self._awake:
            self._awake = True
            if (instruments := self._incarnation.instruments).active:
                instruments.claimed(self.entity)

    def _fall_asleep(self, *, idle: bool) -> None:
        """Has instruments told that it is not, if they were told that it is."""
        if self._awake:
            self._awake = False
            if (instruments := self._incarnation.instruments).active:
                (instruments.passivated if idle else instruments.handed_off)(self.entity)

    async def _serve(self, first: ClaimAnswer | None) -> None:
        answer: ClaimAnswer | CommitAnswer
        if first is None:
            answer = await self._claim()
        else:
            self._note(first)
            answer = first
        while True:
            held = await self.until_claimed(answer)
            why = held if isinstance(held, str) else await self._activate(held)
            if not isinstance(why, str):
                answer = why
                continue
            if why == GONE:
                return
            store, member = self._incarnation.store, self._incarnation.member
            if why == "idle" and self.kept.left():
                pass  # it was told so while it left the activation
            elif await store.release(member, self.entity, self.turns.epoch, why):
                self._incarnation.counts.passivated += why == "idle"
                self._fall_asleep(idle=why == "idle")
                await self._pass_on_keeping()
                return
            answer = await self._claim()

    async def _pass_on_keeping(self) -> None:
        """Has an entity that was kept awake here come awake elsewhere at once, where its pod drains."""
        keep_ms = math.ceil(self.kept.left() * 1000)
        if keep_ms and self._incarnation.draining():
            await self._incarnation.store.keep(self._incarnation.member, [self.entity], keep_ms)

    async def until_claimed(self, answer: ClaimAnswer | CommitAnswer) -> Claimed | Empty | str:
        """Rests until there is work that may be started, or the entity is to be let go of, or opened without work."""
        while not isinstance(answer, Claimed):
            if isinstance(answer, Empty) and self.kept.wants_to_open():
                return answer
            rested = await self.rest(answer)
            if isinstance(rested, str):
                return rested
            answer = rested
        return answer

    async def _claim(self) -> ClaimAnswer:
        self._hinted = False
        _, have, fetch, eager = self.wish()
        answer = await self._incarnation.store.claim(
            self._incarnation.member, self.entity, have=have, fetch=fetch, eager=eager
        )
        self._note(answer)
        return answer

    def _note(self, answer: ClaimAnswer) -> None:
        """Takes over what a claim says beside the commands."""
        if isinstance(answer, Claimed):
            self.turns.begin(answer)
            self.settling.forget()
            self._suspect, self._yields = answer.is_suspect(), False
            if self.begun_at == math.inf:
                self.begun_at = trio.current_time()
            self.hand = deque(answer.batch)
            self.cancels.update(answer.cancels)  # beside what hints have told meanwhile
        elif isinstance(answer, Empty):
            self.turns.epoch = answer.epoch

    async def rest(self, answer: ClaimAnswer | CommitAnswer) -> ClaimAnswer | str:
        """Waits for what comes after an answer without work: the next claim's answer, or why to let go."""
        if isinstance(answer, NotYours | Fenced):
            return GONE
        if isinstance(answer, Parked | Empty):
            self.begun_at = math.inf
        if isinstance(answer, Paused):
            if (instruments := self._incarnation.instruments).active:
                instruments.paused(self.entity, self.turns.paused_why)
            return "handoff"
        if self.lets_go():
            return "handoff"
        if isinstance(answer, Backoff):
            await self._sleep_for(min(answer.seconds, self._incarnation.longest_sleep), parked=False)
        elif isinstance(answer, Later):
            self._incarnation.suspects.append(self)
            await self._sleep_for(LATER_PAUSE, parked=False)
        elif not await self._rest() and not self.kept.wants_to_open():
            return "idle"
        brought, self._cause = self._cause, None
        if isinstance(brought, Claimed | Empty | Backoff | Later | NotYours | Paused):
            self._hinted = False
            self._note(brought)
            return brought
        if self.lets_go():
            return "handoff"
        if (
            self._incarnation.pressed
            and not self._hinted
            and isinstance(answer, Parked | Empty)
            and not self.kept.left()
        ):
            return "idle"
        return await self._claim()

    async def _activate(self, held: Claimed | Empty) -> str | ClaimAnswer | CommitAnswer:
        """Runs turns inside the entity's nursery and activation; answers why to let go of it, or what to go on with.

        A nursery is opened only where the handlers of the type or its activation may ask for one.
        Children of the outer one: what the activation starts.  Of the inner one: what handlers start; they have ended
        when the activation is left, as they use what it opened.
        """
        why: str | None = None
        self.kept.open = True
        self._entered = False
        self._awake_now()
        try:
            if not self._service.nests:
                why = await self._work(None, None, held)
            else:
                async with trio.open_nursery() as nursery:
                    if self._service.activate is None:
                        why = await self._work(nursery, None, held)
                    else:
                        opened = self._service.activate(self.entity, nursery)
                        async with opened as provided, trio.open_nursery() as inner:
                            why = await self._work(inner, provided, held)
                            inner.cancel_scope.cancel()
                    nursery.cancel_scope.cancel()
                if why is None:  # pyright: ignore[reportUnnecessaryComparison]
                    raise RuntimeError("the activation swallowed the error that ended it")
        except Exception as error:
            if lost := _lease_lost(error):
                raise lost from None
            return await self._postpone(single_leaf(error))
        self.kept.open = False
        return why

    async def _postpone(self, error: BaseException) -> ClaimAnswer | CommitAnswer:
        """Puts the head off after the activation failed, or a task of its nursery did; no attempt is spent.

        What was under way may have been committed or not: the claim tells.  Without a head, a next attempt waits too.
        """
        self._failures += 1
        wait = self._service.policy.retry.wait_before(self._failures, random())
        self.kept.failed(wait)
        logger.error(
            "the activation of %s %s, its next attempt and its commands wait %.1f s",
            self.entity,
            "ended with an error" if self._entered else "could not begin",
            wait,
            exc_info=error,
            extra={"event": "activation_failed", "entity": str(self.entity)},
        )
        answer = await self._claim()
        if isinstance(answer, Claimed):
            return await self.commit(Finished(self.turns.put_off(wait)))
        return answer

    async def _work(self, nursery: trio.Nursery | None, provided: Any, held: Claimed | Empty) -> str:
        """Handles and commits, one command after another; answers why to leave the activation."""
        self._entered, self._failures = True, 0
        if self._service.policy.overlap > 1:
            self._news = trio.Event()
            try:
                return await overlap(self, nursery, provided, held)
            finally:
                self._news = None
        answer: ClaimAnswer | CommitAnswer = held
        scope = TurnScope()
        try:
            while True:
                while self.hand:
                    taken = await self._take(nursery, provided, scope)
                    if isinstance(taken, str):
                        return taken
                    answer = taken or answer
                rested = await self.until_claimed(answer)
                if isinstance(rested, str):
                    return rested
                answer = rested
        finally:
            scope.leave(sys.exception())

    async def _take(
        self, nursery: trio.Nursery | None, provided: Any, scope: TurnScope
    ) -> ClaimAnswer | CommitAnswer | str | None:
        """Handles the next command in hand, and commits unless that is left for later; or says why to let go."""
        turns = self.turns
        slot = TurnSlot(turns.slots)
        if not slot.take_nowait():
            await self._wait_for(slot)
        try:
            if self.lets_go():
                await self.settling.settle()
                return "handoff"
            ahead = turns.ahead()
            taken = await turns.take(
                self.hand[ahead],
                nursery,
                provided,
                slot,
                scope,
                last=len(self.hand) == ahead + 1,
                trusted=self._incarnation.trusted,
                settling=self.settling,
            )
        finally:
            slot.end()
        match taken:
            case Finished():
                settled = turns.gather(taken)
                return None if settled is None else await self.commit(settled)
            case Stopped():
                self.hand.clear()
                answer = self.settling.take_answer()
                return await self._claim() if answer is None else answer
            case Hold():
                gathered = turns.take_gathered()  # it is looked at again, as the head
                return "decline" if gathered is None else await self.commit(gathered)

    async def _wait_for(self, slot: TurnSlot) -> None:
        """Waits for a running slot, or until it is told to hurry: then it goes without one."""
        try:
            with trio.CancelScope() as self._slot_scope:
                await slot.take()
        finally:
            self._slot_scope = None

    async def commit(self, finished: Finished) -> CommitAnswer:
        """Makes a turn stand and takes the next ones in hand; empty-handed, the answer says what to wait for."""
        commit = finished.commit
        if not self._incarnation.trusted():
            raise LeaseLost("the lease can no longer be trusted")
        answer = await self._incarnation.store.commit(self._incarnation.member, commit)
        if isinstance(answer, Fenced):
            self.hand.clear()
            if (instruments := self._incarnation.instruments).active:
                instruments.fenced(self.entity)
            return answer
        self.turns.committed(finished)
        self._acquit()
        for command_id, outcome in finished.local_replies:
            self._incarnation.deliver(command_id, outcome)
        if not isinstance(answer, Next):
            self.hand.clear()
            self.cancels.clear()
            return answer
        for _ in range(commit.pops):
            self.hand.popleft()
        if commit.settled_cancels or answer.cancels:
            self.cancels.difference_update(commit.settled_cancels)
            self.cancels.update(answer.cancels)
        if answer.batch:
            self.turns.fetched(answer.now_us)
            self.hand = deque(answer.batch)
        return answer


def _lease_lost(error: Exception) -> LeaseLost | None:
    """Finds the loss of the lease in what came out of a nursery; it is never a user's error."""
    if isinstance(error, LeaseLost):
        return error
    if isinstance(error, ExceptionGroup):
        group = cast("ExceptionGroup[Exception]", error)
        return next(filter(None, map(_lease_lost, group.exceptions)), None)
    return None
