"""With `overlap=n`, handlers of one entity run at once, and commands still leave its mailbox in their order."""

from random import Random
from typing import Any

import pytest
import trio
from fleet import FaultyServer
from trio.testing import MockClock

from trioqueue import (
    BadDeclaration,
    Command,
    Context,
    EntityPolicy,
    Registry,
    Retry,
    command,
    entity_id,
    open_atomic_queues,
    state,
)


@command("page")
class Fetch(Command[int]):
    site: str = entity_id()
    number: int
    seconds: float = 1.0


@command("index")
class Add(Command):
    index_id: str = entity_id()
    number: int


class Crawler:
    """Fetches pages, three of a site at a time; fails at negative ones once."""

    def __init__(self, overlap: int = 3, **options: Any) -> None:
        self.registry = Registry()
        self.server = FaultyServer()
        self.options = options
        self.policies = {"page": EntityPolicy(overlap=overlap, retry=Retry(wait_first=10, jitter=False))}
        self.running: set[int] = set()
        self.most = 0
        self.starts: list[int] = []
        self.added: list[int] = []
        self.registry.handles(Fetch)(self.fetch)
        self.registry.handles(Add)(self.add)

    def open(self, **options: Any) -> Any:
        return open_atomic_queues(
            self.server, registry=self.registry, entities=self.policies, **self.options, **options
        )

    async def fetch(self, command: Fetch, context: Context) -> int:
        self.starts.append(command.number)
        self.running.add(command.number)
        self.most = max(self.most, len(self.running))
        context.send(Add("all", command.number))
        try:
            await trio.sleep(command.seconds)
        finally:
            self.running.remove(command.number)
        if command.number < 0 and context.attempt == 1:
            raise OSError("a bad gateway")
        return command.number

    async def add(self, command: Add) -> None:
        self.added.append(command.number)


async def test_handlers_of_an_entity_overlap(autojump_clock: MockClock) -> None:
    crawler = Crawler()
    async with crawler.open() as queues:
        with trio.fail_after(4.5):
            await queues.send_many(Fetch("a", number) for number in range(12))
            await queues.wait_settled()
    assert crawler.most == 3
    assert crawler.added == list(range(12))


async def test_what_comes_while_a_handler_runs_begins_beside_it(autojump_clock: MockClock) -> None:
    crawler = Crawler()
    async with crawler.open() as queues:
        await queues.send(Fetch("a", 1, 10))
        await trio.sleep(1)
        await queues.send(Fetch("a", 2, 10))
        await trio.sleep(1)
        assert crawler.running == {1, 2}
        await queues.wait_settled()


async def test_commands_are_committed_in_their_order(autojump_clock: MockClock) -> None:
    """Their children and answers come in that order, however soon a handler ends."""
    crawler = Crawler()
    async with crawler.open() as queues:
        await queues.send_many(Fetch("a", number, 10 - number) for number in range(9))
        await trio.sleep(9.5)
        assert crawler.added == []
        await queues.wait_settled()
    assert crawler.added == list(range(9))


async def test_while_one_waits_to_be_tried_again_the_others_go_on(autojump_clock: MockClock) -> None:
    crawler = Crawler()
    async with crawler.open() as queues:
        await queues.send_many(Fetch("a", number) for number in (-1, 2, 3, 4))
        await trio.sleep(3)
        assert sorted(crawler.starts) == [-1, 2, 3, 4]
        assert crawler.added == []
        await queues.wait_settled()
    assert crawler.starts[4:] == [-1], "what had ended did not run again"
    assert crawler.added == [-1, 2, 3, 4]


async def test_a_caller_that_gives_up_cancels_its_own_handler_alone(autojump_clock: MockClock) -> None:
    crawler = Crawler()
    async with crawler.open() as queues, trio.open_nursery() as nursery:
        nursery.start_soon(queues.call, Fetch("a", 1, 10))
        await trio.sleep(0.1)
        with trio.move_on_after(1):
            await queues.call(Fetch("a", 2, 10))
        await trio.sleep(0.1)
        assert crawler.running == {1}
    assert crawler.added == [1]


async def test_a_drain_lets_the_oldest_end_and_hands_the_rest_on(autojump_clock: MockClock) -> None:
    crawler = Crawler()
    async with crawler.open(name="first") as queues:
        await queues.send_many(Fetch("a", number, 3) for number in range(9))
        await trio.sleep(1)
    assert crawler.added == []
    async with crawler.open(name="second") as queues:
        await queues.wait_settled()
    assert crawler.added == list(range(9))


@pytest.mark.parametrize("seed", range(20))
async def test_each_command_stands_once_whatever_happens(seed: int, autojump_clock: MockClock) -> None:
    """Pods lose their leases, requests are heard twice, handlers fail: all is committed once, in its order."""
    dice = Random(seed)
    crawler = Crawler(overlap=dice.randint(2, 5))
    crawler.server.repeats = seed % 2 == 0
    async with (
        trio.open_nursery() as nursery,
        crawler.open(name="one"),
        crawler.open(name="two"),
        open_atomic_queues(crawler.server) as sender,
    ):

        async def break_leases() -> None:
            while True:
                await trio.sleep(dice.uniform(1, 6))
                crawler.server.unreachable = {dice.choice(list(crawler.server.listeners))}
                await trio.sleep(dice.uniform(1, 8))
                crawler.server.unreachable = set()

        nursery.start_soon(break_leases)
        for number in range(30):
            await sender.send(Fetch("a", number if dice.random() < 0.8 else -number, dice.uniform(0, 3)))
            await trio.sleep(dice.uniform(0, 1))
        with trio.fail_after(1000):
            await sender.wait_settled()
        crawler.server.unreachable = set()
        nursery.cancel_scope.cancel()
    assert [abs(number) for number in crawler.added] == list(range(30))


@state("page")
class Page:
    text: str = ""


async def test_a_type_with_a_state_does_not_overlap() -> None:
    registry = Registry()

    @registry.handles(Fetch)
    async def fetch(command: Fetch, page: Page) -> int:
        return 0

    with pytest.raises(BadDeclaration, match="overlap=2"):
        async with open_atomic_queues(
            "memory://", registry=registry, entities={"page": EntityPolicy(overlap=2)}
        ):
            pass
