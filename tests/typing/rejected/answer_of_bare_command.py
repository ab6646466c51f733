# pyright: strict
from trioqueue import AtomicQueues, Command, command, entity_id


@command("account")
class Close(Command):
    account_id: str = entity_id()


async def use(queues: AtomicQueues) -> int:
    return await queues.call(Close("acc-1"))  # expect-error
