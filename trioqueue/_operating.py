"""Looking into a fleet and steering it: what an operator does with entities, types and dead letters."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import attrs

from trioqueue._errors import DecodeError
from trioqueue._explaining import Buried, Callee, explain, explain_all
from trioqueue._looking import Looking, named
from trioqueue._mailbox import UNDECODABLE, Mailbox, mailbox_of
from trioqueue._names import Entity, legal_entity_type
from trioqueue.messages.envelope import NOTHING, Envelope, decode_envelope
from trioqueue.protocol.lifecycle import Mode
from trioqueue.protocol.outcome import Kind, Outcome
from trioqueue.stores.contract import CHUNK, KEEP_CANCELLED_MS, Purged
from trioqueue.stores.reports import Letter, Queued

BUSY = 1000
"""Entities with work among whose first commands is looked for the one that a handler waits for."""

DEEP = 50
"""Of these, the ones of whose mailboxes more than the first command is read."""

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
        version: Of the command's fields.
        fields: As they travelled: builtins; none if its envelope can't be read.
        headers: Of the sender.
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
    version: int = 1
    fields: Mapping[str, Any] = attrs.field(default=NOTHING, repr=False)  # for whoever asks, and not for logs
    headers: Mapping[str, str] = attrs.field(default=NOTHING, repr=False)


class Operating(Looking):
    """The part of the queues that looks and steers."""

    # -------------------------------------------------------------------------------- looking
    async def inspect(self, entity_type: str, entity_id: object, /) -> Mailbox:
        """Reads all that the store knows of an entity, at one moment, in one round trip and without waking it."""
        self._check_open()
        entity = named(entity_type, entity_id)
        return mailbox_of(self._codec, entity, await self._store.inspect(entity))

    async def explain(self, entity_type: str, entity_id: object, /) -> str:
        """Says in a few sentences why nothing happens with an entity, or what will.

        It is asked for in some round trips, so that what is said of the entity, of the pods, of its commands that are
        put off, of its dead letters and of whom its handler waits for is not of one moment.  Looked through are the
        thousand commands that are due next in the whole fleet, the newest hundred dead letters of the type, and where a
        handler runs, the first commands of up to a thousand entities with work.
        """
        self._check_open()
        entity = named(entity_type, entity_id)
        box = await self.inspect(entity_type, entity_id)
        return explain_all(
            box,
            fleet=await self.pods(),
            callee=await self._callee(entity) if box.mode == Mode.ACTIVE else None,
            put_off=[
                (one, (one.due_at or 0.0) - box.at) for one in await self.put_off(entity_type, entity_id)
            ],
            buried=await self._buried(entity, box.at),
        )

    async def _callee(self, entity: Entity) -> Callee | None:
        """Finds the command that an entity's handler has sent and waits for, or at the end of such waiting the last."""
        name, found = str(entity), await self._store.lanes(BUSY)
        last: tuple[Entity, Envelope, Queued, int] | None = None
        deeper = [lane for lane in found.lanes if lane.queued > 1][:DEEP]
        for lane in found.lanes:
            first: Sequence[Queued] = () if lane.head is None else (lane.head,)
            if lane in deeper:
                first = await self._store.queued(lane.entity, 0, CHUNK)
            for before, queued in enumerate(first):
                envelope = self._envelope(lane.entity, queued)
                if name in envelope.chain and (last is None or len(envelope.chain) > len(last[1].chain)):
                    last = lane.entity, envelope, queued, before
        if last is None:
            return None
        callee, envelope, queued, before = last
        waited = max(0.0, (found.now_us - queued.accepted_us) / 1e6)
        return Callee(
            entity=str(callee),
            command=envelope.name,
            command_id=envelope.command_id,
            waited=waited,
            said=explain(await self.inspect(*callee), await self.pods()),
            via=envelope.chain[envelope.chain.index(name) + 1 :],
            before=before,
            gives_up=None if envelope.deadline is None else max(0.0, envelope.deadline - waited),
        )

    async def _buried(self, entity: Entity, now: float) -> Buried | None:
        """Finds the newest dead letter of an entity."""
        letters = [
            letter
            for letter in await self.dead_letters(entity.type, newest=True)
            if letter.entity_id == entity.id
        ]
        if not letters:
            return None
        last = letters[0]
        died = max(0.0, now - last.died_at)
        command = last.command or UNDECODABLE
        return Buried(command, last.command_id, died, last.attempts, last.error, len(letters) - 1)

    async def dead_letters(
        self, entity_type: str, /, *, offset: int = 0, count: int = 100, newest: bool = False
    ) -> list[DeadLetter]:
        """Reads dead letters of a type, oldest first.

        Args:
            entity_type: The type.
            offset: How many of the first to leave out.
            count: How many to read at most.
            newest: Has the newest come first.

        Raises:
            ValueError: `offset` is below 0, or `count` below 1.
        """
        self._check_open()
        if offset < 0 or count < 1:
            raise ValueError(f"offset is 0 or more and count 1 or more, not {offset} and {count}")
        kind = legal_entity_type(entity_type)
        letters = await self._store.letters(kind, offset, count, newest=newest)
        return [self._dead_letter(letter) for letter in letters]

    async def dead_letter(self, entity_type: str, command_id: str, /) -> DeadLetter | None:
        """Reads one dead letter of a type; None: it has none of this command."""
        self._check_open()
        letter = await self._store.letter(legal_entity_type(entity_type), command_id)
        return None if letter is None else self._dead_letter(letter)

    def _dead_letter(self, letter: Letter) -> DeadLetter:
        record: dict[str, Any] = self._codec.loads(letter.record)
        entity = Entity(*str(record["entity"]).split("/", 1))
        raw = _raw_of(record)
        try:
            envelope = decode_envelope(self._codec, entity, raw)
        except DecodeError:
            envelope = Envelope("", entity, "")
        return DeadLetter(
            entity_type=entity.type,
            entity_id=entity.id,
            command_id=letter.command_id,
            command=envelope.name,
            error=record["error"],
            traceback=record.get("traceback", ""),
            tasks=record.get("tasks", ""),
            attempts=record["attempts"],
            crashes=record["crashes"],
            accepted_at=record["accepted_us"] / 1e6,
            died_at=letter.died_us / 1e6,
            envelope=raw,
            version=envelope.version,
            fields=envelope.payload,
            headers=envelope.headers or NOTHING,
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
        return await self._store.pause(named(entity_type, entity_id), why or OPERATOR)

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
        return await self._store.pause(named(entity_type, entity_id), "")

    async def purge(self, entity_type: str, entity_id: object, /) -> int:
        """Takes all commands out of an entity's mailbox, unhandled; callers who wait get `CallCancelled`.

        What its handler does meanwhile will not stand, and the command it has in hand is gone too.  Its state stays,
        and so do commands that are put off.  It goes a hundred commands at a time: pause the entity before, if none of
        the later ones may start in between.

        Returns:
            How many were taken out.
        """
        self._check_open()
        entity = named(entity_type, entity_id)
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


def _raw_of(record: dict[str, Any]) -> bytes:
    """Reads an envelope back as the dead letter keeps it: as text if it is text."""
    if "envelope" in record:
        return str(record["envelope"]).encode()
    return base64.b64decode(record["envelope_base64"])
