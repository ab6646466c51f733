"""`trioqueue show`, as a process: one page of an entity, and what happens to it while one watches."""

import json
from pathlib import Path

import pytest
import trio
from cli.command_line import Ran, verb
from lamps import Switch, Works, die
from redis_servers import RedisServer

from trioqueue import Drain, Entity, EntityPolicy, MailboxFull, Retry, open_atomic_queues
from trioqueue.stores.contract import Group, Outgoing
from trioqueue.stores.redis.keys import Keys

POLICIES = {"lamp": EntityPolicy(idle_timeout=600, retry=Retry(attempts=1), max_pending=6)}
AT_ONCE = Drain(soft=0.0, hard=1.0)
WIDE = {"COLUMNS": "120"}


def section(ran: Ran, title: str) -> list[str]:
    """Gives the rows of a table below its title and its heading."""
    lines = ran.lines[ran.lines.index(title) + 3 :]
    return [line.rstrip() for line in lines[: lines.index("") if "" in lines else None]]


def facts(ran: Ran) -> dict[str, str]:
    lines = ran.lines[1 : ran.lines.index("") if "" in ran.lines else None]
    return {name: told.strip() for name, _, told in (line.partition(" ") for line in lines)}


async def test_a_page_of_everything(clean_redis: RedisServer, tmp_path: Path) -> None:
    works = Works()
    works.closed = {"slow"}
    async with works.open(clean_redis.url, "red", entities=POLICIES, drain=AT_ONCE) as queues:
        await queues.call(Switch("a", "first"))
        await die(works, queues, Switch("a", "bad"), Switch("b", "of another"))
        slow = await queues.send(Switch("a", "slow"), expires=36_000)
        await works.wait_started("slow")
        await queues.send(Switch("a", "x" * 1000))
        await queues.send(Switch("a", "hurry"), urgent=True)
        later = await queues.send(Switch("a", "later"), delay=36_000)
        await queues.send_many([Switch("a", "more")] * 3)
        with pytest.raises(MailboxFull):
            await queues.send(Switch("a", "refused"))
        ran = await verb("show", "lamp/a", "--count", "3", url=clean_redis.url, cwd=tmp_path, **WIDE)
        as_json = await verb("show", "lamp/a", "--json", url=clean_redis.url, cwd=tmp_path)
        fence = (await queues.inspect("lamp", "a")).fence

    assert (ran.code, ran.stderr) == (0, "")
    assert max(map(len, ran.lines)) <= 120
    assert ran.lines[0].startswith("lamp/a is active on red, heard of ")
    told = facts(ran)
    assert told.keys() == {"fence", "mailbox", "first", "state"}
    assert told["fence"].startswith(f"{fence}, claimed ")
    assert told["mailbox"].startswith("6 commands, full for a sender that allows 6, ")
    assert told["first"].startswith(f"switch {slow.command_id}, accepted ")
    assert "deadline in 10 h" in told["first"]
    assert told["state"].endswith(' bytes, version 1: {"log": ["first"]}')
    in_hand, hurry, long, cut = section(ran, "In its mailbox:")
    assert f"switch    {slow.command_id}" in in_hand
    assert in_hand.endswith('{"lamp_id": "a", "what": "slow", "seconds": 0.0}')
    assert hurry.startswith("urgent")
    assert "hurry" in hurry
    assert long.endswith("xxx…")
    assert cut == "These are 3 of 6: --count 6 shows all."
    (put_off,) = section(ran, "Put off:")
    assert put_off.startswith("in 10 h   switch")
    assert later.command_id in put_off
    (letter,) = section(ran, "Newest dead letters:")
    assert letter.endswith("OSError: bad is jammed")

    page = json.loads(as_json.stdout)
    assert (page["mailbox"]["fence"], page["mailbox"]["owner"], page["mailbox"]["pending"]) == (
        fence,
        "red",
        6,
    )
    assert [one["fields"]["what"][:5] for one in page["queued"]] == [
        "slow", "hurry", "xxxxx", "more", "more", "more",
    ]  # fmt: skip
    assert [one["urgent"] for one in page["queued"]].count(True) == 1
    assert [one["command_id"] for one in page["put_off"]] == [later.command_id]
    assert page["state"] == {"version": 1, "fields": {"log": ["first"]}}
    assert [(one["command"], one["attempts"]) for one in page["dead_letters"]] == [("switch", 1)]


async def test_an_entity_that_nobody_knows_has_a_page_too(clean_redis: RedisServer, tmp_path: Path) -> None:
    ran = await verb("show", "lamp/a", url=clean_redis.url, cwd=tmp_path)
    as_json = await verb("show", "lamp/a", "--json", url=clean_redis.url, cwd=tmp_path)

    assert (ran.code, ran.lines[0]) == (0, "lamp/a is idle")
    assert facts(ran) == {"mailbox": "0 commands", "state": "none"}
    page = json.loads(as_json.stdout)
    assert (page["mailbox"]["mode"], page["state"], page["queued"], page["put_off"]) == ("idle", None, [], [])


async def test_what_holds_it_back(clean_redis: RedisServer, tmp_path: Path) -> None:
    async with open_atomic_queues(clean_redis.url) as queues:
        await queues.pause("lamp", "a", why="a new\nbulb")
        await queues.pause("lamp", why="a new fuse")
        await queues.send(Switch("a", "on"))
        await queues.send(Switch("b", "on"))
        a = await verb("show", "lamp/a", url=clean_redis.url, cwd=tmp_path)
        b = await verb("show", "lamp/b", url=clean_redis.url, cwd=tmp_path)

    assert (a.lines[0], b.lines[0]) == ("lamp/a is paused", "lamp/b is ready")
    assert facts(a)["paused"].endswith(" s: a new bulb")
    assert facts(a)["type"].endswith(" s: a new fuse")
    assert facts(b)["ready"].endswith(" s: no pod takes it")
    assert "paused" not in facts(b)


async def test_what_can_not_be_read_is_shown_as_far_as_it_can(
    clean_redis: RedisServer, tmp_path: Path
) -> None:
    """Strangers wrote it, or a broken client; and a terminal obeys nothing of it."""
    async with open_atomic_queues(clean_redis.url) as queues:
        entity = Entity("lamp", "a")
        strange = json.dumps({"i": "c1", "n": "sw\x1b[31mitch", "p": {"what": "\x9b31m"}})
        await queues._store.send(Group([Outgoing(entity, b"\xff"), Outgoing(entity, strange.encode())]))
        with clean_redis.client() as client:
            client.set(Keys("tq").entity(entity)[2], b"1.1 nonsense")
        ran = await verb("show", "lamp/a", url=clean_redis.url, cwd=tmp_path, **WIDE)
        as_json = await verb("show", "lamp/a", "--json", url=clean_redis.url, cwd=tmp_path)

    assert (ran.code, ran.stderr) == (0, "")
    assert facts(ran)["state"].startswith("8 bytes: ")
    assert not any(one in ran.stdout for one in "\x1b\x9b")
    assert "(undecodable)" in ran.stdout
    assert r"sw\x1b[31mitch" in ran.stdout
    assert r"\x9b31m" in ran.stdout
    page = json.loads(as_json.stdout)
    assert page["state"] is None
    assert page["state_error"]
    assert [one["command"] for one in page["queued"]] == ["(undecodable)", "sw\x1b[31mitch"]


@pytest.mark.parametrize("form", ["text", "json"])
async def test_its_events_are_followed(form: str, clean_redis: RedisServer, tmp_path: Path) -> None:
    works = Works()
    async with (
        works.open(clean_redis.url, "red", entities=POLICIES) as queues,
        trio.open_nursery() as nursery,
    ):

        @nursery.start_soon
        async def switch() -> None:
            while True:
                await queues.call(Switch("b", "not of this one"))
                await queues.call(Switch("a", "on"))
                await trio.sleep(0.05)

        options = ["--json"] if form == "json" else []
        ran = await verb("show", "lamp/a", "--events", "2", *options, url=clean_redis.url, cwd=tmp_path)
        nursery.cancel_scope.cancel()

    assert (ran.code, ran.stderr) == (0, "")
    if form == "text":
        lines = ran.lines[ran.lines.index("Events of the next 2.0 s:") + 1 :]
        assert lines
        assert all(line.split()[1] == "lamp/a" for line in lines)
        assert any(line.split()[2:5] == ["handled", "switch", "red"] for line in lines)
    else:
        page, *events = map(json.loads, ran.lines)
        assert page["mailbox"]["entity_id"] == "a"
        assert events
        assert {one["entity_id"] for one in events} == {"a"}
        assert "handled" in {one["event"] for one in events}
