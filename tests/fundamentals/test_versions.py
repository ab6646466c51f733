"""Old commands and old states meet new classes."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trioqueue import (
    CallFailed,
    Command,
    Registry,
    command,
    entity_id,
    open_atomic_queues,
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
