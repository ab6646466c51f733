"""All that the in-process store holds, and the small steps in which it changes."""

from collections import defaultdict
from collections.abc import Callable, Iterator

from trioqueue._names import Entity
from trioqueue.messages.policy import Lease
from trioqueue.protocol.lifecycle import Event, Mode, advance
from trioqueue.protocol.placement import Candidate, choose, next_after
from trioqueue.stores.contract import MAX_BATCH_BYTES, DeadLetter, LeaseLost, Member, Outgoing
from trioqueue.stores.memory.expiring import Expiring
from trioqueue.stores.memory.later import Later as LaterCommands
from trioqueue.stores.memory.records import Mailbox, Pod, Producer
from trioqueue.stores.reports import Due, Hint, Queued, Wake


class Quarantined(Exception):
    """The server was restarted and older leases may not have ended yet: ask again soon."""


class Mailboxes:
    """Mailboxes, pods and what is known of senders, with the steps that more than one operation takes."""

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
        self.results = Expiring[str, bytes](now_us)  # command id -> outcome
        self.words = Expiring[str, bytes](now_us)  # command id -> the newest word on its progress
        self.later = LaterCommands()
        self.schedules: dict[str, int] = {}  # name -> its next tick, in ms since the epoch
        # (client, type or "*") -> until when (us) it wants to be told what happens.
        self.watchers: dict[tuple[str, str], int] = {}
        self.held: dict[str, tuple[int, str]] = {}  # types that an operator holds back, since when, and why
        self._clock: str | None = None  # the incarnation that is told what is put off
        self.keys = Expiring[tuple[Entity, str], str](now_us)  # (entity, key) -> the first command with it
        self.died_us: dict[str, int] = {}  # command id -> when it became a dead letter
        self.dead: defaultdict[str, dict[str, DeadLetter]] = defaultdict(dict)
        self.listeners: dict[str, Callable[[Hint], None]] = {}
        self.last_tick_us = now_us()
        self.epoch_floor = 0
        self.incarnations = 0
        self.generation_from = 0  # number of the first incarnation that joined this generation

    def restart(self) -> None:
        """Begins a new generation with all the data, as a Redis that was restarted: for tests."""
        self.generation = f"memory-{int(self.generation.removeprefix('memory-')) + 1}"

    # -------------------------------------------------------------------------------- small steps
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
        return choose(self._candidates(entity_type), prefer=prefer, without=without)

    def _candidates(self, entity_type: str) -> Iterator[Candidate]:
        return (
            Candidate(incarnation, pod.loads[entity_type], pod.room - len(pod.owns))
            for incarnation, pod in self.pods.items()
            if entity_type in pod.info.types and not pod.leaving
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
        box = self.mailboxes[entity]
        if to is not None:
            box.ready_since_us = None
        elif box.ready_since_us is None:
            box.ready_since_us = self._now_us()
        if to is not None:
            self._hint(client_of(to), Wake(entity))

    def _push(self, entity: Entity, queued: Queued, *, prefer: str | None) -> None:
        box = self.mailboxes.setdefault(entity, Mailbox())
        had_work = bool(box.queue)
        box.add(queued)
        if box.mode is Mode.IDLE:
            self._give(entity, self._place(entity.type, prefer=prefer), Event.PLACED, Event.UNPLACED)
            return
        self._move(entity, Event.QUEUED)
        if box.mode is Mode.PARKED and not had_work or box.mode is Mode.ACTIVE and box.eager:
            assert box.owner is not None
            self._hint(client_of(box.owner), Wake(entity))

    def _accept(self, command: Outgoing, *, prefer: str | None) -> None:
        """Puts a command into its mailbox, or puts it off."""
        now, terms = self._now_us(), command.terms
        if terms is None or not terms.delay_us:
            urgent = terms is not None and terms.urgent
            self._push(command.entity, Queued(now, command.data, urgent), prefer=prefer)
        elif self.later.put_off(command, now) and self._clock is not None:
            self._hint(client_of(self._clock), Due())

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

    def _is_held(self, entity: Entity) -> bool:
        """Says whether an operator holds an entity back, or all of its type while it has work."""
        box = self.mailboxes[entity]
        return box.paused is not None or bool(box.queue) and entity.type in self.held

    def _let_go(self, entity: Entity, *, without: str, declined: bool = False) -> None:
        box = self.mailboxes[entity]
        box.overruled = box.eager = False
        if box.paused is not None or not box.queue:
            self._own(entity, None)
            self._move(entity, Event.LET_GO if box.paused is None else Event.PAUSED)
            return
        to: str | None = None
        if entity.type not in self.held:
            if declined:
                to = next_after(self._candidates(entity.type), without)
            else:
                to = self._place(entity.type, without=without)
        self._give(entity, to, Event.HANDED_OVER, Event.STRANDED)

    def place_of(self, entity: Entity, beginning: bytes) -> int | None:
        """Says where in the mailbox the command is whose envelope begins so; None: it is not there."""
        box = self.mailboxes.get(entity)
        queue = box.queue if box else ()
        return next((i for i, queued in enumerate(queue) if queued.data.startswith(beginning)), None)

    def result(self, command_id: str) -> bytes | None:
        """Reads an outcome that is still kept."""
        return self.results.kept(command_id)


def client_of(incarnation: str) -> str:
    """Names the client that an incarnation belongs to."""
    return incarnation.rpartition(".")[0]


def number_of(incarnation: str) -> int:
    """Reads the number of an incarnation, which rises with every join."""
    return int(incarnation.rpartition(".")[2])
