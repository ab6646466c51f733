"""A lease that a thread keeps: real time, a real server, and a loop that really stands still."""

import logging
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import trio
from redis_servers import RedisServer

from trioqueue._names import Entity
from trioqueue.messages.policy import Lease
from trioqueue.stores.contract import Group, HeldLease, Outgoing, PodInfo
from trioqueue.stores.redis import lease as lease_module
from trioqueue.stores.redis.store import RedisStore, open_redis_store
from trioqueue.stores.reports import Report, Silent

LEASE = Lease(ttl=1.0, heartbeat=0.1, grace=0.5, stall_limit=5.0)
INFO = PodInfo("test", frozenset({"account"}), 10, LEASE)
PATIENCE = 10.0


def short_of_breath(stall_limit: float) -> Lease:
    return Lease(ttl=LEASE.ttl, heartbeat=LEASE.heartbeat, grace=LEASE.grace, stall_limit=stall_limit)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server of our own, to freeze and to stop."""
    with RedisServer(appendonly=True) as one:
        yield one


def beating() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("heartbeat")]


async def until_lost(held: HeldLease) -> float:
    """Watches a lease as a pod does; gives the seconds until it is lost."""
    began = time.monotonic()
    with trio.fail_after(PATIENCE):
        while held.left() > 0:
            held.tick()
            await trio.sleep(0.01)
    return time.monotonic() - began


async def until(condition: Callable[[], object]) -> None:
    with trio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110 - it is about a thread, which sets no event
            await trio.sleep(0.005)


async def test_beats_keep_it_and_report(clean_redis: RedisServer) -> None:
    async with open_redis_store(clean_redis.url, prefix="lease", unanswered=5.0) as store:
        member = await store.join(INFO)
        entity = Entity("account", "a")
        await store.send(Group([Outgoing(entity, b"1")]))
        reports: list[Report] = []
        in_loop: list[bool] = []
        loop = threading.get_ident()

        def take(report: Report) -> None:
            reports.append(report)
            in_loop.append(threading.get_ident() == loop)

        async with store.hold_lease(member, LEASE, take) as held:
            assert 0 < held.left() <= LEASE.ttl - LEASE.margin, "the join itself is worth a beat"
            began = time.monotonic()
            while time.monotonic() < began + 1.5 * LEASE.ttl:
                held.tick()
                assert 0 < held.left() <= LEASE.ttl - LEASE.margin
                await trio.sleep(0.01)
        assert reports[0] == Report(owned=1, wakes=(entity,))
        assert len(reports) >= 3
        assert all(in_loop)
        assert not beating()


async def test_a_standing_loop_does_not_lose_it(clean_redis: RedisServer) -> None:
    async with (
        open_redis_store(clean_redis.url, prefix="lease", unanswered=5.0) as store,
        open_redis_store(clean_redis.url, prefix="lease", unanswered=5.0) as other,
    ):
        member = await store.join(INFO)
        async with store.hold_lease(member, LEASE, lambda _: None) as held:
            await trio.sleep(LEASE.heartbeat)
            time.sleep(1.6 * (LEASE.ttl + LEASE.grace))  # noqa: ASYNC251 - a handler that computes
            assert held.left() > 0
            held.tick()
            newcomer = await other.join(INFO)
            assert await other.reap(newcomer, Silent(member.incarnation, ("account",))) is False


async def test_a_loop_that_stands_longer_than_the_limit_loses_it(clean_redis: RedisServer) -> None:
    async with open_redis_store(clean_redis.url, prefix="lease", unanswered=5.0) as store:
        member = await store.join(INFO)
        async with store.hold_lease(member, short_of_breath(0.3), lambda _: None) as held:
            await trio.sleep(LEASE.heartbeat)
            held.tick()
            time.sleep(0.3 + LEASE.ttl + LEASE.heartbeat)  # noqa: ASYNC251
            assert held.left() <= 0


async def test_the_log_says_where_the_loop_stands(
    clean_redis: RedisServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "STALL_WARNING", 0.2)

    def compute_for_long() -> None:
        time.sleep(0.6)

    async with open_redis_store(clean_redis.url, prefix="lease", unanswered=5.0) as store:
        member = await store.join(INFO)
        async with store.hold_lease(member, LEASE, lambda _: None) as held:
            await trio.sleep(LEASE.heartbeat)
            held.tick()
            compute_for_long()
    stalls = [record for record in caplog.records if getattr(record, "event", "") == "loop_stalled"]
    assert stalls
    assert all(record.levelno == logging.WARNING for record in stalls)
    assert "compute_for_long in" in stalls[0].getMessage()
    assert len(stalls) <= 2, "once, and again when it has doubled"


async def test_a_server_that_stands_still_loses_it_and_the_thread_ends(server: RedisServer) -> None:
    async with open_redis_store(server.url, prefix="lease", unanswered=5.0) as store:
        member = await store.join(INFO)
        reports: list[Report] = []
        try:
            with trio.fail_after(PATIENCE):
                async with store.hold_lease(member, LEASE, reports.append) as held:
                    await until(lambda: reports)
                    server.pause()
                    lost_after = await until_lost(held)
                    assert lost_after <= LEASE.ttl
                    began = time.monotonic()
            assert time.monotonic() - began < 5 * LEASE.heartbeat + 0.5, "leaving waits for one beat at most"
            assert not beating()
        finally:
            server.resume()


async def test_a_server_that_comes_back_in_time_keeps_it(server: RedisServer) -> None:
    async with open_redis_store(server.url, prefix="lease", unanswered=5.0) as store:
        member = await store.join(INFO)
        reports: list[Report] = []
        async with store.hold_lease(member, LEASE, reports.append) as held:
            await until(lambda: reports)
            for _ in range(3):
                server.pause()
                await trio.sleep(3 * LEASE.heartbeat)
                held.tick()
                server.resume()
                seen = len(reports)
                await until(lambda seen=seen: len(reports) > seen)
                assert held.left() > LEASE.ttl - LEASE.margin - 2 * LEASE.heartbeat - 0.2, "by a fresh beat"


async def test_a_refusal_ends_it_at_once_and_for_ever(clean_redis: RedisServer) -> None:
    async with open_redis_store(clean_redis.url, prefix="lease", unanswered=5.0) as store:
        member = await store.join(INFO)
        async with store.hold_lease(member, LEASE, lambda _: None) as held:
            await trio.sleep(LEASE.heartbeat)
            await _leave(store, member.incarnation)
            assert await until_lost(held) <= 3 * LEASE.heartbeat + 0.3
            assert held.left() < 0
            await until(lambda: not beating())
            held.tick()
            assert held.left() < 0


async def _leave(store: RedisStore, incarnation: str) -> None:
    again = await store.join(INFO)
    await store.reap(again, Silent(incarnation, ("account",)), gave_up=True)


async def test_another_server_does_not_renew_it(server: RedisServer) -> None:
    """The thread's client reconnects without a word; the script notices that the run id is another one."""
    async with open_redis_store(server.url, prefix="lease", unanswered=5.0) as store:
        member = await store.join(INFO)
        async with store.hold_lease(member, LEASE, lambda _: None) as held:
            await trio.sleep(LEASE.heartbeat)
            server.kill()
            server.restart()
            assert await until_lost(held) <= LEASE.ttl
            await until(lambda: not beating())


async def test_leaving_by_an_error_ends_the_thread(clean_redis: RedisServer) -> None:
    async with open_redis_store(clean_redis.url, prefix="lease", unanswered=5.0) as store:
        member = await store.join(INFO)
        with pytest.raises(ZeroDivisionError):
            async with store.hold_lease(member, LEASE, lambda _: None):
                _ = 1 / 0
        assert not beating()
        with trio.move_on_after(0.05):
            async with store.hold_lease(member, LEASE, lambda _: None):
                await trio.sleep_forever()
        assert not beating()
