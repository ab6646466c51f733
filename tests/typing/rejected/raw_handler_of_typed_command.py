# pyright: strict
from trioqueue import Command, Registry, command, entity_id

registry = Registry()


@command("account")
class Deposit(Command[int]):
    account_id: str = entity_id()


@registry.on("account", "deposit")  # expect-error
async def deposit(command: Deposit) -> int:
    return 1
