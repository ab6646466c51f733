"""A client's way into the in-process store."""

import logging
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from typing import Literal, TypeVar

import attrs
import trio

from trioqueue._errors import MailboxFull, PayloadTooLarge
from trioqueue._names import Entity
from trioqueue.messages.policy import MAX_COMMAND_BYTES, Lease
from trioqueue.protocol.lease import renewed
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
from trioqueue.stores.memory.mailboxes import Quarantined
from trioqueue.stores.memory.server import MemoryServer
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
from trioqueue.stores.service_nursery import open_service_nursery

T = TypeVar("T")

logger = logging.getLogger("trioqueue.store")

QUARANTINE_POLL = 0.1
"""Seconds between two questions whether the quarantine has ended."""


def trio_now_us() -> int:
    """Reads Trio's clock, which a test may make virtual."""
    return round(trio.current_time() * 1e6)


def clock_since_the_epoch() -> Callable[[], int]:
    """Makes a clock that goes as Trio's does, from the time of day that it is now."""
    ahead = round(time.time() * 1e6) - trio_now_us()
    return lambda: trio_now_us() + ahead


class MemoryStore:
    """The Store of `memory://`: each operation is one method call of the server between two checkpoints."""

    def __init__(self, server: MemoryServer) -> None:
        self.client = secrets.token_hex(6)
        self._server = server
        self._sequence = 0
        self._unsettled: set[int] = set()

    def __repr__(self) -> str:
        return f"<MemoryStore {self.client}>"

    def listen(self, hints: Callable[[Hint], None], connected: Callable[[], None]) -> None:
        del connected  # this store can't be disconnected
        self._server.listeners[self.client] = hints

    def link(self) -> LinkState:
        return LinkState(requests=0, connected=True)

    async def aclose(self) -> None:
        self._server.listeners.pop(self.client, None)
        self._server.producers.pop(self.client, None)
        await trio.lowlevel.checkpoint()

    async def send(
        self,
        group: Group,
        *,
        member: Member | None = None,
        wishes: Sequence[ClaimWish] = (),
        on_claim: Callable[[Entity, SendClaimAnswer], None] | None = None,
    ) -> bool:
        if not group.sequence:
            self._sequence += 1
            group.sequence = self._sequence
            self._unsettled.add(group.sequence)
        low = min(self._unsettled, default=self._sequence)
        try:
            duplicate, answers = self._server.send(
                self.client,
                min(low, group.sequence),
                group.sequence,
                group.commands,
                member,
                wishes,
                group.limits,
            )
        except (PayloadTooLarge, MailboxFull):
            for wish in wishes:
                assert on_claim is not None
                on_claim(wish.entity, NotClaimed())
            raise
        finally:
            self._unsettled.discard(group.sequence)
        group.first_id = self._server.first_id(group.commands) or ""
        for entity, answer in answers:
            assert on_claim is not None
            on_claim(entity, answer)
        await trio.lowlevel.checkpoint()
        return duplicate

    async def secure(self) -> None:
        pass  # there is no other server

    def abandon(self, group: Group) -> None:
        self._unsettled.discard(group.sequence)

    async def claim(
        self, member: Member, entity: Entity, *, have: str = "", fetch: int = 64, eager: bool = False
    ) -> ClaimAnswer:
        return await self._outside_quarantine(
            lambda: self._server.claim(member, entity, have, fetch, eager=eager)
        )

    async def commit(
        self, member: Member, commit: Commit, meanwhile: Callable[[], None] | None = None
    ) -> CommitAnswer:
        if meanwhile is not None:
            meanwhile()
        return await self._outside_quarantine(lambda: self._server.commit(member, commit))

    async def release(self, member: Member, entity: Entity, epoch: int | None, why: str) -> bool:
        return await self._outside_quarantine(lambda: self._server.release(member, entity, epoch, why))

    async def join(self, info: PodInfo) -> Member:
        await trio.lowlevel.checkpoint()
        return self._server.join(self.client, info)

    async def retire(self, member: Member) -> None:
        await self._outside_quarantine(lambda: self._server.retire(member))

    async def move(self, member: Member) -> float | None:
        return await self._outside_quarantine(lambda: self._server.move(member))

    async def reap(self, member: Member, silent: Silent, *, gave_up: bool = False) -> bool:
        return await self._outside_quarantine(
            lambda: self._server.reap(member, silent.incarnation, gave_up=gave_up)
        )

    async def assign(self, member: Member, entities: Sequence[Entity]) -> None:
        await trio.lowlevel.checkpoint()
        while entities:
            chunk = entities
            entities = await self._outside_quarantine(lambda: self._server.assign(member, chunk))  # noqa: B023

    async def owned(self, member: Member, offset: int) -> tuple[Entity, ...]:
        await trio.lowlevel.checkpoint()
        return self._server.owned(member, offset)

    async def wakes(self, member: Member, offset: int) -> tuple[Entity, ...]:
        await trio.lowlevel.checkpoint()
        return self._server.wakes(member, offset)

    async def cancel(self, entity: Entity, command_id: str) -> bool:
        await trio.lowlevel.checkpoint()
        return self._server.cancel(entity, command_id)

    async def withdraw(
        self, entity: Entity, command_id: str, beginning: bytes, outcome: bytes, keep_ms: int
    ) -> Withdrawal:
        await trio.lowlevel.checkpoint()
        return self._server.withdraw(entity, command_id, beginning, outcome, keep_ms)

    async def is_queued(self, entity: Entity, command_id: str, beginning: bytes) -> bool:
        await trio.lowlevel.checkpoint()
        return (
            command_id in self._server.later.commands or self._server.place_of(entity, beginning) is not None
        )

    async def tell_progress(self, command_id: str, client: str, word: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self._server.tell_progress(command_id, client, word)

    async def progress(self, command_id: str) -> bytes | None:
        await trio.lowlevel.checkpoint()
        return self._server.words.kept(command_id)

    async def tick(
        self,
        schedule: str,
        expected_ms: int | None,
        following_ms: int | None,
        command: Outgoing | None = None,
    ) -> Tick:
        await trio.lowlevel.checkpoint()
        return self._server.tick(schedule, expected_ms, following_ms, command)

    async def keep(self, member: Member, entities: Sequence[Entity], keep_ms: int) -> int:
        return await self._outside_quarantine(lambda: self._server.keep(member, entities, keep_ms))

    async def watch(self, entity_type: str, keep_ms: int) -> None:
        await trio.lowlevel.checkpoint()
        self._server.watch(self.client, entity_type, keep_ms)

    async def tell_events(self, data: bytes) -> bool:
        await trio.lowlevel.checkpoint()
        return self._server.tell_events(data)

    async def pause(self, entity: Entity, why: str) -> bool:
        await trio.lowlevel.checkpoint()
        return self._server.pause(entity, why)

    async def hold(self, entity_type: str, why: str) -> bool:
        await trio.lowlevel.checkpoint()
        return self._server.hold(entity_type, why)

    async def queued(self, entity: Entity, offset: int, count: int) -> tuple[Queued, ...]:
        await trio.lowlevel.checkpoint()
        box = self._server.mailboxes.get(entity)
        return tuple(islice(box.queue, offset, offset + count)) if box else ()

    async def purge(
        self, entity: Entity, commands: Sequence[Queued], tell: Sequence[Purged], outcome: bytes
    ) -> bool:
        await trio.lowlevel.checkpoint()
        return self._server.purge(entity, commands, tell, outcome)

    async def letters(
        self, entity_type: str, offset: int, count: int, *, newest: bool = False
    ) -> tuple[Letter, ...]:
        await trio.lowlevel.checkpoint()
        return self._server.letters(entity_type, offset, count, newest=newest)

    async def letter(self, entity_type: str, command_id: str) -> Letter | None:
        await trio.lowlevel.checkpoint()
        return self._server.letter(entity_type, command_id)

    async def redeliver(
        self, entity: Entity, command_id: str, where: Literal["head", "tail", "nowhere"], data: bytes = b""
    ) -> bool:
        await trio.lowlevel.checkpoint()
        return self._server.redeliver(entity, command_id, where, data)

    async def inspect(self, entity: Entity) -> Inspection:
        await trio.lowlevel.checkpoint()
        return self._server.inspect(entity)

    async def lanes(self, count: int, *, longest: int = MAX_COMMAND_BYTES) -> Lanes:
        await trio.lowlevel.checkpoint()
        return self._server.lanes(count, longest)

    async def registrations(self) -> Registrations:
        await trio.lowlevel.checkpoint()
        return self._server.registrations()

    async def put_off(self, entity: Entity, count: int) -> tuple[PutOff, ...]:
        await trio.lowlevel.checkpoint()
        return self._server.put_off(entity, count)

    async def cancelled(self, entity: Entity) -> tuple[str, ...]:
        await trio.lowlevel.checkpoint()
        box = self._server.mailboxes.get(entity)
        return tuple(box.cancels) if box else ()

    async def state(self, entity: Entity) -> bytes | None:
        await trio.lowlevel.checkpoint()
        kept = self._server.states.get(entity)
        return kept[1] if kept else None

    async def result(self, command_id: str) -> bytes | None:
        await trio.lowlevel.checkpoint()
        return self._server.result(command_id)

    async def statistics(self) -> StoreStatistics:
        await trio.lowlevel.checkpoint()
        return self._server.statistics()

    async def _outside_quarantine(self, operation: Callable[[], T]) -> T:
        while True:
            await trio.lowlevel.checkpoint()
            try:
                return operation()
            except Quarantined:
                await trio.sleep(QUARANTINE_POLL)

    @asynccontextmanager
    async def hold_lease(
        self, member: Member, lease: Lease, report: Callable[[Report], None]
    ) -> AsyncGenerator["MemoryLease", None]:
        held = MemoryLease(self._server, member, lease, report)
        held.beat()
        held.left()  # so that `peek` knows

        async def keep() -> None:
            while True:
                await trio.sleep(lease.heartbeat)
                held.beat()

        async with open_service_nursery() as services:
            services.start_soon(keep, name=f"heartbeat {member.incarnation}")
            yield held


@attrs.define(eq=False)
class MemoryLease:
    """A lease in the in-process store.

    While the event loop stands still nobody else can touch the store either, so a heartbeat that is late because of
    that is made up for in `left`, as long as the loop has not stood still for longer than the stall limit.
    """

    _server: MemoryServer
    _member: Member
    _lease: Lease
    _report: Callable[[Report], None]
    _trusted_until: float = attrs.field(factory=trio.current_time)
    _ticked_at: float = attrs.field(factory=trio.current_time)
    # What was left when the loop last looked: others can't, as the clock is the loop's.
    _seen: float = 0.0
    _page: int = 0
    _refused: bool = False

    def beat(self) -> None:
        """Renews the lease and reports; a refusal ends the trust."""
        now, asked_at = trio.current_time(), time.monotonic()
        if self._refused or now - self._ticked_at > self._lease.stall_limit:
            return
        try:
            found = self._server.beat(self._member, self._page)
        except Quarantined:
            return
        except LeaseLost:
            self._refused = True
            return
        self._page = self._page + PAGE if len(found.wakes) == PAGE else 0
        self._trusted_until = renewed(self._trusted_until, now, self._lease.ttl, self._lease.margin)
        self._report(attrs.evolve(found, asked_at=asked_at))

    def left(self) -> float:
        """Says for how many seconds more the lease can be trusted."""
        if not self._refused and self._trusted_until <= trio.current_time():
            self.beat()
        self._seen = 0.0 if self._refused else self._trusted_until - trio.current_time()
        return self._seen

    def peek(self) -> float:
        """Says what was left when the loop last looked, which it does ten times a second."""
        return self._seen

    def tick(self) -> None:
        """Notes that the event loop is alive."""
        self._ticked_at = trio.current_time()


@asynccontextmanager
async def open_memory_store(server: MemoryServer | None = None) -> AsyncGenerator[MemoryStore, None]:
    """Opens a client of a server in this process: a new one, or one that several pods of the process share."""
    private = server is None
    server = server or MemoryServer(clock_since_the_epoch())
    store = MemoryStore(server)
    try:
        yield store
    finally:
        left = sum(bool(box.queue) for box in server.mailboxes.values())
        if private and left:
            logger.warning(
                "%d %s still had commands when memory:// was left, they are lost: "
                "await queues.wait_settled() at the end of the block",
                left,
                "entity" if left == 1 else "entities",
                extra={"event": "leftovers", "count": left},
            )
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):  # only ever one checkpoint
            await store.aclose()
