"""Keeping entities awake that a scaler names: every pod that serves them waits for its ticks, and one may run it.

What is kept awake is known to nobody but the owners, each for a while that is some ticks long.  Who runs the scaler
has the store tell them, tick after tick, and gives to pods what nobody owns.  So nothing has to be repaired: a hint
that was lost is made up for by the next tick, and what a dead pod had kept awake comes awake elsewhere with the first
tick after its entities were handed on.
"""

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any, cast

import attrs
import trio

from trioqueue._errors import BadDeclaration, BadEntityId, TrioqueueError
from trioqueue._names import Entity, entity_id_text
from trioqueue.messages.registry import Registry
from trioqueue.messages.schedule import next_multiple
from trioqueue.protocol.turn import single_leaf
from trioqueue.runtime.incarnation import Incarnation
from trioqueue.runtime.recurring import AGAIN_AFTER, LOOK_AFTER
from trioqueue.runtime.service import missing
from trioqueue.stores.contract import CHUNK, LeaseLost, Store
from trioqueue.stores.reports import Tick

logger = logging.getLogger("trioqueue.pod")

KEEP_TICKS = 3
"""Ticks for which an entity stays awake without being named again: one may be lost with its pod, and one be late."""

SERVING_POLL = 0.1
"""Seconds between two looks whether this pod serves: while it joins anew, or ends."""


@attrs.frozen(eq=False)
class BoundScaler:
    """A scaler with all that it asks for."""

    entity_type: str
    every: int
    ids: Callable[[], AsyncIterator[Any]]
    qualname: str

    @property
    def schedule(self) -> str:
        """What the store knows its ticks by; the same whatever the interval, so that a roll-out has one of them."""
        return f"{self.entity_type} is kept awake"


def build_scalers(
    registry: Registry, types: frozenset[str], provide: Mapping[type[Any], Any]
) -> list[BoundScaler]:
    """Finds everything that the scalers of these types ask for.

    Raises:
        BadDeclaration: One asks for something nobody provides.
    """
    bound: list[BoundScaler] = []
    for scaler in registry.scalers():
        if scaler.entity_type in types:
            for parameter, wanted in scaler.parameters:
                if wanted not in provide and parameter not in scaler.optional:
                    raise BadDeclaration(missing(scaler.qualname, parameter, wanted))
            fixed = {name: provide[wanted] for name, wanted in scaler.parameters if wanted in provide}

            def ids(
                run: Callable[..., AsyncIterator[Any]] = scaler.ids, fixed: dict[str, Any] = fixed
            ) -> AsyncIterator[Any]:
                return run(**fixed)

            bound.append(BoundScaler(scaler.entity_type, scaler.every, ids, scaler.qualname))
    return bound


async def keep_awake(store: Store, scaler: BoundScaler, serving: Callable[[], Incarnation | None]) -> None:
    """Runs a scaler at those of its ticks that the store gives to this pod, for ever.

    `serving` names the incarnation that takes work now; while there is none, the ticks are left to others.
    """
    while True:
        incarnation = serving()
        if incarnation is None or incarnation.draining():
            await trio.sleep(SERVING_POLL)
            continue
        try:
            tick = await _move_on(store, scaler)
        except TrioqueueError as error:
            _late(scaler, error)
            await trio.sleep(AGAIN_AFTER)
            continue
        if tick.moved:
            await _Keeping(store, scaler, incarnation).run()
        elif tick.next_ms is not None:  # after a run the store is asked what time it is by now
            await trio.sleep(max(0.0, min((tick.next_ms - tick.now_ms) / 1000, LOOK_AFTER)))


def _late(scaler: BoundScaler, error: TrioqueueError) -> None:
    logger.warning(
        "could not keep entities of %s awake: %s",
        scaler.entity_type,
        error,
        extra={"event": "scaler_late", "entity_type": scaler.entity_type},
    )


async def _move_on(store: Store, scaler: BoundScaler) -> Tick:
    """Looks at the ticks, and makes the one that is due, or the very first one."""
    seen = await store.tick(scaler.schedule, None, None)
    if seen.next_ms is not None and seen.next_ms > seen.now_ms:
        return seen
    return await store.tick(scaler.schedule, seen.next_ms, next_multiple(scaler.every, seen.now_ms))


class _Keeping:
    """One run of a scaler."""

    def __init__(self, store: Store, scaler: BoundScaler, incarnation: Incarnation) -> None:
        self._store, self._scaler, self._incarnation = store, scaler, incarnation
        self._named: dict[Entity, None] = {}  # and not kept yet, in their order
        self._homeless = 0

    async def run(self) -> None:
        """Keeps awake what it yields; what fails is logged, and made up for by the next run."""
        try:
            await self._collect()
        except Exception as error:
            self._failed(error)
        except BaseExceptionGroup as group:
            # Cancelled from outside, and the scaler raised an error meanwhile: that is not the pod's end.
            cancelled, errors = group.split(trio.Cancelled)
            if cancelled is None or not isinstance(errors, ExceptionGroup):
                raise
            self._failed(cast("ExceptionGroup[Exception]", errors))
            raise cancelled from None
        await self._keep()
        if self._homeless:
            logger.warning(
                "%d entities of %s should be kept awake and no pod has room for them: "
                "raise Limits.owned, or start more pods",
                self._homeless,
                self._scaler.entity_type,
                extra={
                    "event": "kept_homeless",
                    "entity_type": self._scaler.entity_type,
                    "pod": self._incarnation.member.incarnation,
                    "count": self._homeless,
                },
            )

    async def _collect(self) -> None:
        ids = cast("AsyncGenerator[Any]", self._scaler.ids())
        async with aclosing(ids):
            async for value in ids:
                try:
                    entity = Entity(self._scaler.entity_type, entity_id_text(value))
                except BadEntityId as error:
                    logger.error(  # noqa: TRY400 - its sentence says it all
                        "%s names what is no entity: %s",
                        self._scaler.qualname,
                        error,
                        extra={
                            "event": "scaler_bad_id",
                            "entity_type": self._scaler.entity_type,
                            "pod": self._incarnation.member.incarnation,
                        },
                    )
                    continue
                self._named[entity] = None
                if len(self._named) == CHUNK:
                    await self._keep()

    async def _keep(self) -> None:
        named, self._named = list(self._named), {}
        if not named:
            return
        try:
            self._homeless += await self._store.keep(
                self._incarnation.member, named, KEEP_TICKS * self._scaler.every
            )
        except LeaseLost as lost:
            self._incarnation.end_lease(str(lost))
        except TrioqueueError as error:
            _late(self._scaler, error)

    def _failed(self, error: Exception) -> None:
        logger.error(
            "the scaler %s failed, it runs again in %.1f s",
            self._scaler.qualname,
            self._scaler.every / 1000,
            exc_info=single_leaf(error),
            extra={
                "event": "scaler_failed",
                "entity_type": self._scaler.entity_type,
                "pod": self._incarnation.member.incarnation,
            },
        )
