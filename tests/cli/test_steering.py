"""`trioqueue cancel`, `pause`, `resume` and `purge`, as processes, on pods of the test's own."""

import json
from pathlib import Path

import pytest
from cli.command_line import Ran, verb, verb_on_terminal
from lamps import Switch, Works, log_of, mode_of
from redis_servers import RedisServer

from trioqueue import CallCancelled, open_atomic_queues


# ------------------------------------------------------------------------ one command
async def test_what_became_of_a_command_that_is_cancelled(clean_redis: RedisServer, tmp_path: Path) -> None:
    """It runs and is told, it waits and is dropped, and then it is too late."""
    works = Works()
    works.closed = {"first"}
    async with works.open(clean_redis.url) as queues:
        first = await queues.send(Switch("a", "first"))
        second = await queues.send(Switch("a", "second"))
        await works.wait_started("first")

        async def cancel(command_id: str, *more: str) -> tuple[int, str]:
            ran = await verb("cancel", "lamp/a", command_id, *more, url=clean_redis.url, cwd=tmp_path)
            assert ran.stderr == ""
            return ran.code, ran.stdout

        dropped = "It is dropped: it does not run, or not again.\n"
        told = "Its handler may run and is told: it is cancelled, unless it ends first.\n"
        late = "It is too late: it is settled, or was never accepted.\n"
        assert await cancel(second.command_id) == (0, dropped)
        assert await cancel(first.command_id) == (0, told)
        with pytest.raises(CallCancelled):
            await queues.result(first)
        third = await queues.send(Switch("a", "third"))
        await queues.wait_settled()
        assert await cancel(third.command_id) == (1, late)
        code, answer = await cancel("c1", "--json")
        assert (code, json.loads(answer)) == (1, {"entity": "lamp/a", "command_id": "c1", "became": "late"})
        assert await log_of(queues) == ["third"]


# ------------------------------------------------------------------------ pausing
async def test_an_entity_is_paused_and_resumed(clean_redis: RedisServer, tmp_path: Path) -> None:
    works = Works()
    async with works.open(clean_redis.url) as queues:

        async def steer(*args: str) -> str:
            ran = await verb(*args, url=clean_redis.url, cwd=tmp_path)
            assert (ran.code, ran.stderr) == (0, "")
            return ran.stdout

        said = await steer("pause", "lamp/a", "--why", "new bulb")
        assert said == "lamp/a is paused: nothing of it starts before `trioqueue resume lamp/a`.\n"
        await queues.send(Switch("a", "on"))
        assert (await queues.inspect("lamp", "a")).paused_why == "new bulb"
        assert await steer("pause", "lamp/a") == "lamp/a was paused already, and stays so.\n"
        assert works.starts == []
        assert await steer("resume", "lamp/a") == "lamp/a goes on.\n"
        await works.wait_started("on")
        again = json.loads(await steer("resume", "lamp/a", "--json"))
        assert again == {"target": "lamp/a", "changed": False}


async def test_a_type_is_paused_and_resumed(clean_redis: RedisServer, tmp_path: Path) -> None:
    works = Works()
    async with works.open(clean_redis.url) as queues:
        ran = await verb("pause", "lamp", "--json", url=clean_redis.url, cwd=tmp_path)
        assert (ran.code, ran.stderr) == (0, "")
        assert json.loads(ran.stdout) == {"target": "lamp", "changed": True}
        box = await queues.inspect("lamp", "a")
        assert (box.type_paused, box.type_paused_why, box.mode) == (True, "by an operator", "idle")
        await queues.send(Switch("a", "on"))
        ran = await verb("resume", "lamp", url=clean_redis.url, cwd=tmp_path)
        assert ran == Ran(0, "lamp goes on.\n", "")
        await works.wait_started("on")


async def test_what_nobody_serves_may_be_a_slip(clean_redis: RedisServer, tmp_path: Path) -> None:
    """It is paused, as its pods may just be away; but it is said."""
    ran = await verb("pause", "lmap/a", url=clean_redis.url, cwd=tmp_path)

    assert (ran.code, ran.stderr) == (0, "warning: no pod serves lmap now: is it spelt so?\n")
    async with open_atomic_queues(clean_redis.url) as queues:
        assert (await queues.inspect("lmap", "a")).mode == "paused"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("pause", "Lamp"), "'Lamp' is no legal entity type"),
        (("resume", "lamp/"), "is empty: give the entity a name"),
        (("purge", "lamp"), "'lamp' is no entity: write its type, a slash and its id"),
        (("cancel", "lamp/a"), "Missing argument 'COMMAND_ID'"),
    ],
)
async def test_a_name_that_is_none(
    args: tuple[str, ...], says: str, clean_redis: RedisServer, tmp_path: Path
) -> None:
    ran = await verb(*args, url=clean_redis.url, cwd=tmp_path)

    assert (ran.code, ran.stdout, len(ran.stderr.splitlines())) == (2, "", 1)
    assert says in ran.stderr


# ------------------------------------------------------------------------ purging
async def test_a_purge_asks_and_says_how_many(clean_redis: RedisServer, tmp_path: Path) -> None:
    question = "Take all 2 commands out of the mailbox of lamp/a, unhandled?"
    async with open_atomic_queues(clean_redis.url) as queues:
        await queues.send_many([Switch("a", "on"), Switch("a", "off")])

        alone = await verb("purge", "lamp/a", url=clean_redis.url, cwd=tmp_path)
        assert (alone.code, alone.stdout) == (2, "")
        assert alone.stderr == f"error: {question} Nobody is here to be asked: add --yes if it is meant.\n"
        no = await verb_on_terminal("purge", "lamp/a", typed="n\n", url=clean_redis.url, cwd=tmp_path)
        assert (no.code != 0, question in no.stdout) == (True, True)
        assert len(await queues.queued("lamp", "a")) == 2

        yes = await verb_on_terminal("purge", "lamp/a", typed="y\n", url=clean_redis.url, cwd=tmp_path)
        assert (yes.code, yes.lines[-1].endswith("2 taken out of the mailbox of lamp/a.")) == (0, True)
        assert await mode_of(queues) == "idle"
        await queues.send(Switch("a", "on"))
        ran = await verb("purge", "lamp/a", "--yes", "--json", url=clean_redis.url, cwd=tmp_path)
        assert (ran.code, json.loads(ran.stdout)) == (0, {"entity": "lamp/a", "purged": 1})
        empty = await verb("purge", "lamp/a", url=clean_redis.url, cwd=tmp_path)
        assert empty == Ran(0, "Nothing is queued for lamp/a.\n", "")
