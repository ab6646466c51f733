"""Calls from threads: their answers, their errors, and what becomes of a command whose caller has gone."""

import logging
import threading
import time
from collections.abc import AsyncIterator
from functools import partial

import pytest
import trio
from blocking.office import Burn, Locked, Note, Read, Watch, Work, in_thread, notes, open_pod, opened
from faults.proxy import open_proxy
from redis_connections import until
from redis_servers import RedisServer

from trioqueue import (
    AtomicQueues,
    CallCancelled,
    CallFailed,
    Closed,
    Codec,
    DeadlineExceeded,
    EncodeError,
    EntityPolicy,
    NotRegistered,
    Receipt,
    ResultNotKept,
)
from trioqueue.blocking import Sender
from trioqueue.blocking import sender as sender_module
from trioqueue.blocking.answers import Answers

KEPT = {"desk": EntityPolicy(keep_results=60)}


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
async def queues(clean_redis: RedisServer, watch: Watch) -> AsyncIterator[AtomicQueues]:
    async with open_pod(clean_redis.url, watch) as one:
        yield one


@pytest.fixture
async def sender(clean_redis: RedisServer) -> AsyncIterator[Sender]:
    async with opened(clean_redis.url) as one:
        yield one


def listeners() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("trioqueue")]


# ------------------------------------------------------------------------------------ answers
async def test_threads_get_answers_and_rejections(queues: AtomicQueues, sender: Sender) -> None:
    answers: list[int] = []
    refusals: list[str] = []

    def ask(thread: int) -> None:
        for number in range(20):
            if number % 4 == 3:
                with pytest.raises(Locked) as caught:
                    sender.call(Note("a", "secret"), timeout=20)
                refusals.append(caught.value.drawer)
            else:
                answers.append(sender.call(Note("a", f"{thread} {number}"), timeout=20))

    async with trio.open_nursery() as nursery:
        for thread in range(8):
            nursery.start_soon(in_thread, ask, thread)

    assert sorted(answers) == list(range(1, 8 * 15 + 1))
    assert refusals == ["top"] * 8 * 5
    assert len(await in_thread(sender.call, Read("a"), timeout=20)) == 8 * 15


async def test_the_thread_that_listens_begins_with_the_first_call(
    queues: AtomicQueues, sender: Sender
) -> None:
    await in_thread(sender.send, Note("a", "x"))
    assert listeners() == []
    for _ in range(3):
        await in_thread(sender.call, Note("a", "x"), timeout=20)
        assert len(listeners()) == 1
    await in_thread(sender.close)
    assert listeners() == []


async def test_an_outcome_too_large_for_a_hint_is_read(queues: AtomicQueues, sender: Sender) -> None:
    await in_thread(sender.send_many, [Note("a", "x" * 10_000), Note("a", "y")])

    assert await in_thread(sender.call, Read("a"), timeout=20) == ["x" * 10_000, "y"]


async def test_no_log_shows_what_travels(
    queues: AtomicQueues, sender: Sender, caplog: pytest.LogCaptureFixture
) -> None:
    """redis-py would tell a debug log what is pushed, and outcomes are."""
    with caplog.at_level(logging.DEBUG):
        await in_thread(sender.send, Note("a", "marker-5e0c"))
        assert await in_thread(sender.call, Read("a"), timeout=20) == ["marker-5e0c"]
    assert caplog.records
    assert "marker-5e0c" not in caplog.text


async def test_a_failure_is_told(queues: AtomicQueues, sender: Sender) -> None:
    with pytest.raises(CallFailed, match="no water") as caught:
        await in_thread(sender.call, Burn("a"), timeout=20)
    assert "RuntimeError" in caught.value.traceback


async def test_a_call_that_another_cancels(queues: AtomicQueues, sender: Sender, watch: Watch) -> None:
    async def cancel() -> None:
        await watch.begun.wait()
        await queues.cancel(Receipt("desk", "a", watch.command_id))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancel)
        with pytest.raises(CallCancelled):
            await in_thread(sender.call, Work("a"), timeout=20)


# ------------------------------------------------------------------------------------ deadlines
async def test_a_timeout_cancels_the_handler_on_its_pod(
    queues: AtomicQueues, sender: Sender, watch: Watch
) -> None:
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="'work' of desk/a"):
        await in_thread(sender.call, Work("a"), timeout=0.3)
    assert 0.3 <= time.monotonic() - began < 5
    with trio.fail_after(10):
        await watch.cancelled.wait()
    assert await in_thread(sender.call, Note("a", "goes on"), timeout=20) == 1


async def test_what_is_not_begun_in_time_is_dropped(
    queues: AtomicQueues, sender: Sender, watch: Watch
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(in_thread, sender.call, Work("a"), timeout=20))
        await watch.begun.wait()
        with pytest.raises(DeadlineExceeded):
            await in_thread(sender.call, Note("a", "too late"), timeout=0.1)
        watch.let_go.set()

    assert await notes(queues) == []


async def test_a_caller_that_is_interrupted_cancels_too(
    queues: AtomicQueues, sender: Sender, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deadline is far away, so it is the word of the caller that ends the handler."""
    begun = threading.Event()

    def interrupted(*_: object) -> bytes:
        assert begun.wait(20)
        raise KeyboardInterrupt

    async def tell() -> None:
        await watch.begun.wait()
        begun.set()

    monkeypatch.setattr(Answers, "wait", interrupted)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell)
        with pytest.raises(KeyboardInterrupt):
            await in_thread(sender.call, Work("a"), timeout=600)
        with trio.fail_after(10):
            await watch.cancelled.wait()


async def test_a_call_with_a_key_goes_on_without_its_caller(
    queues: AtomicQueues, sender: Sender, watch: Watch
) -> None:
    with pytest.raises(DeadlineExceeded):
        await in_thread(sender.call, Work("a"), timeout=0.2, key="k")
    await watch.begun.wait()
    async with trio.open_nursery() as nursery:
        for thread in range(2):
            nursery.start_soon(release_once, sender, watch, thread)
    assert not watch.cancelled.is_set()


async def release_once(sender: Sender, watch: Watch, thread: int) -> None:
    if thread:
        watch.let_go.set()
    assert await in_thread(sender.call, Work("a"), timeout=20, key="k") == "done"


async def test_a_call_with_a_key_ends_when_its_command_is_gone(
    sender: Sender, clean_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "LOST_AFTER", 0.05)
    await in_thread(sender.send, Note("a", "x"), key="k", delay=50)
    with clean_redis.client() as client:
        client.delete(*client.keys("*}:later"), *client.keys("*}:delayed"))
    with pytest.raises(ResultNotKept):
        await in_thread(sender.call, Note("a", "y"), timeout=20, key="k")


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
async def test_a_timeout_that_makes_no_sense(sender: Sender, seconds: float) -> None:
    with pytest.raises(EncodeError, match="timeout"):
        await in_thread(sender.call, Note("a", "x"), timeout=seconds)
    assert listeners() == []


async def test_without_a_pod_a_call_ends_in_time(sender: Sender) -> None:
    with pytest.raises(DeadlineExceeded):
        await in_thread(sender.call, Note("a", "x"), timeout=0.1)


# ------------------------------------------------------------------------------------ hints that do not come
async def test_a_lost_hint_costs_a_second_and_nothing_else(
    queues: AtomicQueues, clean_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trioqueue.blocking.answers.LOOK_EVERY", 0.3)  # a short second
    async with open_proxy(clean_redis.port) as proxy, opened(proxy.url) as sender:
        await in_thread(sender.call, Note("a", "x"), timeout=20)
        proxy.deaf = True
        assert await in_thread(sender.call, Note("a", "x"), timeout=20) == 2
        # There is a last look even where the time is up before that second is.
        assert await in_thread(sender.call, Note("a", "x"), timeout=0.15) == 3
        proxy.deaf = False


async def test_a_new_connection_has_everybody_look(
    queues: AtomicQueues, clean_redis: RedisServer, watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_proxy(clean_redis.port) as proxy, opened(proxy.url) as sender:
        await in_thread(sender.call, Note("b", "x"), timeout=20)

        async def disturb() -> None:
            await watch.begun.wait()
            before = proxy.seen["SUBSCRIBE"]
            proxy.deaf = True  # so the hint is lost, and no second has passed when the outcome is there
            proxy.reset()
            watch.let_go.set()
            await until(lambda: proxy.seen["SUBSCRIBE"] > before)
            proxy.deaf = False

        async with trio.open_nursery() as nursery:
            nursery.start_soon(disturb)
            assert await in_thread(sender.call, Work("a"), timeout=20) == "done"
        began = time.monotonic()
        for _ in range(5):
            await in_thread(sender.call, Note("b", "x"), timeout=20)
        assert time.monotonic() - began < 1, "hints are heard again"

    assert [one.getMessage()[:18] for one in caplog.records if one.name == "trioqueue.blocking"] == [
        "no hints are heard"
    ]


# ------------------------------------------------------------------------------------ receipts
async def test_a_result_that_is_not_there_in_time(
    queues: AtomicQueues, clean_redis: RedisServer, watch: Watch
) -> None:
    async with opened(clean_redis.url, entities=KEPT) as sender:
        receipt = await in_thread(sender.send, Work("a"))
        with pytest.raises(TimeoutError, match=r"desk/a .* is not settled after 0\.1 s"):
            await in_thread(sender.result, receipt, timeout=0.1)
        assert not watch.cancelled.is_set()
        watch.let_go.set()
        assert await in_thread(sender.result, receipt, timeout=20) == "done"


async def test_a_result_that_is_not_kept(
    queues: AtomicQueues, clean_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "LOST_AFTER", 0.05)
    short = {"desk": EntityPolicy(keep_results=0.1)}
    async with opened(clean_redis.url) as forgetful, opened(clean_redis.url, entities=short) as sender:
        receipt = await in_thread(forgetful.send, Note("a", "x"))
        with pytest.raises(ResultNotKept, match="is not kept:"):
            await in_thread(forgetful.result, receipt)
        receipt = await in_thread(sender.send, Note("a", "x"))
        with clean_redis.client() as client:
            await notes(queues)
            client.delete(*client.keys("*result:*"))
        with pytest.raises(ResultNotKept, match="any more"):
            await in_thread(sender.result, receipt)


async def test_a_result_of_what_is_still_put_off(
    queues: AtomicQueues, clean_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "LOST_AFTER", 0.02)
    async with opened(clean_redis.url, entities=KEPT) as sender:
        receipt = await in_thread(sender.send, Note("a", "x"), delay=0.3)
        assert await in_thread(sender.result, receipt) == 1


async def test_a_receipt_that_travelled_is_no_longer_of_a_known_class(
    clean_redis: RedisServer,
) -> None:
    async with opened(clean_redis.url, entities=KEPT) as sender:
        receipt = await in_thread(sender.send, Note("a", "x"))
        codec = Codec()
        twin = codec.structure(codec.unstructure(receipt), Receipt[int])
        with pytest.raises(NotRegistered, match="ask where it was sent"):
            await in_thread(sender.result, twin)


# ------------------------------------------------------------------------------------ the end
async def test_a_closed_sender_says_so(queues: AtomicQueues, clean_redis: RedisServer) -> None:
    async with opened(clean_redis.url, entities=KEPT) as sender:
        receipt = await in_thread(sender.send, Note("a", "x"))
    uses = [
        partial(sender.send, Note("a", "x")),
        partial(sender.send_many, [Note("a", "x")]),
        partial(sender.call, Note("a", "x"), timeout=20),
        partial(sender.result, receipt),
    ]
    for use in uses:
        with pytest.raises(Closed, match="inside its `with open_sender"):
            await in_thread(use)
    await in_thread(sender.close)
    assert repr(sender).startswith("<Sender closed on redis://127.0.0.1:")


async def test_closing_ends_what_other_threads_wait_for(
    queues: AtomicQueues, sender: Sender, watch: Watch
) -> None:
    ended: list[str] = []

    async def wait(desk: str) -> None:
        with pytest.raises(Closed):
            await in_thread(sender.call, Work(desk), timeout=600)
        ended.append(desk)

    async with trio.open_nursery() as nursery:
        for desk in ("a", "b"):
            nursery.start_soon(wait, desk)
        await watch.begun.wait()
        await in_thread(sender.close)

    assert sorted(ended) == ["a", "b"]
    watch.let_go.set()
