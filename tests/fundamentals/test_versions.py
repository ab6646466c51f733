"""Old commands and old states meet new classes."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trioqueue import (
    CallFailed,
    Command,
    Context,
    DecodeError,
    EntityPolicy,
    NewerVersion,
    Query,
    Registry,
    Retry,
    command,
    entity_id,
    open_atomic_queues,
    query,
    state,
)
from trioqueue.stores.memory.server import MemoryServer
from trioqueue.stores.memory.store import trio_now_us


@state("account")
class OldAccount:
    euros: int = 0


@state("account", version=2)
class NewAccount:
    cents: int = 0


@command("account", name="deposit")
class OldDeposit(Command[int]):
    account_id: str = entity_id()
    euros: int


@command("account", name="deposit", version=2)
class NewDeposit(Command[int]):
    account_id: str = entity_id()
    cents: int


@query("account")
class Balance(Query[int]):
    account_id: str = entity_id()


def old_registry() -> Registry:
    registry = Registry()

    @registry.handles(OldDeposit)
    async def deposit(command: OldDeposit, account: OldAccount) -> int:
        account.euros += command.euros
        return account.euros

    return registry


def new_registry() -> Registry:
    registry = Registry()

    @registry.upcast(NewDeposit, from_version=1)
    def deposit_in_cents(fields: dict[str, Any]) -> dict[str, Any]:
        return {"account_id": fields["account_id"], "cents": fields["euros"] * 100}

    @registry.upcast(NewAccount, from_version=1)
    def account_in_cents(fields: dict[str, Any]) -> dict[str, Any]:
        return {"cents": fields["euros"] * 100}

    @registry.handles(NewDeposit)
    async def deposit(command: NewDeposit, account: NewAccount) -> int:
        account.cents += command.cents
        return account.cents

    @registry.handles(Balance)
    async def balance(command: Balance, account: NewAccount) -> int:
        return account.cents

    return registry


async def test_old_commands_and_states_are_lifted(autojump_clock: MockClock) -> None:
    server = MemoryServer(trio_now_us)
    async with open_atomic_queues(server, registry=old_registry()) as old:
        assert await old.call(OldDeposit("acc-1", 7)) == 7
    async with open_atomic_queues(server) as sender:
        await sender.send(OldDeposit("acc-1", 1))
    async with open_atomic_queues(server, registry=new_registry()) as new:
        await new.wait_settled()
        assert await new.call(NewDeposit("acc-1", 5)) == 805


async def test_an_old_pod_leaves_new_commands_and_states_to_new_pods(autojump_clock: MockClock) -> None:
    server = MemoryServer(trio_now_us)
    answers: list[int] = []

    async def ask(command: Command[int]) -> None:
        answers.append(await sender.call(command))

    async with (
        open_atomic_queues(server) as sender,
        open_atomic_queues(server, registry=old_registry()),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(ask, NewDeposit("acc-1", 5))
        await trio.sleep(20)
        assert answers == []
        async with open_atomic_queues(server, registry=new_registry()) as new:
            await new.wait_settled()
        assert answers == [5]
        nursery.start_soon(ask, OldDeposit("acc-1", 1))  # old itself, but the state is new by now
        await trio.sleep(20)
        assert answers == [5]
        async with open_atomic_queues(server, registry=new_registry()) as new:
            await new.wait_settled()
        assert answers == [5, 105]


async def test_a_command_that_cannot_be_read_is_a_dead_letter(autojump_clock: MockClock) -> None:
    @command("account", name="deposit", version=2)
    class Careless(Command[int]):
        account_id: str = entity_id()
        cents: str

    async with open_atomic_queues("memory://", registry=new_registry()) as queues:
        with pytest.raises(CallFailed, match="DecodeError"):
            await queues.call(Careless("acc-1", "five"))
        assert (await queues.statistics()).dead == 1
        assert await queues.call(NewDeposit("acc-1", 5)) == 5


async def test_a_query_lifts_a_state_and_leaves_it_as_it_is(autojump_clock: MockClock) -> None:
    server = MemoryServer(trio_now_us)
    async with open_atomic_queues(server, registry=old_registry()) as old:
        await old.call(OldDeposit("acc-1", 7))
        async with open_atomic_queues(server, registry=new_registry()) as new:
            assert await new.call(Balance("acc-1")) == 700
            assert await new.call(Balance("nobody-yet")) == 0
            assert await old.state(OldAccount, "acc-1") == OldAccount(7)
            assert (await new.inspect("account", "nobody-yet")).state_bytes == 0
            assert await new.call(NewDeposit("acc-1", 5)) == 705


async def test_a_state_of_another_version_is_refused_and_not_read_wrongly(autojump_clock: MockClock) -> None:
    server = MemoryServer(trio_now_us)
    async with open_atomic_queues(server) as plain:
        async with open_atomic_queues(server, registry=old_registry()) as old:
            await old.call(OldDeposit("acc-1", 7))
        with pytest.raises(DecodeError, match="register it with"):
            await plain.state(NewAccount, "acc-1")
        async with open_atomic_queues(server, registry=new_registry(), serves=()) as reader:
            assert await reader.state(NewAccount, "acc-1") == NewAccount(700)
            assert (await reader.statistics()).pods == 0
        async with open_atomic_queues(server, registry=new_registry()) as new:
            await new.call(NewDeposit("acc-1", 5))
        with pytest.raises(NewerVersion):
            await plain.state(OldAccount, "acc-1")
        assert await plain.state(NewAccount, "acc-1") == NewAccount(705)


async def test_old_pods_do_not_keep_what_they_decline_among_themselves(autojump_clock: MockClock) -> None:
    """The new one gets it although it has more to do than either of them."""
    server = MemoryServer(trio_now_us)
    awake = {"account": EntityPolicy(idle_timeout=10_000)}
    async with (
        open_atomic_queues(server, registry=old_registry(), entities=awake),
        open_atomic_queues(server, registry=old_registry(), entities=awake),
        open_atomic_queues(server, registry=new_registry(), entities=awake) as new,
        open_atomic_queues(server) as sender,
    ):
        for number in range(5):
            await new.call(NewDeposit(f"other-{number}", 1))
        with trio.fail_after(10):
            assert await sender.call(NewDeposit("acc-1", 5)) == 5


async def test_a_command_that_failed_where_it_is_known_is_no_unknown_one(autojump_clock: MockClock) -> None:
    """An old pod that gets it while it waits out its backoff gives the new ones all the time there is."""
    registry = Registry()

    @registry.handles(NewDeposit, retry=Retry(attempts=2, wait_first=30, jitter=False))
    async def deposit(command: NewDeposit, context: Context) -> int:
        if context.attempt == 1:
            raise OSError("the network")
        return 1

    server = MemoryServer(trio_now_us)
    grace = {"account": EntityPolicy(unknown_grace=30)}
    async with open_atomic_queues(server) as sender:
        async with open_atomic_queues(server, registry=old_registry(), entities=grace):
            await sender.send(NewDeposit("acc-1", 5))
            await trio.sleep(20)
            async with open_atomic_queues(server, registry=registry, entities=grace):
                await trio.sleep(10)
                head = (await sender.inspect("account", "acc-1")).head
                assert head
                assert head.attempts == 1
            await trio.sleep(40)
            async with open_atomic_queues(server, registry=registry, entities=grace) as new:
                await new.wait_settled()
        assert (await sender.statistics()).dead == 0
