"""What an entity has open while it is awake, and how long it stays awake."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from trioqueue import (
    Command,
    Context,
    Entity,
    EntityPolicy,
    Registry,
    Retry,
    command,
    entity_id,
    open_atomic_queues,
)


@command("device")
class Switch(Command[str]):
    device_id: str = entity_id()
    on: bool = True


class Line:
    """An open line to a device."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.open = True


class Exchange:
    """Opens lines, and notes it."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.log: list[str] = []
        self.broken = 0
        self.registry.activation("device")(self.line)
        self.registry.handles(Switch)(self.switch)

    @asynccontextmanager
    async def line(self, entity: Entity) -> AsyncGenerator[Line]:
        await trio.sleep(0.1)
        if self.broken:
            self.broken -= 1
            raise OSError("no line")
        self.log.append(f"open {entity.id}")
        line = Line(entity.id)
        try:
            yield line
        finally:
            await trio.sleep(0.1)  # hanging up takes its time
            line.open = False
            self.log.append(f"closed {entity.id}")

    async def switch(self, command: Switch, line: Line, context: Context) -> str:
        assert line.open
        self.log.append(f"switch {line.device}, attempt {context.attempt}")
        return line.device


async def test_an_activation_is_opened_once_and_left_when_the_entity_is_let_go(
    autojump_clock: MockClock,
) -> None:
    exchange = Exchange()
    async with open_atomic_queues("memory://", registry=exchange.registry) as queues:
        assert await queues.call(Switch("d1")) == "d1"
        await trio.sleep(5)
        assert await queues.call(Switch("d1")) == "d1"
        assert exchange.log == ["open d1", "switch d1, attempt 1", "switch d1, attempt 1"]
        await trio.sleep(20)
        assert exchange.log[3:] == ["closed d1"]


async def test_an_idle_entity_is_let_go_and_wakes_again(autojump_clock: MockClock) -> None:
    exchange = Exchange()
    policy = EntityPolicy(idle_timeout=2)
    async with open_atomic_queues(
        "memory://", registry=exchange.registry, entities={"device": policy}
    ) as queues:
        await queues.call(Switch("d1"))
        assert (await queues.statistics()).awake == 1
        await trio.sleep(3)
        statistics = await queues.statistics()
        assert (statistics.awake, statistics.owned, statistics.passivated) == (0, 0, 1)
        await queues.call(Switch("d1"))
        assert (await queues.statistics()).activated == 2
    assert exchange.log == ["open d1", "switch d1, attempt 1", "closed d1"] * 2


async def test_work_keeps_an_entity_awake(autojump_clock: MockClock) -> None:
    exchange = Exchange()
    policy = EntityPolicy(idle_timeout=2)
    async with open_atomic_queues(
        "memory://", registry=exchange.registry, entities={"device": policy}
    ) as queues:
        for _ in range(10):
            await queues.call(Switch("d1"))
            await trio.sleep(1.5)
        assert exchange.log.count("open d1") == 1


async def test_a_handler_may_take_longer_than_the_idle_timeout(autojump_clock: MockClock) -> None:
    registry = Registry()

    @registry.handles(Switch)
    async def switch(command: Switch) -> str:
        await trio.sleep(100)
        return "slow"

    policy = EntityPolicy(idle_timeout=1)
    async with open_atomic_queues("memory://", registry=registry, entities={"device": policy}) as queues:
        assert await queues.call(Switch("d1")) == "slow"


async def test_the_activation_is_left_before_the_block_is(autojump_clock: MockClock) -> None:
    exchange = Exchange()
    async with open_atomic_queues("memory://", registry=exchange.registry) as queues:
        await queues.call(Switch("d1"))
    assert exchange.log == ["open d1", "switch d1, attempt 1", "closed d1"]


async def test_an_activation_that_cannot_begin_lets_commands_wait_and_spends_no_attempt(
    autojump_clock: MockClock,
) -> None:
    exchange = Exchange()
    exchange.broken = 3
    retry = Retry(wait_first=1, jitter=False, attempts=2)
    async with open_atomic_queues(
        "memory://", registry=exchange.registry, entities={"device": EntityPolicy(retry=retry)}
    ) as queues:
        began = trio.current_time()
        assert await queues.call(Switch("d1")) == "d1"
        assert trio.current_time() - began == pytest.approx(1 + 2 + 4 + 0.4)
    assert exchange.log[:2] == ["open d1", "switch d1, attempt 1"]


async def test_an_activation_may_fail_for_a_very_long_time(autojump_clock: MockClock) -> None:
    exchange = Exchange()
    exchange.broken = 400
    retry = Retry(wait_first=0.1, wait_max=0.1)
    async with open_atomic_queues(
        "memory://", registry=exchange.registry, entities={"device": EntityPolicy(retry=retry)}
    ) as queues:
        assert await queues.call(Switch("d1")) == "d1"


async def test_tasks_of_the_entitys_nursery_live_as_long_as_its_activation(
    autojump_clock: MockClock,
) -> None:
    registry = Registry()
    ticks: list[float] = []

    async def tick() -> None:
        while True:
            await trio.sleep(1)
            ticks.append(trio.current_time())

    @registry.handles(Switch)
    async def switch(command: Switch, context: Context) -> str:
        if command.on:
            context.nursery.start_soon(tick)
        return "ok"

    policy = EntityPolicy(idle_timeout=5.5)
    async with open_atomic_queues("memory://", registry=registry, entities={"device": policy}) as queues:
        await queues.call(Switch("d1"))
        await trio.sleep(3.2)
        await queues.call(Switch("d1", on=False))  # another turn of the same stay
        assert len(ticks) == 3
        await trio.sleep(60)
        assert len(ticks) == 8
        assert (await queues.statistics()).awake == 0


async def test_tasks_of_handlers_end_before_the_activation_is_left(autojump_clock: MockClock) -> None:
    registry = Registry()
    log: list[str] = []

    @registry.activation("device")
    @asynccontextmanager
    async def line(entity: Entity) -> AsyncGenerator[Line]:
        yield Line(entity.id)
        await trio.sleep(1)
        log.append("line closed")

    async def listen(line: Line) -> None:
        try:
            await trio.sleep_forever()
        finally:
            log.append("listener ended")

    @registry.handles(Switch)
    async def switch(command: Switch, line: Line, context: Context) -> str:
        context.nursery.start_soon(listen, line)
        return "ok"

    async with open_atomic_queues("memory://", registry=registry) as queues:
        await queues.call(Switch("d1"))
        await trio.sleep(60)
        assert log == ["listener ended", "line closed"]


async def test_an_activation_may_start_tasks_of_its_own(autojump_clock: MockClock) -> None:
    registry = Registry()
    log: list[str] = []

    @registry.activation("device")
    @asynccontextmanager
    async def line(entity: Entity, nursery: trio.Nursery) -> AsyncGenerator[Line]:
        stop, stopped = trio.Event(), trio.Event()
        nursery.start_soon(listen, stop, stopped)
        yield Line(entity.id)
        stop.set()
        await stopped.wait()

    async def listen(stop: trio.Event, stopped: trio.Event) -> None:
        await stop.wait()
        await trio.sleep(1)  # says goodbye
        log.append("the listener has left")
        stopped.set()

    @registry.handles(Switch)
    async def switch(command: Switch, line: Line) -> str:
        return line.device

    async with open_atomic_queues("memory://", registry=registry) as queues:
        await queues.call(Switch("d1"))
    assert log == ["the listener has left"]


async def test_an_error_of_such_a_task_ends_the_stay_and_the_command_is_tried_again(
    autojump_clock: MockClock,
) -> None:
    registry = Registry()
    log: list[str] = []

    @registry.activation("device")
    @asynccontextmanager
    async def line(entity: Entity, nursery: trio.Nursery) -> AsyncGenerator[Line]:
        log.append("open")
        if len(log) == 1:
            nursery.start_soon(lose_it)
        try:
            yield Line(entity.id)
        finally:
            log.append("closed")

    async def lose_it() -> None:
        await trio.sleep(1)
        raise OSError("the line is dead")

    @registry.handles(Switch)
    async def switch(command: Switch, line: Line, context: Context) -> str:
        log.append(f"attempt {context.attempt}")
        await trio.sleep(3)
        return line.device

    async with open_atomic_queues("memory://", registry=registry) as queues:
        assert await queues.call(Switch("d1")) == "d1"
    assert log == ["open", "attempt 1", "closed", "open", "attempt 1", "closed"]


async def test_what_an_activation_raises_while_it_is_cancelled_does_not_end_the_pod(
    autojump_clock: MockClock,
) -> None:
    registry = Registry()

    @registry.activation("device")
    @asynccontextmanager
    async def line(entity: Entity, nursery: trio.Nursery) -> AsyncGenerator[Line]:
        nursery.start_soon(trio.sleep_forever)
        try:
            yield Line(entity.id)
        finally:
            raise OSError("the line was cut")

    @registry.handles(Switch)
    async def switch(command: Switch, line: Line) -> str:
        await trio.sleep_forever()
        raise AssertionError

    async with open_atomic_queues("memory://", registry=registry) as queues:
        await queues.send(Switch("d1"))
        await trio.sleep(1)
