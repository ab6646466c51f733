"""Connections between a test and its server, and what may happen to them."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial

import trio
import trio.testing
from redis_servers import RedisServer

PATIENCE = 20.0
"""Seconds after which a test that waits is a test that hangs."""


async def until(condition: Callable[[], object]) -> None:
    """Waits for something that no task of ours tells of."""
    with trio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110  servers set no Event
            await trio.sleep(0.001)


def cut(server: RedisServer, name: str = "tests") -> int:
    """Cuts the connections of this name from the server's side, and says how many there were."""
    with server.client() as client:
        ids = [one["id"] for one in client.client_list() if one["name"] == name]
        for one in ids:
            client.client_kill_filter(_id=one)
    return len(ids)


class Proxy:
    """Stands between a client and a server, and can be told to misbehave."""

    def __init__(self, port: int) -> None:
        self.upstream = port
        self._downstream: trio.SocketStream | None = None
        self.url = ""
        self.connections = 0
        self.bytes_a_piece = 65_536
        self.mute = False
        self.fuse: bytes | None = None
        """What the client must not say, else the connection breaks."""

    async def inject(self, data: bytes) -> None:
        """Says something to the client in the server's name."""
        assert self._downstream is not None
        await (
            trio.testing.wait_all_tasks_blocked()
        )  # what was passed on last may have been read before that is over
        await self._downstream.send_all(data)

    async def serve(self, client: trio.SocketStream) -> None:
        self.connections += 1
        self._downstream = client
        async with client, await trio.open_tcp_stream("127.0.0.1", self.upstream) as server:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._pass_on, client, server, scope)
                    nursery.start_soon(self._pass_on, server, client, scope)

    async def _pass_on(
        self, source: trio.SocketStream, target: trio.SocketStream, end: trio.CancelScope
    ) -> None:
        try:
            async for data in source:
                if self.fuse is not None and self.fuse in data:
                    break
                if not self.mute:
                    for start in range(0, len(data), self.bytes_a_piece):
                        await target.send_all(data[start : start + self.bytes_a_piece])
        except trio.BrokenResourceError:
            pass
        end.cancel()


@asynccontextmanager
async def open_proxy(server: RedisServer) -> AsyncGenerator[Proxy]:
    proxy = Proxy(server.port)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, proxy.serve, 0, host="127.0.0.1"))
        proxy.url = f"redis://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        yield proxy
        nursery.cancel_scope.cancel()


HELLO = b"%3\r\n+server\r\n+redis\r\n+version\r\n+7.0.15\r\n+proto\r\n:3\r\n"


def info(text: str) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(text), text.encode())


GOOD_INFO = info("# Server\r\nredis_version:7.0.15\r\nrun_id:cafe\r\n")


@asynccontextmanager
async def scripted(*answers: bytes) -> AsyncGenerator[str]:
    """A server that answers the first bytes of each connection with the next answer, the last one for ever."""
    left = list(answers)

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            answer = left.pop(0) if len(left) > 1 else left[0]
            await stream.send_all(answer)
            if answer:  # an empty one is a server that hangs up
                await stream.receive_some()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield f"redis://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()
