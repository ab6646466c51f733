"""Looking into a fleet and steering it: what an operator does with entities, types and dead letters."""

import base64
from typing import TYPE_CHECKING, Any, Literal

import attrs

from trioqueue._errors import DecodeError
from trioqueue._mailbox import Mailbox, explain, mailbox_of
from trioqueue._names import Entity, entity_id_text, legal_entity_type
from trioqueue.messages.codec import Codec
from trioqueue.messages.envelope import decode_envelope
from trioqueue.protocol.outcome import Kind, Outcome
from trioqueue.stores.contract import CHUNK, KEEP_CANCELLED_MS, Purged, Store
from trioqueue.stores.reports import Letter, Queued

OPERATOR = "by an operator"


@attrs.frozen
class DeadLetter:
    """A command that failed for good.

    Attributes:
        entity_type: The type of the entity it was for.
        entity_id: The entity's id.
        command_id: Its id.
        command: Its wire name; "" if its envelope can't be read.
        error: The last error, as text.
        traceback: The last error's traceback.  After a timeout it begins with the line where the handler was then.
        tasks: The tasks that its entity still had when the handler had failed, those of `Context.nursery` and of the
            activation, and where each of them waited; "" where there was none.
        attempts: How often its handler failed; 0: none ever ran to an end, as nobody could read the command, or knew
            it, or as pods died with it.
        crashes: Pods that died while they had it.
        accepted_at: When it was accepted, or redelivered last, in seconds of the store's clock since the epoch.
        died_at: When it was given up.
        envelope: What travelled, byte by byte.
    """

    entity_type: str
    entity_id: str
    command_id: str
    command: str
    error: str
    traceback: str = attrs.field(repr=False)
    tasks: str = attrs.field(repr=False)
    attempts: int
    crashes: int
    accepted_at: float
    died_at: float
    envelope: bytes = attrs.field(repr=False)


class Operating:
    """The part of the queues that looks and steers."""

    _store: Store
    _codec: Codec

    if TYPE_CHECKING:

        def _check_open(self) -> None: ...

    # -------------------------------------------------------------------------------- looking
    async def inspect(self, entity_type: str, entity_id: object, /) -> Mailbox:
        """Reads all that the store knows of an entity, at one moment, in one round trip and without waking it."""
        self._check_open()
        entity = _entity(entity_type, entity_id)
        return mailbox_of(self._codec, entity, await self._store.inspect(entity))

    async def explain(self, entity_type: str, entity_id: object, /) -> str:
        """Says in one sentence why nothing happens with an entity, or what will."""
        return explain(await self.inspect(entity_type, entity_id))

    async def dead_letters(
        self, entity_type: str, /, *, offset: int = 0, count: int = 100
    ) -> list[DeadLetter]:
        """Reads dead letters of a type, oldest first.

        Args:
            entity_type: The type.
            offset: How many of the oldest to leave out.
            count: How many to read at most.

        Raises:
            ValueError: `offset` is below 0, or `count` below 1.
        """
        self._check_open()
        if offset < 0 or count < 1:
            raise ValueError(f"offset is 0 or more and count 1 or more, not {offset} and {count}")
        kind = legal_entity_type(entity_type)
        letters = await self._store.letters(kind, offset, count)
        return [self._dead_letter(letter) for letter in letters]

    def _dead_letter(self, letter: Letter) -> DeadLetter:
        record: dict[str, Any] = self._codec.loads(letter.record)
        entity = Entity(*str(record["entity"]).split("/", 1))
        envelope = _raw_of(record)
        try:
            command = decode_envelope(self._codec, entity, envelope).name
        except DecodeError:
            command = ""
        return DeadLetter(
            entity_type=entity.type,
            entity_id=entity.id,
            command_id=letter.command_id,
            command=command,
            error=record["error"],
            traceback=record.get("traceback", ""),
            tasks=record.get("tasks", ""),
            attempts=record["attempts"],
            crashes=record["crashes"],
            accepted_at=record["accepted_us"] / 1e6,
            died_at=letter.died_us / 1e6,
            envelope=envelope,
        )

    # -------------------------------------------------------------------------------- steering
    async def pause(
        self, entity_type: str, entity_id: object | None = None, /, *, why: str = OPERATOR
    ) -> bool:
        """Holds an entity back, or without an id all entities of a type: nothing of it starts any more.

        A handler that runs goes on, and its turn is committed.  What is sent queues in its order; delays and expiries
        run on.  It holds through restarts of pods and of the store, until `resume`.

        Args:
            entity_type: The type.
            entity_id: Whose; None: of all of the type.
            why: Told by `inspect` and `explain`.

        Returns:
            False: It was paused already.
        """
        self._check_open()
        if entity_id is None:
            return await self._store.hold(legal_entity_type(entity_type), why or OPERATOR)
        return await self._store.pause(_entity(entity_type, entity_id), why or OPERATOR)

    async def resume(self, entity_type: str, entity_id: object | None = None, /) -> bool:
        """Lets an entity go on that was paused, or all entities of a type that was.

        A head that was given up begins anew, with all its attempts.  An entity that is paused itself stays so when its
        type is resumed.

        Returns:
            False: It was not paused.
        """
        self._check_open()
        if entity_id is None:
            return await self._store.hold(legal_entity_type(entity_type), "")
        return await self._store.pause(_entity(entity_type, entity_id), "")

    async def purge(self, entity_type: str, entity_id: object, /) -> int:
        """Takes all commands out of an entity's mailbox, unhandled; callers who wait get `CallCancelled`.

        What its handler does meanwhile will not stand, and the command it has in hand is gone too.  Its state stays,
        and so do commands that are put off.  It goes a hundred commands at a time: pause the entity before, if none of
        the later ones may start in between.

        Returns:
            How many were taken out.
        """
        self._check_open()
        entity = _entity(entity_type, entity_id)
        outcome = self._codec.dumps(Outcome(Kind.CANCELLED).to_wire())
        purged = 0
        while commands := await self._store.queued(entity, 0, CHUNK):
            tell = [self._told_of(entity, command) for command in commands]
            if await self._store.purge(entity, commands, tell, outcome):
                purged += len(commands)
        return purged

    def _told_of(self, entity: Entity, command: Queued) -> Purged:
        """Says who is told of a purged command."""
        try:
            envelope = decode_envelope(self._codec, entity, command.data)
        except DecodeError:
            return Purged("?")
        if envelope.reply_to is None and not envelope.keep_ms:
            return Purged(envelope.command_id)
        return Purged(envelope.command_id, envelope.reply_to or "", max(KEEP_CANCELLED_MS, envelope.keep_ms))

    async def redeliver(self, letter: DeadLetter, /, *, to: Literal["tail", "head"] = "tail") -> bool:
        """Puts a dead letter back into its entity's mailbox, with all its attempts; `status` is "pending" from then on.

        At the tail it comes after everything that is queued.  At the head it comes first: a command that waits out a
        backoff starts right behind it, and what a handler does at this moment does not stand and is done once more.

        Returns:
            False: Somebody has redelivered or discarded it.

        Raises:
            ValueError: `to` is something else; the dead letter stays.
        """
        self._check_open()
        if to not in ("tail", "head"):
            raise ValueError(f"to is 'tail' or 'head', not {to!r}")
        entity = Entity(letter.entity_type, letter.entity_id)
        return await self._store.redeliver(entity, letter.command_id, to, letter.envelope)

    async def discard(self, letter: DeadLetter, /) -> bool:
        """Deletes a dead letter for good; False: it was redelivered or discarded already."""
        self._check_open()
        entity = Entity(letter.entity_type, letter.entity_id)
        return await self._store.redeliver(entity, letter.command_id, "nowhere")


def _entity(entity_type: str, entity_id: object) -> Entity:
    return Entity(legal_entity_type(entity_type), entity_id_text(entity_id))


def _raw_of(record: dict[str, Any]) -> bytes:
    """Reads an envelope back as the dead letter keeps it: as text if it is text."""
    if "envelope" in record:
        return str(record["envelope"]).encode()
    return base64.b64decode(record["envelope_base64"])
