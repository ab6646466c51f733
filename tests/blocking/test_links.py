"""What becomes of sends whose answers are lost, and of those that find no server."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from blocking.office import Note, Read, in_thread, notes, open_pod, opened
from faults.proxy import Fault, How, Proxy, open_proxy
from redis_connections import until
from redis_servers import RedisServer

from trioqueue import (
    DeadlineExceeded,
    EntityPolicy,
    Limits,
    MailboxFull,
    OutcomeUnknown,
    StoreFull,
    StoreUnavailable,
    open_atomic_queues,
)
from trioqueue.blocking import Sender

BRIEF = Limits(unanswered=0.25)
LOSSES = [How.LOST, How.UNANSWERED, How.INSIDE, How.LATE]


@asynccontextmanager
async def through_proxy(
    server: RedisServer, limits: Limits | None = None, **policy: int
) -> AsyncGenerator[tuple[Proxy, Sender]]:
    policies = {"desk": EntityPolicy(**policy)}  # type: ignore[arg-type]
    async with (
        open_proxy(server.port) as proxy,
        opened(proxy.url, limits=limits, entities=policies) as sender,
    ):
        yield proxy, sender


# ------------------------------------------------------------------------------------ lost answers
@pytest.mark.parametrize("how", LOSSES)
async def test_a_send_whose_answer_is_lost_is_repeated_and_not_doubled(
    clean_redis: RedisServer, how: How
) -> None:
    async with open_pod(clean_redis.url) as queues, through_proxy(clean_redis) as (proxy, sender):
        fault = proxy.plan(Fault("send", how))
        for text in ("1", "2", "3"):
            await in_thread(sender.send, Note("a", text))
        assert fault.fired.is_set()
        if how is How.LATE:
            await fault.ran.wait()
        assert proxy.seen["send"] == 4
        assert await notes(queues) == ["1", "2", "3"]


@pytest.mark.parametrize("how", [How.LOST, How.UNANSWERED])
async def test_so_is_a_call(clean_redis: RedisServer, how: How) -> None:
    async with open_pod(clean_redis.url), through_proxy(clean_redis) as (proxy, sender):
        fault = proxy.plan(Fault("send", how))
        assert await in_thread(sender.call, Note("a", "1"), timeout=20) == 1
        assert fault.fired.is_set()
        assert await in_thread(sender.call, Read("a"), timeout=20) == ["1"]


async def test_threads_on_a_bad_line_lose_and_double_nothing(clean_redis: RedisServer) -> None:
    each, threads = 40, 4
    async with open_pod(clean_redis.url) as queues, through_proxy(clean_redis) as (proxy, sender):

        def send(thread: int) -> None:
            for number in range(each):
                sender.send(Note("a", f"{thread} {number}"))

        for number in range(12):
            proxy.plan(Fault("send", LOSSES[number % 3], nth=10 * (number + 1)))
        async with trio.open_nursery() as nursery:
            for thread in range(threads):
                nursery.start_soon(in_thread, send, thread)

        assert proxy.planned == [], "all faults have fired"
        found = await notes(queues)
        assert len(found) == threads * each
        for thread in range(threads):
            mine = [text for text in found if text.startswith(f"{thread} ")]
            assert mine == [f"{thread} {number}" for number in range(each)]


# ------------------------------------------------------------------------------------ refused when repeated
async def test_a_refusal_of_the_repetition_is_not_believed_where_the_first_copy_was_taken(
    tmp_path: Path,
) -> None:
    with RedisServer() as server:

        def fill() -> None:
            with server.client() as client:
                client.config_set("maxmemory", 1)

        async with open_pod(server.url) as queues, through_proxy(server) as (proxy, sender):
            proxy.plan(Fault("send", How.UNANSWERED, then=fill))
            await in_thread(sender.send, Note("a", "1"))
            assert proxy.seen["void"] == 1
            with pytest.raises(StoreFull):
                await in_thread(sender.send, Note("a", "2"))
            assert proxy.seen["void"] == 1, "there was no other copy"
            with server.client() as client:
                client.config_set("maxmemory", 0)
            assert await notes(queues) == ["1"]


async def test_a_copy_that_arrives_after_the_refusal_is_not_taken(clean_redis: RedisServer) -> None:
    """Its first copy is on its way still when the repetition finds the mailbox full."""
    async with through_proxy(clean_redis, max_pending=1) as (proxy, sender):
        fault = proxy.plan(Fault("send", How.LATE, by_hand=True, then=lambda: fill(clean_redis)))
        with pytest.raises(MailboxFull):
            await in_thread(sender.send, Note("a", "late"))
        assert proxy.seen["void"] == 1
        with clean_redis.client() as client:
            client.delete(*client.keys("*}:q:*"))
        fault.let_go.set()
        await fault.ran.wait()
        with clean_redis.client() as client:
            assert client.keys("*}:q:*") == []


def fill(server: RedisServer) -> None:
    with server.client() as client:
        client.rpush("{tq:0}:q:desk:a", "0 somebody else's")


async def test_a_refusal_whose_void_is_not_answered_is_unknown(clean_redis: RedisServer) -> None:
    async with through_proxy(clean_redis, BRIEF, max_pending=1) as (proxy, sender):
        proxy.plan(Fault("send", How.LOST, then=lambda: fill(clean_redis)))
        proxy.plan(Fault("void", How.LOST, then=lambda: setattr(proxy, "refusing", True)))
        with pytest.raises(OutcomeUnknown):
            await in_thread(sender.send, Note("a", "x"))
        proxy.refusing = False


# ------------------------------------------------------------------------------------ nobody answers
async def test_a_server_that_falls_silent(clean_redis: RedisServer) -> None:
    async with through_proxy(clean_redis, BRIEF) as (proxy, sender):
        await in_thread(sender.send, Note("a", "1"))
        proxy.silent = True
        with pytest.raises(OutcomeUnknown) as caught:
            await in_thread(sender.send, Note("a", "2"))
        assert caught.value.seconds == 0.25
        with pytest.raises(StoreUnavailable, match="nothing was sent"):
            await in_thread(sender.send, Note("a", "3"))
        proxy.speak()
        await in_thread(sender.send, Note("a", "4"))

    async with open_pod(clean_redis.url) as queues:
        assert await notes(queues) in (["1", "4"], ["1", "2", "4"])


async def test_a_call_that_was_sent_and_not_answered_in_time(clean_redis: RedisServer) -> None:
    async with through_proxy(clean_redis) as (proxy, sender):
        await in_thread(sender.send, Note("a", "1"))
        proxy.silent = True
        with pytest.raises(DeadlineExceeded):
            await in_thread(sender.call, Note("b", "2"), timeout=0.2)
        proxy.speak()


async def test_a_server_that_is_gone_and_comes_back() -> None:
    with RedisServer(appendonly=True) as server:
        async with opened(server.url, limits=BRIEF) as sender:
            await in_thread(sender.send, Note("a", "1"))
            server.stop()
            with pytest.raises(StoreUnavailable, match=r"not for 0\.25 s; nothing was sent"):
                await in_thread(sender.send, Note("a", "2"))
            with pytest.raises(StoreUnavailable, match=r"not for 0\.1 s; nothing was sent"):
                await in_thread(sender.call, Note("a", "3"), timeout=0.1)
            server.restart()
            await in_thread(sender.send, Note("a", "4"))
            async with open_pod(server.url) as queues:
                assert await in_thread(sender.call, Read("a"), timeout=20) == ["1", "4"]
                assert await notes(queues) == ["1", "4"]


async def test_a_send_waits_for_a_server_that_restarts() -> None:
    with RedisServer(appendonly=True) as server:
        async with opened(server.url) as sender:
            await in_thread(sender.send, Note("a", "1"))
            server.stop()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(in_thread, sender.send, Note("a", "2"))
                await in_thread(server.restart)
        async with open_pod(server.url) as queues:
            assert await notes(queues) == ["1", "2"]


async def test_a_connection_that_the_server_closed_is_not_in_doubt(clean_redis: RedisServer) -> None:
    """An idle one that is gone is seen before anything is written to it."""
    async with through_proxy(clean_redis, BRIEF) as (proxy, sender):
        await in_thread(sender.send, Note("a", "1"))
        assert proxy.finish()
        await until(lambda: not proxy.links)
        proxy.refusing = True
        with pytest.raises(StoreUnavailable):
            await in_thread(sender.send, Note("a", "2"))
        proxy.refusing = False


async def test_scripts_that_the_server_forgot_are_loaded_again(clean_redis: RedisServer) -> None:
    async with opened(clean_redis.url) as sender, open_atomic_queues(clean_redis.url) as queues:
        with clean_redis.client() as client:
            client.script_flush()
        await in_thread(sender.send, Note("a", "1"))
        assert (await queues.statistics()).with_work == 1
