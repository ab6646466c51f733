"""Listeners of one client: what they are told of the fleet, the newest of it."""

from collections import deque
from typing import Any, cast

import trio

from trioqueue._errors import DecodeError
from trioqueue.messages.codec import Codec
from trioqueue.messages.event import Event, EventsMissed, concerns, event_from_wire

KEPT = 10_000
"""Events that wait for a listener at most; of more, the oldest are lost, and it is told how many."""


class Listener:
    """Waits for events of one type, or of all."""

    def __init__(self, entity_type: str) -> None:
        self.entity_type = entity_type
        self._events: deque[Event] = deque()
        self._missed = 0
        self._news = trio.Event()
        self._closed = False

    def tell(self, event: Event) -> None:
        """Takes an event."""
        if len(self._events) >= KEPT:
            self._events.popleft()
            self._missed += 1
        self._events.append(event)
        self._news.set()

    def close(self) -> None:
        """Ends it, once all that came is read."""
        self._closed = True
        self._news.set()

    async def next(self) -> Event | None:
        """Waits for the next event; None: there won't be any."""
        await trio.lowlevel.checkpoint()
        while not self._events:
            if self._closed:
                return None
            self._news = trio.Event()
            await self._news.wait()
        if self._missed:
            missed, self._missed = self._missed, 0
            return EventsMissed("", missed)
        return self._events.popleft()


class Listeners:
    """All of them."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._listeners: list[Listener] = []
        self._next: dict[str, int] = {}  # client of a pod -> the number of its next event

    def add(self, entity_type: str) -> Listener:
        """Begins to listen."""
        listener = Listener(entity_type)
        self._listeners.append(listener)
        return listener

    def remove(self, listener: Listener) -> bool:
        """Ends it; True: nobody listens to its type any more."""
        self._listeners.remove(listener)
        if not self._listeners:
            self._next.clear()
        return all(other.entity_type != listener.entity_type for other in self._listeners)

    def close(self) -> None:
        """Ends all of them."""
        for listener in self._listeners:
            listener.close()

    def take(self, data: bytes) -> None:
        """Takes what a pod tells; what no pod has told is left alone."""
        try:
            told = self._codec.loads(data)
        except DecodeError:
            return
        match told:
            case {"client": str(client), "pod": str(pod), "first": int(first), "events": list()}:
                events = cast("list[Any]", told["events"])
            case _:
                return
        missed = first - self._next.get(client, first)
        self._next[client] = first + len(events)
        if missed > 0:
            self._tell(EventsMissed(pod, missed))
        for wire in events:
            event = event_from_wire(pod, wire)
            if event is not None:
                self._tell(event)

    def _tell(self, event: Event) -> None:
        for listener in self._listeners:
            if concerns(event, listener.entity_type):
                listener.tell(event)
