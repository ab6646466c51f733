import random
from typing import Any

import pytest
import redis.exceptions
import trio
import trio.testing
from redis_connections import GOOD_INFO, HELLO, PATIENCE, cut, open_proxy, scripted, until
from redis_servers import RedisServer

from trioqueue._errors import Closed
from trioqueue.stores.redis.address import parse_address
from trioqueue.stores.redis.resp import pack
from trioqueue.stores.redis.transport import Transport, open_transport


def opened(server: RedisServer | str, **options: Any) -> Any:
    return open_transport(parse_address(server if isinstance(server, str) else server.url), **options)


# ------------------------------------------------------------------------------------ asking and answering
async def test_answers(each_redis: RedisServer) -> None:
    async with opened(each_redis) as transport:
        assert await transport.call("SET", "key", b"\xff\x00") == b"OK"
        assert await transport.call("GET", "key") == b"\xff\x00"
        assert await transport.call("GET", "nothing") is None
        assert await transport.call("INCRBY", "number", 7) == 7
        assert await transport.call("HGETALL", "hash") == {}
        assert await transport.call("EVAL", "return {1, false, 'x', {}}", 0) == [1, None, b"x", []]


async def test_over_a_unix_socket_and_in_another_database(clean_redis: RedisServer) -> None:
    async with opened(clean_redis.unix_url + "?db=5") as transport:
        await transport.call("SET", "key", "five")

    with clean_redis.client() as client:
        assert client.get("key") is None
        client.select(5)
        assert client.get("key") == b"five"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("NOSCRIPT No matching script.", redis.exceptions.NoScriptError),
        ("OOM command not allowed", redis.exceptions.OutOfMemoryError),
        ("READONLY You can't write", redis.exceptions.ReadOnlyError),
        ("NOPERM no permissions", redis.exceptions.NoPermissionError),
        ("LOADING Redis is loading", redis.exceptions.BusyLoadingError),
        ("MASTERDOWN Link with MASTER is down", redis.exceptions.MasterDownError),
        ("MOVED 1 127.0.0.1:7000", redis.exceptions.MovedError),
        ("MOVED nowhere", redis.exceptions.ResponseError),
        ("WRONGTYPE Operation against a key", redis.exceptions.ResponseError),
        ("ERR anything else", redis.exceptions.ResponseError),
    ],
)
async def test_an_error_of_the_server_has_its_class(
    clean_redis: RedisServer, said: str, kind: type[Exception]
) -> None:
    async with opened(clean_redis) as transport:
        with pytest.raises(redis.exceptions.RedisError) as caught:
            await transport.call("EVAL", "return redis.error_reply(ARGV[1])", 0, said)
        assert type(caught.value) is kind
        assert await transport.call("PING") == b"PONG"


async def test_a_full_server_and_an_unknown_script_are_told_apart(each_redis: RedisServer) -> None:
    async with opened(each_redis) as transport:
        with pytest.raises(redis.exceptions.NoScriptError):
            await transport.call("EVALSHA", "0" * 40, 0)
        await transport.call("CONFIG", "SET", "maxmemory", 1)
        try:
            with pytest.raises(redis.exceptions.OutOfMemoryError):
                await transport.call("SET", "key", "value")
        finally:
            await transport.call("CONFIG", "SET", "maxmemory", 0)


@pytest.mark.parametrize(
    "arguments", [(), ("SET", "key", None), ("SET", "key", True), ("SET", ("key",), "value")]
)
async def test_a_bad_argument_is_the_callers_error(
    clean_redis: RedisServer, arguments: tuple[Any, ...]
) -> None:
    async with opened(clean_redis) as transport:
        with pytest.raises(TypeError):
            await transport.call(*arguments)
        with pytest.raises(UnicodeEncodeError):
            await transport.call("GET", "\ud800")
        assert await transport.call("DBSIZE") == 0
        assert transport.statistics().in_flight == 0


async def test_replies_find_their_requests_under_many_tasks(each_redis: RedisServer) -> None:
    async with opened(each_redis) as transport:

        async def ask(task: int) -> None:
            for turn in range(100):
                assert await transport.call("ECHO", f"{task}/{turn}") == f"{task}/{turn}".encode()

        async with trio.open_nursery() as nursery:
            for task in range(64):
                nursery.start_soon(ask, task)

        statistics = transport.statistics()
        assert statistics.requests == 6400
        assert statistics.writes < 6400 / 10


async def test_requests_of_one_moment_share_a_write(clean_redis: RedisServer) -> None:
    async with opened(clean_redis) as transport:
        got: list[object] = []
        for number in range(10):
            transport.submit(pack(("ECHO", number)), got.append)
        await until(lambda: len(got) == 10)

        assert got == [str(number).encode() for number in range(10)]
        assert transport.statistics().writes == 1


async def test_a_hook_adds_to_the_write_and_a_poke_makes_one(clean_redis: RedisServer) -> None:
    async with opened(clean_redis) as transport:
        got: list[object] = []
        gathered: list[str] = []

        def flush() -> None:
            if gathered:
                transport.submit(pack(("ECHO", ",".join(gathered))), got.append)
                gathered.clear()

        transport.before_write(flush)
        await trio.testing.wait_all_tasks_blocked()

        gathered.append("a")
        transport.submit(pack(("PING",)), got.append)
        gathered.append("b")
        await until(lambda: len(got) == 2)
        assert got == [b"PONG", b"a,b"]
        assert transport.statistics().writes == 1

        gathered.append("c")
        transport.poke()
        await until(lambda: len(got) == 3)
        assert got[2] == b"c"

        transport.poke()
        await trio.testing.wait_all_tasks_blocked()
        assert transport.statistics().writes == 2


async def test_a_delivery_may_ask_again(clean_redis: RedisServer) -> None:
    async with opened(clean_redis) as transport:
        got: list[object] = []

        def deliver(reply: object) -> None:
            got.append(reply)
            if len(got) < 5:
                transport.submit(pack(("ECHO", len(got))), deliver)

        transport.submit(pack(("ECHO", 0)), deliver)
        await until(lambda: len(got) == 5)
        assert got == [b"0", b"1", b"2", b"3", b"4"]


async def test_replies_may_come_in_single_bytes(clean_redis: RedisServer) -> None:
    async with open_proxy(clean_redis) as proxy:
        pushed: list[bytes] = []
        async with opened(
            proxy.url, channels=["news"], on_push=lambda _, payload: pushed.append(payload)
        ) as transport:
            proxy.bytes_a_piece = 1
            async with trio.open_nursery() as nursery:
                for number in range(20):

                    async def ask(number: int = number) -> None:
                        script = "redis.call('PUBLISH', 'news', ARGV[1]) return {ARGV[1], {true, 'x\\r\\n$1\\r\\n'}}"
                        reply = await transport.call("EVAL", script, 0, number)
                        assert reply == [str(number).encode(), [1, b"x\r\n$1\r\n"]]

                    nursery.start_soon(ask)
            await until(lambda: len(pushed) == 20)
            assert transport.statistics().reconnects == 0


# ------------------------------------------------------------------------------------ pushes
async def test_pushes_take_no_reply_of_anybody(each_redis: RedisServer) -> None:
    pushed: list[tuple[bytes, bytes]] = []
    async with opened(
        each_redis, channels=["a", "b"], on_push=lambda *push: pushed.append(push)
    ) as transport:

        async def ask(task: int) -> None:
            for turn in range(50):
                told = f"{task}/{turn}"
                script = "redis.call('PUBLISH', ARGV[2], ARGV[1]) return ARGV[1]"
                assert await transport.call("EVAL", script, 0, told, random.choice("ab")) == told.encode()
                assert await transport.call("ECHO", told) == told.encode()

        async with trio.open_nursery() as nursery:
            for task in range(16):
                nursery.start_soon(ask, task)
        await until(lambda: len(pushed) == 800)

        assert {payload.decode() for _, payload in pushed} == {
            f"{a}/{b}" for a in range(16) for b in range(50)
        }
        assert {channel for channel, _ in pushed} == {b"a", b"b"}
        assert transport.statistics().pushes == 800


async def test_a_message_that_comes_before_the_greeting_has_ended_is_taken() -> None:
    subscribed = b">3\r\n+subscribe\r\n+a\r\n:1\r\n"
    message = b">3\r\n+message\r\n+a\r\n+early\r\n"
    pushed: list[bytes] = []
    async with (
        scripted(HELLO + GOOD_INFO + subscribed + message + b"+PONG\r\n" + message) as url,
        opened(url, channels=["a"], on_push=lambda _, payload: pushed.append(payload)),
    ):
        await until(lambda: len(pushed) == 2)
    assert pushed == [b"early", b"early"]


async def test_listens_again_on_each_new_link(clean_redis: RedisServer) -> None:
    pushed: list[bytes] = []
    links: list[str] = []
    async with opened(
        clean_redis,
        channels=["a"],
        on_push=lambda _, payload: pushed.append(payload),
        on_connect=lambda: links.append("new"),
        client_name="tests",
    ) as transport:
        for number in (1, 2, 3):
            await until(lambda number=number: len(links) == number)  # type: ignore[misc]
            await transport.call("PUBLISH", "a", number)
            await until(lambda number=number: len(pushed) == number)  # type: ignore[misc]
            assert cut(clean_redis) == 1

        await until(lambda: len(links) == 4)
    assert pushed == [b"1", b"2", b"3"]


async def test_what_is_asked_on_a_new_link_is_written_to_it(clean_redis: RedisServer) -> None:
    got: list[object] = []

    def look() -> None:
        transport.submit(pack(("ECHO", "look")), got.append)

    async with opened(clean_redis, on_connect=look, client_name="tests") as transport:
        await until(lambda: len(got) == 1)
        cut(clean_redis)
        await until(lambda: len(got) == 2)
    assert got == [b"look", b"look"]


# ------------------------------------------------------------------------------------ cancelled callers
async def test_a_cancelled_caller_leaves_its_slot(clean_redis: RedisServer) -> None:
    async with opened(clean_redis) as transport:
        clean_redis.pause()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(transport.call, "ECHO", "cancelled")
                await until(lambda: transport.statistics().in_flight == 1)
                scope.cancel()
        clean_redis.resume()

        assert await transport.call("ECHO", "next") == b"next"
        assert transport.statistics().requests == 2


async def test_a_caller_that_is_cancelled_already_sends_nothing(clean_redis: RedisServer) -> None:
    async with opened(clean_redis) as transport:
        with trio.CancelScope() as scope:
            scope.cancel()
            await transport.call("SET", "key", "value")
        assert scope.cancelled_caught
        assert await transport.call("EXISTS", "key") == 0
        assert transport.statistics().requests == 1


async def test_no_wrong_reply_whatever_is_cancelled_or_cut(each_redis: RedisServer) -> None:
    right = cancelled = cuts = 0
    async with opened(each_redis, client_name="tests", channels=["a"], on_push=lambda *_: None) as transport:
        over = trio.CancelScope()

        async def ask(task: int) -> None:
            nonlocal right, cancelled
            for turn in range(400):
                told = f"{task}/{turn}/{'x' * random.choice([0, 10, 10_000])}"
                server = random.choice([None, transport.server_id])
                with trio.move_on_after(random.choice([0.0, 0.0002, 0.002, 60.0])) as scope:
                    assert await transport.call("ECHO", told, server=server) == told.encode()
                    right += 1
                cancelled += scope.cancelled_caught
                if turn % 10 == 0:
                    await transport.call("PUBLISH", "a", told)

        async def cut_again_and_again() -> None:
            nonlocal cuts
            with over:
                while True:
                    cuts += await trio.to_thread.run_sync(cut, each_redis)
                    await trio.sleep(random.uniform(0, 0.02))

        with trio.fail_after(3 * PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cut_again_and_again)
                async with trio.open_nursery() as askers:
                    for task in range(32):
                        askers.start_soon(ask, task)
                await until(lambda: cuts >= 10)
                over.cancel()

        assert await transport.call("ECHO", "last") == b"last"
        assert transport.statistics().reconnects >= 10
    assert right > 1000
    assert cancelled > 1000


# ------------------------------------------------------------------------------------ the end
async def test_leaving_ends_what_is_outstanding(clean_redis: RedisServer) -> None:
    got: list[object] = []
    try:
        async with opened(clean_redis) as transport:
            clean_redis.pause()
            transport.submit(pack(("ECHO", 1)), got.append)
            await until(lambda: transport.statistics().in_flight == 1)
            transport.submit(pack(("ECHO", 2)), got.append)
    finally:
        clean_redis.resume()

    assert [type(reply) for reply in got] == [Closed, Closed]
    transport.submit(pack(("ECHO", 3)), got.append)
    assert type(got[2]) is Closed
    with pytest.raises(Closed):
        await transport.call("PING")
    assert "closed" in repr(transport)


async def test_cancelling_the_block_ends_what_is_outstanding(clean_redis: RedisServer) -> None:
    got: list[object] = []
    try:
        with trio.CancelScope() as scope:
            async with opened(clean_redis) as transport:
                clean_redis.pause()
                transport.submit(pack(("ECHO", 1)), got.append)
                scope.cancel()
                await transport.call("PING")
    finally:
        clean_redis.resume()

    assert scope.cancelled_caught
    assert [type(reply) for reply in got] == [Closed]


async def test_callers_beside_the_block_get_closed(clean_redis: RedisServer) -> None:
    outcomes: list[BaseException] = []

    async def ask(transport: Transport) -> None:
        with pytest.raises(Closed) as caught:
            await transport.call("ECHO", "late")
        outcomes.append(caught.value)

    try:
        async with trio.open_nursery() as nursery, opened(clean_redis) as transport:
            clean_redis.pause()
            nursery.start_soon(ask, transport)
            await until(lambda: transport.statistics().in_flight == 1)
    finally:
        clean_redis.resume()
    assert len(outcomes) == 1


async def test_works_on_while_a_cancelled_block_cleans_up(clean_redis: RedisServer) -> None:
    cleaned = None
    with trio.CancelScope() as surroundings:
        async with opened(clean_redis, client_name="tests") as transport:
            surroundings.cancel()
            try:
                await trio.sleep_forever()
            finally:
                with trio.move_on_after(PATIENCE, shield=True):
                    await trio.to_thread.run_sync(cut, clean_redis)
                    cleaned = await transport.call("ECHO", "clean")

    assert surroundings.cancelled_caught
    assert cleaned == b"clean"


async def test_what_a_hook_holds_back_is_closed_too(clean_redis: RedisServer) -> None:
    got: list[object] = []
    held: list[bytes] = []

    def flush() -> None:
        while held:
            transport.submit(held.pop(), got.append)

    async with opened(clean_redis) as transport:
        transport.before_write(flush)
        await trio.testing.wait_all_tasks_blocked()
        held.append(pack(("PING",)))

    assert [type(reply) for reply in got] == [Closed]


async def test_an_error_of_the_block_leaves_it_as_itself(clean_redis: RedisServer) -> None:
    error = ValueError("the block's")
    with pytest.raises(ValueError, match="the block's") as caught:
        async with opened(clean_redis):
            raise error from KeyError("its cause")

    assert caught.value is error
    assert isinstance(error.__cause__, KeyError)
    assert error.__context__ is error.__cause__ or error.__context__ is None


async def test_a_group_of_the_block_stays_as_it_was(clean_redis: RedisServer) -> None:
    with pytest.RaisesGroup(ValueError):
        async with opened(clean_redis):
            raise ExceptionGroup("the block's", [ValueError()])


@pytest.mark.parametrize("where", ["deliver", "on_push", "on_connect", "before_write"])
async def test_a_callback_that_raises_ends_the_block_with_its_error(
    clean_redis: RedisServer, where: str
) -> None:
    def crash(*_: object) -> None:
        raise ZeroDivisionError(where)

    options: dict[str, Any] = {where: crash} if where.startswith("on_") else {}
    outstanding: list[object] = []

    async def run() -> None:
        async with opened(clean_redis, channels=["a"], **options) as transport:
            if where == "before_write":
                transport.before_write(crash)
            transport.submit(pack(("PUBLISH", "a", 1)), crash if where == "deliver" else outstanding.append)
            transport.submit(pack(("PING",)), outstanding.append)
            await trio.sleep_forever()

    with pytest.raises(ZeroDivisionError, match=where):
        await run()
    assert {type(reply) for reply in outstanding} <= {Closed, int, bytes}
    assert len(outstanding) == (1 if where == "deliver" else 2)


async def test_no_task_and_no_request_when_idle(clean_redis: RedisServer) -> None:
    async with opened(clean_redis, client_name="tests") as transport:
        await transport.call("PING")
        with clean_redis.client() as client:
            client.config_resetstat()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep, 0.1)
            calls = client.info("commandstats")
        assert set(calls) <= {"cmdstat_config", "cmdstat_config|resetstat", "cmdstat_info"}
