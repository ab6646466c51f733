"""The front door: what cancellation leaves, what is refused, what is read."""

import uuid
from typing import Any

import pytest
import trio
from fleet import AtStep, Copies, Fleet, Ledger, Note
from trio.testing import MockClock

from trioqueue import (
    AtomicQueues,
    BadEntityId,
    Command,
    EntityPolicy,
    NotRegistered,
    PayloadTooLarge,
    Registry,
    command,
    entity_id,
    open_atomic_queues,
)

MOST_STEPS = 40


@command("note")
class Post(Command):
    to: Any = entity_id()
    text: str = ""


async def _use(queues: AtomicQueues, verb: str) -> None:
    match verb:
        case "send":
            await queues.send(Note("1", 1))
        case "send_many":
            await queues.send_many([Note("1", 1), Note("2", 1)])
        case "call":
            await queues.call(Note("1", 1, 0.2))
        case "state":
            await queues.state(Ledger, "1")
        case "statistics":
            await queues.statistics()
        case "wait_settled":
            await queues.send(Note("1", 1))
            await queues.wait_settled()


async def _cancel_at(verb: str, step: int, *, remote: bool) -> bool:
    fleet = Fleet()
    scope = trio.CancelScope()

    async def use() -> None:
        with scope:
            await _use(queues, verb)

    async with fleet.pod() as pod, fleet.sender() as sender:
        queues = sender if remote else pod
        with AtStep("the caller", step, scope.cancel) as cut:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(use, name="the caller")
        with trio.fail_after(60):
            await sender.wait_settled()
        await trio.sleep(1)
        fleet.audit()
        assert not queues._receiver._waiting
        for ledger in ("1", "2"):
            numbers = (await sender.state(Ledger, ledger)).numbers
            assert numbers in ([], [1])
            assert (await sender.state(Copies, ledger)).numbers == numbers
        await pod.call(Note("1", 2))  # the entity and its pod are well
    return cut.fired


@pytest.mark.parametrize("remote", [False, True], ids=["pod", "sender"])
@pytest.mark.parametrize("verb", ["send", "send_many", "call", "state", "statistics", "wait_settled"])
async def test_cancelled_at_any_checkpoint(verb: str, remote: bool, autojump_clock: MockClock) -> None:
    step = 1
    while await _cancel_at(verb, step, remote=remote):
        step += 1
        assert step < MOST_STEPS
    assert step > 1


async def test_send_many_of_nothing(autojump_clock: MockClock) -> None:
    async with open_atomic_queues("memory://") as queues:
        assert await queues.send_many([]) == []


async def test_send_many_with_a_bad_command_sends_none(autojump_clock: MockClock) -> None:
    async with open_atomic_queues("memory://") as queues:
        with pytest.raises(BadEntityId):
            await queues.send_many([Post("ann"), Post("")])
        assert (await queues.statistics()).with_work == 0


async def test_what_is_no_command_is_refused(autojump_clock: MockClock) -> None:
    async with open_atomic_queues("memory://") as queues:
        with pytest.raises(NotRegistered):
            await queues.send("hello")  # type: ignore[arg-type]
        with pytest.raises(NotRegistered):
            await queues.state(int, "acc-1")


async def test_a_command_that_is_too_large_is_refused(autojump_clock: MockClock) -> None:
    async with open_atomic_queues("memory://", entities={"note": EntityPolicy(max_payload=1000)}) as queues:
        with pytest.raises(PayloadTooLarge) as caught:
            await queues.send(Post("ann", "x" * 1000))
        assert caught.value.limit == 1000
        assert caught.value.size > 1000
        assert (await queues.statistics()).with_work == 0


async def test_an_id_is_the_same_whatever_its_type(autojump_clock: MockClock) -> None:
    async with open_atomic_queues("memory://") as queues:
        number = uuid.UUID("12345678-1234-5678-1234-567812345678")
        assert (await queues.send(Post(7))).entity_id == (await queues.send(Post("7"))).entity_id == "7"
        assert (await queues.send(Post(number))).entity_id == (await queues.send(Post(str(number)))).entity_id


async def test_command_ids_are_unique(autojump_clock: MockClock) -> None:
    fleet = Fleet()
    async with fleet.sender() as one, fleet.sender() as two:
        receipts = [await queues.send(Post("ann")) for queues in (one, two, one, two)]
    assert len({receipt.command_id for receipt in receipts}) == 4


async def test_a_call_whose_time_is_over_already_starts_nothing(autojump_clock: MockClock) -> None:
    fleet = Fleet()
    async with fleet.pod() as queues:
        with trio.CancelScope(deadline=trio.current_time() - 1) as scope:
            await queues.call(Note("1", 1))
        assert scope.cancelled_caught
        await queues.wait_settled()
    assert fleet.starts == []


async def test_a_call_to_a_pod_that_dies_is_answered_by_another(autojump_clock: MockClock) -> None:
    fleet = Fleet()
    answers: list[int] = []

    async def call() -> None:
        answers.append(await sender.call(Note("1", 1, 5)))

    async with fleet.sender() as sender, trio.open_nursery() as nursery:
        with trio.CancelScope() as kill:
            async with fleet.pod("first") as first:
                nursery.start_soon(call)
                await trio.sleep(1)
                fleet.server.unreachable.add(first._store.client)
                kill.cancel()
                await trio.sleep_forever()
        async with fleet.pod("second"):
            with trio.fail_after(20):
                await sender.wait_settled()
        await fleet.check_ledger(sender, "1", [1])
    assert answers == [1]


async def test_wait_settled_waits_for_children_too(autojump_clock: MockClock) -> None:
    fleet = Fleet()
    async with fleet.pod() as queues:
        await queues.send(Note("1", 1, 3))
        await queues.wait_settled()
        assert (await queues.state(Copies, "1")).numbers == [1]


async def test_serve_waits_until_it_is_cancelled(autojump_clock: MockClock) -> None:
    fleet = Fleet()
    async with fleet.pod() as queues:
        with trio.move_on_after(30) as scope:
            await queues.serve()
        assert scope.cancelled_caught


async def test_the_repr_tells_whether_they_are_open(autojump_clock: MockClock) -> None:
    async with open_atomic_queues("memory://", registry=Registry()) as queues:
        assert repr(queues).startswith("<AtomicQueues open on <MemoryStore")
    assert repr(queues).startswith("<AtomicQueues closed")
