"""Limits of size: the policy's at the client, and the layout's in the store, for clients that check nothing."""

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any

import pytest
from redis_servers import RedisServer

from trioqueue import (
    AtomicQueues,
    BadDeclaration,
    CallFailed,
    Command,
    Context,
    EntityPolicy,
    PayloadTooLarge,
    Registry,
    Retry,
    command,
    entity_id,
    open_atomic_queues,
    state,
)
from trioqueue.messages.policy import MAX_COMMAND_BYTES, MAX_GROUP_BYTES, MAX_STATE_BYTES
from trioqueue.stores.contract import MAX_BATCH_BYTES

registry = Registry()


@state("shelf")
class Shelf:
    text: str = ""


@command("shelf")
class Fill(Command[int]):
    shelf_id: str = entity_id()
    text: str


@command("shelf")
class Grow(Command[int]):
    shelf_id: str = entity_id()
    size: int


@command("shelf")
class Pass(Command[int]):
    """Sends a command of this size with its commit."""

    shelf_id: str = entity_id()
    size: int


@command("shelf")
class Flood(Command[None]):
    """Sends so many of this size with its commit."""

    shelf_id: str = entity_id()
    size: int
    count: int


@registry.handles(Fill)
async def fill(command: Fill, shelf: Shelf) -> int:
    shelf.text = command.text
    return len(command.text)


@registry.handles(Grow)
async def grow(command: Grow, shelf: Shelf) -> int:
    shelf.text += "x" * command.size
    return len(shelf.text)


@registry.handles(Pass)
async def pass_on(command: Pass, context: Context) -> int:
    context.send(Fill("child", "x" * command.size))
    return command.size


@registry.handles(Flood)
async def flood(command: Flood, context: Context) -> None:
    for _ in range(command.count):
        context.send(Fill("child", "x" * command.size))


@pytest.fixture(params=["memory", "redis"])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "memory":
        return "memory://"
    server: RedisServer = request.getfixturevalue("clean_redis")
    return server.url


@asynccontextmanager
async def opened(url: str, **limits: int) -> AsyncGenerator[AtomicQueues]:
    policy = EntityPolicy(retry=Retry(attempts=1), **limits)  # type: ignore[arg-type]
    async with open_atomic_queues(url, registry=registry, entities={"shelf": policy}) as queues:
        yield queues


# ------------------------------------------------------------------------------------ the policy's, at the client
async def test_the_largest_command_passes_and_one_byte_more_does_not(url: str) -> None:
    async with opened(url, max_payload=2000) as queues:
        around = len(queues._encoder.encode(Fill("a", ""), "x" * 13, answered=True).data)
        assert await queues.call(Fill("a", "x" * (1980 - around))) == 1980 - around
        with pytest.raises(PayloadTooLarge) as caught:
            await queues.call(Fill("a", "x" * (2010 - around)))
        assert caught.value.limit == 2000
        assert await queues.state(Shelf, "a") == Shelf("x" * (1980 - around))


async def test_one_command_too_large_and_none_of_its_group_is_sent(url: str) -> None:
    async with opened(url, max_payload=2000) as queues:
        with pytest.raises(PayloadTooLarge):
            await queues.send_many([Fill("a", "1"), Fill("b", "x" * 2000)])
        await queues.wait_settled()
        assert (await queues.statistics()).handled == 0


async def test_a_child_too_large_fails_the_turn(url: str) -> None:
    async with opened(url, max_payload=2000) as queues:
        with pytest.raises(CallFailed, match="PayloadTooLarge"):
            await queues.call(Pass("a", 2000))
        assert await queues.call(Pass("a", 1000)) == 1000
        await queues.wait_settled()
        assert (await queues.state(Shelf, "child")).text == "x" * 1000


async def test_more_than_goes_in_one_piece_is_refused_whole(url: str) -> None:
    text = "x" * (MAX_COMMAND_BYTES - 200)
    async with opened(url, max_payload=MAX_COMMAND_BYTES) as queues:
        with pytest.raises(PayloadTooLarge, match="together"):
            await queues.send_many([Fill("a", text)] * (MAX_GROUP_BYTES // len(text) + 1))
        with pytest.raises(CallFailed, match="together"):
            await queues.call(Flood("a", len(text), MAX_GROUP_BYTES // len(text) + 1))
        await queues.wait_settled()
        assert (await queues.state(Shelf, "a")).text == ""


async def test_a_state_too_large_fails_the_turn_and_stays_what_it_was(url: str) -> None:
    async with opened(url, max_state=2000) as queues:
        assert await queues.call(Grow("a", 1900)) == 1900
        with pytest.raises(CallFailed, match="StateTooLarge"):
            await queues.call(Grow("a", 100))
        assert await queues.call(Grow("a", 1)) == 1901


async def test_the_largest_that_any_policy_allows_works(url: str) -> None:
    async with opened(url, max_payload=MAX_COMMAND_BYTES, max_state=MAX_STATE_BYTES) as queues:
        size = MAX_COMMAND_BYTES - 200
        assert await queues.call(Fill("a", "x" * size)) == size
        with pytest.raises(CallFailed, match="StateTooLarge"):
            await queues.call(Grow("a", 200))
        assert await queues.call(Pass("a", size)) == size
        await queues.wait_settled()
        assert len((await queues.state(Shelf, "child")).text) == size


@pytest.mark.parametrize("limit", ["max_payload", "max_state"])
def test_no_policy_allows_more_than_the_store_takes(limit: str) -> None:
    most = {"max_payload": MAX_COMMAND_BYTES, "max_state": MAX_STATE_BYTES}[limit]
    allowed: Any = {limit: most}
    EntityPolicy(**allowed)
    with pytest.raises(BadDeclaration, match=f"EntityPolicy.{limit}={most + 1} is not legal: give {most} "):
        EntityPolicy(**{limit: most + 1})  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------ the store's, for whoever asks
def unchecked() -> EntityPolicy:
    """Makes a policy that allows everything, as that of a client of another making."""
    policy = EntityPolicy()
    object.__setattr__(policy, "max_payload", 10 * MAX_COMMAND_BYTES)
    return policy


async def test_a_client_that_checks_nothing_is_refused_by_the_store(url: str) -> None:
    async with opened(url) as queues:
        queues._encoder._policies["shelf"] = unchecked()
        for _ in range(2):
            with pytest.raises(PayloadTooLarge) as caught:
                await queues.send(Fill("a", "x" * MAX_COMMAND_BYTES))
            assert caught.value.limit == MAX_COMMAND_BYTES
        with pytest.raises(PayloadTooLarge):
            await queues.call(Fill("a", "x" * MAX_COMMAND_BYTES))
        assert await queues.call(Fill("a", "and it goes on")) == 14
        await queues.wait_settled()
        assert (await queues.statistics()).handled == 1


async def test_what_was_refused_by_the_store_left_nothing(clean_redis: RedisServer) -> None:
    async with open_atomic_queues(clean_redis.url) as queues:
        queues._encoder._policies["shelf"] = unchecked()
        with pytest.raises(PayloadTooLarge):
            await queues.send(Fill("a", "x" * MAX_COMMAND_BYTES))
        with clean_redis.client() as client:
            # What is known of the sender is not of the command.
            assert [key for key in client.keys("*") if b":producer:" not in key] == []


def test_lua_and_python_have_the_same_limits() -> None:
    common = (files("trioqueue.stores.redis") / "lua" / "lib" / "common.lua").read_text("utf-8")
    found = {
        name: int(number)
        for name, number in re.findall(r"^local (MAX_\w+_BYTES) = (\d+)", common, re.MULTILINE)
    }
    assert found == {
        "MAX_BATCH_BYTES": MAX_BATCH_BYTES,
        "MAX_COMMAND_BYTES": MAX_COMMAND_BYTES,
        "MAX_STATE_BYTES": MAX_STATE_BYTES,
    }
