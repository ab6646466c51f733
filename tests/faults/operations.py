"""What a victim asks for beside its work: an operator's requests, and a caller's that gives up."""

from collections.abc import Awaitable, Callable

import trio
from faults.history import Log
from faults.shelf_pod import Take

from trioqueue import AtomicQueues

SHELF = "operated"
"""The shelf that all of it is about."""


async def call_in_vain(queues: AtomicQueues, log: Log) -> None:
    """Calls, and gives up at once."""
    log.write(what="sending", shelf="own-victim", number=0)
    with trio.move_on_after(0.1):
        await queues.call(Take("own-victim", 0, seconds=0.3))
    log.write(what="gave up")


async def withdraw(queues: AtomicQueues, log: Log) -> None:
    receipt = await queues.send(Take(SHELF, 0), delay=0.5)
    assert await queues.cancel(receipt) == "dropped"


async def pause(queues: AtomicQueues, log: Log) -> None:
    await queues.pause("shelf", SHELF)


async def resume(queues: AtomicQueues, log: Log) -> None:
    await queues.resume("shelf", SHELF)


async def hold(queues: AtomicQueues, log: Log) -> None:
    await queues.pause("shelf")


async def let_go(queues: AtomicQueues, log: Log) -> None:
    await queues.resume("shelf")


async def purge(queues: AtomicQueues, log: Log) -> None:
    await queues.purge("shelf", SHELF)


async def redeliver(queues: AtomicQueues, log: Log) -> None:
    for letter in await queues.dead_letters("shelf"):
        await queues.redeliver(letter)


async def discard(queues: AtomicQueues, log: Log) -> None:
    for letter in await queues.dead_letters("shelf"):
        await queues.discard(letter)


async def tick(queues: AtomicQueues, log: Log) -> None:
    """Moves a schedule on by one tick, as a pod does when it is due."""
    outgoing = queues.encode_anew(Take(SHELF, 0))
    tick = await queues._store.tick("schedule", None, 1000)
    tick = await queues._store.tick("schedule", 1000, 2000, outgoing)
    assert tick.next_ms == 2000


async def progress(queues: AtomicQueues, log: Log) -> None:
    await queues._store.tell_progress("id", "", b"half")


OPERATIONS: dict[str, Callable[[AtomicQueues, Log], Awaitable[None]]] = {
    "call in vain": call_in_vain,
    "withdraw": withdraw,
    "pause": pause,
    "resume": resume,
    "hold": hold,
    "let go": let_go,
    "purge": purge,
    "redeliver": redeliver,
    "discard": discard,
    "tick": tick,
    "progress": progress,
}
"""By the name that a process is told."""
