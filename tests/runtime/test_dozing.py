"""What may come between a task, a nap and a doze, and between an answer and who is woken by it."""

import contextvars
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import trio
import trio.lowlevel
import trio.testing
from sums import IDLE, Add, CountingServer, NestedAdd, awake, incarnation_of, pod, registry_of
from trio.testing import MockClock

from trioqueue import Command, Drain, Entity, EntityPolicy, Registry, command, entity_id, open_atomic_queues
from trioqueue.protocol.instrument import Instrument
from trioqueue.runtime.resting import Parking, Rest
from trioqueue.runtime.worker import NAP
from trioqueue.stores.contract import Empty
from trioqueue.stores.memory.store import trio_now_us
from trioqueue.testing import MemoryServer


@pytest.fixture
async def server() -> CountingServer:
    return CountingServer()


@command("wide")
class Run(Command[int]):
    wide_id: str = entity_id()
    number: int
    seconds: float = 0.0


def wide() -> tuple[Registry, list[tuple[int, float]]]:
    registry, begun = Registry(), list[tuple[int, float]]()

    @registry.handles(Run)
    async def run(command: Run) -> int:
        begun.append((command.number, trio.current_time()))
        await trio.sleep(command.seconds)
        return command.number

    return registry, begun


@pytest.mark.parametrize("warm", [False, True])
async def test_two_sends_of_one_moment_to_an_entity_whose_handlers_overlap(
    warm: bool, autojump_clock: MockClock
) -> None:
    """The second one's hint comes between the claim's answer and the worker's first step."""
    server = MemoryServer(trio_now_us)
    registry, begun = wide()
    policies = {"wide": EntityPolicy(overlap=4, idle_timeout=60)}
    async with (
        open_atomic_queues(server, registry=registry, entities=policies) as queues,
        open_atomic_queues(server, entities=policies) as sender,
    ):
        for number in range(20):  # Trio shuffles the two, so many times
            name = f"e{number}"
            if warm:
                await queues.call(Run(name, 0))
                await trio.sleep(0.1)
            begun.clear()
            at = trio.current_time()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(queues.send, Run(name, 1, 5.5))
                nursery.start_soon(sender.send, Run(name, 2, 5.5))
            await trio.sleep(5)
            assert sorted(number for number, _ in begun) == [1, 2]
            assert [begun_at - at for _, begun_at in begun] == [0, 0], (
                "one was begun with only at a heartbeat"
            )
            await queues.wait_settled()


@pytest.mark.parametrize("how", ["delayed", "keyed"])
async def test_a_send_of_this_moment_behind_one_that_claims_in_vain(
    how: str, server: CountingServer, autojump_clock: MockClock
) -> None:
    async with pod(server) as queues, open_atomic_queues(server) as sender:
        for number in range(20):
            name = f"e{number}"
            await queues.send(Add(name), key="k")
            await queues.wait_settled()
            await trio.sleep(0.1)
            async with trio.open_nursery() as nursery:
                if how == "keyed":
                    nursery.start_soon(lambda name=name: queues.send(Add(name), key="k"))  # type: ignore[misc]
                else:
                    nursery.start_soon(lambda name=name: queues.send(Add(name), delay=100))  # type: ignore[misc]
                nursery.start_soon(sender.send, Add(name))
            at = trio.current_time()
            while server.mailboxes[Entity("plain", name)].queue:  # noqa: ASYNC110
                await trio.sleep(0.01)
            assert trio.current_time() - at < 0.1, f"{number}: a heartbeat found it"


async def test_a_hint_behind_an_empty_claim_is_not_forgotten(
    server: CountingServer, autojump_clock: MockClock
) -> None:
    async with pod(server) as queues:
        await queues.call(Add("a"))
        await trio.sleep(NAP + 0.1)
        incarnation, entity = incarnation_of(queues), Entity("plain", "a")
        wish = incarnation.wish(entity)
        assert wish is not None
        answer = server.claim(incarnation.member, entity, wish.have, wish.fetch)
        assert isinstance(answer, Empty)
        at = trio.current_time()
        incarnation.take_claim(entity, answer)
        incarnation.wake(entity)  # behind it in one read: other senders' commands
        server.requests()
        await trio.testing.wait_all_tasks_blocked()
        assert trio.current_time() == at
        assert server.requests().get("claim") == 1, "it was told that there is work"


@attrs.define(eq=False)
class Pairs(Instrument):
    open: list[Entity] = attrs.field(factory=list)
    told: list[str] = attrs.field(factory=list)

    def claimed(self, entity: Entity) -> None:
        self.open.append(entity)
        self.told.append("claimed")

    def passivated(self, entity: Entity) -> None:
        self.open.remove(entity)
        self.told.append("passivated")

    def handed_off(self, entity: Entity) -> None:
        self.open.remove(entity)
        self.told.append("handed_off")


class Boom(BaseException):
    pass


@pytest.mark.parametrize("add", [Add, NestedAdd])
@pytest.mark.parametrize("rest", [0.1, NAP + 0.1])
@pytest.mark.parametrize("how", ["lease", "cancel", "raise", "drain", "idle", "crash"])
async def test_instruments_are_told_in_pairs(
    how: str, rest: float, add: Callable[..., Command[int]], server: CountingServer, autojump_clock: MockClock
) -> None:
    pairs = Pairs()

    @command("bomb")
    class Explode(Command):
        bomb_id: str = entity_id()

    registry = registry_of()

    @registry.handles(Explode)
    async def explode(command: Explode) -> None:
        raise Boom

    try:
        with trio.CancelScope() as scope:
            async with pod(server, instruments=[pairs], registry=registry) as queues:
                await queues.call(add("a"))
                await queues.call(add("b"))
                await trio.sleep(rest)
                assert len(pairs.open) == 2
                if how == "lease":
                    incarnation_of(queues).end_lease("test")
                    await trio.lowlevel.checkpoint()
                    await trio.testing.wait_all_tasks_blocked()
                    assert not pairs.open
                elif how == "cancel":
                    scope.cancel()
                    await trio.lowlevel.checkpoint()
                elif how == "raise":
                    raise OSError
                elif how == "idle":
                    await trio.sleep(IDLE + 1)
                    assert not pairs.open
                elif how == "crash":
                    await queues.send(Explode("x"))
                    await trio.sleep(1)
    except (OSError, BaseExceptionGroup, Boom):
        pass
    assert [one for one in pairs.open if one.type != "bomb"] == []


async def test_a_rest_that_was_abandoned_is_in_no_parking(
    server: CountingServer, autojump_clock: MockClock
) -> None:
    async with pod(server) as queues:
        await queues.call(Add("a"))
        await trio.testing.wait_all_tasks_blocked()
        old = incarnation_of(queues)
        old.end_lease("test")
        assert [len(parking._until) for parking in old._parkings.values()] == [0]


@pytest.mark.parametrize("add", [Add, NestedAdd])
async def test_idle_timeout_begins_when_it_is_kept_no_more(
    add: Callable[..., Command[int]], server: CountingServer, autojump_clock: MockClock
) -> None:
    async with pod(server) as queues:
        await queues.call(add("a"))
        await trio.sleep(NAP + 0.1)
        entity = Entity(add("a").__trioqueue__.entity, "a")
        incarnation_of(queues).keep([entity], 5.0)
        await trio.sleep(5 + IDLE - 0.1)
        assert await awake(queues) == 1
        await trio.sleep(0.2)
        assert await awake(queues) == 0


seen: contextvars.ContextVar[str] = contextvars.ContextVar("seen", default="")


async def test_what_a_sender_has_in_its_context_is_not_in_the_handlers(
    server: CountingServer, autojump_clock: MockClock
) -> None:
    found: list[str] = []
    registry = Registry()

    @registry.handles(Run)
    async def run(command: Run) -> int:
        found.append(seen.get())
        return 0

    async with open_atomic_queues(server, registry=registry) as queues:
        for name in ("one", "two"):
            seen.set(name)
            await queues.call(Run("a", 1))
            await trio.testing.wait_all_tasks_blocked()
    assert found[0] == found[1]


async def test_what_is_known_of_many_cancelled_commands_is_not_copied(
    server: CountingServer, autojump_clock: MockClock
) -> None:
    async with pod(server) as queues:
        await queues.call(Add("a"))
        turns = incarnation_of(queues)._workers[Entity("plain", "a")].turns
        none = turns.cancels
        turns.cancel("first")
        noted = turns.cancels
        turns.cancel("second")
        assert turns.cancels is noted
        assert noted == {"first", "second"}
        turns.forget_cancels(["first", "third"])
        assert turns.cancels is noted
        assert noted == {"second"}
        assert await queues.call(Add("a")) == 2
        assert turns.cancels is none


def happen(what: str, server: MemoryServer, incarnation: Any, entity: Entity) -> None:
    """Has something happen to an entity that this incarnation has."""
    worker = incarnation._workers[entity]
    match what:
        case "keep":
            incarnation.keep([entity], 3.0)
        case "hint":
            worker.hint()
        case "look":
            worker.look()
        case "drain":
            trio.lowlevel.spawn_system_task(incarnation.drain)
        case "lease":
            incarnation.end_lease("test")
        case "pressed":
            incarnation.pressed = True
            incarnation._make_room()
        case "pause":
            server.pause(entity, "test")
        case "wish" if incarnation.wish(entity) is not None:
            incarnation.take_claim(entity, server.claim(incarnation.member, entity))


@pytest.mark.parametrize("step", [0, 1, 2, 3])
@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("what", ["keep", "hint", "look", "drain", "lease", "pressed", "pause", "wish"])
async def test_anything_while_the_nursery_is_left(
    step: int,
    before: bool,
    what: str,
    server: CountingServer,
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It happens at the n-th question whether it may doze, from the nap to the doze; with 3, when it dozes."""
    async with pod(server) as other, pod(server, name="napper") as queues:
        await queues.call(NestedAdd("a"))
        entity = Entity("nested", "a")
        incarnation = next(one for one in map(incarnation_of, (queues, other)) if entity in one._workers)
        worker = incarnation._workers[entity]
        may_doze, asked = type(worker)._may_doze, list[int]()

        def watched(self: Any) -> bool:
            # Between the last question and the doze nothing can come: that is one step of the task.
            now = self is worker and len(asked) == step
            if now and before:
                happen(what, server, incarnation, entity)
            answer: bool = may_doze(self)
            if now and not before and step == 0:
                happen(what, server, incarnation, entity)
            asked.extend([1] if self is worker else [])
            return answer

        monkeypatch.setattr(type(worker), "_may_doze", watched)
        await trio.sleep(NAP + 0.1)
        if step == 3:
            happen(what, server, incarnation, entity)
        await trio.sleep(0.3)
        if what == "pause":
            server.pause(entity, "")
        with trio.fail_after(2 * IDLE):
            assert await other.call(NestedAdd("a")) == 2
        await trio.sleep(3 + 2 * IDLE)
        for one in (incarnation, incarnation_of(other), incarnation_of(queues)):
            assert one.awake() == 0
            assert not one._ended or not one._workers


async def test_the_parking_of_a_rest_that_is_entered_again_keeps_its_order(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    class Riser:
        started = False

        def rise(self, cause: object) -> None:
            risen.append(trio.current_time())

    risen: list[float] = []
    parking = Parking(5.0)
    nursery.start_soon(parking.run)
    many = [Rest(Riser()) for _ in range(1000)]  # type: ignore[arg-type]
    for rest in many:
        rest.doze(parking)
    await trio.sleep(2)
    for rest in many[::2]:
        assert rest.reserve()
        assert not rest.wake()
        rest.take_claim("x")
        rest.doze(parking)
    await trio.sleep(10)
    assert not parking._until
    assert sorted(risen[500:]) == [5.0] * 500 + [7.0] * 500


@pytest.mark.parametrize(("pause", "tasks"), [(0.5, [0, 1, 1, 1]), (1.5, [0, 0, 0, 0])])
async def test_who_is_woken_soon_keeps_its_task_and_nobody_else(
    pause: float, tasks: list[int], server: CountingServer, autojump_clock: MockClock
) -> None:
    """A nap counts as rest: who had to doze after one has napped in vain, and does not nap again."""
    async with pod(server) as queues:
        incarnation, found = incarnation_of(queues), list[int]()
        for _ in tasks:
            await queues.call(Add("a"))
            await trio.sleep(pause)
            found.append(len(incarnation.busy()))
    assert found == tasks


async def test_instruments_are_told_how_long_each_handler_took_though_they_overlap(
    autojump_clock: MockClock,
) -> None:
    told = dict[str, float]()

    class Durations(Instrument):
        def handled(
            self, entity: Entity, command: str, command_id: str, outcome: str, waited: float, duration: float
        ) -> None:
            told[command_id] = duration

    registry, _ = wide()
    policies = {"wide": EntityPolicy(overlap=2)}
    async with open_atomic_queues(
        "memory://", registry=registry, entities=policies, instruments=[Durations()]
    ) as queues:
        slow, quick = await queues.send_many([Run("a", 1, 3.0), Run("a", 2, 1.0)])
        await queues.wait_settled()
    assert told == {slow.command_id: pytest.approx(3), quick.command_id: pytest.approx(1)}


async def test_a_drain_does_not_warn_of_who_only_naps(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    registry, _ = wide()
    async with open_atomic_queues("memory://", registry=registry, drain=Drain(soft=0.0)) as queues:
        for _ in range(2):
            await queues.call(Run("a", 1))
            await trio.sleep(0.1)
        assert incarnation_of(queues).busy() == [Entity("wide", "a")]
    assert "drain_cut_short" not in [getattr(record, "event", "") for record in caplog.records]
