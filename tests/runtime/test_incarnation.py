"""What finds work although nobody tells of it."""

import random
from itertools import pairwise

import pytest
import trio
from fleet import Fleet, Note
from trio.testing import MockClock

from trioqueue import (
    Command,
    Entity,
    EntityPolicy,
    Lease,
    Limits,
    Registry,
    StoreUnavailable,
    command,
    entity_id,
    open_atomic_queues,
)
from trioqueue.stores.contract import PAGE, Member
from trioqueue.stores.memory.store import MemoryStore

HEARTBEAT = Lease().heartbeat


@command("door")
class Open(Command[int]):
    door_id: str = entity_id()
    seconds: float = 0


async def test_without_any_hint_everything_drains_within_heartbeats(autojump_clock: MockClock) -> None:
    fleet = Fleet()
    fleet.server.deaf = True
    ledgers = [str(n) for n in range(20)]
    async with fleet.sender() as sender, fleet.pod("first"), fleet.pod("second"):
        for number in range(3):
            began = trio.current_time()
            await sender.send_many(Note(ledger, number) for ledger in ledgers)
            await sender.wait_settled()
            # One heartbeat for the notes, one for the copies that they send.
            assert trio.current_time() - began <= 2 * HEARTBEAT + 0.2
        for ledger in ledgers:
            await fleet.check_ledger(sender, ledger, [0, 1, 2])
        assert {turn.pod for turn in fleet.starts} == {"first", "second"}


async def test_more_entities_than_a_report_holds_are_found_without_hints(autojump_clock: MockClock) -> None:
    fleet = Fleet()
    fleet.server.deaf = True
    ledgers = [str(n) for n in range(2 * PAGE + 50)]
    async with fleet.sender() as sender:
        async with fleet.pod():
            await sender.send_many(Note(ledger, 1) for ledger in ledgers)
            began = trio.current_time()
            await sender.wait_settled()
            assert trio.current_time() - began <= 4 * HEARTBEAT
        await fleet.check_ledger(sender, ledgers[-1], [1])


async def test_a_command_whose_cancellation_was_not_heard_is_cancelled_by_the_next_heartbeat(
    autojump_clock: MockClock,
) -> None:
    registry = Registry()
    ended: list[float] = []

    @registry.handles(Open)
    async def open_door(command: Open) -> int:
        try:
            await trio.sleep(command.seconds)
        finally:
            ended.append(trio.current_time())
        return 0

    fleet = Fleet()
    fleet.server.deaf = True
    async with open_atomic_queues(fleet.server, registry=registry), fleet.sender() as sender:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(sender.call, Open("d", 1000))
                await trio.sleep(3)
                cancelled = trio.current_time()
                scope.cancel()
        await sender.wait_settled()
        assert ended[0] - cancelled <= HEARTBEAT + 0.1


async def test_requests_that_are_heard_twice_stand_once(autojump_clock: MockClock) -> None:
    fleet = Fleet()
    fleet.server.repeats = True
    numbers = [1, -2, 3, 4, -5, 6]
    async with fleet.sender() as sender, fleet.pod("second"):
        async with fleet.pod("first") as first:
            await sender.send_many(Note("1", number, 0.3) for number in numbers)
            await first.send(Note("1", 7))
            await trio.sleep(0.7)
        with trio.fail_after(60):
            await sender.wait_settled()
        fleet.audit()
        await fleet.check_ledger(sender, "1", [*numbers, 7])
    assert fleet.server.commits > 8


@pytest.mark.parametrize("seed", range(5))
async def test_answers_that_are_lost_with_the_lease_double_nothing(
    seed: int, autojump_clock: MockClock
) -> None:
    fleet = Fleet(seed)
    numbers = list(range(8))
    async with fleet.sender() as sender, fleet.pod("first"), fleet.pod("second"):
        fleet.server.loses = 0.3
        await sender.send_many(Note("1", number) for number in numbers)
        with trio.fail_after(600):
            await sender.wait_settled()
        fleet.audit()
        await fleet.check_ledger(sender, "1", numbers)
        assert fleet.server.lost >= 3
        fleet.server.loses = 0


async def test_an_entity_that_is_owned_without_a_worker_is_found(autojump_clock: MockClock) -> None:
    fleet = Fleet()
    async with fleet.pod() as queues:
        await queues.call(Note("1", 1))
        await queues.wait_settled()
        assert queues._supervisor is not None
        incarnation = queues._supervisor.incarnation
        assert incarnation is not None
        (worker,) = [worker for entity, worker in incarnation._workers.items() if entity.type == "ledger"]
        del incarnation._workers[worker.entity]  # as if the answer to its claim had been lost
        await trio.sleep(3 * HEARTBEAT)
        assert worker.entity in incarnation._workers


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Collects the sizes of the pages of what has work, which take a while to be read."""
    sizes, wakes = list[int](), MemoryStore.wakes

    async def note_wakes(self: MemoryStore, member: Member, offset: int) -> tuple[Entity, ...]:
        page = await wakes(self, member, offset)
        sizes.append(len(page))
        await trio.sleep(0.02)
        return page

    monkeypatch.setattr(MemoryStore, "wakes", note_wakes)
    return sizes


async def test_a_look_finds_all_that_has_work_though_what_is_found_soon_has_none(
    autojump_clock: MockClock, pages: list[int]
) -> None:
    """A page that is read after those before it were woken lacks as many as have ended meanwhile."""
    fleet = Fleet()
    fleet.server.deaf = True
    doors = [str(n) for n in range(3 * PAGE)]
    registry = Registry()
    opened: list[str] = []

    @registry.handles(Open)
    async def open_door(command: Open) -> int:
        opened.append(command.door_id)
        return 0

    async with open_atomic_queues(fleet.server, registry=registry) as queues, fleet.sender() as sender:
        assert queues._supervisor is not None
        incarnation = queues._supervisor.incarnation
        assert incarnation is not None
        await trio.sleep(0.5 * HEARTBEAT)  # the next report is half a heartbeat away
        await sender.send_many(Open(door) for door in doors)
        await trio.sleep(0.1 * HEARTBEAT)
        assert not opened
        incarnation.look_soon()
        await trio.sleep(0.2 * HEARTBEAT)
        assert set(opened) == set(doors)


async def test_a_pod_that_begins_looks_for_what_it_was_not_told_of(
    autojump_clock: MockClock, pages: list[int]
) -> None:
    async with Fleet().pod():
        await trio.sleep(0.1 * HEARTBEAT)
        assert pages == [0]


async def test_a_look_that_failed_is_made_again_with_the_next_heartbeat(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [True, False]  # whether the store answers, the last one first

    async def answer(self: MemoryStore, member: Member, offset: int) -> tuple[Entity, ...]:
        if not answers.pop():
            raise StoreUnavailable("memory://", "as if")
        return ()

    monkeypatch.setattr(MemoryStore, "wakes", answer)
    async with Fleet().pod():
        await trio.sleep(0.1 * HEARTBEAT)
        assert answers == [True]
        await trio.sleep(3 * HEARTBEAT)  # a third look would find no answer
        assert not answers


async def test_a_heartbeat_reads_one_page_of_what_is_owned_however_much_that_is(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counts differ for ever while entities come and go, so what follows from it may not grow with them."""
    random.seed(1)
    fleet = Fleet()
    read, owned = list[float](), fleet.server.owned

    def note_owned(member: Member, offset: int) -> tuple[Entity, ...]:
        read.append(trio.current_time())
        return owned(member, offset)

    monkeypatch.setattr(fleet.server, "owned", note_owned)
    entities = {entity_type: EntityPolicy(idle_timeout=1000) for entity_type in ("ledger", "copy")}
    async with fleet.pod(entities=entities) as queues:
        await queues.send_many(Note(str(n), 1) for n in range(PAGE + 50))
        await queues.wait_settled()
        assert queues._supervisor is not None
        incarnation = queues._supervisor.incarnation
        assert incarnation is not None
        workers = dict(incarnation._workers)
        incarnation._workers.clear()  # as if the answers to all claims had been lost
        await trio.sleep(60 * HEARTBEAT)
        assert incarnation._workers.keys() == workers.keys(), "the first and the last among them"
    assert len(read) >= 3
    assert all(later - earlier >= 0.9 * HEARTBEAT for earlier, later in pairwise(read))


async def test_a_full_pod_takes_what_waits_as_soon_as_another_entity_is_let_go(
    autojump_clock: MockClock,
) -> None:
    registry = Registry()

    @registry.handles(Open)
    async def open_door(command: Open) -> int:
        await trio.sleep(command.seconds)
        return 0

    async with open_atomic_queues(
        "memory://",
        registry=registry,
        limits=Limits(owned=2),
        entities={"door": EntityPolicy(idle_timeout=1000)},
    ) as queues:
        await queues.send_many([Open("a", 20), Open("b", 20), Open("c")])
        await trio.sleep(10)
        assert (await queues.statistics()).ready == 1  # the two that are busy are left alone
        with trio.fail_after(10 + 3 * HEARTBEAT):
            await queues.wait_settled()


async def test_a_silent_pod_is_told_of(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    fleet = Fleet()
    async with fleet.pod("second") as second:
        with trio.CancelScope() as kill:
            async with fleet.pod("first") as first:
                await first.send(Note("1", 1, 100))
                fleet.server.unreachable.add(first._store.client)
                kill.cancel()
                await trio.sleep_forever()
        await trio.sleep(Lease().ttl + Lease().grace + 2 * HEARTBEAT)
        assert "was silent: its entities were handed on" in caplog.text
        assert (await second.statistics()).pods == 1
        await second.wait_settled()
        await fleet.check_ledger(second, "1", [1])


async def test_the_repr_tells_how_many_it_serves(autojump_clock: MockClock) -> None:
    fleet = Fleet()
    async with fleet.pod() as queues:
        await queues.call(Note("1", 1))
        await queues.wait_settled()
        assert queues._supervisor is not None
        assert "2 workers" in repr(queues._supervisor.incarnation)
