"""The part of the machine that concerns the fleet: who joins, beats, dies and is reaped, and how time passes.

Arguments of the rules are small numbers and words, which pick from what there is at that moment (modulo its length), so
that a sequence stays meaningful while Hypothesis shortens it.
"""

from collections.abc import Callable, Collection
from typing import Any

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from stores.both import Both
from stores.ledger import Ledger
from stores.pictures import CLIENTS, ENTITIES
from stores.script_link import run

from trioqueue._names import Entity
from trioqueue.messages.policy import Lease
from trioqueue.protocol.lifecycle import Mode
from trioqueue.stores.contract import CHUNK, Member, PodInfo
from trioqueue.stores.memory.mailboxes import client_of
from trioqueue.stores.memory.server import MemoryServer
from trioqueue.stores.redis.replies import report
from trioqueue.stores.reports import Silent

LEASES = {
    "usual": Lease(ttl=30, heartbeat=10, grace=15),
    "shorter": Lease(ttl=20, heartbeat=10, grace=15),
    "too long": Lease(ttl=40, heartbeat=10, grace=15),
    "other heartbeat": Lease(ttl=30, heartbeat=5, grace=15),
}
HEARTBEAT, SILENCE = 10, 48
"""Seconds; a third of the latter is less than the two heartbeats after which the store is taken to have stood still."""


Ask = Callable[[], Any]

numbers = st.integers(0, 4)
clients = st.sampled_from([*CLIENTS, "c0", "c0", "c1"])
entities = st.sampled_from(ENTITIES)
some_entities = st.lists(entities, min_size=1, max_size=3)
whoever = st.sampled_from([None, None, None, None, 0, 1, 2, 3])
one_in_three = st.sampled_from([False, False, True])


class FleetMachine(RuleBasedStateMachine):
    """One fleet, two stores.  Subclasses set `both`."""

    both: Both

    def __init__(self) -> None:
        super().__init__()
        self.both.clear()
        self.memory: MemoryServer = self.both.memory
        self.members: list[Member] = []
        self.infos: dict[str, PodInfo] = {}
        self.ledger = Ledger(self.memory)
        # What may be asked again as it is, and which commands may leave the store by it.
        self.asked: list[tuple[str, Ask, Ask, Callable[[], bool], Collection[str]]] = []
        self.results: list[str] = []
        self.put_off: dict[str, Entity] = {}  # commands that are or were put off, the newest ones
        self.is_whole = True

    def ask(
        self,
        what: str,
        redis: Ask,
        memory: Ask,
        *,
        again: bool = True,
        sound: Callable[[], bool] = lambda: True,
        ends: Collection[str] = (),
    ) -> Any:
        """Asks both; `sound` says whether it may be asked `again` as it is, `ends` are what may leave the store."""
        if again:
            self.asked.append((what, redis, memory, sound, ends))
        self.is_whole = False
        answer = self.both.ask(what, redis, memory)
        self.insist(self.ledger.take(ends, self.both.now))
        self.is_whole = True
        return answer

    def insist(self, wrong: str) -> None:
        """Fails if there is something wrong."""
        if wrong:
            self.is_whole = False
            self.both.fail(wrong)

    def name(self, member: Member | str | None) -> str:
        """Names a pod by the order of joining."""
        incarnation = member.incarnation if isinstance(member, Member) else member
        names = [one.incarnation for one in self.members]
        return f"p{names.index(incarnation)}" if incarnation in names else str(incarnation)

    def pod(self, number: int) -> Member:
        """Picks a pod: first those that are heard, of these the newest."""
        newest_first = self.members[::-1]
        known = sorted(newest_first, key=lambda one: not self.is_heard(one))
        return known[number % len(known)]

    def is_heard(self, member: Member) -> bool:
        """Says whether requests of this pod are taken, or will be after the quarantine."""
        pod = self.memory.pods.get(member.incarnation)
        return pod is not None and not pod.leaving and member.generation == self.memory.generation

    def owner(self, entity: Entity) -> Member:
        box = self.memory.mailboxes.get(entity)
        return next((one for one in self.members if box and one.incarnation == box.owner), self.pod(0))

    def store(self, member: Member) -> Any:
        return self.both.stores[client_of(member.incarnation)]

    # -------------------------------------------------------------------------------- membership
    @initialize(rooms=st.tuples(*[st.sampled_from([3, 2, 1])] * 2), types=st.sampled_from(["ab", "ab", "a"]))
    def begin(self, rooms: tuple[int, int], types: str) -> None:
        """Two pods of two clients; the first one settles which leases fit."""
        self.join("c0", rooms[0], "ab", "usual")
        self.join("c1", rooms[1], types, "usual")

    @rule(
        client=clients,
        room=st.sampled_from([1, 2, 3, 0]),
        types=st.sampled_from(["ab", "ab", "a", "b"]),
        lease=st.sampled_from(["usual", "usual", "usual", "usual", "shorter", "too long", "other heartbeat"]),
    )
    def join(self, client: str, room: int, types: str, lease: str) -> None:
        info = PodInfo("pod", frozenset(types), room, LEASES[lease])
        store = self.both.stores[client]
        member = self.ask(
            f"p{len(self.members)} = join({client}, room={room}, {types}, {lease})",
            lambda: run(store.join(info)),
            lambda: self.memory.join(client, info),
            again=False,
        )
        if isinstance(member, Member):
            self.both.link.is_known = True
            self.members.append(member)
            self.infos[member.incarnation] = info

    def join_again(self, client: str) -> None:
        """A copy of the last join arrives once more."""
        store = self.both.stores[client]
        last = next((one for one in self.members[::-1] if client_of(one.incarnation) == client), None)

        def memory() -> Any:
            stands = last and last.incarnation in self.memory.pods
            return b"OK" if last and stands and last.generation == self.memory.generation else b"TICKET"

        if store.last_join:
            heartbeat_us, ttl_us = store.last_join[2][5:7]
            if heartbeat_us == HEARTBEAT * 1_000_000 and ttl_us <= LEASES["usual"].ttl * 1e6:
                self.ask(
                    f"{client} repeats its join",
                    lambda: run(store._call(*store.last_join))[0],
                    memory,
                    again=False,
                )

    def retire(self, member: Member) -> None:
        self.ask(
            f"{self.name(member)} retires",
            lambda: run(self.store(member).retire(member)),
            lambda: self.memory.retire(member),
        )

    @rule(number=numbers)
    def one_beats(self, number: int) -> None:
        self.beat(self.pod(number))

    @rule(number=numbers, entity_type=st.sampled_from(["a", "*"]), ends=one_in_three)
    def one_watches(self, number: int, entity_type: str, ends: bool) -> None:
        """A client says that it watches, or does not any more; a pod learns of it."""
        self.watch(self.pod(number), entity_type, 0 if ends else 15_000)
        self.beat(self.pod(number + 1))

    def watch(self, member: Member, entity_type: str, keep_ms: int) -> None:
        client = client_of(member.incarnation)
        self.ask(
            f"{client} watches {entity_type} for {keep_ms} ms",
            lambda: run(self.store(member).watch(entity_type, keep_ms)),
            lambda: self.memory.watch(client, entity_type, keep_ms),
            again=False,
        )

    def beat(self, member: Member) -> None:
        types = self.infos[member.incarnation].types
        self.ask(
            f"{self.name(member)} beats",
            lambda: self.seen(report(self.both.beat(member, types), types, 0.0), types),
            lambda: self.seen(self.memory.beat(member, 0), types),
        )

    def seen(self, found: Any, types: frozenset[str]) -> Any:
        """Brings a report into an order; which ready entities are named where there is no room for all is free."""
        waiting = {
            e for e, box in self.memory.mailboxes.items() if box.mode is Mode.READY and e.type in types
        }
        assert set(found.ready) <= waiting
        return attrs.evolve(
            found,
            ready=len(found.ready),
            cancels=tuple(sorted(found.cancels)),
            silent=tuple(sorted((one.incarnation, *sorted(one.types)) for one in found.silent)),
        )

    @rule(number=numbers, other=numbers, gave_up=one_in_three)
    def one_reaps(self, number: int, other: int, gave_up: bool) -> None:
        member, target = self.pod(number), self.pod(other)
        self.reap(member, target, gave_up=gave_up or member == target)  # itself it only ever gives up

    def reap(self, member: Member, other: Member, *, gave_up: bool = False) -> None:
        silent = self.silent(other)
        self.ask(
            f"{self.name(member)} reaps {self.name(other)}{' (gave up)' * gave_up}",
            lambda: run(self.store(member).reap(member, silent, gave_up=gave_up)),
            lambda: self.memory.reap(member, silent.incarnation, gave_up=gave_up),
        )

    def silent(self, member: Member) -> Silent:
        return Silent(member.incarnation, tuple(sorted(self.infos[member.incarnation].types)))

    @rule(
        number=numbers, other=numbers, gave_up=st.booleans(), named=st.sets(entities), chunk=st.integers(1, 2)
    )
    def one_reaps_a_chunk(
        self, number: int, other: int, gave_up: bool, named: set[Entity], chunk: int
    ) -> None:
        self.reap_a_chunk(self.pod(number), self.pod(other), gave_up, named, chunk)

    def reap_a_chunk(
        self, member: Member, other: Member, gave_up: bool, named: set[Entity], chunk: int
    ) -> None:
        """One call of a reap, that may go no further, or is the copy of an earlier one."""
        silent, store, listed = self.silent(other), self.store(member), sorted(named)
        loads = [self.both.keys.placement(kind)[0] for kind in silent.types]
        names = [text for one in listed for text in (str(one), one.type)]

        def redis() -> Any:
            head = [silent.incarnation, int(gave_up), chunk, len(loads)]
            keys = [*loads, *store._whole(listed), store._keys.paused]
            answer = run(store._call("reap", keys, [*head, *names], member=member))
            return tuple(one.decode() for one in answer)

        def memory() -> Any:
            # In memory a reap is one step; so it is shown only those that are named.
            pod = self.memory.pods.get(silent.incarnation)
            rest = sorted(pod.owns - named) if pod else []
            if pod:
                pod.owns -= set(rest)
            try:
                is_gone = self.memory.reap(member, silent.incarnation, gave_up=gave_up)
            finally:
                if pod and rest:
                    pod.owns |= set(rest)
                    self.memory.pods[silent.incarnation] = pod
            if not is_gone:
                return ("ALIVE",)
            return ("MORE", *map(str, rest[:chunk])) if rest else ("GONE",)

        self.ask(
            f"{self.name(member)} reaps a chunk of {self.name(other)}{' (gave up)' * gave_up}: "
            f"{', '.join(map(str, listed))}",
            redis,
            memory,
        )

    @rule(number=numbers, listed=st.lists(entities, max_size=4))
    def one_assigns(self, number: int, listed: list[Entity]) -> None:
        self.assign(self.pod(number), listed)

    def assign(self, member: Member, listed: list[Entity]) -> None:
        """One call, as the order in which further ones are named is free."""
        store = self.store(member)
        names = [text for one in listed for text in (str(one), one.type)]

        def redis() -> Any:
            answer = run(store._call("assign", store._whole(listed), [CHUNK, *names], member=member))
            return sorted(one.decode() for one in answer)

        self.ask(
            f"{self.name(member)} assigns {', '.join(map(str, listed))}",
            redis,
            lambda: sorted(map(str, self.memory.assign(member, listed))),
        )

    @rule(number=numbers, listed=st.lists(entities, max_size=3, unique=True))
    def one_keeps(self, number: int, listed: list[Entity]) -> None:
        self.keep_awake(self.pod(number), listed)

    def keep_awake(self, member: Member, listed: list[Entity]) -> None:
        self.ask(
            f"{self.name(member)} keeps {', '.join(map(str, listed))} awake",
            lambda: run(self.store(member).keep(member, listed, 9000)),
            lambda: self.memory.keep(member, listed, 9000),
        )

    # -------------------------------------------------------------------------------- what is put off
    @rule(number=numbers)
    def one_moves(self, number: int) -> None:
        self.move(self.pod(number))

    def move(self, member: Member) -> None:
        self.ask(
            f"{self.name(member)} moves what is due",
            lambda: run(self.store(member).move(member)),
            lambda: self.memory.move(member),
        )

    @rule(number=numbers, places=st.lists(st.integers(0, 5), max_size=3), chunk=st.integers(1, 3))
    def one_moves_a_chunk(self, number: int, places: list[int], chunk: int) -> None:
        """One call of a move, that may go no further, name what is not due, or be a copy of an earlier one."""
        member = self.pod(number)
        store, later = self.store(member), self.memory.later
        waiting = {**self.put_off, **{one: kept.entity for one, kept in later.commands.items()}}
        self.put_off = dict(list(waiting.items())[-20:])
        names = list(self.put_off)[::-1]
        named = [(names[at], self.put_off[names[at]]) for at in places if at < len(names)]

        def redis() -> Any:
            keys = [*store._keys.later, *store._whole([entity for _, entity in named])]
            texts = [text for one, entity in named for text in (one, str(entity), entity.type)]
            left, foreign, *answer = run(store._call("move", keys, [chunk, *texts], member=member))
            assert not foreign
            return left, [one.decode() for one in answer[::2]]

        def memory() -> Any:
            self.memory._registered(member)
            now = self.both.now
            for one, _ in named:
                kept = later.commands.get(one)
                if kept is not None and kept.due[0] <= now:
                    later.take_out(one)
                    self.memory._push(kept.entity, kept.queued, prefer=None)
            left = later.left_us(now)
            due = sorted(kept.due for kept in later.commands.values() if kept.due[0] <= now)
            return -1 if left is None else max(left, 0), [one for _, _, one in due[:chunk]]

        self.ask(
            f"{self.name(member)} moves {', '.join(one for one, _ in named)} if due",
            redis,
            memory,
            again=False,
        )

    # -------------------------------------------------------------------------------- time and servers
    @rule(seconds=st.sampled_from([0.3, 1.1, 6, 10, 19, 25, 46, 61, 3700, -7, -40, -5000]))
    def pass_time(self, seconds: float) -> None:
        self.both.log.append(f"{seconds} s pass")
        self.both.set_clock(seconds)

    def fall_silent(self, member: Member) -> None:
        """Lets time pass in which all pods but this one beat."""
        for _ in range(3):
            self.pass_time(SILENCE / 3)
            for other in self.members:
                if other != member and self.is_heard(other):
                    self.beat(other)

    def restart(self, client: str, *, joins: bool, waits: bool) -> None:
        """The server restarts; then a client may join, and wait until the quarantine has ended."""
        self.both.log.append("the server restarts")
        self.memory.restart()
        self.both.link.generation, self.both.link.is_known = self.memory.generation, False
        if joins:
            self.join(client, 3, "ab", "usual")
            while waits and self.memory.quarantine_until_us is not None:
                self.pass_time(SILENCE / 3)
                self.beat(self.members[-1])

    @precondition(lambda self: self.asked)
    @rule(age=st.integers(0, 12))
    def again(self, age: int) -> None:
        """A copy of an earlier request arrives: whatever has happened since."""
        what, redis, memory, sound, ends = self.asked[-1 - age % len(self.asked)]
        if sound():
            self.ask(f"again: {what}", redis, memory, again=False, ends=ends)
