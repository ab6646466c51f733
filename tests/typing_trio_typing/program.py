"""A program of a user who has trio-typing; `nox -s trio_typing` checks it with mypy 1.10.1 and trio-typing's plugin.

The lines with `type: ignore` are mistakes: were they not found, mypy would report the ignore as unused.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import assert_type

import attrs
import trio
from trio_typing import TaskStatus

from trioqueue import Command, Context, Registry, Rejection, command, entity_id, open_atomic_queues, state

registry = Registry()


@state("account")
class Account:
    balance: int = 0


@attrs.define
class InsufficientFunds(Rejection):
    balance: int


@command("account", rejects=[InsufficientFunds])
class Withdraw(Command[int]):
    account_id: str = entity_id()
    amount: int


@command("account")
class Close(Command):
    account_id: str = entity_id()


class Connection:
    pass


@registry.activation("account")
@asynccontextmanager
async def connected() -> AsyncGenerator[Connection, None]:
    yield Connection()


@registry.handles(Withdraw)
async def withdraw(command: Withdraw, account: Account, context: Context) -> int:
    if account.balance < command.amount:
        raise InsufficientFunds(account.balance)
    account.balance -= command.amount
    context.send(Close(command.account_id))
    return account.balance


@registry.handles(Close)
async def close(command: Close, connection: Connection) -> None:
    await trio.lowlevel.checkpoint()


async def serve(task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    async with open_atomic_queues(
        "memory://", registry=registry, provide={Connection: Connection()}
    ) as queues:
        task_status.started()
        await queues.serve()


async def main() -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(serve)
        async with open_atomic_queues("memory://") as queues:
            assert_type(await queues.call(Withdraw("acc-1", 80)), int)
            assert_type(await queues.state(Account, "acc-1"), Account)
            await queues.send(Withdraw("acc-1", amount=80))
            await queues.send(Withdraw("acc-1", amount="80"))  # type: ignore[arg-type]
            await queues.send("withdraw")  # type: ignore[arg-type]


@registry.handles(Withdraw)  # type: ignore[arg-type]
async def wrong_reply(command: Withdraw) -> str:
    return ""


trio.run(main)
