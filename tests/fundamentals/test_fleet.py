"""Several pods share their entities; each entity is at one of them."""

import pytest
import trio
from trio.testing import MockClock

from trioqueue import (
    Command,
    Context,
    Drain,
    EntityPolicy,
    Limits,
    Registry,
    UnknownCommand,
    command,
    entity_id,
    open_atomic_queues,
    state,
)
from trioqueue.stores.memory.server import MemoryServer
from trioqueue.stores.memory.store import trio_now_us


@state("account")
class Account:
    balance: int = 0


@command("account")
class Deposit(Command[int]):
    account_id: str = entity_id()
    amount: int = 1


@command("account")
class Close(Command[str]):
    account_id: str = entity_id()


@command("letter")
class Write(Command[str]):
    to: str = entity_id()


class Bank:
    """One pod's handlers; `handled` notes which entities it had."""

    def __init__(self, seconds: float = 0) -> None:
        self.registry = Registry()
        self.handled: list[tuple[str, int]] = []
        self.fences: list[int] = []
        self.seconds = seconds
        self.registry.handles(Deposit)(self.deposit)

    async def deposit(self, command: Deposit, account: Account, context: Context) -> int:
        self.fences.append(context.fence)
        await trio.sleep(self.seconds)
        account.balance += command.amount
        self.handled.append((command.account_id, command.amount))
        return account.balance


async def test_a_process_without_handlers_sends_to_those_that_have_them(autojump_clock: MockClock) -> None:
    server, bank = MemoryServer(trio_now_us), Bank()
    async with (
        open_atomic_queues(server, registry=bank.registry),
        open_atomic_queues(server) as sender,
    ):
        assert await sender.call(Deposit("acc-1", 100)) == 100
        await sender.send(Deposit("acc-1", 20))
        await sender.wait_settled()
        assert (await sender.state(Account, "acc-1")).balance == 120


async def test_commands_wait_for_the_first_pod_that_takes_them(autojump_clock: MockClock) -> None:
    server, bank = MemoryServer(trio_now_us), Bank()
    async with open_atomic_queues(server) as sender:
        await sender.send_many(Deposit("acc-1", amount) for amount in range(5))
        await trio.sleep(100)
        assert (await sender.statistics()).ready == 1
        async with open_atomic_queues(server, registry=bank.registry) as queues:
            await queues.wait_settled()
    assert bank.handled == [("acc-1", amount) for amount in range(5)]


async def test_a_sender_gives_new_entities_to_the_least_loaded_pod(autojump_clock: MockClock) -> None:
    server, one, two = MemoryServer(trio_now_us), Bank(), Bank()
    async with (
        open_atomic_queues(server, registry=one.registry),
        open_atomic_queues(server, registry=two.registry),
        open_atomic_queues(server) as sender,
    ):
        for n in range(40):
            await sender.send(Deposit(f"acc-{n}"))
        await sender.wait_settled()
    assert (len(one.handled), len(two.handled)) == (20, 20)


async def test_an_entity_stays_where_it_is_while_it_is_awake(autojump_clock: MockClock) -> None:
    server, one, two = MemoryServer(trio_now_us), Bank(), Bank()
    async with (
        open_atomic_queues(server, registry=one.registry) as first,
        open_atomic_queues(server, registry=two.registry) as second,
    ):
        await first.call(Deposit("acc-1"))
        for _ in range(10):
            await second.call(Deposit("acc-1"))
            await trio.sleep(5)
    assert (len(one.handled), len(two.handled)) == (11, 0)


async def test_what_a_pod_sends_to_an_entity_that_sleeps_it_handles_itself(autojump_clock: MockClock) -> None:
    server, one, two = MemoryServer(trio_now_us), Bank(), Bank()
    async with (
        open_atomic_queues(server, registry=one.registry) as first,
        open_atomic_queues(server, registry=two.registry) as second,
    ):
        for n in range(5):
            await first.send(Deposit(f"acc-{n}"))
            await second.send(Deposit(f"acc-{n + 5}"))
        await first.wait_settled()
    assert sorted(one.handled) == [(f"acc-{n}", 1) for n in range(5)]
    assert sorted(two.handled) == [(f"acc-{n}", 1) for n in range(5, 10)]


async def test_a_full_pod_leaves_room_to_others(autojump_clock: MockClock) -> None:
    server, one, two = MemoryServer(trio_now_us), Bank(), Bank()
    async with (
        open_atomic_queues(server, registry=one.registry, limits=Limits(owned=3)) as first,
        open_atomic_queues(server, registry=two.registry),
    ):
        for n in range(10):
            await first.call(Deposit(f"acc-{n}"))
    assert (len(one.handled), len(two.handled)) == (3, 7)


async def test_a_full_pod_lets_idle_entities_go_for_those_that_wait(autojump_clock: MockClock) -> None:
    bank = Bank()
    async with open_atomic_queues(
        "memory://",
        registry=bank.registry,
        limits=Limits(owned=3),
        entities={"account": EntityPolicy(idle_timeout=3600)},
    ) as queues:
        for n in range(10):
            with trio.fail_after(5):
                await queues.call(Deposit(f"acc-{n}"))


async def test_a_pod_that_ends_hands_everything_to_another(autojump_clock: MockClock) -> None:
    server, one, two = MemoryServer(trio_now_us), Bank(seconds=1), Bank()
    async with open_atomic_queues(server, registry=two.registry) as second:
        async with open_atomic_queues(server, registry=one.registry) as first:
            await first.send_many(Deposit(f"acc-{n % 5}", n) for n in range(50))
            await trio.sleep(0.5)
        ended = trio.current_time()
        assert (await second.statistics()).pods == 1
        await second.wait_settled()
        assert trio.current_time() - ended < 0.5  # at once, and not when a lease ends
        assert (await second.statistics()).dead == 0
    assert len(one.handled) == 5  # what was under way was let finish
    for n in range(5):
        amounts = [amount for id_, amount in one.handled + two.handled if id_ == f"acc-{n}"]
        assert amounts == list(range(n, 50, 5))
    assert max(one.fences) < min(two.fences)


async def test_a_handler_that_outlasts_the_drain_runs_again_elsewhere(autojump_clock: MockClock) -> None:
    server, one, two = MemoryServer(trio_now_us), Bank(seconds=1000), Bank()
    async with open_atomic_queues(server, registry=two.registry) as second:
        async with open_atomic_queues(server, registry=one.registry, drain=Drain(soft=2, hard=1)) as first:
            await first.send(Deposit("acc-1", 7))
            await trio.sleep(1)
            left = trio.current_time()
        assert trio.current_time() - left == pytest.approx(2)
        await second.wait_settled()
        assert (await second.state(Account, "acc-1")).balance == 7
        assert (await second.statistics()).dead == 0
    assert (one.handled, two.handled) == ([], [("acc-1", 7)])


async def test_a_caller_elsewhere_gets_its_answer_from_the_pod_that_goes_on(
    autojump_clock: MockClock,
) -> None:
    server, one, two = MemoryServer(trio_now_us), Bank(seconds=1000), Bank()
    answers: list[int] = []

    async def ask() -> None:
        answers.append(await sender.call(Deposit("acc-1", 7)))

    async with open_atomic_queues(server) as sender, trio.open_nursery() as nursery:
        async with open_atomic_queues(server, registry=one.registry, drain=Drain(soft=2, hard=1)):
            nursery.start_soon(ask)
            await trio.sleep(1)
        async with open_atomic_queues(server, registry=two.registry) as second:
            await second.wait_settled()
            await trio.sleep(0.1)
            assert answers == [7]


async def test_a_pod_serves_only_the_types_it_is_told_to(autojump_clock: MockClock) -> None:
    registry = Registry()
    handled: list[str] = []

    @registry.handles(Deposit)
    async def deposit(command: Deposit) -> int:
        handled.append("deposit")
        return 0

    @registry.handles(Write)
    async def write(command: Write) -> str:
        handled.append("write")
        return ""

    server = MemoryServer(trio_now_us)
    async with open_atomic_queues(server, registry=registry, serves={"letter"}) as queues:
        await queues.send(Deposit("acc-1"))
        await queues.call(Write("ann"))
        await trio.sleep(10)
        assert handled == ["write"]
        async with open_atomic_queues(server, registry=registry, serves={"account"}) as other:
            await other.wait_settled()
    assert handled == ["write", "deposit"]


async def test_a_command_that_no_pod_knows_yet_waits_for_one_that_does(autojump_clock: MockClock) -> None:
    server, old, new = MemoryServer(trio_now_us), Bank(), Bank()

    @new.registry.handles(Close)
    async def close(command: Close, account: Account) -> str:
        return f"closed with {account.balance}"

    answers: list[str] = []

    async def ask() -> None:
        answers.append(await first.call(Close("acc-1")))

    async with open_atomic_queues(server, registry=old.registry) as first, trio.open_nursery() as nursery:
        await first.call(Deposit("acc-1", 5))
        nursery.start_soon(ask)
        await trio.sleep(1)
        await first.send(Deposit("acc-1", 6))
        await trio.sleep(100)
        assert (answers, old.handled) == ([], [("acc-1", 5)])  # nothing overtakes it
        async with open_atomic_queues(server, registry=new.registry) as second:
            await second.wait_settled()
            assert answers == ["closed with 5"]
            assert (await second.state(Account, "acc-1")).balance == 11


async def test_a_command_that_no_pod_ever_knows_is_given_up_in_the_end(autojump_clock: MockClock) -> None:
    bank = Bank()
    policy = EntityPolicy(unknown_grace=60)
    async with open_atomic_queues(
        "memory://", registry=bank.registry, entities={"account": policy}
    ) as queues:
        began = trio.current_time()
        with pytest.raises(UnknownCommand, match="close"):
            await queues.call(Close("acc-1"))
        assert 60 <= trio.current_time() - began < 65
        assert (await queues.statistics()).dead == 1
        assert await queues.call(Deposit("acc-1", 1)) == 1
