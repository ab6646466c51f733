"""What a sender may ask for one command, and what becomes of its receipt."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import attrs
import pytest
import trio
from redis_servers import RedisServer
from trio.testing import MockClock

from trioqueue import (
    AtomicQueues,
    CallCancelled,
    CallFailed,
    Command,
    Context,
    DeadlineExceeded,
    EncodeError,
    EntityPolicy,
    MailboxFull,
    NotRegistered,
    Receipt,
    Registry,
    Rejection,
    ResultNotKept,
    Retry,
    Status,
    command,
    entity_id,
    open_atomic_queues,
    state,
)

registry = Registry()
KEPT = EntityPolicy(keep_results=60)


@attrs.define
class Broken(Rejection):
    why: str


@state("lamp")
class Lamp:
    log: list[str] = attrs.field(factory=list)


@command("lamp", rejects=[Broken])
class Switch(Command[int]):
    lamp_id: str = entity_id()
    what: str
    seconds: float = 0.0


@command("lamp")
class Remind(Command):
    """Sends another one along with its commit, and remembers its receipt."""

    lamp_id: str = entity_id()
    delay: float
    headers: dict[str, str] = attrs.field(factory=dict)


@command("lamp")
class Hold(Command):
    lamp_id: str = entity_id()
    receipt: Receipt[int]


@registry.handles(Switch)
async def switch(command: Switch, lamp: Lamp, context: Context) -> int:
    await trio.sleep(command.seconds)
    if command.what == "broken":
        raise Broken("the bulb")
    lamp.log.append(command.what + context.headers.get("mark", ""))
    return len(lamp.log)


@registry.handles(Remind)
async def remind(command: Remind, lamp: Lamp, context: Context) -> None:
    receipt = context.send(
        Switch(command.lamp_id, "reminded"), delay=command.delay, headers=command.headers, expires=60
    )
    context.send(Hold("holder", receipt))


@command("lamp")
class Change(Command):
    """Cancels what was said before, and says something else, later."""

    lamp_id: str = entity_id()
    what: str
    fails: bool = False


waiting: dict[str, Receipt[int]] = {}


@registry.handles(Change, retry=Retry(attempts=1))
async def change(command: Change, context: Context) -> None:
    if command.lamp_id in waiting:
        context.cancel(waiting[command.lamp_id])
    if command.fails:
        raise OSError("nothing of it shall stand")
    waiting[command.lamp_id] = context.send(Switch(command.lamp_id, command.what), delay=10)


held: list[Receipt[int]] = []


@registry.handles(Hold)
async def hold(command: Hold) -> None:
    held.append(command.receipt)


def opened(**options: Any) -> AbstractAsyncContextManager[AtomicQueues]:
    return open_atomic_queues("memory://", registry=registry, **options)


@pytest.fixture
async def queues() -> AsyncIterator[AtomicQueues]:
    async with opened(entities={"lamp": KEPT}) as one:
        yield one


async def log_of(queues: AtomicQueues, lamp: str = "a") -> list[str]:
    return (await queues.state(Lamp, lamp)).log


# ------------------------------------------------------------------------------------ delay, expiry, headers
async def test_a_delay_is_not_rounded_to_a_heartbeat(queues: AtomicQueues, autojump_clock: MockClock) -> None:
    sent = trio.current_time()
    receipt = await queues.send(Switch("a", "later"), delay=0.3)
    await queues.send(Switch("a", "now"))
    await queues.wait_settled()
    assert await log_of(queues) == ["now"]
    assert await queues.result(receipt) == 2
    assert trio.current_time() - sent == pytest.approx(0.3, abs=0.05)


async def test_a_moment_is_a_delay(queues: AtomicQueues, autojump_clock: MockClock) -> None:
    zone = timezone(timedelta(hours=5))
    receipt = await queues.send(Switch("a", "at"), at=datetime.now(zone) + timedelta(seconds=40))
    past = await queues.send(Switch("a", "past"), at=datetime.now(zone) - timedelta(days=1))
    assert await queues.result(past) == 1
    began = trio.current_time()
    assert await queues.result(receipt) == 2
    assert trio.current_time() - began == pytest.approx(40, abs=1)


async def test_what_expires_leaves_unhandled(queues: AtomicQueues, autojump_clock: MockClock) -> None:
    await queues.send(Switch("a", "slow", 2))
    late = await queues.send(Switch("a", "late"), expires=1)
    running = await queues.send(Switch("b", "running", 2), expires=1)
    for receipt in (late, running):
        with pytest.raises(DeadlineExceeded):
            await queues.result(receipt)
    assert await log_of(queues) == ["slow"]
    assert await log_of(queues, "b") == []
    with pytest.raises(DeadlineExceeded):
        await queues.call(Switch("a", "called", 2), expires=1)


async def test_an_expiry_counts_from_the_sending_also_with_a_delay(
    queues: AtomicQueues, autojump_clock: MockClock
) -> None:
    receipt = await queues.send(Switch("a", "x"), delay=2, expires=1)
    with pytest.raises(DeadlineExceeded):
        await queues.result(receipt)


async def test_headers_travel(queues: AtomicQueues, autojump_clock: MockClock) -> None:
    await queues.call(Switch("a", "x"), headers={"mark": "!", "of": "nobody"})
    assert await log_of(queues) == ["x!"]


async def test_a_child_has_options_too(queues: AtomicQueues, autojump_clock: MockClock) -> None:
    held.clear()
    await queues.call(Remind("a", 5, {"mark": "?"}))
    await queues.wait_settled()
    assert await log_of(queues) == []
    began = trio.current_time()
    assert await queues.result(held[0]) == 1, "the registry knows what a receipt that travelled is of"
    assert trio.current_time() - began == pytest.approx(5, abs=0.1)
    assert await log_of(queues) == ["reminded?"]


async def test_a_turn_cancels_with_its_commit_or_not_at_all(
    queues: AtomicQueues, autojump_clock: MockClock
) -> None:
    waiting.clear()
    await queues.call(Change("a", "first"))
    await trio.sleep(5)
    await queues.call(Change("a", "second"))
    with pytest.raises(CallFailed):
        await queues.call(Change("a", "third", fails=True))
    await trio.sleep(20)
    assert await log_of(queues) == ["second"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"delay": -1}, "delay"),
        ({"delay": float("nan")}, "delay"),
        ({"delay": 1e12}, "delay"),
        ({"delay": 1, "at": datetime(2030, 1, 1, tzinfo=UTC)}, "one of them"),
        ({"at": datetime(2030, 1, 1)}, "naive"),  # noqa: DTZ001 - that is the mistake
        ({"expires": -1}, "expires"),
        ({"expires": 1, "key": "k"}, "expires and key"),
        ({"delay": 100_000, "key": "k"}, "key_window"),
        ({"key": ""}, "key"),
        ({"key": "x" * 513}, "key"),
        ({"key": "a\nb"}, "key"),
        ({"headers": {"a": 1}}, "headers"),
    ],
)
async def test_what_makes_no_sense_is_refused(
    queues: AtomicQueues, autojump_clock: MockClock, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(EncodeError, match=says):
        await queues.send(Switch("a", "x"), **options)
    assert (await queues.statistics()).with_work == 0


# ------------------------------------------------------------------------------------ key
async def test_the_second_send_with_a_key_gets_the_first_ones_receipt_and_result(
    queues: AtomicQueues,
    autojump_clock: MockClock,
) -> None:
    first = await queues.send(Switch("a", "one"), key="k")
    assert await queues.send(Switch("a", "other"), key="k") == first
    assert await queues.result(first) == 1
    assert await queues.call(Switch("a", "third"), key="k") == 1
    assert await queues.call(Switch("a", "fourth"), key="another") == 2
    assert await log_of(queues) == ["one", "fourth"]


async def test_a_keyed_call_outlives_its_caller(queues: AtomicQueues, autojump_clock: MockClock) -> None:
    with trio.move_on_after(1) as scope:
        await queues.call(Switch("a", "slow", 3), key="k")
    assert scope.cancelled_caught
    began = trio.current_time()
    assert await queues.call(Switch("a", "slow", 3), key="k") == 1
    assert trio.current_time() - began < 4
    assert await log_of(queues) == ["slow"]


async def test_a_keyed_call_does_not_wait_for_what_was_cancelled_long_ago(
    queues: AtomicQueues, autojump_clock: MockClock
) -> None:
    receipt = await queues.send(Switch("a", "one"), key="k", delay=50)
    assert await queues.cancel(receipt) == "dropped"
    assert await queues.cancel(receipt) == "dropped", "a repetition is answered alike"
    await trio.sleep(1000)
    with pytest.raises(CallCancelled):
        await queues.call(Switch("a", "two"), key="k")


async def test_a_keyed_call_ends_when_its_command_is_gone(
    queues: AtomicQueues, autojump_clock: MockClock
) -> None:
    await queues.send(Switch("a", "one"), key="k", delay=50)
    queues._store._server.later.commands.clear()  # type: ignore[attr-defined]
    with trio.fail_after(60), pytest.raises(ResultNotKept):
        await queues.call(Switch("a", "two"), key="k")


async def test_a_key_ends_with_its_window(autojump_clock: MockClock) -> None:
    async with opened(entities={"lamp": EntityPolicy(key_window=10)}) as queues:
        assert await queues.call(Switch("a", "one"), key="k") == 1
        await trio.sleep(9)
        assert await queues.call(Switch("a", "two"), key="k") == 1
        await trio.sleep(2)
        assert await queues.call(Switch("a", "three"), key="k") == 2


# ------------------------------------------------------------------------------------ receipts
async def test_a_result_is_what_a_call_answers(queues: AtomicQueues, autojump_clock: MockClock) -> None:
    receipts = [await queues.send(Switch("a", what)) for what in ("on", "broken", "off")]
    assert await queues.result(receipts[0]) == 1
    with pytest.raises(Broken) as caught:
        await queues.result(receipts[1])
    assert caught.value.why == "the bulb"
    answers: list[int] = []

    async def ask() -> None:
        answers.append(await queues.result(receipts[2]))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ask)
    assert answers == [2, 2, 2]
    assert not queues._receiver._waiting


async def test_who_waits_for_a_result_may_leave(queues: AtomicQueues, autojump_clock: MockClock) -> None:
    receipt = await queues.send(Switch("a", "slow", 5))
    with trio.move_on_after(1):
        await queues.result(receipt)
    assert not queues._receiver._waiting
    assert await queues.result(receipt) == 1


async def test_a_result_that_is_not_kept_is_refused_at_once(autojump_clock: MockClock) -> None:
    async with opened() as queues:
        receipt = await queues.send(Switch("a", "on", 5))
        began = trio.current_time()
        with pytest.raises(ResultNotKept, match="is not kept:"):
            await queues.result(receipt)
        assert trio.current_time() == began
        await queues.wait_settled()
        assert await queues.status(receipt) == Status("unknown")


async def test_a_result_is_kept_as_long_as_was_said(autojump_clock: MockClock) -> None:
    async with opened(entities={"lamp": EntityPolicy(keep_results=100)}) as queues:
        receipt = await queues.send(Switch("a", "on"))
        await queues.wait_settled()
        await trio.sleep(99)
        assert await queues.result(receipt) == 1
        await trio.sleep(2)
        with pytest.raises(ResultNotKept, match="any more"):
            await queues.result(receipt)


async def test_a_foreign_receipt_needs_a_registry(queues: AtomicQueues, autojump_clock: MockClock) -> None:
    receipt: Receipt[int] = Receipt("lamp", "a", "id", "unheard_of", 60.0)
    with pytest.raises(NotRegistered, match="unheard_of"):
        await queues.result(receipt)


async def test_status_follows_a_command(queues: AtomicQueues, autojump_clock: MockClock) -> None:
    head = await queues.send(Switch("a", "slow", 2))
    receipts = [await queues.send(Switch("a", what)) for what in ("on", "broken")]
    later = await queues.send(Switch("a", "later"), delay=50)
    assert [await queues.status(one) for one in (head, *receipts, later)] == [Status("pending")] * 4
    await queues.wait_settled()
    assert [await queues.status(one) for one in (head, *receipts)] == [
        Status("finished", "done"),
        Status("finished", "done"),
        Status("finished", "rejected"),
    ]
    assert await queues.status(later) == Status("pending")


async def test_cancelling_says_what_becomes_of_a_command(
    queues: AtomicQueues, autojump_clock: MockClock
) -> None:
    running = await queues.send(Switch("a", "running", 50))
    queued = await queues.send(Switch("a", "queued"))
    later = await queues.send(Switch("a", "later"), delay=50)
    await trio.sleep(0.1)
    began = trio.current_time()
    assert await queues.cancel(queued) == "dropped"
    assert await queues.cancel(later) == "dropped"
    assert await queues.cancel(running) == "told"
    for receipt in (running, queued, later):
        with pytest.raises(CallCancelled):
            await queues.result(receipt)
        assert await queues.status(receipt) == Status("finished", "cancelled")
        assert await queues.cancel(receipt) in ("late", "dropped")
    assert trio.current_time() - began < 1
    await trio.sleep(100)
    assert await log_of(queues) == []


async def test_a_full_mailbox_refuses_its_senders_alone(autojump_clock: MockClock) -> None:
    async with opened(entities={"lamp": EntityPolicy(max_pending=2)}) as queues:
        await queues.send(Switch("a", "slow", 5))
        await queues.send(Switch("a", "on"))
        with pytest.raises(MailboxFull) as caught:
            await queues.send_many([Switch("b", "on"), Switch("a", "off")])
        assert (caught.value.entity, caught.value.limit) == ("lamp/a", 2)
        await queues.send(Switch("a", "later"), delay=1)
        await queues.wait_settled()
        await queues.send(Switch("a", "off"))
        await queues.wait_settled()
        assert await log_of(queues) == ["slow", "on", "later", "off"]
        assert await log_of(queues, "b") == []


async def test_on_redis_as_in_memory(redis_server: RedisServer) -> None:
    """Delay, key, result, status, cancellation and a full mailbox, with the pod elsewhere."""
    policy = {"lamp": EntityPolicy(keep_results=60, max_pending=3)}
    async with (
        open_atomic_queues(redis_server.url, registry=registry, prefix="sending"),
        open_atomic_queues(redis_server.url, prefix="sending", entities=policy) as sender,
    ):
        with trio.fail_after(20):
            later = await sender.send(Switch("a", "later"), delay=0.2)
            gone = await sender.send(Switch("a", "gone"), delay=60)
            first = await sender.send(Switch("a", "now"), key="k", headers={"mark": "!"})
            assert await sender.send(Switch("a", "now"), key="k") == first
            assert await sender.call(Switch("a", "now"), key="k") == await sender.result(first) == 1
            assert await sender.status(later) == Status("pending")
            assert await sender.result(later) == 2
            assert await sender.cancel(gone) == "dropped"
            with pytest.raises(CallCancelled):
                await sender.result(gone)
            slow = await sender.send(Switch("b", "slow", 30))
            await sender.send_many([Switch("b", "x"), Switch("b", "y")])
            with pytest.raises(MailboxFull):
                await sender.send(Switch("b", "z"))
            assert await sender.cancel(slow) in ("told", "dropped")
            with pytest.raises(CallCancelled):
                await sender.result(slow)
            await sender.wait_settled()
            assert await log_of(sender) == ["now!", "later"]
            assert await log_of(sender, "b") == ["x", "y"]
