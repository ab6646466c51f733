"""What `durability="replica"` waits for, on real servers: a master and its replica."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext

import pytest
import trio
from redis_connections import Proxy, cut, open_proxy, until
from redis_servers import RedisServer, find_servers

from trioqueue import (
    AccessDenied,
    AtomicQueues,
    Closed,
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
from trioqueue.stores.memory.server import MemoryServer

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
            await until(lambda: blocked(master) and mailbox(master, "a") == 0)
            assert answers == [], "it is committed here, and nowhere else"

            before = waits(master)
            replica.resume()
            await until(lambda: answers)
            assert waits(master) >= before + 1, "for the sending, which was under way, and for the commit"


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
            with pytest.raises(NotReplicated, match="taken its place") as caught:
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


class TwoServers:
    """A way to a server, `old`, that can be made to lead to another one, which has a replica."""

    def __init__(self, old: RedisServer, new: RedisServer, proxy: Proxy) -> None:
        self.old, self._new, self._proxy = old, new, proxy
        self.url = proxy.url

    def lead_to_the_new_one(self) -> None:
        self._proxy.upstream = self._new.port


@asynccontextmanager
async def two_servers() -> AsyncGenerator[TwoServers]:
    version = next(iter(find_servers()))
    with running(version) as old, running(version) as new, following(new):
        async with open_proxy(old) as proxy:
            yield TwoServers(old, new, proxy)


async def test_after_a_failover_only_those_are_refused_who_were_answered_before() -> None:
    sent = Sending()
    async with two_servers() as servers:
        with following(servers.old) as replica:
            replica.pause()
            async with (
                open_atomic_queues(servers.url, durability="replica") as queues,
                trio.open_nursery() as nursery,
            ):

                async def refused() -> None:
                    with pytest.raises(NotReplicated, match="taken its place"):
                        await queues.send(Put("old"))
                    await sent.run(queues)

                nursery.start_soon(refused)
                await until(lambda: blocked(servers.old))
                servers.lead_to_the_new_one()
                servers.old.kill()
                await until(lambda: sent.returned)


async def test_the_waiting_connection_follows_the_other_one() -> None:
    async with (
        two_servers() as servers,
        open_atomic_queues(servers.url, durability="replica", limits=Limits(unanswered=5.0)) as queues,
    ):
        servers.lead_to_the_new_one()
        with servers.old.client() as client:
            names = {one["name"] for one in client.client_list()}
        (main,) = (name for name in names if name.startswith("trioqueue-") and "replicas" not in name)
        assert cut(servers.old, main) == 1

        await queues.send(Put("a"))  # it takes its time to notice, and then goes to the new one
        await queues.send(Put("a"))


async def test_a_replica_that_has_confirmed_nothing_is_none(redis_version: str) -> None:
    sending = Sending()
    with running(redis_version) as master:
        async with opened(master, unanswered=1.5) as queues, trio.open_nursery() as nursery:

            async def send() -> None:
                with pytest.raises(NotReplicated):
                    await sending.run(queues)

            nursery.start_soon(send)
            await until(lambda: blocked(master))
            async with await trio.open_tcp_stream("127.0.0.1", master.port) as mute:
                await mute.send_all(b"PSYNC ? -1\r\n")
                await until(lambda: not nursery.child_tasks)


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


@pytest.mark.parametrize("by_an_error", [False, True])
async def test_the_end_of_the_block_ends_the_waiting(by_an_error: bool) -> None:
    version = next(iter(find_servers()))
    ended: list[Closed] = []

    async def send(queues: AtomicQueues) -> None:
        with pytest.raises(Closed) as caught:
            await queues.send(Put("a"))
        ended.append(caught.value)

    with running(version) as master, following(master) as replica:
        async with trio.open_nursery() as nursery:
            with pytest.raises(OSError, match="unplugged") if by_an_error else nullcontext():
                async with opened(master) as queues:
                    replica.pause()
                    nursery.start_soon(send, queues)
                    await until(lambda: blocked(master))
                    nursery.start_soon(send, queues)  # this one waits for the next round
                    await until(lambda: mailbox(master, "a") == 2)
                    if by_an_error:
                        raise OSError("unplugged")
            await until(lambda: len(ended) == 2)
            with pytest.raises(Closed):
                await queues._store.secure()


async def test_nobody_waits_after_the_end() -> None:
    with running(next(iter(find_servers()))) as alone:
        async with opened(alone) as queues:
            pass
        with trio.fail_after(5), pytest.raises(Closed):
            await queues._store.secure()


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
    for url in ("memory://", MemoryServer(lambda: 0)):
        with pytest.raises(Incompatible, match="has no replicas"):
            async with open_atomic_queues(url, durability="replica"):
                pass


async def test_there_are_two_durabilities() -> None:
    with pytest.raises(ValueError, match="'local' or 'replica'"):
        async with open_atomic_queues("memory://", durability="disk"):  # type: ignore[arg-type]
            pass
