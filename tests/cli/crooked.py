"""Servers as no redis-server here can be: with a clock of their own, or from long ago."""

from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

import trio
from faults.resp_frames import PUSH, Splitter, arguments

from trioqueue.stores.redis.resp import pack

Serve = Callable[[trio.SocketStream], Awaitable[None]]


@asynccontextmanager
async def _open(serve: Serve) -> AsyncGenerator[str]:
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield f"redis://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


def open_ahead(port: int, seconds: int) -> AbstractAsyncContextManager[str]:
    """Stands before the server at this port, and answers TIME as if its clock were ahead."""

    async def serve(client: trio.SocketStream) -> None:
        asked: deque[bool] = deque()  # whether for the time, of each request that is to be answered

        async def up(server: trio.SocketStream) -> None:
            splitter = Splitter()
            async for data in client:
                words = [arguments(frame)[0] for frame in splitter.feed(data)]
                asked.extend(word == b"TIME" for word in words if word != b"SUBSCRIBE")
                await server.send_all(data)

        async def down(server: trio.SocketStream) -> None:
            splitter = Splitter()
            async for data in server:
                for frame in splitter.feed(data):
                    if frame[0] != PUSH and asked.popleft():
                        now, micros = arguments(frame)
                        frame = pack((int(now) + seconds, micros))
                    await client.send_all(frame)

        async with (
            client,
            await trio.open_tcp_stream("127.0.0.1", port) as server,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(down, server)
            await up(server)
            nursery.cancel_scope.cancel()

    return _open(serve)


def open_talker(answers: Mapping[bytes, bytes]) -> AbstractAsyncContextManager[str]:
    """Answers these commands, and knows no others."""

    async def serve(client: trio.SocketStream) -> None:
        splitter = Splitter()
        async with client:
            async for data in client:
                for frame in splitter.feed(data):
                    word = arguments(frame)[0]
                    unknown = b"-ERR unknown command `%s`, with args beginning with: \r\n" % word
                    await client.send_all(answers.get(word, unknown))

    return _open(serve)
