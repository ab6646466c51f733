"""The Store on Redis: each operation is one script call, or a section of one that is shared.

Every script is safe to repeat, so the transport may send a call again after a lost answer.  Whether the first
copy ran is for the data to say: sequence numbers for sends, epoch and `done` for commits, the owner for the rest.
"""

import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Literal, TypeVar

import redis.exceptions
import trio

from trioqueue._errors import Incompatible
from trioqueue._names import Entity
from trioqueue.messages.policy import Lease
from trioqueue.stores.contract import (
    CHUNK,
    KEEP_CANCELLED_MS,
    KEEP_PROGRESS_MS,
    PAGE,
    ClaimAnswer,
    ClaimWish,
    Commit,
    CommitAnswer,
    Group,
    HeldLease,
    Member,
    NotClaimed,
    Outgoing,
    PodInfo,
    Purged,
    SendClaimAnswer,
    check_commit,
)
from trioqueue.stores.redis.address import Address, parse_address
from trioqueue.stores.redis.batch import (
    Batcher,
    ClaimSection,
    CommitSection,
    ReleaseSection,
    SectionT,
    SendSection,
)
from trioqueue.stores.redis.keys import Keys
from trioqueue.stores.redis.layout import LAYOUT, PARTITIONS, check_server
from trioqueue.stores.redis.lease import keep_lease, now
from trioqueue.stores.redis.looking import RedisLooking
from trioqueue.stores.redis.parking import Waiter
from trioqueue.stores.redis.replicas import Replicas, open_replicas
from trioqueue.stores.redis.replies import (
    FOREIGN_KEY,
    REFUSALS,
    WITHDRAWALS,
    Sieve,
    Wait,
    check_word,
    claim_answer,
    commit_answer,
    element_of,
    entity_of,
    hint_of,
    user_error,
)
from trioqueue.stores.redis.scripts import all_scripts, script
from trioqueue.stores.redis.transport import Transport, open_transport
from trioqueue.stores.reports import (
    Hint,
    LinkState,
    Queued,
    Report,
    Silent,
    Tick,
    Withdrawal,
)

T = TypeVar("T")

QUARANTINE_POLL = 0.1
"""Seconds between two questions whether the quarantine has ended."""


class RedisStore(RedisLooking):
    """One client's way into one partition on Redis.  Made by `open_redis_store`."""

    def __init__(self, address: Address, keys: Keys, client: str) -> None:
        self.client = client
        self._address = address
        self._keys = keys
        self._sieve = Sieve()
        self._hints: Callable[[Hint], None] = _nobody
        self._connected: Callable[[], None] = _nothing
        self._types: frozenset[str] = frozenset()
        self._known_generation = ""
        self._joined_at = 0.0  # when the last join was sent: its registration is no older
        self._transport: Transport
        self._batcher: Batcher
        self._replicas: Replicas | None = None  # None: nobody waits for them

    def __repr__(self) -> str:
        return f"<RedisStore {self.client} on {self._address}>"

    def listen(self, hints: Callable[[Hint], None], connected: Callable[[], None]) -> None:
        self._hints, self._connected = hints, connected

    def link(self) -> LinkState:
        counts = self._transport.statistics()
        return LinkState(counts.requests, counts.connected)

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()  # the connection ends with the block that opened it

    # -------------------------------------------------------------------------------- what comes in
    def take_push(self, _channel: bytes, payload: bytes) -> None:
        """Passes on a hint."""
        hint = hint_of(payload)
        if hint is not None:
            self._hints(hint)

    def take_connection(self) -> None:
        """Passes on that hints may be missing."""
        self._connected()

    # -------------------------------------------------------------------------------- sections
    async def send(
        self,
        group: Group,
        *,
        member: Member | None = None,
        wishes: Sequence[ClaimWish] = (),
        on_claim: Callable[[Entity, SendClaimAnswer], None] | None = None,
    ) -> bool:
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
        except trio.Cancelled:
            for wish in wishes:
                assert on_claim is not None
                on_claim(wish.entity, NotClaimed())
            raise
        return bool(await self._section(self._batcher.send, SendSection(group, member, wishes, on_claim)))

    async def secure(self) -> None:
        if self._replicas is not None:
            await self._replicas.confirm(self._transport.server_id)

    def abandon(self, group: Group) -> None:
        self._batcher.settle(group)

    async def claim(
        self, member: Member, entity: Entity, *, have: str = "", fetch: int = 64, eager: bool = False
    ) -> ClaimAnswer:
        section = ClaimSection(member, ClaimWish(entity, have, fetch, eager))
        answer = await self._section(self._batcher.claim, section)
        while answer.__class__ is bytes and answer in REFUSALS and await self._is_quarantine(answer):
            answer = await self._section(self._batcher.claim, section)
        return claim_answer(answer)

    async def commit(
        self, member: Member, commit: Commit, meanwhile: Callable[[], None] | None = None
    ) -> CommitAnswer:
        section = CommitSection(member, commit)
        answer = await self._section(self._batcher.commit, section, meanwhile)
        while answer.__class__ is bytes and answer in REFUSALS and await self._is_quarantine(answer):
            answer = await self._section(self._batcher.commit, section)
        if answer == b"TOO_LARGE":
            check_commit(commit)
        return commit_answer(answer)

    async def release(self, member: Member, entity: Entity, epoch: int | None, why: str) -> bool:
        section = ReleaseSection(member, entity, epoch, why)
        answer = await self._section(self._batcher.release, section)
        while answer in REFUSALS and await self._is_quarantine(answer):
            answer = await self._section(self._batcher.release, section)
        return answer == b"OK"

    # Protected, since an interrupt before it waits would leave a wake-up for a task that sits elsewhere.
    @trio.lowlevel.enable_ki_protection
    async def _section(
        self, add: Callable[[SectionT], None], section: SectionT, meanwhile: Callable[[], None] | None = None
    ) -> object:
        """Adds a section and waits for its answer; a cancelled caller leaves, the answer is read and dropped."""
        await trio.lowlevel.checkpoint_if_cancelled()
        waiter = Waiter()
        section.answer = waiter.answer
        add(section)
        if meanwhile is not None:
            self._batcher.write_if_alone()
            meanwhile()
        result = await waiter.wait()
        if isinstance(result, Exception):
            raise result
        return result

    # -------------------------------------------------------------------------------- single calls
    async def _call(
        self, name: str, keys: Sequence[str], arguments: Sequence[object], *, member: Member | None = None
    ) -> Any:
        """Calls one script; with a member, only on the server it registered with, and after the quarantine."""
        what = script(name)
        common = self._keys.common
        self._batcher.flush()  # what was asked before goes before: a cancel never overtakes its send
        packed = (
            "EVALSHA",
            what.sha,
            len(common) + len(keys),
            *common,
            *keys,
            self._keys.channel,
            *(member or ()),
        )
        server = member.generation if member else None

        async def ask() -> Any:
            try:
                return await self._transport.call(*packed, *arguments, server=server)  # type: ignore[arg-type]
            except redis.exceptions.NoScriptError:
                await self._transport.call("SCRIPT", "LOAD", what.source, server=server)
                return await self._transport.call(*packed, *arguments, server=server)  # type: ignore[arg-type]

        try:
            return await self._after_quarantine(ask)
        except Exception as error:
            raise self._translated(error) from None

    def _translated(self, error: Exception) -> Exception:
        return user_error(error, str(self._address))

    async def _after_quarantine(self, ask: Callable[[], Awaitable[T]]) -> T:
        while True:
            answer = await ask()
            if not await self._is_quarantine(answer):
                return answer

    async def _is_quarantine(self, answer: object) -> bool:
        """Says, after a pause, whether to ask again; raises for the words that refuse a call for good."""
        try:
            check_word(answer)
        except Wait:
            await trio.sleep(QUARANTINE_POLL)
            return True
        return False

    async def retire(self, member: Member) -> None:
        await self._call("retire", [], [], member=member)

    async def assign(self, member: Member, entities: Sequence[Entity]) -> None:
        chunk, rest = entities[:CHUNK], entities[CHUNK:]
        while chunk:
            named = await self._call("assign", self._whole(chunk), [CHUNK, *_named(chunk)], member=member)
            await self._take_out(named, {self._keys.placement(entity.type)[1] for entity in chunk})
            more = [entity_of(name) for name in named]
            chunk, rest = (more, rest) if more else (rest[:CHUNK], rest[CHUNK:])

    async def move(self, member: Member) -> float | None:
        due: list[tuple[bytes, Entity]] = []
        foreign = 0
        while True:
            keys = [*self._keys.later, *self._whole([entity for _, entity in due])]
            arguments: list[object] = [CHUNK]
            for command_id, entity in due:
                arguments += (command_id, str(entity), entity.type)
            wait, more, *named = await self._call("move", keys, arguments, member=member)
            foreign += more
            if named:
                due = await self._due(named)
            elif foreign:
                raise Incompatible(FOREIGN_KEY)
            else:
                return None if wait < 0 else wait / 1e6

    async def _due(self, named: list[bytes]) -> list[tuple[bytes, Entity]]:
        """Reads ids and names of commands that are due; those of no entity are taken out."""
        names = named[1::2]
        strays = set(self._sieve.sift(names))
        ids = [one for one, name in zip(named[::2], named[1::2], strict=True) if name not in strays]
        if strays:
            await self._read("HDEL", self._keys.later[1], *(set(named[::2]) - set(ids)))
        return list(zip(ids, map(entity_of, names), strict=True))

    async def reap(self, member: Member, silent: Silent, *, gave_up: bool = False) -> bool:
        loads = [self._keys.placement(entity_type)[0] for entity_type in silent.types]
        entities: list[Entity] = []
        while True:
            answer = await self._call(
                "reap",
                [*loads, *self._whole(entities), self._keys.paused],
                [silent.incarnation, int(gave_up), CHUNK, len(loads), *_named(entities)],
                member=member,
            )
            if answer[0] != b"MORE":
                return bool(answer[0] == b"GONE")
            names = answer[1:]
            await self._take_out(names, (self._keys.owned,))
            entities = [entity_of(name) for name in names]

    def _whole(self, entities: Sequence[Entity]) -> list[str]:
        keys: list[str] = []
        for entity in entities:
            keys += (*self._keys.entity(entity)[:2], *self._keys.placement(entity.type))
        return keys

    async def join(self, info: PodInfo) -> Member:
        types = sorted(info.types)
        keys = [self._keys.placement(entity_type)[0] for entity_type in types]
        # Never a counter's value: the answer to an earlier join of this client is not taken for the one to this.
        ticket = b""
        while True:
            self._joined_at = now()
            answer = await self._call(
                "join",
                keys,
                [
                    self.client,
                    ticket,
                    self._known_generation,
                    LAYOUT,
                    PARTITIONS,
                    round(info.lease.heartbeat * 1e6),
                    round(info.lease.ttl * 1e6),
                    round(info.lease.grace * 1e6),
                    info.room,
                    info.name,
                    *types,
                ],
            )
            match answer:
                case [b"OK", incarnation, generation]:
                    self._types, self._known_generation = info.types, generation.decode()
                    return Member(incarnation.decode(), generation.decode())
                case [b"TICKET", counter]:
                    ticket = counter
                case [word, stored]:
                    raise Incompatible(_misfit(word.decode(), stored.decode(), info))
                case _:
                    raise AssertionError(answer)

    async def cancel(self, entity: Entity, command_id: str) -> bool:
        keys = [*self._keys.entity(entity)[:2], self._keys.result(command_id)]
        return bool(await self._call("cancel", keys, [str(entity), command_id]) == b"TOLD")

    async def withdraw(
        self, entity: Entity, command_id: str, beginning: bytes, outcome: bytes, keep_ms: int
    ) -> Withdrawal:
        keys = [*self._keys.entity(entity)[:2], *self._keys.later, self._keys.result(command_id)]
        arguments = [str(entity), command_id, beginning, outcome, max(keep_ms, KEEP_CANCELLED_MS)]
        return WITHDRAWALS[await self._search("withdraw", keys, arguments)]

    async def is_queued(self, entity: Entity, command_id: str, beginning: bytes) -> bool:
        keys = [self._keys.entity(entity)[1], self._keys.later[1]]
        return bool(await self._search("find", keys, [command_id, beginning]) == b"FOUND")

    async def _search(self, name: str, keys: Sequence[str], arguments: Sequence[object]) -> Any:
        """Calls a script that looks through a mailbox a piece a call, until it has an answer."""
        answer: Any = 0
        while isinstance(answer, int):
            answer = await self._call(name, keys, [*arguments, answer])
        return answer

    # -------------------------------------------------------------------------------- an operator's
    async def watch(self, entity_type: str, keep_ms: int) -> None:
        await self._call("watch", [self._keys.watchers], [self.client, entity_type, keep_ms])

    async def tell_events(self, data: bytes) -> bool:
        return bool(await self._call("tell", [self._keys.watchers], [data]))

    async def tell_progress(self, command_id: str, client: str, word: bytes) -> None:
        await self._call(
            "progress", [self._keys.progress(command_id)], [command_id, client, word, KEEP_PROGRESS_MS]
        )

    async def progress(self, command_id: str) -> bytes | None:
        kept: bytes | None = await self._read("GET", self._keys.progress(command_id))
        return kept

    async def tick(
        self,
        schedule: str,
        expected_ms: int | None,
        following_ms: int | None,
        command: Outgoing | None = None,
    ) -> Tick:
        times = ["" if at is None else at for at in (expected_ms, following_ms)]
        keys = self._whole([command.entity]) if command else []
        sent = [*_named([command.entity]), command.data] if command else []
        now_us, following, moved = await self._call(
            "tick", [self._keys.schedule, *keys], [schedule, *times, *sent]
        )
        return Tick(now_us // 1000, int(following) if following else None, moved == 1)

    async def keep(self, member: Member, entities: Sequence[Entity], keep_ms: int) -> int:
        arguments = [keep_ms, *_named(entities)]
        return int(await self._call("keep", self._whole(entities), arguments, member=member))

    async def pause(self, entity: Entity, why: str) -> bool:
        keys = [*self._whole([entity]), self._keys.paused]
        return bool(await self._call("pause", keys, [str(entity), entity.type, why]) == 1)

    async def hold(self, entity_type: str, why: str) -> bool:
        return bool(await self._call("hold", [], [entity_type, why]) == 1)

    async def purge(
        self, entity: Entity, commands: Sequence[Queued], tell: Sequence[Purged], outcome: bytes
    ) -> bool:
        e, q, _ = self._keys.entity(entity)
        keys = [e, q, self._keys.placement(entity.type)[1]]
        keys += [self._keys.result(one.command_id) for one in tell]
        first, last = (element_of(commands[at]) for at in (0, -1))
        arguments: list[object] = [str(entity), entity.type, first, last, outcome]
        for one in tell:
            arguments += one
        return bool(await self._call("purge", keys, arguments) == 1)

    async def redeliver(
        self, entity: Entity, command_id: str, where: Literal["head", "tail", "nowhere"], data: bytes = b""
    ) -> bool:
        keys = [*self._keys.dead(entity.type), *self._whole([entity]), self._keys.result(command_id)]
        arguments = [str(entity), entity.type, command_id, where, data]
        return bool(await self._call("redeliver", keys, arguments) == 1)

    # -------------------------------------------------------------------------------- reading
    async def _read(self, *command: bytes | str | int) -> Any:
        try:
            return await self._transport.call(*command)
        except Exception as error:
            raise self._translated(error) from None

    async def _take_out(self, names: list[bytes], indexes: Iterable[str]) -> bool:
        """Removes what is no entity's name from the list and from the indexes it came from; False: there was nothing.

        Cancelled: some indexes still have it, and who reads them next takes it out.
        """
        strays = self._sieve.sift(names)
        for index in indexes if strays else ():
            await self._read("ZREM", index, *strays)
        return bool(strays)

    async def owned(self, member: Member, offset: int) -> tuple[Entity, ...]:
        return await self._page(self._keys.owned, member, offset)

    async def wakes(self, member: Member, offset: int) -> tuple[Entity, ...]:
        return await self._page(self._keys.wake, member, offset)

    async def _page(self, key: str, member: Member, offset: int) -> tuple[Entity, ...]:
        number = member.incarnation.rpartition(".")[2]
        while True:
            names = await self._call("page", [key], [number, offset, PAGE])
            # Read once more without strays: a page that isn't full is taken for the last one.
            if not await self._take_out(names, (key,)):
                return tuple(map(entity_of, names))

    async def state(self, entity: Entity) -> bytes | None:
        kept = await self._read("GET", self._keys.state(entity))
        return kept.partition(b" ")[2] if kept is not None else None

    async def result(self, command_id: str) -> bytes | None:
        kept: bytes | None = await self._read("GET", self._keys.result(command_id))
        return kept

    def hold_lease(
        self, member: Member, lease: Lease, report: Callable[[Report], None]
    ) -> AbstractAsyncContextManager[HeldLease]:
        return keep_lease(
            self._address,
            self._keys,
            member,
            self._types,
            lease,
            report,
            self._sieve,
            joined_at=self._joined_at,
        )


def _nobody(_hint: Hint) -> None:
    """Before anybody listens there is nothing to miss: no command has been sent yet."""


def _nothing() -> None:
    pass


def _named(entities: Sequence[Entity]) -> list[str | bytes]:
    named: list[str | bytes] = []
    for entity in entities:
        named += (str(entity), entity.type)
    return named


def _misfit(word: str, stored: str, info: PodInfo) -> str:
    """Says in one sentence why this pod can't join the fleet that uses the prefix."""
    match word:
        case "LAYOUT":
            return f"its keys have layout {stored}, this trioqueue writes {LAYOUT}, upgrade it or use another prefix"
        case "PARTITIONS":
            return f"its keys lie in {stored} partitions, not {PARTITIONS}, use another prefix"
        case "HEARTBEAT":
            beat = int(stored) / 1e6
            return f"its fleet beats every {beat:g} s, not {info.lease.heartbeat:g} s, open with that lease"
        case _:
            most = int(stored) / 1e6
            return f"its fleet allows a lease of {most:g} s at most, not {info.lease.ttl:g} s, shorten it"


@asynccontextmanager
async def open_redis_store(
    url: str,
    *,
    prefix: str,
    unanswered: float,
    allow_eviction: bool = False,
    replicated: bool = False,
) -> AsyncGenerator[RedisStore, None]:
    """Connects to Redis and checks that it can keep what is promised; `replicated`: `secure` waits for a replica.

    Raises:
        BadUrl, StoreUnavailable, AccessDenied, Incompatible: at once, without a retry.
    """
    address = parse_address(url)
    keys, client = Keys(prefix), secrets.token_hex(6)
    store = RedisStore(address, keys, client)
    async with AsyncExitStack() as connections:
        transport = await connections.enter_async_context(
            open_transport(
                address,
                channels=[keys.channel + client],
                on_push=store.take_push,
                preload=[one.load() for one in all_scripts()],
                on_connect=store.take_connection,
                unanswered=unanswered,
                client_name=f"trioqueue-{client}",
            )
        )
        store._transport = transport
        store._batcher = Batcher(transport, keys, client, str(address))
        await check_server(transport, keys, str(address), allow_eviction=allow_eviction)
        if replicated:
            store._replicas = await connections.enter_async_context(
                open_replicas(transport, address, keys, client, unanswered)
            )
        yield store
