"""Opening and leaving, where it goes wrong."""

import asyncio
import logging
import subprocess
import sys

import pytest
import trio
from fleet import Fleet, Note
from trio.testing import MockClock

from trioqueue import (
    BadDeclaration,
    BadUrl,
    Drain,
    DuplicateRegistration,
    Incompatible,
    Lease,
    Registry,
    open_atomic_queues,
)


async def test_a_url_from_the_environment(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIOQUEUE_URL", "memory://")
    async with open_atomic_queues() as queues:
        assert (await queues.statistics()).pods == 0
    monkeypatch.setenv("TRIOQUEUE_URL", "gopher://")
    with pytest.raises(BadUrl):
        async with open_atomic_queues():
            raise AssertionError("never opened")


def test_another_event_loop_is_told_what_to_do() -> None:
    async def opened() -> None:
        async with open_atomic_queues("memory://"):
            raise AssertionError("never opened")

    with pytest.raises(RuntimeError, match=r"begin with trio.run\(main\), or send with trioqueue.blocking"):
        asyncio.run(opened())


async def test_memory_that_nobody_serves_is_warned_of(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_atomic_queues("memory://", registry=Registry()):
        pass

    assert "open with registry=" in caplog.text


def test_memory_needs_no_redis() -> None:
    """redis-py takes as long to import as all else."""
    program = """
import sys
import trio
from trioqueue import open_atomic_queues

async def main():
    async with open_atomic_queues("memory://"):
        print("redis" in sys.modules)

trio.run(main)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"


async def test_each_opening_of_memory_has_a_store_of_its_own(autojump_clock: MockClock) -> None:
    async with open_atomic_queues("memory://") as one, open_atomic_queues("memory://") as two:
        await one.send(Note("1", 1))
        assert (await one.statistics()).with_work == 1
        assert (await two.statistics()).with_work == 0


async def test_a_registry_can_be_opened_again_and_is_frozen(autojump_clock: MockClock) -> None:
    registry = Registry()

    @registry.handles(Note)
    async def note(command: Note) -> int:
        return command.number

    for _ in range(2):
        async with open_atomic_queues("memory://", registry=registry) as queues:
            assert await queues.call(Note("1", 7)) == 7
    with pytest.raises(BadDeclaration, match="comes after the registry was opened"):
        registry.handles(Note)(note)
    assert not isinstance(BadDeclaration(""), DuplicateRegistration)


async def test_a_lease_that_does_not_fit_the_fleets_is_refused(autojump_clock: MockClock) -> None:
    fleet = Fleet()
    async with fleet.pod("first"):
        for lease in (Lease(heartbeat=0.5), Lease(ttl=10)):
            with pytest.raises(Incompatible):
                async with fleet.pod("second", lease=lease):
                    raise AssertionError("never opened")
        assert len(fleet.server.pods) == 1
    assert not fleet.server.pods


async def test_an_opened_pod_serves_at_once(autojump_clock: MockClock) -> None:
    fleet = Fleet()
    async with fleet.pod("first") as first, fleet.pod("second") as second:
        assert await second.call(Note("1", 1)) == 1
        assert await first.call(Note("2", 1)) == 1
        assert trio.current_time() == 0
    assert [turn.pod for turn in fleet.starts] == ["second", "first"]


async def test_an_error_of_the_block_cancels_handlers_without_patience(autojump_clock: MockClock) -> None:
    fleet = Fleet()
    async with fleet.sender() as sender:
        with pytest.raises(KeyError):  # noqa: PT012 - the block is what is tested
            async with fleet.pod("first", drain=Drain(soft=100)) as first:
                await first.send(Note("1", 1, 50))
                await trio.sleep(1)
                raise KeyError
        assert trio.current_time() < 2
        assert fleet.ends == []
        assert (await sender.statistics()).pods == 0  # it said goodbye
        async with fleet.rescued() as rescue:
            await fleet.check_ledger(rescue, "1", [1])


async def test_a_group_of_the_block_comes_out_as_it_is(autojump_clock: MockClock) -> None:
    fleet = Fleet()
    with pytest.RaisesGroup(KeyError):
        async with fleet.pod(), trio.open_nursery():
            raise KeyError


async def test_a_pod_whose_store_is_gone_ends_all_the_same(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    fleet = Fleet()
    async with fleet.pod("first", drain=Drain(soft=2, hard=3)) as first:
        await first.send(Note("1", 1, 50))
        await trio.sleep(0.5)
        fleet.server.unreachable.add(first._store.client)
        left = trio.current_time()
    assert trio.current_time() - left <= 2 + 3 + 5
    assert any(record.levelno >= logging.WARNING for record in caplog.records)
    async with fleet.rescued() as rescue:
        await fleet.check_ledger(rescue, "1", [1])


async def test_what_is_sent_while_a_pod_drains_goes_elsewhere(autojump_clock: MockClock) -> None:
    fleet = Fleet()

    async def send_late() -> None:
        await trio.sleep(2)
        await sender.send_many(Note(str(n), n) for n in range(1, 6))

    async with fleet.sender() as sender, fleet.pod("second") as second, trio.open_nursery() as nursery:
        async with fleet.pod("first") as first:
            await first.send(Note("1", 0, 5))
            nursery.start_soon(send_late)
            await trio.sleep(1)
        await second.wait_settled()
        await fleet.check_ledger(sender, "1", [0, 1])
    assert [turn.pod for turn in fleet.starts] == ["first", *["second"] * 5]
