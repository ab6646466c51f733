"""Everything that each kind of server holds, as one dictionary, so that two servers can be compared."""

from collections.abc import Iterable
from typing import Any

import attrs
import hiredis
from stores.script_link import run

from trioqueue._names import Entity
from trioqueue.protocol.lifecycle import Mode
from trioqueue.stores.memory.server import MemoryServer
from trioqueue.stores.redis.keys import Keys
from trioqueue.testing import MemoryHarness, Snapshot, World

CLIENTS = ("c0", "c1", "c2")
TYPES = ("a", "b")
WORDS = ("k", "l")
"""Idempotency keys."""
SCHEDULES = ("s", "t")
ENTITIES = tuple(Entity(*name.split("/")) for name in ("a/x", "a/y", "a/z", "b/x", "b/y"))


def memory_picture(memory: MemoryServer) -> dict[str, Any]:
    """Reads the store in memory."""
    view = MemoryHarness()
    view._server = memory
    world: World = run(view.world())
    boxes = memory.mailboxes
    alive = {name: pod for name, pod in memory.pods.items() if not pod.leaving}
    return {
        "world": attrs.evolve(
            world,
            marked={e: box.owner for e, box in boxes.items() if box.owner and box.cancels},
            loads=_without_zeros(world.loads),
            ready_counts=_without_zeros(world.ready_counts),
            leftovers=(),
        ),
        "details": {
            entity: (
                [(one.accepted_us, one.urgent) for one in box.queue],
                max(0, box.fetched - box.done),
                box.marked,
                box.proven,
                box.unknown_since_us,
                dict(box.cancels),
                box.paused,
                box.overruled,
            )
            for entity, box in boxes.items()
        },
        "ready since": {e: box.ready_since_us for e, box in boxes.items() if box.mode is Mode.READY},
        "held": set(memory.held),
        "schedules": memory.schedules,
        "died": memory.died_us,
        "pods": {
            name: (0 if pod.leaving else pod.renewed_us, pod.room, pod.suspect and str(pod.suspect))
            for name, pod in memory.pods.items()
        },
        "placement": {(kind, name) for name, pod in alive.items() for kind in pod.info.types},
        "meta": (
            memory.epoch_floor,
            memory.incarnations,
            memory._known_generation,
            memory.generation_from,
            memory.quarantine_until_us,
            memory.last_tick_us if memory.incarnations else None,
            memory._clock,
        ),
        # In the order in which they will be moved.
        "later": [
            (one.due[0], name, str(one.entity), one.queued.accepted_us, one.queued.urgent, one.queued.data)
            for name, one in sorted(memory.later.commands.items(), key=lambda item: item[1].due)
        ],
        "keys": {key: name for key, (_, name) in memory.keys.items()},
        "states": {e: b"%s %s" % (version.encode(), data) for e, (version, data) in memory.states.items()},
        "dead": {kind: {one.command_id: one.record for one in memory.dead[kind].values()} for kind in TYPES},
        "producers": {
            name: (
                seen.low,
                seen.high,
                {gap for gap in seen.gaps if gap >= seen.low},
                {number for number in seen.voided if number >= seen.low},
            )
            for name in CLIENTS
            for seen in [memory.producers[name]]
        },
    }


def pack_reads(keys: Keys) -> tuple[bytes, int]:
    """Packs everything that `redis_picture` reads into one write; says how many replies it has."""
    reads: list[tuple[Any, ...]] = [("HGETALL", keys.meta), ("HGETALL", keys.fleet)]
    reads += [("ZRANGE", key, 0, -1, "WITHSCORES") for key in (keys.pods, keys.owned, keys.wake, keys.marked)]
    reads += [("ZRANGE", keys.paused, 0, -1), ("HGETALL", keys.schedule)]
    for kind in TYPES:
        reads += [("ZRANGE", key, 0, -1, "WITHSCORES") for key in keys.placement(kind)]
        order, letters = keys.dead(kind)
        reads += [("ZRANGE", order, 0, -1, "WITHSCORES"), ("HGETALL", letters)]
    for entity in ENTITIES:
        e, q, s = keys.entity(entity)
        reads += [("HGETALL", e), ("LRANGE", q, 0, -1), ("GET", s)]
    for client in CLIENTS:
        producer, gaps = keys.sequences(client)
        reads += [("GET", producer), ("ZRANGE", gaps, 0, -1)]
    index, envelopes = keys.later
    reads += [("ZRANGE", index, 0, -1, "WITHSCORES"), ("HGETALL", envelopes)]
    reads += [("GET", keys.idempotency(entity, word)) for entity in ENTITIES for word in WORDS]
    return b"".join(map(hiredis.pack_command, reads)), len(reads)


def redis_picture(answers: Iterable[Any]) -> dict[str, Any]:
    """Understands the replies to `pack_reads`, and asserts what only Redis could have wrongly."""
    replies = iter(answers)
    meta, fleet = _texts(next(replies)), _texts(next(replies))
    renewed = {name.decode(): round(score) for name, score in next(replies)}
    by_number = {name.rpartition(".")[2]: name for name in renewed}

    def index() -> dict[Entity, str]:
        return {_entity(name): by_number.get(f"{score:.0f}", f"{score:.0f}") for name, score in next(replies)}

    owned, wake, marked = index(), index(), index()
    paused, schedules = frozenset(map(_entity, next(replies))), _texts(next(replies))
    loads: dict[tuple[str, str], int] = {}
    ready: dict[Entity, int] = {}
    died: dict[str, int] = {}
    dead: dict[str, dict[str, bytes]] = {}
    for entity, name in owned.items():
        if not renewed.get(name, 1):  # leaving: no place for anything, so its load is not kept any more
            loads[entity.type, name] = loads.get((entity.type, name), 0) + 1
    placement = set()
    for kind in TYPES:
        of_kind = {(kind, name.decode()): round(n) for name, n in next(replies)}
        loads |= of_kind
        placement |= set(of_kind)
        ready |= {_entity(name): round(since) for name, since in next(replies)}
        order, letters = {name: round(at) for name, at in next(replies)}, next(replies)
        died |= {name.decode(): at for name, at in order.items()}
        dead[kind] = {name.decode(): record for name, record in letters.items()}
        assert order.keys() == letters.keys(), f"dead letters of {kind}: {order}, {letters}"
        assert int(meta.get(f"dead:{kind}", 0)) == len(order), (
            f"dead letters of {kind} are counted wrongly: {meta}"
        )
    entities, details, states = {}, {}, {}
    for entity in ENTITIES:
        fields, queue, state = _texts(next(replies)), next(replies), next(replies)
        queued = [one.partition(b" ") for one in queue]
        if fields or queue:
            entities[entity] = _snapshot(fields, tuple(data for _, _, data in queued))
            details[entity] = (
                [(int(accepted), accepted[:1] == b"+") for accepted, _, _ in queued],
                max(0, int(fields.get("fetched", 0)) - int(fields.get("done", 0))),
                fields.get("mark", ""),
                fields.get("proven") == "1",
                _number(fields, "unknown"),
                {f.removeprefix("cancel:"): int(at) for f, at in fields.items() if f.startswith("cancel:")},
                _paused(fields),
                fields.get("overruled") == "1",
            )
            # A commit takes it that what workers have fetched and not settled is in the mailbox.
            assert details[entity][1] <= len(queue), (
                f"{entity} has lost of what was fetched: {fields}, {queue}"
            )
            marks = len(details[entity][5])
            assert int(fields.get("cancels", 0)) == marks, (
                f"{entity} counts its cancelled commands wrongly: {fields}"
            )
        if state is not None:
            states[entity] = state
    producers: dict[str, Any] = {}
    for client in CLIENTS:
        seen, gaps = next(replies), next(replies)
        low, high = map(int, seen.split()[:2]) if seen else (1, 0)
        voided = {int(gap[1:]) for gap in gaps if gap[:1] == b"v"}
        missing = {int(gap) for gap in gaps if gap[:1] != b"v"}
        producers[client] = (low, high, *({n for n in some if n >= low} for some in (missing, voided)))
    later = _later(next(replies), next(replies))
    known = {(entity, word): next(replies) for entity in ENTITIES for word in WORDS}
    blocked = "quarantine_until" in meta or "held" in meta
    assert meta.get("serving") == (None if blocked else meta.get("generation")), (
        f"not whom meta serves: {meta}"
    )
    strays = {field for field in fleet if field.partition(":")[2] not in renewed}
    assert not strays, f"fleet keeps {strays}, of pods that have left"
    counts = {f.removeprefix("ready:"): int(n) for f, n in meta.items() if f.startswith("ready:")}
    return {
        "world": World(
            entities=entities,
            pods={name: frozenset(fleet[f"types:{name}"].split()) for name in renewed},
            owned=owned,
            wake=wake,
            marked=marked,
            loads=_without_zeros(loads),
            ready=frozenset(ready),
            ready_counts=_without_zeros(counts),
            leftovers=(),
            paused=paused,
        ),
        "details": details,
        "ready since": ready,
        "held": set(meta.get("held", "").split()),
        "schedules": {name: int(following) for name, following in schedules.items()},
        "died": died,
        "pods": {
            name: (at, int(fleet[f"room:{name}"]), fleet.get(f"suspect:{name}"))
            for name, at in renewed.items()
        },
        "placement": placement,
        "meta": (
            int(meta.get("epoch_floor", 0)),
            int(meta.get("incarnations", 0)),
            meta.get("generation"),
            int(meta.get("generation_from", 0)),
            _number(meta, "quarantine_until"),
            _number(meta, "last_tick"),
            meta.get("clock"),
        ),
        "later": later,
        "keys": {key: name.decode() for key, name in known.items() if name is not None},
        "states": states,
        "dead": dead,
        "producers": producers,
    }


def _later(index: list[Any], envelopes: dict[bytes, bytes]) -> list[tuple[Any, ...]]:
    """Understands what is put off, and asserts that no command is in one of both places alone."""
    later: list[tuple[Any, ...]] = []
    for member, due in index:
        number, _, name = member.partition(b" ")
        kept, accepted, size, rest = envelopes[name].split(b" ", 3)
        assert kept == number, f"{name} is kept as {kept}, and waits as {number}"
        entity, data = rest[: int(size)], rest[int(size) :]
        later.append((round(due), name.decode(), entity.decode(), int(accepted), accepted[:1] == b"+", data))
    assert len(later) == len(envelopes), f"of {set(envelopes)} only {later} will be due"
    return later


def differences(where: str, ours: Any, theirs: Any) -> list[str]:
    """Tells where two pictures differ."""
    if ours == theirs:
        return []
    if isinstance(ours, World | Snapshot) and isinstance(theirs, World | Snapshot):
        ours, theirs = attrs.asdict(ours, recurse=False), attrs.asdict(theirs, recurse=False)
    if not isinstance(ours, dict) or not isinstance(theirs, dict):
        return [f"{where}: memory has {ours}, the scripts {theirs}"]
    return [
        line
        for key in sorted({*ours, *theirs}, key=str)
        for line in differences(f"{where} {key}", ours.get(key), theirs.get(key))
    ]


def _without_zeros(counts: Any) -> dict[Any, int]:
    return {key: count for key, count in counts.items() if count}


def _texts(fields: dict[bytes, bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in fields.items()}


def _entity(name: bytes) -> Entity:
    return Entity(*name.decode().split("/", 1))


def _paused(fields: dict[str, str]) -> tuple[int, str] | None:
    since, _, why = fields.get("paused", "").partition(" ")
    return (int(since), why) if since else None


def _number(fields: dict[str, str], name: str) -> int | None:
    return int(fields[name]) if name in fields else None


def _snapshot(fields: dict[str, str], queued: tuple[bytes, ...]) -> Any:
    return Snapshot(
        mode=Mode(fields.get("mode", "idle")),
        owner=fields.get("owner"),
        epoch=int(fields.get("epoch", 0)),
        done=int(fields.get("done", 0)),
        queued=queued,
        due_us=_number(fields, "due"),
        attempts=int(fields.get("attempts", 0)),
        crashes=int(fields.get("crashes", 0)),
    )
