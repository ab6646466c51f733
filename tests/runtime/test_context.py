"""Running slots, and whose turn a task belongs to."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioqueue import Command, Context, Limits, Registry, Retry, command, entity_id, open_atomic_queues
from trioqueue.runtime.context import Slots, TurnSlot
from trioqueue.runtime.running import turn_of_this_task


@command("job")
class Work(Command[str]):
    name: str = entity_id()
    seconds: float = 0


async def test_slots_are_taken_in_the_order_of_asking(autojump_clock: MockClock) -> None:
    slots = Slots(2)
    taken: list[int] = []

    async def take(n: int) -> None:
        await slots.take()
        taken.append(n)

    async with trio.open_nursery() as nursery:
        for n in range(4):
            nursery.start_soon(take, n)
            await wait_all_tasks_blocked()
        assert taken == [0, 1]
        slots.give_back()
        await wait_all_tasks_blocked()
        assert taken == [0, 1, 2]
        slots.give_back()
    assert taken == [0, 1, 2, 3]
    assert slots.free == 0


async def test_who_is_cancelled_while_waiting_takes_no_slot(autojump_clock: MockClock) -> None:
    slots = Slots(1)
    await slots.take()
    with trio.move_on_after(1):
        await slots.take()
    slots.give_back()
    assert slots.free == 1


async def test_a_turn_lends_its_slot_once(autojump_clock: MockClock) -> None:
    slots = Slots(1)
    slot = TurnSlot(slots)
    await slot.take()
    slot.lend()
    slot.lend()
    assert slots.free == 1
    await slot.take_back()
    await slot.take_back()
    assert slots.free == 0
    slot.end()
    slot.end()
    assert slots.free == 1


async def test_two_waits_of_one_turn_take_one_slot_back(autojump_clock: MockClock) -> None:
    slots = Slots(1)
    slot, other = TurnSlot(slots), TurnSlot(slots)
    await slot.take()
    slot.lend()
    await other.take()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(slot.take_back)
        nursery.start_soon(slot.take_back)
        await wait_all_tasks_blocked()
        other.end()
    assert slots.free == 0
    slot.end()
    assert slots.free == 1


async def test_a_cancelled_turn_takes_its_slot_back_over_the_limit(autojump_clock: MockClock) -> None:
    slots = Slots(1)
    slot, other = TurnSlot(slots), TurnSlot(slots)
    await slot.take()
    slot.lend()
    await other.take()
    with trio.move_on_after(1) as scope:
        await slot.take_back()
    assert scope.cancelled_caught
    assert slots.free == -1
    other.end()
    assert slots.free == 0  # and nobody else may begin
    slot.end()
    assert slots.free == 1


async def test_a_turn_that_has_ended_takes_nothing_back(autojump_clock: MockClock) -> None:
    slots = Slots(1)
    slot = TurnSlot(slots)
    await slot.take()
    slot.lend()
    slot.end()
    await slot.take_back()
    assert slots.free == 1


async def test_slots_are_all_there_again_after_all_kinds_of_ends(autojump_clock: MockClock) -> None:
    registry = Registry()

    @registry.handles(Work, retry=Retry(attempts=2), timeout=20)
    async def work(command: Work, context: Context) -> str:
        if command.name == "calls":
            with trio.move_on_after(2):
                await context.call(Work("slow", 10))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(context.call, Work("a", 1))
                nursery.start_soon(context.call, Work("b", 2))
        elif command.name == "leaves a call behind":
            context.nursery.start_soon(context.call, Work("c", 5))
            await trio.sleep(1)
        elif command.name == "fails":
            raise OSError("the network")
        else:
            await trio.sleep(command.seconds)
        return command.name

    async with open_atomic_queues("memory://", registry=registry, limits=Limits(running=2)) as queues:
        for name in ("calls", "leaves a call behind", "fails", "calls"):
            await queues.send(Work(name))
        with trio.move_on_after(3):
            await queues.call(Work("given up", 50))
        await queues.wait_settled()
        # All there: two handlers run at once, and a third one waits.
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for n in range(4):
                nursery.start_soon(queues.call, Work(f"w{n}", 10))
        assert trio.current_time() - began == pytest.approx(20)


async def test_whose_turn_a_task_belongs_to(autojump_clock: MockClock) -> None:
    registry = Registry()
    seen: dict[str, Context | None] = {}

    async def look(name: str) -> None:
        seen[name] = turn_of_this_task()

    async with trio.open_nursery() as application:

        @registry.handles(Work)
        async def work(command: Work, context: Context) -> str:
            seen["given"] = context
            await look("itself")
            async with trio.open_nursery() as nursery, trio.open_nursery() as inner:
                nursery.start_soon(look, "its nursery")
                inner.start_soon(look, "a nursery in its nursery")
            context.nursery.start_soon(look, "the entity's nursery")
            application.start_soon(look, "the application's nursery")
            await trio.sleep(1)
            return "done"

        async with open_atomic_queues("memory://", registry=registry) as queues:
            await queues.call(Work("w"))
            await look("the caller")
    context = seen.pop("given")
    assert seen == {
        "itself": context,
        "its nursery": context,
        "a nursery in its nursery": context,
        "the entity's nursery": None,
        "the application's nursery": None,
        "the caller": None,
    }


async def test_reprs(autojump_clock: MockClock) -> None:
    registry = Registry()

    @registry.handles(Work)
    async def work(command: Work, context: Context) -> str:
        return repr(context)

    async with open_atomic_queues("memory://", registry=registry) as queues:
        receipt = await queues.send(Work("w"))
        assert str(receipt) == f"job/w {receipt.command_id}"
        assert (await queues.call(Work("w"))).startswith("<Context job/w ")
