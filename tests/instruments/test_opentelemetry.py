"""Traces: their spans, what they say, and how they hang together, on whatever pods they were made."""

import signal
from pathlib import Path
from typing import Any

import pytest
import trio
from faults.fleet_processes import FleetProcess
from instruments.traced_bank import (
    POLICIES,
    Account,
    Deposit,
    InsufficientFunds,
    Recorder,
    Seen,
    Transfer,
    Withdraw,
    new_registry,
    read_spans,
)
from opentelemetry import baggage, context, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from redis_servers import RedisServer
from trio.testing import MockClock

from trioqueue import (
    CallFailed,
    Command,
    Context,
    EntityPolicy,
    Registry,
    Retry,
    command,
    entity_id,
    open_atomic_queues,
)
from trioqueue.blocking import open_sender
from trioqueue.instruments import Traces
from trioqueue.instruments.opentelemetry import CALL
from trioqueue.stores.memory.store import trio_now_us
from trioqueue.testing import MemoryServer

MESSAGING = {"messaging.system": "trioqueue", "messaging.destination.template": "account/{id}"}


def of(seen: Seen, start: str) -> dict[str, Any]:
    return {name: value for name, value in seen.attributes.items() if name.startswith(start)}


async def test_what_is_sent_begins_a_trace_that_is_linked_to_the_sender(autojump_clock: MockClock) -> None:
    recorder = Recorder()
    async with open_atomic_queues(
        "memory://", registry=new_registry(), instruments=[recorder.traces]
    ) as queues:
        receipt = await queues.send(Deposit("42", 5))
        await queues.wait_settled()
    sent, processed = recorder.one("send account/{id}"), recorder.one("process account/{id}")
    assert (sent.name, sent.kind) == ("send account/{id}", "PRODUCER")
    assert (processed.name, processed.kind) == ("process account/{id}", "CONSUMER")
    assert processed.parent is None
    assert processed.trace != sent.trace
    assert processed.links == (sent.span,)
    common = {
        **MESSAGING,
        "messaging.destination.name": "account/42",
        "messaging.message.id": receipt.command_id,
    }
    assert of(sent, "messaging") == {
        **common,
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
    }
    assert of(processed, "messaging") == {
        **common,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
    }
    assert of(sent, "trioqueue") == {"trioqueue.command": "deposit"}
    assert of(processed, "trioqueue") == {
        "trioqueue.command": "deposit",
        "trioqueue.attempt": 1,
        "trioqueue.outcome": "done",
    }


async def test_what_is_called_is_in_the_callers_trace(autojump_clock: MockClock) -> None:
    recorder = Recorder()
    tracer = recorder.provider.get_tracer("test")
    async with open_atomic_queues(
        "memory://", registry=new_registry(), instruments=[recorder.traces]
    ) as queues:
        with tracer.start_as_current_span("request"):
            assert await queues.call(Deposit("42", 5)) == 105
    request, call = recorder.one("request"), recorder.one("call account/{id}")
    processed = recorder.one("process account/{id}")
    assert call.kind == "PRODUCER"
    assert call.attributes["messaging.operation.name"] == "call"
    assert call.attributes["messaging.operation.type"] == "send"
    assert call.outcome == "done"
    assert (call.parent, processed.parent) == (request.span, call.span)
    assert request.trace == call.trace == processed.trace
    assert not processed.links
    assert [one.name for one in recorder.spans()] == [processed.name, call.name, request.name]


async def test_one_span_is_round_a_send_of_many(autojump_clock: MockClock) -> None:
    recorder = Recorder()
    async with open_atomic_queues(
        "memory://", registry=new_registry(), instruments=[recorder.traces]
    ) as queues:
        await queues.send_many([])
        await queues.send_many([Deposit("1", 5), Deposit("1", 6)])
        await queues.send_many([Deposit("1", 5), Deposit("2", 5), Transfer("t", "1", "2", 5)])
        await queues.wait_settled()
    to_one, to_several = recorder.one("send account/{id}"), recorder.one("send")
    assert to_one.attributes["messaging.batch.message_count"] == 2
    assert to_one.attributes["messaging.destination.name"] == "account/1"
    assert "messaging.message.id" not in to_one.attributes
    assert to_several.attributes["messaging.batch.message_count"] == 3
    assert "messaging.destination.name" not in to_several.attributes
    assert "messaging.destination.template" not in to_several.attributes
    links = [one.links for one in recorder.spans("process account/{id}", command="deposit")]
    assert links.count((to_one.span,)) == 2
    assert links.count((to_several.span,)) == 2


async def test_each_attempt_has_a_span_and_a_dead_letter_its_own(autojump_clock: MockClock) -> None:
    registry, recorder = Registry(), Recorder()

    @registry.handles(Deposit, retry=Retry(attempts=3, wait_first=1))
    async def deposit(command: Deposit) -> int:
        raise OSError("no ink")

    async with open_atomic_queues("memory://", registry=registry, instruments=[recorder.traces]) as queues:
        with pytest.raises(CallFailed):
            await queues.call(Deposit("42", 5))
    call, attempts = recorder.one("call account/{id}"), recorder.spans("process account/{id}")
    assert [one.attributes["trioqueue.attempt"] for one in attempts] == [1, 2, 3]
    for one in attempts:
        assert (one.status, one.outcome, one.events) == ("ERROR", "failed", ("exception",))
        assert one.attributes["error.type"] == "OSError"
        assert one.parent == call.span
    assert (call.status, call.outcome, call.attributes["error.type"]) == ("ERROR", "failed", "CallFailed")
    letter = recorder.one("dead_letter account/{id}")
    assert (letter.parent, letter.trace) == (attempts[2].span, call.trace)
    assert (letter.status, letter.kind) == ("ERROR", "CLIENT")
    assert letter.attributes["messaging.operation.type"] == "settle"
    assert letter.attributes["trioqueue.attempt"] == 3
    assert letter.attributes["error.type"] == "OSError"
    assert not recorder.traces._failed


async def test_a_dead_letter_that_no_handler_has_seen_is_a_trace_of_its_own(
    autojump_clock: MockClock,
) -> None:
    recorder, server = Recorder(), MemoryServer(trio_now_us)
    policies = {"account": EntityPolicy(unknown_grace=1)}
    registry = Registry()

    @registry.handles(Withdraw)
    async def withdraw(command: Withdraw) -> int:
        return 0

    async with open_atomic_queues(
        server, registry=registry, entities=policies, instruments=[recorder.traces]
    ) as queues:
        await queues.send(Deposit("42", 5))
        await trio.sleep(60)
    letter = recorder.one("dead_letter account/{id}")
    assert (letter.parent, letter.command) == (None, "deposit")
    assert not recorder.spans("process account/{id}")


async def test_an_answer_no_is_no_error(autojump_clock: MockClock) -> None:
    recorder = Recorder()
    async with open_atomic_queues(
        "memory://", registry=new_registry(), instruments=[recorder.traces]
    ) as queues:
        with pytest.raises(InsufficientFunds):
            await queues.call(Withdraw("42", 500))
    for one in recorder.spans():
        assert (one.status, one.outcome, one.events) == ("UNSET", "rejected", ())
        assert one.attributes["trioqueue.rejection"] == "InsufficientFunds"
    assert len(recorder.spans()) == 2


async def test_a_handler_that_is_cancelled_has_no_error(autojump_clock: MockClock) -> None:
    registry, recorder = Registry(), Recorder()

    @registry.handles(Deposit)
    async def deposit(command: Deposit) -> int:
        await trio.sleep(command.amount)
        return 0

    @registry.handles(Withdraw, timeout=1, retry=Retry(attempts=1))
    async def withdraw(command: Withdraw) -> int:
        await trio.sleep_forever()
        return 0

    async with open_atomic_queues("memory://", registry=registry, instruments=[recorder.traces]) as queues:
        with trio.move_on_after(1):
            await queues.call(Deposit("in time", 5))
        receipt = await queues.send(Deposit("told", 5))
        await trio.sleep(1)
        assert await queues.cancel(receipt) == "told"
        await queues.send(Deposit("expires", 500), expires=5)
        await queues.send(Withdraw("late", 5))
        await queues.wait_settled()
        await queues.send(Deposit("drained", 500))
        await trio.sleep(1)
    outcomes = {
        one.attributes["messaging.destination.name"]: (one.outcome, one.status)
        for one in recorder.spans("process account/{id}")
    }
    assert outcomes.pop("account/in time")[0] in ("cancelled", "expired")
    assert outcomes == {
        "account/told": ("cancelled", "UNSET"),
        "account/expires": ("expired", "UNSET"),
        "account/late": ("failed", "ERROR"),
        "account/drained": ("let go", "UNSET"),
    }
    late = recorder.one("process account/{id}", command="withdraw")
    assert late.attributes["error.type"] == "HandlerTimeout"
    call = recorder.one("call account/{id}")
    assert (call.outcome, call.status) == ("unanswered", "UNSET")
    assert trace.get_current_span() is trace.INVALID_SPAN


async def test_the_span_of_a_handler_is_current_in_it_and_in_its_tasks(autojump_clock: MockClock) -> None:
    registry, recorder = Registry(), Recorder()
    tracer = recorder.provider.get_tracer("test")

    async def look_up() -> None:
        with tracer.start_as_current_span("look up"):
            await trio.sleep(1)

    @registry.handles(Deposit)
    async def deposit(command: Deposit) -> int:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(look_up)
            nursery.start_soon(look_up)
        with tracer.start_as_current_span("write"):
            return 1

    async with open_atomic_queues("memory://", registry=registry, instruments=[recorder.traces]) as queues:
        for _ in range(2):
            await queues.call(Deposit("42", 5))
    first, second = (one.span for one in recorder.spans("process account/{id}"))
    assert [one.parent for one in recorder.spans("look up")] == [first, first, second, second]
    assert [one.parent for one in recorder.spans("write")] == [first, second]


async def test_handlers_that_overlap_have_each_their_own(autojump_clock: MockClock) -> None:
    registry, recorder = Registry(), Recorder()
    tracer = recorder.provider.get_tracer("test")

    @registry.handles(Deposit)
    async def deposit(command: Deposit) -> int:
        await trio.sleep(5 - command.amount)
        with tracer.start_as_current_span(f"write {command.amount}"):
            return command.amount

    async with open_atomic_queues(
        "memory://",
        registry=registry,
        entities={"account": EntityPolicy(overlap=3)},
        instruments=[recorder.traces],
    ) as queues:
        receipts = await queues.send_many([Deposit("42", amount) for amount in range(3)])
        await queues.wait_settled()
    by_id = {one.attributes["messaging.message.id"]: one for one in recorder.spans("process account/{id}")}
    assert list(by_id) == [receipt.command_id for receipt in reversed(receipts)], "the last ends first"
    for amount, receipt in enumerate(receipts):
        assert recorder.one(f"write {amount}").parent == by_id[receipt.command_id].span


async def test_handlers_of_a_group_have_each_their_own(autojump_clock: MockClock) -> None:
    registry, recorder = Registry(), Recorder()

    @registry.handles(Deposit, commit="group")
    async def deposit(command: Deposit, account: Account, context: Context) -> int:
        account.balance += command.amount
        if command.amount == 2:
            context.send(Transfer("t", "1", "2", command.amount))
        return account.balance

    @registry.handles(Transfer)
    async def transfer(command: Transfer) -> None:
        return

    async with open_atomic_queues("memory://", registry=registry, instruments=[recorder.traces]) as queues:
        await queues.send_many([Deposit("42", amount) for amount in range(4)])
        await queues.wait_settled()
        assert (await queues.state(Account, "42")).balance == 106
    processed = recorder.spans("process account/{id}")
    assert len({one.trace for one in processed}) == 4
    created = recorder.one("create transfer/{id}")
    assert (created.parent, created.trace) == (processed[2].span, processed[2].trace)
    assert recorder.one("process transfer/{id}").links == (created.span,)


async def test_what_a_handler_sends_is_in_its_trace(autojump_clock: MockClock) -> None:
    recorder = Recorder()
    async with open_atomic_queues(
        "memory://", registry=new_registry(), entities=POLICIES, instruments=[recorder.traces]
    ) as queues:
        await queues.call(Transfer("t", "alice", "bob", 5))
        await queues.wait_settled()
        assert (await queues.state(Account, "bob")).balance == 105
    assert_is_picture_of_a_transfer(recorder.spans(), "call transfer/{id}")


def assert_is_picture_of_a_transfer(spans: list[Seen], beginning: str) -> None:
    """Asserts that spans, of whatever processes, show one transfer from its beginning to the target's deposit."""
    by_name = {(one.name, one.command): one for one in spans}
    assert len(by_name) == len(spans) == 6
    began = by_name[beginning, "transfer"]
    transfer = by_name["process transfer/{id}", "transfer"]
    call, withdraw = by_name["call account/{id}", "withdraw"], by_name["process account/{id}", "withdraw"]
    create, deposit = by_name["create account/{id}", "deposit"], by_name["process account/{id}", "deposit"]

    assert began.parent is None
    if beginning.startswith("call"):
        assert (transfer.parent, transfer.trace, transfer.links) == (began.span, began.trace, ())
    else:
        assert (transfer.parent, transfer.links) == (None, (began.span,))
        assert transfer.trace != began.trace
    assert (call.parent, call.trace) == (transfer.span, transfer.trace)
    assert (withdraw.parent, withdraw.trace, withdraw.links) == (call.span, transfer.trace, ())
    assert (create.parent, create.trace) == (transfer.span, transfer.trace)
    assert (create.kind, create.attributes["messaging.operation.type"]) == ("PRODUCER", "create")
    assert (deposit.parent, deposit.links) == (None, (create.span,))
    assert deposit.trace not in (transfer.trace, began.trace)


@pytest.mark.parametrize("how", ["send", "call"])
async def test_traces_of_several_processes_form_one_picture(
    how: str, clean_redis: RedisServer, tmp_path: Path
) -> None:
    recorder = Recorder()
    pods: list[FleetProcess] = []
    try:
        for serves in ("transfer", "account"):
            settings = {"url": clean_redis.url, "serves": [serves]}
            pods.append(FleetProcess("instruments.traced_bank", tmp_path / f"{serves}.jsonl", settings))
        with trio.fail_after(30):
            for pod in pods:
                await pod.wait_ready()
            async with open_atomic_queues(clean_redis.url, instruments=[recorder.traces]) as queues:
                transfer = Transfer("t", "alice", "bob", 5)
                await (queues.send(transfer) if how == "send" else queues.call(transfer))
                await queues.wait_settled()
            for pod in pods:
                pod.signal(signal.SIGTERM)
                assert await pod.wait_ended() == 0, pod.noise()
    finally:
        for pod in pods:
            pod.end()
    of_transfers, of_accounts = (read_spans(pod.log) for pod in pods)
    assert {one.name for one in of_transfers} == {
        "process transfer/{id}",
        "call account/{id}",
        "create account/{id}",
    }
    assert {one.name for one in of_accounts} == {"process account/{id}"}
    assert_is_picture_of_a_transfer(
        [*recorder.spans(), *of_transfers, *of_accounts], f"{how} transfer/{{id}}"
    )


@command("account")
class Peek(Command[dict[str, str]]):
    """Answers the headers that came with it, and the baggage."""

    account_id: str = entity_id()


async def test_headers_show_what_travels_with_a_command(autojump_clock: MockClock) -> None:
    registry, recorder = Registry(), Recorder()

    @registry.handles(Peek)
    async def peek(command: Peek, context: Context) -> dict[str, str]:
        return {**context.headers, **{name: str(value) for name, value in baggage.get_all().items()}}

    traces = Traces(
        tracer_provider=recorder.provider,
        propagator=CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()]),
    )
    async with open_atomic_queues("memory://", registry=registry, instruments=[traces]) as queues:
        token = context.attach(baggage.set_baggage("customer", "7"))
        try:
            seen = await queues.call(Peek("42"), headers={"color": "red", "traceparent": "ours is newer"})
        finally:
            context.detach(token)
    call = recorder.one("call account/{id}")
    assert seen.pop("traceparent").startswith(f"00-{call.trace:0>32}-{call.span:0>16}-"), (
        "and not the sender's"
    )
    assert seen == {
        "color": "red",
        CALL: f"{call.span:0>16}",
        "baggage": "customer=7",
        "customer": "7",
    }


async def test_headers_that_a_handler_passes_on_do_not_make_a_call_of_it(autojump_clock: MockClock) -> None:
    registry, recorder = Registry(), Recorder()

    @registry.handles(Transfer)
    async def transfer(command: Transfer, context: Context) -> None:
        context.send(Deposit("42", 5), headers=context.headers)

    @registry.handles(Deposit)
    async def deposit(command: Deposit, context: Context) -> int:
        assert CALL in context.headers
        return 1

    async with open_atomic_queues("memory://", registry=registry, instruments=[recorder.traces]) as queues:
        await queues.call(Transfer("t", "alice", "bob", 5))
        await queues.wait_settled()
    processed = recorder.one("process account/{id}")
    assert (processed.parent, processed.links) == (None, (recorder.one("create account/{id}").span,))


async def test_what_came_without_a_trace_begins_one(autojump_clock: MockClock) -> None:
    recorder, server = Recorder(), MemoryServer(trio_now_us)
    async with (
        open_atomic_queues(server, registry=new_registry(), instruments=[recorder.traces]),
        open_atomic_queues(server) as sender,
    ):
        with recorder.provider.get_tracer("test").start_as_current_span("of another pod's process"):
            await sender.send(Deposit("42", 5))
            await sender.call(Deposit("42", 5))
    for one in recorder.spans("process account/{id}"):
        assert (one.parent, one.links) == (None, ())


async def test_what_is_not_sampled_here_is_not_sampled_there(autojump_clock: MockClock) -> None:
    recorder, server = Recorder(), MemoryServer(trio_now_us)
    unsampled = Traces(tracer_provider=TracerProvider(sampler=ALWAYS_OFF))
    async with (
        open_atomic_queues(server, registry=new_registry(), instruments=[recorder.traces]),
        open_atomic_queues(server, instruments=[unsampled]) as sender,
    ):
        await sender.call(Deposit("42", 5))
        assert not recorder.spans()
        await sender.send(Deposit("42", 5))
        await sender.wait_settled()
    assert recorder.one("process account/{id}").links, "what begins a trace is sampled for itself"


async def test_what_was_not_told_of_a_failed_attempt_is_forgotten_with_its_entity(
    autojump_clock: MockClock,
) -> None:
    registry, recorder = Registry(), Recorder()

    @registry.handles(Deposit)
    async def deposit(command: Deposit) -> int:
        await trio.sleep(5)
        raise OSError

    async with open_atomic_queues("memory://", registry=registry, instruments=[recorder.traces]) as queues:
        await queues.send(Deposit("42", 5))
        await trio.sleep(1)
        await queues.purge("account", "42")  # so the commit is refused
        await trio.sleep(30)
    assert recorder.one("process account/{id}").outcome == "failed"
    assert not recorder.traces._failed


async def test_a_propagator_that_fails_leaves_no_span_open(autojump_clock: MockClock) -> None:
    class Fails(TraceContextTextMapPropagator):
        def inject(self, *_: Any, **__: Any) -> None:
            raise OSError

    recorder = Recorder()
    traces = Traces(tracer_provider=recorder.provider, propagator=Fails())
    async with open_atomic_queues("memory://", registry=new_registry(), instruments=[traces]) as queues:
        await queues.send(Deposit("42", 5))
        await queues.wait_settled()
    assert [span.name for span in recorder.spans()] == ["send account/{id}", "process account/{id}"]


async def test_a_recurring_command_begins_a_trace(autojump_clock: MockClock) -> None:
    registry, recorder = new_registry(), Recorder()
    registry.every(10, Deposit("42", 5))
    async with open_atomic_queues("memory://", registry=registry, instruments=[recorder.traces]):
        await trio.sleep(15)
    processed = recorder.spans()[0]
    assert (processed.name, processed.parent, processed.links) == ("process account/{id}", None, ())


async def test_a_blocking_sender_is_traced_too(clean_redis: RedisServer) -> None:
    recorder, thread = Recorder(), Recorder()

    def send() -> int:
        with open_sender(clean_redis.url, instruments=[thread.traces]) as sender:
            sender.send(Deposit("42", 5))
            sender.send_many([Deposit("42", 5), Deposit("42", 5)])
            with pytest.raises(InsufficientFunds):
                sender.call(Withdraw("42", 500), timeout=20)
            return sender.call(Deposit("42", 5), timeout=20)

    async with open_atomic_queues(
        clean_redis.url, registry=new_registry(), instruments=[recorder.traces]
    ) as queues:
        assert await trio.to_thread.run_sync(send) == 120
        await queues.wait_settled()
    one, two, refused, called = thread.spans()
    assert [one.name, two.name, called.name] == [
        "send account/{id}",
        "send account/{id}",
        "call account/{id}",
    ]
    assert (refused.outcome, refused.status) == ("rejected", "UNSET")
    assert [seen.links or seen.parent for seen in recorder.spans()] == [
        (one.span,),
        (two.span,),
        (two.span,),
        refused.span,
        called.span,
    ]
