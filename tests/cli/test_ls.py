"""`trioqueue ls`, as a process: which entities have work, in which order, and whether that is all."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cli.command_line import verb
from lamps import Spin, Switch, Works
from redis_servers import RedisServer

from trioqueue import AtomicQueues, Drain
from trioqueue._names import Entity
from trioqueue.stores.contract import Group, Outgoing


@pytest.fixture
async def queues(clean_redis: RedisServer) -> AsyncIterator[AtomicQueues]:
    """One lamp in hand, one paused, and two fans that no pod serves."""
    works = Works()
    works.closed = {"slow"}
    async with works.open(clean_redis.url, "red", serves={"lamp"}, drain=Drain(soft=0.0, hard=1.0)) as opened:
        await opened.send(Spin("old", "1"))
        await opened.send(Switch("a", "slow"))
        await works.wait_started("slow")
        await opened.send_many([Switch("a", "next"), Switch("a", "last")])
        await opened.pause("lamp", "b")
        await opened.send(Switch("b", "on"))
        await opened.send_many([Spin("deep", "1"), Spin("deep", "2")])
        yield opened


def rows(lines: list[str]) -> list[list[str]]:
    return [line.split() for line in lines[2:] if "/" in line]


async def test_the_oldest_come_first(queues: AtomicQueues, clean_redis: RedisServer, tmp_path: Path) -> None:
    ran = await verb("ls", url=clean_redis.url, cwd=tmp_path)

    assert (ran.code, ran.stderr) == (0, "")
    assert ran.lines[0].split() == ["entity", "mode", "pod", "pending", "first", "waited"]
    seen = rows(ran.lines)
    assert [row[0] for row in seen] == ["fan/old", "lamp/a", "lamp/b", "fan/deep"]
    assert [row[1:-2] for row in seen] == [
        ["ready", "1", "spin"],
        ["owned", "red", "3", "switch"],
        ["paused", "1", "switch"],
        ["ready", "2", "spin"],
    ]
    assert len(seen) == len(ran.lines) - 2, "it is the whole, so that nothing more is said"


async def test_the_deepest_come_first_where_that_is_asked_for(
    queues: AtomicQueues, clean_redis: RedisServer, tmp_path: Path
) -> None:
    ran = await verb("ls", "--sort", "deepest", url=clean_redis.url, cwd=tmp_path)
    as_json = await verb("ls", "--sort", "deepest", "--json", url=clean_redis.url, cwd=tmp_path)

    order = ["lamp/a", "fan/deep", "fan/old", "lamp/b"]
    assert [row[0] for row in rows(ran.lines)] == order
    found = json.loads(as_json.stdout)
    assert found["whole"] is True
    assert [f"{one['entity_type']}/{one['entity_id']}" for one in found["lanes"]] == order
    first = found["lanes"][0]
    assert (first["mode"], first["pod"], first["pending"], first["command"]) == ("owned", "red", 3, "switch")
    assert first["waited"] >= 0
    assert found["lanes"][1]["pod"] is None


async def test_what_is_cut_off_is_said(
    queues: AtomicQueues, clean_redis: RedisServer, tmp_path: Path
) -> None:
    ran = await verb("ls", "--count", "2", url=clean_redis.url, cwd=tmp_path)
    as_json = await verb("ls", "--count", "2", "--json", url=clean_redis.url, cwd=tmp_path)

    assert [row[0] for row in rows(ran.lines)] == ["fan/old", "lamp/a"]
    assert ran.lines[-1] == "These are 2 of 4: --count 4 shows all."
    found = json.loads(as_json.stdout)
    assert (len(found["lanes"]), found["whole"]) == (2, False)


async def test_what_was_not_looked_at_is_said(
    queues: AtomicQueues, clean_redis: RedisServer, tmp_path: Path
) -> None:
    """Of a thousand and one fans that wait, one is not looked at unless more is asked for."""
    fans = [Outgoing(Entity("fan", f"{number}"), b"\xff") for number in range(999)]
    await queues._store.send(Group(fans))
    ran = await verb("ls", "fan", "--count", "1", url=clean_redis.url, cwd=tmp_path)
    more = await verb("ls", "fan", "--count", "1001", "--json", url=clean_redis.url, cwd=tmp_path)
    none = await verb("ls", "door", url=clean_redis.url, cwd=tmp_path)

    assert ran.lines[-2:] == [
        "These are 1 of 1,000: --count 1000 shows all.",
        "Not all were looked at, only 1,000 of each kind: others may be older; --count 10000 looks further.",
    ]
    found = json.loads(more.stdout)
    assert (len(found["lanes"]), found["whole"]) == (1001, True)
    assert {one["command"] for one in found["lanes"]} == {"(undecodable)", "spin"}
    assert none.lines[0] == "No entity of the type 'door' that was looked at has work."


async def test_one_type(queues: AtomicQueues, clean_redis: RedisServer, tmp_path: Path) -> None:
    ran = await verb("ls", "lamp", url=clean_redis.url, cwd=tmp_path)
    none = await verb("ls", "door", url=clean_redis.url, cwd=tmp_path)
    bad = await verb("ls", "Lamp", url=clean_redis.url, cwd=tmp_path)

    assert [row[0] for row in rows(ran.lines)] == ["lamp/a", "lamp/b"]
    assert (none.code, none.lines) == (0, ["No entity of the type 'door' has work."])
    assert (bad.code, bad.stdout) == (2, "")
    assert "'Lamp' is no legal entity type" in bad.stderr


async def test_nothing_to_list_is_one_sentence(clean_redis: RedisServer, tmp_path: Path) -> None:
    ran = await verb("ls", url=clean_redis.url, cwd=tmp_path)

    assert (ran.code, ran.lines, ran.stderr) == (0, ["No entity has work."], "")
