"""What an operator does with entities and types, at the front door."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import trio
from fleet import FaultyServer
from lamps import KEPT, TWICE, Lamp, Spin, Switch, Works, die, log_of, mode_of
from redis_servers import RedisServer
from trio.testing import MockClock

from trioqueue import (
    AtomicQueues,
    BadDeclaration,
    BadEntityId,
    CallCancelled,
    CallFailed,
    Closed,
    Command,
    DeadlineExceeded,
    Entity,
    EntityPolicy,
    Lease,
    Retry,
    Status,
    open_atomic_queues,
)
from trioqueue.stores.contract import CHUNK, Group, Outgoing

AT_ONCE = pytest.approx(0, abs=0.05)
HEARTBEAT = 1.0


@pytest.fixture
def works() -> Works:
    return Works()


@pytest.fixture
async def queues(works: Works) -> AsyncIterator[AtomicQueues]:
    async with works.open() as one:
        yield one


# ------------------------------------------------------------------------------------ pausing an entity
@pytest.mark.parametrize("awake", [False, True])
async def test_a_paused_entity_queues_until_it_is_resumed(
    works: Works, queues: AtomicQueues, autojump_clock: MockClock, awake: bool
) -> None:
    if awake:
        await queues.call(Switch("a", "before"))
    assert await queues.pause("lamp", "a", why="new bulb") is True
    assert await queues.pause("lamp", "a", why="another") is False
    receipt = await queues.send(Switch("a", "on"))
    await trio.sleep(100)
    assert "on" not in works.started()
    assert await queues.status(receipt) == Status("pending")
    box = await queues.inspect("lamp", "a")
    assert (box.mode, box.owner, box.pending, box.paused_why) == ("paused", None, 1, "new bulb")
    assert box.paused_for == pytest.approx(100, abs=0.1)
    assert await queues.resume("lamp", "a") is True
    assert await queues.resume("lamp", "a") is False
    assert await queues.result(receipt) == 1 + awake


async def test_a_pause_lets_the_turn_in_hand_stand_and_holds_what_is_fetched_behind_it(
    works: Works, queues: AtomicQueues, autojump_clock: MockClock
) -> None:
    one, two = await queues.send_many([Switch("a", "one", 5), Switch("a", "two")])
    await trio.sleep(1)
    await queues.pause("lamp", "a")
    assert await queues.explain("lamp", "a") == (
        "lamp/a has been paused for less than a second (by an operator), and pod is still handling "
        f"switch {one.command_id}: after that, nothing starts before resume('lamp', 'a')."
    )
    assert await queues.result(one) == 1
    await trio.sleep(100)
    assert await log_of(queues) == works.started() == ["one"]
    assert await mode_of(queues) == "paused"
    await queues.resume("lamp", "a")
    assert await queues.result(two) == 2


async def test_a_pause_that_ends_within_the_turn_is_none(
    works: Works, queues: AtomicQueues, autojump_clock: MockClock
) -> None:
    await queues.send_many([Switch("a", "one", 5), Switch("a", "two")])
    await trio.sleep(1)
    await queues.pause("lamp", "a")
    await trio.sleep(1)
    await queues.resume("lamp", "a")
    await queues.wait_settled()
    assert await log_of(queues) == ["one", "two"]


@pytest.mark.parametrize(("paused_for", "starts_after"), [(5, 15), (100, 0)])
async def test_a_backoff_runs_on_while_it_is_paused(
    works: Works, queues: AtomicQueues, autojump_clock: MockClock, paused_for: float, starts_after: float
) -> None:
    works.jammed = {"bad"}
    receipt = await queues.send(Switch("a", "bad"))
    await works.wait_started("bad")
    await trio.sleep(0.001)  # it fails, and waits 20 seconds
    await queues.pause("lamp", "a")
    await trio.sleep(paused_for)
    works.jammed.clear()
    assert works.started() == ["bad"]
    await queues.resume("lamp", "a")
    began = trio.current_time()
    assert await queues.result(receipt) == 1
    assert trio.current_time() - began == pytest.approx(starts_after, abs=0.1)
    assert works.starts[-1].attempt == 1, "with all its attempts"


async def test_an_entity_that_waits_for_a_pod_is_paused(works: Works, autojump_clock: MockClock) -> None:
    server = FaultyServer()
    async with open_atomic_queues(server, entities=KEPT) as sender:
        receipt = await sender.send(Switch("a", "on"))
        assert await mode_of(sender) == "ready"
        await sender.pause("lamp", "a")
        async with works.open(server):
            await trio.sleep(10)
            assert works.starts == []
            assert (await sender.statistics()).ready == 0
            await sender.resume("lamp", "a")
            assert await sender.result(receipt) == 1


async def test_a_pause_outlives_its_pod_and_a_restart(works: Works, autojump_clock: MockClock) -> None:
    server = FaultyServer()
    async with works.open(server, "first") as first, works.open(server, "second") as second:
        receipt = await first.send(Switch("a", "slow", 60))
        await trio.sleep(1)
        await second.pause("lamp", "a")
        server.unreachable.add(first._store.client)
        await trio.sleep(10)
        assert await mode_of(second) == "paused"
        server.unreachable.clear()
        server.restart()
        await trio.sleep(10)
        assert await mode_of(second) == "paused"
        await second.resume("lamp", "a")
        assert await second.result(receipt) == 1
        assert works.started() == ["slow", "slow"]
        assert works.overlaps == []


async def test_all_that_may_befall_a_command_befalls_it_while_it_is_paused(
    works: Works, queues: AtomicQueues, autojump_clock: MockClock
) -> None:
    await queues.pause("lamp", "a")
    later = await queues.send(Switch("a", "later"), delay=5)
    now = await queues.send(Switch("a", "now"))
    expired = await queues.send(Switch("a", "expired"), expires=3)
    dropped = await queues.send(Switch("a", "dropped"))
    assert await queues.cancel(dropped) == "dropped"
    with trio.move_on_after(2) as scope:
        await queues.call(Switch("a", "called"))
    assert scope.cancelled_caught
    await trio.sleep(10)
    assert (await queues.inspect("lamp", "a")).pending == 5
    await queues.resume("lamp", "a")
    assert await queues.result(now) == 1
    assert await queues.result(later) == 2
    with pytest.raises(DeadlineExceeded):
        await queues.result(expired)
    with pytest.raises(CallCancelled):
        await queues.result(dropped)
    await queues.wait_settled()
    assert await log_of(queues) == ["now", "later"]


async def test_nobody_waits_for_what_is_paused(
    works: Works, queues: AtomicQueues, autojump_clock: MockClock
) -> None:
    """But for a paused type: it goes on when it is resumed, and whoever waits for it may be about to do that."""
    await queues.pause("lamp", "a")
    await queues.send(Switch("a", "on"))
    with trio.fail_after(1):
        await queues.wait_settled()
    assert (await queues.statistics()).with_work == 0
    await queues.pause("lamp")
    await queues.send(Switch("b", "on"))
    with trio.move_on_after(100) as scope:
        await queues.wait_settled()
    assert scope.cancelled_caught


async def test_memory_warns_of_paused_commands_that_it_loses(
    works: Works, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with works.open() as queues:
        await queues.pause("lamp", "a")
        await queues.send(Switch("a", "on"))
    assert "1 entity still had commands" in caplog.text


async def test_a_paused_entity_is_awake_nowhere(works: Works, autojump_clock: MockClock) -> None:
    server = FaultyServer()
    async with works.open(server, "first") as first, works.open(server, "second") as second:
        await first.call(Switch("a", "on"))
        await second.pause("lamp", "a")
        await trio.sleep(HEARTBEAT)
        assert works.awake["a"] == 0


# ------------------------------------------------------------------------------------ pausing a type
async def test_a_paused_type_goes_on_within_a_heartbeat(
    works: Works, queues: AtomicQueues, autojump_clock: MockClock
) -> None:
    await queues.call(Switch("awake", "before"))
    await queues.send(Switch("busy", "busy", 5))
    await trio.sleep(1)
    assert await queues.pause("lamp", why="a new fuse") is True
    assert await queues.pause("lamp", why="another one") is False
    receipts = [await queues.send(Switch(lamp, "after")) for lamp in ("awake", "busy", "idle")]
    await queues.call(Spin("a", "other types go on"))
    await trio.sleep(50)
    assert works.started() == ["before", "busy"]
    assert (await queues.state(Lamp, "busy")).log == ["busy"]
    for lamp in ("awake", "busy", "idle"):
        box = await queues.inspect("lamp", lamp)
        assert (box.mode, box.type_paused, box.paused_why) == ("ready", True, "")
        assert (box.type_paused_why, box.type_paused_for) == ("a new fuse", pytest.approx(50, abs=0.1))
    counted = await queues.statistics()
    assert (counted.with_work, counted.ready, counted.held) == (3, 0, 3)
    assert "has been paused for 50 s (a new fuse)" in await queues.explain("lamp", "idle")
    assert "nothing starts before resume('lamp')." in await queues.explain("lamp", "idle")
    assert await queues.resume("lamp") is True
    assert await queues.resume("lamp") is False
    with trio.fail_after(1.1 * HEARTBEAT):
        assert [await queues.result(one) for one in receipts] == [2, 2, 1]


@pytest.mark.parametrize("first", ["type", "entity"])
async def test_an_entity_that_is_paused_within_a_paused_type_needs_both_resumes(
    works: Works, queues: AtomicQueues, autojump_clock: MockClock, first: str
) -> None:
    await queues.pause("lamp", "a")
    await queues.pause("lamp")
    await queues.send(Switch("a", "on"))
    other = await queues.send(Switch("b", "other"))
    assert "before resume('lamp', 'a') and resume('lamp')." in await queues.explain("lamp", "a")
    await queues.resume("lamp", *([] if first == "type" else ["a"]))
    await trio.sleep(10)
    assert works.started() == (["other"] if first == "type" else [])
    await queues.resume("lamp", *(["a"] if first == "type" else []))
    await queues.result(other)
    await queues.wait_settled()
    assert sorted(works.started()) == ["on", "other"]


# ------------------------------------------------------------------------------------ a head that waits for an operator
async def test_a_command_that_failed_for_good_may_hold_its_entity(
    works: Works, autojump_clock: MockClock
) -> None:
    works.jammed = {"bad"}
    policy = EntityPolicy(keep_results=600, retry=TWICE, on_exhausted="pause")
    async with works.open(entities={"lamp": policy}) as queues:
        bad, good = await queues.send_many([Switch("a", "bad"), Switch("a", "good")])
        for times in (1, 2):
            await trio.sleep(100)
            assert works.started() == ["bad"] * 2 * times
            box = await queues.inspect("lamp", "a")
            assert (box.mode, box.pending) == ("paused", 2)
            assert box.head
            assert (box.head.command_id, box.head.attempts) == (bad.command_id, 2)
            assert box.paused_why == f"switch {bad.command_id} failed for good: OSError: bad is jammed"
            assert await queues.dead_letters("lamp") == []
            if times == 2:
                works.jammed.clear()
            await queues.resume("lamp", "a")
        assert (await queues.result(bad), await queues.result(good)) == (1, 2)
        assert [one.attempt for one in works.starts] == [1, 2, 1, 2, 1, 1]


# ------------------------------------------------------------------------------------ purging
async def expect_cancelled(queues: AtomicQueues, one: Command[Any]) -> None:
    with pytest.raises(CallCancelled):
        await queues.call(one)


async def test_a_purge_reaches_behind_a_running_worker(
    works: Works, queues: AtomicQueues, autojump_clock: MockClock
) -> None:
    await queues.call(Switch("a", "before"))
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for what in ("running", "fetched"):
            nursery.start_soon(expect_cancelled, queues, Switch("a", what, 5))
            await trio.sleep(0.5)
        sent = await queues.send(Switch("a", "sent"))
        assert await queues.purge("lamp", "a") == 3
    assert trio.current_time() - began == pytest.approx(1, abs=0.05)
    with pytest.raises(CallCancelled):
        await queues.result(sent)
    assert await queues.status(sent) == Status("finished", "cancelled")
    assert await queues.call(Switch("a", "next")) == 2
    assert trio.current_time() - began == pytest.approx(5, abs=0.05), (
        "it starts when the purged one has ended"
    )
    assert works.overlaps == []
    assert works.started() == ["before", "running", "next"]
    await queues.wait_settled()
    assert await log_of(queues) == ["before", "next"]


async def test_a_purge_takes_all_that_is_queued_and_nothing_else(
    works: Works, queues: AtomicQueues, autojump_clock: MockClock
) -> None:
    many = 2 * CHUNK + 50
    assert await queues.purge("lamp", "a") == 0
    await queues.call(Switch("a", "before"))
    await queues.pause("lamp", "a")
    await queues.send(Switch("a", "later"), delay=5)
    await queues.send(Switch("b", "other"))
    await queues.send_many([Switch("a", f"{number}") for number in range(many)])
    await queues._store.send(Group([Outgoing(Entity("lamp", "a"), b"\xff")]))
    assert await queues.purge("lamp", "a") == many + 1
    assert await mode_of(queues) == "paused"
    await trio.sleep(10)
    await queues.resume("lamp", "a")
    await queues.wait_settled()
    assert await log_of(queues) == ["before", "later"]
    assert await log_of(queues, "b") == ["other"]


async def test_what_a_purged_command_came_to_is_kept_as_long_as_any(
    works: Works, queues: AtomicQueues, autojump_clock: MockClock
) -> None:
    await queues.pause("lamp", "a")
    await queues.send(Switch("a", "once"), key="once")
    assert await queues.purge("lamp", "a") == 1
    await trio.sleep(3600)
    with pytest.raises(CallCancelled):
        await queues.call(Switch("a", "again"), key="once")


async def test_after_a_purge_the_next_command_starts_at_once(
    works: Works, queues: AtomicQueues, autojump_clock: MockClock
) -> None:
    works.jammed = {"bad"}
    await queues.send(Switch("a", "bad"))
    await trio.sleep(1)
    assert await queues.purge("lamp", "a") == 1
    began = trio.current_time()
    await queues.call(Switch("a", "next"))
    assert trio.current_time() - began == AT_ONCE


@pytest.mark.parametrize("way", ["purge", "redeliver"])
async def test_no_two_pods_handle_an_entity_whatever_an_operator_does(
    works: Works, autojump_clock: MockClock, way: str
) -> None:
    server = FaultyServer()
    async with works.open(server, "first") as first, works.open(server, "second") as second:
        works.jammed = {"bad"}
        with pytest.raises(CallFailed):
            await first.call(Switch("a", "bad"))
        (letter,) = await second.dead_letters("lamp")
        works.jammed.clear()
        await first.call(Switch("b", "so that the first pod has more to do than the second"))
        await first.send(Switch("a", "slow", 10))
        await trio.sleep(1)
        if way == "purge":
            await second.purge("lamp", "a")
        else:
            await second.redeliver(letter, to="head")
        await second.pause("lamp", "a")
        await second.send(Switch("a", "next"))
        await second.resume("lamp", "a")
        await second.wait_settled()
        assert works.overlaps == []


# ------------------------------------------------------------------------------------ mistakes
@pytest.mark.parametrize(
    ("ask", "error"),
    [
        (lambda queues: queues.inspect("No Type", "a"), BadDeclaration),
        (lambda queues: queues.inspect("lamp", ""), BadEntityId),
        (lambda queues: queues.explain("lamp", 1.5), BadEntityId),
        (lambda queues: queues.pause("lamp:a"), BadDeclaration),
        (lambda queues: queues.pause("lamp", True), BadEntityId),
        (lambda queues: queues.resume("lamp", "a\n"), BadEntityId),
        (lambda queues: queues.purge("lamp", None), BadEntityId),
        (lambda queues: queues.dead_letters(""), BadDeclaration),
        (lambda queues: queues.dead_letters("lamp", offset=-1), ValueError),
        (lambda queues: queues.dead_letters("lamp", count=0), ValueError),
    ],
)
async def test_what_makes_no_sense_is_refused(
    queues: AtomicQueues,
    autojump_clock: MockClock,
    ask: Callable[[AtomicQueues], Awaitable[object]],
    error: type[Exception],
) -> None:
    with pytest.raises(error):
        await ask(queues)


async def test_an_operator_too_is_told_that_the_block_has_ended(
    works: Works, autojump_clock: MockClock
) -> None:
    async with works.open() as queues:
        await die(works, queues, Switch("a", "bad"))
        (letter,) = await queues.dead_letters("lamp")
    for ask in (
        queues.inspect("lamp", "a"),
        queues.explain("lamp", "a"),
        queues.pause("lamp", "a"),
        queues.pause("lamp"),
        queues.resume("lamp"),
        queues.purge("lamp", "a"),
        queues.dead_letters("lamp"),
        queues.redeliver(letter),
        queues.discard(letter),
    ):
        with pytest.raises(Closed):
            await ask


# ------------------------------------------------------------------------------------ on Redis
async def test_on_redis_as_in_memory(works: Works, redis_server: RedisServer) -> None:
    """Pause, type pause, purge and redelivery behind a running worker, with two pods and an operator elsewhere."""
    here = {
        "prefix": "operating",
        "entities": {"lamp": EntityPolicy(keep_results=60, retry=Retry(attempts=1))},
    }
    with trio.fail_after(40):
        async with (
            works.open(redis_server.url, "first", **here),
            works.open(redis_server.url, "second", **here),
            open_atomic_queues(redis_server.url, **here) as operator,
        ):
            works.closed = {"paused", "purged", "overruled"}
            one, two = await operator.send_many([Switch("a", "paused"), Switch("a", "two")])
            await works.wait_started("paused")
            assert await operator.pause("lamp", "a", why="new bulb") is True
            works.gates["paused"].set()
            assert await operator.result(one) == 1
            while await mode_of(operator) != "paused":  # noqa: ASYNC110 - its worker lets go of it right now
                await trio.sleep(0.01)
            box = await operator.inspect("lamp", "a")
            assert (box.owner, box.pending, box.paused_why) == (None, 1, "new bulb")
            await operator.wait_settled()
            assert works.started() == ["paused"]
            assert await operator.resume("lamp", "a") is True
            assert await operator.result(two) == 2

            assert await operator.pause("lamp") is True
            held = [await operator.send(Switch(lamp, "held")) for lamp in "abc"]
            assert await operator.resume("lamp") is True
            assert [await operator.result(one) for one in held] == [3, 1, 1]

            async with trio.open_nursery() as nursery:
                nursery.start_soon(expect_cancelled, operator, Switch("a", "purged"))
                await works.wait_started("purged")
                behind = await operator.send(Switch("a", "behind"))
                assert await operator.purge("lamp", "a") == 2
            with pytest.raises(CallCancelled):
                await operator.result(behind)
            after = await operator.send(Switch("a", "after"))
            works.gates["purged"].set()
            assert await operator.result(after) == 4

            await die(works, operator, Switch("a", "bad"))
            (letter,) = await operator.dead_letters("lamp")
            assert (letter.error, letter.attempts) == ("OSError: bad is jammed", 1)
            overruled = await operator.send(Switch("a", "overruled"))
            await works.wait_started("overruled")
            assert await operator.redeliver(letter, to="head") is True
            assert await operator.redeliver(letter, to="head") is False
            works.gates["overruled"].set()
            assert await operator.result(overruled) == 6
            await operator.wait_settled()
            assert await log_of(operator) == ["paused", "two", "held", "after", "bad", "overruled"]
            assert works.overlaps == []


async def test_a_pause_outlives_a_restart_of_redis(works: Works) -> None:
    lease = Lease(ttl=0.6, heartbeat=0.2, grace=0.4)
    with RedisServer(appendonly=True) as server, trio.fail_after(40):
        async with works.open(server.url, lease=lease) as queues:
            await queues.pause("lamp", "a", why="new bulb")
            await queues.pause("fan")
            receipt = await queues.send(Switch("a", "on"))
            await trio.to_thread.run_sync(server.restart)
            await queues.call(Switch("b", "the pod is back"))
            box = await queues.inspect("lamp", "a")
            assert (box.mode, box.pending, box.paused_why) == ("paused", 1, "new bulb")
            assert (await queues.inspect("fan", "b")).type_paused
            await queues.resume("fan")
            await queues.resume("lamp", "a")
            assert await queues.result(receipt) == 1
            assert works.started() == ["the pod is back", "on"]
