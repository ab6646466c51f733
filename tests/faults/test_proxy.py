"""The proxy itself: what it splits, names and harms."""

import pytest
import redis
import trio
from faults.proxy import Fault, How, kind_of, open_proxy
from faults.resp_frames import Splitter, arguments, frame_end
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis_servers import RedisServer

from trioqueue.stores.redis.scripts import all_scripts

MESSAGES = (
    b"+OK\r\n",
    b":12\r\n",
    b"$-1\r\n",
    b"$4\r\n\r\n\r\n\r\n",
    b"_\r\n",
    b"*0\r\n",
    b"*3\r\n$1\r\na\r\n*2\r\n:1\r\n$0\r\n\r\n+x\r\n",
    b"%2\r\n+a\r\n*1\r\n:1\r\n+b\r\n%0\r\n",
    b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nwx\r\n",
    b"-ERR no\r\n",
)


def test_a_stream_falls_into_messages_wherever_it_is_cut() -> None:
    stream = b"".join(MESSAGES)
    for size in (1, 2, 3, 7, len(stream)):
        splitter = Splitter()
        found = [
            frame
            for start in range(0, len(stream), size)
            for frame in splitter.feed(stream[start : start + size])
        ]
        assert tuple(found) == MESSAGES


def test_a_part_of_a_message_has_no_end() -> None:
    for message in MESSAGES:
        assert frame_end(message) == len(message)
        assert all(frame_end(message[:size]) is None for size in range(len(message)))


def test_requests_are_named() -> None:
    scripts = {one.sha: one.name for one in all_scripts()}
    shas = {name: sha.encode() for sha, name in scripts.items()}
    sources = {one.name: one.source.encode() for one in all_scripts()}
    assert kind_of(arguments(b"*1\r\n$4\r\nping\r\n"), scripts) == "PING"
    assert kind_of([b"EVALSHA", shas["claim"], b"0"], scripts) == "claim"
    assert kind_of([b"EVAL", sources["beat"], b"0"], scripts) == "beat"
    reap = [b"EVALSHA", shas["reap"], b"1", b"key", b"channel"]
    assert kind_of([*reap, b"pod.1", b"generation", b"pod.1", b"1"], scripts) == "leave"
    assert kind_of([*reap, b"pod.2", b"generation", b"pod.1", b"1"], scripts) == "give up"
    assert kind_of([*reap, b"pod.2", b"generation", b"other.1", b"0"], scripts) == "reap"


@pytest.mark.parametrize(
    ("how", "runs"), [(How.LOST, 0), (How.UNANSWERED, 1), (How.INSIDE, 1), (How.LATE, 2)]
)
async def test_a_request_runs_as_often_as_its_fault_says(
    how: How, runs: int, clean_redis: RedisServer
) -> None:
    async with open_proxy(clean_redis.port) as proxy:

        def ask() -> None:
            with redis.Redis.from_url(proxy.url, retry=Retry(NoBackoff(), 0), protocol=3) as client:
                client.incr("n")

        fault = proxy.plan(Fault("INCRBY", how))
        with pytest.raises(redis.ConnectionError):
            await trio.to_thread.run_sync(ask)
        with trio.fail_after(5):
            await fault.fired.wait()
            if how is How.LATE:
                await trio.to_thread.run_sync(ask)  # the repetition, after which it is let go
                await fault.ran.wait()
    with clean_redis.client() as client:
        assert int(client.get("n") or 0) == runs
