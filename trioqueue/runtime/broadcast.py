"""Telling the fleet what happens in this pod, as long as anybody listens.

It is an instrument that is switched on by those who listen: the store says so with each heartbeat, and by a hint when
the first one comes.  An answer may be read after a word that is newer than it; so what was asked before the newest one
came, or was asked for, counts for nothing, and the next heartbeat says it again.  What is to be told waits in memory
for a moment and goes out many at a time, so no worker waits for it, and a command costs no request.
"""

import logging
import math
import time
from collections import deque

import trio

from trioqueue._errors import TrioqueueError
from trioqueue._names import Entity
from trioqueue.messages.codec import Codec
from trioqueue.messages.event import (
    EVERY_TYPE,
    CommandDead,
    CommandFailed,
    CommandHandled,
    EntityAsleep,
    EntityAwake,
    EntityPaused,
    Event,
    PodLostLease,
    event_to_wire,
)
from trioqueue.protocol.instrument import Instrument
from trioqueue.runtime.instruments import Instruments
from trioqueue.stores.contract import Store

logger = logging.getLogger("trioqueue.events")

LINGER = 0.05
"""Seconds that an event waits for others to travel with."""

MOST = 200
"""Events in one message: some 30 KB."""

KEPT = 10_000
"""Events that wait to be sent at most; of more, the oldest are lost."""


class Broadcast(Instrument):
    """Tells of what happens in one pod."""

    def __init__(self, store: Store, codec: Codec, pod: str, instruments: Instruments) -> None:
        self._store, self._codec, self._pod = store, codec, pod
        self._instruments = instruments
        self._types: frozenset[str] = frozenset()
        self._known_at = -math.inf  # by `time.monotonic()`, when the newest word of it came or was asked for
        self._events: deque[Event] = deque(maxlen=KEPT)
        # How many there ever were: a listener sees by the numbers what it has missed.
        self._count = 0
        self._news = trio.Event()  # set while something waits

    def __repr__(self) -> str:
        return f"<Broadcast of {self._pod}, {len(self._events)} waiting>"

    def hinted(self, types: tuple[str, ...]) -> None:
        """Takes which types somebody wants to be told of from now on; none: nobody does."""
        self._watched(types, time.monotonic())

    def answered(self, types: tuple[str, ...], asked_at: float) -> None:
        """Takes the same from an answer, and when it was asked for by `time.monotonic()`."""
        if asked_at > self._known_at:
            self._watched(types, asked_at)

    def _watched(self, types: tuple[str, ...], known_at: float) -> None:
        self._types, self._known_at = frozenset(types), known_at
        self._instruments.switch(self, on=bool(types))

    async def run(self) -> None:
        """Sends, for ever, what there is to tell."""
        while True:
            await self._news.wait()
            await trio.sleep(LINGER)
            await self.flush()

    async def flush(self) -> None:
        """Sends what there is to tell; what can't be sent is lost."""
        self._news = trio.Event()
        while self._events:
            first = self._count - len(self._events)
            batch = [self._events.popleft() for _ in range(min(MOST, len(self._events)))]
            told = {
                "client": self._store.client,
                "pod": self._pod,
                "first": first,
                "events": [event_to_wire(event) for event in batch],
            }
            asked_at = time.monotonic()
            try:
                heard = await self._store.tell_events(self._codec.dumps(told))
            except TrioqueueError as error:
                lost = len(batch) + len(self._events)
                self._events.clear()  # what stayed would never be sent: the news of it was
                logger.warning(
                    "could not tell %d events: %s",
                    lost,
                    error,
                    extra={"event": "events_lost", "count": lost},
                )
                return
            if not heard:
                self.answered((), asked_at)
                if not self._types:
                    self._events.clear()

    def _tell(self, entity_type: str, event: Event) -> None:
        if entity_type in self._types or EVERY_TYPE in self._types:
            self._add(event)

    def _add(self, event: Event) -> None:
        self._count += 1
        self._events.append(event)
        if len(self._events) == 1:
            self._news.set()

    # -------------------------------------------------------------------------------- what happens
    def claimed(self, entity: Entity) -> None:
        self._tell(entity.type, EntityAwake(self._pod, *entity))

    def passivated(self, entity: Entity) -> None:
        self._tell(entity.type, EntityAsleep(self._pod, *entity, idle=True))

    def handed_off(self, entity: Entity) -> None:
        self._tell(entity.type, EntityAsleep(self._pod, *entity, idle=False))

    def handled(
        self, entity: Entity, command: str, command_id: str, outcome: str, waited: float, duration: float
    ) -> None:
        self._tell(
            entity.type,
            CommandHandled(self._pod, *entity, command, command_id, outcome, waited, duration),
        )

    def failed(
        self, entity: Entity, command: str, command_id: str, attempt: int, again_in: float, error: str
    ) -> None:
        self._tell(
            entity.type, CommandFailed(self._pod, *entity, command, command_id, attempt, again_in, error)
        )

    def dead(self, entity: Entity, command: str, command_id: str, attempts: int, error: str) -> None:
        self._tell(entity.type, CommandDead(self._pod, *entity, command, command_id, attempts, error))

    def paused(self, entity: Entity, why: str) -> None:
        self._tell(entity.type, EntityPaused(self._pod, *entity, why))

    def lease_lost(self, why: str) -> None:
        self._add(PodLostLease(self._pod, why))
