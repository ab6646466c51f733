"""Sums, for tests of what an entity costs that has nothing to do: a server that counts, and handlers of two kinds."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import trio

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
from trioqueue.stores.memory.store import trio_now_us
from trioqueue.testing import MemoryServer

IDLE = 10.0
POLICIES = {name: EntityPolicy(idle_timeout=IDLE) for name in ("plain", "nested")}


@state("plain")
class Sum:
    total: int = 0


@command("plain")
class Add(Command[int]):
    """Its handler asks for nothing, so nothing is open while its entity rests."""

    sum_id: str = entity_id()
    number: int = 1


@state("nested")
class NestedSum:
    total: int = 0


@command("nested")
class NestedAdd(Command[int]):
    """Its handler may start tasks."""

    sum_id: str = entity_id()
    number: int = 1
    task_seconds: float = 0.0


def registry_of() -> Registry:
    registry = Registry()

    @registry.handles(Add)
    async def add(command: Add, now: Sum) -> int:
        now.total += command.number
        return now.total

    @registry.handles(NestedAdd)
    async def nested_add(command: NestedAdd, now: NestedSum, context: Context) -> int:
        now.total += command.number
        if command.task_seconds:
            context.nursery.start_soon(trio.sleep, command.task_seconds)
        return now.total

    return registry


Adding = Callable[..., Command[int]]


class CountingServer(MemoryServer):
    """Counts what is asked of it."""

    def __init__(self) -> None:
        super().__init__(trio_now_us)
        self.asked: Counter[str] = Counter()

    def send(self, *args: Any, **more: Any) -> Any:
        self.asked["send"] += 1
        return super().send(*args, **more)

    def claim(self, *args: Any, **more: Any) -> Any:
        self.asked["claim"] += 1
        return super().claim(*args, **more)

    def claim_wished(self, member: Any, wish: Any) -> Any:
        self.asked["claim"] -= 1  # it travels with the send
        return super().claim_wished(member, wish)

    def commit(self, *args: Any, **more: Any) -> Any:
        self.asked["commit"] += 1
        return super().commit(*args, **more)

    def requests(self) -> dict[str, int]:
        asked, self.asked = self.asked, Counter()
        return {name: count for name, count in asked.items() if count}


def pod(server: MemoryServer, **options: Any) -> Any:
    return open_atomic_queues(server, **{"registry": registry_of(), "entities": POLICIES, **options})


def incarnation_of(queues: AtomicQueues) -> Any:
    assert queues._supervisor is not None
    assert queues._supervisor.incarnation is not None
    return queues._supervisor.incarnation


def tasks(queues: AtomicQueues) -> set[str]:
    """Names the entities that have a task."""
    return {task.name for task in incarnation_of(queues)._nursery.child_tasks if "/" in task.name}


async def awake(queues: AtomicQueues) -> int:
    return (await queues.statistics()).awake
