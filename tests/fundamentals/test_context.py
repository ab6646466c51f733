"""What a handler sees of its turn, and what it is given."""

import time

import pytest
import trio
from trio.testing import MockClock

from trioqueue import (
    BadDeclaration,
    Command,
    Context,
    EntityPolicy,
    Registry,
    Retry,
    command,
    entity_id,
    open_atomic_queues,
    state,
)


@command("account")
class Deposit(Command[int]):
    account_id: int = entity_id()
    amount: int


@state("account")
class Account:
    balance: int = 0


class Database:
    """Something of the application's own."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int]] = []


async def test_a_handler_is_given_what_it_asks_for_by_annotation(autojump_clock: MockClock) -> None:
    registry = Registry()

    @registry.handles(Deposit)
    async def deposit(
        command: Deposit, *, database: Database, account: Account, context: Context, currency: str = "EUR"
    ) -> int:
        account.balance += command.amount
        database.rows.append((int(context.entity_id), command.amount))
        assert currency == "EUR"
        return account.balance

    database = Database()
    async with open_atomic_queues("memory://", registry=registry, provide={Database: database}) as queues:
        assert await queues.call(Deposit(1, 100)) == 100
    assert database.rows == [(1, 100)]


async def test_what_nobody_provides_is_an_error_at_opening(autojump_clock: MockClock) -> None:
    registry = Registry()

    @registry.handles(Deposit)
    async def deposit(command: Deposit, database: Database) -> int:
        return 0

    with pytest.raises(BadDeclaration, match=r"asks for database: Database, which nobody provides"):
        async with open_atomic_queues("memory://", registry=registry):
            raise AssertionError("never opened")


async def test_a_bound_method_can_be_a_handler(autojump_clock: MockClock) -> None:
    class Bank:
        fee = 1

        async def deposit(self, command: Deposit) -> int:
            return command.amount - self.fee

    registry = Registry()
    registry.handles(Deposit)(Bank().deposit)
    async with open_atomic_queues("memory://", registry=registry) as queues:
        assert await queues.call(Deposit(1, 100)) == 99


async def test_the_context_tells_whose_turn_it_is(autojump_clock: MockClock) -> None:
    registry = Registry()
    seen: list[Context] = []

    @registry.handles(Deposit, timeout=8)
    async def deposit(command: Deposit, context: Context) -> int:
        seen.append(context)
        assert context.deadline == trio.current_time() + 8
        return 0

    async with open_atomic_queues("memory://", registry=registry) as queues:
        receipt = await queues.send(Deposit(42, 1))
        await queues.wait_settled()
    (context,) = seen
    assert (context.entity, context.entity_id) == ("account", "42")
    assert context.command_id == receipt.command_id
    assert (receipt.entity_type, receipt.entity_id) == ("account", "42")
    assert context.attempt == 1
    assert context.headers == {}


async def test_the_deadline_is_the_callers_if_that_is_earlier(autojump_clock: MockClock) -> None:
    registry = Registry()
    deadlines: list[float] = []

    @registry.handles(Deposit, timeout=8)
    async def deposit(command: Deposit, context: Context) -> int:
        deadlines.append(round(context.deadline - trio.current_time(), 3))
        return 0

    async with open_atomic_queues("memory://", registry=registry) as queues:
        await queues.call(Deposit(1, 1))
        with trio.fail_after(5):
            await queues.call(Deposit(1, 1))
        with trio.fail_after(50):
            await queues.call(Deposit(1, 1))
    assert deadlines == [8, 5, 8]


async def test_the_command_id_is_the_same_in_all_attempts(autojump_clock: MockClock) -> None:
    registry = Registry()
    seen: list[tuple[str, int, float]] = []

    @registry.handles(Deposit, retry=Retry(attempts=5))
    async def deposit(command: Deposit, context: Context) -> int:
        seen.append((context.command_id, context.attempt, context.sent_at))
        if context.attempt < 4:
            raise OSError("the network")
        return 0

    async with open_atomic_queues("memory://", registry=registry) as queues:
        receipt = await queues.send(Deposit(1, 1))
        sent_at = time.time()  # its clock begins with the time of day
        await queues.wait_settled()
    assert [attempt for _, attempt, _ in seen] == [1, 2, 3, 4]
    assert {command_id for command_id, _, _ in seen} == {receipt.command_id}
    (accepted_at,) = {at for _, _, at in seen}
    assert accepted_at == pytest.approx(sent_at, abs=10)


async def test_the_next_command_begins_with_its_first_attempt(autojump_clock: MockClock) -> None:
    registry = Registry()
    attempts: list[int] = []

    @registry.handles(Deposit, retry=Retry(attempts=2))
    async def deposit(command: Deposit, context: Context) -> int:
        attempts.append(context.attempt)
        if command.amount < 0:
            raise OSError("the network")
        return 0

    async with open_atomic_queues("memory://", registry=registry) as queues:
        await queues.send_many([Deposit(1, -1), Deposit(1, 1), Deposit(1, -1), Deposit(1, 1)])
        await queues.wait_settled()
    assert attempts == [1, 2, 1, 1, 2, 1]


async def test_the_fence_never_falls_and_rises_with_each_stay(autojump_clock: MockClock) -> None:
    registry = Registry()
    fences: list[int] = []

    @registry.handles(Deposit)
    async def deposit(command: Deposit, context: Context) -> int:
        fences.append(context.fence)
        return 0

    policy = EntityPolicy(idle_timeout=1)
    async with open_atomic_queues("memory://", registry=registry, entities={"account": policy}) as queues:
        for _ in range(4):
            await queues.call(Deposit(1, 1))
            await trio.sleep(5)
    assert fences == sorted(set(fences))
