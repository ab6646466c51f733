"""What `durability="replica"` waits for, on real servers: a master and its replica."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
import trio
from redis_connections import cut, until
from redis_servers import RedisServer, find_servers

from trioqueue import (
    AccessDenied,
    AtomicQueues,
    Command,
    Context,
    Incompatible,
    Limits,
    NotReplicated,
    Registry,
    command,
    entity_id,
    open_atomic_queues,
    state,
)

registry = Registry()


@state("jar")
class Jar:
    coins: int = 0


@command("jar")
class Put(Command[int]):
    jar_id: str = entity_id()
    coins: int = 1


@registry.handles(Put)
async def put(command: Put, jar: Jar, context: Context) -> int:
    jar.coins += command.coins
    return jar.coins


@contextmanager
def running(version: str, **options: str) -> Iterator[RedisServer]:
    with RedisServer(find_servers()[version], options={"repl-diskless-sync-delay": "0", **options}) as server:
        yield server


@contextmanager
def following(master: RedisServer) -> Iterator[RedisServer]:
    """Runs a replica that has caught up."""
    with RedisServer(master.binary, options={"replicaof": f"127.0.0.1 {master.port}"}) as replica:
        try:
            with master.client() as client:
                client.set("probe", "1")
                assert client.wait(1, 15_000) == 1
            yield replica
        finally:
            replica.resume()


@asynccontextmanager
async def opened(server: RedisServer, unanswered: float = 30.0) -> AsyncGenerator[AtomicQueues]:
    async with open_atomic_queues(
        server.url, durability="replica", limits=Limits(unanswered=unanswered)
    ) as queues:
        yield queues


def blocked(server: RedisServer) -> list[str]:
    """Names the connections that wait for a replica."""
    with server.client() as client:
        return [one["name"] for one in client.client_list() if "b" in one["flags"]]


def mailbox(server: RedisServer, jar: str) -> int:
    with server.client() as client:
        return int(client.llen(f"{{tq:0}}:q:jar:{jar}"))


class Sending:
    """A send in the background."""

    def __init__(self) -> None:
        self.returned = False

    async def run(self, queues: AtomicQueues) -> None:
        await queues.send(Put("a"))
        self.returned = True


async def test_what_a_send_returned_for_survives_its_server(redis_version: str) -> None:
    sending = Sending()
    with running(redis_version) as master, following(master) as replica:
        async with opened(master) as queues, trio.open_nursery() as nursery:
            replica.pause()
            nursery.start_soon(sending.run, queues)
            await until(lambda: blocked(master))
            assert mailbox(master, "a") == 1
            assert not sending.returned

            replica.resume()
            await until(lambda: sending.returned)
            master.kill()
            nursery.cancel_scope.cancel()

        with replica.client() as client:
            client.replicaof("NO", "ONE")
        async with open_atomic_queues(replica.url, registry=registry) as queues:
            assert await queues.call(Put("a")) == 2


async def test_a_broken_connection_does_not_pass_for_a_replica(redis_version: str) -> None:
    sending = Sending()
    with running(redis_version) as master, following(master) as replica:
        async with opened(master) as queues, trio.open_nursery() as nursery:
            replica.pause()
            nursery.start_soon(sending.run, queues)
            await until(lambda: blocked(master))
            (name,) = set(blocked(master))

            assert cut(master, name) == 1
            await until(lambda: blocked(master))
            assert not sending.returned

            replica.resume()
            await until(lambda: sending.returned)


async def test_an_answer_is_a_replica_s_too(redis_version: str) -> None:
    answers: list[int] = []
    with running(redis_version) as master, following(master) as replica:

        async def call(queues: AtomicQueues) -> None:
            answers.append(await queues.call(Put("a")))

        async with (
            open_atomic_queues(master.url, registry=registry),
            opened(master) as queues,
            trio.open_nursery() as nursery,
        ):
            replica.pause()
            nursery.start_soon(call, queues)
            await until(lambda: blocked(master))
            assert mailbox(master, "a") == 0, "it is committed"
            assert answers == []

            replica.resume()
            await until(lambda: answers)


async def test_without_a_replica_it_says_so_and_the_command_is_there(redis_version: str) -> None:
    with running(redis_version) as alone:
        async with opened(alone, unanswered=0.5) as queues:
            with pytest.raises(NotReplicated, match="no replica answered"):
                await queues.send_many([Put("a"), Put("b")])

        assert mailbox(alone, "a") == mailbox(alone, "b") == 1


async def test_another_server_confirms_nothing(redis_version: str) -> None:
    refused: list[NotReplicated] = []
    with running(redis_version) as master, following(master) as replica:

        async def send(queues: AtomicQueues) -> None:
            with pytest.raises(NotReplicated, match="replaced") as caught:
                await queues.send(Put("a"))
            refused.append(caught.value)

        async with opened(master, unanswered=1.0) as queues, trio.open_nursery() as nursery:
            replica.pause()
            nursery.start_soon(send, queues)
            await until(lambda: blocked(master))
            master.kill()
            replica.resume()
            master.restart()  # without its data, and the replica follows it
            await until(lambda: refused)


async def test_a_full_server_still_confirms(redis_version: str) -> None:
    with running(redis_version) as master, following(master):
        async with opened(master) as queues:
            with master.client() as client:
                client.config_set("maxmemory", 1)

            await queues._store.secure()


async def test_many_sends_share_the_waiting() -> None:
    version = next(iter(find_servers()))
    with running(version) as master, following(master):
        async with opened(master) as queues:
            before = waits(master)
            async with trio.open_nursery() as nursery:
                for _ in range(200):
                    nursery.start_soon(queues.send, Put("a"))

            assert mailbox(master, "a") == 200
            assert 1 <= waits(master) - before <= 20


def waits(server: RedisServer) -> int:
    with server.client() as client:
        return int(client.info("commandstats").get("cmdstat_wait", {"calls": 0})["calls"])


async def test_the_end_of_the_block_ends_the_waiting(redis_version: str) -> None:
    ended = trio.Event()
    with running(redis_version) as master, following(master) as replica:

        async def send(queues: AtomicQueues) -> None:
            with pytest.raises(Exception, match="closed"):
                await queues.send(Put("a"))
            ended.set()

        async with trio.open_nursery() as nursery:
            async with opened(master) as queues:
                replica.pause()
                nursery.start_soon(send, queues)
                await until(lambda: blocked(master))
            with trio.fail_after(5):
                await ended.wait()


async def test_the_right_to_wait_is_asked_for_at_once() -> None:
    user = "tom on nopass ~* &* +@all -wait"
    with RedisServer(users=[user]) as server:
        url = server.url.replace("redis://", "redis://tom:x@")
        async with open_atomic_queues(url):
            pass
        with pytest.raises(AccessDenied, match=r"lacks \+wait"):
            async with open_atomic_queues(url, durability="replica"):
                pass


async def test_memory_has_no_replicas() -> None:
    with pytest.raises(Incompatible, match="has no replicas"):
        async with open_atomic_queues("memory://", durability="replica"):
            pass


async def test_there_are_two_durabilities() -> None:
    with pytest.raises(ValueError, match="'local' or 'replica'"):
        async with open_atomic_queues("memory://", durability="disk"):  # type: ignore[arg-type]
            pass
