"""A store's client over a link: what a request is, and when it is repeated, as the contract has it."""

import math
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal, TypeVar

import trio

from trioqueue import StoreUnavailable
from trioqueue._names import Entity
from trioqueue.messages.policy import MAX_COMMAND_BYTES, Lease
from trioqueue.protocol.lease import renewed, trusted_until
from trioqueue.stores.contract import (
    PAGE,
    ClaimAnswer,
    ClaimWish,
    Commit,
    CommitAnswer,
    Group,
    LeaseLost,
    Member,
    NotClaimed,
    Outgoing,
    PodInfo,
    Purged,
    SendClaimAnswer,
)
from trioqueue.stores.reports import (
    Hint,
    Inspection,
    Lanes,
    Letter,
    LinkState,
    PutOff,
    Queued,
    Registrations,
    Report,
    Silent,
    StoreStatistics,
    Tick,
    Withdrawal,
)

from . import history
from .network import UNANSWERED, Link, Request, Waiter
from .server import SimulatedServer

T = TypeVar("T")


class SimulatedStore:
    """The Store over a link: what a request is, and when it is repeated, as the contract has it."""

    def __init__(self, link: Link) -> None:
        self.client = link.client
        self._link = link
        self._sequence = 0
        self._unsettled: dict[int, None] = {}
        self._joined_at = 0.0

    def __repr__(self) -> str:
        return f"<SimulatedStore {self.client}>"

    def listen(self, hints: Callable[[Hint], None], connected: Callable[[], None]) -> None:
        self._link.hints, self._link.connected = hints, connected

    def link(self) -> LinkState:
        return LinkState(requests=0, connected=self._link.reachable())

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
        self._link.network.links.pop(self.client, None)

    async def _ask(self, what: str, run: Callable[[SimulatedServer], T], *, patience: float = math.inf) -> T:
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._link.process.dead:
            raise StoreUnavailable("memory", "this process is dead")
        waiter = Waiter()
        Request(self._link, what, run, waiter.answer, patience=patience)
        answer: T = await waiter.wait()
        return answer

    async def send(
        self,
        group: Group,
        *,
        member: Member | None = None,
        wishes: Sequence[ClaimWish] = (),
        on_claim: Callable[[Entity, SendClaimAnswer], None] | None = None,
    ) -> bool:
        def claims(answers: Sequence[tuple[Entity, SendClaimAnswer]]) -> None:
            for entity, answer in answers:
                assert on_claim is not None
                on_claim(entity, answer)

        waiter = Waiter()

        def settle(answer: Any) -> None:
            if isinstance(answer, Exception):
                claims([(wish.entity, NotClaimed()) for wish in wishes])
                waiter.answer(answer)
                return
            duplicate, group.first_id, answers = answer
            self._unsettled.pop(group.sequence, None)
            claims(answers)
            waiter.answer(duplicate)

        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            if self._link.process.dead:
                raise StoreUnavailable("memory", "this process is dead")
        except BaseException:
            claims([(wish.entity, NotClaimed()) for wish in wishes])
            raise
        if not group.sequence:
            self._sequence += 1
            group.sequence = self._sequence
            self._unsettled[group.sequence] = None
        low = min(group.sequence, min(self._unsettled, default=self._sequence))
        sequence = group.sequence

        def run(server: SimulatedServer) -> Any:
            duplicate, answers = server.send(
                self.client, low, sequence, group.commands, member, wishes, group.limits
            )
            return duplicate, server.first_id(group.commands) or "", answers

        Request(self._link, f"send {sequence}", run, settle, patience=UNANSWERED)
        return bool(await waiter.wait())

    async def secure(self) -> None:
        pass  # the simulated server has no replicas

    def abandon(self, group: Group) -> None:
        self._unsettled.pop(group.sequence, None)

    async def claim(
        self, member: Member, entity: Entity, *, have: str = "", fetch: int = 64, eager: bool = False
    ) -> ClaimAnswer:
        return await self._ask(
            f"claim {entity}", lambda server: server.claim(member, entity, have, fetch, eager=eager)
        )

    async def commit(
        self, member: Member, commit: Commit, meanwhile: Callable[[], None] | None = None
    ) -> CommitAnswer:
        if meanwhile is not None:
            meanwhile()
        return await self._ask(f"commit {commit.entity}", lambda server: server.commit(member, commit))

    async def release(self, member: Member, entity: Entity, epoch: int | None, why: str) -> bool:
        return await self._ask(
            f"release {entity} {why}", lambda server: server.release(member, entity, epoch, why)
        )

    async def join(self, info: PodInfo) -> Member:
        joined: list[Member] = []

        def run(server: SimulatedServer) -> Member:
            # A repeated join is recognized, by its ticket.
            if not (joined and joined[-1].generation == server.generation):
                joined.append(server.join(self.client, info))
            return joined[-1]

        self._joined_at = trio.current_time()
        return await self._ask("join", run)

    async def retire(self, member: Member) -> None:
        await self._ask("retire", lambda server: server.retire(member))

    async def reap(self, member: Member, silent: Silent, *, gave_up: bool = False) -> bool:
        return await self._ask(
            f"reap {silent.incarnation}",
            lambda server: server.reap(member, silent.incarnation, gave_up=gave_up),
        )

    async def assign(self, member: Member, entities: Sequence[Entity]) -> None:
        while entities:
            chunk = entities
            entities = await self._ask("assign", lambda server: server.assign(member, chunk))  # noqa: B023

    async def owned(self, member: Member, offset: int) -> tuple[Entity, ...]:
        return await self._ask("owned", lambda server: server.owned(member, offset))

    async def wakes(self, member: Member, offset: int) -> tuple[Entity, ...]:
        return await self._ask("wakes", lambda server: server.wakes(member, offset))

    async def cancel(self, entity: Entity, command_id: str) -> bool:
        return await self._ask(f"cancel {command_id}", lambda server: server.cancel(entity, command_id))

    async def withdraw(
        self, entity: Entity, command_id: str, beginning: bytes, outcome: bytes, keep_ms: int
    ) -> Withdrawal:
        return await self._ask(
            f"withdraw {command_id}",
            lambda server: server.withdraw(entity, command_id, beginning, outcome, keep_ms),
        )

    async def is_queued(self, entity: Entity, command_id: str, beginning: bytes) -> bool:
        return await self._ask(
            f"find {command_id}",
            lambda server: (
                command_id in server.later.commands or server.place_of(entity, beginning) is not None
            ),
        )

    async def tell_progress(self, command_id: str, client: str, word: bytes) -> None:
        await self._ask(
            f"progress {command_id}", lambda server: server.tell_progress(command_id, client, word)
        )

    async def progress(self, command_id: str) -> bytes | None:
        return await self._ask(f"progress {command_id}", lambda server: server.words.kept(command_id))

    async def move(self, member: Member) -> float | None:
        return await self._ask("move", lambda server: server.move(member))

    async def tick(
        self,
        schedule: str,
        expected_ms: int | None,
        following_ms: int | None,
        command: Outgoing | None = None,
    ) -> Tick:
        return await self._ask(
            f"tick {schedule}", lambda server: server.tick(schedule, expected_ms, following_ms, command)
        )

    async def keep(self, member: Member, entities: Sequence[Entity], keep_ms: int) -> int:
        return await self._ask("keep", lambda server: server.keep(member, entities, keep_ms))

    async def watch(self, entity_type: str, keep_ms: int) -> None:
        await self._ask(
            f"watch {entity_type}", lambda server: server.watch(self.client, entity_type, keep_ms)
        )

    async def tell_events(self, data: bytes) -> bool:
        return await self._ask("tell events", lambda server: server.tell_events(data))

    async def pause(self, entity: Entity, why: str) -> bool:
        return await self._ask(f"pause {entity} {why}", lambda server: server.pause(entity, why))

    async def hold(self, entity_type: str, why: str) -> bool:
        return await self._ask(f"hold {why}", lambda server: server.hold(entity_type, why))

    async def queued(self, entity: Entity, offset: int, count: int) -> tuple[Queued, ...]:
        def run(server: SimulatedServer) -> tuple[Queued, ...]:
            box = server.mailboxes.get(entity)
            return tuple(box.queue)[offset : offset + count] if box else ()

        return await self._ask(f"queued {entity}", run)

    async def purge(
        self, entity: Entity, commands: Sequence[Queued], tell: Sequence[Purged], outcome: bytes
    ) -> bool:
        return await self._ask(
            f"purge {entity}", lambda server: server.purge(entity, commands, tell, outcome)
        )

    async def letters(
        self, entity_type: str, offset: int, count: int, *, newest: bool = False
    ) -> tuple[Letter, ...]:
        return await self._ask(
            "letters", lambda server: server.letters(entity_type, offset, count, newest=newest)
        )

    async def letter(self, entity_type: str, command_id: str) -> Letter | None:
        return await self._ask(f"letter {command_id}", lambda server: server.letter(entity_type, command_id))

    async def lanes(self, count: int, *, longest: int = MAX_COMMAND_BYTES) -> Lanes:
        return await self._ask("lanes", lambda server: server.lanes(count, longest))

    async def registrations(self) -> Registrations:
        return await self._ask("registrations", lambda server: server.registrations())

    async def put_off(self, entity: Entity, count: int) -> tuple[PutOff, ...]:
        return await self._ask(f"put off {entity}", lambda server: server.put_off(entity, count))

    async def redeliver(
        self, entity: Entity, command_id: str, where: Literal["head", "tail", "nowhere"], data: bytes = b""
    ) -> bool:
        return await self._ask(
            f"redeliver {command_id}", lambda server: server.redeliver(entity, command_id, where, data)
        )

    async def inspect(self, entity: Entity) -> Inspection:
        return await self._ask(f"inspect {entity}", lambda server: server.inspect(entity))

    async def cancelled(self, entity: Entity) -> tuple[str, ...]:
        def run(server: SimulatedServer) -> tuple[str, ...]:
            box = server.mailboxes.get(entity)
            return tuple(box.cancels) if box else ()

        return await self._ask("cancelled", run)

    async def state(self, entity: Entity) -> bytes | None:
        def run(server: SimulatedServer) -> bytes | None:
            kept = server.states.get(entity)
            return kept[1] if kept else None

        return await self._ask("state", run)

    async def result(self, command_id: str) -> bytes | None:
        return await self._ask(f"result {command_id}", lambda server: server.result(command_id))

    async def statistics(self) -> StoreStatistics:
        return await self._ask("statistics", lambda server: server.statistics())

    @asynccontextmanager
    async def hold_lease(
        self, member: Member, lease: Lease, report: Callable[[Report], None]
    ) -> AsyncGenerator["SimulatedLease", None]:
        held = SimulatedLease(self._link, member, lease, report, self._joined_at)
        held.beat()
        try:
            yield held
        finally:
            held.ended = True


class SimulatedLease:
    """A lease that a thread keeps: it beats while the loop is blocked, and not while the process is frozen."""

    def __init__(
        self, link: Link, member: Member, lease: Lease, report: Callable[[Report], None], joined_at: float
    ) -> None:
        self.ended = False
        self._link = link
        self._member = member
        self._lease = lease
        self._report = report
        self._trusted_until = trusted_until(joined_at, lease.ttl, lease.margin)
        self._ticked_at = trio.current_time()
        self._page = 0
        self._trust()

    def left(self) -> float:
        return self._trusted_until - trio.current_time()

    def peek(self) -> float:
        return self.left()

    def tick(self) -> None:
        self._ticked_at = trio.current_time()

    def _trust(self) -> None:
        network = self._link.network
        network.write(history.Trusted(trio.current_time(), self._link.client, self._trusted_until))

    def beat(self) -> None:
        link, network, now = self._link, self._link.network, trio.current_time()
        if self.ended or link.process.dead:
            return
        if link.process.stopped and not link.process.blocked:
            link.process.tell(self.beat)
            return
        network.after(self._lease.heartbeat, self.beat)
        if now - self._ticked_at > self._lease.stall_limit or not link.reachable():
            return
        odds, dice = network.odds, network.dice.random()
        arrival, reply = network.latency(), network.latency()
        if dice < odds.lost_request:
            network.note("lost beat", link.client)
            return
        dice -= odds.lost_request
        if dice < odds.late_run:
            network.note("late beat", link.client)
            arrival = network.late()
        elif dice < odds.late_run + odds.lost_reply:
            network.note("lost answer to a beat", link.client)
            reply = math.inf
        network.after(arrival, lambda: self._arrive(now, reply))

    def _arrive(self, sent_at: float, reply: float) -> None:
        network = self._link.network
        if trio.current_time() < network.stalled_until:
            network.at(network.stalled_until, lambda: self._arrive(sent_at, reply))
            return
        try:
            found = network.server.beat(self._member, self._page)
        except LeaseLost:
            found = None
        if reply < math.inf:
            network.after(reply, lambda: self._answered(sent_at, found))

    def _answered(self, sent_at: float, found: Report | None) -> None:
        process = self._link.process
        if self.ended or process.dead:
            return
        if process.stopped and not process.blocked:
            process.tell(lambda: self._answered(sent_at, found))
            return
        if trio.current_time() - sent_at > self._lease.heartbeat:
            return  # the connection of the heartbeat has timed out
        if found is None:
            self._trusted_until = 0.0
            return
        if self._trusted_until > 0.0:
            self._page = self._page + PAGE if len(found.wakes) == PAGE else 0
            self._trusted_until = renewed(self._trusted_until, sent_at, self._lease.ttl, self._lease.margin)
            self._trust()
            process.tell(lambda: self._report(found))
