"""The harness of the store on Redis: its clock is moved by moving every time that is stored."""

import re
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import attrs
from redis_servers import RedisServer

from trioqueue._names import Entity
from trioqueue.protocol.lifecycle import Mode
from trioqueue.stores.contract import Store
from trioqueue.stores.redis.keys import Keys
from trioqueue.stores.redis.store import open_redis_store
from trioqueue.testing import Snapshot, World

TRANSIENT = ("producer:", "gaps:", "result:", "key:", "progress:", "watchers")
"""Keys that may be left when all is done, if they have a TTL."""

KEPT = re.compile(r"meta|schedule|s:.*|dead:.*|letters:.*", re.DOTALL)
"""Keys that may be left when all is done: their number depends on what was asked to be kept."""

_PREFIXES = count()


class RedisHarness:
    """One prefix on one server.

    The clock of Redis can't be moved.  But no script compares it with a client's clock, only with times that scripts
    have stored; so to move all of these back is the same.  Two are left: when a command was accepted, which no script
    looks at again, and the floor of epochs, which is only moved if the clock is to be set back, as the lower epoch
    that the moved clock would give is what it guards against.
    """

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.prefix = f"check-{next(_PREFIXES)}"
        self.keys = Keys(self.prefix)

    def __repr__(self) -> str:
        return f"<RedisHarness {self.prefix} on {self.server}>"

    async def clear(self) -> None:
        self.prefix = f"check-{next(_PREFIXES)}"
        self.keys = Keys(self.prefix)

    @asynccontextmanager
    async def open_store(self) -> AsyncGenerator[Store, None]:
        async with open_redis_store(self.server.url, prefix=self.prefix, unanswered=10.0) as store:
            yield store

    async def new_generation(self) -> None:
        self.server.kill()
        self.server.restart()

    # -------------------------------------------------------------------------------- the clock
    async def advance(self, seconds: float) -> None:
        shift = -round(seconds * 1e6)
        keys = self.keys
        with self.server.client() as client, client.pipeline() as moved:
            for field in ("last_tick", "quarantine_until", *(["epoch_floor"] if seconds < 0 else [])):
                if client.hexists(keys.meta, field):
                    moved.hincrby(keys.meta, field, shift)
            watched = (client.hget(keys.meta, "watched") or b"").decode()
            if watched:
                moved.hset(
                    keys.meta, "watched", re.sub(r"\d{6,}", lambda at: str(int(at[0]) + shift), watched)
                )
            for incarnation, renewed in client.zrange(keys.pods, 0, -1, withscores=True):
                if renewed > 0:  # 0 is no time: it is leaving
                    moved.zincrby(keys.pods, shift, incarnation)
            for key in self._all(client):
                name = key.decode().removeprefix(keys.tag)
                if name.startswith("e:"):
                    for field in client.hkeys(key):
                        if field in (b"due", b"unknown") or field.startswith(b"cancel:"):
                            moved.hincrby(key, field.decode(), shift)
                elif name.startswith("ready:") or name in ("later", "watchers"):
                    for member in client.zrange(key, 0, -1):
                        moved.zincrby(key, shift, member)
                if name.startswith(TRANSIENT):
                    left = client.pttl(key)
                    if left >= 0:
                        moved.pexpire(key, left + shift // 1000)
            moved.execute()

    def _all(self, client: Any) -> list[bytes]:
        # A prefix has no character that a pattern gives a meaning to, and braces have none.
        return sorted(client.scan_iter(match=f"{self.keys.tag}*", count=1000))

    # -------------------------------------------------------------------------------- all of it
    async def world(self) -> World:
        keys = self.keys
        with self.server.client() as client:
            pods = [name.decode() for name in client.zrange(keys.pods, 0, -1)]
            fleet = {field.decode(): value.decode() for field, value in client.hgetall(keys.fleet).items()}
            meta = {field.decode(): value.decode() for field, value in client.hgetall(keys.meta).items()}
            by_number = {name.rpartition(".")[2]: name for name in pods}

            def index(key: str) -> dict[Entity, str]:
                members = client.zrange(key, 0, -1, withscores=True)
                return {
                    _entity(name): by_number.get(f"{score:.0f}", f"{score:.0f}") for name, score in members
                }

            entities: dict[Entity, Snapshot] = {}
            mailboxes: dict[Entity, tuple[bytes, ...]] = {}
            loads: dict[tuple[str, str], int] = {}
            ready: set[Entity] = set()
            leftovers = [field for field in meta if field.startswith("joined:")]
            for key in self._all(client):
                name = key.decode().removeprefix(keys.tag)
                kind, _, rest = name.partition(":")
                if kind == "e":
                    entities[Entity(*rest.split(":", 1))] = _snapshot(client.hgetall(key))
                elif kind == "q":
                    mailboxes[Entity(*rest.split(":", 1))] = tuple(
                        one.partition(b" ")[2] for one in client.lrange(key, 0, -1)
                    )
                elif kind == "load":
                    for incarnation, owns in client.zrange(key, 0, -1, withscores=True):
                        loads[rest, incarnation.decode()] = round(owns)
                elif kind == "ready":
                    ready |= {_entity(name) for name in client.zrange(key, 0, -1)}
                transient = name.startswith(TRANSIENT) and client.ttl(key) >= 0
                if not transient and not KEPT.fullmatch(name):
                    leftovers.append(name)
            for entity, queued in mailboxes.items():
                entities[entity] = attrs.evolve(entities.get(entity, Snapshot()), queued=queued)
            return World(
                entities=entities,
                pods={name: frozenset(fleet.get(f"types:{name}", "").split()) for name in pods},
                owned=index(keys.owned),
                wake=index(keys.wake),
                marked=index(keys.marked),
                loads=loads,
                ready=frozenset(ready),
                ready_counts=Counter(
                    {f.removeprefix("ready:"): int(n) for f, n in meta.items() if f.startswith("ready:")}
                ),
                leftovers=tuple(leftovers),
                paused=frozenset(_entity(name) for name in client.zrange(keys.paused, 0, -1)),
            )


def _entity(name: bytes) -> Entity:
    return Entity(*name.decode().split("/", 1))


def _snapshot(fields: dict[bytes, bytes]) -> Snapshot:
    def number(name: bytes) -> int:
        return int(fields.get(name, b"0"))

    return Snapshot(
        mode=Mode(fields.get(b"mode", b"idle").decode()),
        owner=fields[b"owner"].decode() if b"owner" in fields else None,
        epoch=number(b"epoch"),
        done=number(b"done"),
        due_us=number(b"due") if b"due" in fields else None,
        attempts=number(b"attempts"),
        crashes=number(b"crashes"),
    )
