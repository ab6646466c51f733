"""What a handler does to its entity's state stands with the command, or never was."""

import attrs
import pytest
import trio
from trio.testing import MockClock

from trioqueue import (
    CallFailed,
    Command,
    Context,
    Query,
    Registry,
    Rejection,
    Retry,
    command,
    entity_id,
    open_atomic_queues,
    query,
    state,
)


@state("account")
class Account:
    balance: int = 0
    history: list[str] = attrs.field(factory=list)


@attrs.define
class Refused(Rejection):
    pass


@command("account", rejects=[Refused])
class Deposit(Command[int]):
    account_id: str = entity_id()
    amount: int


@query("account")
class Balance(Query[int]):
    account_id: str = entity_id()


async def test_state_is_committed_with_the_command(autojump_clock: MockClock) -> None:
    registry = Registry()

    @registry.handles(Deposit)
    async def deposit(command: Deposit, account: Account) -> int:
        account.balance += command.amount
        account.history.append(f"+{command.amount}")
        return account.balance

    async with open_atomic_queues("memory://", registry=registry) as queues:
        assert await queues.call(Deposit("acc-1", 100)) == 100
        assert await queues.call(Deposit("acc-1", 20)) == 120
        assert await queues.state(Account, "acc-1") == Account(120, ["+100", "+20"])


async def test_an_entity_that_has_no_state_yet_has_the_defaults(autojump_clock: MockClock) -> None:
    async with open_atomic_queues("memory://") as queues:
        assert await queues.state(Account, "acc-1") == Account(0, [])


async def test_what_a_failed_handler_changed_never_was(autojump_clock: MockClock) -> None:
    registry = Registry()
    seen: list[Account] = []

    @registry.handles(Deposit)
    async def deposit(command: Deposit, account: Account, context: Context) -> int:
        seen.append(Account(account.balance, list(account.history)))
        account.balance += command.amount
        account.history.append("changed in place")
        if context.attempt < 3:
            raise OSError("the network")
        return account.balance

    async with open_atomic_queues("memory://", registry=registry) as queues:
        assert await queues.call(Deposit("acc-1", 100)) == 100
    assert seen == [Account(0, [])] * 3


async def test_what_a_refusing_handler_changed_never_was(autojump_clock: MockClock) -> None:
    registry = Registry()

    @registry.handles(Deposit)
    async def deposit(command: Deposit, account: Account) -> int:
        account.balance += command.amount
        account.history.append("changed in place")
        if command.amount < 0:
            raise Refused
        return account.balance

    async with open_atomic_queues("memory://", registry=registry) as queues:
        await queues.call(Deposit("acc-1", 100))
        with pytest.raises(Refused):
            await queues.call(Deposit("acc-1", -1))
        assert await queues.call(Deposit("acc-1", 1)) == 101
        assert (await queues.state(Account, "acc-1")).history == ["changed in place"] * 2


async def test_state_outlives_the_stay_of_its_entity(autojump_clock: MockClock) -> None:
    registry = Registry()

    @registry.handles(Deposit)
    async def deposit(command: Deposit, account: Account) -> int:
        account.balance += command.amount
        return account.balance

    async with open_atomic_queues("memory://", registry=registry) as queues:
        await queues.call(Deposit("acc-1", 100))
        await trio.sleep(60)
        assert (await queues.statistics()).awake == 0
        assert await queues.call(Deposit("acc-1", 1)) == 101


async def test_entities_have_each_their_own_state(autojump_clock: MockClock) -> None:
    registry = Registry()

    @registry.handles(Deposit)
    async def deposit(command: Deposit, account: Account) -> int:
        account.history.append(command.account_id)
        return len(account.history)

    async with open_atomic_queues("memory://", registry=registry) as queues:
        assert await queues.call(Deposit("acc-1", 0)) == 1
        assert await queues.call(Deposit("acc-2", 0)) == 1


async def test_a_query_reads_in_its_place_in_the_line(autojump_clock: MockClock) -> None:
    registry = Registry()

    @registry.handles(Deposit)
    async def deposit(command: Deposit, account: Account) -> int:
        await trio.sleep(1)
        account.balance += command.amount
        return account.balance

    @registry.handles(Balance)
    async def balance(query: Balance, account: Account) -> int:
        return account.balance

    async with open_atomic_queues("memory://", registry=registry) as queues:
        await queues.send(Deposit("acc-1", 100))
        assert await queues.call(Balance("acc-1")) == 100


async def test_a_query_that_changes_the_state_fails(autojump_clock: MockClock) -> None:
    registry = Registry()

    @registry.handles(Balance)
    async def balance(query: Balance, account: Account) -> int:
        account.balance += 1
        return account.balance

    async with open_atomic_queues("memory://", registry=registry) as queues:
        with pytest.raises(CallFailed, match="handles a query, but changed the state"):
            await queues.call(Balance("acc-1"))
        assert await queues.state(Account, "acc-1") == Account()


async def test_a_query_that_sends_fails(autojump_clock: MockClock) -> None:
    registry = Registry()

    @registry.handles(Balance)
    async def balance(query: Balance, context: Context) -> int:
        context.send(Deposit("acc-2", 1))
        return 0

    async with open_atomic_queues("memory://", registry=registry) as queues:
        with pytest.raises(CallFailed, match="handles a query, but changed the state, sent or cancelled"):
            await queues.call(Balance("acc-1"))
        assert (await queues.statistics()).with_work == 0


async def test_a_failing_query_answers_at_once_and_leaves_no_dead_letter(autojump_clock: MockClock) -> None:
    registry = Registry()

    @registry.handles(Balance)
    async def balance(query: Balance) -> int:
        raise OSError("the database")

    async with open_atomic_queues("memory://", registry=registry) as queues:
        began = trio.current_time()
        with pytest.raises(CallFailed, match="OSError: the database"):
            await queues.call(Balance("acc-1"))
        assert trio.current_time() == began
        statistics = await queues.statistics()
        assert (statistics.failed, statistics.buried, statistics.dead) == (1, 0, 0)


async def test_state_that_cannot_be_kept_is_a_failure_of_its_handler(autojump_clock: MockClock) -> None:
    registry = Registry()

    @registry.handles(Deposit, retry=Retry(attempts=2))
    async def deposit(command: Deposit, account: Account) -> int:
        account.history.append("x" * command.amount)
        return command.amount

    async with open_atomic_queues("memory://", registry=registry) as queues:
        with pytest.raises(CallFailed, match="StateTooLarge"):
            await queues.call(Deposit("acc-1", 1_000_000))
        assert await queues.call(Deposit("acc-1", 1)) == 1
        assert await queues.state(Account, "acc-1") == Account(0, ["x"])
