"""An account of every command that the machine sent, kept beside both stores: none may be lost, doubled or come back.

Both stores may err alike, and comparing them would not show it.
"""

from collections.abc import Collection, Iterator

import attrs

from trioqueue._names import Entity
from trioqueue.protocol.lifecycle import Mode
from trioqueue.stores.memory.server import MAX_BACKOFF_US, MemoryServer


@attrs.define(eq=False)
class Ledger:
    """What is known of commands and epochs after the last step."""

    memory: MemoryServer
    places: dict[str, str] = attrs.field(factory=dict)  # of each that is in the store: where
    ended: set[str] = attrs.field(factory=set)  # settled, purged, discarded or withdrawn
    active: set[Entity] = attrs.field(factory=set)
    epochs: dict[Entity, int] = attrs.field(factory=dict)  # the highest of each that a claim has answered

    def was_taken(self, name: str) -> bool:
        """Says whether a command is or was in the store (I4)."""
        return name in self.places or name in self.ended

    def take(self, ends: Collection[str], now_us: int) -> str:
        """Compares what is there with what was; `ends` may have left.  Gives what is wrong, or ""."""
        before, places = self.places, dict[str, str]()
        for name, where in self._found():
            if name in places:
                return f"{name} is {places[name]} and {where}"
            places[name] = where
        gone = before.keys() - places.keys()
        if gone - set(ends):
            return f"lost: {[f'{name}, which was {before[name]}' for name in sorted(gone - set(ends))]}"
        if back := places.keys() & self.ended:
            return f"settled before, and here again: {sorted(back)}"
        self.places = places
        self.ended |= gone
        return self._look_at_starts(now_us)

    def _found(self) -> Iterator[tuple[str, str]]:
        for entity, box in self.memory.mailboxes.items():
            for queued in box.queue:
                yield queued.data.decode(), f"in the mailbox of {entity}"
        for name in self.memory.later.commands:
            yield name, "put off"
        for kind, letters in self.memory.dead.items():
            for name in letters:
                yield name, f"a dead letter of {kind}"

    def _look_at_starts(self, now_us: int) -> str:
        """Says which entity began although it is held back, or its head waits (I13)."""
        memory = self.memory
        active = {entity for entity, box in memory.mailboxes.items() if box.mode is Mode.ACTIVE}
        for entity in active - self.active:
            box = memory.mailboxes[entity]
            if box.paused or entity.type in memory.held:
                return f"{entity} began, and is held back"
            if box.due_us is not None and now_us < box.due_us <= now_us + MAX_BACKOFF_US:
                return f"{entity} began before its head may"
        self.active = active
        return ""

    def claim(self, entity: Entity, epoch: int) -> str:
        """Takes note of a claim that was answered; gives what is wrong, or "" (I7)."""
        highest = self.epochs.get(entity, 0)
        self.epochs[entity] = max(epoch, highest)
        return f"{entity} was claimed under {epoch} after {highest}" if epoch <= highest else ""
