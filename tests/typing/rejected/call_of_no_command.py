# pyright: strict
from trioqueue import AtomicQueues


async def use(queues: AtomicQueues) -> None:
    await queues.call("deposit")  # expect-error
