"""A bank: accounts whose money is never lost, doubled or overdrawn, whatever happens at the same time.

python examples/banking.py                           # in this process
python examples/banking.py redis://localhost:6379    # on Redis; start it twice to see that accounts stay
"""

import sys

import attrs
import trio

from trioqueue import (
    AtomicQueues,
    Command,
    Context,
    Registry,
    Rejection,
    command,
    entity_id,
    open_atomic_queues,
    state,
)

registry = Registry()

ACCOUNTS = [f"acc-{number}" for number in range(10)]


# What an account remembers.  It is committed together with each command, so there is no database of our own.
@state("account")
class Account:
    balance: int = 0


# An answer "no".  It isn't an error: nothing is retried, nothing is changed, and the caller gets this very class.
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


@command("account", rejects=[InsufficientFunds])
class Transfer(Command[int]):
    from_account: str = entity_id()
    to_account: str
    amount: int


@registry.handles(Deposit)
async def deposit(command: Deposit, account: Account) -> int:
    account.balance += command.amount
    return account.balance


@registry.handles(Withdraw)
async def withdraw(command: Withdraw, account: Account) -> int:
    # Nobody else is here: an account handles one command at a time.  So what is checked in this line ...
    if account.balance < command.amount:
        raise InsufficientFunds(account.balance)
    # ... still holds in this one, without a lock and without a transaction.
    account.balance -= command.amount
    return account.balance


@registry.handles(Transfer)
async def transfer(command: Transfer, account: Account, context: Context) -> int:
    if account.balance < command.amount:
        raise InsufficientFunds(account.balance)
    account.balance -= command.amount
    # The other account is another entity, perhaps in another process.  This deposit is sent with the commit of the new
    # balance or not at all: if this process dies now, either both have happened or neither.
    context.send(Deposit(command.to_account, command.amount))
    return account.balance


async def total(queues: AtomicQueues) -> int:
    """Adds up all accounts; right only when no deposit is on its way."""
    return sum([(await queues.state(Account, account)).balance for account in ACCOUNTS])


async def try_to_move(queues: AtomicQueues, command: Transfer, refused: list[int]) -> None:
    try:
        await queues.call(command)
    except InsufficientFunds:
        refused.append(command.amount)


async def main(url: str) -> None:
    # The prefix keeps these accounts apart from whatever else is on the same Redis.
    async with open_atomic_queues(url, registry=registry, prefix="example-banking") as queues:
        before = await total(queues)
        for account in ACCOUNTS:
            await queues.call(Deposit(account, 100))
        print(f"deposited: {100 * len(ACCOUNTS)}")

        try:
            await queues.call(Withdraw("acc-0", before + 1_000_000))
        except InsufficientFunds as no:
            print(f"a million from acc-0: no, there are only {no.balance}")

        # Everybody pays everybody, all at the same time, in both directions.
        refused: list[int] = []
        async with trio.open_nursery() as nursery:
            for number, payer in enumerate(ACCOUNTS):
                for step, payee in enumerate(ACCOUNTS):
                    if payer != payee:
                        amount = 10 + 7 * ((number * step) % 5)
                        nursery.start_soon(try_to_move, queues, Transfer(payer, payee, amount), refused)
        transfers = len(ACCOUNTS) * (len(ACCOUNTS) - 1)
        print(f"transfers: {transfers}, of which refused: {len(refused)}")

        # The calls have been answered, so the payers have paid; the last deposits may still be in their mailboxes.
        await queues.wait_settled()
        after = await total(queues)
        balances = [(await queues.state(Account, account)).balance for account in ACCOUNTS]
        assert after == before + 100 * len(ACCOUNTS), (before, after)
        assert min(balances) >= 0, balances
        print("not a penny lost or made, and no account overdrawn")


if __name__ == "__main__":
    trio.run(main, sys.argv[1] if len(sys.argv) > 1 else "memory://")
