"""Telling instruments what happens, in such a way that nobody pays for it where there is none.

Who has something to tell asks first whether `active` is empty, which is all that it costs then.
"""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, TypeAlias, cast, overload

import trio

from trioqueue._errors import TrioqueueError
from trioqueue._names import Entity
from trioqueue.messages.codec import Codec
from trioqueue.messages.command import Command, entity_of, info_of
from trioqueue.messages.envelope import Envelope, decode_envelope
from trioqueue.protocol.instrument import HandlerCancelled, Instrument, SentBy
from trioqueue.protocol.outcome import WORDS, Outcome
from trioqueue.protocol.turn import Cancelled, Ending, Expired, Raised, Returned, single_leaf
from trioqueue.stores.contract import Outgoing

logger = logging.getLogger("trioqueue.instruments")

UNANSWERED = "unanswered"
"""In place of the outcome of a call: the caller has gone."""


Fact: TypeAlias = tuple[Envelope | None, Outcome, float, float | None, float] | Callable[[], None]
"""What is to be told of a turn once it stands.

As nearly always, that a command has left its mailbox: its envelope, if it can be read, its outcome, and when it was
accepted, when its handler began, if one did, and when the turn ended, by the clock of turns.  Else what tells it.
"""


class Around(AbstractContextManager[Mapping[str, str] | None]):
    """What instruments have put round one thing that happens; entered when it is made.

    `added`: the headers that they add; None: none.
    """

    __slots__ = ("_entered", "_failed", "added")

    def __init__(self, failed: Callable[[Instrument, Exception], None]) -> None:
        self.added: Mapping[str, str] | None = None
        self._entered: list[tuple[Instrument, AbstractContextManager[object]]] = []
        self._failed = failed  # is told whose manager has raised what

    def enter(self, instrument: Instrument, manager: AbstractContextManager[object]) -> object:
        """Enters one more, and returns what that gives."""
        given = manager.__enter__()
        self._entered.append((instrument, manager))
        return given

    def __enter__(self) -> Mapping[str, str] | None:
        return self.added

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self.leave(error)

    def leave(self, error: BaseException | None) -> None:
        """Leaves them all, the last one first."""
        what = (type(error), error, error.__traceback__) if error is not None else (None, None, None)
        while self._entered:
            instrument, manager = self._entered.pop()
            try:
                manager.__exit__(*what)
            except Exception as failure:
                self._failed(instrument, failure)


class _Nobody(AbstractContextManager[None]):
    """Is round what no instrument wants to be round."""

    __slots__ = ()

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        return None


NOBODY = _Nobody()
"""Serves for all, as there is nothing to it."""


class _Named(Sequence[tuple[Entity, str, str]]):
    """Commands by entity, name and id, found when they are looked at: most of those that are asked do not look.

    `refused`: why one of them can't be sent, once it was looked at.
    """

    __slots__ = ("_commands", "refused")

    def __init__(self, commands: Sequence[tuple[Command[Any], str]]) -> None:
        self._commands = commands
        self.refused: TrioqueueError | None = None

    def __repr__(self) -> str:
        return repr(list(self))

    def __len__(self) -> int:
        return len(self._commands)

    @overload
    def __getitem__(self, index: int) -> tuple[Entity, str, str]: ...
    @overload
    def __getitem__(self, index: slice) -> list[tuple[Entity, str, str]]: ...
    def __getitem__(self, index: int | slice) -> tuple[Entity, str, str] | list[tuple[Entity, str, str]]:
        if isinstance(index, slice):
            return [self[n] for n in range(*index.indices(len(self)))]
        command, command_id = self._commands[index]
        try:
            return entity_of(command), info_of(command).name, command_id
        except TrioqueueError as error:
            self.refused = error
            raise


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
        # Those of them that are told of every command, and asked about every handler.
        self.want_handled, self.want_handling = self.wanting("handled"), self.wanting("handling")
        self._failed: set[tuple[int, str]] = set()  # what was logged: which instrument, and its method

    def switch(self, instrument: Instrument, *, on: bool) -> None:
        """Adds an instrument that is not always told, or takes it out."""
        if on and instrument not in self.active:
            self.active.append(instrument)
        elif not on and instrument in self.active:
            self.active.remove(instrument)
        self._wanting = {}  # and not changed, as one of them may be switched off by what it is told
        self.want_handled, self.want_handling = self.wanting("handled"), self.wanting("handling")

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
            try:
                name = repr(instrument)
            except Exception:  # what fails may well fail there too
                name = type(instrument).__qualname__
            logger.error(
                "the instrument %s failed in %s; further failures there are not logged",
                name,
                what,
                exc_info=error,
                extra={"event": "instrument_failed", "instrument": name, "method": what},
            )

    def sending(self, commands: Sequence[tuple[Entity, str, str]], how: SentBy) -> Around | None:
        around: Around | None = None
        for one in self.wanting("sending"):
            try:
                manager = one.sending(commands, how)
                if manager is not None:
                    around = around or Around(partial(self._log_failure, "sending"))
                    if given := around.enter(one, manager):
                        around.added = {**(around.added or {}), **_as_headers(given)}
            except Exception as error:
                if isinstance(commands, _Named) and error is commands.refused:  # that is the sender's error
                    if around is not None:
                        around.leave(error)
                    raise
                self._log_failure("sending", one, error)
        return around

    def sending_these(
        self, commands: Sequence[tuple[Command[Any], str]], how: SentBy
    ) -> AbstractContextManager[Mapping[str, str] | None]:
        """Enters what is to be round the sending of commands, given with their ids; gives the headers to add.

        Raises:
            NotRegistered, BadEntityId: One of them can't be sent, and an instrument has looked at it.
        """
        if not commands or not self.wanting("sending"):
            return NOBODY
        return self.sending(_Named(commands), how) or NOBODY

    def handling(
        self, entity: Entity, command: str, command_id: str, attempt: int, headers: Mapping[str, str]
    ) -> Around | None:
        around: Around | None = None
        for one in self.want_handling:
            try:
                manager = one.handling(entity, command, command_id, attempt, headers)
                if manager is not None:
                    around = around or Around(partial(self._log_failure, "handling"))
                    around.enter(one, manager)
            except Exception as error:
                self._log_failure("handling", one, error)
        return around

    def sent(self, entity_type: str, command: str, count: int) -> None:
        self._each("sent", lambda one: one.sent(entity_type, command, count))

    def sent_each(self, names: Iterable[tuple[str, str]]) -> None:
        """Tells of several commands, given by type and name."""
        for (entity_type, command), count in Counter(names).items():
            self.sent(entity_type, command, count)

    def sent_these(self, commands: Iterable[Command[Any]]) -> None:
        """Tells of several commands, which are counted by their classes."""
        for cls, count in Counter(map(type, commands if self.wanting("sent") else ())).items():
            info = info_of(cls)
            self.sent(info.entity, info.name, count)

    def called(self, entity_type: str, command: str, outcome: str, seconds: float) -> None:
        self._each("called", lambda one: one.called(entity_type, command, outcome, seconds))

    def claimed(self, entity: Entity) -> None:
        self._each("claimed", lambda one: one.claimed(entity))

    def passivated(self, entity: Entity) -> None:
        self._each("passivated", lambda one: one.passivated(entity))

    def handed_off(self, entity: Entity) -> None:
        self._each("handed_off", lambda one: one.handed_off(entity))

    # -------------------------------------------------------------------------------- of one turn
    def observe(
        self, entity: Entity, envelope: Envelope, attempt: int, run: Awaitable[Ending | None]
    ) -> Awaitable[Ending | None]:
        """Puts round a handler, which is to be awaited at once, what instruments want there; gives what to await."""
        around = self.handling(entity, envelope.name, envelope.command_id, attempt, envelope.headers)
        return run if around is None else _observed(around, run)

    def fact_of_children(self, codec: Codec, children: Sequence[Outgoing]) -> Fact:
        """Makes what there is to tell of the commands that a handler sends."""
        names = [(one.entity.type, decode_envelope(codec, *one[:2]).name) for one in children]
        return partial(self.sent_each, names)

    def facts_of_retry(
        self, entity: Entity, envelope: Envelope, attempt: int, again_in: float, error: BaseException
    ) -> list[Fact]:
        """Lists what there is to tell of a command that is tried again."""
        if not self.active:
            return []
        what = (entity, envelope.name, envelope.command_id, attempt, again_in, type(error).__name__)
        return [partial(self.failed, *what)]

    def facts_of_death(
        self, entity: Entity, envelope: Envelope | None, command_id: str, attempts: int, error: BaseException
    ) -> list[Fact]:
        """Lists what there is to tell of a command that becomes a dead letter, beside its end."""
        if not self.active:
            return []
        what = (entity, envelope.name if envelope else "", command_id, attempts, type(error).__name__)
        return [partial(self.dead, *what)]

    def tell(self, entity: Entity, facts: Iterable[Fact]) -> None:
        """Tells of an entity's turns what stands now, in order."""
        handled = self.want_handled
        for fact in cast("Iterable[Any]", facts):  # one look at a class tells them apart
            if fact.__class__ is not tuple:
                fact()
                continue
            # Done for every command: no call but that of the instrument.
            envelope, outcome, accepted, began, ended = fact
            if began is None:
                began = ended
            waited = began - accepted if began > accepted else 0.0  # below it by the clocks of two machines
            name, command_id = (envelope.name, envelope.command_id) if envelope is not None else ("", "")
            word = WORDS[outcome.kind]
            for one in handled:
                try:
                    one.handled(entity, name, command_id, word, waited, ended - began)
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


async def _observed(around: Around, run: Awaitable[Ending | None]) -> Ending | None:
    try:
        ending = await run
    except BaseException as error:
        around.leave(error)
        raise
    around.leave(_error_of(ending))
    return ending


def _overrides(instrument: Instrument, what: str) -> bool:
    return getattr(getattr(instrument, what, None), "__func__", None) is not getattr(Instrument, what)


def _as_headers(given: object) -> dict[str, str]:
    """Checks what an instrument wants to have travel: else its mistake would be the sender's error."""
    headers = dict(cast("Mapping[Any, Any]", given))
    if not all(isinstance(part, str) for pair in headers.items() for part in pair):
        raise TypeError("it adds headers whose names or values are not text")
    for pair in headers.items():
        "".join(pair).encode()  # raises for lone surrogates, which can't travel
    return headers


def _error_of(ending: Ending | None) -> BaseException | None:
    """Says by what error a handler has ended, or what stands for that; None: it returned."""
    match ending:
        case Returned():
            return None
        case Raised(error):
            return single_leaf(error)
        case Expired():
            return HandlerCancelled("expired")
        case Cancelled():
            return HandlerCancelled("cancelled")
        case None:
            return HandlerCancelled("let go")
