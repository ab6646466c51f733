"""What an operator reads at the front door, on both stores: lanes, pods, what is queued or put off, and states."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import attrs
import pytest
import trio
from lamps import Lamp, Spin, Switch, Works
from redis_servers import RedisServer

from trioqueue import (
    AtomicQueues,
    BadDeclaration,
    BadEntityId,
    Closed,
    Command,
    Context,
    DecodeError,
    Drain,
    Entity,
    EntityPolicy,
    Lane,
    Lease,
    Limits,
    Registry,
    command,
    entity_id,
    open_atomic_queues,
)
from trioqueue._looking import GLANCE
from trioqueue._mailbox import UNDECODABLE
from trioqueue.stores.contract import Group, Outgoing, PodInfo
from trioqueue.stores.memory.server import MemoryServer
from trioqueue.stores.memory.store import clock_since_the_epoch
from trioqueue.stores.redis.keys import Keys

AT_ONCE = Drain(soft=0.0, hard=1.0)
AWAKE = {"lamp": EntityPolicy(idle_timeout=600)}
LONG = pytest.approx(3600, abs=60)
"""An hour, on a machine that may be busy for a minute."""


@pytest.fixture(params=["memory", "redis"])
async def place(request: pytest.FixtureRequest) -> str | MemoryServer:
    """Where mailboxes are."""
    if request.param == "memory":
        return MemoryServer(clock_since_the_epoch())
    server: RedisServer = request.getfixturevalue("clean_redis")
    return server.url


@pytest.fixture
async def queues(place: str | MemoryServer) -> AsyncIterator[AtomicQueues]:
    """Serves nothing."""
    async with open_atomic_queues(place) as opened:
        yield opened


@pytest.fixture
def works() -> Works:
    return Works()


def open_red(
    works: Works, place: str | MemoryServer, **options: Any
) -> AbstractAsyncContextManager[AtomicQueues]:
    return works.open(place, "red", **{"entities": AWAKE, "drain": AT_ONCE, **options})


async def send_garbage(queues: AtomicQueues, entity: Entity) -> None:
    await queues._store.send(Group([Outgoing(entity, b"\xff")]))


# ------------------------------------------------------------------------------------ lanes
async def test_a_long_command_shows_its_name_and_is_not_read_to_its_end(queues: AtomicQueues) -> None:
    await queues.send(Switch("long", "x" * 100_000))
    await queues.send(Switch("short", "x"))
    await queues._store.send(Group([Outgoing(Entity("lamp", "strange"), b"x" * 100_000)]))

    found = await queues.lanes()

    assert found.whole
    assert {lane.entity_id: lane.command for lane in found.lanes} == {
        "long": "switch",
        "short": "switch",
        "strange": UNDECODABLE,
    }
    seen = await queues._store.lanes(10, longest=GLANCE)
    assert max(len(lane.head.data) for lane in seen.lanes if lane.head) == GLANCE


async def test_lanes_show_who_has_work(works: Works, queues: AtomicQueues, place: str | MemoryServer) -> None:
    works.closed = {"slow"}
    async with open_red(works, place, serves={"lamp"}) as red:
        await red.send_many([Switch("a", "slow"), Switch("a", "next")])
        await works.wait_started("slow")
        await queues.send(Spin("a", "on"))
        await queues.pause("lamp", "b")
        await queues.send(Switch("b", "on"))

        found = await queues.lanes()

    assert found.whole
    lanes = {f"{lane.entity_type}/{lane.entity_id}": lane for lane in found.lanes}
    assert all(0 <= lane.waited < 60 for lane in found.lanes)
    assert {name: attrs.evolve(lane, waited=0.0) for name, lane in lanes.items()} == {
        "lamp/a": Lane("lamp", "a", "owned", "red", 2, "switch", 0.0),
        "fan/a": Lane("fan", "a", "ready", None, 1, "spin", 0.0),
        "lamp/b": Lane("lamp", "b", "paused", None, 1, "switch", 0.0),
    }


async def test_lanes_are_bounded(queues: AtomicQueues) -> None:
    """By kind: of each type that waits for a pod, and of those that are paused."""
    assert (await queues.lanes(count=1)).lanes == ()
    await queues.send_many([Switch("a", "1"), Switch("b", "1"), Spin("a", "1")])
    await queues.pause("fan", "b")
    await queues.send(Spin("b", "1"))

    bounded, whole = await queues.lanes(count=1), await queues.lanes(count=2)

    assert (len(bounded.lanes), bounded.whole) == (3, False)
    assert (len(whole.lanes), whole.whole) == (4, True)


async def test_a_lane_whose_head_can_not_be_read_is_a_lane(queues: AtomicQueues) -> None:
    await send_garbage(queues, Entity("lamp", "a"))

    (lane,) = (await queues.lanes()).lanes

    assert (lane.entity_id, lane.pending, lane.command) == ("a", 1, "(undecodable)")


# ------------------------------------------------------------------------------------ pods
async def test_pods_are_seen_from_their_join_to_their_end(
    works: Works, queues: AtomicQueues, place: str | MemoryServer
) -> None:
    works.closed = {"slow"}
    assert await queues.pods() == ()
    async with open_red(works, place, limits=Limits(owned=7)) as red:
        async with works.open(place, "blue", serves={"fan"}):
            await red.call(Switch("idle", "on"))
            await red.send(Switch("a", "slow"))
            await works.wait_started("slow")

            first, second = await queues.pods()

        assert [one.name for one in await queues.pods()] == ["red"]
    assert await queues.pods() == ()
    assert (first.name, first.state, first.types, first.room) == ("red", "serving", ("fan", "lamp"), 7)
    assert (first.owned - first.with_work, first.with_work) in ((1, 1), (2, 1))  # the fan of the first lamp
    assert first.heard is not None
    assert 0 <= first.heard < 60
    assert (second.name, second.types, second.room) == ("blue", ("fan",), 20_000)
    assert first.incarnation != second.incarnation


async def test_a_pod_that_drains_is_leaving(queues: AtomicQueues) -> None:
    info = PodInfo("red", frozenset({"lamp"}), 7, Lease(ttl=60, heartbeat=10, grace=15))
    await queues._store.retire(await queues._store.join(info))

    (seen,) = await queues.pods()

    assert (seen.name, seen.state, seen.room) == ("red", "leaving", 0)


# ------------------------------------------------------------------------------------ what is queued
async def test_commands_are_read_in_their_order(queues: AtomicQueues) -> None:
    await queues.send(Switch("a", "1"), headers={"trace": "t"}, expires=60)
    await queues.send(Switch("a", "2"), key="k")
    urgent = await queues.send(Switch("a", "3", 0.5), urgent=True)
    await queues.send(Switch("b", "of another"))

    seen = await queues.queued("lamp", "a")

    assert [one.fields["what"] for one in seen] == ["3", "1", "2"]
    first, second, third = seen
    assert (first.command, first.command_id, first.version) == ("switch", urgent.command_id, 1)
    assert first.fields == {"lamp_id": "a", "what": "3", "seconds": 0.5}
    assert (first.urgent, second.urgent) == (True, False)
    assert (second.headers, third.headers) == ({"trace": "t"}, {})
    assert (second.deadline, third.deadline) == (60.0, None)
    assert (first.chain, first.due_at, first.answered) == ((), None, False)
    assert second.accepted_at <= third.accepted_at
    at = (await queues.inspect("lamp", "a")).at
    assert all(0 <= at - one.accepted_at < 60 for one in seen)
    assert "what" not in repr(first), "what travels is not for logs"


async def test_a_part_of_them_is_read(queues: AtomicQueues) -> None:
    await queues.send_many([Switch("a", f"{number}") for number in range(120)])

    async def read(**part: int) -> list[str]:
        return [one.fields["what"] for one in await queues.queued("lamp", "a", **part)]

    assert await read() == [f"{number}" for number in range(100)]
    assert await read(offset=118) == ["118", "119"]
    assert await read(offset=2, count=2) == ["2", "3"]
    assert await read(offset=120) == []
    assert await queues.queued("lamp", "nobody") == ()


async def test_who_waits_for_a_command_is_told(place: str | MemoryServer, queues: AtomicQueues) -> None:
    """And who waits for that one, as far as the first caller; an explanation leads to the end of it."""

    @command("lamp")
    class Cool(Command):
        lamp_id: str = entity_id()

    registry, called = Registry(), trio.Event()

    @command("rotor")
    class Turn(Command):
        rotor_id: str = entity_id()

    @registry.handles(Cool)
    async def cool(command: Cool, context: Context) -> None:
        await context.call(Spin("f", "on"))

    @registry.handles(Spin)
    async def spin(command: Spin, context: Context) -> None:
        await context.call(Turn("r"))

    @registry.handles(Turn)
    async def turn(command: Turn) -> None:
        called.set()
        await trio.sleep_forever()

    async with open_atomic_queues(place, registry=registry, name="red", drain=AT_ONCE) as red:
        await red.send(Cool("a"))
        await called.wait()
        (last,) = await queues.queued("rotor", "r")
        said = [await queues.explain(*entity) for entity in (("lamp", "a"), ("fan", "f"), ("rotor", "r"))]

    assert (last.chain, last.answered) == (("lamp/a", "fan/f"), True)
    assert f"waits for fan/f, whose handler waits for rotor/r to answer turn {last.command_id}, " in said[0]
    assert f"Its handler waits for rotor/r to answer turn {last.command_id}, " in said[1]
    assert said[0].endswith(
        f"As to rotor/r: red is handling turn {last.command_id} of rotor/r, accepted less than a second ago: "
        "it is done when its handler ends, and nothing waits behind it."
    )
    assert "Its handler waits" not in said[2]


async def test_a_callee_is_found_behind_others(place: str | MemoryServer, queues: AtomicQueues) -> None:
    @command("lamp")
    class Cool(Command):
        lamp_id: str = entity_id()

    registry = Registry()

    @registry.handles(Cool)
    async def cool(command: Cool, context: Context) -> None:
        await context.call(Spin("f", "on"))

    await queues.pause("fan", "f", why="a new belt")
    await queues.send_many([Spin("f", "1"), Spin("f", "2")])
    async with open_atomic_queues(place, registry=registry, name="red", drain=AT_ONCE) as red:
        await red.send(Cool("a"))
        with trio.fail_after(60):
            while len(await queues.queued("fan", "f")) < 3:  # noqa: ASYNC110
                await trio.sleep(0.01)
        said = await queues.explain("lamp", "a")

    assert " behind 2 other commands, and gives up in " in said
    assert " As to fan/f: fan/f has been paused for " in said


# ------------------------------------------------------------------------------------ what is put off
async def test_what_is_put_off_is_read_in_the_order_it_comes(queues: AtomicQueues) -> None:
    last = await queues.send(Switch("a", "last"), delay=7200, urgent=True)
    first = await queues.send(Switch("a", "first"), delay=3600)
    await queues.send(Switch("b", "of another"), delay=60)
    await queues.send(Switch("a", "here"))

    seen = await queues.put_off("lamp", "a")

    assert [one.command_id for one in seen] == [first.command_id, last.command_id]
    assert [one.fields["what"] for one in seen] == ["first", "last"]
    assert [one.urgent for one in seen] == [False, True]
    assert seen[0].due_at is not None
    assert seen[0].due_at - seen[0].accepted_at == LONG
    assert await queues.put_off("lamp", "nobody") == ()
    assert [one.fields["what"] for one in await queues.queued("lamp", "a")] == ["here"]


async def test_what_is_overdue_is_said_to_be(queues: AtomicQueues) -> None:
    """No pod serves, so that nobody brings it in."""
    await queues.send(Switch("a", "late"), delay=0.001)
    with trio.fail_after(60):
        while "overdue" not in (said := await queues.explain("lamp", "a")):  # noqa: ASYNC110
            await trio.sleep(0.1)
    assert said.endswith(" s and comes once a pod serves: none does.")


# ------------------------------------------------------------------------------------ states
async def test_a_state_is_read_without_its_class(
    works: Works, queues: AtomicQueues, place: str | MemoryServer
) -> None:
    assert await queues.raw_state("lamp", "a") is None
    async with open_red(works, place) as red:
        await red.call(Switch("a", "on"))
        assert (await red.state(Lamp, "a")).log == ["on"]

    seen = await queues.raw_state("lamp", "a")

    assert seen is not None
    assert (seen.version, seen.fields) == (1, {"log": ["on"]})
    assert "on" not in repr(seen).replace("version", "")


async def test_a_state_that_is_none_is_an_error(
    queues: AtomicQueues, place: str | MemoryServer, request: pytest.FixtureRequest
) -> None:
    entity = Entity("lamp", "a")
    if isinstance(place, MemoryServer):
        place.states[entity] = ("1.1", b"nonsense")
    else:
        server: RedisServer = request.getfixturevalue("clean_redis")
        with server.client() as client:
            client.set(Keys("tq").entity(entity)[2], b"1.1 nonsense")

    with pytest.raises(DecodeError):
        await queues.raw_state("lamp", "a")
    assert (await queues.inspect("lamp", "a")).state_bytes == len(b"nonsense")


# ------------------------------------------------------------------------------------ what can't be read, and mistakes
async def test_an_envelope_that_can_not_be_read_is_shown_as_such(queues: AtomicQueues) -> None:
    await send_garbage(queues, Entity("lamp", "a"))
    await queues.send(Switch("a", "on"))

    bad, good = await queues.queued("lamp", "a")

    assert (bad.command, bad.command_id, bad.fields, bad.headers) == (
        "(undecodable)",
        "(undecodable)",
        {},
        {},
    )
    assert bad.accepted_at > 0
    assert good.command == "switch"


READS: list[Callable[[AtomicQueues], Awaitable[object]]] = [
    lambda queues: queues.pods(),
    lambda queues: queues.lanes(),
    lambda queues: queues.queued("lamp", "a"),
    lambda queues: queues.put_off("lamp", "a"),
    lambda queues: queues.raw_state("lamp", "a"),
    lambda queues: queues.explain("lamp", "a"),
    lambda queues: queues.inspect("lamp", "a"),
]


@pytest.mark.parametrize("read", READS)
async def test_nothing_is_read_once_the_block_has_ended(
    read: Callable[[AtomicQueues], Awaitable[object]], place: str | MemoryServer
) -> None:
    async with open_atomic_queues(place) as queues:
        await read(queues)
    with pytest.raises(Closed):
        await read(queues)


@pytest.mark.parametrize(
    ("read", "error"),
    [
        (lambda queues: queues.lanes(count=0), ValueError),
        (lambda queues: queues.queued("lamp", "a", count=0), ValueError),
        (lambda queues: queues.queued("lamp", "a", offset=-1), ValueError),
        (lambda queues: queues.queued("No Type", "a"), BadDeclaration),
        (lambda queues: queues.queued("lamp", ""), BadEntityId),
        (lambda queues: queues.put_off("No Type", "a"), BadDeclaration),
        (lambda queues: queues.put_off("lamp", None), BadEntityId),
        (lambda queues: queues.raw_state("lamp", 1.5), BadEntityId),
        (lambda queues: queues.raw_state("lamp:a", "a"), BadDeclaration),
    ],
)
async def test_what_makes_no_sense_is_refused(
    read: Callable[[AtomicQueues], Awaitable[object]], error: type[Exception], queues: AtomicQueues
) -> None:
    with pytest.raises(error):
        await read(queues)
