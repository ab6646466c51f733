"""The server in memory, with a clock that jumps and copies of its data; it writes down what it did."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import orjson
import trio

from trioqueue._names import Entity
from trioqueue.protocol.lifecycle import Mode
from trioqueue.stores.contract import (
    ClaimAnswer,
    Claimed,
    Commit,
    CommitAnswer,
    DeadLetter,
    Empty,
    Member,
    Outgoing,
    Purged,
)
from trioqueue.stores.memory.mailboxes import client_of
from trioqueue.stores.memory.server import MemoryServer
from trioqueue.stores.reports import Hint, Queued, Tick, Withdrawal

from . import history
from .history import Event

EPOCH_US = 1_700_000_000_000_000
"""Where its clock begins: as large as a real one."""

NOT_COPIED = {
    "_now_us",
    "listeners",
    "write",
    "hints",
    "skew_us",
    "_pushed",
    "_copies",
    "_copied",
    "_generations",
    "rings",
    "ticked_at",
    "_redelivering",
}


class SimulatedServer(MemoryServer):
    """A server; `skew_us` is how far its clock was set, `write` takes the history, `hints` sends a client a hint."""

    def __init__(self, write: Callable[[Event], None]) -> None:
        self.skew_us = 0
        self.write = write
        self.hints: Callable[[str, Hint], None] = lambda client, hint: None
        self._pushed: list[Entity] = []
        self._copies: dict[int, dict[str, Any]] = {}
        self._copied = 0
        self._generations = 1
        self.rings: dict[str, int] = {}  # id of a command that a schedule sent -> its number, below 0
        self.ticked_at = 0.0
        self._redelivering = False
        super().__init__(lambda: round(trio.current_time() * 1e6) + EPOCH_US + self.skew_us)

    # -------------------------------------------------------------------------------- what goes wrong with it
    def restart(self) -> None:
        self._generations += 1
        self.generation = f"memory-{self._generations}"

    def make_copy(self) -> int:
        """Copies all data, as a replica has it at this moment."""
        self._copied += 1
        number = self._copied
        data = {name: value for name, value in vars(self).items() if name not in NOT_COPIED}
        self._copies[number] = copy.deepcopy(data)
        self.write(history.Copied(trio.current_time(), number))
        return number

    def fall_back(self, number: int) -> None:
        """Goes on with a copy, as when a replica is promoted."""
        vars(self).update(self._copies[number])
        # Later ones are of what never was.
        self._copies = {other: data for other, data in self._copies.items() if other < number}
        self.restart()
        self.write(history.FellBack(trio.current_time(), number))

    # -------------------------------------------------------------------------------- what is written down
    def _hint(self, client: str, hint: Hint) -> None:
        self.hints(client, hint)

    def _accept(self, command: Outgoing, *, prefer: str | None) -> None:
        entity, data, terms = command
        if terms is not None and terms.delay_us:
            due = (self._now_us() + terms.delay_us) / 1e6
            self.write(history.PutOff(trio.current_time(), str(entity), self.number_of(data), due))
        super()._accept(command, prefer=prefer)

    def _push(self, entity: Entity, queued: Queued, *, prefer: str | None) -> None:
        self._pushed.append(entity)
        now, clock = trio.current_time(), self._now_us() / 1e6
        if not self._redelivering:
            self.write(history.Accepted(now, str(entity), self.number_of(queued.data), clock))
        super()._push(entity, queued, prefer=prefer)

    def claim(
        self, member: Member, entity: Entity, have: str = "", fetch: int = 64, *, eager: bool = False
    ) -> ClaimAnswer:
        answer = super().claim(member, entity, have, fetch, eager=eager)
        if isinstance(answer, Claimed | Empty):
            process = client_of(member.incarnation)
            self.write(history.Claimed(trio.current_time(), str(entity), answer.epoch, process))
        return answer

    def commit(self, member: Member, commit: Commit) -> CommitAnswer:
        box = self.mailboxes.get(commit.entity)
        before: Sequence[Queued] = tuple(box.queue) if box else ()
        attempts = box.attempts if box else 0
        dead = set(self.dead[commit.entity.type])
        self._pushed.clear()
        answer = super().commit(member, commit)
        if box is not None:
            left = len(before) + self._pushed.count(commit.entity) - len(box.queue)
            now, entity = trio.current_time(), str(commit.entity)
            for queued in before[:left]:
                self.write(history.Settled(now, entity, self.number_of(queued.data), commit.epoch))
            letters = self.dead[commit.entity.type]
            for one in commit.dead:
                if one.command_id in letters.keys() - dead:
                    self.write(history.Buried(now, entity, self.number_of_letter(one)))
            if commit.retry_ms is not None and box.attempts > attempts:
                self.write(history.Failed(now, entity, self.number_of(box.queue[0].data)))
        return answer

    def reap(self, member: Member, incarnation: str, *, gave_up: bool) -> bool:
        pod = self.pods.get(incarnation)
        owns = sorted(pod.owns) if pod else []
        active = [entity for entity in owns if self.mailboxes[entity].mode is Mode.ACTIVE]
        gone = super().reap(member, incarnation, gave_up=gave_up)
        if gone and not gave_up:
            for entity in active:
                self.write(history.Reaped(trio.current_time(), str(entity)))
        return gone

    # -------------------------------------------------------------------------------- an operator's, and schedules
    def pause(self, entity: Entity, why: str) -> bool:
        changed = super().pause(entity, why)
        if changed:
            self.write(history.Held(trio.current_time(), str(entity), bool(why)))
        return changed

    def hold(self, entity_type: str, why: str) -> bool:
        changed = super().hold(entity_type, why)
        if changed:
            self.write(history.Held(trio.current_time(), entity_type, bool(why)))
        return changed

    def purge(
        self, entity: Entity, commands: Sequence[Queued], tell: Sequence[Purged], outcome: bytes
    ) -> bool:
        purged = super().purge(entity, commands, tell, outcome)
        for queued in commands if purged else ():
            self.write(history.Purged(trio.current_time(), str(entity), self.number_of(queued.data)))
        return purged

    def redeliver(self, entity: Entity, command_id: str, where: str, data: bytes) -> bool:
        letter = self.dead[entity.type].get(command_id)
        if letter is not None:
            number = self.number_of_letter(letter)
            self.write(history.Redelivered(trio.current_time(), str(entity), number, where))
        self._redelivering = True
        try:
            return super().redeliver(entity, command_id, where, data)
        finally:
            self._redelivering = False

    def withdraw(
        self, entity: Entity, command_id: str, beginning: bytes, outcome: bytes, keep_ms: int
    ) -> Withdrawal:
        one = self.later.commands.get(command_id)
        said = super().withdraw(entity, command_id, beginning, outcome, keep_ms)
        if one is not None:
            self.write(history.Withdrawn(trio.current_time(), self.number_of(one.queued.data)))
        return said

    def tick(
        self,
        schedule: str,
        expected_ms: int | None,
        following_ms: int | None,
        command: Outgoing | None = None,
    ) -> Tick:
        at, number = trio.current_time(), 0
        if command is not None:
            number = self.rings.setdefault(orjson.loads(command.data)["i"], -1 - len(self.rings))
            if -number == len(self.rings):
                self.write(history.Asked(at, number, str(command.entity), "", "done", bounded=False))
        tick = super().tick(schedule, expected_ms, following_ms, command)
        self.ticked_at = at if tick.moved else self.ticked_at
        if tick.moved and expected_ms is not None:
            self.write(history.Ticked(at, schedule, expected_ms, number))
        return tick

    # -------------------------------------------------------------------------------- names
    def number_of(self, data: bytes) -> int:
        """Reads which command an envelope carries; what a schedule sends is known by its id."""
        envelope = orjson.loads(data)
        number: int = envelope["p"]["number"]
        return number or self.rings[envelope["i"]]

    def number_of_letter(self, letter: DeadLetter) -> int:
        """Reads which command a dead letter is."""
        return self.number_of(orjson.loads(letter.record)["envelope"])
