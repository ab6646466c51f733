"""An urgent command overtakes what no worker has fetched, and nothing else."""

import trio
from trio.testing import MockClock

from trioqueue import Command, Context, EntityPolicy, Registry, Retry, command, entity_id, open_atomic_queues


@command("lift")
class Go(Command):
    lift_id: str = entity_id()
    floor: int


class Lifts:
    """Goes where it is told, a second a floor, and notes where it was."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.stops: list[int] = []
        self.registry.handles(Go, retry=Retry(wait_first=5, jitter=False))(self.go)

    async def go(self, command: Go, context: Context) -> None:
        await trio.sleep(1)
        if command.floor < 0 and context.attempt == 1:
            raise OSError("stuck")
        self.stops.append(command.floor)


async def test_an_urgent_command_overtakes_those_that_wait(autojump_clock: MockClock) -> None:
    lifts = Lifts()
    policy = EntityPolicy(fetch=1)
    async with open_atomic_queues("memory://", registry=lifts.registry, entities={"lift": policy}) as queues:
        for floor in range(1, 5):
            await queues.send(Go("a", floor))
        await queues.send(Go("a", 98), urgent=True)
        await queues.send(Go("a", 99), urgent=True)
        await queues.wait_settled()
    assert lifts.stops == [1, 98, 99, 2, 3, 4]


async def test_an_urgent_command_waits_for_a_head_that_is_tried_again(autojump_clock: MockClock) -> None:
    lifts = Lifts()
    async with open_atomic_queues("memory://", registry=lifts.registry) as queues:
        await queues.send(Go("a", -1))
        await trio.sleep(2)
        await queues.send(Go("a", 2))
        await queues.send(Go("a", 99), urgent=True)
        await queues.wait_settled()
    assert lifts.stops == [-1, 99, 2]


async def test_an_urgent_call_is_answered_first(autojump_clock: MockClock) -> None:
    lifts = Lifts()
    policy = EntityPolicy(fetch=1)
    async with open_atomic_queues("memory://", registry=lifts.registry, entities={"lift": policy}) as queues:
        await queues.send_many(Go("a", floor) for floor in range(10))
        with trio.fail_after(2.5):
            await queues.call(Go("a", 99), urgent=True)
    assert lifts.stops[:2] == [0, 99]


async def test_an_urgent_child_overtakes(autojump_clock: MockClock) -> None:
    registry = Registry()
    stops: list[int] = []

    @registry.handles(Go)
    async def go(command: Go, context: Context) -> None:
        stops.append(command.floor)
        if command.floor == 1:
            context.send(Go("a", 99), urgent=True)
            context.send(Go("a", 98), urgent=True, delay=100)

    policy = EntityPolicy(fetch=1)
    async with open_atomic_queues("memory://", registry=registry, entities={"lift": policy}) as queues:
        await queues.send_many(Go("a", floor) for floor in range(4))
        await queues.wait_settled()
        await trio.sleep(101)
        await queues.wait_settled()
    assert stops == [0, 1, 99, 2, 3, 98]
