"""What is particular to the store in memory; what all stores promise is in test_contract."""

import logging

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from trioqueue._names import Entity
from trioqueue.messages.policy import Lease
from trioqueue.stores.contract import Backoff, Claimed, Commit, Group, Outgoing, PodInfo, Reply, Terms
from trioqueue.stores.memory.server import MemoryServer
from trioqueue.stores.memory.store import open_memory_store, trio_now_us
from trioqueue.stores.reports import Report, Silent
from trioqueue.testing import MemoryHarness, audit

A = Entity("account", "a")
INFO = PodInfo("test", frozenset({"account"}), 10, Lease(ttl=3.0, heartbeat=1.0, grace=1.5, stall_limit=10.0))


def group(*commands: bytes, sequence: int = 0) -> Group:
    return Group([Outgoing(A, data) for data in commands], sequence)


async def test_clients_of_one_server_share_it() -> None:
    server = MemoryServer(trio_now_us)
    async with open_memory_store(server) as one, open_memory_store(server) as two:
        assert one.client != two.client
        await one.send(group(b"1"))
        assert (await two.statistics()).ready == 1


async def test_a_private_server_warns_of_what_it_loses(caplog: pytest.LogCaptureFixture) -> None:
    async with open_memory_store() as store:
        await store.send(group(b"1"))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "1 entity still had commands" in record.getMessage()


async def test_a_shared_server_loses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    server = MemoryServer(trio_now_us)
    async with open_memory_store(server) as store:
        await store.send(group(b"1"))
    assert not caplog.records
    assert server.statistics().with_work == 1


async def test_a_client_that_has_left_leaves_nothing() -> None:
    server = MemoryServer(trio_now_us)
    async with open_memory_store(server) as store:
        store.listen(lambda _: None, lambda: None)
        await store.send(group(b"1"))
    assert not server.listeners
    assert not server.producers


async def test_every_operation_is_a_checkpoint() -> None:
    async with open_memory_store(MemoryServer(trio_now_us)) as store:
        member = await store.join(INFO)
        await store.send(group(b"1"))
        claimed = await store.claim(member, A)
        assert isinstance(claimed, Claimed)
        for operation in (
            lambda: store.send(group(b"2")),
            lambda: store.claim(member, A),
            lambda: store.commit(member, Commit(A, 0, 0)),
            lambda: store.release(member, A, 0, "idle"),
            lambda: store.join(INFO),
            lambda: store.retire(member),
            lambda: store.reap(member, Silent("nobody.1", ())),
            lambda: store.assign(member, []),
            lambda: store.owned(member, 0),
            lambda: store.wakes(member, 0),
            lambda: store.cancel(A, "id"),
            lambda: store.cancelled(A),
            lambda: store.state(A),
            lambda: store.result("id"),
            store.statistics,
        ):
            with trio.testing.assert_checkpoints():
                await operation()


def test_a_voided_number_is_spent() -> None:
    server = MemoryServer(lambda: 1)

    def send(number: int) -> bool:
        duplicate, _ = server.send("me", 1, number, [Outgoing(A, b"%d" % number)])
        return duplicate

    for _ in range(2):
        assert server.void("me", 2) is False, "it never came, also when that is asked once more"
    assert send(2) is True, "and will not be taken now"
    assert send(1) is False
    assert server.void("me", 1) is True, "it was taken"
    assert send(4) is False
    assert server.void("me", 3) is False, "a gap"
    assert send(3) is True
    assert [queued.data for queued in server.mailboxes[A].queue] == [b"1", b"4"]


def test_gaps_do_not_grow_without_bound() -> None:
    server = MemoryServer(lambda: 1)
    for number in range(2, 2000, 2):  # every other group is lost for ever, and its sender knows
        server.send("me", number - 1, number, [Outgoing(A, b"x")])
    assert len(server.producers["me"].gaps) <= 1


def test_a_repeated_failure_does_not_wait_for_a_clock_that_was_set_back() -> None:
    now = 30_000_000_000
    server = MemoryServer(lambda: now)
    member = server.join("me", INFO)
    server.send("me", 1, 1, [Outgoing(A, b"x")])
    claimed = server.claim(member, A)
    assert isinstance(claimed, Claimed)
    failed = Commit(A, claimed.epoch, claimed.done, retry_ms=200)
    assert server.commit(member, failed) == Backoff(0.2)
    now -= 20_000_000_000

    # The answer was lost, so it is asked again; as long as the worker sleeps, nothing else wakes it.
    assert server.commit(member, failed) == Backoff(0.0)
    assert isinstance(server.claim(member, A), Claimed)


def test_results_are_forgotten_in_time() -> None:
    now = 1_000_000
    server = MemoryServer(lambda: now)
    member = server.join("me", INFO)
    for n in range(5):
        server.send("me", n + 1, n + 1, [Outgoing(A, b"x")])
        claimed = server.claim(member, A)
        assert isinstance(claimed, Claimed)
        server.commit(
            member, Commit(A, claimed.epoch, claimed.done, 1, replies=[Reply(str(n), "", b"v", 1000)])
        )
        now += 1_000_000
    assert len(server.results) == 1


class TestLease:
    """A heartbeat that is late because the whole process stood still is made up for."""

    async def test_a_standing_loop_costs_nothing_below_the_limit(self, mock_clock: MockClock) -> None:
        async with open_memory_store(MemoryServer(trio_now_us)) as store:
            member = await store.join(INFO)
            reports: list[Report] = []
            async with store.hold_lease(member, INFO.lease, reports.append) as held:
                assert held.left() == pytest.approx(INFO.lease.ttl - INFO.lease.margin)
                mock_clock.jump(8.0)
                assert held.left() > 0
                held.tick()
                mock_clock.jump(INFO.lease.stall_limit + 1)
                assert held.left() <= 0

    async def test_beats_keep_it(self, autojump_clock: MockClock) -> None:
        server = MemoryServer(trio_now_us)
        async with open_memory_store(server) as store:
            member = await store.join(INFO)
            reports: list[Report] = []
            async with store.hold_lease(member, INFO.lease, reports.append) as held:
                for _ in range(200):
                    assert held.left() > 0
                    held.tick()
                    await trio.sleep(0.1)
            assert 19 <= len(reports) <= 22, "one a heartbeat, and one at once"
            assert server.reap(member, member.incarnation, gave_up=True)

    async def test_a_refusal_is_final(self, autojump_clock: MockClock) -> None:
        server = MemoryServer(trio_now_us)
        async with open_memory_store(server) as store:
            member = await store.join(INFO)
            async with store.hold_lease(member, INFO.lease, lambda _: None) as held:
                server.restart()
                await trio.sleep(1.5 * INFO.lease.heartbeat)
                assert held.left() <= 0
                await store.join(INFO)
                await trio.sleep(1.5 * INFO.lease.heartbeat)
                assert held.left() <= 0


async def test_waiting_in_quarantine_can_be_cancelled(autojump_clock: MockClock) -> None:
    harness = MemoryHarness()
    async with harness.open_store() as store:
        await store.join(INFO)
        await harness.new_generation()
        member = await store.join(INFO)
        with trio.move_on_after(5) as scope:
            await store.claim(member, A)
        assert scope.cancelled_caught
    audit(await harness.world())


async def test_what_was_put_off_and_withdrawn_leaves_nothing(autojump_clock: MockClock) -> None:
    """A timer that is set and cancelled again and again must not be remembered until it would have been due."""
    server = MemoryServer(trio_now_us)
    async with open_memory_store(server) as store:
        await store.send(Group([Outgoing(A, b"kept", Terms("kept", delay_us=2_000_000))]))
        for number in range(1000):
            terms = Terms(f"{number}", delay_us=86_400_000_000 - number)
            await store.send(Group([Outgoing(A, b"timer", terms)]))
            assert await store.withdraw(A, terms.command_id, b"timer", b"cancelled", 0) == "dropped"
        assert len(server.later._heap) < 200
        member = await store.join(INFO)
        assert (await store.move(member) or 0) == pytest.approx(2, abs=0.1)
