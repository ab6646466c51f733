"""Lamps, for tests of what an operator does: handlers that jam, start and overlap where a test can see it."""

from collections import Counter, defaultdict
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple

import attrs
import pytest
import trio

from trioqueue import (
    AtomicQueues,
    CallFailed,
    Command,
    Context,
    Entity,
    EntityPolicy,
    Registry,
    Retry,
    command,
    entity_id,
    open_atomic_queues,
    state,
)
from trioqueue.testing import MemoryServer

TWICE = Retry(attempts=2, wait_first=20, jitter=False)
KEPT = {"lamp": EntityPolicy(keep_results=600, retry=TWICE)}


@state("lamp")
class Lamp:
    log: list[str] = attrs.field(factory=list)


@command("lamp")
class Switch(Command[int]):
    """Appends to the lamp's log after some seconds, and sends a `Spin` along with its commit."""

    lamp_id: str = entity_id()
    what: str
    seconds: float = 0.0


@state("fan")
class Fan:
    log: list[str] = attrs.field(factory=list)


@command("fan")
class Spin(Command):
    fan_id: str = entity_id()
    what: str


class Start(NamedTuple):
    """A handler of `Switch` that started."""

    what: str
    attempt: int
    pod: str


class Works:
    """The handlers of one test: what is jammed, what has started, and whether two ran for a lamp at once."""

    def __init__(self) -> None:
        self.jammed: set[str] = set()
        self.starts: list[Start] = []
        self.overlaps: list[str] = []
        self.awake: Counter[str] = Counter()
        self.gates: defaultdict[str, trio.Event] = defaultdict(trio.Event)
        self.closed: set[str] = set()  # what waits for its gate
        self._started: defaultdict[str, trio.Event] = defaultdict(trio.Event)
        self._running: Counter[str] = Counter()

    def open(
        self, url: str | MemoryServer = "memory://", pod: str = "pod", **options: Any
    ) -> AbstractAsyncContextManager[AtomicQueues]:
        return open_atomic_queues(
            url, registry=self._registry(pod), name=pod, **{"entities": KEPT, **options}
        )

    def started(self) -> list[str]:
        return [one.what for one in self.starts]

    async def wait_started(self, what: str) -> None:
        await self._started[what].wait()

    def _registry(self, pod: str) -> Registry:
        registry = Registry()

        @registry.activation("lamp")
        @asynccontextmanager
        async def lit(entity: Entity) -> AsyncGenerator[None]:
            self.awake[entity.id] += 1
            try:
                yield
            finally:
                self.awake[entity.id] -= 1

        @registry.handles(Switch)
        async def switch(command: Switch, lamp: Lamp, context: Context) -> int:
            self.starts.append(Start(command.what, context.attempt, pod))
            self._started[command.what].set()
            if self._running[command.lamp_id]:
                self.overlaps.append(command.what)
            self._running[command.lamp_id] += 1
            try:
                await trio.sleep(command.seconds)
                if command.what in self.closed:
                    await self.gates[command.what].wait()
            finally:
                self._running[command.lamp_id] -= 1
            if command.what in self.jammed:
                raise OSError(f"{command.what} is jammed")
            lamp.log.append(command.what)
            context.send(Spin(command.lamp_id, command.what))
            return len(lamp.log)

        @registry.handles(Spin)
        async def spin(command: Spin, fan: Fan) -> None:
            fan.log.append(command.what)

        return registry


async def log_of(queues: AtomicQueues, lamp: str = "a") -> list[str]:
    """Reads what stands of a lamp, which is what its fan was told."""
    log = (await queues.state(Lamp, lamp)).log
    assert (await queues.state(Fan, lamp)).log == log
    return log


async def mode_of(queues: AtomicQueues, lamp: str = "a") -> str:
    return (await queues.inspect("lamp", lamp)).mode


async def die(works: Works, queues: AtomicQueues, *commands: Switch) -> None:
    """Has commands die, one after another, and repairs what they died of."""
    works.jammed = {one.what for one in commands}
    for one in commands:
        with pytest.raises(CallFailed):
            await queues.call(one)
    works.jammed.clear()
