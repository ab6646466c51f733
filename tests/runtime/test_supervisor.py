"""Incarnation after incarnation, handlers that will not end, and the end."""

import logging

import attrs
import pytest
import trio
from fleet import Fleet, Ledger, Note
from trio.testing import MockClock

from trioqueue import (
    AtomicQueues,
    Command,
    Drain,
    Entity,
    Lease,
    Registry,
    command,
    entity_id,
    open_atomic_queues,
)
from trioqueue.runtime.incarnation import Incarnation
from trioqueue.runtime.supervisor import SHOWN, _shown

TTL_AND_GRACE = Lease().ttl + Lease().grace


@command("rock")
class Push(Command[str]):
    name: str = entity_id()


def incarnation_of(queues: AtomicQueues) -> Incarnation:
    assert queues._supervisor is not None
    assert queues._supervisor.incarnation is not None
    return queues._supervisor.incarnation


async def test_a_pod_that_is_cut_off_stops_before_another_may_start(autojump_clock: MockClock) -> None:
    fleet = Fleet()
    async with fleet.pod("first") as first, fleet.pod("second") as second, fleet.sender() as sender:
        await first.send(Note("1", 1, 10))
        await trio.sleep(0.5)
        fleet.server.unreachable.add(first._store.client)
        cut_off = trio.current_time()
        await trio.sleep(TTL_AND_GRACE + Lease().heartbeat)
        assert [turn.pod for turn in fleet.starts] == ["first", "second"]
        assert fleet.starts[0].fence < fleet.starts[1].fence
        await second.wait_settled()
        assert trio.current_time() - cut_off < TTL_AND_GRACE + 2 * Lease().heartbeat + 10
        await fleet.check_ledger(sender, "1", [1])
        assert [turn.pod for turn in fleet.ends] == ["second"]  # the first one was cancelled

        fleet.server.unreachable.clear()
        await trio.sleep(5)
        assert (await sender.statistics()).pods == 2  # it has joined anew
        await first.send(Note("2", 2))
        await second.wait_settled()
        assert fleet.ends[-1].pod == "first"
        fleet.audit()


async def test_what_a_pod_does_without_knowing_that_its_lease_ended_is_refused(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    fleet = Fleet()
    async with fleet.pod("first") as first, fleet.pod("second") as second:
        await first.send(Note("1", 1, 8))
        await trio.sleep(0.5)
        fleet.server.forgotten.add(first._store.client)
        frozen = incarnation_of(first).member
        await second.wait_settled()
        await fleet.check_ledger(second, "1", [1])
        assert (await second.statistics()).dead == 0
        assert frozen.incarnation not in fleet.server.pods
        await trio.sleep(1)
        assert incarnation_of(first).member != frozen  # rejoined
    assert f"{frozen.incarnation} gives up its lease" in caplog.text


async def test_a_handler_that_ends_after_another_pod_took_over_commits_nothing(
    autojump_clock: MockClock,
) -> None:
    fleet = Fleet()
    slow = Lease(ttl=600, heartbeat=60, grace=90)  # so slow that the handler ends before the refusal is seen
    async with fleet.pod("second", lease=slow) as second:
        await trio.sleep(30)
        async with fleet.pod("frozen", lease=slow) as frozen:
            await frozen.send(Note("1", 1, 40))
            await trio.sleep(1)
            fleet.server.pods[incarnation_of(frozen).member.incarnation].renewed_us -= 3_600_000_000
            with trio.fail_after(100):
                await second.wait_settled()
            assert [turn.pod for turn in fleet.starts] == ["frozen", "second"]
            assert [turn.pod for turn in fleet.ends] == ["frozen", "second"]
            await fleet.check_ledger(second, "1", [1])


async def test_a_handler_that_does_not_end_is_reported_and_its_entity_not_served_here(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    registry = Registry()
    starts: list[tuple[str, float]] = []
    running: list[str] = []
    release = trio.Event()

    @registry.handles(Push)
    async def push(command: Push) -> str:
        assert command.name not in running  # two at once, in one process
        running.append(command.name)
        starts.append((command.name, trio.current_time()))
        if command.name == "sisyphus" and len(starts) == 1:
            with trio.CancelScope(shield=True):
                await release.wait()
        running.remove(command.name)
        return command.name

    async with open_atomic_queues("memory://", registry=registry) as queues:
        await queues.send(Push("sisyphus"))
        await trio.sleep(1)
        incarnation_of(queues).end_lease("the test says so")
        try:
            await trio.sleep(10)
            assert "rock/sisyphus" in caplog.text
            assert "do not end though they were cancelled" in caplog.text
            with trio.fail_after(1):
                assert await queues.call(Push("other")) == "other"
            await queues.send(Push("sisyphus"))
            await trio.sleep(10)
            assert [name for name, _ in starts] == ["sisyphus", "other"]
        finally:
            release.set()
        with trio.fail_after(3):
            await queues.wait_settled()
        assert [name for name, _ in starts] == ["sisyphus", "other", "sisyphus", "sisyphus"]


async def test_another_pod_serves_what_a_lingering_handler_keeps_from_this_one(
    autojump_clock: MockClock,
) -> None:
    fleet = Fleet()
    registry = Registry()
    release = trio.Event()

    @registry.handles(Note)
    async def linger(command: Note, ledger: Ledger) -> int:
        with trio.CancelScope(shield=True):
            await release.wait()
        ledger.numbers.append(-100)
        return 0

    async with open_atomic_queues(fleet.server, registry=registry, name="first") as first:
        await first.send(Note("1", 1))
        await trio.sleep(1)
        async with fleet.pod("second") as second:
            incarnation_of(first).end_lease("the test says so")
            try:
                with trio.fail_after(10):
                    await second.wait_settled()
                await fleet.check_ledger(second, "1", [1])
            finally:
                release.set()
            await trio.sleep(5)
            await fleet.check_ledger(second, "1", [1])


async def test_a_handler_that_swallows_its_cancellation_commits_nothing(autojump_clock: MockClock) -> None:
    registry = Registry()
    starts: list[str] = []

    @registry.handles(Push)
    async def push(command: Push) -> str:
        starts.append(command.name)
        try:
            await trio.sleep(5)
        except trio.Cancelled:
            return "swallowed"
        return "done"

    async with open_atomic_queues("memory://", registry=registry) as queues, trio.open_nursery() as nursery:
        answers: list[str] = []

        async def call() -> None:
            answers.append(await queues.call(Push("r")))

        nursery.start_soon(call)
        await trio.sleep(1)
        incarnation_of(queues).end_lease("the test says so")
        await queues.wait_settled()
        await trio.sleep(0.1)
        assert (answers, starts) == (["done"], ["r", "r"])


async def test_losing_the_lease_spends_no_attempt_and_counts_no_crash(autojump_clock: MockClock) -> None:
    fleet = Fleet()
    async with fleet.pod() as queues:
        await queues.send(Note("1", 1, 5))
        for _ in range(20):
            await trio.sleep(2)
            incarnation_of(queues).end_lease("the test says so")
            await trio.sleep(1)
        await queues.wait_settled()
        await fleet.check_ledger(queues, "1", [1])
        assert (await queues.statistics()).dead == 0
    assert len(fleet.starts) == 21


async def test_many_suspects_come_one_at_a_time_and_without_pauses(autojump_clock: MockClock) -> None:
    """Two deaths with much in hand make a suspect of everything; that must not take its whole entities' healing."""
    fleet, count = Fleet(), 40

    async def die_with_all_in_hand(name: str, started: int) -> None:
        with trio.CancelScope() as kill:
            async with fleet.pod(name) as pod:
                while len(fleet.starts) < started:  # noqa: ASYNC110
                    await trio.sleep(0.0005)
                fleet.server.unreachable.add(pod._store.client)
                kill.cancel()
                await trio.sleep_forever()

    async with fleet.sender() as sender:
        for n in range(count):
            await sender.send(Note(f"{n}", 1, 0.01))
        await die_with_all_in_hand("first", count)
        await die_with_all_in_hand("second", 2 * count)
        assert fleet.ends == []
        async with fleet.pod("third"):
            while len(fleet.starts) == 2 * count:  # noqa: ASYNC110
                await trio.sleep(0.001)
            began = trio.current_time()
            await sender.wait_settled()
            assert trio.current_time() - began < count * 0.01 + 0.2
        running = 0
        for turn in fleet.starts[2 * count :]:
            assert turn.pod == "third"
            running += 1
        assert running == count


async def test_no_handler_starts_if_the_pod_stood_still_while_it_decoded_the_command(
    autojump_clock: MockClock,
) -> None:
    registry, pauses, trusted = Registry(), [Lease().stall_limit + 1], list[bool]()

    def stand_still(name: str) -> str:
        if serving and pauses:
            autojump_clock.jump(pauses.pop())
        return name

    @command("stone")
    class Lift(Command):
        stone_id: str = entity_id()
        name: str = attrs.field(converter=stand_still)

    @registry.handles(Lift)
    async def lift(command: Lift) -> None:
        trusted.append(incarnation_of(queues).trusted())

    serving = False
    async with open_atomic_queues("memory://", registry=registry) as queues:
        lifting = Lift("s", "one")
        serving = True
        await queues.send(lifting)
        await queues.wait_settled()
    assert not pauses
    assert trusted == [True]


async def test_an_end_that_comes_while_the_pod_joins_anew(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    fleet = Fleet()
    async with fleet.pod("second") as second:
        async with fleet.pod("first") as first:
            await first.send(Note("1", 1, 1))
            await trio.sleep(0.5)
            incarnation_of(first).end_lease("the test says so")
            await trio.sleep(0.1)
            assert first._supervisor is not None
            assert first._supervisor.incarnation is None
            left = trio.current_time()
        assert trio.current_time() - left < 1
        with trio.fail_after(TTL_AND_GRACE + 3):
            await second.wait_settled()
        await fleet.check_ledger(second, "1", [1])
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_handlers_that_outlast_the_drain_are_named(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    registry = Registry()

    @registry.handles(Push)
    async def push(command: Push) -> str:
        with trio.CancelScope(shield=True):
            await trio.sleep(20)
        return "late"

    async with open_atomic_queues("memory://", registry=registry, drain=Drain(soft=1, hard=2)) as queues:
        await queues.send(Push("sisyphus"))
        await trio.sleep(0.1)
        left = trio.current_time()
    assert trio.current_time() - left == pytest.approx(19.9)  # a task cannot be left behind
    assert "handlers of rock/sisyphus do not end though they were cancelled" in caplog.text


async def test_an_error_of_the_library_leaves_the_block_unwrapped(autojump_clock: MockClock) -> None:
    fleet = Fleet()

    class Broken(Exception):
        pass

    with pytest.raises(Broken, match=r"^a mistake$"):  # noqa: PT012 - the block is what is tested
        async with fleet.pod() as queues:

            def broken(*_: object) -> None:
                raise Broken("a mistake")

            incarnation_of(queues)._attend_to = broken  # type: ignore[method-assign, assignment]
            await trio.sleep_forever()
    fleet.audit()


def test_a_line_of_the_log_names_a_few() -> None:
    many = [Entity("rock", str(number)) for number in range(SHOWN + 3)]
    assert _shown(many[:2]) == "rock/0, rock/1"
    assert _shown(many[:SHOWN]).endswith(f"rock/{SHOWN - 1}")
    assert _shown(many).endswith(f"rock/{SHOWN - 1} and 3 more")
