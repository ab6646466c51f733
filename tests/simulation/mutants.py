"""Broken variants of the protocol and the runtime: each leaves a rule out, and the simulation must show why."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest.mock import patch

import attrs

from trioqueue._names import Entity
from trioqueue.protocol.lifecycle import Event
from trioqueue.runtime.context import Context, Receipt
from trioqueue.runtime.incarnation import Incarnation
from trioqueue.runtime.turns import Turns
from trioqueue.stores.contract import ClaimAnswer, Commit, CommitAnswer, Member, Outgoing, PodInfo, Purged
from trioqueue.stores.memory.later import Later
from trioqueue.stores.memory.records import Mailbox, Pod, Producer
from trioqueue.stores.memory.server import MemoryServer
from trioqueue.stores.reports import Queued, Report, Tick

_commit = MemoryServer.commit
_beat = MemoryServer.beat
_claim = MemoryServer.claim
_join = MemoryServer.join
_judge = Turns.judge
_move = MemoryServer._move
_reap = MemoryServer.reap
_move_due = MemoryServer.move
_pause = MemoryServer.pause
_purge = MemoryServer.purge
_redeliver = MemoryServer.redeliver
_tick = MemoryServer.tick


def _commit_ignores_epoch(self: MemoryServer, member: Member, commit: Commit) -> CommitAnswer:
    box = self.mailboxes.get(commit.entity)
    return _commit(self, member, attrs.evolve(commit, epoch=box.epoch) if box else commit)


def _commit_ignores_done(self: MemoryServer, member: Member, commit: Commit) -> CommitAnswer:
    box = self.mailboxes.get(commit.entity)
    return _commit(self, member, attrs.evolve(commit, done=box.done) if box and box.queue else commit)


def _commit_ignores_owner(self: MemoryServer, member: Member, commit: Commit) -> CommitAnswer:
    box = self.mailboxes.get(commit.entity)
    if box is None or box.owner is None:
        return _commit(self, member, commit)
    return _commit(
        self, Member(box.owner, self.generation), attrs.evolve(commit, epoch=box.epoch, done=box.done)
    )


def _claim_keeps_epoch(self: MemoryServer, box: Mailbox) -> int:
    box.epoch = box.epoch or max(self.epoch_floor + 1, self._now_us())
    self.epoch_floor = max(self.epoch_floor, box.epoch)
    return box.epoch


def _claim_pops(
    self: MemoryServer,
    member: Member,
    entity: Entity,
    have: str = "",
    fetch: int = 64,
    *,
    eager: bool = False,
) -> ClaimAnswer:
    answer = _claim(self, member, entity, have, fetch, eager=eager)
    box = self.mailboxes.get(entity)
    if box is not None and len(box.queue) > 1 and hasattr(answer, "batch"):
        box.queue.pop()  # what was fetched last is believed to be in the worker's hand
    return answer


def _always_trusted(self: Incarnation) -> bool:
    return not self._ended


async def _watch_nothing(self: Incarnation) -> None:
    pass


def _beat_without_wakes(self: MemoryServer, member: Member, offset: int) -> Report:
    return attrs.evolve(_beat(self, member, offset), wakes=())


def _reap_forgets(self: MemoryServer, member: Member, incarnation: str, *, gave_up: bool) -> bool:
    """Drops the pod first, and then hands on as many entities as one call takes."""
    self._check_generation(member)
    pod = self.pods.get(incarnation)
    if pod is None:
        return True
    if not gave_up and self._now_us() <= self._silent_from(pod):
        return False
    for entity in sorted(pod.owns)[:1]:
        self._let_go(entity, without=incarnation)
    del self.pods[incarnation]
    return True


def _silent_at_once(pod: Pod) -> int:
    return pod.renewed_us + round(pod.info.lease.heartbeat * 1.1e6)


def _no_dedup(self: Producer, low: int, sequence: int) -> bool:
    return True


def _last_number(self: Producer, low: int, sequence: int) -> bool:
    if sequence <= self.high:
        return False
    self.high = sequence
    return True


def _dirty_state(self: Turns, *args: Any) -> Any:
    live = self._live
    finished = _judge(self, *args)
    self._live = live
    return finished


def _children_at_once(self: Context, command: Any, **_: Any) -> Receipt[Any]:
    sender: Any = self._sender
    outgoing = sender.encode(command, sender._encoder.next_id())
    sender._services.start_soon(sender._send, [outgoing])
    return Receipt(outgoing.entity.type, outgoing.entity.id, "")


def _join_without_quarantine(self: MemoryServer, client: str, info: PodInfo) -> Member:
    member = _join(self, client, info)
    self.quarantine_until_us = None
    return member


def _no_generations(self: MemoryServer, member: Member) -> None:
    pass


def _ticks_unnoticed(self: MemoryServer, heartbeat_us: int) -> None:
    self.last_tick_us = self._now_us()


def _backoff_forgets_the_head(self: MemoryServer, entity: Entity, event: Event) -> None:
    _move(self, entity, event)
    if event is Event.BACKED_OFF:
        self.mailboxes[entity].queue.rotate(-1)


def _moves_early(self: MemoryServer, member: Member) -> float | None:
    self._registered(member)
    while (one := self.later.take_due(self._now_us() + 500_000)) is not None:
        self._push(one.entity, one.queued, prefer=None)
    left_us = self.later.left_us(self._now_us() + 500_000)
    return None if left_us is None else left_us / 1e6


def _moves_twice(self: MemoryServer, member: Member) -> float | None:
    due = [one for one in self.later.commands.values() if one.due[0] <= self._now_us()]
    left = _move_due(self, member)
    for one in due[:1]:
        self._push(one.entity, one.queued, prefer=None)
    return left


def _clock_keeps_nothing(self: Incarnation, seconds: float = 0.0) -> None:
    pass


def _no_keys(self: MemoryServer, commands: Sequence[Outgoing]) -> str | None:
    return None


def _reap_loses_what_is_put_off(
    self: MemoryServer, member: Member, incarnation: str, *, gave_up: bool
) -> bool:
    gone = _reap(self, member, incarnation, gave_up=gave_up)
    if gone and incarnation == self._clock:
        self.later.commands.clear()
    return gone


def _holds_types_alone(self: MemoryServer, entity: Entity) -> bool:
    box = self.mailboxes[entity]
    return bool(box.queue) and entity.type in self.held


def _holds_entities_alone(self: MemoryServer, entity: Entity) -> bool:
    return self.mailboxes[entity].paused is not None


def _resume_wakes_nobody(self: MemoryServer, entity: Entity, why: str) -> bool:
    box = self.mailboxes.get(entity)
    if why or box is None or box.paused is None:
        return _pause(self, entity, why)
    box.paused = None
    return True


def _overrules_nobody(self: MemoryServer, entity: Entity) -> None:
    self.mailboxes[entity].settle_head()


def _purges_what_there_is(
    self: MemoryServer,
    entity: Entity,
    commands: Sequence[Queued],
    tell: Sequence[Purged],
    outcome: bytes,
) -> bool:
    box = self.mailboxes.get(entity)
    found = list(box.queue)[: len(commands)] if box else []
    return bool(found) and _purge(self, entity, found, tell, outcome)


def _redelivers_again(self: MemoryServer, entity: Entity, command_id: str, where: str, data: bytes) -> bool:
    letter, died = self.dead[entity.type].get(command_id), self.died_us.get(command_id, 0)
    done = _redeliver(self, entity, command_id, where, data)
    if letter is not None:
        self.dead[entity.type][command_id], self.died_us[command_id] = letter, died
    return done


def _redelivers_nowhere(self: MemoryServer, entity: Entity, command_id: str, where: str, data: bytes) -> bool:
    return _redeliver(self, entity, command_id, "nowhere", data)


def _takes_nothing_out(self: Later, command_id: str) -> bool:
    return command_id in self.commands


def _ticks_for_everybody(
    self: MemoryServer,
    schedule: str,
    expected_ms: int | None,
    following_ms: int | None,
    command: Outgoing | None = None,
) -> Tick:
    if following_ms is not None and expected_ms is not None:
        self.schedules[schedule] = expected_ms
    return _tick(self, schedule, expected_ms, following_ms, command)


def _ticks_in_silence(
    self: MemoryServer,
    schedule: str,
    expected_ms: int | None,
    following_ms: int | None,
    command: Outgoing | None = None,
) -> Tick:
    return _tick(self, schedule, expected_ms, following_ms)


async def _keeps_no_schedule(*_: Any) -> None:
    pass


MUTANTS: dict[str, Callable[[], Sequence[Any]]] = {
    "commit ignores the epoch": lambda: [patch.object(MemoryServer, "commit", _commit_ignores_epoch)],
    "commit ignores what is done": lambda: [patch.object(MemoryServer, "commit", _commit_ignores_done)],
    "commit ignores the owner": lambda: [patch.object(MemoryServer, "commit", _commit_ignores_owner)],
    "claim keeps the epoch": lambda: [patch.object(MemoryServer, "_epoch", _claim_keeps_epoch)],
    "claim takes out of the mailbox": lambda: [patch.object(MemoryServer, "claim", _claim_pops)],
    "worker ignores its lease": lambda: [
        patch.object(Incarnation, "trusted", _always_trusted),
        patch.object(Incarnation, "_watch", _watch_nothing),
    ],
    "hints alone wake": lambda: [patch.object(MemoryServer, "beat", _beat_without_wakes)],
    "reap drops the pod first": lambda: [patch.object(MemoryServer, "reap", _reap_forgets)],
    "pods are silent at once": lambda: [
        patch.object(MemoryServer, "_silent_from", staticmethod(_silent_at_once))
    ],
    "send without dedup": lambda: [patch.object(Producer, "takes", _no_dedup)],
    "send remembers the last number alone": lambda: [patch.object(Producer, "takes", _last_number)],
    "state stays dirty after a failure": lambda: [patch.object(Turns, "judge", _dirty_state)],
    "children are sent at once": lambda: [patch.object(Context, "send", _children_at_once)],
    "no quarantine": lambda: [patch.object(MemoryServer, "join", _join_without_quarantine)],
    "requests for any generation": lambda: [patch.object(MemoryServer, "_check_generation", _no_generations)],
    "jumps of the clock unnoticed": lambda: [patch.object(MemoryServer, "_tick", _ticks_unnoticed)],
    "a head that failed goes to the end": lambda: [
        patch.object(MemoryServer, "_move", _backoff_forgets_the_head)
    ],
    "what is put off is moved too early": lambda: [patch.object(MemoryServer, "move", _moves_early)],
    "what was moved may be moved again": lambda: [patch.object(MemoryServer, "move", _moves_twice)],
    "nobody keeps the clock": lambda: [patch.object(Incarnation, "look_at_due", _clock_keeps_nothing)],
    "keys are not looked at": lambda: [patch.object(MemoryServer, "first_id", _no_keys)],
    "what is put off dies with who keeps the clock": lambda: [
        patch.object(MemoryServer, "reap", _reap_loses_what_is_put_off)
    ],
    "entities are not paused": lambda: [patch.object(MemoryServer, "_is_held", _holds_types_alone)],
    "types are not held": lambda: [patch.object(MemoryServer, "_is_held", _holds_entities_alone)],
    "a resumed entity wakes nobody": lambda: [patch.object(MemoryServer, "pause", _resume_wakes_nobody)],
    "an operator overrules nobody": lambda: [patch.object(MemoryServer, "_overrule", _overrules_nobody)],
    "a purge takes what it has not seen": lambda: [
        patch.object(MemoryServer, "purge", _purges_what_there_is)
    ],
    "a dead letter is redelivered again": lambda: [
        patch.object(MemoryServer, "redeliver", _redelivers_again)
    ],
    "a redelivered command is lost": lambda: [patch.object(MemoryServer, "redeliver", _redelivers_nowhere)],
    "what is withdrawn is still moved": lambda: [patch.object(Later, "take_out", _takes_nothing_out)],
    "each pod makes each tick": lambda: [patch.object(MemoryServer, "tick", _ticks_for_everybody)],
    "a tick sends nothing": lambda: [patch.object(MemoryServer, "tick", _ticks_in_silence)],
    "nobody keeps schedules": lambda: [patch("trioqueue._open.keep", _keeps_no_schedule)],
}
"""Each with the patches that make it."""


@contextlib.contextmanager
def broken(name: str) -> Iterator[None]:
    """Leaves out a rule."""
    with contextlib.ExitStack() as patches:
        for one in MUTANTS[name]():
            patches.enter_context(one)
        yield
