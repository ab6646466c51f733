"""What a caller gets: the reply, a rejection, or the failure."""

from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from trioqueue import (
    CallFailed,
    Command,
    Registry,
    Rejected,
    Rejection,
    Retry,
    command,
    entity_id,
    open_atomic_queues,
)


@attrs.define
class InsufficientFunds(Rejection):
    balance: int


@attrs.define
class Frozen(Rejection):
    since: str


@attrs.define
class Odd(Rejection):
    anything: Any


@command("account", rejects=[InsufficientFunds])
class Withdraw(Command[int]):
    account_id: str = entity_id()
    amount: int


async def test_a_call_answers_what_the_handler_returned(autojump_clock: MockClock) -> None:
    registry = Registry()

    @registry.handles(Withdraw)
    async def withdraw(command: Withdraw) -> int:
        return 100 - command.amount

    async with open_atomic_queues("memory://", registry=registry) as queues:
        assert await queues.call(Withdraw("acc-1", 80)) == 20


async def test_a_rejection_reaches_the_caller_as_itself(autojump_clock: MockClock) -> None:
    registry = Registry()
    starts: list[Withdraw] = []

    @registry.handles(Withdraw)
    async def withdraw(command: Withdraw) -> int:
        starts.append(command)
        raise InsufficientFunds(20)

    async with open_atomic_queues("memory://", registry=registry) as queues:
        with pytest.raises(InsufficientFunds) as caught:
            await queues.call(Withdraw("acc-1", 80))
        assert caught.value.balance == 20
        assert starts == [Withdraw("acc-1", 80)]  # an answer, so not tried again
        assert (await queues.statistics()).dead == 0


async def test_a_rejection_from_a_nursery_in_the_handler_is_unwrapped(autojump_clock: MockClock) -> None:
    registry = Registry()

    async def check() -> None:
        raise InsufficientFunds(1)

    @registry.handles(Withdraw)
    async def withdraw(command: Withdraw) -> int:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(check)
        return 0

    async with open_atomic_queues("memory://", registry=registry) as queues:
        with pytest.raises(InsufficientFunds):
            await queues.call(Withdraw("acc-1", 80))


async def test_an_undeclared_rejection_arrives_with_its_name_and_fields(autojump_clock: MockClock) -> None:
    registry = Registry()

    @registry.handles(Withdraw)
    async def withdraw(command: Withdraw) -> int:
        raise Frozen("monday")

    async with open_atomic_queues("memory://", registry=registry) as queues:
        with pytest.raises(Rejected) as caught:
            await queues.call(Withdraw("acc-1", 80))
    assert (caught.value.name, caught.value.fields) == ("Frozen", {"since": "monday"})


async def test_a_rejection_that_cannot_travel_is_a_failure(autojump_clock: MockClock) -> None:
    registry = Registry()

    @registry.handles(Withdraw, retry=Retry(attempts=2))
    async def withdraw(command: Withdraw) -> int:
        raise Odd(anything=object())

    async with open_atomic_queues("memory://", registry=registry) as queues:
        with trio.fail_after(60), pytest.raises(CallFailed, match="EncodeError"):
            await queues.call(Withdraw("acc-1", 80))


async def test_a_reply_that_cannot_travel_is_a_failure(autojump_clock: MockClock) -> None:
    registry = Registry()

    @registry.handles(Withdraw, retry=Retry(attempts=2))
    async def withdraw(command: Withdraw) -> int:
        return object()  # type: ignore[return-value]

    async with open_atomic_queues("memory://", registry=registry) as queues:
        with trio.fail_after(60), pytest.raises(CallFailed, match="EncodeError"):
            await queues.call(Withdraw("acc-1", 80))


async def test_a_call_that_fails_for_good_brings_the_remote_traceback(autojump_clock: MockClock) -> None:
    registry = Registry()

    async def ask_the_bank() -> int:
        raise OSError("the bank is closed")

    @registry.handles(Withdraw, retry=Retry(attempts=2))
    async def withdraw(command: Withdraw) -> int:
        return await ask_the_bank()

    async with open_atomic_queues("memory://", registry=registry) as queues:
        with pytest.raises(CallFailed) as caught:
            await queues.call(Withdraw("acc-1", 80))
    assert caught.value.command == "withdraw"
    assert caught.value.entity == "account/acc-1"
    assert caught.value.error == "OSError: the bank is closed"
    assert "in ask_the_bank" in caught.value.traceback


async def test_a_large_answer_arrives_too(autojump_clock: MockClock) -> None:
    registry = Registry()

    @command("book")
    class Read(Command[str]):
        book_id: int = entity_id()

    @registry.handles(Read)
    async def read(command: Read) -> str:
        return "word " * 20_000

    async with open_atomic_queues("memory://", registry=registry) as queues:
        assert len(await queues.call(Read(1))) == 100_000
