"""Everything that can happen to a connection, to the sender's and to a pod's."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from faults.fleet_processes import until
from faults.lab import Lab, open_lab
from faults.proxy import Fault, How, Proxy
from faults.shelf_pod import LEASE
from redis_servers import RedisServer

SHELVES = ("a", "b", "c", "d")


ENOUGH = 20
"""Sends that are confirmed in a story, at least."""


async def resets(proxies: list[Proxy]) -> None:
    """RST, again and again."""
    for _ in range(6):
        for proxy in proxies:
            await until(proxy.reset)  # there is somebody again
        await trio.sleep(0.1)


async def ends(proxies: list[Proxy]) -> None:
    """FIN, again and again."""
    for _ in range(6):
        for proxy in proxies:
            await until(proxy.finish)  # there is somebody again
        await trio.sleep(0.1)


async def half_closes(proxies: list[Proxy]) -> None:
    """The server says no more, and still listens."""
    for _ in range(6):
        for proxy in proxies:
            await until(proxy.half_close)  # there is somebody again
        await trio.sleep(0.1)


async def refusals(proxies: list[Proxy]) -> None:
    """Nobody is let in for half a lease."""
    for proxy in proxies:
        proxy.refusing = True
        proxy.reset()
    await trio.sleep(LEASE.ttl / 2)
    for proxy in proxies:
        assert proxy.connections
        proxy.refusing = False


async def delays(proxies: list[Proxy]) -> None:
    """Everything takes 20 ms longer, each way."""
    for proxy in proxies:
        proxy.delay = 0.02
    await trio.sleep(0.7)


async def single_bytes(proxies: list[Proxy]) -> None:
    """Everything comes byte by byte."""
    for proxy in proxies:
        proxy.piece = 1
    await trio.sleep(0.7)


async def narrowness(proxies: list[Proxy]) -> None:
    """A line of 64 KiB a second."""
    for proxy in proxies:
        proxy.rate = 65_536.0
        proxy.piece = 512
    await trio.sleep(0.7)


async def silence(proxies: list[Proxy]) -> None:
    """Nothing passes, and no connection ends, for longer than a lease."""
    for proxy in proxies:
        proxy.silent = True
    await trio.sleep(LEASE.ttl + LEASE.grace + LEASE.heartbeat)
    for proxy in proxies:
        proxy.speak()


@asynccontextmanager
async def sending(lab: Lab) -> AsyncGenerator[None]:
    """Sends in the background, and ends that with the block."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lab.keep_sending, SHELVES)
        await trio.sleep(0.1)
        yield
        await trio.sleep(0.1)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "disturb",
    [resets, ends, half_closes, refusals, delays, single_bytes, narrowness, silence],
    ids=lambda one: one.__name__,
)
async def test_a_disturbed_connection_costs_time_alone(
    disturb: Callable[[list[Proxy]], Awaitable[None]], redis_server: RedisServer, tmp_path: Path
) -> None:
    async with open_lab(redis_server, tmp_path, proxied=True) as lab:
        await lab.pod("victim", (await lab.proxy()).url)
        await lab.pod("helper")
        async with sending(lab):
            await disturb(lab.proxies)
            lab.history.fault()
            # However slow the machine and the line are.
            await until(lambda: len(lab.history.confirmed_at) >= ENOUGH)
        for proxy in lab.proxies:
            proxy.delay, proxy.piece, proxy.rate = 0.0, 65_536, float("inf")
        (await lab.verdict()).assert_clean(confirmed=ENOUGH)


@pytest.mark.parametrize("kind", ["commit", "send"])
async def test_a_reply_may_be_cut_at_every_byte(kind: str, redis_server: RedisServer, tmp_path: Path) -> None:
    async with open_lab(redis_server, tmp_path) as lab:
        proxy = await lab.proxy()
        victim = await lab.pod("victim", proxy.url)
        for cut_at in range(64):
            fault = proxy.plan(Fault(kind, How.INSIDE, cut_at=cut_at))
            await lab.send("a", victim.queues)
            with trio.fail_after(5):
                await fault.fired.wait()
        (await lab.verdict()).assert_clean(confirmed=64)
