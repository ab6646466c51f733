"""Entities that a scaler keeps awake: on one pod of the fleet, without a command, for as long as they are named."""

from collections.abc import AsyncGenerator, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
import trio
from fleet import FaultyServer
from trio.testing import MockClock

from trioqueue import (
    AtomicQueues,
    BadDeclaration,
    Command,
    Drain,
    Entity,
    EntityPolicy,
    Limits,
    Registry,
    Retry,
    command,
    entity_id,
    open_atomic_queues,
)

EVERY = 2.0
HELD = 3 * EVERY
"""Seconds for which an entity stays awake after it was named last."""
IDLE = 4.0
POLICY = EntityPolicy(idle_timeout=IDLE, retry=Retry(wait_first=1, jitter=False))


@command("device")
class Ask(Command[str]):
    device_id: str = entity_id()


class Line:
    """What an awake device has open."""

    def __init__(self, pod: str, device: str) -> None:
        self.pod, self.device = pod, device


class Devices:
    """A fleet of pods, the devices that should be awake, and those that are."""

    def __init__(self, *wanted: Any) -> None:
        self.server = FaultyServer()
        self.wanted: list[Any] = list(wanted)
        self.open: dict[str, str] = {}  # device -> pod
        self.opened: list[str] = []
        self.runs: list[tuple[str, float]] = []  # of the scaler: pod and time
        self.broken = 0  # how often opening a line fails
        self.fails_after: int | None = None  # how many ids the scaler yields before it raises

    def pod(self, name: str = "pod", **options: Any) -> AbstractAsyncContextManager[AtomicQueues]:
        registry = Registry()

        @registry.activation("device")
        @asynccontextmanager
        async def line(entity: Entity) -> AsyncGenerator[Line]:
            if self.broken:
                self.broken -= 1
                raise OSError("no line")
            assert entity.id not in self.open, "two at once"
            self.open[entity.id] = name
            self.opened.append(entity.id)
            try:
                yield Line(name, entity.id)
            finally:
                del self.open[entity.id]

        @registry.handles(Ask)
        async def ask(command: Ask, line: Line) -> str:
            return line.pod

        @registry.scaler("device", every=EVERY)
        async def wanted() -> AsyncGenerator[str]:
            self.runs.append((name, trio.current_time()))
            for count, device in enumerate(self.wanted):
                if count == self.fails_after:
                    raise OSError("the directory is away")
                yield device

        return open_atomic_queues(
            self.server, registry=registry, name=name, entities={"device": POLICY}, **options
        )


def seconds_of(runs: Collection[tuple[str, float]]) -> list[int]:
    return [round(at / EVERY) for _, at in runs]


async def test_what_is_named_is_awake_without_a_command(autojump_clock: MockClock) -> None:
    devices = Devices("a", "b")
    async with devices.pod() as queues:
        await trio.sleep(1)
        assert devices.open == {"a": "pod", "b": "pod"}
        await trio.sleep(10 * IDLE)
        assert sorted(devices.opened) == ["a", "b"], "opened once, and never let go for being idle"
        assert (await queues.statistics()).awake == 2
        assert await queues.call(Ask("a")) == "pod"
        await trio.sleep(10 * IDLE)
        assert sorted(devices.opened) == ["a", "b"], "neither does work end it"
        mailbox = await queues.inspect("device", "a")
        assert (mailbox.mode, mailbox.pending) == ("parked", 0)
        assert "awake on pod" in await queues.explain("device", "a")
    assert not devices.open
    assert not devices.server.mailboxes


async def test_what_is_not_named_any_more_is_let_go(autojump_clock: MockClock) -> None:
    devices = Devices("a", "b")
    async with devices.pod() as queues:
        await trio.sleep(5 * EVERY + 1)
        devices.wanted.remove("a")
        await trio.sleep(HELD + IDLE - EVERY - 2)
        assert devices.open == {"a": "pod", "b": "pod"}
        await trio.sleep(EVERY + 4)
        assert devices.open == {"b": "pod"}
        assert (await queues.statistics()).passivated == 1
        devices.wanted.append("a")
        await trio.sleep(EVERY + 0.5)
        assert devices.open == {"a": "pod", "b": "pod"}


async def test_a_fleet_runs_the_scaler_once_a_tick_and_shares_the_entities(
    autojump_clock: MockClock,
) -> None:
    devices = Devices(*map(str, range(250)))
    async with devices.pod("one"), devices.pod("two"), devices.pod("three") as queues:
        await trio.sleep(20 * EVERY)
        assert 20 <= len(devices.runs) <= 21
        assert len(set(seconds_of(devices.runs[1:]))) == len(devices.runs) - 1, "one for each tick"
        assert len(devices.open) == 250
        # Who comes first gets them all: they stay where they are while others join.
        assert (await queues.statistics()).owned == 250
        assert len(devices.opened) == 250


async def test_entities_are_placed_with_the_least_loaded_pod(autojump_clock: MockClock) -> None:
    devices = Devices()
    async with devices.pod("one"), devices.pod("two"):
        await trio.sleep(EVERY)
        devices.wanted += map(str, range(150))
        await trio.sleep(2 * EVERY)
        pods = list(devices.open.values())
        assert (pods.count("one"), pods.count("two")) == (75, 75)


async def test_a_dead_pods_entities_come_awake_elsewhere(autojump_clock: MockClock) -> None:
    devices = Devices(*"abcd")
    async with devices.pod("heir") as heir, devices.pod("dead") as dead:
        await trio.sleep(EVERY)
        devices.wanted += "efgh"
        await trio.sleep(EVERY)
        lost = [device for device, pod in devices.open.items() if pod == "dead"]
        assert lost
        devices.server.unreachable.add(dead._store.client)
        await trio.sleep(6 + EVERY)  # its lease and grace, then a tick
        assert devices.open == dict.fromkeys("abcdefgh", "heir")
        assert (await heir.statistics()).owned == 8
        devices.server.unreachable.clear()


async def test_a_drain_hands_them_on_at_once(autojump_clock: MockClock) -> None:
    devices = Devices()
    async with devices.pod("stays"):
        async with devices.pod("goes"):
            devices.wanted += "abcdef"
            await trio.sleep(1.5 * EVERY)
            assert sorted(devices.open.values()) == ["goes"] * 3 + ["stays"] * 3
            devices.runs.clear()
            left_at = trio.current_time()
        await trio.testing.wait_all_tasks_blocked()
        assert devices.open == dict.fromkeys("abcdef", "stays")
        assert trio.current_time() == left_at
        assert not devices.runs, "no tick was needed"


async def test_a_lost_hint_is_made_up_for(autojump_clock: MockClock) -> None:
    devices = Devices("a")
    async with devices.pod():
        await trio.sleep(EVERY + 0.5)
        for _ in range(5):
            devices.server.deaf = True
            await trio.sleep(2 * EVERY)  # two of three
            devices.server.deaf = False
            await trio.sleep(EVERY)
        assert devices.opened == ["a"]


async def test_an_activation_that_fails_is_tried_again(autojump_clock: MockClock) -> None:
    devices = Devices("a")
    devices.broken = 3
    async with devices.pod():
        began = trio.current_time()
        while not devices.open:  # noqa: ASYNC110
            await trio.sleep(0.1)
        assert trio.current_time() - began == pytest.approx(1 + 2 + 4, abs=0.5)
        await trio.sleep(100)
        assert devices.opened == ["a"]


async def test_a_command_tries_a_failed_activation_at_once(autojump_clock: MockClock) -> None:
    devices = Devices("a")
    devices.broken = 3
    async with devices.pod() as queues:
        await trio.sleep(4)  # the third attempt failed at 3, and the next one is at 7
        assert await queues.call(Ask("a")) == "pod"
        assert trio.current_time() == pytest.approx(4, abs=0.5)


async def test_an_error_of_the_scaler_is_not_the_pods(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    devices = Devices("a", "b", "c")
    async with devices.pod():
        await trio.sleep(2 * EVERY)
        devices.fails_after = 1
        await trio.sleep(2 * EVERY)
        assert set(devices.open) == set("abc"), "they are held for a while"
        await trio.sleep(HELD + IDLE)
        assert set(devices.open) == {"a"}, "what it yields before it fails counts"
        devices.fails_after = None
        await trio.sleep(EVERY + 0.5)
        assert set(devices.open) == set("abc")
    assert "the directory is away" in caplog.text


async def test_an_illegal_id_is_an_error_of_its_own(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    devices = Devices("a", "", None, "b\n", 7, "c")
    async with devices.pod():
        await trio.sleep(EVERY)
        assert set(devices.open) == {"a", "7", "c"}
    wrong = [record for record in caplog.records if getattr(record, "event", "") == "scaler_bad_id"]
    assert len(wrong) >= 3


async def test_paused_ones_are_left_alone(autojump_clock: MockClock) -> None:
    devices = Devices("a", "b")
    async with devices.pod() as queues:
        await trio.sleep(EVERY)
        await queues.pause("device", "a")
        await trio.sleep(5 * EVERY)
        assert set(devices.open) == {"b"}
        await queues.resume("device", "a")
        await trio.sleep(EVERY + 0.5)
        assert set(devices.open) == {"a", "b"}
        await queues.pause("device")
        await trio.sleep(HELD + IDLE + EVERY)
        assert not devices.open
        await queues.resume("device")
        await trio.sleep(EVERY + 0.5)
        assert set(devices.open) == {"a", "b"}


async def test_who_has_commands_comes_before_who_is_kept(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    devices = Devices(*map(str, range(30)))
    async with devices.pod(limits=Limits(owned=30)) as queues:
        await trio.sleep(EVERY)
        assert len(devices.open) == 30
        began = trio.current_time()
        assert await queues.call(Ask("other")) == "pod"
        assert trio.current_time() - began <= 2.5, "two heartbeats"
        assert len(devices.open) > 15, "some are let go, not all"
        await trio.sleep(IDLE + 2 * EVERY)
        assert set(devices.open) == set(devices.wanted), "there is room for all again"
    assert "raise Limits.owned" in caplog.text


async def test_without_room_the_others_stay_asleep(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    devices = Devices(*"abcde")
    async with devices.pod(limits=Limits(owned=3)):
        await trio.sleep(2 * EVERY)
        assert set(devices.open) == set("abc")
        assert "2 entities of device" in caplog.text


async def test_a_type_without_an_activation_has_its_workers(autojump_clock: MockClock) -> None:
    registry = Registry()

    @registry.handles(Ask)
    async def ask(command: Ask) -> str:
        return "ok"

    @registry.scaler("device", every=1)
    async def wanted() -> AsyncGenerator[int]:
        yield 1
        yield 2

    async with open_atomic_queues("memory://", registry=registry, entities={"device": POLICY}) as queues:
        await trio.sleep(10 * IDLE)
        statistics = await queues.statistics()
        assert (statistics.awake, statistics.activated) == (2, 2)


async def test_a_scaler_is_given_what_it_asks_for(autojump_clock: MockClock) -> None:
    class Directory:
        ids = ("x", "y")

    registry = Registry()

    @registry.handles(Ask)
    async def ask(command: Ask) -> str:
        return "ok"

    @registry.scaler("device")
    async def wanted(directory: Directory, extra: int = 3) -> AsyncGenerator[str]:
        for one in directory.ids:
            yield one

    with pytest.raises(
        BadDeclaration, match=r"wanted asks for directory: .*Directory, which nobody provides"
    ):
        async with open_atomic_queues("memory://", registry=registry):
            pass
    async with open_atomic_queues("memory://", registry=registry, serves=set()):
        await trio.sleep(20)  # it serves no device, so it need not know them
    async with open_atomic_queues("memory://", registry=registry, provide={Directory: Directory()}) as queues:
        await trio.sleep(1)
        assert (await queues.statistics()).awake == 2


async def test_an_error_while_the_scaler_is_cancelled_is_not_the_pods(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    registry = Registry()

    @registry.handles(Ask)
    async def ask(command: Ask) -> str:
        return "ok"

    async def fail() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise OSError("the line was cut")

    @registry.scaler("device")
    async def wanted() -> AsyncGenerator[str]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            await trio.sleep_forever()
        yield "a"

    async with open_atomic_queues("memory://", registry=registry, drain=Drain(soft=1)):
        await trio.sleep(3)
    assert "the line was cut" in caplog.text


async def test_a_restarted_fleet_does_not_wait_for_the_next_tick(autojump_clock: MockClock) -> None:
    devices = Devices("a")
    async with devices.pod("first"):
        await trio.sleep(EVERY)
    await trio.sleep(10 * EVERY)
    async with devices.pod("second"):
        await trio.sleep(0.5)
        assert devices.open == {"a": "second"}
