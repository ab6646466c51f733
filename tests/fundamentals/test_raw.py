"""Handlers without a class of commands: by their name, or for whatever comes."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from trioqueue import (
    CallFailed,
    Command,
    Context,
    DecodeError,
    EntityPolicy,
    HandlerTimeout,
    Query,
    RawCommand,
    Registry,
    Rejection,
    Retry,
    UnknownCommand,
    command,
    entity_id,
    open_atomic_queues,
    query,
    state,
)
from trioqueue.stores.memory.server import MemoryServer
from trioqueue.stores.memory.store import trio_now_us


@state("account")
class Account:
    balance: int = 0
    seen: list[str] = attrs.field(factory=list)


@attrs.define
class Frozen(Rejection):
    since: str


@command("account", rejects=[Frozen])
class Deposit(Command[int]):
    account_id: str = entity_id()
    amount: int = 1


@command("account", name="special-audit", version=3)
class Audit(Command[dict[str, int]]):
    account_id: str = entity_id()
    scan: bytes = b""


@query("account")
class Balance(Query[int]):
    account_id: str = entity_id()


@command("log")
class Note(Command):
    log_id: str = entity_id()
    text: str


async def test_the_handler_of_the_very_name_comes_before_the_wildcard(autojump_clock: MockClock) -> None:
    registry = Registry()

    @registry.on("account", "*")
    async def any_other(command: RawCommand) -> int:
        return -1

    @registry.on("account", "special-audit")
    async def audit(command: RawCommand) -> dict[str, int]:
        return {"by name": 1}

    @registry.handles(Deposit)
    async def deposit(command: Deposit) -> int:
        return command.amount

    async with open_atomic_queues("memory://", registry=registry) as queues:
        assert await queues.call(Deposit("acc-1", 7)) == 7
        assert await queues.call(Audit("acc-1")) == {"by name": 1}
        assert await queues.call(Balance("acc-1")) == -1


async def test_it_is_given_what_travelled(autojump_clock: MockClock) -> None:
    registry = Registry()
    given: list[RawCommand] = []

    @registry.on("account", "*")
    async def whatever(command: RawCommand) -> None:
        given.append(command)

    async with open_atomic_queues("memory://", registry=registry) as queues:
        await queues.send(Audit("acc-1", b"\x00\xff"))
        await queues.wait_settled()
    assert given == [
        RawCommand("account", "acc-1", "special-audit", {"account_id": "acc-1", "scan": "AP8="}, version=3)
    ]


async def test_the_other_parameters_are_filled_as_for_any_handler(autojump_clock: MockClock) -> None:
    class Line:
        pass

    class Pool:
        pass

    registry, pool = Registry(), Pool()

    @registry.activation("account")
    @asynccontextmanager
    async def line() -> AsyncGenerator[Line]:
        yield Line()

    @registry.on("account", "*")
    async def whatever(
        command: RawCommand, account: Account, context: Context, line: Line, given: Pool
    ) -> int:
        assert (context.entity, context.entity_id) == (command.entity, command.entity_id)
        assert (type(line), given) == (Line, pool)
        account.seen.append(command.name)
        context.send(Note("audits", command.name))
        return len(account.seen)

    @registry.on("log", "note")
    async def note(command: RawCommand) -> None:
        noted.append(command.payload["text"])

    noted: list[str] = []
    async with open_atomic_queues("memory://", registry=registry, provide={Pool: pool}) as queues:
        await queues.call(Deposit("acc-1"))
        assert await queues.call(Balance("acc-1")) == 2
        await queues.wait_settled()
        assert (await queues.state(Account, "acc-1")).seen == ["deposit", "balance"]
    assert noted == ["deposit", "balance"]


async def test_a_caller_gets_the_reply_as_its_own_class_declares_it(autojump_clock: MockClock) -> None:
    @attrs.frozen
    class Findings:
        pages: int
        scan: bytes

    @command("account", name="special-audit")
    class Ask(Command[Findings]):
        account_id: str = entity_id()

    registry = Registry()

    @registry.on("account", "special-audit")
    async def audit(command: RawCommand) -> Any:
        return {"pages": 3, "scan": "AP8="}

    async with open_atomic_queues("memory://", registry=registry) as queues:
        assert await queues.call(Ask("acc-1")) == Findings(3, b"\x00\xff")
        with pytest.raises(DecodeError):  # the command stands, and only this caller can't read the answer
            await queues.call(Audit("acc-1"))
        assert (await queues.statistics()).dead == 0


async def test_a_reply_that_cannot_travel_is_a_failure(autojump_clock: MockClock) -> None:
    registry = Registry()

    @registry.on("account", "deposit", retry=Retry(attempts=2))
    async def deposit(command: RawCommand) -> object:
        return object()

    async with open_atomic_queues("memory://", registry=registry) as queues:
        with pytest.raises(CallFailed, match="EncodeError"):
            await queues.call(Deposit("acc-1"))


async def test_a_rejection_reaches_the_caller_as_itself(autojump_clock: MockClock) -> None:
    registry = Registry()

    @registry.on("account", "*")
    async def whatever(command: RawCommand, account: Account) -> None:
        account.balance += 1
        raise Frozen("monday")

    async with open_atomic_queues("memory://", registry=registry) as queues:
        with pytest.raises(Frozen) as caught:
            await queues.call(Deposit("acc-1"))
        assert caught.value.since == "monday"
        assert await queues.state(Account, "acc-1") == Account()


async def test_a_failure_is_tried_again_and_nothing_of_it_stands(autojump_clock: MockClock) -> None:
    registry = Registry()
    starts: list[float] = []

    @registry.on("account", "*", retry=Retry(wait_first=1, jitter=False))
    async def whatever(command: RawCommand, account: Account, context: Context) -> int:
        starts.append(trio.current_time() - began)
        account.balance += command.payload["amount"]
        if context.attempt < 3:
            raise OSError("the network")
        return account.balance

    began = trio.current_time()
    async with open_atomic_queues("memory://", registry=registry) as queues:
        assert await queues.call(Deposit("acc-1", 5)) == 5
    assert starts == pytest.approx([0, 1, 3], abs=0.1)


async def test_what_fails_for_good_is_a_dead_letter_and_the_next_goes_on(autojump_clock: MockClock) -> None:
    registry = Registry()

    @registry.on("account", "*")
    async def whatever(command: RawCommand) -> int:
        if command.payload["amount"] < 0:
            raise ValueError("negative")
        return 7

    policy = EntityPolicy(retry=Retry(attempts=2))
    async with open_atomic_queues("memory://", registry=registry, entities={"account": policy}) as queues:
        with pytest.raises(CallFailed, match="ValueError: negative"):
            await queues.call(Deposit("acc-1", -1))
        assert await queues.call(Deposit("acc-1")) == 7
        statistics = await queues.statistics()
        assert (statistics.dead, statistics.failed) == (1, 2)


async def test_one_that_takes_too_long_has_failed(autojump_clock: MockClock) -> None:
    registry = Registry()

    @registry.on("account", "deposit", timeout=5, retry=Retry(attempts=1))
    async def deposit(command: RawCommand) -> None:
        await trio.sleep_forever()

    async with open_atomic_queues("memory://", registry=registry) as queues:
        with pytest.raises(CallFailed, match=HandlerTimeout.__name__):
            await queues.call(Deposit("acc-1"))


async def test_without_a_wildcard_an_unknown_name_waits_as_ever(autojump_clock: MockClock) -> None:
    registry = Registry()

    @registry.on("account", "special-audit")
    async def audit(command: RawCommand) -> dict[str, int]:
        return {}

    policy = EntityPolicy(unknown_grace=60)
    began = trio.current_time()
    async with open_atomic_queues("memory://", registry=registry, entities={"account": policy}) as queues:
        with pytest.raises(UnknownCommand):
            await queues.call(Deposit("acc-1"))
        assert trio.current_time() - began >= 60
        assert await queues.call(Audit("acc-1")) == {}


async def test_a_newer_version_than_a_typed_handler_knows_is_not_for_the_wildcard(
    autojump_clock: MockClock,
) -> None:
    @command("account", name="deposit", version=2)
    class NewDeposit(Command[int]):
        account_id: str = entity_id()

    registry = Registry()

    @registry.handles(Deposit)
    async def deposit(command: Deposit) -> int:
        return command.amount

    @registry.on("account", "*")
    async def whatever(command: RawCommand) -> int:
        return -1

    async with open_atomic_queues("memory://", registry=registry) as queues:
        with trio.move_on_after(60):
            await queues.call(NewDeposit("acc-1"))
            raise AssertionError
        assert (await queues.statistics()).dead == 0


async def test_a_query_is_handled_like_any_command(autojump_clock: MockClock) -> None:
    registry = Registry()
    attempts: list[int] = []

    @registry.on("account", "balance")
    async def balance(command: RawCommand, account: Account, context: Context) -> int:
        attempts.append(context.attempt)
        if context.attempt == 1:
            raise OSError("the network")
        account.balance += 1
        return account.balance

    async with open_atomic_queues("memory://", registry=registry) as queues:
        assert await queues.call(Balance("acc-1")) == 1
        assert (await queues.state(Account, "acc-1")).balance == 1
    assert attempts == [1, 2]


async def test_the_wildcard_leaves_nothing_to_pods_that_know_it_by_name(autojump_clock: MockClock) -> None:
    old, new = Registry(), Registry()

    @old.on("account", "*")
    async def whatever(command: RawCommand) -> int:
        return -1

    @new.handles(Deposit)
    async def deposit(command: Deposit) -> int:
        return command.amount

    server = MemoryServer(trio_now_us)
    async with open_atomic_queues(server) as sender:
        async with open_atomic_queues(server, registry=old):
            assert await sender.call(Deposit("acc-1", 7)) == -1
            async with open_atomic_queues(server, registry=new):
                assert await sender.call(Deposit("acc-1", 7)) == -1  # the entity is awake in the old pod
        async with open_atomic_queues(server, registry=new):
            assert await sender.call(Deposit("acc-1", 7)) == 7
