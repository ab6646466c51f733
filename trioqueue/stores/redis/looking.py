"""What an operator reads, from Redis: by small scripts where it must be one moment, else by plain reads."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from trioqueue._names import Entity
from trioqueue.messages.policy import MAX_COMMAND_BYTES
from trioqueue.stores.contract import CHUNK, Member
from trioqueue.stores.redis.keys import Keys
from trioqueue.stores.redis.replies import (
    Sieve,
    counters,
    entity_of,
    inspection,
    put_off_of,
    queued_of,
    registrations,
    scored,
)
from trioqueue.stores.reports import (
    Inspection,
    Lane,
    Lanes,
    Letter,
    PutOff,
    Queued,
    Registrations,
    StoreStatistics,
)

Waiting = tuple[Entity, Literal["owned", "ready", "paused"], int | None]
"""An entity of one of the indexes, which one it is, and the number of its owner."""


class RedisLooking:
    """The part of the store that looks."""

    _keys: Keys
    _sieve: Sieve

    if TYPE_CHECKING:

        async def _call(
            self, name: str, keys: Sequence[str], arguments: Sequence[object], *, member: Member | None = None
        ) -> Any: ...

        async def _read(self, *command: bytes | str | int) -> Any: ...

    async def inspect(self, entity: Entity) -> Inspection:
        keys = [*self._keys.entity(entity), self._keys.placement(entity.type)[1]]
        return inspection(await self._call("inspect", keys, [str(entity)]))

    async def queued(self, entity: Entity, offset: int, count: int) -> tuple[Queued, ...]:
        key = self._keys.entity(entity)[1]
        return tuple(map(queued_of, await self._read("LRANGE", key, offset, offset + count - 1)))

    async def letters(
        self, entity_type: str, offset: int, count: int, *, newest: bool = False
    ) -> tuple[Letter, ...]:
        order, records = self._keys.dead(entity_type)
        first, last = (-offset - count, -offset - 1) if newest else (offset, offset + count - 1)
        pairs = scored(await self._read("ZRANGE", order, first, last, "WITHSCORES"))
        if newest:
            pairs.reverse()
        found: list[bytes | None] = []
        if pairs:
            found = await self._read("HMGET", records, *(one for one, _ in pairs))
        return tuple(
            Letter(round(at), one.decode(), record)
            for (one, at), record in zip(pairs, found, strict=True)
            if record is not None
        )

    async def letter(self, entity_type: str, command_id: str) -> Letter | None:
        order, records = self._keys.dead(entity_type)
        died_us = await self._read("ZSCORE", order, command_id)
        record = await self._read("HGET", records, command_id)
        return (
            None if died_us is None or record is None else Letter(round(float(died_us)), command_id, record)
        )

    async def cancelled(self, entity: Entity) -> tuple[str, ...]:
        fields = await self._read("HKEYS", self._keys.entity(entity)[0])
        return tuple(f.removeprefix(b"cancel:").decode() for f in fields if f.startswith(b"cancel:"))

    async def statistics(self) -> StoreStatistics:
        pods = await self._read("ZCARD", self._keys.pods)
        owned = await self._read("ZCARD", self._keys.owned)
        # Read before and after the wakes: an entity that moves between ready and a pod meanwhile is seen at least once.
        before = await self._counters()
        wakes = await self._read("ZCARD", self._keys.wake)
        after = await self._counters()
        ready, held = max(before[:2], after[:2], key=sum)
        put_off = await self._read("ZCARD", self._keys.later[0])
        return StoreStatistics(pods, owned, wakes + ready + held, ready, after[2], put_off, held)

    async def _counters(self) -> tuple[int, int, int]:
        return counters(await self._read("HGETALL", self._keys.meta))

    async def lanes(self, count: int, *, longest: int = MAX_COMMAND_BYTES) -> Lanes:
        waiting, whole = await self._waiting(count)
        found, now_us = list[Lane](), 0
        for at in range(0, max(len(waiting), 1), CHUNK):
            chunk = waiting[at : at + CHUNK]
            keys = [self._keys.entity(entity)[1] for entity, _, _ in chunk]
            now_us, *seen = await self._call("glance", keys, [longest])
            found += [
                Lane(entity, mode, owner, queued, queued_of(head) if head else None)
                for (entity, mode, owner), (queued, head) in zip(chunk, seen, strict=True)
                if queued  # else it was settled since
            ]
        return Lanes(now_us, tuple(found), whole)

    async def _waiting(self, count: int) -> tuple[list[Waiting], bool]:
        """Names entities that have commands, and says whether these are all."""
        indexes: list[tuple[str, Literal["owned", "ready", "paused"]]] = [(self._keys.wake, "owned")]
        meta = await self._read("HGETALL", self._keys.meta)
        for field in meta:
            kind, _, entity_type = field.partition(b":")
            if kind == b"ready":
                indexes.append((self._keys.placement(entity_type.decode())[1], "ready"))
        indexes.append((self._keys.paused, "paused"))
        waiting, whole = dict[Entity, Waiting](), True
        for index, mode in indexes:
            names = dict(scored(await self._read("ZRANGE", index, 0, count, "WITHSCORES")))
            whole = whole and len(names) <= count
            kept = list(names)[:count]
            self._sieve.sift(kept)
            for name in kept:
                entity = entity_of(name)
                waiting[entity] = (entity, mode, round(names[name]) if mode == "owned" else None)
        return list(waiting.values()), whole

    async def registrations(self) -> Registrations:
        return registrations(await self._call("pods", [], []))

    async def put_off(self, entity: Entity, count: int) -> tuple[PutOff, ...]:
        order, envelopes = self._keys.later
        following = scored(await self._read("ZRANGE", order, 0, count - 1, "WITHSCORES"))
        ids = [member.partition(b" ")[2] for member, _ in following]
        kept: list[bytes | None] = []
        for at in range(0, len(ids), CHUNK):  # each may be long
            kept += await self._read("HMGET", envelopes, *ids[at : at + CHUNK])
        found = [
            put_off_of(round(due), one, data)
            for (_, due), one, data in zip(following, ids, kept, strict=True)
            if data is not None  # else it was moved since
        ]
        name = str(entity).encode()
        return tuple(one[1] for one in found if one is not None and one[0] == name)
