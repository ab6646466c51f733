"""What a handler sends goes out with its commit, or never."""

import pytest
import trio
from trio.testing import MockClock

from trioqueue import (
    Closed,
    Command,
    Context,
    Registry,
    Rejection,
    Retry,
    SendInsideTurn,
    command,
    entity_id,
    open_atomic_queues,
)


class OutOfStock(Rejection):
    pass


@command("order", rejects=[OutOfStock])
class Place(Command[str]):
    order_id: str = entity_id()
    items: list[str]


@command("shelf")
class Reserve(Command):
    item: str = entity_id()
    order_id: str


class Shop:
    """Places orders, and notes what the shelves were told."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.reserved: list[tuple[str, str]] = []
        self.failures = 0
        self.registry.handles(Place, retry=Retry(wait_first=1))(self.place)
        self.registry.handles(Reserve)(self.reserve)

    async def place(self, command: Place, context: Context) -> str:
        for item in command.items:
            context.send(Reserve(item, command.order_id))
        await trio.sleep(1)
        assert not self.reserved
        if "unicorn" in command.items:
            raise OutOfStock
        if self.failures:
            self.failures -= 1
            raise OSError("the network")
        return "placed"

    async def reserve(self, command: Reserve) -> None:
        self.reserved.append((command.item, command.order_id))


async def test_what_a_handler_sends_goes_out_with_its_commit(autojump_clock: MockClock) -> None:
    shop = Shop()
    async with open_atomic_queues("memory://", registry=shop.registry) as queues:
        await queues.call(Place("o1", ["pen", "ink"]))
        await queues.wait_settled()
    assert sorted(shop.reserved) == [("ink", "o1"), ("pen", "o1")]


async def test_what_a_failing_handler_sent_never_goes_out(autojump_clock: MockClock) -> None:
    shop = Shop()
    shop.failures = 2
    async with open_atomic_queues("memory://", registry=shop.registry) as queues:
        await queues.call(Place("o1", ["pen"]))
        await queues.wait_settled()
    assert shop.reserved == [("pen", "o1")]  # once, of three attempts


async def test_what_a_refusing_handler_sent_never_goes_out(autojump_clock: MockClock) -> None:
    shop = Shop()
    async with open_atomic_queues("memory://", registry=shop.registry) as queues:
        with pytest.raises(OutOfStock):
            await queues.call(Place("o1", ["pen", "unicorn"]))
        await queues.wait_settled()
    assert shop.reserved == []


async def test_what_a_cancelled_handler_sent_never_goes_out(autojump_clock: MockClock) -> None:
    shop = Shop()
    async with open_atomic_queues("memory://", registry=shop.registry) as queues:
        with trio.move_on_after(0.5):
            await queues.call(Place("o1", ["pen"]))
        await queues.wait_settled()
    assert shop.reserved == []


async def test_children_keep_their_order(autojump_clock: MockClock) -> None:
    registry = Registry()
    reserved: list[str] = []

    @registry.handles(Place)
    async def place(command: Place, context: Context) -> str:
        for item in command.items:
            context.send(Reserve("shelf", item))
        return "placed"

    @registry.handles(Reserve)
    async def reserve(command: Reserve) -> None:
        reserved.append(command.order_id)

    async with open_atomic_queues("memory://", registry=registry) as queues:
        await queues.call(Place("o1", list("abcdef")))
        await queues.call(Place("o2", list("ghi")))
        await queues.wait_settled()
    assert reserved == list("abcdefghi")


async def test_an_entity_may_send_to_itself(autojump_clock: MockClock) -> None:
    registry = Registry()
    countdown: list[int] = []

    @command("rocket")
    class Count(Command):
        name: str = entity_id()
        left: int

    @registry.handles(Count)
    async def count(command: Count, context: Context) -> None:
        countdown.append(command.left)
        if command.left:
            context.send(Count(command.name, command.left - 1))

    async with open_atomic_queues("memory://", registry=registry) as queues:
        await queues.send(Count("saturn", 3))
        await queues.wait_settled()
    assert countdown == [3, 2, 1, 0]


async def test_a_receipt_of_a_child_names_its_command(autojump_clock: MockClock) -> None:
    registry = Registry()
    promised: list[str] = []
    handled: list[str] = []

    @registry.handles(Place)
    async def place(command: Place, context: Context) -> str:
        promised.extend(context.send(Reserve(item, command.order_id)).command_id for item in command.items)
        return "placed"

    @registry.handles(Reserve)
    async def reserve(command: Reserve, context: Context) -> None:
        handled.append(context.command_id)

    async with open_atomic_queues("memory://", registry=registry) as queues:
        await queues.send_many([Place("o1", ["pen", "ink"]), Place("o1", ["pen"]), Place("o2", ["pen"])])
        await queues.wait_settled()
    assert len(set(handled)) == 4
    assert set(handled) == set(promised)


async def test_sending_past_the_turn_is_refused(autojump_clock: MockClock) -> None:
    registry = Registry()
    refused: list[str] = []

    @registry.handles(Place)
    async def place(command: Place) -> str:
        for send in (queues.send(Reserve("pen", "o1")), queues.send_many([Reserve("pen", "o1")])):
            with pytest.raises(SendInsideTurn, match=r"order/o1.*context\.send") as caught:
                await send
            refused.append(caught.value.entity)
        async with trio.open_nursery() as nursery:  # a nursery in the handler is part of the turn
            nursery.start_soon(self_service)
        return "placed"

    async def self_service() -> None:
        with pytest.raises(SendInsideTurn):
            await queues.send(Reserve("pen", "o1"))
        refused.append("in a task")

    async with open_atomic_queues("memory://", registry=registry) as queues:
        assert await queues.call(Place("o1", [])) == "placed"
        assert (await queues.statistics()).with_work == 0
    assert refused == ["order/o1", "order/o1", "in a task"]


async def test_sending_past_the_turn_can_be_meant(autojump_clock: MockClock) -> None:
    registry = Registry()
    reserved: list[str] = []

    @registry.handles(Place, retry=Retry(attempts=2))
    async def place(command: Place) -> str:
        await queues.send(Reserve("pen", command.order_id), outside_commit=True)
        raise OSError("the network")

    @registry.handles(Reserve)
    async def reserve(command: Reserve) -> None:
        reserved.append(command.order_id)

    async with open_atomic_queues("memory://", registry=registry) as queues:
        await queues.send(Place("o1", []))
        await queues.wait_settled()
    assert reserved == ["o1", "o1"]


async def test_a_task_of_the_entitys_nursery_may_send(autojump_clock: MockClock) -> None:
    registry = Registry()
    reserved: list[str] = []

    @registry.handles(Place)
    async def place(command: Place, context: Context) -> str:
        context.nursery.start_soon(remind, command.order_id)
        return "placed"

    async def remind(order_id: str) -> None:
        await queues.send(Reserve("before the sleep", order_id))
        await trio.sleep(5)
        await queues.send(Reserve("after the sleep", order_id))

    @registry.handles(Reserve)
    async def reserve(command: Reserve) -> None:
        reserved.append(command.item)

    async with open_atomic_queues("memory://", registry=registry) as queues:
        await queues.call(Place("o1", []))
        await trio.sleep(10)
    assert reserved == ["before the sleep", "after the sleep"]


async def test_a_context_is_of_no_use_after_its_turn(autojump_clock: MockClock) -> None:
    registry = Registry()
    kept: list[Context] = []

    @registry.handles(Place)
    async def place(command: Place, context: Context) -> str:
        kept.append(context)
        return "placed"

    async with open_atomic_queues("memory://", registry=registry) as queues:
        await queues.call(Place("o1", []))
        with pytest.raises(Closed):
            kept[0].send(Reserve("pen", "o1"))
        with pytest.raises(Closed):
            await kept[0].call(Reserve("pen", "o1"))
