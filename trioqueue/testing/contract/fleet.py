"""Pods and senders of the checks: a store's client with what it was told, and the steps that many checks take."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import trio

from trioqueue._names import Entity
from trioqueue.messages.policy import Lease
from trioqueue.stores.contract import (
    ClaimAnswer,
    Claimed,
    ClaimWish,
    Commit,
    CommitAnswer,
    Group,
    Member,
    Outgoing,
    PodInfo,
    SendClaimAnswer,
    Store,
)
from trioqueue.stores.reports import Hint, Report, Silent
from trioqueue.testing._harness import StoreHarness
from trioqueue.testing._world import Snapshot

T = TypeVar("T")

LEASE = Lease(ttl=30.0, heartbeat=10.0, grace=15.0, stall_limit=60.0)
"""So long that the real time that a check takes makes no difference: the server's clock moves by `advance`."""

SILENT_AFTER = LEASE.ttl + LEASE.grace
"""Seconds without a beat after which a pod of `LEASE` may be reaped."""

PATIENCE = 10.0
"""Seconds for what comes over another connection, such as a hint: it is there in a millisecond, or never."""

A, B, C = (Entity("account", name) for name in "abc")
OTHER = Entity("other", "x")


def expect(kind: type[T], value: object) -> T:
    """Asserts what kind of answer a value is."""
    assert isinstance(value, kind), f"{value} is no {kind.__name__}"
    return value


def group(entity: Entity, *commands: bytes, sequence: int = 0) -> Group:
    """Makes one group of commands to one entity."""
    return Group([Outgoing(entity, data) for data in commands], sequence)


def texts(claimed: Any) -> list[bytes]:
    """Gives the envelopes of an answer's batch."""
    return [queued.data for queued in claimed.batch]


class Client:
    """One client of the store and the hints it was told; a sender, if it is no `Pod`."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.hints: list[Hint] = []
        self._news = trio.Event()
        store.listen(self._take, lambda: None)

    def _take(self, hint: Hint) -> None:
        self.hints.append(hint)
        self._news.set()
        self._news = trio.Event()

    async def wait_hint(self, hint: Hint) -> None:
        """Waits until it was told this."""
        with trio.fail_after(PATIENCE):
            while hint not in self.hints:
                await self._news.wait()

    async def send(self, entity: Entity, *commands: bytes) -> bool:
        """Sends one group."""
        return await self.store.send(group(entity, *commands))


class Pod(Client):
    """A client that joined."""

    def __init__(self, store: Store, info: PodInfo, member: Member) -> None:
        super().__init__(store)
        self.info = info
        self.member = member

    @property
    def name(self) -> str:
        """Its incarnation."""
        return self.member.incarnation

    async def claim(self, entity: Entity, *, have: str = "", fetch: int = 64) -> ClaimAnswer:
        """Claims."""
        return await self.store.claim(self.member, entity, have=have, fetch=fetch)

    async def begin(self, entity: Entity, *, have: str = "", fetch: int = 64) -> Claimed:
        """Claims what has work that may start."""
        return expect(Claimed, await self.claim(entity, have=have, fetch=fetch))

    async def commit(
        self, entity: Entity, claimed: Claimed, *, done: int | None = None, pops: int = 1, **what: Any
    ) -> CommitAnswer:
        """Commits under a claim; `done` only where an earlier commit was made under it."""
        number = claimed.done if done is None else done
        return await self.store.commit(self.member, Commit(entity, claimed.epoch, number, pops, **what))

    async def handle(self, entity: Entity) -> None:
        """Claims an entity and commits all that is queued."""
        claimed = await self.begin(entity, fetch=1000)
        await self.commit(entity, claimed, pops=len(claimed.batch))

    async def send_wishing(
        self, entity: Entity, *commands: bytes, have: str = "", fetch: int = 64, again: Group | None = None
    ) -> tuple[bool, SendClaimAnswer]:
        """Sends one group and wishes to begin at once; asserts that one answer came before the send returned."""
        answers: list[tuple[Entity, SendClaimAnswer]] = []
        duplicate = await self.store.send(
            again or group(entity, *commands),
            member=self.member,
            wishes=[ClaimWish(entity, have, fetch)],
            on_claim=lambda about, answer: answers.append((about, answer)),
        )
        ((about, answer),) = answers
        assert about == entity
        return duplicate, answer

    async def report(self) -> Report | None:
        """Makes one heartbeat; None: it was refused."""
        found: list[Report] = []
        async with self.store.hold_lease(self.member, self.info.lease, found.append) as held:
            with trio.fail_after(PATIENCE):
                while not found and held.left() > 0:
                    held.tick()
                    await trio.sleep(0.001)
        return found[0] if found else None

    async def found(self) -> Report:
        """Makes one heartbeat that is confirmed."""
        report = await self.report()
        assert report is not None, f"the beat of {self.name} was refused"
        return report

    @property
    def silent(self) -> Silent:
        """How others name it for reaping."""
        return Silent(self.name, tuple(sorted(self.info.types)))

    async def leave(self) -> bool:
        """Hands on what it owns, and leaves the registry."""
        return await self.store.reap(self.member, self.silent, gave_up=True)


@asynccontextmanager
async def open_client(harness: StoreHarness) -> AsyncGenerator[Client, None]:
    """Opens a sender."""
    async with harness.open_store() as store:
        yield Client(store)


@asynccontextmanager
async def open_pod(
    harness: StoreHarness, *types: str, room: int = 1000, lease: Lease = LEASE
) -> AsyncGenerator[Pod, None]:
    """Opens a client and joins; it does not leave at the end, as a pod that dies."""
    info = PodInfo("check", frozenset(types or ("account",)), room, lease)
    async with harness.open_store() as store:
        yield Pod(store, info, await store.join(info))


async def see(harness: StoreHarness, entity: Entity) -> Snapshot:
    """Reads how the store holds an entity."""
    return (await harness.world()).snapshot(entity)


async def live(harness: StoreHarness, seconds: float, *pods: Pod) -> None:
    """Lets time pass, a heartbeat of each of these pods after the other."""
    while seconds > 0:
        step = min(seconds, LEASE.heartbeat)
        await harness.advance(step)
        seconds -= step
        for pod in pods:
            await pod.report()


async def silence(harness: StoreHarness, *living: Pod) -> None:
    """Lets so much time pass that all pods but these are silent."""
    await live(harness, SILENT_AFTER + LEASE.heartbeat, *living)


async def die_again_with(harness: StoreHarness, dead: Pod, heir: Pod, *entities: Entity) -> None:
    """Has the heir reap a pod and begin with all that it had in hand, so that its own death makes them suspects."""
    await silence(harness, heir)
    await heir.store.reap(heir.member, dead.silent)
    for entity in entities:
        await heir.begin(entity)
