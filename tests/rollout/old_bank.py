"""The old release of a bank: it counts euros, and can't freeze an account."""

import attrs
import trio
from rollout.pod import main

from trioqueue import Command, Registry, command, entity_id, state

registry = Registry()


@state("account")
class Account:
    euros: int = 0
    entries: list[str] = attrs.field(factory=list)


@command("account")
class Deposit(Command[int]):
    """Answers how many entries the account has: what both releases understand."""

    account_id: str = entity_id()
    euros: int
    entry: str
    seconds: float = 0.0


@registry.handles(Deposit)
async def deposit(command: Deposit, account: Account) -> int:
    account.euros += command.euros
    account.entries.append(f"{command.entry} by old")
    await trio.sleep(command.seconds)
    return len(account.entries)


if __name__ == "__main__":
    main(registry)
