"""The block: what opening checks, and what leaving it means."""

import logging

import pytest
import trio
from trio.testing import MockClock

from trioqueue import (
    BadUrl,
    Closed,
    Command,
    NotRegistered,
    Registry,
    command,
    entity_id,
    open_atomic_queues,
)


@command("account")
class Deposit(Command[int]):
    account_id: str = entity_id()
    amount: int = 1


def quick_registry() -> Registry:
    registry = Registry()

    @registry.handles(Deposit)
    async def deposit(command: Deposit) -> int:
        return command.amount

    return registry


async def test_after_the_block_everything_is_closed(autojump_clock: MockClock) -> None:
    async with open_atomic_queues("memory://", registry=quick_registry()) as queues:
        await queues.call(Deposit("acc-1"))
    with pytest.raises(Closed):
        await queues.send(Deposit("acc-1"))
    with pytest.raises(Closed):
        await queues.send_many([])
    with pytest.raises(Closed):
        await queues.call(Deposit("acc-1"))
    with pytest.raises(Closed):
        await queues.statistics()
    with pytest.raises(Closed):
        await queues.wait_settled()


async def test_a_caller_that_waits_when_the_block_is_left_is_told(autojump_clock: MockClock) -> None:
    closed: list[Closed] = []

    async def wait_in_vain() -> None:
        with pytest.raises(Closed) as caught:
            await queues.call(Deposit("acc-1"))
        closed.append(caught.value)

    async with trio.open_nursery() as nursery, open_atomic_queues("memory://") as queues:
        nursery.start_soon(wait_in_vain)
        await trio.sleep(1)
    assert len(closed) == 1


async def test_a_block_may_be_left_at_once(autojump_clock: MockClock) -> None:
    began = trio.current_time()
    async with open_atomic_queues("memory://", registry=quick_registry()):
        pass
    assert trio.current_time() == began


async def test_the_error_of_the_block_comes_out_as_itself(autojump_clock: MockClock) -> None:
    with pytest.raises(KeyError, match="mine"):  # noqa: PT012 - the block is what is tested
        async with open_atomic_queues("memory://", registry=quick_registry()) as queues:
            await queues.call(Deposit("acc-1"))
            raise KeyError("mine")


async def test_a_cancelled_block_ends_at_once(autojump_clock: MockClock) -> None:
    began = trio.current_time()
    with trio.move_on_after(5) as scope:
        async with open_atomic_queues("memory://", registry=quick_registry()) as queues:
            await queues.send(Deposit("acc-1"))
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert trio.current_time() - began == 5


async def test_what_is_left_in_memory_is_told(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_atomic_queues("memory://") as queues:
        await queues.send_many([Deposit("acc-1"), Deposit("acc-2")])
    assert "2 entities still had commands" in caplog.text
    assert "wait_settled" in caplog.text


async def test_without_a_url_the_store_is_in_memory_and_says_so(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRIOQUEUE_URL", raising=False)
    async with open_atomic_queues(registry=quick_registry()) as queues:
        assert await queues.call(Deposit("acc-1")) == 1
    assert "nothing outlives this process" in caplog.text


async def test_serving_a_type_without_a_handler_is_refused(autojump_clock: MockClock) -> None:
    with pytest.raises(NotRegistered, match="'acount'"):
        async with open_atomic_queues("memory://", registry=quick_registry(), serves={"acount"}):
            raise AssertionError("never opened")


async def test_a_url_that_makes_no_sense_is_refused(autojump_clock: MockClock) -> None:
    for url in ("memory://somewhere", "http://localhost", "localhost:6379", ""):
        with pytest.raises(BadUrl):
            async with open_atomic_queues(url):
                raise AssertionError("never opened")


async def test_statistics_count_what_happened(autojump_clock: MockClock) -> None:
    async with open_atomic_queues("memory://", registry=quick_registry()) as queues:
        await queues.send_many(Deposit(f"acc-{n}") for n in range(3))
        await queues.call(Deposit("acc-0"))
        await queues.wait_settled()
        statistics = await queues.statistics()
        assert (statistics.pods, statistics.owned, statistics.with_work) == (1, 3, 0)
        assert (statistics.awake, statistics.activated, statistics.handled) == (3, 3, 4)
        assert (statistics.failed, statistics.buried, statistics.dead) == (0, 0, 0)


async def test_nothing_is_logged_above_info_when_nothing_is_wrong(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_atomic_queues("memory://", registry=quick_registry()) as queues:
        for n in range(10):
            await queues.call(Deposit(f"acc-{n}"))
        await trio.sleep(60)
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []
