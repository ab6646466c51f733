"""The rights that the how-to lists: each of them is missed at opening, by name.

That they are enough for everything is what the contract shows, which each Redis keeps for a user who has no more.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files

import pytest
from redis_rights import COMMANDS, HOW_TO, PASSWORD, RULE
from redis_servers import RedisServer

from trioqueue import AccessDenied, Command, Incompatible, Registry, command, entity_id, open_atomic_queues

LUA = files("trioqueue.stores.redis") / "lua"

registry = Registry()


@command("account")
class Look(Command[int]):
    account_id: str = entity_id()


@registry.handles(Look)
async def look(_: Look) -> int:
    return 1


@contextmanager
def user(server: RedisServer, *rules: str) -> Iterator[str]:
    """Has a user with these rules, for a block, and gives its URL."""
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "trioqueue", "reset", "on", f">{PASSWORD}", *rules)
        yield server.url.replace("://", f"://trioqueue:{PASSWORD}@")
        client.execute_command("ACL", "DELUSER", "trioqueue")


async def test_a_fleet_works_with_these_rights(each_redis: RedisServer) -> None:
    with user(each_redis, *RULE) as url:
        async with open_atomic_queues(url, registry=registry) as queues, open_atomic_queues(url) as sender:
            assert await sender.call(Look("a")) == 1
            await sender.send(Look("b"))
            await queues.wait_settled()


async def refused(server: RedisServer, rules: list[str]) -> str:
    """Opens as a user with these rules; returns the one sentence of the refusal."""
    with user(server, *rules) as url, pytest.raises(AccessDenied) as caught:
        async with open_atomic_queues(url, registry=registry):
            pass
    with server.client() as client:
        assert client.dbsize() == 0, "something was written"
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert PASSWORD not in sentence
    return sentence


@pytest.mark.parametrize("right", COMMANDS)
async def test_a_command_that_is_taken_away_is_named(each_redis: RedisServer, right: str) -> None:
    sentence = await refused(each_redis, [one for one in RULE if one != right])
    greeting = {"+info", "+subscribe", "+script|load"}
    assert (f"call {right[1:].upper().replace('|', ' ')} (" if right in greeting else f" {right}") in sentence


async def test_all_that_is_missing_in_scripts_is_named_at_once(each_redis: RedisServer) -> None:
    sentence = await refused(each_redis, [one for one in RULE if not one.startswith("+z")])
    assert all(right in sentence for right in COMMANDS if right.startswith("+z"))


@pytest.mark.parametrize("pattern", ["~{other:*", "~{tq:0}:e:*", "~{tq:0}:[a-p]*"])
async def test_keys_out_of_reach_are_named(each_redis: RedisServer, pattern: str) -> None:
    rules = [pattern if one.startswith("~") else one for one in RULE]
    assert "~{tq:*" in await refused(each_redis, rules)


@pytest.mark.parametrize("pattern", ["&{other:*", "&{tq:0}:to:[0-9a-f]*"])
async def test_channels_out_of_reach_are_named(each_redis: RedisServer, pattern: str) -> None:
    """The second one lets it listen to its own channel, and not tell everybody else."""
    rules = [pattern if one.startswith("&") else one for one in RULE]
    sentence = await refused(each_redis, rules)
    assert "&{tq:*" in sentence or ("SUBSCRIBE" in sentence and "channel" in sentence)


async def test_a_user_that_may_only_read_is_refused(each_redis: RedisServer) -> None:
    assert "+hdel +del" in await refused(each_redis, ["~*", "&*", "+@all", "-@write"])


async def test_a_right_that_is_taken_away_later_is_told(each_redis: RedisServer) -> None:
    """The script is stopped when it has noted the group's number: that is not the group's acceptance."""
    with user(each_redis, *RULE) as url:
        async with open_atomic_queues(url) as queues:
            with each_redis.client() as client:
                client.execute_command("ACL", "SETUSER", "trioqueue", "-rpush")
            with pytest.raises(AccessDenied):
                await queues.send(Look("a"))


async def test_eviction_is_seen_without_the_right_to_configure() -> None:
    with (
        RedisServer(maxmemory=50_000_000, maxmemory_policy="allkeys-lru") as server,
        user(server, *RULE) as url,
        pytest.raises(Incompatible, match="maxmemory-policy allkeys-lru"),
    ):
        async with open_atomic_queues(url):
            pass


# ------------------------------------------------------------------------------------ no right is forgotten
def used_in_scripts() -> set[str]:
    parts = [part for folder in (LUA, LUA / "lib") for part in folder.iterdir() if part.is_file()]
    texts = [part.read_text("utf-8") for part in parts if part.name != "rights.lua"]
    return {name.lower() for text in texts for name in re.findall(r"redis\.call\('(\w+)'", text)}


def read_by_the_store() -> set[str]:
    folder = files("trioqueue.stores.redis")
    text = "".join((folder / name).read_text("utf-8") for name in ("store.py", "looking.py"))
    names = set(re.findall(r'_read\("([A-Z]+)"', text))
    assert {"GET", "HKEYS", "ZCARD"} <= names
    return {name.lower() for name in names}


def test_opening_tries_every_command_of_the_scripts_and_reads() -> None:
    tried = set(re.findall(r"^try\('(\w+)'", (LUA / "rights.lua").read_text("utf-8"), re.MULTILINE))
    assert tried == used_in_scripts() | read_by_the_store() | {"hmget"}


def test_the_page_lists_exactly_what_is_used() -> None:
    around = {"info", "script|load", "eval", "evalsha", "subscribe", "publish"}
    assert {right[1:] for right in COMMANDS} == used_in_scripts() | read_by_the_store() | around
    assert [right for right in RULE if right not in COMMANDS] == [
        "resetchannels",
        "~{tq:*",
        "&{tq:*",
        "-@all",
    ]


def test_the_page_says_what_each_right_is_for() -> None:
    table = HOW_TO.read_text().partition("## What each right is for")[2].partition("\n\n`")[0]
    named = set(re.findall(r"`([~&+][^`]+)`", table.replace("\\|", "|")))
    assert named == {right for right in RULE if right[0] in "~&+"}
