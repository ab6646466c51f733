"""What commands leave behind for the garbage collector, which would look through all entities of a pod to find it."""

import gc
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
import trio
from redis_servers import RedisServer

from trioqueue import (
    AtomicQueues,
    Command,
    Context,
    EntityPolicy,
    Registry,
    command,
    entity_id,
    open_atomic_queues,
    state,
)
from trioqueue.runtime.worker import NAP

registry = Registry()

MANY = 50


@command("plain")
class Plain(Command[int]):
    id: str = entity_id()
    number: int = 0


@command("nested")
class Nested(Command[int]):
    id: str = entity_id()
    number: int = 0


@command("grouped")
class Grouped(Command[int]):
    id: str = entity_id()
    number: int = 0


@command("overlapping")
class Overlapping(Command[int]):
    id: str = entity_id()
    number: int = 0


@state("grouped")
class Sum:
    value: int = 0


@registry.handles(Plain)
async def plain(command: Plain) -> int:
    return command.number


@registry.handles(Nested)
async def nested(command: Nested, context: Context) -> int:
    context.send(Plain(context.entity_id, command.number))
    return command.number


@registry.handles(Grouped)
async def grouped(command: Grouped, total: Sum) -> int:
    total.value += command.number
    return total.value


@registry.handles(Overlapping)
async def overlapping(command: Overlapping) -> int:
    await trio.lowlevel.checkpoint()
    return command.number


Kind = Callable[[str, int], Command[int]]


async def send_to_one(queues: AtomicQueues, kind: Kind) -> None:
    for number in range(MANY):
        await queues.send(kind("a", number))


async def send_many_to_one(queues: AtomicQueues, kind: Kind) -> None:
    await queues.send_many([kind("a", number) for number in range(MANY)])


async def call(queues: AtomicQueues, kind: Kind) -> None:
    for number in range(MANY):
        await queues.call(kind("a", number))


async def wake_many(queues: AtomicQueues, kind: Kind) -> None:
    await queues.send_many([kind(f"b{number}", number) for number in range(MANY)])
    await queues.wait_settled()
    await trio.sleep(1.2 * NAP)  # until those that nap doze


@pytest.mark.parametrize("kind", [Plain, Nested, Grouped, Overlapping])
@pytest.mark.parametrize("do", [send_to_one, send_many_to_one, call, wake_many])
async def test_commands_leave_no_cycles(
    clean_redis: RedisServer, kind: Kind, do: Callable[[AtomicQueues, Kind], Awaitable[None]]
) -> None:
    policies = {"grouped": EntityPolicy(commit="group"), "overlapping": EntityPolicy(overlap=4)}
    async with open_atomic_queues(clean_redis.url, registry=registry, entities=policies) as queues:
        await queues.call(kind("a", 1))
        gc.collect()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            await do(queues, kind)
            await queues.wait_settled()
            gc.collect()
            found = Counter(type(one).__name__ for one in gc.garbage)
        finally:
            gc.set_debug(0)
            gc.garbage.clear()

    # A heartbeat, or another test's remains, may have left some.
    assert not [name for name, count in found.items() if count >= MANY], found
