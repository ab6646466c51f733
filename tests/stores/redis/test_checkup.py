"""Checking goes on over refusals, and ends where nobody answers; what it finds is in `tests/cli/test_check.py`."""

import socket
from pathlib import Path

import pytest
import trio
from redis_connections import GOOD_INFO, HELLO, open_proxy, scripted
from redis_servers import RedisServer

from trioqueue.stores.redis import checkup
from trioqueue.stores.redis.checkup import check
from trioqueue.stores.redis.findings import Finding


async def worst(url: str) -> Finding:
    with trio.fail_after(20):
        return (await check(url, "tq"))[0]


async def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkup, "ANSWERS_WITHIN", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        found = await worst(f"redis://127.0.0.1:{silent.getsockname()[1]}")

    assert (found.name, found.level) == ("connection", "error")
    assert "no answer to HELLO in 0.05 s" in found.what


async def test_what_was_seen_before_the_connection_broke_is_told(each_redis: RedisServer) -> None:
    async with open_proxy(each_redis) as proxy:
        proxy.fuse = b"CONFIG"
        found = await check(proxy.url, "tq")

    assert found[0].name == "connection"
    assert "broke before all was looked at" in found[0].what
    assert {"version", "eviction", "clock"} <= {one.name for one in found}


async def test_a_server_that_hangs_up() -> None:
    async with scripted(b"") as url:
        assert (await worst(url)).name == "connection"
    async with scripted(HELLO + GOOD_INFO) as url:  # the second answer answers nothing that was asked
        assert (await worst(url)).level == "error"


async def test_all_ways_to_a_server_are_ways_to_check_it(each_redis: RedisServer) -> None:
    for url in (each_redis.url, each_redis.unix_url, f"{each_redis.url}/3"):
        found = {one.name: one.level for one in await check(url, "tq")}
        assert found["version"] == found["rights"] == found["layout"] == "well"


async def test_it_leaves_neither_keys_nor_connections(each_redis: RedisServer) -> None:
    def open_files() -> int:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    before = open_files()
    for url in (each_redis.url, "redis://127.0.0.1:1", f"{each_redis.url}/99"):
        await check(url, "tq")

    assert open_files() == before
    with each_redis.client() as client:
        assert client.dbsize() == 0


async def test_an_interruption_closes_the_connection(each_redis: RedisServer) -> None:
    async with open_proxy(each_redis) as proxy:
        proxy.mute = True
        with trio.move_on_after(0.05) as scope:
            await check(proxy.url, "tq")

    assert scope.cancelled_caught
