"""Watching a fleet: what is told, to whom, and what is lost; and instruments, which are told the same here."""

import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import pytest
import trio
from redis_servers import RedisServer
from trio.testing import MockClock

from trioqueue import (
    AtomicQueues,
    BadDeclaration,
    CallFailed,
    Closed,
    Command,
    CommandDead,
    CommandFailed,
    CommandHandled,
    Context,
    Entity,
    EntityAsleep,
    EntityAwake,
    EntityPaused,
    EntityPolicy,
    Event,
    EventsMissed,
    Instrument,
    Query,
    Registry,
    Rejected,
    Rejection,
    Retry,
    StoreUnavailable,
    command,
    entity_id,
    open_atomic_queues,
    query,
)
from trioqueue.messages.codec import Codec
from trioqueue.messages.event import event_from_wire, event_to_wire
from trioqueue.runtime import listening
from trioqueue.runtime.broadcast import MOST
from trioqueue.runtime.incarnation import Incarnation
from trioqueue.runtime.listening import Listeners
from trioqueue.stores.memory.server import MemoryServer
from trioqueue.stores.memory.store import MemoryStore, trio_now_us

POLICIES = {"lamp": EntityPolicy(idle_timeout=2, retry=Retry(attempts=2, wait_first=1, jitter=False))}


@command("lamp")
class Switch(Command[str]):
    lamp_id: str = entity_id()
    deed: str = ""


@command("door")
class Open(Command):
    door_id: str = entity_id()


@query("lamp")
class Look(Query[int]):
    lamp_id: str = entity_id()


@attrs.define
class Broken(Rejection):
    pass


def new_registry() -> Registry:
    registry = Registry()

    @registry.handles(Switch)
    async def switch(command: Switch, context: Context) -> str:
        match command.deed:
            case "fail once" if context.attempt == 1:
                raise OSError("secret")
            case "fail":
                raise OSError("secret")
            case "reject":
                raise Broken
            case "send":
                context.send(Open("a"))
                context.send(Open("b"))
            case "wait":
                await trio.sleep(3)
        return "on"

    @registry.handles(Open)
    async def open_(command: Open) -> None:
        pass

    @registry.handles(Look)
    async def look(command: Look) -> int:
        raise OSError("it is dark")

    return registry


class Watcher:
    """Reads events in the background."""

    def __init__(self) -> None:
        self.seen: list[Event] = []

    async def watch(
        self, queues: AtomicQueues, *types: str, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        async with queues.open_events(*types) as events:
            task_status.started()
            async for event in events:
                self.seen.append(event)

    def kinds(self) -> list[str]:
        return [type(event).__name__ for event in self.seen]


@asynccontextmanager
async def watching(queues: AtomicQueues, *types: str) -> AsyncGenerator[Watcher]:
    watcher = Watcher()
    async with trio.open_nursery() as nursery:
        await nursery.start(watcher.watch, queues, *types)
        yield watcher
        await trio.sleep(0.2)  # what is on its way
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def fleet(server: MemoryServer | None = None) -> AsyncGenerator[tuple[AtomicQueues, AtomicQueues]]:
    """Opens a pod and somebody who only sends and watches."""
    server = server or MemoryServer(trio_now_us)
    async with (
        open_atomic_queues(server, registry=new_registry(), name="pod", entities=POLICIES) as pod,
        open_atomic_queues(server) as sender,
    ):
        yield pod, sender


# ------------------------------------------------------------------------------------ events
async def test_the_life_of_an_entity(autojump_clock: MockClock) -> None:
    async with fleet() as (_, sender), watching(sender) as watcher:
        receipt = await sender.send(Switch("a", "wait"))
        await trio.sleep(10)
        awake, handled, asleep = watcher.seen
        assert awake == EntityAwake("pod", "lamp", "a")
        assert isinstance(handled, CommandHandled)
        assert attrs.evolve(handled, waited=0.0, duration=0.0) == CommandHandled(
            "pod", "lamp", "a", "switch", receipt.command_id, "done", 0.0, 0.0
        )
        assert handled.duration == pytest.approx(3)
        assert handled.waited == pytest.approx(0, abs=0.1)
        assert asleep == EntityAsleep("pod", "lamp", "a", idle=True)


async def test_how_commands_end(autojump_clock: MockClock) -> None:
    async with fleet() as (_, sender), watching(sender) as watcher:
        await sender.call(Switch("a", "fail once"))
        with pytest.raises(Rejected):
            await sender.call(Switch("a", "reject"))
        with pytest.raises(CallFailed):
            await sender.call(Switch("a", "fail"))
        with pytest.raises(CallFailed):
            await sender.call(Look("a"))
        await sender.send(Switch("a"), expires=0.0001)
        await trio.sleep(10)
    failed = [event for event in watcher.seen if isinstance(event, CommandFailed)]
    assert [(one.attempt, one.again_in, one.error) for one in failed] == [(1, 1.0, "OSError")] * 2
    ends = [
        (one.command, one.outcome, round(one.waited))
        for one in watcher.seen
        if isinstance(one, CommandHandled)
    ]
    assert ends[:4] == [
        ("switch", "done", 1),
        ("switch", "rejected", 0),
        ("switch", "dead", 1),
        ("look", "dead", 0),
    ]
    (dead,) = [event for event in watcher.seen if isinstance(event, CommandDead)]
    assert (dead.attempts, dead.error) == (2, "OSError"), "a query that failed is no dead letter"
    assert "secret" not in repr(watcher.seen), "what errors say is not told"


async def test_a_pause_is_told(autojump_clock: MockClock) -> None:
    policy = attrs.evolve(POLICIES["lamp"], on_exhausted="pause")
    async with (
        open_atomic_queues(
            "memory://", registry=new_registry(), name="pod", entities={"lamp": policy}
        ) as queues,
        watching(queues) as watcher,
    ):
        await queues.send(Switch("a", "fail"))
        await queues.call(Switch("b"))
        await trio.sleep(1.5)
        await queues.pause("lamp", "b")
        await queues.call(Switch("c"))
        await queues.pause("lamp")
        await queues.send(Switch("c"))
        await trio.sleep(3)
        paused = {event.entity_id: event.why for event in watcher.seen if isinstance(event, EntityPaused)}
        assert "failed for good" in paused.pop("a")
        assert paused == {"c": ""}  # "b" was let go of by the operator's request itself


async def test_one_type_alone(autojump_clock: MockClock) -> None:
    async with fleet() as (pod, sender), watching(sender, "door") as doors, watching(pod) as everything:
        await sender.call(Switch("a", "send"))
        await sender.wait_settled()
        await trio.sleep(0.2)
        assert {getattr(event, "entity_type", "") for event in doors.seen} == {"door"}
        assert Counter(doors.kinds()) == {"EntityAwake": 2, "CommandHandled": 2}
        assert Counter(everything.kinds()) == {"EntityAwake": 3, "CommandHandled": 3}
    with pytest.raises(BadDeclaration):
        async with fleet() as (_, sender), sender.open_events("No Type"):
            pass


async def test_all_pods_tell_and_a_drain_is_told_to_its_end(autojump_clock: MockClock) -> None:
    server = MemoryServer(trio_now_us)
    async with fleet(server) as (_, sender), watching(sender) as watcher:
        await trio.sleep(1)
        async with open_atomic_queues(server, registry=new_registry(), name="new", entities=POLICIES) as new:
            await trio.sleep(1.5)  # it joined after the watcher came: its heartbeats tell
            await new.call(Switch("n"))
        await trio.sleep(1)
        assert [event for event in watcher.seen if event.pod == "new"][::2] == [
            EntityAwake("new", "lamp", "n"),
            EntityAsleep("new", "lamp", "n", idle=False),
        ]


async def test_nobody_is_told_while_nobody_watches(autojump_clock: MockClock) -> None:
    async with fleet() as (pod, sender):
        assert not pod._instruments.active
        async with watching(sender):
            await trio.sleep(0.1)
            (broadcast,) = pod._instruments.active
            async with watching(sender, "door"):
                pass
            await trio.sleep(60)
            assert pod._instruments.active == [broadcast]
        assert not pod._instruments.active
        await pod.call(Switch("a"))
        assert "0 waiting" in repr(broadcast)


async def test_a_watcher_that_died_is_forgotten(autojump_clock: MockClock) -> None:
    server = MemoryServer(trio_now_us)
    async with fleet(server) as (pod, _):
        server.watch("somebody", "*", 15_000)
        assert pod._instruments.active
        await pod.call(Switch("a"))
        await trio.sleep(16.5)
        assert not pod._instruments.active


async def test_a_slow_reader_loses_the_oldest_and_is_told_how_many(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "KEPT", 5)
    async with fleet() as (_, sender), sender.open_events("lamp") as events:
        for _ in range(10):
            await sender.call(Switch("a"))
        await trio.sleep(1)
        seen = [await anext(events) for _ in range(6)]
        assert seen[0] == EventsMissed("", 6)
        assert [type(event).__name__ for event in seen[1:]] == ["CommandHandled"] * 5


async def test_what_is_lost_on_the_way_is_counted() -> None:
    codec = Codec()
    listeners = Listeners(codec)
    listener = listeners.add("*")

    def tell(first: int, count: int) -> None:
        event = event_to_wire(EntityAwake("pod", "lamp", "a"))
        listeners.take(codec.dumps({"client": "c", "pod": "pod", "first": first, "events": [event] * count}))

    tell(100, 2)
    tell(102, 1)
    tell(110, 1)
    for data in (
        b"",
        b"{",
        b"[]",
        b'{"client":"c","pod":"pod","first":111,"events":[1,[],["what"],["awake"]]}',
    ):
        listeners.take(data)
    tell(115, 1)
    listener.close()
    seen: list[Event] = []
    while (event := await listener.next()) is not None:
        seen.append(event)
    awake = EntityAwake("pod", "lamp", "a")
    assert seen == [awake, awake, awake, EventsMissed("pod", 7), awake, awake]


@pytest.mark.parametrize(
    "event",
    [
        EntityAwake("p", "lamp", "a"),
        EntityAsleep("p", "lamp", "a", idle=True),
        CommandHandled("p", "lamp", "a", "switch", "id", "done", 0.5, 1.5),
        CommandFailed("p", "lamp", "a", "switch", "id", 1, 2.5, "OSError"),
        CommandDead("p", "lamp", "a", "switch", "id", 3, "OSError"),
        EntityPaused("p", "lamp", "a", "why"),
    ],
    ids=lambda event: type(event).__name__,
)
def test_events_travel(event: Event) -> None:
    codec = Codec()
    assert event_from_wire("p", codec.loads(codec.dumps(event_to_wire(event)))) == event


async def test_the_end_of_the_queues_ends_it(autojump_clock: MockClock) -> None:
    watcher = Watcher()
    async with trio.open_nursery() as nursery:
        async with open_atomic_queues("memory://", registry=new_registry()) as queues:
            await nursery.start(watcher.watch, queues)
        with pytest.raises(Closed):
            async with queues.open_events():
                pass


async def test_an_error_of_the_body_comes_out_as_itself(autojump_clock: MockClock) -> None:
    async with fleet() as (pod, sender):
        with pytest.raises(KeyError):
            async with sender.open_events():
                raise KeyError
        await trio.sleep(0.1)
        assert not pod._instruments.active


async def test_what_could_not_be_told_keeps_nothing_from_being_told(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More is waiting than one message takes when the store can't be reached."""
    tell = MemoryStore.tell_events
    gone = [StoreUnavailable("here", "it is gone")]

    async def fail_once(store: MemoryStore, data: bytes) -> bool:
        if gone:
            raise gone.pop()
        return await tell(store, data)

    async with fleet() as (_, sender), watching(sender) as watcher:
        monkeypatch.setattr(MemoryStore, "tell_events", fail_once)
        await sender.send_many([Switch(str(n)) for n in range(MOST)])
        await trio.sleep(1)
        assert not watcher.seen
        await sender.call(Switch("late"))
        await trio.sleep(1)
        assert [event.entity_id for event in watcher.seen if isinstance(event, CommandHandled)] == ["late"]


async def test_of_two_answers_the_one_asked_for_later_counts(autojump_clock: MockClock) -> None:
    async with fleet() as (pod, _):
        assert pod._supervisor is not None
        answered, soon = pod._supervisor._watched, time.monotonic() + 3600
        answered(("*",), soon)
        answered((), soon - 1)
        assert pod._instruments.active
        answered((), soon + 1)
        assert not pod._instruments.active


async def test_an_older_answer_does_not_undo_a_hint(
    clean_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A heartbeat was answered before somebody began to watch, and its answer is read after the hint."""
    take = Incarnation.take_report
    late: list[Callable[[], None]] = []
    monkeypatch.setattr(
        Incarnation, "take_report", lambda one, report: late.append(partial(take, one, report))
    )
    async with open_atomic_queues(clean_redis.url, registry=new_registry(), name="pod") as pod:
        with trio.fail_after(10):
            while not late:  # noqa: ASYNC110 - it has no event for us
                await trio.sleep(0.005)
        async with watching(pod) as watcher:
            for deliver in late:
                deliver()
            await pod.call(Switch("a"))
            with trio.fail_after(10):
                while len(watcher.seen) < 2:  # noqa: ASYNC110 - as above
                    await trio.sleep(0.005)
    assert watcher.kinds() == ["EntityAwake", "CommandHandled"]


async def test_on_redis(redis_server: RedisServer) -> None:
    async with (
        open_atomic_queues(
            redis_server.url, registry=new_registry(), prefix="watching", name="pod", entities=POLICIES
        ) as pod,
        open_atomic_queues(redis_server.url, prefix="watching") as sender,
    ):
        with trio.fail_after(20):
            async with sender.open_events("lamp") as events:
                await trio.sleep(0.3)  # the hint
                for _ in range(500):
                    await sender.send(Switch("a"))
                handled: list[CommandHandled] = []
                async for event in events:
                    assert not isinstance(event, EventsMissed)
                    if isinstance(event, CommandHandled):
                        handled.append(event)
                        if len(handled) == 500:
                            break
                assert all(one.outcome == "done" and 0 <= one.waited < 10 for one in handled)
            while pod._instruments.active:  # noqa: ASYNC110
                await trio.sleep(0.01)


# ------------------------------------------------------------------------------------ instruments
class Notebook(Instrument):
    """Notes everything."""

    def __init__(self) -> None:
        self.notes: list[tuple[Any, ...]] = []

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("_") or name not in vars(Instrument):
            return super().__getattribute__(name)

        def note(*facts: Any) -> None:
            self.notes.append((name, *facts))

        return note

    def of(self, *names: str) -> list[tuple[Any, ...]]:
        return [note for note in self.notes if note[0] in names]


async def test_an_instrument_is_told_what_happens_here(autojump_clock: MockClock) -> None:
    here, there = Notebook(), Notebook()
    server = MemoryServer(trio_now_us)
    async with (
        open_atomic_queues(server, registry=new_registry(), entities=POLICIES, instruments=[here]),
        open_atomic_queues(server, entities=POLICIES, instruments=[there]) as sender,
    ):
        await sender.call(Switch("a", "send"))
        await sender.send_many([Switch("a"), Open("c"), Switch("b")])
        with trio.move_on_after(1):
            await sender.call(Switch("a", "wait"))
        await sender.wait_settled()
        await trio.sleep(5)
    assert there.of("sent") == [
        ("sent", "lamp", "switch", 1),
        ("sent", "lamp", "switch", 2),
        ("sent", "door", "open", 1),
        ("sent", "lamp", "switch", 1),
    ]
    assert [note[1:4] for note in there.of("called")] == [
        ("lamp", "switch", "done"),
        ("lamp", "switch", "unanswered"),
    ]
    assert not there.of("handled", "claimed")
    assert here.of("sent") == [("sent", "door", "open", 2)], "by the handler, with its commit"
    handled = Counter((note[1], note[4]) for note in here.of("handled"))
    assert handled[Entity("lamp", "a"), "done"] == 2
    assert handled[Entity("lamp", "a"), "expired"] == 1
    awake = Counter(note[1] for note in here.of("claimed"))
    asleep = Counter(note[1] for note in here.of("passivated", "handed_off"))
    assert awake == asleep
    assert len(here.of("handed_off")) == 3, "doors are awake for longer, until the drain"


async def test_it_is_told_of_a_lost_lease_and_of_what_was_refused(autojump_clock: MockClock) -> None:
    notes = Notebook()
    server = MemoryServer(trio_now_us)
    async with open_atomic_queues(
        server, registry=new_registry(), entities=POLICIES, instruments=[notes]
    ) as queues:
        await queues.send(Switch("a", "wait"))
        await trio.sleep(1)
        await queues.purge("lamp", "a")
        await trio.sleep(3)
        assert notes.of("fenced") == [("fenced", Entity("lamp", "a"))]
        await queues.send(Switch("b", "wait"))
        await trio.sleep(1)
        server.restart()
        await trio.sleep(10)
        assert len(notes.of("lease_lost")) == 1
        assert ("handed_off", Entity("lamp", "b")) in notes.notes


async def test_one_that_raises_disturbs_nobody(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Bad(Instrument):
        def handled(self, *_: Any) -> None:
            raise ZeroDivisionError

        def claimed(self, entity: Entity) -> None:
            raise ZeroDivisionError

    notes = Notebook()
    async with open_atomic_queues("memory://", registry=new_registry(), instruments=[Bad(), notes]) as queues:
        for _ in range(5):
            assert await queues.call(Switch("a")) == "on"
    assert len(notes.of("handled")) == 5
    failures = [record for record in caplog.records if getattr(record, "event", "") == "instrument_failed"]
    assert len(failures) == 2, "once for each method"


async def test_one_is_told_only_what_it_overrides(autojump_clock: MockClock) -> None:
    """The rest is not even asked for, so that many instruments cost no more than they want to know."""

    class Counting(Instrument):
        count = 0

        def handled(self, *_: Any) -> None:
            self.count += 1
            told.switch(self, on=False)  # what is told may change who is told

    counting, notes = Counting(), Notebook()
    async with open_atomic_queues(
        "memory://", registry=new_registry(), instruments=[Instrument(), counting, notes]
    ) as queues:
        told = queues._instruments
        assert told.wanting("handled") == [counting, notes]
        assert told.wanting("claimed") == [notes]
        for _ in range(3):
            await queues.call(Switch("a"))
    assert (counting.count, len(notes.of("handled"))) == (1, 3)
