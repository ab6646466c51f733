"""The bank: what can be asked of an account, and what it does then.  Nothing here knows of HTTP or Redis."""

import attrs

from trioqueue import BadEntityId, Command, Context, Registry, Rejection, command, entity_id, state

registry = Registry()


@state("account")
class Account:
    balance: int = 0  # in cents, never below 0


@attrs.define
class InsufficientFunds(Rejection):
    balance: int


@attrs.define
class NoSuchAccount(Rejection):
    account_id: str


@command("account")
class Deposit(Command):
    account_id: str = entity_id()
    amount: int


@command("account", rejects=[InsufficientFunds])
class Withdraw(Command[int]):
    account_id: str = entity_id()
    amount: int


@command("account", rejects=[InsufficientFunds, NoSuchAccount])
class Transfer(Command[int]):
    payer: str = entity_id()
    payee: str
    amount: int


@registry.handles(Deposit)
async def deposit(command: Deposit, account: Account) -> None:
    account.balance += command.amount


@registry.handles(Withdraw)
async def withdraw(command: Withdraw, account: Account) -> int:
    return take(account, command.amount)


@registry.handles(Transfer)
async def transfer(command: Transfer, account: Account, context: Context) -> int:
    balance = take(account, command.amount)
    try:
        # Goes out with the commit of the new balance, or not at all: there is no moment at which this process could
        # die and leave money on both accounts or on neither.
        context.send(Deposit(command.payee, command.amount))
    except BadEntityId as error:
        raise NoSuchAccount(command.payee) from error  # an answer "no": what was taken is back on the account
    return balance


def take(account: Account, amount: int) -> int:
    """Takes money off an account; between the look and the taking there is nobody else."""
    if account.balance < amount:
        raise InsufficientFunds(account.balance)
    account.balance -= amount
    return account.balance
