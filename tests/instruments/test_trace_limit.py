"""How many commands are traced: so many a second, what belongs to a recorded trace, and dead letters."""

from typing import Literal

import pytest
import trio
from instruments.traced_bank import Deposit, Recorder, new_registry
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from trio.testing import MockClock

from trioqueue import (
    CallFailed,
    Command,
    Context,
    Entity,
    Query,
    Registry,
    Retry,
    command,
    entity_id,
    open_atomic_queues,
    query,
)
from trioqueue.instruments import Traces, opentelemetry
from trioqueue.instruments.opentelemetry import FAILED_KEPT, LONGEST_DEBT
from trioqueue.stores.memory.store import trio_now_us
from trioqueue.testing import MemoryServer


@pytest.fixture
def time_flies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has allowances go by the clock of the test."""
    monkeypatch.setattr(opentelemetry, "monotonic", trio.current_time)


def limited(recorder: Recorder, per_second: float) -> Traces:
    propagator = TraceContextTextMapPropagator()
    return Traces(tracer_provider=recorder.provider, propagator=propagator, per_second=per_second)


async def test_a_process_traces_so_many_commands_a_second(
    autojump_clock: MockClock, time_flies: None
) -> None:
    recorder = Recorder()
    async with open_atomic_queues(
        "memory://", registry=new_registry(), instruments=[limited(recorder, 8)]
    ) as queues:

        async def sent(commands: int) -> int:
            before = len(recorder.spans("send account/{id}"))
            for _ in range(commands):
                await queues.send(Deposit("42", 5))
            await queues.wait_settled()
            return len(recorder.spans("send account/{id}")) - before

        assert await sent(100) == 8
        await trio.sleep(0.501)
        assert await sent(100) == 4
        await trio.sleep(1000)
        assert await sent(100) == 8, "what was left of the last second, and no more"
        await trio.sleep(1)
        await queues.send_many(Deposit("42", 5) for _ in range(40))
        assert await sent(100) == 0
        await trio.sleep(4.1)
        assert await sent(100) == 0, "the 40 have used up what was left, and four seconds"
        await trio.sleep(0.2)
        assert await sent(100) == 2
    linked = [one.links for one in recorder.spans("process account/{id}")]
    assert linked.count(()) == 0
    assert len(linked) == 8 + 4 + 8 + 40 + 2


async def test_who_only_handles_begins_as_many_traces(autojump_clock: MockClock, time_flies: None) -> None:
    recorder, server = Recorder(), MemoryServer(trio_now_us)
    async with (
        open_atomic_queues(server, registry=new_registry(), instruments=[limited(recorder, 8)]),
        open_atomic_queues(server) as sender,
    ):
        await sender.send_many(Deposit("42", 5) for _ in range(30))
        await sender.wait_settled()
    assert [one.links for one in recorder.spans("process account/{id}")] == [()] * 8


@command("chain")
class Link(Command):
    chain_id: str = entity_id()


@query("chain")
class Look(Query[int]):
    chain_id: str = entity_id()


async def test_what_follows_a_trace_for_ever_is_left_out_in_the_end(
    autojump_clock: MockClock, time_flies: None
) -> None:
    """Each begins the next one: in a trace that goes on for ever, and would take all others along one by one."""
    registry, recorder = Registry(), Recorder()

    @registry.handles(Link)
    async def link(command: Link, context: Context) -> None:
        await trio.sleep(0.001)
        context.send(Link(command.chain_id))

    async with open_atomic_queues(
        "memory://", registry=registry, instruments=[limited(recorder, 20)]
    ) as queues:
        await queues.send(Link("1"))
        await trio.sleep(10)
    made = len(recorder.spans("create chain/{id}"))
    # As many for what follows a trace, and again for what was left out there and begins one.
    assert 20 <= made <= 2 * 20 * 12


async def test_what_handlers_send_takes_nothing_from_what_begins_a_trace(
    autojump_clock: MockClock, time_flies: None
) -> None:
    recorder = Recorder()
    traces = limited(recorder, 8)

    def chosen(how: Literal["send", "child"]) -> int:
        asked = [traces.sending([(Entity("chain", "1"), "link", "1")], how) for _ in range(20)]
        return sum(one is not None for one in asked)

    with recorder.provider.get_tracer("test").start_as_current_span("handler"):
        assert chosen("child") == 8
        assert chosen("send") == 20, "it is in a trace that is recorded"
    assert chosen("send") == 8


async def test_a_large_group_silences_its_sender_for_a_minute_at_most(
    autojump_clock: MockClock, time_flies: None
) -> None:
    recorder = Recorder()
    async with open_atomic_queues(
        "memory://", registry=new_registry(), instruments=[limited(recorder, 1)]
    ) as queues:
        await queues.send_many(Deposit("42", 5) for _ in range(1000))
        assert len(recorder.spans("send account/{id}")) == 1
        await trio.sleep(LONGEST_DEBT - 1)
        await queues.send(Deposit("42", 5))
        assert len(recorder.spans("send account/{id}")) == 1
        await trio.sleep(1.1)
        await queues.send(Deposit("42", 5))
        assert len(recorder.spans("send account/{id}")) == 2


@pytest.mark.parametrize(
    ("headers", "made"),
    [
        ({"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}, 1),
        ({"traceparent": f"00-{'a' * 32}-{'b' * 16}-00"}, 0),
        ({"baggage": "shop=7"}, 0),
        ({"color": "red"}, 0),
    ],
)
async def test_only_what_its_sender_recorded_is_traced_in_any_case(
    headers: dict[str, str], made: int, autojump_clock: MockClock
) -> None:
    recorder = Recorder()
    async with open_atomic_queues(
        "memory://", registry=new_registry(), instruments=[limited(recorder, 0)]
    ) as queues:
        await queues.call(Deposit("42", 5), headers=headers)
    assert len(recorder.spans("process account/{id}")) == made


async def test_failures_of_which_no_more_is_told_are_few(autojump_clock: MockClock) -> None:
    """As those of queries, which are no attempts, and of an entity that is awake for ever."""
    registry, recorder = Registry(), Recorder()

    @registry.handles(Look)
    async def look(command: Look) -> int:
        raise OSError("no light")

    async with open_atomic_queues("memory://", registry=registry, instruments=[recorder.traces]) as queues:
        for _ in range(2 * FAILED_KEPT):
            with pytest.raises(CallFailed):
                await queues.call(Look("1"))
        (kept,) = recorder.traces._failed.values()
        assert len(kept) == FAILED_KEPT


async def test_a_trace_goes_on_and_a_dead_letter_is_shown_though_nothing_is_allowed(
    autojump_clock: MockClock,
) -> None:
    recorder = Recorder()
    none = limited(recorder, 0)
    tracer = recorder.provider.get_tracer("test")
    async with open_atomic_queues("memory://", registry=new_registry(), instruments=[none]) as queues:
        await queues.call(Deposit("42", 5))
        assert not recorder.spans()
        with tracer.start_as_current_span("request"):
            await queues.call(Deposit("42", 5))
        assert [one.name for one in recorder.spans()] == [
            "process account/{id}",
            "call account/{id}",
            "request",
        ]
    registry = Registry()

    @registry.handles(Deposit, retry=Retry(attempts=1))
    async def deposit(command: Deposit) -> int:
        raise OSError("no ink")

    async with open_atomic_queues("memory://", registry=registry, instruments=[none]) as queues:
        with pytest.raises(CallFailed):
            await queues.call(Deposit("42", 5))
    assert [one.name for one in recorder.spans()[3:]] == ["dead_letter account/{id}"]


@pytest.mark.parametrize("number", [-0.1, float("nan")])
def test_less_than_none_a_second_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match="0 or more"):
        Traces(per_second=number)
