"""Telling instruments what happens, in such a way that nobody pays for it where there is none.

Who has something to tell asks first whether `active` is empty, which is all that it costs then.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import trio

from trioqueue._names import Entity
from trioqueue.messages.codec import Codec
from trioqueue.messages.envelope import Envelope, decode_envelope
from trioqueue.protocol.instrument import Instrument
from trioqueue.stores.contract import Outgoing

logger = logging.getLogger("trioqueue.instruments")


class Instruments(Instrument):
    """All instruments of a process, told as one.

    `now` reads the clock by which turns are measured: Trio's, which `trio.current_time` has to look for each time.
    """

    def __init__(
        self, given: Iterable[Instrument] = (), now: Callable[[], float] = trio.current_time
    ) -> None:
        self.active: list[Instrument] = list(given)
        self.now = now
        # Of `active`, those that override a method, by its name; filled as methods are asked for.
        self._wanting: dict[str, list[Instrument]] = {}
        self._want_handled = self.wanting("handled")  # which is told of every command
        self._failed: set[tuple[int, str]] = set()  # what was logged: which instrument, and its method

    def switch(self, instrument: Instrument, *, on: bool) -> None:
        """Adds an instrument that is not always told, or takes it out."""
        if on and instrument not in self.active:
            self.active.append(instrument)
        elif not on and instrument in self.active:
            self.active.remove(instrument)
        self._wanting = {}  # and not changed, as one of them may be switched off by what it is told
        self._want_handled = self.wanting("handled")

    def wanting(self, what: str) -> list[Instrument]:
        """Lists those that override a method: the others have nothing to be told."""
        found = self._wanting.get(what)
        if found is None:
            found = self._wanting[what] = [one for one in self.active if _overrides(one, what)]
        return found

    def _each(self, what: str, tell: Callable[[Instrument], None]) -> None:
        for instrument in self.wanting(what):
            try:
                tell(instrument)
            except Exception as error:
                self._log_failure(what, instrument, error)

    def _log_failure(self, what: str, instrument: Instrument, error: Exception) -> None:
        key = (id(instrument), what)
        if key not in self._failed:
            self._failed.add(key)
            logger.error(
                "the instrument %r failed in %s; further failures there are not logged",
                instrument,
                what,
                exc_info=error,
                extra={"event": "instrument_failed"},
            )

    def sent(self, entity_type: str, command: str, count: int) -> None:
        self._each("sent", lambda one: one.sent(entity_type, command, count))

    def sent_each(self, names: Iterable[tuple[str, str]]) -> None:
        """Tells of several commands, given by type and name."""
        for (entity_type, command), count in Counter(names).items():
            self.sent(entity_type, command, count)

    def called(self, entity_type: str, command: str, outcome: str, seconds: float) -> None:
        self._each("called", lambda one: one.called(entity_type, command, outcome, seconds))

    def claimed(self, entity: Entity) -> None:
        self._each("claimed", lambda one: one.claimed(entity))

    def passivated(self, entity: Entity) -> None:
        self._each("passivated", lambda one: one.passivated(entity))

    def handed_off(self, entity: Entity) -> None:
        self._each("handed_off", lambda one: one.handed_off(entity))

    def handled(
        self, entity: Entity, command: str, command_id: str, outcome: str, waited: float, duration: float
    ) -> None:
        for one in self._want_handled:  # as `_each` does, without a call that every command would pay for
            try:
                one.handled(entity, command, command_id, outcome, waited, duration)
            except Exception as error:
                self._log_failure("handled", one, error)

    def failed(
        self, entity: Entity, command: str, command_id: str, attempt: int, again_in: float, error: str
    ) -> None:
        self._each("failed", lambda one: one.failed(entity, command, command_id, attempt, again_in, error))

    def dead(self, entity: Entity, command: str, command_id: str, attempts: int, error: str) -> None:
        self._each("dead", lambda one: one.dead(entity, command, command_id, attempts, error))

    def paused(self, entity: Entity, why: str) -> None:
        self._each("paused", lambda one: one.paused(entity, why))

    def lease_lost(self, why: str) -> None:
        self._each("lease_lost", lambda one: one.lease_lost(why))

    def fenced(self, entity: Entity) -> None:
        self._each("fenced", lambda one: one.fenced(entity))


class TurnFacts:
    """What there is to tell of one turn, once it stands.

    It is made for every command, so nothing is made in advance that few turns need.
    """

    __slots__ = ("_accepted_at", "_began", "_entity", "_handled", "_instruments", "_last", "_sent")

    def __init__(self, instruments: Instruments, entity: Entity, accepted_at: float) -> None:
        self._instruments = instruments
        self._entity = entity
        self._accepted_at = accepted_at  # its command, on Trio's clock
        self._began: float | None = None  # its handler
        self._sent: Sequence[tuple[str, str]] = ()  # types and names of what it sends
        self._handled: tuple[str, str, str, float, float] | None = None  # None: the command stays
        self._last: Callable[[], None] | None = None  # tells of a failure, which most have not

    def begin(self) -> None:
        """Notes that its handler starts now."""
        self._began = self._instruments.now()

    def tell(self) -> None:
        """Tells it all, in order."""
        if self._sent:
            self._instruments.sent_each(self._sent)
        if self._handled is not None:
            self._instruments.handled(self._entity, *self._handled)
        if self._last is not None:
            self._last()

    def finished(
        self, envelope: Envelope | None, outcome: str, codec: Codec, sent: Sequence[Outgoing]
    ) -> None:
        """Notes that the command leaves its mailbox, with what its handler sends."""
        now = self._instruments.now()
        began = now if self._began is None else self._began
        waited = max(0.0, began - self._accepted_at)  # below it by the clocks of two machines
        name, command_id = (envelope.name, envelope.command_id) if envelope is not None else ("", "")
        if sent:
            self._sent = [(one.entity.type, decode_envelope(codec, *one[:2]).name) for one in sent]
        self._handled = (name, command_id, outcome, waited, now - began)

    def failed(self, envelope: Envelope, attempt: int, again_in: float, error: BaseException) -> None:
        """Notes that the command is tried again."""
        what = (self._entity, envelope.name, envelope.command_id, attempt, again_in, type(error).__name__)
        self._last = partial(self._instruments.failed, *what)

    def dead(self, envelope: Envelope | None, command_id: str, attempts: int, error: BaseException) -> None:
        """Notes that the command becomes a dead letter."""
        name = envelope.name if envelope else ""
        what = (self._entity, name, command_id, attempts, type(error).__name__)
        self._last = partial(self._instruments.dead, *what)


def _overrides(instrument: Instrument, what: str) -> bool:
    return getattr(getattr(instrument, what), "__func__", None) is not getattr(Instrument, what)
