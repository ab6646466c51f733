"""What an operator reads of a store: the part of the contract that changes nothing and wakes nobody."""

from typing import Protocol

from trioqueue._names import Entity
from trioqueue.messages.policy import MAX_COMMAND_BYTES
from trioqueue.stores.reports import (
    Inspection,
    Lanes,
    Letter,
    PutOff,
    Queued,
    Registrations,
    StoreStatistics,
)


class Looking(Protocol):
    """The operations that look.  Cancelled: nothing has happened."""

    async def inspect(self, entity: Entity) -> Inspection:
        """Reads all that there is about an entity, at one moment."""
        ...

    async def lanes(self, count: int, *, longest: int = MAX_COMMAND_BYTES) -> Lanes:
        """Glances at entities that have commands: at most so many of those that are owned, and of each type as many
        that wait for a pod and altogether that are paused.  They are read in pieces, not at one moment, and of their
        first commands at most so many bytes.
        """
        ...

    async def registrations(self) -> Registrations:
        """Reads which incarnations are registered, at one moment."""
        ...

    async def put_off(self, entity: Entity, count: int) -> tuple[PutOff, ...]:
        """Reads the commands of an entity that are put off, the first due first, among the `count` next of all."""
        ...

    async def cancelled(self, entity: Entity) -> tuple[str, ...]:
        """Reads which queued commands of an entity are marked as cancelled."""
        ...

    async def queued(self, entity: Entity, offset: int, count: int) -> tuple[Queued, ...]:
        """Reads commands of a mailbox, from its head on."""
        ...

    async def letters(
        self, entity_type: str, offset: int, count: int, *, newest: bool = False
    ) -> tuple[Letter, ...]:
        """Reads dead letters of a type, oldest first, or with `newest` the newest first."""
        ...

    async def letter(self, entity_type: str, command_id: str) -> Letter | None:
        """Reads one dead letter; None: there is none of this command."""
        ...

    async def statistics(self) -> StoreStatistics:
        """Counts what there is."""
        ...
