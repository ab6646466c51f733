"""The protocol in plain Python: what the scripts of the Redis store do, to read and to compare with.

One method is one script: it runs without an interruption, reads and checks before its first write, and answers
with the contract's types.  Every change of an entity's mode goes through the lifecycle table.

Times are integers in microseconds, from a clock that is given; nothing here waits.
"""

import contextlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence

from trioqueue._errors import Incompatible
from trioqueue._names import Entity
from trioqueue.messages.policy import Lease
from trioqueue.protocol.lease import shift_us, silent_since
from trioqueue.protocol.lifecycle import Event, Mode, advance
from trioqueue.protocol.placement import Candidate, choose
from trioqueue.stores.contract import (
    CHUNK,
    MAX_BATCH_BYTES,
    NOT_MODIFIED,
    PAGE,
    Answered,
    Backoff,
    CancelAsked,
    ClaimAnswer,
    Claimed,
    ClaimWish,
    Commit,
    CommitAnswer,
    DeadLetter,
    Empty,
    Fenced,
    Hint,
    Later,
    LeaseLost,
    Member,
    Next,
    NotClaimed,
    NotYours,
    Outgoing,
    Parked,
    PodInfo,
    Queued,
    Report,
    SendClaimAnswer,
    Silent,
    StoreStatistics,
    Wake,
    check_commands,
    check_commit,
)
from trioqueue.stores.memory.records import Mailbox, Pod, Producer

MAX_HINT_BYTES = 4096
"""Outcomes up to this size travel in the hint; larger ones are read from where they are kept."""

MAX_BACKOFF_US = 3_600_000_000
"""No policy waits longer (an hour): a later due time means that the clock was set back, and counts as passed."""

DECLINE_US = 1_000_000
"""A declined head starts no earlier than in a second, so that two pods that both can't don't play ball with it."""


class Quarantined(Exception):
    """The server was restarted and older leases may not have ended yet: ask again soon."""


class MemoryServer:
    """All mailboxes of one process, shared by the stores that are opened on it."""

    def __init__(self, now_us: Callable[[], int]) -> None:
        self._now_us = now_us
        self.generation = "memory-1"
        self.quarantine_until_us: int | None = None  # set by the first join after a restart, ended by a beat
        self._known_generation: str | None = None  # the one that the last join found
        self._lease: Lease | None = None  # the first opener's: same heartbeat for all, no ttl above its own
        self.mailboxes: dict[Entity, Mailbox] = {}  # idle ones have no entry
        self.states: dict[Entity, tuple[str, bytes]] = {}
        self.pods: dict[str, Pod] = {}
        self.producers: defaultdict[str, Producer] = defaultdict(Producer)
        self.results: dict[str, tuple[int, bytes]] = {}  # command id -> (kept until, outcome)
        self.dead: defaultdict[str, dict[str, DeadLetter]] = defaultdict(dict)
        self.listeners: dict[str, Callable[[Hint], None]] = {}
        self.last_tick_us = now_us()
        self.epoch_floor = 0
        self.incarnations = 0
        self.generation_from = 0  # number of the first incarnation that joined this generation

    def restart(self) -> None:
        """Begins a new generation with all the data, as a Redis that was restarted: for tests."""
        self.generation = f"memory-{int(self.generation.removeprefix('memory-')) + 1}"

    # -------------------------------------------------------------------------------- checks and small steps
    def _registered(self, member: Member) -> Pod:
        self._check_generation(member)
        return self._pod_of(member)

    def _check_generation(self, member: Member) -> None:
        if member.generation != self.generation:
            raise LeaseLost("the server is another one")
        if self.quarantine_until_us is not None:
            raise Quarantined

    def _pod_of(self, member: Member) -> Pod:
        pod = self.pods.get(member.incarnation)
        if pod is None or pod.leaving:
            raise LeaseLost(f"{member.incarnation} is not registered any more")
        return pod

    def _hint(self, client: str, hint: Hint) -> None:
        listener = self.listeners.get(client)
        if listener is not None:
            listener(hint)

    def _own(self, entity: Entity, to: str | None) -> None:
        """Changes an entity's owner, and with it what its old and new pod own."""
        box = self.mailboxes[entity]
        if box.owner is not None:
            old = self.pods[box.owner]
            old.owns.remove(entity)
            old.loads[entity.type] -= 1
        box.owner = to
        if to is not None:
            self.pods[to].owns.add(entity)
            self.pods[to].loads[entity.type] += 1

    def _place(
        self, entity_type: str, *, prefer: str | None = None, without: str | None = None
    ) -> str | None:
        return choose(
            (
                Candidate(incarnation, pod.loads[entity_type], pod.room - len(pod.owns))
                for incarnation, pod in self.pods.items()
                if entity_type in pod.info.types and not pod.leaving
            ),
            prefer=prefer,
            without=without,
        )

    def _move(self, entity: Entity, event: Event) -> None:
        box = self.mailboxes[entity]
        box.mode = advance(box.mode, event)
        if box.mode is Mode.IDLE:
            del self.mailboxes[entity]

    def _give(self, entity: Entity, to: str | None, placed: Event, stranded: Event) -> None:
        """Assigns an entity with work to a pod, and wakes it, or leaves it without one."""
        self._own(entity, to)
        self._move(entity, placed if to else stranded)
        if to is not None:
            self._hint(client_of(to), Wake(entity))

    def _push(self, entity: Entity, queued: Queued, *, prefer: str | None) -> None:
        box = self.mailboxes.setdefault(entity, Mailbox())
        had_work = bool(box.queue)
        box.queue.append(queued)
        if box.mode is Mode.IDLE:
            self._give(entity, self._place(entity.type, prefer=prefer), Event.PLACED, Event.UNPLACED)
            return
        self._move(entity, Event.QUEUED)
        if box.mode is Mode.PARKED and not had_work:
            assert box.owner is not None
            self._hint(client_of(box.owner), Wake(entity))

    def _epoch(self, box: Mailbox) -> int:
        box.epoch = self.epoch_floor = max(box.epoch + 1, self.epoch_floor + 1, self._now_us())
        return box.epoch

    @staticmethod
    def _batch(box: Mailbox, want: int) -> tuple[Queued, ...]:
        """The first commands, bounded in count and bytes; a suspect comes alone."""
        batch: list[Queued] = []
        size = 0
        for queued in box.queue:
            size += len(queued.data)
            if batch and (len(batch) >= want or size > MAX_BATCH_BYTES or box.is_suspect()):
                break
            batch.append(queued)
        return tuple(batch)

    # -------------------------------------------------------------------------------- sending
    def send(
        self,
        producer: str,
        low: int,
        sequence: int,
        commands: Sequence[Outgoing],
        member: Member | None = None,
        wishes: Sequence[ClaimWish] = (),
    ) -> tuple[bool, list[tuple[Entity, SendClaimAnswer]]]:
        """Takes one group whole; answers whether it was a duplicate, and each wish.

        Raises:
            PayloadTooLarge: one of it is; no copy was ever taken, so its number stays open.
        """
        check_commands(commands)
        duplicate = not self.producers[producer].takes(low, sequence)
        here: str | None = None
        if member is not None:
            with contextlib.suppress(LeaseLost, Quarantined):
                self._registered(member)
                here = member.incarnation
        if not duplicate:
            now = self._now_us()
            for entity, data in commands:
                self._push(entity, Queued(now, data), prefer=here)
        answers: list[tuple[Entity, SendClaimAnswer]] = []
        for wish in wishes:
            box = self.mailboxes.get(wish.entity)
            if here and member and box and box.owner == here and (box.mode is Mode.PARKED or duplicate):
                answers.append((wish.entity, self.claim(member, wish.entity, wish.have, wish.fetch)))
            else:
                answers.append((wish.entity, NotClaimed()))
        return duplicate, answers

    def void(self, producer: str, sequence: int) -> bool:
        """Spends a group's number unless the group was taken; True: it was taken."""
        return self.producers[producer].void(sequence)

    # -------------------------------------------------------------------------------- the owner's requests
    def claim(self, member: Member, entity: Entity, have: str = "", fetch: int = 64) -> ClaimAnswer:
        """Begins with an entity; see `Store.claim`."""
        pod = self._registered(member)
        box = self.mailboxes.get(entity)
        if box is None or box.owner != member.incarnation:
            return NotYours()
        now = self._now_us()
        if box.marked and box.queue:
            box.proven |= box.marked == "alone"
            box.marked = ""
            box.crashes += 1
        if box.due_us is not None and 0 < box.due_us - now <= MAX_BACKOFF_US:
            self._move(entity, Event.HELD_BACK)
            return Backoff((box.due_us - now) / 1e6)
        if box.queue and box.is_suspect():
            if pod.suspect not in (None, entity):
                self._move(entity, Event.HELD_BACK)
                return Later()
            pod.suspect = entity
        epoch = self._epoch(box)
        if not box.queue:
            self._move(entity, Event.FOUND_EMPTY)
            return Empty(epoch)
        box.due_us = None
        self._move(entity, Event.CLAIMED)
        version, state = self.states.get(entity, ("", None))
        return Claimed(
            epoch=epoch,
            done=box.done,
            now_us=now,
            batch=self._batch(box, fetch),
            state=NOT_MODIFIED if have and have == version else state,
            state_version=version,
            attempts=box.attempts,
            crashes=box.crashes,
            proven=box.proven,
            unknown_us=now - box.unknown_since_us if box.unknown_since_us is not None else 0,
            cancels=tuple(box.cancels),
        )

    def commit(self, member: Member, commit: Commit) -> CommitAnswer:
        """Makes a turn stand; see `Store.commit`."""
        pod = self._registered(member)
        entity = commit.entity
        box = self.mailboxes.get(entity)
        if (
            box is None
            or box.owner != member.incarnation
            or box.epoch != commit.epoch
            or box.done < commit.done
            or box.done == commit.done
            and box.mode is not Mode.ACTIVE
        ):
            return Fenced()
        if box.done > commit.done:
            return self._after_commit(box, commit.want)
        check_commit(commit)
        now = self._now_us()
        for _ in range(commit.pops):
            box.queue.popleft()
            box.settle_head()
        box.done += commit.pops
        if commit.retry_ms is not None:
            box.done += 1
            box.attempts += commit.failed
            box.due_us = now + commit.retry_ms * 1000
        if pod.suspect == entity:
            pod.suspect = None
        if commit.state is not None:
            self.states[entity] = (f"{commit.epoch}.{commit.done}", commit.state)
        for child in commit.children:
            self._push(child.entity, Queued(now, child.data), prefer=member.incarnation)
        for letter in commit.dead:
            self.dead[entity.type][letter.command_id] = letter
        for command_id in commit.settled_cancels:
            box.cancels.pop(command_id, None)
        self._forget_results(now)
        for reply in commit.replies:
            self.results[reply.command_id] = (now + reply.keep_ms * 1000, reply.outcome)
            if reply.to:
                small = len(reply.outcome) <= MAX_HINT_BYTES
                self._hint(reply.to, Answered(reply.command_id, reply.outcome if small else None))
        if not box.queue:
            box.cancels.clear()
            self._move(entity, Event.EMPTIED)
        elif commit.retry_ms is not None:
            self._move(entity, Event.BACKED_OFF)
        else:
            self._move(entity, Event.CONTINUED)
        return self._after_commit(box, commit.want)

    def _forget_results(self, now: int) -> None:
        """Drops outcomes past their time, oldest first."""
        while self.results and next(iter(self.results.values()))[0] <= now:
            del self.results[next(iter(self.results))]

    def _after_commit(self, box: Mailbox, want: int) -> CommitAnswer:
        now = self._now_us()
        if box.mode is Mode.ACTIVE:
            batch = self._batch(box, want) if want else ()
            return Next(now, batch, tuple(box.cancels))
        if box.due_us is None:
            return Parked()
        left_us = box.due_us - now
        # Further away: a repetition, and the clock was set back meanwhile.  Nothing else would wake the worker.
        return Backoff(left_us / 1e6 if 0 < left_us <= MAX_BACKOFF_US else 0.0)

    def release(self, member: Member, entity: Entity, epoch: int | None, why: str) -> bool:
        """Lets go of an entity; see `Store.release`."""
        pod = self._registered(member)
        box = self.mailboxes.get(entity)
        if box is None or box.owner != member.incarnation:
            return False
        if box.mode is not Mode.PARKED if epoch is None else box.epoch != epoch:
            return False
        if why == "idle" and box.queue:
            return False
        if pod.suspect == entity:
            pod.suspect = None
        if why == "decline" and box.queue:
            now = self._now_us()
            box.due_us = now + DECLINE_US
            box.unknown_since_us = now if box.unknown_since_us is None else box.unknown_since_us
        self._let_go(entity, without=member.incarnation)
        return True

    def _let_go(self, entity: Entity, *, without: str) -> None:
        box = self.mailboxes[entity]
        if not box.queue:
            self._own(entity, None)
            self._move(entity, Event.LET_GO)
            return
        self._give(entity, self._place(entity.type, without=without), Event.HANDED_OVER, Event.STRANDED)

    # -------------------------------------------------------------------------------- membership
    def join(self, client: str, info: PodInfo) -> Member:
        """Registers an incarnation; see `Store.join`."""
        first = self._lease or info.lease
        if info.lease.heartbeat != first.heartbeat:
            raise Incompatible(
                f"its fleet beats every {first.heartbeat:g} s, not {info.lease.heartbeat:g} s, open with that lease"
            )
        if info.lease.ttl > first.ttl:
            raise Incompatible(
                f"its fleet allows a lease of {first.ttl:g} s at most, not {info.lease.ttl:g} s, shorten it"
            )
        self._tick(round(info.lease.heartbeat * 1e6))
        if self._known_generation != self.generation:
            if self._known_generation is not None:
                self.quarantine_until_us = self._now_us() + round((first.ttl + first.grace) * 1e6)
            self._known_generation = self.generation
            self.generation_from = max(self.incarnations + 1, self._now_us())
        self._lease = first
        self.incarnations = max(self.incarnations + 1, self._now_us())
        incarnation = f"{client}.{self.incarnations}"
        self.pods[incarnation] = Pod(info, self._now_us(), info.room)
        return Member(incarnation, self.generation)

    def retire(self, member: Member) -> None:
        """Ends placement with this pod; see `Store.retire`."""
        self._registered(member).room = 0

    def _tick(self, heartbeat_us: int) -> None:
        now = self._now_us()
        shift = shift_us(self.last_tick_us, now, heartbeat_us)
        if shift:
            for pod in self.pods.values():
                pod.renewed_us = min(now, pod.renewed_us + shift)
            if self.quarantine_until_us is not None:
                self.quarantine_until_us += shift
        self.last_tick_us = now

    def beat(self, member: Member, offset: int) -> Report:
        """Renews a lease and reports; see `Store.hold_lease`.  Ends the quarantine, and nothing else does."""
        if member.generation != self.generation:
            raise LeaseLost("the server is another one")
        pod = self._pod_of(member)
        self._tick(round(pod.info.lease.heartbeat * 1e6))
        now = pod.renewed_us = self._now_us()
        if self.quarantine_until_us is not None and self.quarantine_until_us <= now:
            self.quarantine_until_us = None
        silent = [i for i, p in self.pods.items() if p.leaving or now > self._silent_from(p)]
        owned = pod.owns
        ready = self._ready(pod.info.types)
        room = pod.room - len(owned)
        return Report(
            owned=len(owned),
            wakes=self.wakes(member, offset),
            cancels=tuple(sorted(e for e in owned if self.mailboxes[e].cancels)),
            ready=ready[: min(CHUNK, max(room, 0))],
            pressed=bool(ready) and room <= 0,
            silent=tuple(Silent(i, tuple(self.pods[i].info.types)) for i in silent),
        )

    @staticmethod
    def _silent_from(pod: Pod) -> int:
        lease = pod.info.lease
        return silent_since(pod.renewed_us, round(lease.ttl * 1e6), round(lease.grace * 1e6))

    def reap(self, member: Member, incarnation: str, *, gave_up: bool) -> bool:
        """Hands a pod's entities on; see `Store.reap`.

        The pod stays registered until its last entity has been handed on: an owner that is not in the registry
        would be one that nobody reaps.
        """
        self._check_generation(member)
        if not (gave_up and incarnation == member.incarnation):
            self._pod_of(member)
        pod = self.pods.get(incarnation)
        if pod is None:
            return True
        if gave_up:
            if client_of(incarnation) != client_of(member.incarnation):
                return False
        elif not pod.leaving and self._now_us() <= self._silent_from(pod):
            return False
        pod.leaving = True
        # Who registered with the server before lost its lease by the restart: that is nobody's crash.
        crashed = not gave_up and number_of(incarnation) >= self.generation_from
        for entity in sorted(pod.owns):
            box = self.mailboxes[entity]
            if box.mode is Mode.ACTIVE and crashed and pod.suspect in (None, entity):
                box.marked = "alone" if pod.suspect else "among others"
            self._let_go(entity, without=incarnation)
        del self.pods[incarnation]
        return True

    def assign(self, member: Member, entities: Iterable[Entity]) -> tuple[Entity, ...]:
        """Gives ready entities to pods with room; answers the next ones of their types, if any was placed."""
        self._registered(member)
        placed: set[str] = set()
        for entity in entities:
            box = self.mailboxes.get(entity)
            if box is not None and box.mode is Mode.READY:
                to = self._place(entity.type)
                self._give(entity, to, Event.PLACED, Event.UNPLACED)
                if to is not None:
                    placed.add(entity.type)
        return self._ready(placed)[:CHUNK]

    def _ready(self, types: Collection[str]) -> tuple[Entity, ...]:
        return tuple(e for e, box in self.mailboxes.items() if box.mode is Mode.READY and e.type in types)

    # -------------------------------------------------------------------------------- looking
    def _owns(self, member: Member) -> set[Entity]:
        pod = self.pods.get(member.incarnation)
        return pod.owns if pod else set()

    def owned(self, member: Member, offset: int) -> tuple[Entity, ...]:
        """Reads a page of a pod's entities."""
        return tuple(sorted(self._owns(member))[offset : offset + PAGE])

    def wakes(self, member: Member, offset: int) -> tuple[Entity, ...]:
        """Reads a page of a pod's entities with work."""
        mine = sorted(e for e in self._owns(member) if self.mailboxes[e].queue)
        return tuple(mine[offset : offset + PAGE])

    def cancel(self, entity: Entity, command_id: str) -> bool:
        """Marks a queued command; see `Store.cancel`."""
        box = self.mailboxes.get(entity)
        if box is None or not box.queue or self.result(command_id) is not None:
            return False
        box.cancels[command_id] = self._now_us()
        if box.owner is not None:
            self._hint(client_of(box.owner), CancelAsked(entity, command_id))
        return True

    def result(self, command_id: str) -> bytes | None:
        """Reads an outcome that is still kept."""
        kept = self.results.get(command_id)
        return kept[1] if kept and kept[0] > self._now_us() else None

    def statistics(self) -> StoreStatistics:
        """Counts what there is."""
        boxes = self.mailboxes.values()
        return StoreStatistics(
            pods=len(self.pods),
            owned=sum(box.owner is not None for box in boxes),
            with_work=sum(bool(box.queue) for box in boxes),
            ready=sum(box.mode is Mode.READY for box in boxes),
            dead=sum(map(len, self.dead.values())),
        )


def client_of(incarnation: str) -> str:
    """Names the client that an incarnation belongs to."""
    return incarnation.rpartition(".")[0]


def number_of(incarnation: str) -> int:
    """Reads the number of an incarnation, which rises with every join."""
    return int(incarnation.rpartition(".")[2])
