"""How a process says it stands, to any thread."""

import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest
import trio
from lamps import Switch, Works
from redis_servers import RedisServer

from trioqueue import Health, Lease, open_atomic_queues

T = TypeVar("T")


@pytest.fixture(params=["memory", "redis"])
def url(request: pytest.FixtureRequest, clean_redis: RedisServer) -> str:
    return "memory://" if request.param == "memory" else clean_redis.url


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server of our own, to stop."""
    with RedisServer(appendonly=True) as one:
        yield one


def from_outside(ask: Callable[[], T]) -> T:
    """Asks in another thread, while the loop stands still."""
    answers: list[T] = []
    thread = threading.Thread(target=lambda: answers.append(ask()))
    thread.start()
    thread.join()
    return answers[0]


async def until(condition: Callable[[], object]) -> None:
    with trio.fail_after(20):
        while not condition():  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.01)


async def test_a_pod_that_is_well(url: str) -> None:
    async with Works().open(url) as queues:
        await queues.call(Switch("a", "on"))
        health = from_outside(queues.health)
    assert (health.state, health.connected) == ("open", True)
    assert health.lease_left is not None
    assert 0 < health.lease_left <= Lease().ttl
    assert (health.requests > 0) is url.startswith("redis")
    closed = queues.health()
    assert (closed.state, closed.lease_left) == ("closed", 0.0)


async def test_who_only_sends_has_no_lease(url: str) -> None:
    async with open_atomic_queues(url) as queues:
        health = from_outside(queues.health)
        assert health == Health("open", connected=True, lease_left=None, requests=health.requests)
        await queues.statistics()
        asked = queues.health().requests - health.requests
    assert (asked > 0) is url.startswith("redis")
    assert queues.health().state == "closed"


async def test_a_pod_that_drains(url: str) -> None:
    works = Works()
    works.closed.add("slow")
    seen: list[Health] = []

    async def watch() -> None:
        await until(lambda: queues.health().state == "draining")
        seen.append(from_outside(queues.health))
        works.gates["slow"].set()

    async with trio.open_nursery() as nursery, works.open(url) as queues:
        await queues.send(Switch("a", "slow"))
        await works.wait_started("slow")
        nursery.start_soon(watch)
    (health,) = seen
    assert (health.lease_left or 0) > 0, "what it has, it still handles"


async def test_a_lease_and_a_link_that_are_lost_and_found(server: RedisServer) -> None:
    async with Works().open(server.url, lease=Lease(ttl=0.6, heartbeat=0.2, grace=0.3)) as queues:
        server.stop()
        await until(lambda: not from_outside(queues.health).connected)
        await until(lambda: from_outside(queues.health).lease_left == 0)
        server.restart()
        await until(lambda: from_outside(queues.health).connected)
        await until(lambda: (from_outside(queues.health).lease_left or 0) > 0)
        assert await queues.call(Switch("a", "on")) == 1
