"""Looking into a fleet: which entities have work, which pods there are, and what lies in one mailbox."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import attrs

from trioqueue._errors import DecodeError
from trioqueue._mailbox import UNDECODABLE
from trioqueue._names import Entity, entity_id_text, legal_entity_type
from trioqueue.messages.codec import Codec
from trioqueue.messages.envelope import NOTHING, Envelope, decode_envelope, name_in
from trioqueue.messages.state import read_state
from trioqueue.stores.contract import Store
from trioqueue.stores.reports import Queued, Registration

SOONEST = 1000
"""Commands that are put off, of the whole fleet, among which those of one entity are looked for."""

GLANCE = 2048
"""Bytes that are read at most of a lane's first command, whose name stands at its beginning: a thousand of the longest
would be a quarter of a gigabyte."""


@attrs.frozen
class Lane:
    """An entity with commands, at a glance.

    Attributes:
        entity_type: Its type.
        entity_id: Its id.
        mode: "owned" by a pod, "ready" (waits for one), or "paused".
        pod: Name of the pod that owns it; None: none does.
        pending: Commands in its mailbox, the one that is being handled included.
        command: Wire name of the first one; "(undecodable)" where its envelope can't be read.
        waited: Seconds since that one was accepted.
    """

    entity_type: str
    entity_id: str
    mode: Literal["owned", "ready", "paused"]
    pod: str | None
    pending: int
    command: str
    waited: float


@attrs.frozen
class Lanes:
    """What `AtomicQueues.lanes` found.

    Attributes:
        lanes: In no order.
        whole: Whether these are all there are.
    """

    lanes: tuple[Lane, ...]
    whole: bool


@attrs.frozen
class Pod:
    """A registered pod.

    Attributes:
        name: As it was opened with.
        incarnation: Of this registration; a pod that lost its lease and joined anew has another one.
        state: "serving", "leaving" (it drains, or what it had is handed on), or "silent" (its lease is over, and others
            take over).
        types: Entity types that it serves.
        owned: Entities that it owns.
        with_work: Of these, the ones that have commands.
        room: How many it will own (`Limits.owned`); 0: it drains.
        heard: Seconds since its last heartbeat; None: it has given up its lease.
    """

    name: str
    incarnation: str
    state: Literal["serving", "leaving", "silent"]
    types: tuple[str, ...]
    owned: int
    with_work: int
    room: int
    heard: float | None


@attrs.frozen
class QueuedCommand:
    """A command that was not handled yet.

    Attributes:
        command: Its wire name; "(undecodable)" where its envelope can't be read, and then nothing else of it is known.
        command_id: Its id.
        version: Of its fields.
        fields: As they travel: builtins.
        headers: Of the sender.
        chain: The entities, as `account/42`, whose handlers wait for it; first caller first.
        deadline: Seconds from its acceptance after which it is dropped; None: never.
        answered: Whether somebody waits for its outcome, or it is kept.
        urgent: Whether it is in the urgent lane.
        accepted_at: In seconds of the store's clock since the epoch.
        due_at: Likewise, when it comes into the mailbox; None: it is there.
    """

    command: str
    command_id: str
    version: int
    fields: Mapping[str, Any] = attrs.field(repr=False)  # for whoever asks, and not for logs
    headers: Mapping[str, str] = attrs.field(repr=False)
    chain: tuple[str, ...]
    deadline: float | None
    answered: bool
    urgent: bool
    accepted_at: float
    due_at: float | None


@attrs.frozen
class RawState:
    """A state as it is stored.

    Attributes:
        version: Of the class that wrote it.
        fields: As they are stored: builtins.
    """

    version: int
    fields: Mapping[str, Any] = attrs.field(repr=False)


class Looking:
    """The part of the queues that looks; nothing here changes anything, or wakes anybody."""

    _store: Store
    _codec: Codec

    if TYPE_CHECKING:

        def _check_open(self) -> None: ...

    async def pods(self) -> tuple[Pod, ...]:
        """Reads which pods are registered, the oldest first, at one moment."""
        self._check_open()
        seen = await self._store.registrations()
        return tuple(_pod(pod, seen.now_us) for pod in seen.pods)

    async def lanes(self, *, count: int = 1000) -> Lanes:
        """Glances at entities that have commands, in a few round trips.

        Args:
            count: How many to read at most of those that pods own, of those of each type that wait for one, and of
                those that are paused.

        Raises:
            ValueError: `count` is below 1.
        """
        self._check_open()
        if count < 1:
            raise ValueError(f"count is 1 or more, not {count}")
        pods = {number_of(pod.incarnation): pod.name for pod in (await self._store.registrations()).pods}
        seen = await self._store.lanes(count, longest=GLANCE)
        lanes = [
            Lane(
                entity_type=lane.entity.type,
                entity_id=lane.entity.id,
                mode=lane.mode,
                pod=None if lane.incarnation is None else pods.get(lane.incarnation, str(lane.incarnation)),
                pending=lane.queued,
                command=self._name_of(lane.entity, lane.head),
                waited=max(0.0, (seen.now_us - lane.head.accepted_us) / 1e6) if lane.head else 0.0,
            )
            for lane in seen.lanes
        ]
        return Lanes(tuple(lanes), seen.whole)

    async def queued(
        self, entity_type: str, entity_id: object, /, *, offset: int = 0, count: int = 100
    ) -> tuple[QueuedCommand, ...]:
        """Reads commands of a mailbox in their order, the one that is being handled included.

        Args:
            entity_type: The type.
            entity_id: Whose.
            offset: How many of the first to leave out.
            count: How many to read at most.

        Raises:
            ValueError: `offset` is below 0, or `count` below 1.
        """
        self._check_open()
        if offset < 0 or count < 1:
            raise ValueError(f"offset is 0 or more and count 1 or more, not {offset} and {count}")
        entity = named(entity_type, entity_id)
        return tuple(
            self._queued_command(entity, one) for one in await self._store.queued(entity, offset, count)
        )

    async def put_off(self, entity_type: str, entity_id: object, /) -> tuple[QueuedCommand, ...]:
        """Reads the commands of an entity that are put off, the first due first.

        Only the thousand that are due next in the whole fleet are looked through.
        """
        self._check_open()
        entity = named(entity_type, entity_id)
        return tuple(
            self._queued_command(entity, one.queued, one.command_id, one.due_us / 1e6)
            for one in await self._store.put_off(entity, SOONEST)
        )

    async def raw_state(self, entity_type: str, entity_id: object, /) -> RawState | None:
        """Reads an entity's state as it was committed last, without its class; None: it has none.

        Raises:
            DecodeError: What is stored is no state.
        """
        self._check_open()
        data = await self._store.state(named(entity_type, entity_id))
        return None if data is None else RawState(*read_state(self._codec, data))

    def _envelope(self, entity: Entity, queued: Queued) -> Envelope:
        try:
            return decode_envelope(self._codec, entity, queued.data)
        except DecodeError:
            return Envelope(UNDECODABLE, entity, UNDECODABLE)

    def _name_of(self, entity: Entity, head: Queued | None) -> str:
        """Reads the name of a command of which there may be the beginning alone."""
        if head is None or len(head.data) < GLANCE:
            return self._envelope(entity, head).name if head else UNDECODABLE
        try:
            return name_in(self._codec, head.data)
        except DecodeError:
            return UNDECODABLE

    def _queued_command(
        self, entity: Entity, queued: Queued, command_id: str = "", due_at: float | None = None
    ) -> QueuedCommand:
        envelope = self._envelope(entity, queued)
        return QueuedCommand(
            command=envelope.name,
            command_id=command_id or envelope.command_id,
            version=envelope.version,
            fields=envelope.payload,
            headers=envelope.headers or NOTHING,
            chain=envelope.chain,
            deadline=envelope.deadline,
            answered=envelope.reply_to is not None,
            urgent=queued.urgent,
            accepted_at=queued.accepted_us / 1e6,
            due_at=due_at,
        )


def _pod(seen: Registration, now_us: int) -> Pod:
    silent = now_us - seen.renewed_us
    state: Literal["serving", "leaving", "silent"] = "serving"
    if not seen.renewed_us:
        state = "leaving"
    elif silent > seen.silent_us:
        state = "silent"
    elif not seen.room:  # it drains: no pod is opened with none
        state = "leaving"
    return Pod(
        name=seen.name or seen.incarnation,
        incarnation=seen.incarnation,
        state=state,
        types=seen.types,
        owned=seen.owned,
        with_work=seen.with_work,
        room=seen.room,
        heard=max(0.0, silent / 1e6) if seen.renewed_us else None,
    )


def number_of(incarnation: str) -> int:
    """Reads the number of a registration."""
    return int(incarnation.rpartition(".")[2])


def named(entity_type: str, entity_id: object) -> Entity:
    """Makes an entity of what a user gives.

    Raises:
        BadEntityId, BadDeclaration: It can't be one.
    """
    return Entity(legal_entity_type(entity_type), entity_id_text(entity_id))
