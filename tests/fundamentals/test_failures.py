"""A handler that fails is tried again in its place; what fails for good makes room for the next."""

import pytest
import trio
from trio.testing import MockClock

from trioqueue import (
    CallFailed,
    Command,
    Context,
    EntityPolicy,
    HandlerTimeout,
    Registry,
    Retry,
    command,
    entity_id,
    open_atomic_queues,
)

STEADY = Retry(attempts=4, wait_first=1, factor=2, jitter=False)


@command("account")
class Deposit(Command[int]):
    account_id: str = entity_id()
    amount: int


async def test_a_failed_command_is_tried_again_later_and_the_others_wait(autojump_clock: MockClock) -> None:
    registry = Registry()
    starts: list[tuple[float, int]] = []
    began = trio.current_time()

    @registry.handles(Deposit, retry=STEADY)
    async def deposit(command: Deposit, context: Context) -> int:
        starts.append((round(trio.current_time() - began, 2), command.amount))
        if command.amount == 1 and context.attempt < 4:
            raise OSError("the network")
        return command.amount

    async with open_atomic_queues("memory://", registry=registry) as queues:
        await queues.send_many([Deposit("acc-1", 1), Deposit("acc-1", 2)])
        await queues.wait_settled()
    assert starts == [(0, 1), (1, 1), (3, 1), (7, 1), (7, 2)]


async def test_no_new_command_wakes_a_head_that_waits(autojump_clock: MockClock) -> None:
    registry = Registry()
    starts: list[tuple[float, int]] = []
    began = trio.current_time()

    @registry.handles(Deposit, retry=Retry(wait_first=10, jitter=False))
    async def deposit(command: Deposit, context: Context) -> int:
        starts.append((round(trio.current_time() - began, 2), command.amount))
        if command.amount == 1 and context.attempt < 2:
            raise OSError("the network")
        return command.amount

    async with open_atomic_queues("memory://", registry=registry) as queues:
        await queues.send(Deposit("acc-1", 1))
        await trio.sleep(1)
        assert await queues.call(Deposit("acc-1", 2)) == 2
    assert starts == [(0, 1), (10, 1), (10, 2)]


async def test_a_caller_waits_through_the_retries(autojump_clock: MockClock) -> None:
    registry = Registry()

    @registry.handles(Deposit, retry=STEADY)
    async def deposit(command: Deposit, context: Context) -> int:
        if context.attempt < 3:
            raise OSError("the network")
        return context.attempt

    async with open_atomic_queues("memory://", registry=registry) as queues:
        assert await queues.call(Deposit("acc-1", 1)) == 3


async def test_what_fails_for_good_is_a_dead_letter_and_the_next_goes_on(autojump_clock: MockClock) -> None:
    registry = Registry()
    starts: list[int] = []

    @registry.handles(Deposit, retry=STEADY)
    async def deposit(command: Deposit) -> int:
        starts.append(command.amount)
        if command.amount < 0:
            raise ValueError("negative")
        return command.amount

    async with open_atomic_queues("memory://", registry=registry) as queues:
        await queues.send(Deposit("acc-1", -1))
        assert await queues.call(Deposit("acc-1", 2)) == 2
        statistics = await queues.statistics()
        assert (statistics.dead, statistics.buried, statistics.failed) == (1, 1, 4)
    assert starts == [-1, -1, -1, -1, 2]


async def test_some_errors_need_no_second_attempt(autojump_clock: MockClock) -> None:
    registry = Registry()
    starts: list[int] = []

    @registry.handles(Deposit, retry=Retry(give_up_on=(ValueError,)))
    async def deposit(command: Deposit) -> int:
        starts.append(command.amount)
        raise ValueError("negative")

    async with open_atomic_queues("memory://", registry=registry) as queues:
        with pytest.raises(CallFailed, match="ValueError: negative"):
            await queues.call(Deposit("acc-1", -1))
    assert starts == [-1]


async def test_the_policy_of_the_entity_type_holds_where_the_handler_has_none(
    autojump_clock: MockClock,
) -> None:
    registry = Registry()
    starts: list[int] = []

    @registry.handles(Deposit)
    async def deposit(command: Deposit) -> int:
        starts.append(command.amount)
        raise OSError("the network")

    policy = EntityPolicy(retry=Retry(attempts=2))
    async with open_atomic_queues("memory://", registry=registry, entities={"account": policy}) as queues:
        with pytest.raises(CallFailed):
            await queues.call(Deposit("acc-1", 1))
    assert len(starts) == 2


async def test_a_handler_that_takes_too_long_has_failed(autojump_clock: MockClock) -> None:
    registry = Registry()
    spent: list[float] = []

    @registry.handles(Deposit, timeout=5, retry=Retry(attempts=2))
    async def deposit(command: Deposit) -> int:
        began = trio.current_time()
        try:
            await trio.sleep_forever()
        finally:
            spent.append(round(trio.current_time() - began, 2))
        raise AssertionError

    async with open_atomic_queues("memory://", registry=registry) as queues:
        with pytest.raises(CallFailed, match=HandlerTimeout.__name__):
            await queues.call(Deposit("acc-1", 1))
    assert spent == [5, 5]


async def test_a_handlers_own_cancel_scope_is_its_own_affair(autojump_clock: MockClock) -> None:
    registry = Registry()

    @registry.handles(Deposit, timeout=5)
    async def deposit(command: Deposit) -> int:
        with trio.move_on_after(1) as scope:
            await trio.sleep_forever()
        return int(scope.cancelled_caught)

    async with open_atomic_queues("memory://", registry=registry) as queues:
        assert await queues.call(Deposit("acc-1", 1)) == 1


async def test_a_handlers_error_never_leaves_the_block(autojump_clock: MockClock) -> None:
    registry = Registry()

    @registry.handles(Deposit, retry=Retry(attempts=1))
    async def deposit(command: Deposit) -> int:
        async with trio.open_nursery():
            raise ExceptionGroup("several", [OSError("one"), ValueError("two")])

    async with open_atomic_queues("memory://", registry=registry) as queues:
        await queues.send(Deposit("acc-1", 1))
        await queues.wait_settled()
        assert (await queues.statistics()).dead == 1


async def test_an_error_that_cannot_be_told_is_a_dead_letter_all_the_same(autojump_clock: MockClock) -> None:
    registry = Registry()

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    @registry.handles(Deposit, retry=Retry(attempts=1))
    async def deposit(command: Deposit) -> int:
        raise Mute if command.amount == 1 else ValueError("half a character: \ud800")

    async with open_atomic_queues("memory://", registry=registry) as queues:
        for amount in (1, 2):
            with trio.fail_after(60), pytest.raises(CallFailed):
                await queues.call(Deposit("acc-1", amount))
        assert (await queues.statistics()).dead == 2
