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
from functools import partial
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
from trioqueue.runtime.resting import OVER, Parking, Rest
from trioqueue.runtime.running import TurnScope
from trioqueue.runtime.settling import Settling
from trioqueue.runtime.turns import Turns
from trioqueue.runtime.waking import tell_asleep, tell_awake
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
)
from trioqueue.stores.reports import Queued

if TYPE_CHECKING:
    from trioqueue.runtime.incarnation import Incarnation

logger = logging.getLogger("trioqueue.worker")

NAP = 1.0
"""Seconds that a worker rests with its task before it dozes, where it has a nursery or was woken from its last doze so
soon: to begin with them anew takes as long as a turn."""

DOZE = "doze"
"""In place of a reason to release: it rests without a task."""

NAPPED = "doze after a nap"
"""Likewise, and a part of its rest is over."""

GONE = "gone"
"""In place of a reason to release: the entity is not ours any more."""

LATER_PAUSE = 0.1
"""Seconds before asking again for a head that once killed its pod, while another such one is in hand: only where we are
not told that this one is settled."""


class Worker:
    """Serves one entity.

    `entity`: whom.
    """

    # A pod may hold tens of thousands of them.
    __slots__ = (
        "_awake",
        "_entered",
        "_failures",
        "_incarnation",
        "_kept",
        "_naps",
        "_news",
        "_nursery",
        "_opened",
        "_service",
        "_slot_scope",
        "_suspect",
        "_yields",
        "answer",
        "begun_at",
        "entity",
        "hand",
        "rest",
        "settling",
        "started",
        "turns",
    )

    def __init__(self, entity: Entity, incarnation: "Incarnation", turns: Turns) -> None:
        self.entity = entity
        self._incarnation = incarnation
        self.turns = turns
        self._service = turns.service
        self.rest = Rest(self)
        # Round its wait for a running slot; None while it waits for none.
        self._slot_scope: trio.CancelScope | None = None
        self.started = False  # it has a task
        # What the store said last, by which it goes on; None: nothing yet.
        self.answer: ClaimAnswer | CommitAnswer | None = None
        self.hand: tuple[Queued, ...] = ()  # fetched and not settled: the mailbox begins with them
        self._suspect = False  # its head is one, and in hand
        self._nursery: trio.Nursery | None = None  # the entity's, while its turns may use one
        self._naps = False  # it was woken from its last doze soon
        self._failures = 0  # of the activation, since it last began
        self._entered = False  # the activation has begun
        self._awake = False  # instruments were told so
        self._kept: Kept | None = None  # None: it never was, as far as is known
        self._opened = False  # it is inside of the activation
        # Set by whatever may concern handlers that overlap; None while none does.
        self._news: trio.Event | None = None
        self.begun_at = math.inf  # when it was last given work, on Trio's clock; inf: it has none
        self._yields = False  # it is to hand its entity on, though there is work, as others wait for room

    def __repr__(self) -> str:
        return f"<Worker {self.entity} {'parked' if self.rest.parked else 'busy'}, {len(self.hand)} in hand>"

    # -------------------------------------------------------------------------------- from outside, sync
    def hint(self) -> None:
        """Tells it that there may be work."""
        self.rest.hint()
        self.tell_news()

    def look(self) -> None:
        """Tells it that what it waits for may be over, be it work or the end of a backoff."""
        self.rest.look()
        self.tell_news()

    def keep(self, seconds: float) -> None:
        """Tells it to keep the entity awake for so long, whether it has work or not."""
        self._kept = self._kept or Kept()
        self._kept.keep(seconds)
        if not self.started and not self.rest.dozes:
            self.rest.hinted = True
        elif self.rest.is_parked():
            if self._wants_to_open():
                self.rest.wake()
            elif self._opened and not self.rest.lengthen(self._longest_rest()):
                self.rest.end(OVER)  # it goes on with a rest that is as long as it has to be

    def kept_for(self) -> float:
        """Says for how many seconds more it is kept awake; 0: it isn't."""
        return 0.0 if self._kept is None else self._kept.left()

    def _wants_to_open(self) -> bool:
        return self._kept is not None and self._kept.wants_to_open(opened=self._opened)

    def _longest_rest(self) -> float:
        idle_timeout = self._service.policy.idle_timeout
        return (
            idle_timeout if self._kept is None else self._kept.longest_rest(idle_timeout, opened=self._opened)
        )

    def rise(self, cause: object) -> None:
        """Gives it a task again, as something ended its rest."""
        self._naps = self.rest.rested < NAP
        self._incarnation.start(self, cause)

    def abandon(self) -> None:
        """Lets go of it where it dozes, as its incarnation has lost all that it had."""
        if self.rest.dozes:
            self.rest.forget()
            self._fall_asleep(idle=False)
            self._incarnation.forget(self)

    def hurry(self) -> None:
        """Wakes it from any rest, since it shall let go of its entity."""
        self.tell_news()
        if self._slot_scope is not None:
            self._slot_scope.cancel(reason="the pod drains")
        self.rest.wake()

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
        hinted, self.rest.hinted = self.rest.hinted, False
        return hinted and not self._suspect

    def lets_go(self) -> bool:
        """Says whether the entity shall be handed on as soon as no handler runs."""
        return self._yields or self._incarnation.draining()

    def trusted(self) -> bool:
        """Says whether a handler may start."""
        return self._incarnation.trusted()

    def cancel_command(self, command_id: str) -> None:
        """Takes note that a command's caller has gone; a running handler of it is cancelled."""
        self.turns.cancel(command_id)

    def yield_if_idle(self) -> bool:
        """Lets go of the entity if it is idle, even if it is kept, for those that wait for room; False: it isn't."""
        if self.rest.hinted or not self.rest.is_parked():
            return False
        if self._kept is not None:
            self._kept.end()
        return self.rest.wake()

    def yield_turn(self) -> None:
        """Has it hand its entity on after the turn in hand, for the sake of those that wait for room."""
        self._yields = True
        self.tell_news()
        if not self.rest.parked:
            self.rest.wake()

    def try_suspect(self) -> bool:
        """Wakes it where it waits to begin with a suspect, as the one in hand is settled; False: it does not wait."""
        return not self.rest.parked and self.rest.wake()

    def _acquit(self) -> None:
        """Lets another suspect of this pod come, if this worker had one in hand."""
        if self._suspect:
            self._suspect = False
            self._incarnation.try_next_suspect()

    def wish(self) -> ClaimWish:
        """Says what a send's claim is to ask for."""
        policy = self._service.policy
        return ClaimWish(self.entity, self.turns.state_version, policy.fetch, policy.overlap > 1)

    # -------------------------------------------------------------------------------- its life
    async def run(self, cause: object) -> None:
        """Serves the entity until it is let go of, or may doze; `cause`: what it was started by."""
        self.settling = Settling(self)
        try:
            await self._serve(cause)
        except LeaseLost as lost:
            self._incarnation.end_lease(str(lost))
        except TrioqueueError as error:
            # The entity is still ours by the store, which reports it with the next heartbeat.
            logger.error(  # noqa: TRY400 - its sentence says it all
                "the worker of %s ends: %s",
                self.entity,
                error,
                extra={"event": "worker_failed", "entity": str(self.entity), "pod": self._pod()},
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
                    extra={"event": "cleanup_failed", "entity": str(self.entity), "pod": self._pod()},
                )
            raise cancelled from None
        finally:
            self.started = False
            del self.settling  # it is there while there is a task
            if not self.rest.dozes:
                self._acquit()
                self._fall_asleep(idle=False)
                self._incarnation.forget(self)

    def _pod(self) -> str:
        return self._incarnation.member.incarnation

    def _awake_now(self) -> None:
        """Has instruments told that the entity is awake, once."""
        if not self._awake:
            self._awake = True
            tell_awake(self._incarnation.instruments, self.entity, self._pod())

    def _fall_asleep(self, *, idle: bool) -> None:
        """Has instruments told that it is not, if they were told that it is."""
        if self._awake:
            self._awake = False
            tell_asleep(self._incarnation.instruments, self.entity, self._pod(), idle=idle)

    async def _serve(self, cause: object) -> None:
        idle_timeout = self._service.policy.idle_timeout
        why = await self._rise(cause)
        while True:
            why = why or await self.until_claimed() or await self._activate()
            if why is None:
                continue
            if why == GONE:
                return
            if why in (DOZE, NAPPED):
                if self._may_doze():  # something may have come while it left its nursery
                    napped = NAP if why == NAPPED else 0.0
                    self.rest.doze(self._parking(idle_timeout - napped), napped)
                    return
                why = None
                continue
            incarnation = self._incarnation
            if why == "idle" and self.kept_for():
                pass  # it was told so while it left the activation
            elif await incarnation.store.release(incarnation.member, self.entity, self.turns.epoch, why):
                incarnation.counts.passivated += why == "idle"
                self._fall_asleep(idle=why == "idle")
                await self._pass_on_keeping()
                return
            why = None
            await self._claim()

    async def _pass_on_keeping(self) -> None:
        """Has an entity that was kept awake here come awake elsewhere at once, where its pod drains."""
        keep_ms = math.ceil(self.kept_for() * 1000)
        if keep_ms and self._incarnation.draining():
            await self._incarnation.store.keep(self._incarnation.member, [self.entity], keep_ms)

    async def until_claimed(self) -> str | None:
        """Rests until there is work that may be started, or it is to be opened without; else says why to let go."""
        while not isinstance(self.answer, Claimed):
            if isinstance(self.answer, Empty) and self._wants_to_open():
                return None
            if why := await self.wait_for_work():
                return why
        return None

    async def _claim(self) -> None:
        self.rest.hinted = False
        _, have, fetch, eager = self.wish()
        answer = await self._incarnation.store.claim(
            self._incarnation.member, self.entity, have=have, fetch=fetch, eager=eager
        )
        self._note(answer)

    def _note(self, answer: ClaimAnswer | CommitAnswer) -> None:
        """Takes over what a claim says."""
        self.answer = answer
        if isinstance(answer, Claimed):
            self.turns.begin(answer)
            self.settling.forget()
            self._suspect, self._yields = answer.is_suspect(), False
            if self.begun_at == math.inf:
                self.begun_at = trio.current_time()
            self.hand = answer.batch
            if answer.cancels:
                self.turns.note_cancels(answer.cancels)  # beside what hints have told meanwhile
        elif isinstance(answer, Empty):
            self.turns.epoch = answer.epoch

    async def wait_for_work(self) -> str | None:
        """Rests after an answer without work, and takes the next claim's answer; else says why to let go."""
        answer, rest = self.answer, self.rest
        if isinstance(answer, NotYours | Fenced):
            return GONE
        if isinstance(answer, Paused):
            if (instruments := self._incarnation.instruments).active:
                instruments.paused(self.entity, self.turns.paused_why)
            return "handoff"
        if self.lets_go():
            return "handoff"
        if isinstance(answer, Next):  # there is work, and none of it in hand
            await self._claim()
            return None
        if isinstance(answer, Backoff):
            cause = await rest.last(min(answer.seconds, self._incarnation.longest_sleep), parked=False)
            return await self._rise(None if cause is OVER else cause)
        if isinstance(answer, Later):
            self._incarnation.suspects.append(self)
            cause = await rest.last(LATER_PAUSE, parked=False)
            return await self._rise(None if cause is OVER else cause)
        self.begun_at, idle_timeout = math.inf, self._service.policy.idle_timeout
        if self.kept_for():
            cause = await rest.last(self._longest_rest(), parked=True)
        elif not self._may_doze():
            cause = await rest.park(self._parking(idle_timeout))
        elif self._nursery is None and not self._naps:
            return DOZE
        else:
            cause = await rest.park(self._parking(min(NAP, idle_timeout)))
            if cause is OVER and idle_timeout > NAP:
                return NAPPED if self._may_doze() else None
        return await self._rise(cause)

    def _may_doze(self) -> bool:
        """Says whether it can rest without a task: it has nothing open, and nothing is to be done."""
        return (
            self._service.activate is None
            and self._service.policy.overlap == 1
            and not (self._nursery is not None and self._nursery.child_tasks)
            and not self.rest.hinted
            and not self.kept_for()
            and self._incarnation.lasts()
        )

    def _parking(self, seconds: float) -> Parking:
        return self._incarnation.parking(max(0.0, seconds))

    async def _rise(self, cause: object) -> str | None:
        """Goes on after a rest, by what ended it: takes the next claim's answer, or says why to let go."""
        rest, idle = self.rest, isinstance(self.answer, Parked | Empty)
        if cause is OVER and not self._wants_to_open():
            return None if self.kept_for() else "idle"  # it may have been told to stay awake meanwhile
        if isinstance(cause, Claimed | Empty | Backoff | Later | NotYours | Paused):
            self._note(cause)
            return None
        if self.lets_go():
            return "handoff"
        if self._incarnation.pressed and not rest.hinted and idle and not self.kept_for():
            return "idle"
        await self._claim()
        return None

    async def _activate(self) -> str | None:
        """Runs turns inside the entity's nursery and activation; says why to let go of it, or None: it goes on.

        A nursery is opened only where the handlers of the type or its activation may ask for one.
        Children of the outer one: what the activation starts.  Of the inner one: what handlers start; they have ended
        when the activation is left, as they use what it opened.
        """
        why: str | None = None
        self._opened = True
        self._entered = False
        self._awake_now()
        try:
            if not self._service.nests:
                why = await self._work(None, None)
            else:
                async with trio.open_nursery() as nursery:
                    if self._service.activate is None:
                        why = await self._work(nursery, None)
                    else:
                        opened = self._service.activate(self.entity, nursery)
                        async with opened as provided, trio.open_nursery() as inner:
                            why = await self._work(inner, provided)
                            inner.cancel_scope.cancel()
                    nursery.cancel_scope.cancel()
                if why is None:  # pyright: ignore[reportUnnecessaryComparison]
                    raise RuntimeError("the activation swallowed the error that ended it")
        except Exception as error:
            if lost := _lease_lost(error):
                raise lost from None
            await self._postpone(single_leaf(error))
            return None
        self._opened = why in (DOZE, NAPPED)
        return why

    async def _postpone(self, error: BaseException) -> None:
        """Puts the head off after the activation failed, or a task of its nursery did; no attempt is spent.

        What was under way may have been committed or not: the claim tells.  Without a head, a next attempt waits too.
        """
        self._failures += 1
        wait = self._service.policy.retry.wait_before(self._failures, random())
        self._opened, self._kept = False, self._kept or Kept()
        self._kept.failed(wait)
        logger.error(
            "the activation of %s %s, its next attempt and its commands wait %.1f s",
            self.entity,
            "ended with an error" if self._entered else "could not begin",
            wait,
            exc_info=error,
            extra={
                "event": "activation_failed",
                "entity": str(self.entity),
                "pod": self._pod(),
                "again_in_s": wait,
            },
        )
        await self._claim()
        if isinstance(self.answer, Claimed):
            await self.commit(Finished(self.turns.put_off(wait)))

    async def _work(self, nursery: trio.Nursery | None, provided: Any) -> str:
        """Handles and commits, one command after another; says why to leave the activation."""
        self._entered, self._failures = True, 0
        if self._service.policy.overlap > 1:
            self._news = trio.Event()
            try:
                return await overlap(self, nursery, provided)
            finally:
                self._news = None
        scope, self._nursery = TurnScope(), nursery
        try:
            while True:
                try:
                    while self.hand:
                        if why := await self._take(provided, scope):
                            return why
                finally:
                    scope.leave(sys.exception())
                if why := await self.until_claimed():
                    return why
        finally:
            scope.end()
            self._nursery = None

    async def _take(self, provided: Any, scope: TurnScope) -> str | None:
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
                self._nursery,
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
                if settled := turns.gather(taken):
                    await self.commit(settled, read_ahead=True)
            case Stopped():
                self.hand = ()
                self.answer = self.settling.take_answer()
                if self.answer is None:
                    await self._claim()
            case Hold():
                gathered = turns.take_gathered()  # it is looked at again, as the head
                if gathered is None:
                    return "decline"
                await self.commit(gathered)
        return None

    async def _wait_for(self, slot: TurnSlot) -> None:
        """Waits for a running slot, or until it is told to hurry: then it goes without one."""
        try:
            with trio.CancelScope() as self._slot_scope:
                await slot.take()
        finally:
            self._slot_scope = None

    async def commit(self, finished: Finished, *, read_ahead: bool = False) -> CommitAnswer:
        """Makes a turn stand and takes the next ones in hand; empty-handed, the answer says what to wait for.

        `read_ahead`: nobody has begun with the next one, so it may be decoded meanwhile.
        """
        commit = finished.commit
        if not self._incarnation.trusted():
            raise LeaseLost("the lease can no longer be trusted")
        read_ahead = read_ahead and 0 < commit.pops < len(self.hand)
        meanwhile = partial(self.turns.read_ahead, self.hand[commit.pops]) if read_ahead else None
        store, member = self._incarnation.store, self._incarnation.member
        self.answer = answer = await store.commit(member, commit, meanwhile)
        if isinstance(answer, Fenced):
            self.hand = ()
            if (instruments := self._incarnation.instruments).active:
                instruments.fenced(self.entity)
            return answer
        self.turns.committed(finished)
        self._acquit()
        for command_id, outcome in finished.local_replies:
            self._incarnation.deliver(command_id, outcome)
        if not isinstance(answer, Next):
            self.hand = ()
            self.turns.forget_cancels()
            return answer
        if commit.settled_cancels or answer.cancels:
            self.turns.forget_cancels(commit.settled_cancels)
            self.turns.note_cancels(answer.cancels)
        if answer.batch:
            self.turns.fetched(answer.now_us)
            self.hand = answer.batch
        else:
            self.hand = self.hand[commit.pops :]
        return answer


def _lease_lost(error: Exception) -> LeaseLost | None:
    """Finds the loss of the lease in what came out of a nursery; it is never a user's error."""
    if isinstance(error, LeaseLost):
        return error
    if isinstance(error, ExceptionGroup):
        group = cast("ExceptionGroup[Exception]", error)
        return next(filter(None, map(_lease_lost, group.exceptions)), None)
    return None
