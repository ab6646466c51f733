"""What can happen to Redis itself: it dies, stalls, forgets, is full, or is another one."""

import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis
import trio
from faults.fleet_processes import until
from faults.lab import Lab, open_lab
from faults.shelf_pod import LEASE
from redis_servers import RedisServer

from trioqueue import StoreFull

SHELVES = ("a", "b", "c", "d", "e", "f")

REJOINS_WITHIN = LEASE.ttl + LEASE.grace + 2 * LEASE.heartbeat + 2.0
"""Seconds after which a fleet works again on a new server: reconnecting, joining anew, the quarantine, handing on."""


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server of this test alone, which remembers."""
    with RedisServer(appendonly=True, options={"repl-diskless-sync-delay": "0"}) as own:
        yield own


@asynccontextmanager
async def at_work(lab: Lab) -> AsyncGenerator[None]:
    """Two pods and a sender that work until the block ends."""
    for name in ("one", "two"):
        await lab.pod(name, lab.proxies[0].url if lab.proxies else None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lab.keep_sending, SHELVES)
        await trio.sleep(0.3)
        await _confirmed(lab, 60)
        yield
        await trio.sleep(0.2)
        await _confirmed(lab, 120)
        nursery.cancel_scope.cancel()


async def _confirmed(lab: Lab, count: int) -> None:
    """Waits until so many sends were confirmed in all: how long that takes is the disk's matter."""
    with trio.fail_after(60):
        while sum(map(len, lab.history.confirmed.values())) < count:  # noqa: ASYNC110 - a history tells nobody
            await trio.sleep(0.01)


async def kill_and_forget(lab: Lab) -> None:
    """Ends the server; what it had confirmed until then may be lost."""
    lab.server.kill()
    await trio.sleep(0.05)  # its last answers are still on their way
    lab.history.forgotten_until = time.monotonic()


async def test_killed_and_started_again_it_has_lost_nothing(server: RedisServer, tmp_path: Path) -> None:
    async with open_lab(server, tmp_path) as lab:
        async with at_work(lab):
            server.kill()
            await trio.sleep(0.2)
            server.restart()
            lab.history.fault()
        verdict = await lab.verdict(seconds=2 * REJOINS_WITHIN, heals_within=REJOINS_WITHIN)
        verdict.assert_clean(confirmed=100)


async def test_stalled_for_twice_the_lease_it_reaps_nobody(server: RedisServer, tmp_path: Path) -> None:
    async with open_lab(server, tmp_path) as lab:
        async with at_work(lab):
            server.pause()
            await trio.sleep(2 * LEASE.ttl)
            server.resume()
            lab.history.fault()
        verdict = await lab.verdict()
        verdict.assert_clean(confirmed=100)


async def test_it_may_forget_the_scripts(server: RedisServer, tmp_path: Path) -> None:
    async with open_lab(server, tmp_path) as lab:
        async with at_work(lab):
            with server.client() as client:
                for _ in range(10):
                    client.script_flush()
                    await trio.sleep(0.05)
        (await lab.verdict()).assert_clean(confirmed=100)


async def test_it_may_cut_everybody_off(server: RedisServer, tmp_path: Path) -> None:
    killed = 0
    async with open_lab(server, tmp_path) as lab:
        async with at_work(lab):
            with server.client() as client:
                me = client.client_id()
                with trio.fail_after(30):
                    while killed < 30:
                        for one in client.client_list():
                            if int(one["id"]) != me:
                                killed += client.client_kill_filter(_id=one["id"])
                        await trio.sleep(0.05)
        (await lab.verdict()).assert_clean(confirmed=100)


async def test_full_it_refuses_sends_and_drains(server: RedisServer, tmp_path: Path) -> None:
    async with open_lab(server, tmp_path) as lab:
        async with at_work(lab):
            with server.client() as client:
                await lab.send_some(5, "slow", seconds=0.05)
                client.config_set("maxmemory", 1)
                for _ in range(5):
                    with pytest.raises(StoreFull):
                        await lab.send("refused")
                await lab.pod("three")  # a full server can still be joined
                await lab.settle()
                assert not lab.history.stuck
                client.config_set("maxmemory", 0)
            await lab.send("refused")
        (await lab.verdict()).assert_clean(confirmed=100)


async def test_without_the_tail_of_its_file_only_the_tail_is_lost(
    server: RedisServer, tmp_path: Path
) -> None:
    async with open_lab(server, tmp_path) as lab:
        async with at_work(lab):
            await trio.sleep(0.5)
            (file,) = [one for one in server.data.rglob("*.aof") if ".base." not in one.name]
            size = file.stat().st_size
            lab.history.forgotten_from = time.monotonic() - 0.1
            await until(lambda: file.stat().st_size > size + 40_000)
            await kill_and_forget(lab)
            with file.open("r+b") as cut:
                cut.truncate(size)
            server.restart()
            lab.history.fault()
        verdict = await lab.verdict(seconds=2 * REJOINS_WITHIN, heals_within=REJOINS_WITHIN)
        verdict.assert_clean(confirmed=100)
        assert verdict.forgotten, "no send was in the tail: this shows nothing"


def _let_replica_hear(master: redis.Redis) -> None:
    """Waits until the replica has all that the server was told before."""
    master.set("probe", 1)
    assert master.wait(1, 5000) == 1
    master.delete("probe")


async def test_a_stale_replica_may_be_promoted(server: RedisServer, tmp_path: Path) -> None:
    with RedisServer(appendonly=True) as replica, replica.client() as control:
        async with open_lab(server, tmp_path, proxied=True) as lab:
            control.replicaof("127.0.0.1", str(server.port))
            with server.client() as master:
                # It calls itself up long before it is told what comes in.
                _let_replica_hear(master)
            async with at_work(lab):
                await trio.sleep(0.3)
                lab.history.forgotten_from = time.monotonic()
                with server.client() as master:  # on a busy machine it may be behind
                    await trio.to_thread.run_sync(_let_replica_hear, master)
                control.replicaof("NO", "ONE")
                await trio.sleep(0.4)
                lab.proxies[0].refusing = True
                await kill_and_forget(lab)
                lab.proxies[0].port = replica.port
                lab.proxies[0].refusing = False
                lab.server = lab.harness.server = replica
                lab.history.fault()
            verdict = await lab.verdict(seconds=2 * REJOINS_WITHIN, heals_within=REJOINS_WITHIN)
            verdict.assert_clean(confirmed=100)
            assert verdict.forgotten, "no send was in the tail: this shows nothing"
