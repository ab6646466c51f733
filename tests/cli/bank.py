"""A bank, for tests of what is sent from a shell: fields of many types, and handlers that answer in many ways."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Any, NewType
from uuid import UUID

import attrs
import trio

from trioqueue import (
    AtomicQueues,
    Command,
    EntityPolicy,
    Query,
    RawCommand,
    Registry,
    Rejection,
    Retry,
    command,
    entity_id,
    open_atomic_queues,
    query,
    state,
)

registry = Registry()

Note = NewType("Note", str)


class Currency(Enum):
    EUR = "eur"
    USD = "usd"


@state("account")
class Account:
    balance: int = 100


@attrs.define
class InsufficientFunds(Rejection):
    balance: int


@attrs.define
class Frozen(Rejection):
    since: date


@command("account", rejects=[InsufficientFunds])
class Withdraw(Command[int]):
    account_id: str = entity_id()
    amount: int
    note: Note = Note("")


@attrs.frozen
class Paper:
    amount: Decimal
    tags: list[str]


@command("account")
class Transfer(Command[Paper]):
    account_id: str = entity_id()
    to: UUID
    amount: Decimal
    on: date
    currency: Currency = Currency.EUR
    tags: list[str] = attrs.field(factory=list)
    memo: str | None = None
    tries: int = attrs.field(default=1, validator=attrs.validators.ge(1))


@query("account")
class Balance(Query[int]):
    account_id: str = entity_id()


@command("account", name="freeze")
class Freeze(Command):
    account_id: str = entity_id()


@command("account")
class Explode(Command):
    account_id: str = entity_id()
    what: str = "paper"


@command("account")
class Linger(Command):
    account_id: str = entity_id()


@command("safe")
class Open(Command[int]):
    number: int = entity_id()


@registry.handles(Withdraw)
async def withdraw(command: Withdraw, account: Account) -> int:
    if account.balance < command.amount:
        raise InsufficientFunds(account.balance)
    account.balance -= command.amount
    return account.balance


@registry.handles(Transfer)
async def transfer(command: Transfer) -> Paper:
    return Paper(command.amount, command.tags)


@registry.handles(Balance)
async def balance(command: Balance, account: Account) -> int:
    return account.balance


@registry.handles(Freeze)
async def freeze(command: Freeze) -> None:
    raise Frozen(date(2026, 11, 30))


@registry.handles(Explode, retry=Retry(attempts=1))
async def explode(command: Explode) -> None:
    raise OSError(f"no {command.what}")


@registry.handles(Linger)
async def linger(command: Linger) -> None:
    await trio.sleep_forever()


@registry.handles(Open)
async def open_safe(command: Open) -> int:
    return command.number


@registry.on("account", "audit")
async def audit(command: RawCommand) -> dict[str, Any]:
    return dict(command.payload)


@asynccontextmanager
async def open_bank(url: str, **options: Any) -> AsyncGenerator[AtomicQueues]:
    kept = {"account": EntityPolicy(keep_results=60)}
    async with open_atomic_queues(url, registry=registry, entities=kept, **options) as queues:
        yield queues
