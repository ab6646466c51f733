# pyright: strict
from trioqueue import Command, Registry, command, entity_id

registry = Registry()


@command("account")
class Deposit(Command[int]):
    account_id: str = entity_id()


class Book:
    async def deposit(self, command: Deposit) -> str:
        return "1"


registry.handles(Deposit)(Book().deposit)  # expect-error
