"""The new release of the bank: it counts cents, and can freeze an account."""

from typing import Any

import attrs
import trio
from rollout.pod import main

from trioqueue import Command, Registry, command, entity_id, state

registry = Registry()


@state("account", version=2)
class Account:
    cents: int = 0
    entries: list[str] = attrs.field(factory=list)
    frozen: bool = False


@command("account", version=2)
class Deposit(Command[int]):
    account_id: str = entity_id()
    cents: int
    entry: str
    seconds: float = 0.0


@command("account")
class Freeze(Command[int]):
    account_id: str = entity_id()
    entry: str


@registry.upcast(Account, from_version=1)
def account_in_cents(fields: dict[str, Any]) -> dict[str, Any]:
    return {"cents": fields["euros"] * 100, "entries": fields["entries"]}


@registry.upcast(Deposit, from_version=1)
def deposit_in_cents(fields: dict[str, Any]) -> dict[str, Any]:
    cents = fields.pop("euros") * 100
    return {**fields, "cents": cents}


@registry.handles(Deposit)
async def deposit(command: Deposit, account: Account) -> int:
    account.cents += command.cents
    account.entries.append(f"{command.entry} by new")
    await trio.sleep(command.seconds)
    return len(account.entries)


@registry.handles(Freeze)
async def freeze(command: Freeze, account: Account) -> int:
    account.frozen = True
    account.entries.append(f"{command.entry} by new")
    return len(account.entries)


if __name__ == "__main__":
    main(registry)
