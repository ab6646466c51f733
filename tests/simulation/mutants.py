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
from trioqueue.stores.contract import ClaimAnswer, Commit, CommitAnswer, Member, PodInfo
from trioqueue.stores.memory.records import Mailbox, Pod, Producer
from trioqueue.stores.memory.server import MemoryServer
from trioqueue.stores.reports import Report

_commit = MemoryServer.commit
_beat = MemoryServer.beat
_claim = MemoryServer.claim
_join = MemoryServer.join
_judge = Turns._judge
_move = MemoryServer._move


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
    self: MemoryServer, member: Member, entity: Entity, have: str = "", fetch: int = 64
) -> ClaimAnswer:
    answer = _claim(self, member, entity, have, fetch)
    box = self.mailboxes.get(entity)
    if box is not None and len(box.queue) > 1 and hasattr(answer, "batch"):
        box.queue.pop()  # what was fetched last is believed to be in the worker's hand
    return answer


def _always_trusted(self: Incarnation) -> bool:
    return not self.scope.cancel_called


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


def _children_at_once(self: Context, command: Any) -> Receipt[Any]:
    sender: Any = self._sender
    outgoing = sender.encode(command, sender._next_id())
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
    "state stays dirty after a failure": lambda: [patch.object(Turns, "_judge", _dirty_state)],
    "children are sent at once": lambda: [patch.object(Context, "send", _children_at_once)],
    "no quarantine": lambda: [patch.object(MemoryServer, "join", _join_without_quarantine)],
    "requests for any generation": lambda: [patch.object(MemoryServer, "_check_generation", _no_generations)],
    "jumps of the clock unnoticed": lambda: [patch.object(MemoryServer, "_tick", _ticks_unnoticed)],
    "a head that failed goes to the end": lambda: [
        patch.object(MemoryServer, "_move", _backoff_forgets_the_head)
    ],
}
"""Each with the patches that make it."""


@contextlib.contextmanager
def broken(name: str) -> Iterator[None]:
    """Leaves out a rule."""
    with contextlib.ExitStack() as patches:
        for one in MUTANTS[name]():
            patches.enter_context(one)
        yield
