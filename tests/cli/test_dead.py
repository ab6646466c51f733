"""`trioqueue dead`, as processes: dead letters are listed, shown, put back and deleted."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cli.bank import Explode, Freeze, registry
from cli.command_line import Ran, verb, verb_on_terminal
from redis_servers import RedisServer

from trioqueue import AtomicQueues, CallFailed, DeadLetter, Entity, open_atomic_queues
from trioqueue.stores.contract import Group, Outgoing


async def die(server: RedisServer, *commands: tuple[str, str]) -> None:
    """Has commands die, one after another, and ends the pod."""
    async with open_atomic_queues(server.url, registry=registry) as queues:
        for entity_id, what in commands:
            with pytest.raises(CallFailed):
                await queues.call(Explode(entity_id, what), headers={"by": "ann"} if what == "ink" else None)


@asynccontextmanager
async def looking(server: RedisServer) -> AsyncGenerator[tuple[AtomicQueues, list[DeadLetter]]]:
    """Opens queues that nobody serves, and gives the dead letters, the oldest first."""
    async with open_atomic_queues(server.url) as queues:
        yield queues, await queues.dead_letters("account")


async def waiting(queues: AtomicQueues, entity_id: str) -> list[str]:
    return [str(one.fields.get("what", one.command)) for one in await queues.queued("account", entity_id)]


# ------------------------------------------------------------------------ looking
async def test_dead_letters_are_listed_the_newest_first(clean_redis: RedisServer, tmp_path: Path) -> None:
    await die(clean_redis, ("1", "a\nb"), ("2", "ink"), ("1", "\x1b[31mred"))
    async with looking(clean_redis) as (_, letters):
        ids = [letter.command_id for letter in letters]

    ran = await verb("dead", "ls", "account", "--count", "2", url=clean_redis.url, cwd=tmp_path)
    assert (ran.code, ran.stderr, "\x1b" in ran.stdout) == (0, "", False)
    text = " ".join(ran.stdout.split())
    assert text.index(ids[2]) < text.index(ids[1])
    assert ids[0] not in text
    assert f"{ids[1]} account/2 explode 1 " in text
    assert ran.lines[-1] == "There are more: add --offset 2."

    rest = await verb("dead", "ls", "account", "--offset", "2", "--json", url=clean_redis.url, cwd=tmp_path)
    (oldest,) = json.loads(rest.stdout)
    assert (oldest["command_id"], oldest["error"]) == (ids[0], "OSError: no a\nb")
    assert oldest["fields"] == {"account_id": "1", "what": "a\nb"}

    ones = ("--entity", "account/1", "--count", "1", "--offset", "1", "--json")
    of_one = await verb("dead", "ls", "account", *ones, url=clean_redis.url, cwd=tmp_path)
    assert [one["command_id"] for one in json.loads(of_one.stdout)] == [ids[0]]


async def test_no_dead_letter_is_one_sentence(clean_redis: RedisServer, tmp_path: Path) -> None:
    ran = await verb("dead", "ls", "account", url=clean_redis.url, cwd=tmp_path)
    assert ran == Ran(0, "account has no dead letters.\n", "")
    ran = await verb("dead", "ls", "account", "--entity", "lamp/1", url=clean_redis.url, cwd=tmp_path)
    assert (ran.code, "lamp/1 is no account" in ran.stderr) == (2, True)


async def test_all_of_one_is_shown(clean_redis: RedisServer, tmp_path: Path) -> None:
    await die(clean_redis, ("42", "ink"))
    async with looking(clean_redis) as (_, (letter,)):
        pass

    ran = await verb("dead", "show", "account", letter.command_id, url=clean_redis.url, cwd=tmp_path)
    assert (ran.code, ran.stderr) == (0, "")
    assert ran.lines[:4] == [
        "command   explode of account/42",
        f"id        {letter.command_id}",
        'fields    {"account_id": "42", "what": "ink"}',
        'headers   {"by": "ann"}',
    ]
    assert [line.split()[0] for line in ran.lines[4:8]] == ["accepted", "died", "attempts", "error"]
    assert ran.lines[7] == "error     OSError: no ink"
    assert ran.lines[8:11] == ["", "traceback", "Traceback (most recent call last):"]
    assert ran.lines[-1] == "OSError: no ink"

    as_json = await verb(
        "dead", "show", "account", letter.command_id, "--json", url=clean_redis.url, cwd=tmp_path
    )
    shown = json.loads(as_json.stdout)
    assert (shown["command"], shown["attempts"], shown["envelope"]) == (
        "explode",
        1,
        letter.envelope.decode(),
    )
    assert shown["headers"] == {"by": "ann"}


async def test_what_nobody_can_read_is_shown_as_it_is(clean_redis: RedisServer, tmp_path: Path) -> None:
    async with open_atomic_queues(clean_redis.url, registry=registry) as queues:
        await queues._store.send(Group([Outgoing(Entity("account", "42"), b"\xff\x1b[2J")]))
        await queues.wait_settled()
        (letter,) = await queues.dead_letters("account")

    ran = await verb("dead", "show", "account", letter.command_id, url=clean_redis.url, cwd=tmp_path)
    assert ran.code == 0
    assert "command   (unreadable) of account/42" in ran.lines
    assert r"raw       \xff\x1b[2J" in ran.lines


async def test_one_that_is_not_there(clean_redis: RedisServer, tmp_path: Path) -> None:
    for args in (
        ("show", "account", "c1"),
        ("redeliver", "account", "c1"),
        ("discard", "account", "c1", "-y"),
    ):
        ran = await verb("dead", *args, url=clean_redis.url, cwd=tmp_path)
        assert (ran.code, ran.stdout) == (1, "")
        assert ran.stderr == (
            "error: account has no dead letter 'c1' (any more): see `trioqueue dead ls account`.\n"
        )


# ------------------------------------------------------------------------ steering
async def test_one_is_put_back_at_the_tail_or_at_the_head(clean_redis: RedisServer, tmp_path: Path) -> None:
    await die(clean_redis, ("42", "ink"), ("42", "pens"))
    async with looking(clean_redis) as (queues, (ink, pens)):
        await queues.send(Freeze("42"))
        ran = await verb("dead", "redeliver", "account", ink.command_id, url=clean_redis.url, cwd=tmp_path)
        assert ran == Ran(0, "1 dead letter put back.\n", "")
        ran = await verb(
            *("dead", "redeliver", "account", pens.command_id, "--to", "head", "--json"),
            url=clean_redis.url,
            cwd=tmp_path,
        )
        assert (ran.code, json.loads(ran.stdout)) == (0, {"redelivered": 1})
        assert await waiting(queues, "42") == ["pens", "freeze", "ink"]
        assert await queues.dead_letters("account") == []


@pytest.mark.parametrize(
    ("to", "order"), [("tail", ["freeze", "a", "b", "c"]), ("head", ["a", "b", "c", "freeze"])]
)
async def test_all_are_put_back_in_their_order(
    to: str, order: list[str], clean_redis: RedisServer, tmp_path: Path
) -> None:
    await die(clean_redis, *(("42", what) for what in "abc"))
    redeliver = ("dead", "redeliver", "account", "--all", "--to", to)
    async with looking(clean_redis) as (queues, _):
        await queues.send(Freeze("42"))
        ran = await verb(*redeliver, "--yes", url=clean_redis.url, cwd=tmp_path)

        assert ran == Ran(0, "3 dead letters put back.\n", "")
        assert await waiting(queues, "42") == order


async def test_those_that_die_again_are_not_put_back_for_ever(
    clean_redis: RedisServer, tmp_path: Path
) -> None:
    """More than are read at once, and while a pod has them die at once."""
    names = [f"{number}" for number in range(150)]
    async with open_atomic_queues(clean_redis.url, registry=registry) as queues:
        await queues.send_many([Explode("42", name) for name in names])
        await queues.wait_settled()
        before = {letter.command_id for letter in await queues.dead_letters("account", count=999)}
        ran = await verb(
            *("dead", "redeliver", "account", "--all", "--yes", "--json"), url=clean_redis.url, cwd=tmp_path
        )
        assert json.loads(ran.stdout) == {"redelivered": 150}
        await queues.wait_settled()
        again = await queues.dead_letters("account", count=999)
    assert {letter.command_id for letter in again} == before
    assert [letter.fields["what"] for letter in again] == names


async def test_deleting_asks(clean_redis: RedisServer, tmp_path: Path) -> None:
    await die(clean_redis, ("42", "ink"), ("43", "a"), ("43", "b"))
    async with looking(clean_redis) as (queues, (ink, *_)):
        discard = ("dead", "discard", "account")
        one = (*discard, ink.command_id)
        ran = await verb(*one, url=clean_redis.url, cwd=tmp_path)
        question = "Delete the dead letter of explode of account/42 (OSError: no ink) for good?"
        assert (ran.code, ran.stderr.startswith(f"error: {question} Nobody is here")) == (2, True)
        no = await verb_on_terminal(*one, typed="n\n", url=clean_redis.url, cwd=tmp_path)
        assert (no.code != 0, question in no.stdout) == (True, True)
        assert len(await queues.dead_letters("account")) == 3
        ran = await verb(*one, "--yes", url=clean_redis.url, cwd=tmp_path)
        assert ran == Ran(0, "1 dead letter deleted.\n", "")

        everything = await verb(*discard, "--all", url=clean_redis.url, cwd=tmp_path)
        assert (everything.code, "Delete all 2 dead letters of account for good?" in everything.stderr) == (
            2,
            True,
        )
        redeliver = await verb("dead", "redeliver", "account", "--all", url=clean_redis.url, cwd=tmp_path)
        assert redeliver.code == 2
        assert "Put all 2 dead letters of account back, at the tail of the mailboxes?" in redeliver.stderr
        everything = await verb(*discard, "--all", "--yes", "--json", url=clean_redis.url, cwd=tmp_path)
        assert (everything.code, json.loads(everything.stdout)) == (0, {"discarded": 2})
        assert await queues.dead_letters("account") == []


@pytest.mark.parametrize("which", [(), ("c1", "--all")])
async def test_one_or_all(which: tuple[str, ...], clean_redis: RedisServer, tmp_path: Path) -> None:
    ran = await verb("dead", "discard", "account", *which, url=clean_redis.url, cwd=tmp_path)

    assert (ran.code, ran.stderr) == (2, "error: Give the id of a command, or --all, and not both.\n")
