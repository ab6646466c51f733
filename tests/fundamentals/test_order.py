"""An entity's commands are handled one after another; different entities go side by side."""

import trio
from trio.testing import MockClock

from trioqueue import Command, Context, Limits, Registry, Retry, command, entity_id, open_atomic_queues, state


@state("account")
class Account:
    balance: int = 0


@command("account")
class Deposit(Command[int]):
    account_id: str = entity_id()
    amount: int


@command("account")
class Withdraw(Command[bool]):
    account_id: str = entity_id()
    amount: int


async def test_commands_of_an_entity_are_handled_in_the_order_in_which_they_were_sent(
    autojump_clock: MockClock,
) -> None:
    registry = Registry()
    handled: list[int] = []

    @registry.handles(Deposit)
    async def deposit(command: Deposit) -> int:
        await trio.sleep(10 - command.amount)  # the later ones would be quicker
        handled.append(command.amount)
        return command.amount

    async with open_atomic_queues("memory://", registry=registry) as queues:
        for amount in range(10):
            await queues.send(Deposit("acc-1", amount))
        await queues.wait_settled()
    assert handled == list(range(10))


async def test_send_many_keeps_the_order_of_its_commands(autojump_clock: MockClock) -> None:
    registry = Registry()
    handled: list[tuple[str, int]] = []

    @registry.handles(Deposit)
    async def deposit(command: Deposit) -> int:
        await trio.sleep(1 / (1 + command.amount))
        handled.append((command.account_id, command.amount))
        return command.amount

    async with open_atomic_queues("memory://", registry=registry) as queues:
        receipts = await queues.send_many(Deposit(f"acc-{n % 2}", n) for n in range(200))
        await queues.wait_settled()
    assert [receipt.entity_id for receipt in receipts] == [f"acc-{n % 2}" for n in range(200)]
    for account in (0, 1):
        assert [amount for id_, amount in handled if id_ == f"acc-{account}"] == list(range(account, 200, 2))


async def test_two_withdrawals_never_race(autojump_clock: MockClock) -> None:
    registry = Registry()

    @registry.handles(Deposit)
    async def deposit(command: Deposit, account: Account) -> int:
        account.balance += command.amount
        return account.balance

    @registry.handles(Withdraw)
    async def withdraw(command: Withdraw, account: Account) -> bool:
        enough = account.balance >= command.amount
        await trio.sleep(1)  # anybody could come between, if anybody could
        if enough:
            account.balance -= command.amount
        return enough

    async with open_atomic_queues("memory://", registry=registry) as queues:
        await queues.call(Deposit("acc-1", 100))
        granted: list[bool] = []

        async def try_it() -> None:
            granted.append(await queues.call(Withdraw("acc-1", 80)))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(try_it)
        assert sorted(granted) == [False, False, False, False, True]
        assert (await queues.state(Account, "acc-1")).balance == 20


async def test_different_entities_are_handled_side_by_side(autojump_clock: MockClock) -> None:
    registry = Registry()

    @registry.handles(Deposit)
    async def deposit(command: Deposit) -> int:
        await trio.sleep(1)
        return command.amount

    async with open_atomic_queues("memory://", registry=registry) as queues:
        began = trio.current_time()
        await queues.send_many(Deposit(f"acc-{n}", n) for n in range(50))
        async with trio.open_nursery() as nursery:
            for n in range(50):
                nursery.start_soon(queues.call, Deposit(f"acc-{n}", n))
        assert trio.current_time() - began < 2.5  # two for each, and not one hundred


async def test_a_stuck_entity_holds_up_nobody_else(autojump_clock: MockClock) -> None:
    registry = Registry()

    @registry.handles(Deposit)
    async def deposit(command: Deposit) -> int:
        if command.account_id == "stuck":
            await trio.sleep_forever()
        return command.amount

    async with open_atomic_queues("memory://", registry=registry) as queues:
        receipt = await queues.send(Deposit("stuck", 1))
        assert receipt.entity_id == "stuck"
        assert await queues.call(Deposit("acc-1", 7)) == 7


async def test_entities_with_endless_work_give_their_places_up(autojump_clock: MockClock) -> None:
    """Else those that wait for room in a full pod would wait for ever."""
    registry = Registry()
    handled: list[str] = []

    @registry.handles(Deposit)
    async def deposit(command: Deposit, context: Context) -> int:
        await trio.sleep(0.1)
        handled.append(command.account_id)
        context.send(command)
        return 0

    limits = Limits(owned=2)
    async with open_atomic_queues("memory://", registry=registry, limits=limits) as queues:
        for account in "abcdef":
            await queues.send(Deposit(account, 1))
        await trio.sleep(60)
    counted = [handled.count(account) for account in "abcdef"]
    assert min(counted) > 50, counted


async def test_entities_that_wait_to_be_tried_again_give_their_places_up(autojump_clock: MockClock) -> None:
    registry = Registry()

    @registry.handles(Deposit, retry=Retry(attempts=1000, wait_first=30, jitter=False))
    async def deposit(command: Deposit) -> int:
        if command.amount < 0:
            raise OSError("no")
        return command.amount

    limits = Limits(owned=2)
    async with open_atomic_queues("memory://", registry=registry, limits=limits) as queues:
        for account in "abcdef":
            await queues.send(Deposit(account, -1))
        await trio.sleep(0.5)
        with trio.fail_after(10):
            assert await queues.call(Deposit("g", 1)) == 1
