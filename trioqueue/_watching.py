"""Watching a fleet: the part of the queues that tells what happens to entities anywhere."""

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from trioqueue._errors import TrioqueueError
from trioqueue._names import legal_entity_type
from trioqueue.messages.event import EVERY_TYPE, Event
from trioqueue.runtime.listening import Listener, Listeners
from trioqueue.stores.contract import Store
from trioqueue.stores.service_nursery import open_service_nursery

logger = logging.getLogger("trioqueue.events")

WATCH_FOR = 15.0
"""Seconds after which nobody tells a watcher any more that has not said again that it watches."""

WATCH_AGAIN = 5.0
"""Seconds until it says so again: two of these may fail."""

FAREWELL = 1.0
"""Seconds that it may take to say that nobody watches any more."""


class Events:
    """What happens in the fleet; see `AtomicQueues.open_events`."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def __aiter__(self) -> "Events":
        return self

    async def __anext__(self) -> Event:
        """Waits for the next event."""
        event = await self._listener.next()
        if event is None:
            raise StopAsyncIteration
        return event


class Watching:
    """The part of the queues that watches."""

    _store: Store
    _listeners: Listeners

    if TYPE_CHECKING:

        def _check_open(self) -> None: ...

    @asynccontextmanager
    async def open_events(self, entity_type: str | None = None, /) -> AsyncGenerator[Events, None]:
        """Watches what happens to the entities of a type, or of all types, on all pods of the fleet.

        It is for watching and not for building on: an event may be lost, and comes some 50 ms late.  Those of one
        entity and pod come in their order.  Up to 10,000 wait for a reader that is slow; then the oldest are lost, and
        an `EventsMissed` says how many.  Events of before, and of the first moment after the opening, do not come.

        Pods tell nothing, and pay nothing, while nobody watches.

        Raises:
            StoreUnavailable: Nobody was told that somebody watches.

        Example:
            async with queues.open_events("account") as events:
                async for event in events:
                    print(event)
        """
        self._check_open()
        kind = EVERY_TYPE if entity_type is None else legal_entity_type(entity_type)
        listener = self._listeners.add(kind)
        try:
            await self._store.watch(kind, round(WATCH_FOR * 1000))
            async with open_service_nursery() as renewals:
                renewals.start_soon(self._watch_on, kind, name=f"watching {kind}")
                yield Events(listener)
        finally:
            if self._listeners.remove(listener):
                # Without the shield, pods would go on telling somebody who was cancelled for a while.
                with trio.move_on_after(FAREWELL, shield=True):
                    await self._watch_quietly(kind, 0)

    async def _watch_on(self, kind: str) -> None:
        """Says again and again that somebody watches, for ever."""
        while True:
            await trio.sleep(WATCH_AGAIN)
            await self._watch_quietly(kind, round(WATCH_FOR * 1000))

    async def _watch_quietly(self, kind: str, keep_ms: int) -> None:
        try:
            await self._store.watch(kind, keep_ms)
        except TrioqueueError as error:
            logger.warning("could not say who watches: %s", error, extra={"event": "watch_failed"})
