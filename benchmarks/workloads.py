"""The work that is measured, each on queues that are open."""

import math
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import attrs
import trio

from trioqueue import AtomicQueues, Command, EntityPolicy, Registry, command, entity_id, state

registry = Registry()


@command("item")
class Touch(Command):
    item_id: str = entity_id()
    product: str = "product-0012"
    quantity: int = 3


@command("tally")
class Count(Command):
    tally_id: str = entity_id()
    product: str = "product-0012"
    quantity: int = 3


@command("item")
class Ask(Command[int]):
    item_id: str = entity_id()
    quantity: int = 3


@state("stock")
class Stock:
    left: int = 0


@command("stock")
class Reserve(Command[int]):
    stock_id: str = entity_id()
    quantity: int = 3


@registry.handles(Touch)
async def touch(command: Touch) -> None:
    pass


@registry.handles(Count)
async def count(command: Count) -> None:
    pass


@registry.handles(Ask)
async def ask(command: Ask) -> int:
    return command.quantity


@registry.handles(Reserve)
async def reserve(command: Reserve, stock: Stock) -> int:
    stock.left -= command.quantity
    return stock.left


POLICIES = {
    "item": EntityPolicy(idle_timeout=60.0),
    "stock": EntityPolicy(idle_timeout=60.0),
    "tally": EntityPolicy(idle_timeout=60.0, commit="group"),
}
"""The commands of a tally, which are those of an item else, are committed in groups."""

Plain: TypeAlias = type[Touch] | type[Count]


async def hot(queues: AtomicQueues, cls: Plain = Touch, *, commands: int = 5000, wave: int = 200) -> float:
    """One entity, no-op commands in waves: commands a second."""
    began = time.perf_counter()
    for _ in range(commands // wave):
        await queues.send_many([cls("hot") for _ in range(wave)])
    await queues.wait_settled()
    return commands / (time.perf_counter() - began)


async def seed(
    queues: AtomicQueues, cls: Plain = Touch, *, commands: int = 10_000, wave: int = 200, entities: int = 20
) -> float:
    """Twenty entities, waves over all of them: commands a second."""
    began = time.perf_counter()
    for _ in range(commands // wave):
        await queues.send_many([cls(f"seed-{n % entities}") for n in range(wave)])
    await queues.wait_settled()
    return commands / (time.perf_counter() - began)


async def wide(queues: AtomicQueues, *, entities: int = 10_000, wave: int = 200, name: str = "wide") -> float:
    """One command for each of many entities, all cold: commands a second."""
    began = time.perf_counter()
    for start in range(0, entities, wave):
        await queues.send_many([Touch(f"{name}-{n}") for n in range(start, start + wave)])
    await queues.wait_settled()
    return entities / (time.perf_counter() - began)


async def stocked(queues: AtomicQueues, *, entities: int = 10_000, wave: int = 200, name: str = "s") -> float:
    """As `wide`, with a state that each command changes."""
    began = time.perf_counter()
    for start in range(0, entities, wave):
        await queues.send_many([Reserve(f"{name}-{n}") for n in range(start, start + wave)])
    await queues.wait_settled()
    return entities / (time.perf_counter() - began)


@attrs.frozen
class Latency:
    """Of calls one after another, in microseconds."""

    p50: float
    p99: float


async def _latency(one: Callable[[int], Awaitable[object]], times: int) -> Latency:
    took: list[float] = []
    for n in range(times):
        began = time.perf_counter()
        await one(n)
        took.append((time.perf_counter() - began) * 1e6)
    took.sort()
    return Latency(statistics.median(took), took[math.ceil(len(took) * 0.99) - 1])


async def warm_calls(queues: AtomicQueues, *, times: int = 2000) -> Latency:
    """Calls to one entity that is awake."""
    await queues.call(Ask("warm"))
    return await _latency(lambda _: queues.call(Ask("warm")), times)


async def cold_calls(queues: AtomicQueues, *, times: int = 1000, name: str = "cold") -> Latency:
    """Calls, each to another entity that was never awake."""
    return await _latency(lambda n: queues.call(Ask(f"{name}-{n}")), times)


async def trips(queues: AtomicQueues, *, times: int = 3000) -> Latency:
    """PING over the queues' own connection."""
    transport = queues._store._transport  # type: ignore[attr-defined]
    await trio.lowlevel.checkpoint()
    return await _latency(lambda _: transport.call("PING"), times)
