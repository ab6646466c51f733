"""Handlers of one entity that overlap, where their commands do not stay theirs."""

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
from fleet import FaultyServer
from trio.testing import MockClock

from trioqueue import (
    AtomicQueues,
    CallFailed,
    Command,
    Context,
    DeadlineExceeded,
    EntityPolicy,
    Limits,
    Registry,
    Retry,
    command,
    entity_id,
    open_atomic_queues,
)
from trioqueue.runtime.worker import Worker
from trioqueue.stores.contract import Commit, CommitAnswer, Member


@command("page")
class Fetch(Command[str]):
    site: str = entity_id()
    number: int
    seconds: float = 1.0
    clean_up: float = 0.0
    fails: int = 0
    size: int = 0


@command("page")
class Index(Command):
    site: str = entity_id()


class SizingServer(FaultyServer):
    """Notes how many bytes of answers each commit had."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def commit(self, member: Member, commit: Commit) -> CommitAnswer:
        self.sizes.append(sum(len(reply.outcome) for reply in commit.replies))
        return super().commit(member, commit)


class Crawler:
    def __init__(self) -> None:
        self.server = SizingServer()
        self.starts: list[int] = []
        self.running: Counter[int] = Counter()
        self.most = 0
        self.failed: Counter[int] = Counter()
        self.registry = Registry()
        self.registry.handles(Fetch, retry=Retry(attempts=2, wait_first=5, jitter=False))(self.fetch)

    async def fetch(self, command: Fetch, context: Context) -> str:
        self.starts.append(command.number)
        self.running[command.number] += 1
        self.most = max(self.most, self.running[command.number])
        try:
            await trio.sleep(command.seconds)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(command.clean_up)
            self.running[command.number] -= 1
        if self.failed[command.number] < command.fails:
            self.failed[command.number] += 1
            raise OSError("a bad gateway")
        return "x" * command.size

    @asynccontextmanager
    async def open(
        self, registry: Registry | None = None, *, overlap: int = 2, fetch: int = 64, running: int = 100
    ) -> AsyncGenerator[AtomicQueues]:
        async with open_atomic_queues(
            self.server,
            registry=registry or self.registry,
            entities={"page": EntityPolicy(overlap=overlap, fetch=fetch, keep_results=100)},
            limits=Limits(running=running),
        ) as queues:
            with trio.fail_after(300):
                yield queues


async def test_a_moment_without_trust_leaves_no_command_behind(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """The process stood still, and the next heartbeat was confirmed before anybody looked at the lease."""
    answers = [False]
    trusted = Worker.trusted
    monkeypatch.setattr(Worker, "trusted", lambda self: answers.pop() if answers else trusted(self))  # type: ignore[misc]
    crawler = Crawler()
    async with crawler.open() as queues:
        await queues.send(Fetch("a", 1))
        with trio.fail_after(20):
            await queues.wait_settled()
    assert crawler.starts == [1]


async def test_nothing_begins_behind_a_command_that_another_pod_is_to_handle(
    autojump_clock: MockClock,
) -> None:
    """Else each pod that can't would begin with it, and break it off, once a second."""
    crawler = Crawler()
    full = Registry()
    full.handles(Fetch)(crawler.fetch)

    @full.handles(Index)
    async def index(command: Index) -> None: ...

    async with crawler.open() as queues:
        await queues.send_many([Fetch("a", 1, 3.0), Index("a"), Fetch("a", 2), Fetch("a", 3)])
        await trio.sleep(30)
        assert crawler.starts == [1]
        async with crawler.open(full):
            await queues.wait_settled()
    assert crawler.starts == [1, 2, 3]


async def test_a_command_is_not_handled_twice_at_once(autojump_clock: MockClock) -> None:
    """It leaves the hand for another one, and is back before its handler has cleaned up."""
    crawler = Crawler()
    async with crawler.open(fetch=2) as queues:
        with pytest.raises(CallFailed):
            await queues.call(Fetch("a", 0, fails=2))
        await queues.send_many([Fetch("a", 1, fails=1), Fetch("a", 2, 20, clean_up=30)])
        await trio.sleep(2)
        (letter,) = await queues.dead_letters("page")
        await queues.redeliver(letter, to="head")
        await queues.wait_settled()
    assert Counter(crawler.starts) == {0: 3, 1: 2, 2: 2}
    assert crawler.most == 1


async def test_what_was_purged_while_it_waited_for_a_running_slot_does_not_run(
    autojump_clock: MockClock,
) -> None:
    crawler = Crawler()
    async with crawler.open(running=1) as queues:
        await queues.send(Fetch("a", 1, fails=1))
        await trio.sleep(0.1)
        await queues.send(Fetch("b", 2, 10))
        await trio.sleep(0.1)
        await queues.send(Fetch("a", 3))
        await trio.sleep(
            2
        )  # the first one waits to be tried again, the third one for the slot of the other entity
        assert crawler.starts == [1, 2]
        await queues.purge("page", "a")
        await queues.wait_settled()
        await trio.sleep(5)
    assert crawler.starts == [1, 2]


async def test_who_gives_up_while_the_command_waits_for_a_running_slot(autojump_clock: MockClock) -> None:
    crawler = Crawler()
    async with crawler.open(running=1) as queues:
        await queues.send(Fetch("b", 1, 10))
        await trio.sleep(0.1)
        await queues.send(Fetch("a", 2, 5))
        await trio.sleep(0.1)
        receipt = await queues.send(Fetch("a", 3))
        await trio.sleep(0.1)
        assert await queues.cancel(receipt) != "late"
        await queues.wait_settled()
        assert (await queues.status(receipt)).outcome == "cancelled"
    assert crawler.starts == [1, 2]


async def test_the_time_is_over_while_a_command_waits_for_a_running_slot(autojump_clock: MockClock) -> None:
    crawler = Crawler()
    async with crawler.open(running=1) as queues:
        await queues.send(Fetch("b", 1, 10))
        await trio.sleep(0.1)
        await queues.send(Fetch("a", 2, 5))
        await trio.sleep(0.1)
        receipt = await queues.send(Fetch("a", 3, 5), expires=7)
        again = await queues.send(Fetch("a", 4, 100), expires=20)
        began = trio.current_time()
        with pytest.raises(DeadlineExceeded):
            await queues.result(again)
        assert trio.current_time() - began == pytest.approx(20, abs=0.5)
        assert (await queues.status(receipt)).outcome == "expired"
    assert crawler.starts == [1, 2, 4]


async def test_what_ended_together_is_committed_in_pieces_that_can_travel(autojump_clock: MockClock) -> None:
    crawler = Crawler()
    async with crawler.open(overlap=16) as queues:
        await queues.send_many(Fetch("a", number, 10 - number / 2, size=200_000) for number in range(16))
        await queues.wait_settled()
    assert max(crawler.server.sizes) < 600_000


@command("log")
class Note(Command):
    log: str = entity_id()
    number: int


async def test_children_and_attempts_are_each_commands_own(autojump_clock: MockClock) -> None:
    """Also of one that was prepared for before the oldest failed, and begins once that is tried again."""
    registry = Registry()
    attempts: dict[int, list[int]] = {}
    children: list[str] = []

    @registry.handles(Fetch, retry=Retry(attempts=2, wait_first=5, jitter=False))
    async def fetch(command: Fetch, context: Context) -> str:
        attempts.setdefault(command.number, []).append(context.attempt)
        receipt = context.send(Note("all", command.number))
        await trio.sleep(command.seconds)
        if context.attempt <= command.fails:
            raise OSError("a bad gateway")
        children.append(receipt.command_id)
        return ""

    @registry.handles(Note)
    async def note(command: Note) -> None: ...

    async with Crawler().open(registry, running=1) as queues:
        await queues.send(Fetch("a", 1, fails=1))
        await trio.sleep(0.1)
        await queues.send(Fetch("b", 2, 10))  # has the slot when the first one has failed
        await trio.sleep(0.1)
        await queues.send(Fetch("a", 3))
        await trio.sleep(0.1)
        await queues.send(Fetch("a", 4))
        await queues.wait_settled()
    assert attempts == {1: [1, 2], 2: [1], 3: [1], 4: [1]}
    assert len(set(children)) == 4
