# pyright: strict
from trioqueue import Command, Registry, command, entity_id

registry = Registry()


@command("account")
class Deposit(Command[int]):
    account_id: str = entity_id()


@registry.handles(Deposit)  # expect-error
async def deposit() -> int:
    return 1
