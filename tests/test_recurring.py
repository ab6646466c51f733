"""Recurring commands: once for the whole fleet, at their times, and what becomes of missed ticks."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest
import trio
from redis_servers import RedisServer
from trio.testing import MockClock

from trioqueue import (
    BadDeclaration,
    BadEntityId,
    Command,
    Context,
    DuplicateRegistration,
    Registry,
    command,
    entity_id,
    open_atomic_queues,
    state,
)
from trioqueue.messages.schedule import Schedule, cron, every
from trioqueue.stores.memory.server import MemoryServer
from trioqueue.stores.memory.store import clock_since_the_epoch

PERIOD = 600.0
"""Seconds: long enough to be missed, and short, as each virtual hour of a pod takes five seconds."""


@state("clock")
class Clock:
    strokes: list[float] = attrs.field(factory=list)


@command("clock")
class Strike(Command):
    clock_id: str = entity_id()


def new_registry(**declared: Any) -> Registry:
    registry = Registry()

    @registry.handles(Strike)
    async def strike(command: Strike, clock: Clock, context: Context) -> None:
        clock.strokes.append(context.sent_at)

    return registry


def at(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def told(moment: int) -> str:
    return datetime.fromtimestamp(moment / 1000, UTC).isoformat()


def ticks(schedule: Schedule, start: str, count: int) -> list[str]:
    moment, found = at(start), list[str]()
    for _ in range(count):
        moment = schedule.after(moment)
        found.append(told(moment))
    return found


# ------------------------------------------------------------------------------------ when
def test_an_interval_counts_from_the_epoch() -> None:
    hourly = every(3600, Strike("a"), None, "skip")
    assert ticks(hourly, "2026-01-01T10:00:00+00:00", 2) == [
        "2026-01-01T11:00:00+00:00",
        "2026-01-01T12:00:00+00:00",
    ]
    assert every(0.25, Strike("a"), None, "skip").after(1_001) == 1_250


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("2026-01-10T00:00:00+00:00", ["2026-01-10T01:30:00+00:00", "2026-01-11T01:30:00+00:00"]),
        # Set forward at 01:00 UTC: half past two is left out that night, and comes right after the gap.
        ("2026-03-28T12:00:00+00:00", ["2026-03-29T01:00:00+00:00", "2026-03-30T00:30:00+00:00"]),
        # Set back at 01:00 UTC: half past two is there twice, and struck once.
        ("2026-10-24T12:00:00+00:00", ["2026-10-25T00:30:00+00:00", "2026-10-26T01:30:00+00:00"]),
    ],
    ids=["winter", "forward", "back"],
)
def test_a_cron_expression_means_its_time_zone(start: str, expected: list[str]) -> None:
    nightly = cron("30 2 * * *", Strike("a"), "Europe/Berlin", None, "skip")
    assert ticks(nightly, start, 2) == expected


@pytest.mark.parametrize(
    ("declare", "says"),
    [
        (lambda r: r.every(0.01, Strike("a")), "0.1 or more"),
        (lambda r: r.every(float("inf"), Strike("a")), "legal"),
        (lambda r: r.cron("every monday", Strike("a")), "0 3"),
        (lambda r: r.cron("0 0 31 2 *", Strike("a")), "legal"),
        (lambda r: r.cron("0 3 * * *", Strike("a"), tz="Berlin"), "Europe/Berlin"),
        (lambda r: r.every(1, Strike("a"), missed="often"), "skip"),
    ],
)
def test_what_makes_no_sense_is_refused(declare: Callable[[Registry], None], says: str) -> None:
    with pytest.raises(BadDeclaration, match=says):
        declare(Registry())


def test_schedules_have_names_of_their_own() -> None:
    registry = Registry()
    registry.every(60, Strike("a"))
    registry.every(61, Strike("a"))
    registry.every(60, Strike("b"))
    registry.cron("0 3 * * *", Strike("a"))
    registry.cron("0 3 * * *", Strike("a"), tz="Europe/Berlin")
    registry.cron("0 3 * * *", Strike("a"), name="nightly")
    with pytest.raises(DuplicateRegistration, match="every 60 s"):
        registry.every(60, Strike("a"))
    with pytest.raises(BadEntityId):
        registry.every(60, Strike(""))


# ------------------------------------------------------------------------------------ in a fleet
async def strokes_of(queues: Any) -> list[float]:
    return [round(stroke, 1) for stroke in (await queues.state(Clock, "a")).strokes]


async def test_a_fleet_sends_once_a_tick(autojump_clock: MockClock) -> None:
    server = MemoryServer(clock_since_the_epoch())
    registry = new_registry()
    registry.every(10, Strike("a"))
    await trio.sleep(
        (5 - server._now_us() / 1e6) % 10
    )  # ticks are those of the clock: in between, so that ten come
    async with (
        open_atomic_queues(server, registry=registry) as one,
        open_atomic_queues(server, registry=registry),
        open_atomic_queues(server, registry=registry),
    ):
        await trio.sleep(100)
        strokes = await strokes_of(one)
        assert len(strokes) == 10
        assert [stroke % 10 for stroke in strokes] == pytest.approx([0] * 10, abs=0.2)


def between_ticks() -> MemoryServer:
    """Makes a store whose clock is half a period away from any tick, whatever time of day it is."""
    began = trio.current_time()
    return MemoryServer(lambda: round((3_000_000.5 * PERIOD + trio.current_time() - began) * 1e6))


@pytest.mark.parametrize(("missed", "late"), [("skip", 0), ("once", 1), ("all", 5)])
async def test_ticks_that_nobody_was_there_for(missed: Any, late: int, autojump_clock: MockClock) -> None:
    server = between_ticks()

    def registry() -> Registry:
        made = new_registry()
        made.every(PERIOD, Strike("a"), missed=missed)
        return made

    async with open_atomic_queues(server, registry=registry()) as queues:
        await trio.sleep(2 * PERIOD)
        before = len(await strokes_of(queues))
        assert before == 2
    await trio.sleep(5 * PERIOD)
    async with open_atomic_queues(server, registry=registry()) as queues:
        await trio.sleep(1)
        assert len(await strokes_of(queues)) == before + late
        await trio.sleep(PERIOD)
        assert len(await strokes_of(queues)) == before + late + 1


async def test_a_short_absence_misses_nothing(autojump_clock: MockClock) -> None:
    server = between_ticks()
    registry = new_registry()
    registry.every(PERIOD, Strike("a"))
    async with open_atomic_queues(server, registry=registry):
        await trio.sleep(PERIOD)
    left = PERIOD - (server._now_us() / 1e6) % PERIOD
    await trio.sleep(left + 5)
    async with open_atomic_queues(server, registry=registry) as queues:
        await trio.sleep(1)
        assert (await strokes_of(queues))[-1] % PERIOD == pytest.approx(5, abs=1)


async def test_a_pod_that_serves_something_else_keeps_the_schedule_too(autojump_clock: MockClock) -> None:
    registry = new_registry()
    registry.every(1, Strike("a"))
    async with open_atomic_queues("memory://", registry=registry, serves=set()) as queues:
        await trio.sleep(1.5)
        assert (await queues.statistics()).ready == 1


async def test_on_redis(redis_server: RedisServer) -> None:
    registry = new_registry()
    registry.every(0.2, Strike("a"))
    async with (
        open_atomic_queues(redis_server.url, registry=registry, prefix="recurring") as one,
        open_atomic_queues(redis_server.url, registry=registry, prefix="recurring"),
    ):
        with trio.fail_after(20):
            while len(await strokes_of(one)) < 5:  # noqa: ASYNC110
                await trio.sleep(0.02)
        strokes = await strokes_of(one)
        assert len({round(stroke / 0.2) for stroke in strokes}) == len(strokes), "one for each tick"
