"""A TCP proxy between one client and redis-server, which can be told to misbehave: with a link, or with one request.

It reads what passes as RESP, so it knows which script a request calls and which reply is whose.  Faults of a request
end its link, as they do in life: a stream in which one reply is missing never goes on.

    LOST        the request never arrives
    UNANSWERED  it is carried out, its reply never arrives
    INSIDE      the link ends inside the reply
    LATE        it arrives after the client has given the link up and its repetition was answered
"""

import enum
import socket
import struct
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from hashlib import sha1

import attrs
import trio
from faults.resp_frames import PUSH, Splitter, arguments

from trioqueue.stores.redis.scripts import all_scripts

PIECE = 65_536
"""Bytes that pass at once, unless it is told otherwise."""


class How(enum.Enum):
    """What happens to a request."""

    LOST = enum.auto()
    UNANSWERED = enum.auto()
    INSIDE = enum.auto()
    LATE = enum.auto()


@attrs.define(eq=False)
class Fault:
    """What is to happen to the `nth` request of a kind from now on."""

    kind: str
    how: How
    nth: int = 1
    cut_at: int = 2
    """INSIDE: bytes of the reply that arrive."""
    then: Callable[[], object] = lambda: None
    """Called at the moment of the fault: SIGKILL, say.  For LOST before the request is carried out, else after."""
    by_hand: bool = False
    """LATE: it waits for `let_go`, not for the repetition's answer."""
    fired: trio.Event = attrs.field(factory=trio.Event)
    let_go: trio.Event = attrs.field(factory=trio.Event)
    ran: trio.Event = attrs.field(factory=trio.Event)
    """LATE: set once the held request was answered at last."""


def kind_of(words: list[bytes], scripts: dict[str, str]) -> str:
    """Names a request: the script it calls, or the command."""
    command = words[0].decode().upper()
    if command not in ("EVALSHA", "EVAL"):
        return command
    sha = words[1].decode() if command == "EVALSHA" else sha1(words[1], usedforsecurity=False).hexdigest()
    name = scripts.get(sha, "unknown script")
    if name == "reap":
        caller, _, target, gave_up = words[3 + int(words[2]) :][1:5]
        if gave_up == b"1":
            return "leave" if caller == target else "give up"
    return name


class Proxy:
    """Made by `open_proxy`.

    Attributes:
        port: Where the server is; may be changed, for links to come.
        refusing: Nobody is let in.
        silent: Nothing passes, in either direction, and no link ends.
        deaf: Hints to the client are dropped.
        delay: Seconds that everything takes, each way.
        piece: Bytes that pass at once.
        rate: Bytes a second, at most.
        seen: How many requests of each kind passed.
        planned: The faults that have not happened yet.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = ""
        self.refusing = self.silent = self.deaf = False
        self.delay, self.piece, self.rate = 0.0, PIECE, float("inf")
        self.seen: Counter[str] = Counter()
        self.links: set[_Link] = set()
        self.hints: list[bytes] = []  # the wake-ups that passed
        self.connections = 0
        self._scripts = {one.sha: one.name for one in all_scripts()}
        self.planned: list[Fault] = []
        self._held: list[Fault] = []  # those that wait for the answer to a repetition
        self._voiced = trio.Event()

    def plan(self, fault: Fault) -> Fault:
        """Prepares a fault."""
        self.planned.append(fault)
        return fault

    def speak(self) -> None:
        """Ends the silence."""
        self.silent = False
        self._voiced.set()
        self._voiced = trio.Event()

    async def voice(self) -> None:
        """Waits while it is silent."""
        while self.silent:
            await self._voiced.wait()

    def reset(self) -> int:
        """Ends every link with RST, and says how many there were."""
        return self._each(lambda link: link.reset())

    def finish(self) -> int:
        """Ends every link with FIN."""
        return self._each(lambda link: link.finish())

    def half_close(self) -> int:
        """Tells every client that no more will come, while what it says is still heard."""
        return self._each(lambda link: link.half_close())

    def _each(self, act: "Callable[[_Link], None]") -> int:
        links = list(self.links)
        for link in links:
            act(link)
        return len(links)

    async def hint_again(self) -> int:
        """Says to the client once more every wake-up it ever got, as hints may be doubled and late."""
        for link in self.links:
            if link.listens:
                await link.say(b"".join(self.hints))
        return len(self.hints)

    # ------------------------------------------------------------------ what its links ask
    def name(self, words: list[bytes]) -> str:
        return kind_of(words, self._scripts)

    def fault_for(self, kind: str) -> Fault | None:
        self.seen[kind] += 1
        for fault in self.planned:
            if fault.kind == kind:
                fault.nth -= 1
                if fault.nth == 0:
                    self.planned.remove(fault)
                    if fault.how is How.LATE and not fault.by_hand:
                        self._held.append(fault)
                    return fault
        return None

    def answered(self, kind: str) -> None:
        for fault in self._held:
            if fault.kind == kind:
                fault.let_go.set()

    async def serve(self, client: trio.SocketStream) -> None:
        self.connections += 1
        if self.refusing:
            _abort(client)
            return
        try:
            server = await trio.open_tcp_stream("127.0.0.1", self.port)
        except OSError:
            _abort(client)
            return
        link = _Link(self, client, server)
        self.links.add(link)
        try:
            await link.run()
        finally:
            self.links.discard(link)


class _Link:
    """One connection of the client and the one to the server that belongs to it."""

    def __init__(self, proxy: Proxy, client: trio.SocketStream, server: trio.SocketStream) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self._scope = trio.CancelScope()
        self._owed: deque[tuple[str, Fault | None]] = deque()  # whose replies are still to come
        self._speaking = trio.Lock()
        self.listens = False
        self._holds = False  # its client is gone, and a request waits

    async def run(self) -> None:
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._up)
                    nursery.start_soon(self._down)
        finally:
            self._server.socket.close()
            self._client.socket.close()

    def reset(self) -> None:
        _abort(self._client)
        self._scope.cancel()

    def finish(self) -> None:
        self._scope.cancel()

    def half_close(self) -> None:
        with suppress(OSError):
            self._client.socket.shutdown(socket.SHUT_WR)

    async def say(self, data: bytes) -> None:
        async with self._speaking:
            await self._pass(self._client, data)

    async def _pass(self, to: trio.SocketStream, data: bytes) -> None:
        proxy = self._proxy
        while data:
            await proxy.voice()
            piece, data = data[: proxy.piece], data[proxy.piece :]
            if wait := proxy.delay + len(piece) / proxy.rate:
                await trio.sleep(wait)
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await to.send_all(piece)

    # ------------------------------------------------------------------ requests
    async def _up(self) -> None:
        splitter = Splitter()
        while data := await _received(self._client):
            await self._proxy.voice()
            passing = b""
            frames = deque(splitter.feed(data))
            while frames:
                frame = frames.popleft()
                words = arguments(frame)
                kind = self._proxy.name(words)
                fault = self._proxy.fault_for(kind)
                if fault is not None:
                    await self._pass(self._server, passing)
                    await self._harm(fault, frame, b"".join(frames))
                    return
                passing += frame
                if kind == "SUBSCRIBE":
                    self.listens = True  # it is answered by a push
                else:
                    self._owed.append((kind, None))
            await self._pass(self._server, passing)
        self._scope.cancel()

    async def _harm(self, fault: Fault, frame: bytes, rest: bytes) -> None:
        match fault.how:
            case How.LOST:
                fault.then()
                fault.fired.set()
                self.reset()
            case How.LATE:
                self._holds = True
                _abort(self._client)
                fault.then()
                fault.fired.set()
                await fault.let_go.wait()
                self._owed.append((fault.kind, fault))
                await self._server.send_all(frame + rest)
                await trio.sleep_forever()
            case _:
                self._owed.append((fault.kind, fault))
                await self._server.send_all(frame)
                await trio.sleep_forever()  # until the reply has come: nothing behind it gets through

    # ------------------------------------------------------------------ replies
    async def _down(self) -> None:
        splitter = Splitter()
        while data := await _received(self._server):
            passing = b""
            for frame in splitter.feed(data):
                if frame[0] == PUSH:
                    if b"message\r\n" in frame[:24] and self._proxy.deaf:
                        continue
                    if b"\r\nw" in frame:
                        self._proxy.hints.append(frame)
                    passing += frame
                    continue
                kind, fault = self._owed.popleft()
                if fault is not None:
                    await self.say(passing)
                    await self._harm_reply(fault, frame)
                    return
                passing += frame
                if not self._holds:
                    self._proxy.answered(kind)
            await self.say(passing)
        self._scope.cancel()

    async def _harm_reply(self, fault: Fault, frame: bytes) -> None:
        if fault.how is How.LATE:
            fault.ran.set()
            self._scope.cancel()
            return
        fault.then()
        if fault.how is How.INSIDE:
            await self.say(frame[: fault.cut_at])
            self.finish()
        else:
            self.reset()
        fault.fired.set()


async def _received(stream: trio.SocketStream) -> bytes:
    """Receives something; nothing: the stream has ended, one way or another."""
    try:
        return bytes(await stream.receive_some(PIECE))
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return b""


def _abort(stream: trio.SocketStream) -> None:
    """Closes with RST."""
    with suppress(OSError):
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


@asynccontextmanager
async def open_proxy(port: int) -> AsyncGenerator[Proxy]:
    """Stands before the server at this port until the block is left."""
    proxy = Proxy(port)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, proxy.serve, 0, host="127.0.0.1"))
        proxy.url = f"redis://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        yield proxy
        nursery.cancel_scope.cancel()
