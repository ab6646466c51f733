"""The protocol in plain Python: what the scripts of the Redis store do, to read and to compare with.

One method is one script: it runs without an interruption, reads and checks before its first write, and answers
with the contract's types.  Every change of an entity's mode goes through the lifecycle table.

Times are integers in microseconds, from a clock that is given; nothing here waits.
"""

import contextlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from trioqueue._errors import Incompatible, MailboxFull
from trioqueue._names import Entity
from trioqueue.protocol.lease import shift_us, silent_since
from trioqueue.protocol.lifecycle import Event, Mode
from trioqueue.stores.contract import (
    CHUNK,
    KEEP_CANCELLED_MS,
    KEEP_PROGRESS_MS,
    NOT_MODIFIED,
    PAGE,
    Backoff,
    ClaimAnswer,
    Claimed,
    ClaimWish,
    Commit,
    CommitAnswer,
    Empty,
    Fenced,
    Later,
    LeaseLost,
    Member,
    Next,
    NotClaimed,
    NotYours,
    Outgoing,
    Parked,
    Paused,
    PodInfo,
    SendClaimAnswer,
    Withdrawn,
    check_commands,
    check_commit,
)
from trioqueue.stores.memory.mailboxes import Quarantined, client_of, number_of
from trioqueue.stores.memory.operating import Operating
from trioqueue.stores.memory.records import Mailbox, Pod
from trioqueue.stores.reports import (
    Answered,
    CancelAsked,
    KeepAwake,
    Progress,
    Queued,
    Report,
    Silent,
    StoreStatistics,
    Tick,
    Told,
    Watched,
    Withdrawal,
)

MAX_HINT_BYTES = 4096
"""Outcomes up to this size travel in the hint; larger ones are read from where they are kept."""

MAX_BACKOFF_US = 3_600_000_000
"""No policy waits longer (an hour): a later due time means that the clock was set back, and counts as passed."""

DECLINE_US = 1_000_000
"""A declined head starts no earlier than in a second, so that two pods that both can't don't play ball with it."""

OVERDUE_US = 1_000_000
"""What is late by so much is anybody's to look after."""

NO_LIMITS: Mapping[str, int] = {}


class MemoryServer(Operating):
    """All mailboxes of one process, shared by the stores that are opened on it."""

    # -------------------------------------------------------------------------------- sending
    def send(
        self,
        producer: str,
        low: int,
        sequence: int,
        commands: Sequence[Outgoing],
        member: Member | None = None,
        wishes: Sequence[ClaimWish] = (),
        limits: Mapping[str, int] = NO_LIMITS,
    ) -> tuple[bool, list[tuple[Entity, SendClaimAnswer]]]:
        """Takes one group whole; answers whether it was a duplicate, and each wish.

        Raises:
            PayloadTooLarge: one of it is; no copy was ever taken, so its number stays open.
            MailboxFull: likewise, unless a copy was taken before.
        """
        check_commands(commands)
        sender = self.producers[producer]
        known = self.first_id(commands) is not None
        if limits and not known and sender.is_new(low, sequence):
            self._check_room(commands, limits)
        taken = sender.takes(low, sequence)
        duplicate = known or not taken
        here: str | None = None
        if member is not None:
            with contextlib.suppress(LeaseLost, Quarantined):
                self._registered(member)
                here = member.incarnation
        if not duplicate:
            now = self._now_us()
            for command in commands:
                if command.terms is not None and command.terms.key:
                    key, ends = (command.entity, command.terms.key), now + command.terms.key_ms * 1000
                    self.keys.keep(key, ends, command.terms.command_id)
                self._accept(command, prefer=here)
        answers: list[tuple[Entity, SendClaimAnswer]] = []
        for wish in wishes:
            box = self.mailboxes.get(wish.entity)
            if here and member and box and box.owner == here and (box.mode is Mode.PARKED or not taken):
                answers.append((wish.entity, self.claim_wished(member, wish)))
            else:
                answers.append((wish.entity, NotClaimed()))
        return duplicate, answers

    def first_id(self, commands: Sequence[Outgoing]) -> str | None:
        """Says for which command a group's key stands; None: it has none, or it is a new one."""
        if len(commands) != 1 or commands[0].terms is None or not commands[0].terms.key:
            return None
        return self.keys.kept((commands[0].entity, commands[0].terms.key))

    def _check_room(self, commands: Sequence[Outgoing], limits: Mapping[str, int]) -> None:
        more = Counter[Entity]()
        for entity, _, terms in commands:
            box, limit = self.mailboxes.get(entity), limits.get(entity.type)
            if limit is not None and (terms is None or not terms.delay_us):
                more[entity] += 1
                if (len(box.queue) if box else 0) + more[entity] > limit:
                    if box is not None:
                        box.full = (self._now_us(), limit)
                    raise MailboxFull(str(entity), limit)

    def tell_progress(self, command_id: str, client: str, word: bytes) -> None:
        """Keeps the newest word on a command; see `Store.tell_progress`."""
        self.words.keep(command_id, self._now_us() + KEEP_PROGRESS_MS * 1000, word)
        if client:
            self._hint(client, Progress(command_id, word))

    def tick(
        self,
        schedule: str,
        expected_ms: int | None,
        following_ms: int | None,
        command: Outgoing | None,
    ) -> Tick:
        """Moves a schedule on; see `Store.tick`."""
        now_ms, stored = self._now_us() // 1000, self.schedules.get(schedule)
        if following_ms is None or stored != expected_ms:
            return Tick(now_ms, stored, moved=False)
        if command is not None:
            self._push(command.entity, Queued(self._now_us(), command.data), prefer=None)
        self.schedules[schedule] = following_ms
        return Tick(now_ms, following_ms, moved=True)

    def keep(self, member: Member, entities: Sequence[Entity], keep_ms: int) -> int:
        """Has entities kept awake; see `Store.keep`."""
        self._registered(member)
        homeless, told = 0, dict[str, list[Entity]]()
        waiting = {entity.type for entity in self._ready({entity.type for entity in entities})}
        for entity in entities:
            box = self.mailboxes.get(entity)
            if entity.type in self.held or box is not None and box.paused is not None:
                continue
            owner = box.owner if box is not None else None
            if box is None and entity.type not in waiting:  # what waits for room has work, and comes first
                owner = self._place(entity.type)
                if owner is not None:
                    self.mailboxes[entity] = Mailbox()
                    self._own(entity, owner)
                    self._move(entity, Event.KEPT)
            if owner is not None:
                told.setdefault(owner, []).append(entity)
            else:
                homeless += box is None
        for owner, kept in told.items():
            self._hint(client_of(owner), KeepAwake(tuple(kept), keep_ms / 1000))
        return homeless

    # -------------------------------------------------------------------------------- what is told
    def watch(self, client: str, entity_type: str, keep_ms: int) -> None:
        """Notes who wants to be told what happens; see `Store.watch`."""
        now, before = self._now_us(), self.watched()
        self.watchers.pop((client, entity_type), None)
        self.watchers = {one: until for one, until in self.watchers.items() if until > now}
        if keep_ms:
            self.watchers[client, entity_type] = now + keep_ms * 1000
        after = self.watched()
        if after != before:
            for incarnation in self.pods:
                self._hint(client_of(incarnation), Watched(after))

    def watched(self) -> tuple[str, ...]:
        """Gives the types of which somebody wants to be told."""
        now = self._now_us()
        return tuple(sorted({of for (_, of), until in self.watchers.items() if until > now}))

    def tell_events(self, data: bytes) -> bool:
        """Tells all who want to be told; see `Store.tell_events`."""
        now = self._now_us()
        told = {client for (client, _), until in self.watchers.items() if until > now}
        for client in told:
            self._hint(client, Told(data))
        return bool(told)

    def move(self, member: Member) -> float | None:
        """Puts what is due into mailboxes; see `Store.move`."""
        self._registered(member)
        now = self._now_us()
        while (one := self.later.take_due(now)) is not None:
            self._push(one.entity, one.queued, prefer=None)
        left_us = self.later.left_us(now)
        return None if left_us is None else left_us / 1e6

    def void(self, producer: str, sequence: int) -> bool:
        """Spends a group's number unless the group was taken; True: it was taken."""
        return self.producers[producer].void(sequence)

    # -------------------------------------------------------------------------------- the owner's requests
    def claim_wished(self, member: Member, wish: ClaimWish) -> ClaimAnswer:
        """Begins with an entity as a wish says."""
        return self.claim(member, wish.entity, wish.have, wish.fetch, eager=wish.eager)

    def claim(
        self, member: Member, entity: Entity, have: str = "", fetch: int = 64, *, eager: bool = False
    ) -> ClaimAnswer:
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
        if self._is_held(entity):
            # The answer to an earlier copy of this request may still be on its way: only its owner lets go of it.
            box.overruled |= box.mode is Mode.ACTIVE
            self._move(entity, Event.HELD_BACK)
            return Paused()
        box.overruled = False
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
        box.eager |= eager
        self._move(entity, Event.CLAIMED)
        version, state = self.states.get(entity, ("", None))
        return Claimed(
            epoch=epoch,
            done=box.done,
            now_us=now,
            batch=box.hand_out(self._batch(box, fetch)),
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
            return self._after_commit(entity, commit.want)
        check_commit(commit)
        now = self._now_us()
        self._settle(box, commit)
        if pod.suspect == entity:
            pod.suspect = None
        if commit.state is not None:
            self.states[entity] = (f"{commit.epoch}.{commit.done}", commit.state)
        for child in commit.children:
            self._accept(child, prefer=member.incarnation)
        for before, letter in enumerate(commit.dead):
            self.dead[entity.type][letter.command_id] = letter
            self.died_us[letter.command_id] = now + before
        for command_id in commit.settled_cancels:
            box.cancels.pop(command_id, None)
        for reply in commit.replies:
            self.results.keep(reply.command_id, now + reply.keep_ms * 1000, reply.outcome)
            if reply.to:
                small = len(reply.outcome) <= MAX_HINT_BYTES
                self._hint(reply.to, Answered(reply.command_id, reply.outcome if small else None))
        for one in commit.withdrawn:  # behind its outcomes, as it may name what it settles
            self._withdraw(one)
        if not box.queue:
            box.cancels.clear()
            box.full = None
            self._move(entity, Event.EMPTIED)
        elif commit.retry_ms is not None or commit.pause:
            self._move(entity, Event.BACKED_OFF)
        elif self._is_held(entity):
            self._move(entity, Event.HELD_BACK)
        else:
            self._move(entity, Event.CONTINUED)
        return self._after_commit(entity, commit.want)

    def _withdraw(self, one: Withdrawn) -> None:
        """Cancels a command for a turn."""
        box = self.mailboxes.get(one.entity)
        if self.later.take_out(one.command_id):
            until_us = self._now_us() + max(one.keep_ms, KEEP_CANCELLED_MS) * 1000
            self.results.keep(one.command_id, until_us, one.outcome)
        elif box is not None and box.queue and self.result(one.command_id) is None:
            self._mark(one.entity, one.command_id)

    def _settle(self, box: Mailbox, commit: Commit) -> None:
        """Takes settled commands out of a mailbox, or notes that its head stays."""
        now = self._now_us()
        for _ in range(commit.pops):
            box.queue.popleft()
            box.settle_head()
        box.done += commit.pops
        if commit.failed and (commit.retry_ms is not None or commit.pause):
            box.unknown_since_us = None  # a pod that failed with it knows it
        if commit.retry_ms is not None:
            box.done += 1
            box.fetched += 1
            box.attempts += commit.failed
            box.due_us = now + commit.retry_ms * 1000
        if commit.pause:
            box.done += 1
            box.fetched += 1
            box.attempts += commit.failed
            box.paused = (now, commit.pause)

    def _after_commit(self, entity: Entity, want: int) -> CommitAnswer:
        now, box = self._now_us(), self.mailboxes[entity]
        if box.mode is Mode.ACTIVE:
            batch = box.hand_out(self._batch(box, want)) if want else ()
            return Next(now if batch else 0, batch, tuple(box.cancels))
        if self._is_held(entity):
            return Paused()
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
        self._let_go(entity, without=member.incarnation, declined=why == "decline")
        return True

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
        # The oldest pod keeps the clock; the others only see what is overdue.
        oldest = min((i for i in self.pods if i not in silent or i == member.incarnation), key=number_of)
        left_us = self.later.left_us(now)
        if oldest == member.incarnation:
            self._clock = oldest
        elif left_us is not None and left_us >= -OVERDUE_US:
            left_us = None
        owned = pod.owns
        ready = self._ready(pod.info.types - self.held.keys())
        room = pod.room - len(owned)
        return Report(
            owned=len(owned),
            wakes=self.wakes(member, offset),
            cancels=tuple(sorted(e for e in owned if self.mailboxes[e].cancels)),
            ready=ready[: min(CHUNK, max(room, 0))],
            pressed=bool(ready) and room <= 0,
            silent=tuple(Silent(i, tuple(self.pods[i].info.types)) for i in silent),
            due_in=None if left_us is None else max(0, left_us) / 1e6,
            watched=self.watched(),
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
                to = None if entity.type in self.held else self._place(entity.type)
                self._give(entity, to, Event.PLACED, Event.UNPLACED)
                if to is not None:
                    placed.add(entity.type)
        return self._ready(placed)[:CHUNK]

    def _ready(self, types: Collection[str]) -> tuple[Entity, ...]:
        """Names the entities of these types that wait for a pod, the one that waits longest first."""
        ready = [
            (box.ready_since_us or 0, entity)
            for entity, box in self.mailboxes.items()
            if box.mode is Mode.READY and entity.type in types
        ]
        return tuple(entity for _, entity in sorted(ready))

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
        self._mark(entity, command_id)
        return True

    def _mark(self, entity: Entity, command_id: str) -> None:
        box = self.mailboxes[entity]
        box.cancels[command_id] = self._now_us()
        if box.owner is not None:
            self._hint(client_of(box.owner), CancelAsked(entity, command_id))

    def withdraw(
        self, entity: Entity, command_id: str, beginning: bytes, outcome: bytes, keep_ms: int
    ) -> Withdrawal:
        """Cancels a command after a look at where it is; see `Store.withdraw`."""
        if self.later.take_out(command_id):
            until_us = self._now_us() + max(keep_ms, KEEP_CANCELLED_MS) * 1000
            self.results.keep(command_id, until_us, outcome)
            return "dropped"
        place = self.place_of(entity, beginning)
        if place is None:
            return "dropped" if self.result(command_id) == outcome else "late"
        self._mark(entity, command_id)
        return "told" if place == 0 and self.mailboxes[entity].mode is Mode.ACTIVE else "dropped"

    def statistics(self) -> StoreStatistics:
        """Counts what there is."""
        boxes = self.mailboxes.values()
        ready = [entity.type in self.held for entity, box in self.mailboxes.items() if box.mode is Mode.READY]
        return StoreStatistics(
            pods=len(self.pods),
            owned=sum(box.owner is not None for box in boxes),
            with_work=sum(bool(box.queue) and box.mode is not Mode.PAUSED for box in boxes),
            ready=ready.count(False),
            dead=sum(map(len, self.dead.values())),
            put_off=len(self.later.commands),
            held=ready.count(True),
        )
