"""What an operator asks of the in-process store."""

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import Literal

from trioqueue._names import Entity
from trioqueue.protocol.lifecycle import Event, Mode
from trioqueue.stores.contract import Purged
from trioqueue.stores.memory.mailboxes import Mailboxes, client_of, number_of
from trioqueue.stores.memory.records import Mailbox, Pod
from trioqueue.stores.reports import (
    Answered,
    Changed,
    Inspection,
    Lane,
    Lanes,
    Letter,
    PutOff,
    Queued,
    Registration,
    Registrations,
    Wake,
)


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

    def letters(
        self, entity_type: str, offset: int, count: int, *, newest: bool = False
    ) -> tuple[Letter, ...]:
        """Reads dead letters; see `Store.letters`."""
        found = [Letter(self.died_us[one.command_id], *one) for one in self.dead[entity_type].values()]
        return tuple(sorted(found, reverse=newest)[offset : offset + count])

    def letter(self, entity_type: str, command_id: str) -> Letter | None:
        """Reads one dead letter; see `Store.letter`."""
        found = self.dead[entity_type].get(command_id)
        return None if found is None else Letter(self.died_us[command_id], *found)

    def lanes(self, count: int) -> Lanes:
        """Glances at entities with commands; see `Store.lanes`."""
        found, kinds, whole = list[Lane](), Counter[str](), True
        for entity, box in self.mailboxes.items():
            if not box.queue:
                continue
            mode: Literal["owned", "ready", "paused"] = "owned"
            if box.mode is Mode.READY:
                mode = "ready"
            elif box.mode is Mode.PAUSED:
                mode = "paused"
            kind = f"ready {entity.type}" if mode == "ready" else mode
            kinds[kind] += 1
            if kinds[kind] <= count:
                owner = number_of(box.owner) if box.owner else None
                found.append(Lane(entity, mode, owner, len(box.queue), box.queue[0]))
            else:
                whole = False
        return Lanes(self._now_us(), tuple(found), whole)

    def registrations(self) -> Registrations:
        """Reads which incarnations are registered; see `Store.registrations`."""
        pods = [
            Registration(
                incarnation=incarnation,
                name=pod.info.name,
                types=tuple(sorted(pod.info.types)),
                room=pod.room,
                renewed_us=0 if pod.leaving else pod.renewed_us,
                silent_us=_silent_us(pod),
                owned=len(pod.owns),
                with_work=sum(bool(self.mailboxes[entity].queue) for entity in pod.owns),
            )
            for incarnation, pod in self.pods.items()
        ]
        pods.sort(key=lambda pod: number_of(pod.incarnation))
        return Registrations(self._now_us(), tuple(pods), self.quarantine_until_us)

    def put_off(self, entity: Entity, count: int) -> tuple[PutOff, ...]:
        """Reads what is put off for an entity; see `Store.put_off`."""
        following = sorted(self.later.commands.values(), key=lambda one: one.due)[:count]
        return tuple(PutOff(one.due[0], one.due[2], one.queued) for one in following if one.entity == entity)

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
            owner_silent_us=_silent_us(pod) if pod else None,
            full_since_us=box.full[0] if box.full else None,
            full_limit=box.full[1] if box.full else 0,
            quarantine_until_us=self.quarantine_until_us,
        )


def _silent_us(pod: Pod) -> int:
    return round((pod.info.lease.ttl + pod.info.lease.grace) * 1e6)
