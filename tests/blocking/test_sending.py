"""What threads send: accepted once, in each thread's own order, or refused as a whole."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio
from blocking.office import Note, Read, in_thread, notes, open_pod, opened
from redis_servers import RedisServer

from trioqueue import (
    AtomicQueues,
    BadEntityId,
    DeadlineExceeded,
    EncodeError,
    EntityPolicy,
    MailboxFull,
    NotRegistered,
    PayloadTooLarge,
    StoreFull,
)
from trioqueue.blocking import Sender
from trioqueue.stores.redis.store import open_redis_store

KEPT = {"desk": EntityPolicy(keep_results=60)}

THREADS = 8
EACH = 60


@pytest.fixture
async def queues(clean_redis: RedisServer) -> AsyncIterator[AtomicQueues]:
    async with open_pod(clean_redis.url) as one:
        yield one


@pytest.fixture
async def sender(clean_redis: RedisServer) -> AsyncIterator[Sender]:
    async with opened(clean_redis.url, entities=KEPT) as one:
        yield one


async def test_what_one_thread_sends_is_handled_in_that_order(queues: AtomicQueues, sender: Sender) -> None:
    def send() -> None:
        for number in range(100):
            sender.send(Note("a", str(number)))

    await in_thread(send)

    assert await notes(queues) == [str(number) for number in range(100)]


async def test_threads_share_a_sender(queues: AtomicQueues, sender: Sender) -> None:
    """They send to one entity and to one of their own; nothing is lost or doubled, and each keeps its order."""

    def send(thread: int) -> list[str]:
        receipts = [
            sender.send(Note(desk, f"{thread} {number}"))
            for number in range(EACH)
            for desk in ("shared", f"own-{thread}")
        ]
        return [receipt.command_id for receipt in receipts]

    ids: list[str] = []

    async def run(thread: int) -> None:
        ids.extend(await in_thread(send, thread))

    async with trio.open_nursery() as nursery:
        for thread in range(THREADS):
            nursery.start_soon(run, thread)

    assert len(set(ids)) == THREADS * EACH * 2
    shared = await notes(queues, "shared")
    assert len(shared) == THREADS * EACH
    for thread in range(THREADS):
        expected = [f"{thread} {number}" for number in range(EACH)]
        assert [text for text in shared if text.startswith(f"{thread} ")] == expected
        assert await notes(queues, f"own-{thread}") == expected


async def test_the_store_forgets_what_is_settled(sender: Sender, clean_redis: RedisServer) -> None:
    """Numbers that arrive out of their order leave gaps; once all are settled, none is left."""
    async with trio.open_nursery() as nursery:
        for _ in range(THREADS):
            nursery.start_soon(in_thread, lambda: [sender.send(Note("a", "x")) for _ in range(EACH)])
    await in_thread(sender.send, Note("a", "last"))

    with clean_redis.client() as client:
        (producer,) = client.keys("*producer:*")
        low, high, _ = client.get(producer).split()
        assert (int(low), int(high)) == (THREADS * EACH + 1, THREADS * EACH + 1)
        assert client.keys("*gaps:*") == []


async def test_several_at_once_are_taken_together(queues: AtomicQueues, sender: Sender) -> None:
    receipts = await in_thread(sender.send_many, [Note("a", "1"), Note("b", "2"), Note("a", "3")])

    assert [receipt.entity_id for receipt in receipts] == ["a", "b", "a"]
    assert await notes(queues) == ["1", "3"]
    assert await notes(queues, "b") == ["2"]
    assert await in_thread(sender.send_many, []) == []


async def test_a_receipt_asks_for_the_outcome_in_any_thread(queues: AtomicQueues, sender: Sender) -> None:
    receipt = await in_thread(sender.send, Note("a", "x"))

    assert await in_thread(sender.result, receipt) == 1
    assert await in_thread(sender.result, receipt, timeout=5) == 1


# ------------------------------------------------------------------------------------ options
async def test_a_second_send_with_a_key_gets_the_first_ones_receipt(
    queues: AtomicQueues, sender: Sender
) -> None:
    first = await in_thread(sender.send, Note("a", "one"), key="k")

    assert await in_thread(sender.send, Note("a", "other"), key="k") == first
    assert await in_thread(sender.send, Note("b", "elsewhere"), key="k") != first
    assert await in_thread(sender.result, first) == 1
    assert await notes(queues) == ["one"]


@pytest.mark.parametrize("as_moment", [False, True])
async def test_a_command_can_be_put_off(queues: AtomicQueues, sender: Sender, as_moment: bool) -> None:
    later = {"at": datetime.now(UTC) + timedelta(seconds=0.25)} if as_moment else {"delay": 0.25}
    receipt = await in_thread(sender.send, Note("a", "later"), **later)
    await in_thread(sender.send, Note("a", "now"))

    assert await in_thread(sender.result, receipt, timeout=10) == 2
    assert await notes(queues) == ["now", "later"]


async def test_headers_and_expiry_travel(queues: AtomicQueues, sender: Sender) -> None:
    await in_thread(sender.send, Note("a", "x"), headers={"mark": "!"})
    late = await in_thread(sender.send, Note("a", "late"), delay=0.2, expires=0.1)

    with pytest.raises(DeadlineExceeded):
        await in_thread(sender.result, late, timeout=10)
    assert await notes(queues) == ["x!"]


# ------------------------------------------------------------------------------------ refusals
async def queued(server: RedisServer) -> int:
    with server.client() as client:
        return sum(client.llen(key) for key in client.keys("*}:q:*"))


async def test_a_full_mailbox_takes_nothing_of_a_group(clean_redis: RedisServer) -> None:
    async with opened(clean_redis.url, entities={"desk": EntityPolicy(max_pending=2)}) as sender:
        await in_thread(sender.send, Note("a", "1"))
        with pytest.raises(MailboxFull) as caught:
            await in_thread(sender.send_many, [Note("b", "2"), Note("a", "3"), Note("a", "4")])
        assert (caught.value.entity, caught.value.limit) == ("desk/a", 2)
        assert await queued(clean_redis) == 1

        await in_thread(sender.send_many, [Note("b", "2"), Note("a", "3")])
        with pytest.raises(MailboxFull):
            await in_thread(sender.call, Note("a", "4"), timeout=5)
        assert await queued(clean_redis) == 3


@pytest.mark.parametrize(
    ("command", "options", "error"),
    [
        (Note("a", "x" * 300_000), {}, PayloadTooLarge),
        (Note("", "x"), {}, BadEntityId),
        (object(), {}, NotRegistered),
        (Note("a", "x"), {"delay": -1}, EncodeError),
        (Note("a", "x"), {"key": ""}, EncodeError),
        (Note("a", "x"), {"at": datetime(2030, 1, 1)}, EncodeError),  # noqa: DTZ001 - that is the mistake
    ],
)
async def test_what_cannot_be_sent_is_refused_before_anything_is(
    sender: Sender, clean_redis: RedisServer, command: Any, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await in_thread(sender.send, command, **options)
    assert await queued(clean_redis) == 0


async def test_a_group_that_is_too_large_is_refused(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trioqueue.blocking.sender.MAX_GROUP_BYTES", 1000)
    with pytest.raises(PayloadTooLarge, match="together"):
        await in_thread(sender.send_many, [Note("a", "x" * 600), Note("a", "y" * 600)])


async def test_a_full_store_refuses_and_drains() -> None:
    with RedisServer() as server:
        async with opened(server.url) as sender:
            await in_thread(sender.send, Note("a", "1"))
            with server.client() as client:
                client.config_set("maxmemory", 1)
            with pytest.raises(StoreFull):
                await in_thread(sender.send, Note("a", "2"))
            async with open_pod(server.url) as queues:
                with server.client() as client:
                    client.config_set("maxmemory", 0)
                assert await notes(queues) == ["1"]


async def test_other_senders_see_the_same_mailboxes(queues: AtomicQueues, clean_redis: RedisServer) -> None:
    async with opened(clean_redis.url, prefix="other") as stranger, opened(clean_redis.url) as sender:
        await in_thread(stranger.send, Note("a", "elsewhere"))
        await in_thread(sender.send, Note("a", "x"))
        await queues.send(Note("a", "y"))
        assert await in_thread(sender.call, Read("a"), timeout=10) == ["x", "y"]
    async with open_redis_store(clean_redis.url, prefix="other", unanswered=5) as store:
        assert (await store.statistics()).with_work == 1
