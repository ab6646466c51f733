"""The store in memory and the real scripts side by side: asked the same, compared after each step."""

import socket
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import attrs
import hiredis
from redis_harness import RedisHarness
from redis_servers import RedisServer
from stores.pictures import CLIENTS, differences, memory_picture, pack_reads, redis_picture
from stores.script_link import Change, Link, ScriptStore, run

from trioqueue._errors import Incompatible
from trioqueue._names import Entity
from trioqueue.stores.contract import CHUNK, PAGE, Claimed, LeaseLost, Member, Next
from trioqueue.stores.memory.mailboxes import Quarantined
from trioqueue.stores.memory.server import MemoryServer
from trioqueue.stores.redis.replies import Wait, check_word
from trioqueue.stores.redis.scripts import script
from trioqueue.stores.reports import Hint, Wake
from trioqueue.testing import audit, audit_drained


class Mismatch(AssertionError):
    """The two sides differ, or one broke an invariant; the text tells everything that was asked."""


def outcome(ask: Callable[[], Any]) -> Any:
    """Gives an answer, or a word for the refusal."""
    try:
        answer = ask()
    except LeaseLost:
        return "LOST"
    except (Wait, Quarantined):
        return "WAIT"
    except Incompatible:
        return "INCOMPATIBLE"
    if isinstance(answer, list):
        return [normal(one) for one in answer]
    return normal(answer)


def normal(answer: Any) -> Any:
    """Brings what has no order into one."""
    if isinstance(answer, Claimed | Next):
        return attrs.evolve(answer, cancels=tuple(sorted(answer.cancels)))
    return answer


def _kind(answer: Any) -> str:
    return answer if isinstance(answer, str) else type(answer).__name__


class Both:
    """A server of each kind, with one clock."""

    def __init__(self, server: RedisServer, changes: Iterable[Change] = ()) -> None:
        self.server = server
        self.link = Link(server, changes)
        self.harness = RedisHarness(server)
        self.keys = self.harness.keys
        self._subscriber = socket.socket(socket.AF_UNIX)
        self._subscriber.connect(str(server.data / "redis.sock"))
        self._pushes = hiredis.Reader(notEnoughData=False)
        self._subscriber.sendall(hiredis.pack_command(("PSUBSCRIBE", f"{self.keys.channel}*")))
        self._reads = pack_reads(self.keys)
        self.answers: Counter[str] = Counter()  # how often each kind of answer was given

    def close(self) -> None:
        self.link.close()
        self._subscriber.close()

    def clear(self) -> None:
        """Begins anew with two empty servers."""
        self.link.ask("FLUSHDB")
        self.now = 1_700_000_000_000_000
        self.log: list[str] = []
        self.memory = MemoryServer(lambda: self.now)
        self.link.generation, self.link.is_known, self.link.fate = self.memory.generation, False, "answered"
        self.stores = {name: ScriptStore(self.server, self.keys, name, self.link) for name in CLIENTS}
        self.hints: dict[str, Counter[tuple[str, Hint]]] = {"memory": Counter(), "redis": Counter()}
        for name, store in self.stores.items():
            self.memory.listeners[name] = lambda hint, name=name: self.hints["memory"].update([(name, hint)])
            store.listen(lambda hint, name=name: self.hints["redis"].update([(name, hint)]), lambda: None)
        self._read_hints()
        self.hints["redis"].clear()
        self.claimed_at_once: set[tuple[str, Entity]] = set()

    # -------------------------------------------------------------------------------- asking both
    def ask(self, what: str, redis: Callable[[], Any], memory: Callable[[], Any]) -> Any:
        """Asks both the same, and compares what they answer, tell and hold."""
        self.now += 1000
        self.link.now = self.now
        self._expire()
        theirs = outcome(redis)
        ours = outcome(memory)
        self.log.append(f"{what}  ->  {ours}")
        self.answers.update(map(_kind, ours if isinstance(ours, list) else [ours]))
        if ours != theirs:
            self.fail(f"the scripts answer {theirs}")
        self._read_hints()
        self._compare_hints()
        self.compare()
        return ours

    def fail(self, why: str) -> None:
        raise Mismatch("\n".join([*self.log, why]))

    def _read_hints(self) -> None:
        self._subscriber.sendall(b"PING\r\n")
        while True:
            self._pushes.feed(self._subscriber.recv(65_536))
            while (push := self._pushes.gets()) is not False:
                if push[0] == b"pong":
                    return
                if push[0] == b"pmessage":
                    client = push[2].decode().removeprefix(self.keys.channel)
                    self.stores[client].take_push(push[2], push[3])

    def _compare_hints(self) -> None:
        ours, theirs = self.hints["memory"], self.hints["redis"]
        for client, entity in self.claimed_at_once:  # who claims with the send needs no hint, and may get one
            for hints in (ours, theirs):
                hints.pop((client, Wake(entity)), None)
        self.claimed_at_once.clear()
        if ours != theirs:
            self.fail(f"memory tells {dict(ours)}, the scripts {dict(theirs)}")
        ours.clear()
        theirs.clear()

    # -------------------------------------------------------------------------------- what both hold
    def compare(self) -> None:
        """Compares everything that is kept, and audits both sides."""
        try:
            ours, theirs = memory_picture(self.memory), redis_picture(self.link.many(*self._reads))
            if ours != theirs:
                self.fail("\n".join(differences("", ours, theirs)))
            for world in (ours["world"], theirs["world"]):
                audit(world)
        except AssertionError as error:
            if isinstance(error, Mismatch):
                raise
            self.fail(str(error))

    def audit_drained(self) -> None:
        """Asserts that nothing is left, by what is really in Redis (I15)."""
        try:
            audit_drained(run(self.harness.world()))
        except AssertionError as error:
            self.fail(str(error))

    # -------------------------------------------------------------------------------- the clock, and calls of no store
    def set_clock(self, seconds: float) -> None:
        """Moves the clock of both."""
        self.now += round(seconds * 1e6)

    def _expire(self) -> None:
        """Ends in Redis what memory's clock says has ended: a TTL goes by another clock, which is not moved."""
        memory, keys = self.memory, self.keys
        self._expire_of(memory.results, keys.result)
        self._expire_of(memory.words, keys.progress)
        self._expire_of(memory.keys, lambda one: keys.idempotency(*one))

    def _expire_of(self, kept: dict[Any, tuple[int, Any]], name: Callable[[Any], str]) -> None:
        for one in [one for one, (until, _) in kept.items() if until <= self.now]:
            if self.link.ask("PTTL", name(one)) == -1:
                self.fail(f"{name(one)} would be kept for ever")
            self.link.ask("DEL", name(one))
            del kept[one]

    def beat(self, member: Member, types: frozenset[str]) -> Any:
        """Beats as the heartbeat's thread does."""
        what, ready = script("beat"), [self.keys.placement(t)[1] for t in sorted(types)]
        keys = [*self.keys.common, self.keys.later[0], *ready]
        answer = self.link.run(
            hiredis.pack_command(
                ("EVALSHA", what.sha, len(keys), *keys, self.keys.channel, *member, 0, PAGE, CHUNK)
            )
        )
        check_word(answer)
        return answer
