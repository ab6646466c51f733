"""What the transport does when its connection breaks, falls silent, or leads to another server."""

import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
import trio
import trio.testing
from redis_connections import GOOD_INFO, HELLO, cut, open_proxy, until
from redis_servers import RedisServer

from trioqueue._errors import AccessDenied, OutcomeUnknown, StoreUnavailable
from trioqueue.stores.redis.address import parse_address
from trioqueue.stores.redis.resp import pack
from trioqueue.stores.redis.transport import ServerChanged, open_transport

ROUNDS = 12
"""How often a race is run that is lost every other time."""


def opened(server: RedisServer | str, **options: Any) -> Any:
    return open_transport(parse_address(server if isinstance(server, str) else server.url), **options)


async def test_what_was_unanswered_is_sent_again_in_order_and_first(clean_redis: RedisServer) -> None:
    async with opened(clean_redis, client_name="tests") as transport:
        got: list[object] = []
        clean_redis.pause()
        for number in range(5):
            transport.submit(pack(("ECHO", number)), got.append, server=transport.server_id)
        await until(lambda: transport.statistics().in_flight == 5)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, cut, clean_redis)
            await trio.testing.wait_all_tasks_blocked()
            clean_redis.resume()
        for number in range(5, 10):
            transport.submit(pack(("ECHO", number)), got.append, server=transport.server_id)
        await until(lambda: len(got) == 10)

    assert got == [str(number).encode() for number in range(10)]


@pytest.mark.parametrize("harm", [b"+OK\r\n", b"HTTP/1.1 400 Bad Request\r\n"])
async def test_a_stream_in_doubt_is_left(clean_redis: RedisServer, harm: bytes) -> None:
    async with open_proxy(clean_redis) as proxy, opened(proxy.url) as transport:
        assert await transport.call("ECHO", "before") == b"before"
        await proxy.inject(harm)
        await until(lambda: transport.statistics().reconnects == 1)

        assert await transport.call("ECHO", "after", server=transport.server_id) == b"after"
        assert proxy.connections == 2


async def test_requests_for_any_server_go_to_the_new_one_and_no_others() -> None:
    with RedisServer() as server:
        async with opened(server) as transport:
            old, got = transport.server_id, list[object]()
            server.pause()
            for number in range(6):
                tied = old if number % 2 else None
                transport.submit(pack(("SETNX", f"key{number}", number)), got.append, server=tied)
            await until(lambda: transport.statistics().in_flight == 6)
            server.kill()
            await until(lambda: not transport.statistics().connected)
            transport.submit(pack(("SETNX", "key6", 6)), got.append)
            transport.submit(pack(("SETNX", "key7", 7)), got.append, server=old)
            server.restart()
            await until(lambda: len(got) == 8)

            assert transport.server_id != old
            assert [reply for reply in got if not isinstance(reply, ServerChanged)] == [1, 1, 1, 1]

            # Prepared before the change, and submitted after it.
            with pytest.raises(ServerChanged):
                await transport.call("SET", "key8", 8, server=old)
            assert await transport.call("SET", "key9", 9, server=transport.server_id) == b"OK"

        with server.client() as client:
            assert sorted(client.keys()) == [b"key0", b"key2", b"key4", b"key6", b"key9"]


async def test_what_has_another_form_goes_to_the_new_server_in_its_place() -> None:
    with RedisServer() as server:
        async with opened(server) as transport:
            old, got = transport.server_id, list[object]()

            def submit(n: int) -> None:
                packed, other = (pack(("RPUSH", "key", word)) for word in (f"old {n}", f"new {n}"))
                transport.submit(packed, got.append, server=old, elsewhere=lambda: other)

            server.pause()
            submit(1)
            transport.submit(pack(("RPUSH", "key", "any 2")), got.append)
            await until(lambda: transport.statistics().in_flight == 2)
            server.kill()
            await until(lambda: not transport.statistics().connected)
            submit(3)
            transport.submit(pack(("RPUSH", "key", "any 4")), got.append)
            server.restart()
            await until(lambda: len(got) == 4)
            submit(5)
            assert await transport.call("LRANGE", "key", 0, -1) == [
                b"new 1",
                b"any 2",
                b"new 3",
                b"any 4",
                b"new 5",
            ]


async def test_what_may_have_been_done_is_not_said_to_be_unsent() -> None:
    with RedisServer() as server:
        async with opened(server, unanswered=0.2) as transport:
            server.kill()
            await until(lambda: not transport.statistics().connected)
            got = list[object]()
            for written in (True, False):
                transport.submit(pack(("ECHO", 1)), got.append, written=written)
            await until(lambda: len(got) == 2)
            assert [type(error) for error in got] == [OutcomeUnknown, StoreUnavailable]


async def test_a_silent_server_is_left_and_found_again(clean_redis: RedisServer) -> None:
    async with opened(clean_redis, reply_timeout=0.1) as transport:
        clean_redis.pause()
        try:
            got: list[object] = []
            transport.submit(pack(("ECHO", "patience")), got.append)
            await until(lambda: not transport.statistics().connected)
            assert "no answer for 0.1 s" in repr(transport)
        finally:
            clean_redis.resume()
        await until(lambda: got)
        assert got == [b"patience"]


async def test_a_link_that_only_swallows_is_left(clean_redis: RedisServer) -> None:
    async with open_proxy(clean_redis) as proxy, opened(proxy.url, reply_timeout=0.1) as transport:
        proxy.mute = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transport.call, "ECHO", "patience")
            await until(lambda: proxy.connections == 2)
            proxy.mute = False
        assert await transport.call("PING") == b"PONG"


async def test_silence_is_no_doubt_when_nothing_was_asked(clean_redis: RedisServer) -> None:
    async with opened(clean_redis, reply_timeout=0.05) as transport:
        await transport.call("PING")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 0.2)  # several times the timeout: the subject of this test
        assert transport.statistics().reconnects == 0
        assert await transport.call("PING") == b"PONG"


async def test_a_slow_server_that_goes_on_answering_is_not_left(clean_redis: RedisServer) -> None:
    # Long, so that Redis reads and answers one at a time.
    slow = pack(("EVAL", "for i = 1, 2000000 do end return 1", 0, "x" * 50_000))
    async with opened(clean_redis) as transport:
        begun = time.monotonic()
        await transport.call("EVAL", "for i = 1, 2000000 do end return 1", 0, "x" * 50_000)
        one = time.monotonic() - begun

    async with opened(clean_redis, reply_timeout=8 * one) as transport:
        got: list[object] = []
        begun = time.monotonic()
        for _ in range(30):
            transport.submit(slow, got.append)
        await until(lambda: len(got) == 30)

        assert time.monotonic() - begun > 10 * one
        assert transport.statistics().reconnects == 0


async def test_a_reply_that_came_while_this_process_stood_still_is_taken(clean_redis: RedisServer) -> None:
    async with opened(clean_redis, reply_timeout=0.1) as transport:
        got: list[object] = []
        clean_redis.pause()
        transport.submit(pack(("ECHO", "in time")), got.append)
        await until(lambda: transport.statistics().in_flight == 1)
        clean_redis.resume()
        time.sleep(0.3)  # noqa: ASYNC251  the loop stands still, as in a process that was frozen
        await until(lambda: got)
        assert got == [b"in time"]
        assert transport.statistics().reconnects == 0


async def test_without_a_link_requests_are_given_up_at_last() -> None:
    with RedisServer() as server:
        async with opened(server, unanswered=0.2) as transport:
            got: list[object] = []
            server.pause()
            transport.submit(pack(("ECHO", "written")), got.append)
            await until(lambda: transport.statistics().in_flight == 1)
            server.kill()
            await until(lambda: not transport.statistics().connected)
            transport.submit(pack(("ECHO", "queued")), got.append)
            await until(lambda: len(got) == 2)

            written, queued = got
            assert isinstance(written, OutcomeUnknown)
            assert isinstance(queued, StoreUnavailable)
            assert "nothing was sent" in str(queued)
            assert isinstance(queued.__cause__, StoreUnavailable)
            assert "Connection refused" in str(queued.__cause__)

            server.restart()
            await until(lambda: transport.statistics().connected)
            assert await transport.call("PING") == b"PONG"


async def test_a_changed_password_is_the_cause_and_may_be_changed_back() -> None:
    with RedisServer(requirepass="secret") as server:
        async with opened(server, unanswered=0.2, client_name="tests") as transport:
            with server.client() as client:
                client.config_set("requirepass", "other")
                client.client_kill_filter(_type="normal")
                await until(lambda: not transport.statistics().connected)

                with pytest.raises(StoreUnavailable) as caught:
                    await transport.call("PING")
                assert isinstance(caught.value.__cause__, AccessDenied)

            with redis.Redis(port=server.port, password="other") as client:
                client.config_set("requirepass", "secret")
            await until(lambda: transport.statistics().connected)
            assert await transport.call("PING") == b"PONG"


async def test_what_a_hook_holds_back_is_given_up_like_the_rest() -> None:
    with RedisServer() as server:
        async with opened(server, unanswered=0.2) as transport:
            got: list[object] = []
            held: list[bytes] = []

            def flush() -> None:
                while held:
                    transport.submit(held.pop(0), got.append)

            transport.before_write(flush)
            await trio.testing.wait_all_tasks_blocked()
            held.append(pack(("PING",)))
            server.kill()
            await until(lambda: len(got) == 1)
            held.append(pack(("PING",)))
            transport.poke()
            await until(lambda: len(got) == 2)

    assert [type(reply) for reply in got] == [StoreUnavailable, StoreUnavailable]


async def test_a_link_that_breaks_at_each_use_is_not_used_without_end(clean_redis: RedisServer) -> None:
    async with open_proxy(clean_redis) as proxy, opened(proxy.url, unanswered=1.0) as transport:
        proxy.fuse = b"poison"
        with pytest.raises(OutcomeUnknown):
            await transport.call("ECHO", "poison")

        # Each attempt waits twice as long as the one before; without that there would be hundreds.
        assert 2 <= proxy.connections <= 12
        assert await transport.call("ECHO", "food") == b"food"


async def test_a_hook_that_raises_ends_all_with_its_error(clean_redis: RedisServer) -> None:
    """It is called while Trio is about to wait, where an error would be lost without a word."""
    errors = [ValueError("a broken hook")]

    def hook() -> None:
        if errors:
            raise errors.pop()

    async def use() -> None:
        async with opened(clean_redis) as transport:
            await transport.call("PING")
            transport.before_write(hook)
            transport.poke()
            await trio.sleep_forever()

    with trio.fail_after(10), pytest.raises(ValueError, match="a broken hook"):
        await use()


async def test_silence_is_noticed_though_nothing_else_happens(clean_redis: RedisServer) -> None:
    """The watch is woken for the first request after a rest, although Trio had decided how long it would wait."""
    async with opened(clean_redis, reply_timeout=0.2) as transport, trio.open_nursery() as nursery:
        await transport.call("PING")
        await until(transport._silence.is_parked)
        clean_redis.pause()
        try:
            nursery.start_soon(transport.call, "PING")
            await trio.sleep(3)  # with no timer below, only the watch can wake the loop
            assert not transport.statistics().connected
        finally:
            clean_redis.resume()
        nursery.cancel_scope.cancel()


async def in_a_thread(serve: Callable[[socket.socket], None], listener: socket.socket) -> None:
    await trio.to_thread.run_sync(serve, listener, abandon_on_cancel=True)


async def test_nothing_of_a_stream_in_doubt_answers_what_is_written_early() -> None:
    def serve(listener: socket.socket) -> None:
        for _ in range(ROUNDS):
            link, _ = listener.accept()
            with link:
                link.recv(65_536)
                link.sendall(HELLO + GOOD_INFO + b"+PONG\r\n")
                link.recv(65_536)
                link.sendall(b"+first\r\n+unasked\r\n+unasked\r\n")
                if link.recv(65_536):
                    link.sendall(b"+unasked\r\n")
            link, _ = listener.accept()
            with link:
                link.recv(65_536)
                link.sendall(HELLO + GOOD_INFO + b"+PONG\r\n")
                while link.recv(65_536):
                    link.sendall(b"+right\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(in_a_thread, serve, listener)
            for _ in range(ROUNDS):  # whose turn comes first, the writer's or ours, is a matter of luck
                got: list[object] = []
                async with opened(url) as transport:
                    assert await transport.call("ECHO", 1) == b"first"
                    transport.submit(pack(("ECHO", 2)), got.append)
                    transport.write_early()
                    time.sleep(0.01)  # noqa: ASYNC251 - until there is an answer to it, while no task has its turn
                    await until(lambda got=got: got)
                assert got == [b"right"]


async def test_why_a_link_broke_is_known_though_no_task_has_met_it() -> None:
    def serve(listener: socket.socket) -> None:
        link, _ = listener.accept()
        link.recv(65_536)
        link.sendall(HELLO + GOOD_INFO + b"+PONG\r\n")
        link.recv(65_536)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        link.close()  # by a reset
        listener.close()

    listener = socket.create_server(("127.0.0.1", 0))
    url = f"redis://127.0.0.1:{listener.getsockname()[1]}"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(in_a_thread, serve, listener)
        async with opened(url) as transport:
            transport.submit(pack(("ECHO", 1)), list[object]().append)
            await until(lambda: not transport.statistics().connected)
            assert "Connection reset by peer" in repr(transport)


async def test_what_a_delivery_raises_is_told_though_the_link_ends_with_it() -> None:
    def serve(listener: socket.socket) -> None:
        link, _ = listener.accept()
        with link, listener:
            link.recv(65_536)
            link.sendall(HELLO + GOOD_INFO + b"+PONG\r\n")
            link.recv(65_536)
            link.sendall(b"+first\r\n")

    def deliver(_reply: object) -> None:
        raise ValueError("of the delivery")

    async def run(port: int) -> None:
        async with opened(f"redis://127.0.0.1:{port}") as transport:
            await trio.testing.wait_all_tasks_blocked()
            transport.submit(pack(("ECHO", 1)), deliver)
            transport.write_early()
            time.sleep(0.01)  # noqa: ASYNC251 - until reply and end have come
            await trio.sleep_forever()

    listener = socket.create_server(("127.0.0.1", 0))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(in_a_thread, serve, listener)
        with pytest.raises(ValueError, match="of the delivery"), trio.fail_after(5):
            await run(listener.getsockname()[1])
