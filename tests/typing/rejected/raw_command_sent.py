# pyright: strict
from trioqueue import AtomicQueues, RawCommand


async def use(queues: AtomicQueues, command: RawCommand) -> None:
    await queues.send(command)  # expect-error
