"""What an operator asks of the in-process store."""

from collections.abc import Sequence
from itertools import islice

from trioqueue._names import Entity
from trioqueue.protocol.lifecycle import Event, Mode
from trioqueue.stores.contract import Purged
from trioqueue.stores.memory.mailboxes import Mailboxes, client_of
from trioqueue.stores.memory.records import Mailbox
from trioqueue.stores.reports import Answered, Changed, Inspection, Letter, Queued, Wake


class Operating(Mailboxes):
    """Pausing, purging, dead letters, and looking at one entity."""

    def pause(self, entity: Entity, why: str) -> bool:
        """Holds an entity back, or lets it go on; see `Store.pause`."""
        box = self.mailboxes.get(entity)
        if (box is not None and box.paused is not None) == bool(why):
            return False
        if why:
            box = self.mailboxes.setdefault(entity, Mailbox())
            box.paused = (self._now_us(), why)
            if box.overruled:
                return True  # its handler may still run: its owner lets go of it with its next claim
            if box.mode is Mode.PARKED:
                assert box.owner is not None
                self._hint(client_of(box.owner), Changed(entity))
                self._let_go(entity, without=box.owner)
            elif box.mode is not Mode.ACTIVE:
                self._move(entity, Event.PAUSED)
                box.ready_since_us = None
            return True
        assert box is not None
        box.paused = None
        if box.mode is Mode.PAUSED:
            box.attempts = box.crashes = 0
            box.proven = False
            if box.queue:
                to = None if entity.type in self.held else self._place(entity.type)
                self._give(entity, to, Event.PLACED, Event.UNPLACED)
            else:
                self._move(entity, Event.LET_GO)
        return True

    def hold(self, entity_type: str, why: str) -> bool:
        """Holds a type back, or lets it go on; see `Store.hold`."""
        if (entity_type in self.held) == bool(why):
            return False
        if why:
            self.held[entity_type] = (self._now_us(), why)
        else:
            del self.held[entity_type]
        return True

    def _overrule(self, entity: Entity) -> None:
        """Has a worker that fetched what is changed claim anew, and forgets what was noted about the head."""
        box = self.mailboxes[entity]
        box.settle_head()
        if box.owner is not None and self.pods[box.owner].suspect == entity:
            self.pods[box.owner].suspect = None
        if box.mode is Mode.ACTIVE:
            self._epoch(box)
            self._move(entity, Event.OVERRULED)
            box.overruled = True

    def purge(
        self, entity: Entity, commands: Sequence[Queued], tell: Sequence[Purged], outcome: bytes
    ) -> bool:
        """Takes commands out of a mailbox; see `Store.purge`."""
        box = self.mailboxes.get(entity)
        if box is None or list(commands) != list(islice(box.queue, len(commands))):
            return False
        was_active = box.mode is Mode.ACTIVE
        self._overrule(entity)
        if box.owner is not None:
            self._hint(client_of(box.owner), Changed(entity))
        for _ in commands:
            box.queue.popleft()
        box.moved_on(len(commands))
        for one in tell:
            box.cancels.pop(one.command_id, None)
            if one.keep_ms:
                self.results.keep(one.command_id, self._now_us() + one.keep_ms * 1000, outcome)
            if one.to:
                self._hint(one.to, Answered(one.command_id, outcome))
        if not box.queue:
            box.cancels.clear()
            if box.mode is Mode.READY:
                self._move(entity, Event.DROPPED)
        elif was_active:
            assert box.owner is not None
            self._hint(client_of(box.owner), Wake(entity))
        return True

    def redeliver(self, entity: Entity, command_id: str, where: str, data: bytes) -> bool:
        """Takes a command off the dead letters; see `Store.redeliver`."""
        if self.dead[entity.type].pop(command_id, None) is None:
            return False
        del self.died_us[command_id]
        if where != "nowhere":
            self.results.pop(command_id, None)  # it is not settled any more
        queued = Queued(self._now_us(), data)
        if where == "tail":
            self._push(entity, queued, prefer=None)
        elif where == "head":
            box = self.mailboxes.setdefault(entity, Mailbox())
            self._overrule(entity)
            box.queue.appendleft(queued)
            box.moved_on(-1)
            if box.mode is Mode.IDLE:
                self._give(entity, self._place(entity.type), Event.PLACED, Event.UNPLACED)
            elif box.owner is not None:
                self._hint(client_of(box.owner), Changed(entity))
        return True

    def letters(self, entity_type: str, offset: int, count: int) -> tuple[Letter, ...]:
        """Reads dead letters; see `Store.letters`."""
        found = [Letter(self.died_us[one.command_id], *one) for one in self.dead[entity_type].values()]
        return tuple(sorted(found)[offset : offset + count])

    def inspect(self, entity: Entity) -> Inspection:
        """Reads all about an entity; see `Store.inspect`."""
        box = self.mailboxes.get(entity, Mailbox())
        pod = self.pods.get(box.owner) if box.owner else None
        since, why = box.paused or (None, "")
        held_since, held_why = self.held.get(entity.type) or (None, "")
        _, state = self.states.get(entity, ("", None))
        return Inspection(
            now_us=self._now_us(),
            mode=box.mode,
            owner=box.owner,
            owner_name=pod.info.name if pod else None,
            owner_renewed_us=(0 if pod.leaving else pod.renewed_us) if pod else None,
            epoch=box.epoch,
            queued=len(box.queue),
            head=box.queue[0] if box.queue else None,
            attempts=box.attempts,
            crashes=box.crashes,
            due_us=box.due_us,
            unknown_since_us=box.unknown_since_us,
            ready_since_us=box.ready_since_us,
            paused_since_us=since,
            paused_why=why,
            held=entity.type in self.held,
            held_since_us=held_since,
            held_why=held_why,
            state_bytes=len(state or b""),
        )
