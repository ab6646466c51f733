# pyright: strict
from trioqueue import Command, command, entity_id


@command("account")
class Deposit(Command[int]):
    account_id: str = entity_id()
    amount: int


Deposit("acc-1", 100).amount = 5  # expect-error
