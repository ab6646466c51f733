# pyright: strict
"""A program as users write it; every type checker takes it as it stands."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, assert_type
from uuid import UUID

import attrs

from trioqueue import (
    AtomicQueues,
    Command,
    Query,
    RawCommand,
    Receipt,
    Registry,
    Rejection,
    command,
    entity_id,
    query,
    state,
)
from trioqueue.blocking import Sender, open_sender

registry = Registry()


@state("account")
class Account:
    balance: int = 0
    notes: list[str] = attrs.field(factory=list[str])


@attrs.define
class InsufficientFunds(Rejection):
    balance: int


@command("account")
class Deposit(Command[int]):
    account_id: str = entity_id()
    amount: int


@command("account", rejects=[InsufficientFunds])
class Withdraw(Command[int]):
    account_id: str = entity_id()
    amount: int


@command("account", name="close-account", version=2)
class Close(Command):
    account_id: UUID = entity_id(alias="account", kw_only=True)
    reason: str | None = None


@query("account", entity_id="account_id")
class Notes(Query[list[str]]):
    account_id: int


@command("account")
@attrs.frozen(kw_only=True)
class Rename(Command[str]):
    account_id: str = entity_id()
    name: str


@registry.handles(Deposit)
async def deposit(command: Deposit, account: Account) -> int:
    account.balance += command.amount
    return account.balance


@registry.handles(Withdraw, timeout=5.0)
async def withdraw(command: Withdraw, account: Account) -> int:
    if account.balance < command.amount:
        raise InsufficientFunds(account.balance)
    account.balance -= command.amount
    return account.balance


@registry.handles(Close)
async def close(command: Close) -> None:
    assert_type(command.account_id, UUID)


class Connection:
    pass


class Book:
    async def notes(self, command: Notes, account: Account) -> list[str]:
        return account.notes

    async def other(self, command: RawCommand, connection: Connection) -> None:
        assert_type(command.entity_id, str)


registry.handles(Notes)(Book().notes)


@registry.activation("account")
@asynccontextmanager
async def connected() -> AsyncGenerator[Connection]:
    yield Connection()


@registry.handles(Rename)
async def rename(command: Rename, connection: Connection) -> str:
    return command.name


@registry.on("account", "special-audit", timeout=5.0)
async def audit(command: RawCommand, account: Account) -> dict[str, int]:
    return {"balance": account.balance, "fields": len(command.payload)}


registry.on("account", "*")(Book().other)


@registry.upcast(Close, from_version=1)
def reason_is_new(fields: dict[str, Any]) -> dict[str, Any]:
    return {**fields, "reason": None}


async def use(queues: AtomicQueues) -> None:
    assert_type(await queues.call(Deposit("acc-1", 100)), int)
    assert_type(await queues.call(Withdraw(account_id="acc-1", amount=80)), int)
    assert_type(await queues.call(Notes(7)), list[str])
    assert_type(await queues.call(Rename(account_id="acc-1", name="savings")), str)
    await queues.call(Close(account=UUID(int=7)))
    # A handler stays a function that can be called by itself, in tests for instance.
    account = Account(balance=100)
    assert_type(await deposit(Deposit("acc-1", 1), account), int)
    assert_type(await withdraw(Withdraw("acc-1", 1), account=account), int)
    raw = RawCommand("account", "acc-1", "special-audit", {"account_id": "acc-1"})
    assert_type(await audit(raw, account), dict[str, int])
    print(account == Account(), InsufficientFunds(3).balance)


def use_from_threads() -> None:
    with open_sender("redis://localhost:6379") as sender:
        assert_type(sender, Sender)
        receipt = sender.send(Deposit("acc-1", 100), delay=5)
        assert_type(receipt, Receipt[int])
        assert_type(sender.result(receipt, timeout=5), int)
        assert_type(sender.call(Notes(7), timeout=5), list[str])
        assert_type(sender.send_many([Deposit("acc-1", 1), Notes(7)]), list[Receipt[Any]])
