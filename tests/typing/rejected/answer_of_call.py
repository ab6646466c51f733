# pyright: strict
from trioqueue import AtomicQueues, Command, command, entity_id


@command("account")
class Deposit(Command[int]):
    account_id: str = entity_id()


async def use(queues: AtomicQueues) -> None:
    balance = await queues.call(Deposit("acc-1"))
    print(balance + "1")  # expect-error
