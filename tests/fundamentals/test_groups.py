"""With `commit="group"`, many turns are committed in one request, and nobody can tell but by the speed."""

from random import Random
from typing import Any

import attrs
import pytest
import trio
from fleet import FaultyServer
from trio.testing import MockClock

from trioqueue import (
    AtomicQueues,
    BadDeclaration,
    Command,
    Context,
    EntityPolicy,
    Query,
    Registry,
    Rejection,
    Retry,
    command,
    entity_id,
    open_atomic_queues,
    query,
    state,
)
from trioqueue.stores.contract import Commit, CommitAnswer, Member


@state("till")
class Till:
    amounts: list[int] = attrs.field(factory=list)


@attrs.define
class Empty(Rejection):
    amounts: int


@command("till", rejects=[Empty])
class Book(Command[int]):
    till_id: str = entity_id()
    number: int
    kind: str = "plain"


@query("till")
class Count(Query[int]):
    till_id: str = entity_id()


@command("printer")
class Print(Command[int]):
    printer_id: str = entity_id()
    number: int


@command("printer")
class Paint(Command):
    printer_id: str = entity_id()
    picture: str


class Shop:
    """Tills that do all that a handler may, and a printer that notes what it was told."""

    def __init__(self, mode: Any = "group", **policy: Any) -> None:
        self.registry = Registry()
        self.server = FaultyServer()
        self.policies = {
            "till": EntityPolicy(commit=mode, retry=Retry(attempts=2, wait_first=1), **policy),
            "printer": EntityPolicy(commit="group"),
        }
        self.printed: list[int] = []
        self.starts: list[int] = []
        self.registry.handles(Book)(self.book)
        self.registry.handles(Count)(self.count)
        self.registry.handles(Print)(self.print)

    def open(self) -> Any:
        return open_atomic_queues(self.server, registry=self.registry, entities=self.policies)

    async def book(self, command: Book, till: Till, context: Context) -> int:
        self.starts.append(command.number)
        till.amounts.append(command.number)
        context.send(Print("all", command.number))
        match command.kind:
            case "reject":
                raise Empty(len(till.amounts))
            case "fail once" if context.attempt == 1:
                raise OSError("paper jam")
            case "fail":
                raise OSError("on fire")
            case "call":
                return await context.call(Print("other", command.number)) + len(till.amounts)
            case "slow":
                await trio.sleep(1)
            case "give up":
                await trio.sleep_forever()
            case _:
                pass
        return len(till.amounts)

    async def count(self, command: Count, till: Till) -> int:
        return len(till.amounts)

    async def print(self, command: Print) -> int:
        self.printed.append(command.number)
        return command.number


async def test_many_turns_go_with_one_commit(autojump_clock: MockClock) -> None:
    shop = Shop()
    async with shop.open() as queues:
        await queues.send_many(Book("a", number) for number in range(50))
        await queues.wait_settled()
        assert (await queues.state(Till, "a")).amounts == list(range(50))
    assert shop.printed == list(range(50))
    assert shop.server.commits < 10


async def test_the_commits_of_each_are_as_many_as_its_commands(autojump_clock: MockClock) -> None:
    shop = Shop("each")
    async with shop.open() as queues:
        await queues.send_many(Book("a", number) for number in range(50))
        await queues.wait_settled()
    assert shop.server.commits >= 50


async def test_a_handler_may_have_its_own_mode(autojump_clock: MockClock) -> None:
    registry = Registry()
    server = FaultyServer()
    commits: list[int] = []

    @registry.handles(Book, commit="group")
    async def book(command: Book, till: Till) -> int:
        till.amounts.append(command.number)
        return 0

    @registry.handles(Print, commit="each")
    async def print_(command: Print) -> int:
        return 0

    @registry.on("till", "look", commit="each")
    async def look(command: Any) -> None:
        commits.append(server.commits)

    @command("till")
    class Look(Command):
        till_id: str = entity_id()

    async with open_atomic_queues(server, registry=registry) as queues:
        await queues.send_many([Book("a", 1), Book("a", 2), Look("a"), Look("a"), Book("a", 3)])
        await queues.wait_settled()
    assert commits == [1, 2], "it starts when what was before it stands"


async def test_a_failure_leaves_those_before_it_committed(autojump_clock: MockClock) -> None:
    shop = Shop()
    async with shop.open() as queues:
        await queues.send_many([Book("a", 1), Book("a", 2), Book("a", 3, "fail once"), Book("a", 4)])
        await trio.sleep(0.2)
        assert (await queues.state(Till, "a")).amounts == [1, 2]
        await queues.wait_settled()
        assert (await queues.state(Till, "a")).amounts == [1, 2, 3, 4]
    assert shop.starts == [1, 2, 3, 3, 4], "those before it did not run again"
    assert shop.printed == [1, 2, 3, 4]


async def test_a_call_goes_out_behind_the_group_before_it(autojump_clock: MockClock) -> None:
    registry = Registry()
    seen: list[list[int]] = []
    opened: list[AtomicQueues] = []

    @registry.handles(Book, commit="group")
    async def book(command: Book, till: Till, context: Context) -> int:
        till.amounts.append(command.number)
        return await context.call(Print("p", 1)) if command.kind == "call" else 0

    @registry.handles(Print)
    async def print_(command: Print) -> int:
        seen.append((await opened[0].state(Till, "a")).amounts)
        return 7

    async with open_atomic_queues("memory://", registry=registry) as queues:
        opened.append(queues)
        receipts = await queues.send_many([Book("a", 1), Book("a", 2), Book("a", 3, "call"), Book("a", 4)])
        await queues.wait_settled()
        assert (await queues.state(Till, "a")).amounts == [1, 2, 3, 4]
    assert seen == [[1, 2]]
    assert len(receipts) == 4


async def test_a_cancelled_turn_leaves_those_before_it_committed(autojump_clock: MockClock) -> None:
    shop = Shop()
    async with shop.open() as queues:
        await queues.send_many([Book("a", 1), Book("a", 2)])
        with trio.move_on_after(1):
            await queues.call(Book("a", 3, "give up"))
        await queues.call(Book("a", 4))
        assert (await queues.state(Till, "a")).amounts == [1, 2, 4]
        await queues.wait_settled()
    assert shop.printed == [1, 2, 4]


async def test_a_slow_handler_keeps_nobody_waiting_for_long(autojump_clock: MockClock) -> None:
    """What was handled before it is committed when it has ended, and not once everything in hand is."""
    shop = Shop()
    async with shop.open() as queues:
        await queues.send_many([Book("a", 1), *(Book("a", number, "slow") for number in range(2, 10))])
        await trio.sleep(2.5)
        assert len((await queues.state(Till, "a")).amounts) >= 2


@pytest.mark.parametrize(("wanted", "in_one"), [(False, 5), (True, 2)])
async def test_a_group_is_longer_where_nobody_waits_for_what_is_in_it(
    wanted: bool, in_one: int, autojump_clock: MockClock
) -> None:
    """Handlers of 6 ms: 2 ms after the first has ended where somebody waits for an answer, 20 where nobody does."""
    pops: list[int] = []

    class CountingServer(FaultyServer):
        def commit(self, member: Member, commit: Commit) -> CommitAnswer:
            pops.append(commit.pops)
            return super().commit(member, commit)

    registry = Registry()

    @registry.handles(Paint, commit="group")
    async def paint(command: Paint) -> None:
        await trio.sleep(0.006)

    policies = {"printer": EntityPolicy(keep_results=60.0 if wanted else 0.0)}
    async with open_atomic_queues(CountingServer(), registry=registry, entities=policies) as queues:
        await queues.send_many(Paint("a", "x") for _ in range(16))
        await queues.wait_settled()
    assert max(pops) == in_one, pops


async def test_children_of_a_group_are_told_apart(autojump_clock: MockClock) -> None:
    registry = Registry()
    children: list[str] = []

    @registry.handles(Book, commit="group")
    async def book(command: Book, context: Context) -> int:
        children.append(context.send(Print("all", command.number)).command_id)
        return 0

    @registry.handles(Print)
    async def print_(command: Print) -> int:
        return 0

    async with open_atomic_queues("memory://", registry=registry) as queues:
        await queues.send_many(Book("a", number) for number in range(20))
        await queues.wait_settled()
    assert len(set(children)) == 20


async def test_a_group_is_no_larger_than_what_can_travel_beside_others(autojump_clock: MockClock) -> None:
    sizes: list[int] = []

    class SizingServer(FaultyServer):
        def commit(self, member: Member, commit: Commit) -> CommitAnswer:
            sizes.append(sum(len(child.data) for child in commit.children))
            return super().commit(member, commit)

    registry = Registry()

    @registry.handles(Book, commit="group")
    async def book(command: Book, context: Context) -> int:
        context.send(Paint("all", "x" * 100_000))
        return 0

    @registry.handles(Paint)
    async def paint(command: Paint) -> None: ...

    async with open_atomic_queues(SizingServer(), registry=registry) as queues:
        await queues.send_many(Book("a", number) for number in range(20))
        await queues.wait_settled()
    assert sum(sizes) > 2_000_000
    assert max(sizes) < 400_000


KINDS = ("plain", "plain", "plain", "reject", "fail once", "fail", "call", "slow", "query")


def _line(seed: int) -> list[str]:
    dice = Random(seed)
    return [dice.choice(KINDS) for _ in range(dice.randint(1, 40))]


async def _handled(kinds: list[str], mode: str, fetch: int) -> dict[str, Any]:
    """Handles a line of commands, and tells all that may be seen of it."""
    shop = Shop(mode, fetch=fetch, keep_results=1000)
    async with shop.open() as queues:
        receipts = await queues.send_many(
            Count("a") if kind == "query" else Book("a", number, kind) for number, kind in enumerate(kinds)
        )
        await queues.wait_settled()
        answers: list[Any] = []
        for receipt in receipts:
            try:
                answers.append(await queues.result(receipt))
            except Exception as error:
                answers.append(str(error))
        letters = [letter.command_id for letter in await queues.dead_letters("till")]
        ids = [receipt.command_id for receipt in receipts]
        return {
            "answers": answers,
            "state": (await queues.state(Till, "a")).amounts,
            "dead": [ids.index(letter) for letter in letters],
            "printed by children": [n for n in shop.printed if shop.printed.count(n) >= 1],
            "starts": shop.starts,
        }


@pytest.mark.parametrize("seed", range(60))
async def test_nobody_can_tell_a_group_from_each(seed: int, autojump_clock: MockClock) -> None:
    kinds = _line(seed)
    fetch = Random(seed).choice([1, 2, 5, 64])
    alone, together = await _handled(kinds, "each", fetch), await _handled(kinds, "group", fetch)
    assert sorted(alone.pop("printed by children")) == sorted(together.pop("printed by children"))
    assert alone == together


def test_a_mode_that_is_none_is_refused() -> None:
    with pytest.raises(BadDeclaration, match="commit"):
        EntityPolicy(commit="all")  # type: ignore[arg-type]
    with pytest.raises(BadDeclaration, match="commit"):
        Registry().handles(Print, commit="all")  # type: ignore[call-overload]
