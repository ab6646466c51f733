"""A worker may be cut off at each of its checkpoints: nothing is lost, nothing stands twice."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
from fleet import AtStep, Fleet, Note
from trio.testing import MockClock

from trioqueue import (
    Command,
    Drain,
    Entity,
    EntityPolicy,
    Limits,
    Registry,
    command,
    entity_id,
    open_atomic_queues,
)

NUMBERS = [1, -2, 3, 4]  # the second one fails once

MOST_STEPS = 60
"""No scenario has more checkpoints: reaching it means that the loop below never ends."""


async def _lose_lease_at(step: int) -> bool:
    fleet = Fleet()
    async with fleet.sender() as sender, fleet.pod(entities={"ledger": EntityPolicy(idle_timeout=1)}) as pod:

        def lose() -> None:
            assert pod._supervisor is not None
            if pod._supervisor.incarnation is not None:
                pod._supervisor.incarnation.end_lease("the test says so")

        with AtStep("ledger/1", step, lose) as cut:
            await sender.send_many([Note("1", number, 0.1) for number in NUMBERS])
            await trio.sleep(0.05)
            await pod.send(Note("1", 5))
            with trio.fail_after(60):
                await sender.wait_settled()
            await trio.sleep(3)  # it lets the ledger go, and may be cut off there too
            fleet.audit()
            await pod.call(Note("1", 6))
            await sender.wait_settled()
        await fleet.check_ledger(sender, "1", [*NUMBERS, 5, 6])
    fleet.audit()
    return cut.fired


async def test_a_lease_lost_at_any_checkpoint_of_a_worker(autojump_clock: MockClock) -> None:
    step = 1
    while await _lose_lease_at(step):
        step += 1
        assert step < MOST_STEPS
    assert step > 10


async def _cancel_pod_at(task_name: str, step: int, *, drain: bool) -> bool:
    fleet = Fleet()
    scope = trio.CancelScope()
    leave = trio.Event()

    async def serve() -> None:
        with scope:
            async with fleet.pod("first", drain=Drain(soft=0.15, hard=1)):
                await leave.wait()

    async with fleet.sender() as sender:
        with AtStep(task_name, step, leave.set if drain else scope.cancel) as cut:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve, name="pod")
                await trio.sleep(0.1)
                await sender.send_many([Note("1", number, 0.1) for number in NUMBERS])
                await sender.send(Note("1", 5))
                with trio.move_on_after(5):
                    await sender.wait_settled()
                fleet.audit()
                leave.set()
        async with fleet.rescued() as rescue:
            await fleet.check_ledger(rescue, "1", [*NUMBERS, 5])
            assert (await rescue.statistics()).dead == 0
    return cut.fired


@pytest.mark.parametrize("drain", [False, True], ids=["cancelled", "drained"])
@pytest.mark.parametrize("task_name", ["ledger/1", "copy/1", "reports", "Supervisor", "supervisor", "pod"])
async def test_a_pod_that_ends_at_any_checkpoint_of_a_task(
    task_name: str, drain: bool, autojump_clock: MockClock
) -> None:
    step = 1
    while await _cancel_pod_at(task_name, step, drain=drain):
        step += 1
        assert step < MOST_STEPS
    assert step > 1


@command("door")
class Open(Command[int]):
    door_id: str = entity_id()
    seconds: float = 0


async def test_a_handler_that_raises_while_it_is_cancelled_does_not_end_the_pod(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    registry = Registry()

    async def creak() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise OSError("the hinge broke")

    @registry.handles(Open)
    async def open_door(command: Open) -> int:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(creak)
            await trio.sleep(1000)
        return 0

    async with open_atomic_queues("memory://", registry=registry, drain=Drain(soft=1)) as queues:
        await queues.send(Open("d"))
        await trio.sleep(1)
    assert "door/d raised an error while it was cancelled" in caplog.text


async def test_the_head_is_the_same_after_the_activation_was_lost(autojump_clock: MockClock) -> None:
    registry = Registry()
    handled: list[float] = []

    @registry.activation("door")
    @asynccontextmanager
    async def hinge(entity: Entity, nursery: trio.Nursery) -> AsyncGenerator[None]:
        async def break_sometimes() -> None:
            await trio.sleep(1.5)
            raise OSError("the hinge broke")

        nursery.start_soon(break_sometimes)
        yield

    @registry.handles(Open)
    async def open_door(command: Open) -> int:
        await trio.sleep(1)
        handled.append(command.seconds)
        return 0

    async with open_atomic_queues("memory://", registry=registry) as queues:
        await queues.send_many(Open("d", n) for n in range(6))
        with trio.fail_after(120):
            await queues.wait_settled()
        assert (await queues.statistics()).dead == 0
    assert handled == list(range(6))


async def test_an_activation_that_swallows_an_error_is_begun_anew(autojump_clock: MockClock) -> None:
    registry = Registry()
    begun: list[str] = []

    @registry.activation("door")
    @asynccontextmanager
    async def hinge(entity: Entity, nursery: trio.Nursery) -> AsyncGenerator[None]:
        begun.append(entity.id)
        try:
            if len(begun) == 1:
                nursery.start_soon(fail)
            yield
        except BaseException:  # as some users will write
            pass

    async def fail() -> None:
        raise OSError("the hinge broke")

    @registry.handles(Open)
    async def open_door(command: Open) -> int:
        await trio.sleep(1)
        return 7

    async with open_atomic_queues("memory://", registry=registry) as queues:
        with trio.fail_after(60):
            assert await queues.call(Open("d")) == 7
    assert begun == ["d", "d"]


async def test_a_drain_begins_no_handler_that_waits_for_a_running_slot(autojump_clock: MockClock) -> None:
    fleet = Fleet()
    async with fleet.sender() as sender, fleet.pod("second") as second:
        async with fleet.pod("first", limits=Limits(running=1)) as first:
            for ledger in "1234":
                await first.send(Note(ledger, int(ledger), 5))
            await trio.sleep(1)
            left = trio.current_time()
        assert trio.current_time() - left == pytest.approx(4)
        await second.wait_settled()
        for ledger in "1234":
            await fleet.check_ledger(sender, ledger, [int(ledger)])
    assert [turn.number for turn in fleet.starts if turn.pod == "first"] == [1]
    # The others were handed on at once and did not wait for the one that ran.
    assert len(fleet.starts) == 4


async def test_work_that_comes_while_an_entity_is_let_go_is_done(autojump_clock: MockClock) -> None:
    registry = Registry()

    @registry.activation("door")
    @asynccontextmanager
    async def hinge(entity: Entity) -> AsyncGenerator[None]:
        yield
        await trio.sleep(2)

    @registry.handles(Open)
    async def open_door(command: Open) -> int:
        return 7

    policy = EntityPolicy(idle_timeout=1)
    async with open_atomic_queues("memory://", registry=registry, entities={"door": policy}) as queues:
        await queues.call(Open("d"))
        await trio.sleep(2)  # idle, and its activation is being left
        began = trio.current_time()
        assert await queues.call(Open("d")) == 7
        assert trio.current_time() - began == pytest.approx(1)
