"""The floor: the least that a live queue on Trio and Redis has to do.

One process, two connections.  A sender pushes waves of commands, one small script call each; a worker's script
pops what it has handled and returns up to `batch` more, refused if the epoch is not the stored one.  The
handler decodes JSON and does nothing.  No registry, no lease, no reply, no state: what a real queue adds comes
on top, and its speed is told as a share of this one's.
"""

import json
import socket
import time

import hiredis
import trio

PAYLOAD = (
    b'{"i":"8c6f1d2e9a4b-1f40","n":"reserve","p":{"product":"product-0012","quantity":3},"r":"8c6f1d2e9a4b"}'
)

PUSH = """
redis.call('RPUSH', KEYS[1], ARGV[1])
return redis.call('HINCRBY', KEYS[2], 'pushed', 1)
"""

POP = """
if redis.call('HGET', KEYS[2], 'epoch') ~= ARGV[1] then
    return false
end
if ARGV[2] ~= '0' then
    redis.call('LTRIM', KEYS[1], ARGV[2], -1)
end
return redis.call('LRANGE', KEYS[1], 0, ARGV[3] - 1)
"""

EMPTY_PAUSE = 0.0005
"""Seconds before the worker looks again, where it was faster than the sender."""


class Link:
    """One connection: commands out in one write, their replies back."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._reader = hiredis.Reader()

    @classmethod
    async def open(cls, host: str, port: int) -> "Link":
        stream = await trio.open_tcp_stream(host, port)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(stream)

    async def ask(self, *commands: tuple[str | bytes | int, ...]) -> list[object]:
        await self._stream.send_all(b"".join(map(hiredis.pack_command, commands)))
        replies: list[object] = []
        while len(replies) < len(commands):
            reply = self._reader.gets()
            if reply is False:
                self._reader.feed(await self._stream.receive_some(65536))
            elif isinstance(reply, Exception):
                raise reply
            else:
                replies.append(reply)
        return replies


async def floor(host: str, port: int, *, batch: int, commands: int = 5000, wave: int = 200) -> float:
    """Measures commands a second of the minimal queue."""
    assert commands % wave == 0, "whole waves only"
    mailbox, entity = "floor:q", "floor:e"
    sender, worker = await Link.open(host, port), await Link.open(host, port)
    push, pop = await sender.ask(("SCRIPT", "LOAD", PUSH), ("SCRIPT", "LOAD", POP))
    assert isinstance(push, bytes)
    assert isinstance(pop, bytes)
    await sender.ask(("DEL", mailbox, entity), ("HSET", entity, "epoch", 7))

    async def work() -> None:
        seen = in_hand = 0
        while seen < commands or in_hand:
            (payloads,) = await worker.ask(("EVALSHA", pop, 2, mailbox, entity, 7, in_hand, batch))
            assert isinstance(payloads, list)
            for payload in payloads:
                json.loads(payload)
            in_hand = len(payloads)
            seen += in_hand
            if not in_hand and seen < commands:
                await trio.sleep(EMPTY_PAUSE)

    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        for _ in range(commands // wave):
            await sender.ask(*[("EVALSHA", push, 2, mailbox, entity, PAYLOAD)] * wave)
    took = time.perf_counter() - began
    await sender.ask(("DEL", mailbox, entity))
    return commands / took
