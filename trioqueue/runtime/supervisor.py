"""The top of a pod: incarnation after incarnation, and a graceful end."""

import logging
from collections.abc import Callable, Sequence
from random import random

import trio

from trioqueue._errors import TrioqueueError
from trioqueue._names import Entity
from trioqueue.messages.policy import Drain
from trioqueue.runtime.counts import Counts
from trioqueue.runtime.incarnation import Incarnation
from trioqueue.runtime.instruments import Instruments
from trioqueue.runtime.turns import Turns
from trioqueue.stores.contract import HeldLease, LeaseLost, Member, PodInfo, Store
from trioqueue.stores.reports import Silent

logger = logging.getLogger("trioqueue.pod")

REJOIN_PAUSE = 0.2
"""Seconds to twice that before joining anew, so that a fleet doesn't come back in one moment."""

LINGER = 1.0
"""Seconds that cancelled workers get before a new incarnation joins without waiting for them."""

TICK_EVERY = 0.1
"""Seconds between two signs of life to the lease: far below the stall that it warns of."""

SHOWN = 10
"""Entities that a line of the log names; a pod may have thousands that it means."""

GIVE_UP_PAUSE = 1.0
"""Seconds between attempts to give an older incarnation up; its silence ends it at the latest."""


class Supervisor:
    """Keeps a pod registered, and its workers within its lease."""

    def __init__(
        self,
        store: Store,
        info: PodInfo,
        drain: Drain,
        make_turns: Callable[[Entity], Turns],
        counts: Counts,
        deliver: Callable[[str, bytes], None],
        instruments: Instruments,
        watched: Callable[[tuple[str, ...], float], None],
    ) -> None:
        self._store = store
        self._info = info
        self._drain = drain
        self._make_turns = make_turns
        self._counts = counts
        self._deliver = deliver
        self._instruments = instruments
        self._watched = watched
        # The one that serves now; None while none does (joining, or after the end).
        self.incarnation: Incarnation | None = None
        # Older ones some of whose workers do not end: a thread, a shield, a handler that swallows Cancelled.
        self._lingering: list[Incarnation] = []
        # Older ones that this process has not given up yet.
        self._owed: list[str] = []
        self._ending = trio.Event()  # set when the end was asked for
        self._ended = trio.Event()

    async def join(self) -> None:
        """Registers the first incarnation.

        Raises:
            Incompatible, StoreUnavailable, AccessDenied: The pod can't be part of this fleet.
        """
        self._next = self._new(await self._store.join(self._info))

    def serving(self) -> Incarnation | None:
        """Gives the incarnation that serves now, if one does."""
        return self.incarnation

    def lease_left(self) -> float:
        """Says to any thread for how many seconds more the lease can be trusted; 0: there is none."""
        incarnation = self.incarnation
        return 0.0 if incarnation is None else incarnation.lease_left()

    def ending(self) -> bool:
        """Says to any thread whether the end was asked for."""
        return self._ending.is_set()

    async def wait_serving(self) -> None:
        """Waits until the first incarnation takes work."""
        await self._next.serving.wait()

    def _new(self, member: Member) -> Incarnation:
        return Incarnation(
            self._store,
            member,
            self._info,
            self._make_turns,
            self._counts,
            self._deliver,
            lambda entity: any(entity in older.busy() for older in self._lingering),
            self._instruments,
            self._watched,
        )

    async def run(self) -> None:
        """Serves, and joins anew whenever the lease was lost, until `end`.

        Children: one task for each incarnation; more than one only while an older one's workers will not end.
        """
        try:
            async with trio.open_nursery() as incarnations:
                incarnation: Incarnation | None = self._next
                while incarnation is not None:
                    over = trio.Event()
                    incarnations.start_soon(self._serve, incarnation, over)
                    await over.wait()
                    self._owed.append(incarnation.member.incarnation)
                    incarnation = await self._join_anew()
        finally:
            self.incarnation = None
            self._ended.set()

    async def _join_anew(self) -> Incarnation | None:
        """Joins as soon as that is possible; None: the end was asked for first."""
        while True:
            with trio.move_on_after(REJOIN_PAUSE * (1 + random())):
                await self._ending.wait()
            if self._ending.is_set():
                return None
            try:
                return self._new(await self._store.join(self._info))
            except TrioqueueError as error:
                logger.warning("could not join anew: %s", error, extra={"event": "join_failed"})

    async def _serve(self, incarnation: Incarnation, over: trio.Event) -> None:
        """Runs one incarnation to its end.

        `over` is set as soon as another may join: when this one has ended, or its lease is over and some of its workers
        will not end.
        """
        async with self._store.hold_lease(
            incarnation.member, self._info.lease, incarnation.take_report
        ) as lease:
            self.incarnation = incarnation
            if self._ending.is_set():  # it came up when the end had begun, and has only to leave again
                incarnation.cancel("the pod ends")
            logger.info(
                "%s serves %s",
                incarnation.member.incarnation,
                ", ".join(sorted(self._info.types)),
                extra={"event": "joined", "pod": incarnation.member.incarnation},
            )
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._when_over, incarnation, over)
                nursery.start_soon(self._tick, lease)
                if self._owed:
                    nursery.start_soon(self._give_up, incarnation)
                await incarnation.run(lease)
                if incarnation in self._lingering:
                    self._lingering.remove(incarnation)
                if self._ending.is_set():
                    await self._hand_on(incarnation)
                nursery.cancel_scope.cancel()
        over.set()

    async def _tick(self, lease: HeldLease) -> None:
        """Tells the lease that the event loop is alive, for as long as it is held."""
        while True:
            lease.tick()
            await trio.sleep(TICK_EVERY)

    async def _when_over(self, incarnation: Incarnation, over: trio.Event) -> None:
        """Lets another incarnation join although workers of this one will not end; they are reported."""
        await incarnation.over.wait()
        self.incarnation = None
        await trio.sleep(LINGER)
        busy = incarnation.busy()
        logger.error(
            "handlers of %s do not end though they were cancelled; these entities are not served here until they do",
            _shown(busy),
            extra={
                "event": "lingering",
                "pod": incarnation.member.incarnation,
                "count": len(busy),
                "entities": [str(entity) for entity in busy[:SHOWN]],
            },
        )
        self._lingering.append(incarnation)
        over.set()

    async def _give_up(self, now: Incarnation) -> None:
        """Hands on what older incarnations of this process still own."""
        while self._owed:
            old = Silent(self._owed[0], tuple(self._info.types))
            try:
                await self._store.reap(now.member, old, gave_up=True)
                self._owed.pop(0)
            except LeaseLost as lost:
                now.end_lease(str(lost))
                return
            except TrioqueueError as error:
                logger.warning(
                    "could not give up %s: %s",
                    old.incarnation,
                    error,
                    extra={
                        "event": "give_up_failed",
                        "pod": now.member.incarnation,
                        "silent": old.incarnation,
                    },
                )
                await trio.sleep(GIVE_UP_PAUSE)

    async def _hand_on(self, incarnation: Incarnation) -> None:
        """Gives up whatever is still ours at the end, and leaves the registry."""
        try:
            me = Silent(incarnation.member.incarnation, tuple(self._info.types))
            await self._store.reap(incarnation.member, me, gave_up=True)
            logger.info("%s has left", me.incarnation, extra={"event": "left", "pod": me.incarnation})
        except (LeaseLost, TrioqueueError) as error:
            logger.warning(
                "%s could not leave: %s",
                incarnation.member.incarnation,
                error,
                extra={"event": "leave_failed", "pod": incarnation.member.incarnation},
            )

    async def end(self, *, soft: bool) -> None:
        """Drains: nothing new is begun, handlers may end, then they are cancelled, and every entity is handed on.

        Cancelled: the pod ends without a goodbye, and is reaped for its silence.
        """
        self._ending.set()
        incarnation = self.incarnation
        if incarnation is not None:
            await self._drain_softly(incarnation, self._drain.soft if soft else 0.0)
            incarnation.cancel("the pod ends")
        with trio.move_on_after(self._drain.hard) as hard:
            await self._ended.wait()
        if hard.cancelled_caught:
            busy = incarnation.busy() if incarnation else []
            why = "that was more than Drain.hard is enough for, raise it"
            if busy:
                why = f"handlers of {_shown(busy)} do not end though they were cancelled"
            logger.error(
                "the pod ends before all it has was handed on, the rest is once its lease is over: %s",
                why,
                extra={
                    "event": "drain_overdue",
                    "pod": incarnation.member.incarnation if incarnation else "",
                    "count": len(busy),
                    "entities": [str(entity) for entity in busy[:SHOWN]],
                },
            )

    async def _drain_softly(self, incarnation: Incarnation, seconds: float) -> None:
        """Has entities let go of as soon as their handlers have ended, for so many seconds at most."""
        pod = incarnation.member.incarnation
        awake = incarnation.awake()
        logger.info(
            "%s drains: %d entities are awake, their handlers have %g s to end",
            pod,
            awake,
            seconds,
            extra={"event": "drain_begun", "pod": pod, "count": awake},
        )
        try:
            with trio.move_on_after(seconds):
                if awake:
                    await self._store.retire(incarnation.member)
                await incarnation.drain()
                await incarnation.wait_empty()
                logger.info("%s has drained", pod, extra={"event": "drained", "pod": pod})
                return
        except (LeaseLost, TrioqueueError) as error:
            logger.warning(
                "could not drain gracefully: %s", error, extra={"event": "drain_failed", "pod": pod}
            )
            return
        if busy := incarnation.handling():
            logger.warning(
                "%s has not drained in %g s, what still runs is cancelled, to run again elsewhere: %s",
                pod,
                seconds,
                _shown(busy),
                extra={
                    "event": "drain_cut_short",
                    "pod": pod,
                    "count": len(busy),
                    "entities": [str(entity) for entity in busy[:SHOWN]],
                },
            )


def _shown(entities: Sequence[Entity]) -> str:
    """Names a few of them."""
    more = f" and {len(entities) - SHOWN} more" if len(entities) > SHOWN else ""
    return ", ".join(map(str, entities[:SHOWN])) + more
