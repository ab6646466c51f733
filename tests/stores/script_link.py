"""The real scripts, asked without Trio: a transport that answers at once, and a store that says where it would wait.

The batcher works with callbacks, and what else `RedisStore` awaits is the transport alone.  So with a stand-in for
that, the project's own packing, sections and replies run as they are.

Two helpers of the scripts are exchanged, those that ask the server what time it is and who it is.  Then times, epochs
and incarnation ids can be compared by value with those of another store, a failure is the same whenever it is
replayed, and setting the clock or "restarting" costs nothing.  (Moving stored times instead, as the harness of the
contract does, would leave microseconds between both stores, and chance at each boundary.)
"""

import socket
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

import hiredis
import redis.exceptions
from redis_servers import RedisServer

from trioqueue._errors import OutcomeUnknown
from trioqueue.stores.redis.address import parse_address
from trioqueue.stores.redis.batch import Batcher
from trioqueue.stores.redis.keys import Keys
from trioqueue.stores.redis.replies import check_word
from trioqueue.stores.redis.resp import NOT_ENOUGH, open_parser
from trioqueue.stores.redis.scripts import all_scripts, script
from trioqueue.stores.redis.store import RedisStore
from trioqueue.stores.redis.transport import ServerChanged

EXCHANGED = (
    (
        "local now = redis.call('TIME')\n        moment = tonumber(now[1]) * 1000000 + tonumber(now[2])",
        "moment = tonumber(redis.call('GET', 'clock'))",
    ),
    ("string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')", "redis.call('GET', 'run')"),
)

Change = tuple[str, str]
"""A piece of a script's source, and what stands there instead."""


class Link:
    """Stands in for the transport of all clients: a call runs at once, over one connection."""

    def __init__(self, server: RedisServer, changes: Iterable[Change]) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(server.data / "redis.sock"))
        self._parser = open_parser()
        self.now = 0
        self.generation = ""
        self.is_known = False  # a join has told this generation to the store: scripts can refuse older ones
        self.fate = "answered"  # of sends: answered, lost, unanswered, refused
        self.sends: list[bytes] = []  # all that were packed, in order
        self.voids: list[bytes] = []
        self._shas: dict[bytes, bytes] = {}
        try:
            self.ask("HELLO", 3)
            self._load([*EXCHANGED, *changes])
        except BaseException:
            self.close()
            raise

    def _load(self, changes: Sequence[Change]) -> None:
        found = Counter[str]()
        for one in all_scripts():
            source = one.source
            for old, new in changes:
                found[old] += old in source
                source = source.replace(old, new)
            self._shas[one.sha.encode()] = self.ask("SCRIPT", "LOAD", source)
        assert all(found[old] for old, _ in changes), f"not in the scripts: {found}"

    def close(self) -> None:
        self._socket.close()

    def many(self, packed: bytes, count: int) -> list[Any]:
        """Sends commands and reads that many replies."""
        self._socket.sendall(packed)
        replies: list[Any] = []
        while len(replies) < count:
            while (reply := self._parser.gets()) is not NOT_ENOUGH:
                replies.append(reply)
            if len(replies) < count:
                self._parser.feed(self._socket.recv(65_536))
        return replies

    def ask(self, *command: Any) -> Any:
        [reply] = self.many(hiredis.pack_command(command), 1)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def run(self, packed: bytes) -> Any:
        """Runs a script at this link's time; gives its answer, or the error."""
        sha = packed[packed.index(b"\r\n$40\r\n") + 7 :][:40]
        packed = packed.replace(sha, self._shas[sha], 1)
        clock = hiredis.pack_command(("MSET", "clock", self.now, "run", self.generation))
        return self.many(clock + packed, 2)[1]

    # -------------------------------------------------------------------------------- as a transport
    def before_write(self, hook: Callable[[], None]) -> None:
        pass

    def poke(self) -> None:
        pass

    def write_early(self) -> None:
        pass

    def submit(
        self,
        packed: bytes,
        deliver: Callable[[object], None],
        *,
        server: str | None = None,
        elsewhere: Callable[[], bytes] | None = None,
        written: bool = False,
    ) -> None:
        if server not in (None, self.generation) and not self.is_known:
            # The connection it was for has ended with its server.
            if elsewhere is None:
                deliver(ServerChanged())
                return
            packed = elsewhere()
        is_send = script("send").sha.encode() in packed[:99]
        if is_send:
            self.sends.append(packed)
        elif script("void").sha.encode() in packed[:99]:
            self.voids.append(packed)
        fate = self.fate if is_send else "answered"
        if fate == "refused":
            deliver(redis.exceptions.OutOfMemoryError("OOM"))
            return
        reply = self.run(packed) if fate != "lost" else None
        deliver(reply if fate == "answered" else OutcomeUnknown("send", 5.0))

    async def call(self, *command: Any, server: str | None = None) -> Any:
        replies: list[Any] = []
        if command[0] == "EVALSHA":
            self.submit(hiredis.pack_command(command), replies.append, server=server)
        else:
            replies += self.many(hiredis.pack_command(command), 1)
        if isinstance(replies[0], Exception):
            raise replies[0]
        return replies[0]


class ScriptStore(RedisStore):
    """A client over the link, which says that it would wait where the real one waits."""

    def __init__(self, server: RedisServer, keys: Keys, client: str, link: Link) -> None:
        super().__init__(parse_address(server.url), keys, client)
        self._transport = link  # type: ignore[assignment]
        self._batcher = Batcher(link, keys, client, "redis")  # type: ignore[arg-type]
        self.last_join: tuple[Any, ...] | None = None

    async def _call(self, name: str, *args: Any, **options: Any) -> Any:
        if name == "join":
            self.last_join = (name, *args)
        return await super()._call(name, *args, **options)

    async def _section(self, add: Callable[[Any], None], section: Any) -> Any:
        answers: list[Any] = []
        section.answer = answers.append
        add(section)
        self._batcher.flush()
        [answer] = answers
        if isinstance(answer, Exception):
            raise answer
        check_word(answer)
        return answer

    async def _after_quarantine(self, ask: Callable[[], Any]) -> Any:
        answer = await ask()
        check_word(answer)
        return answer


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Runs what never waits."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")


def argument(packed: bytes, number: int) -> bytes:
    """Reads ARGV[number] of a packed call."""
    parser = hiredis.Reader()
    parser.feed(packed)
    call: Sequence[bytes] = parser.gets()
    return call[2 + int(call[2]) + number]
