"""Rests: what they cost, what ends them, and that nothing is lost on the way between a task and a doze."""

import attrs
import pytest
import trio
import trio.testing
from sums import IDLE, POLICIES, Add, Adding, CountingServer, NestedAdd, awake, incarnation_of, pod, tasks
from trio.testing import MockClock

from trioqueue import Entity, EntityPolicy, Lease, Limits, open_atomic_queues
from trioqueue.runtime.resting import OVER, Parking, Rest
from trioqueue.runtime.worker import NAP
from trioqueue.stores.contract import NotClaimed

BOTH = pytest.mark.parametrize("add", [Add, NestedAdd])


@pytest.fixture
async def server() -> CountingServer:
    return CountingServer()


# -------------------------------------------------------------------------------- what it costs
@BOTH
async def test_a_command_of_this_pod_costs_two_requests(
    add: Adding, server: CountingServer, autojump_clock: MockClock
) -> None:
    async with pod(server) as queues:
        await trio.testing.wait_all_tasks_blocked()  # it looks for work as it begins, and has found none
        for rest in (0.0, 0.1, NAP + 0.1, IDLE + 0.1):  # cold, napping, dozing, and cold again
            await trio.sleep(rest)
            server.requests()
            await queues.call(add("a"))
            await trio.testing.wait_all_tasks_blocked()
            assert server.requests() == {"send": 1, "commit": 1}, rest


async def test_a_worker_with_nothing_open_has_no_task(
    server: CountingServer, autojump_clock: MockClock
) -> None:
    async with pod(server) as queues:
        await queues.call(Add("a"))
        await trio.testing.wait_all_tasks_blocked()
        assert tasks(queues) == set()
        assert await awake(queues) == 1


async def test_a_worker_keeps_its_nursery_for_a_moment(
    server: CountingServer, autojump_clock: MockClock
) -> None:
    async with pod(server) as queues:
        await queues.call(NestedAdd("a"))
        await trio.sleep(NAP - 0.01)
        assert tasks(queues) == {"nested/a"}
        await trio.sleep(0.02)
        assert tasks(queues) == set()
        assert await awake(queues) == 1


async def test_a_task_of_the_nursery_lives_as_long_as_the_entity_is_awake(
    server: CountingServer, autojump_clock: MockClock
) -> None:
    async with pod(server) as queues:
        await queues.call(NestedAdd("a", task_seconds=1e6))
        await trio.sleep(IDLE - 0.5)
        assert tasks(queues) == {"nested/a"}, "it does not doze"
        assert await awake(queues) == 1
        await trio.sleep(NAP + 0.6)
        assert await awake(queues) == 0
        await queues.call(NestedAdd("b", task_seconds=3))
        await trio.sleep(3.5 + NAP)
        assert tasks(queues) == {"nested/b"}
        assert await queues.call(NestedAdd("b")) == 2
        await trio.sleep(NAP + 0.1)
        assert tasks(queues) == set(), "its task has ended meanwhile"


# -------------------------------------------------------------------------------- what ends it
@BOTH
@pytest.mark.parametrize("seconds", [0.5, NAP, IDLE])
async def test_it_rests_for_the_idle_timeout(
    seconds: float, add: Adding, server: CountingServer, autojump_clock: MockClock
) -> None:
    policies = {name: EntityPolicy(idle_timeout=seconds) for name in POLICIES}
    async with pod(server, entities=policies) as queues:
        for _ in range(3):  # each command begins the rest anew
            await queues.call(add("a"))
            await trio.sleep(seconds - 0.01)
        assert await awake(queues) == 1
        await trio.sleep(0.02)
        assert await awake(queues) == 0
        assert await queues.call(add("a")) == 4


@BOTH
@pytest.mark.parametrize("rest", [0.1, NAP + 0.1])
async def test_a_hint_ends_it(
    rest: float, add: Adding, server: CountingServer, autojump_clock: MockClock
) -> None:
    async with pod(server) as queues, open_atomic_queues(server) as sender:
        assert await queues.call(add("a")) == 1
        await trio.sleep(rest)
        with trio.fail_after(0.1):
            assert await sender.call(add("a")) == 2
            assert await sender.call(add("a")) == 3


@BOTH
async def test_work_whose_hint_was_lost_is_found_by_the_heartbeat(
    add: Adding, server: CountingServer, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pod(server) as queues, open_atomic_queues(server) as sender:
        await queues.call(add("a"))
        await trio.sleep(NAP + 0.1)
        with monkeypatch.context() as lost:
            lost.setattr(server, "_hint", lambda *_: None)
            await sender.send(add("a"))
        with trio.fail_after(Lease().heartbeat + 0.1):
            await sender.wait_settled()
        assert await queues.call(add("a")) == 3


@BOTH
@pytest.mark.parametrize("rest", [0.1, NAP + 0.1])
async def test_a_drain_hands_on_what_rests(
    rest: float, add: Adding, server: CountingServer, autojump_clock: MockClock
) -> None:
    async with pod(server) as other:
        async with pod(server) as queues:
            assert await queues.call(add("a")) == 1
            await trio.sleep(rest)
        assert not server.mailboxes, "it is let go of before the pod has left"
        assert await other.call(add("a")) == 2


@BOTH
@pytest.mark.parametrize("rest", [0.1, NAP + 0.1])
async def test_a_lease_that_ends_meanwhile_ends_it_all(
    rest: float, add: Adding, server: CountingServer, autojump_clock: MockClock
) -> None:
    async with pod(server) as queues:
        for name in "abc":
            await queues.call(add(name))
        await trio.sleep(rest)
        old = incarnation_of(queues)
        old.end_lease("the test says so")
        assert old.awake() == len(tasks(queues) if rest < NAP else ())
        await trio.sleep(1)
        assert incarnation_of(queues) is not old
        assert await queues.call(add("a")) == 2


@BOTH
async def test_it_yields_its_place_to_what_has_work(
    add: Adding, server: CountingServer, autojump_clock: MockClock
) -> None:
    async with pod(server, limits=Limits(owned=1)) as queues:
        await queues.call(add("a"))
        await trio.sleep(NAP + 0.1)
        with trio.fail_after(2 * Lease().heartbeat + 0.1):
            assert await queues.call(add("b")) == 1


@BOTH
async def test_a_claim_that_fails_leaves_it_at_rest(
    add: Adding, server: CountingServer, autojump_clock: MockClock
) -> None:
    async with pod(server) as queues:
        await queues.call(add("a"))
        await trio.sleep(NAP + 0.1)
        incarnation, entity = incarnation_of(queues), Entity(add("a").__trioqueue__.entity, "a")
        assert incarnation.wish(entity) is not None
        assert incarnation.wish(entity) is None, "one at a time"
        await trio.sleep(2 * IDLE)
        assert await awake(queues) == 1, "a claim is on its way"
        incarnation.take_claim(entity, NotClaimed())
        await trio.sleep(IDLE - 0.1)
        assert await awake(queues) == 1
        assert await queues.call(add("a")) == 2
        await trio.sleep(IDLE + NAP)
        assert await awake(queues) == 0


async def test_a_hint_while_the_nursery_is_left_is_not_lost(
    server: CountingServer, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pod(server) as queues:
        await trio.testing.wait_all_tasks_blocked()  # it looks for work as it begins, and has found none
        await queues.call(NestedAdd("a"))
        worker = incarnation_of(queues)._workers[Entity("nested", "a")]
        may_doze = worker._may_doze

        def hinted_behind_its_back() -> bool:
            answer: bool = may_doze()
            if answer and trio.current_time() >= began + NAP and not hints:
                hints.append("w")
                worker.hint()
            return answer

        began, hints = trio.current_time(), list[str]()
        monkeypatch.setattr(type(worker), "_may_doze", lambda self: hinted_behind_its_back())
        server.requests()
        await trio.sleep(NAP + 0.1)
        assert hints == ["w"]
        assert server.requests() == {"claim": 1}, "it looks for the work that it was told of"


# -------------------------------------------------------------------------------- the parts
@attrs.define(eq=False)
class Riser:
    """Stands for a worker without a task."""

    name: str
    risen: list[tuple[str, object, float]]
    started: bool = False

    def rise(self, cause: object) -> None:
        self.risen.append((self.name, cause, trio.current_time()))


async def test_rests_end_in_the_order_in_which_they_began(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    risen: list[tuple[str, object, float]] = []
    parking = Parking(5.0)
    nursery.start_soon(parking.run)
    rests = {name: Rest(Riser(name, risen)) for name in "abc"}  # type: ignore[arg-type]
    for rest in rests.values():
        rest.doze(parking)
        await trio.sleep(1)
    assert rests["a"].wake()
    assert not rests["a"].wake()
    rests["a"].doze(parking)
    await trio.sleep(20)
    assert risen == [("a", None, 3), ("b", OVER, 6), ("c", OVER, 7), ("a", OVER, 8)]
    rests["b"].doze(parking)  # the task of the parking waits for one again
    await trio.sleep(6)
    assert risen[4:] == [("b", OVER, 28)]
    assert repr(parking) == "<Parking 0 for 5 s each>"
    assert repr(rests["b"]) == "<Rest at work>"
