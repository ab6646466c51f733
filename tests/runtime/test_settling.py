"""Turns that were gathered and have to stand while a turn behind them is under way, and what may come in between."""

from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest
import trio
from fleet import FaultyServer
from trio.testing import MockClock

from trioqueue import (
    AtomicQueues,
    Closed,
    Command,
    Context,
    Lease,
    Receipt,
    Registry,
    Retry,
    command,
    entity_id,
    open_atomic_queues,
    state,
)
from trioqueue.stores.contract import Commit, CommitAnswer, LeaseLost, Member
from trioqueue.stores.memory.mailboxes import Quarantined


@state("till")
class Till:
    amounts: list[int] = attrs.field(factory=list)


@command("till")
class Book(Command[int]):
    till_id: str = entity_id()
    number: int
    special: bool = False


@command("printer")
class Print(Command[int]):
    printer_id: str = entity_id()
    number: int


class SlowServer(FaultyServer):
    """A server whose commits of tills get no answer for a while.

    `silent`: they get none now.  `notes`: and are carried out nevertheless.  `fails`: raised by the next one.
    """

    silent = False
    notes = False
    fails: Exception | None = None

    def commit(self, member: Member, commit: Commit) -> CommitAnswer:
        if commit.entity.type != "till":
            return super().commit(member, commit)
        if self.fails is not None:
            error, self.fails = self.fails, None
            raise error
        if self.silent and not self.notes:
            raise Quarantined
        answer = super().commit(member, commit)
        if self.silent:
            raise Quarantined
        return answer

    async def answer_after(self, seconds: float) -> None:
        await trio.sleep(seconds)
        self.silent = False


class Shop:
    """A till whose commands are booked in groups; the special one does what the test says, the first time."""

    def __init__(self, special: Callable[[Context], Awaitable[None]]) -> None:
        self.server = SlowServer()
        self.registry = Registry()
        self.starts: list[int] = []
        self.printed: list[int] = []
        self.children: list[int] = []
        self.opened: AtomicQueues | None = None

        @self.registry.handles(Book, commit="group", retry=Retry(attempts=3, wait_first=1))
        async def book(command: Book, till: Till, context: Context) -> int:
            self.starts.append(command.number)
            till.amounts.append(command.number)
            context.send(Print("children", command.number))
            if command.special and self.starts.count(command.number) == 1:
                await special(context)
            return len(till.amounts)

        @self.registry.handles(Print)
        async def print_(command: Print) -> int:
            (self.children if command.printer_id == "children" else self.printed).append(command.number)
            return command.number

    async def check(self) -> None:
        """Books four, of which the third one is special, and looks whether each stood once."""
        async with open_atomic_queues(self.server, registry=self.registry) as queues:
            self.opened = queues
            await queues.send_many(Book("a", number, special=number == 3) for number in (1, 2, 3, 4))
            with trio.fail_after(60):
                await queues.wait_settled()
            assert (await queues.state(Till, "a")).amounts == [1, 2, 3, 4]
            assert self.children == [1, 2, 3, 4]


@pytest.mark.parametrize("notes", [False, True])
async def test_a_call_is_cut_short_while_what_was_before_it_is_committed(
    notes: bool, autojump_clock: MockClock
) -> None:
    async def special(context: Context) -> None:
        shop.server.silent, shop.server.notes = True, notes
        try:
            with trio.move_on_after(0.5):
                await context.call(Print("other", 3))
        finally:
            shop.server.silent = False

    shop = Shop(special)
    await shop.check()
    assert shop.starts == ([1, 2, 3, 3, 4] if notes else [1, 2, 3, 1, 2, 3, 4])


@pytest.mark.parametrize("notes", [False, True])
async def test_the_caller_of_a_turn_gives_up_while_what_was_before_it_is_committed(
    notes: bool, autojump_clock: MockClock
) -> None:
    async def special(context: Context) -> None:
        shop.server.silent, shop.server.notes = True, notes
        context.nursery.start_soon(shop.server.answer_after, 3.0)
        await context.call(Print("other", 3))

    shop = Shop(special)
    async with open_atomic_queues(shop.server, registry=shop.registry) as queues:
        await queues.pause("till", "a")
        await queues.send_many([Book("a", 1), Book("a", 2)])
        async with trio.open_nursery() as nursery:
            with trio.move_on_after(1):
                nursery.start_soon(queues.resume, "till", "a")
                await queues.call(Book("a", 3, special=True))
        await queues.send(Book("a", 4))
        with trio.fail_after(60):
            await queues.wait_settled()
        assert (await queues.state(Till, "a")).amounts == [1, 2, 4]
    assert shop.children == [1, 2, 4]


async def test_two_calls_of_one_turn_both_wait(autojump_clock: MockClock) -> None:
    printed: list[list[int]] = []

    async def special(context: Context) -> None:
        shop.server.silent = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shop.server.answer_after, 3.0)
            nursery.start_soon(context.call, Print("other", 1))
            nursery.start_soon(context.call, Print("other", 2))
            await trio.sleep(2.9)
            printed.append(list(shop.printed))

    shop = Shop(special)
    await shop.check()
    assert printed == [[]]
    assert sorted(shop.printed) == [1, 2]


@pytest.mark.parametrize("notes", [False, True])
async def test_a_turn_ends_while_a_task_it_leaves_behind_still_waits(
    notes: bool, autojump_clock: MockClock
) -> None:
    async def special(context: Context) -> None:
        shop.server.silent, shop.server.notes = True, notes
        context.nursery.start_soon(shop.server.answer_after, 3.0)
        context.nursery.start_soon(context.call, Print("other", 3))
        await trio.sleep(0.1)

    shop = Shop(special)
    await shop.check()
    assert shop.printed == [3]
    assert shop.starts == [1, 2, 3, 4]


@pytest.mark.parametrize("error", [LeaseLost("gone"), RuntimeError("a bug"), OSError("a fault")])
async def test_that_commit_fails(error: Exception, autojump_clock: MockClock) -> None:
    """It is the worker's matter: the handler is cancelled, and can't take the error for its own."""
    met: list[BaseException] = []

    async def special(context: Context) -> None:
        shop.server.fails = error
        try:
            await context.call(Print("other", 3))
        except BaseException as caught:
            met.append(caught)
            raise

    shop = Shop(special)
    await shop.check()
    assert [type(one) for one in met] == [trio.Cancelled]


async def test_who_does_not_react_to_that_calls_nobody(autojump_clock: MockClock) -> None:
    met: list[BaseException] = []

    async def special(context: Context) -> None:
        assert shop.opened is not None
        await shop.opened.pause("till", "a")
        await shop.opened.purge("till", "a")
        await shop.opened.resume("till", "a")
        with trio.CancelScope(shield=True):
            try:
                await context.call(Print("other", 3))
            except Closed as closed:
                met.append(closed)

    shop = Shop(special)
    async with open_atomic_queues(shop.server, registry=shop.registry) as queues:
        shop.opened = queues
        await queues.send_many(Book("a", number, special=number == 3) for number in (1, 2, 3, 4))
        with trio.fail_after(60):
            await queues.wait_settled()
        assert (await queues.state(Till, "a")).amounts == []
    assert len(met) == 1
    assert shop.printed == shop.children == []


async def test_a_turn_cancels_the_next_one_in_hand(autojump_clock: MockClock) -> None:
    """As without groups: what it cancels has not begun."""
    receipts: list[Receipt[Any]] = []
    ran: list[int] = []
    registry = Registry()

    @registry.handles(Book, commit="group")
    async def book(command: Book, context: Context) -> int:
        ran.append(command.number)
        if command.special:
            context.cancel(receipts[command.number + 1])
        return 0

    async with open_atomic_queues(SlowServer(), registry=registry) as queues:
        await queues.pause("till", "a")
        receipts += await queues.send_many(Book("a", number, special=number == 1) for number in range(4))
        await queues.resume("till", "a")
        await queues.wait_settled()
    assert ran == [0, 1, 3]


async def nothing_special(context: Context) -> None:
    """Is not asked for."""


async def test_a_second_commit_of_a_group_that_is_cut_short(autojump_clock: MockClock) -> None:
    """What the first one was answered is not what became of the second one."""

    shop = Shop(nothing_special)
    registry = Registry()
    cut: list[float] = []

    @registry.handles(Book, commit="group")
    async def book(command: Book, till: Till, context: Context) -> int:
        till.amounts.append(command.number)
        if command.number in (2, 4) and not cut:
            if command.number == 4:
                cut.append(trio.current_time())
                shop.server.silent = True
                shop.server.notes = True
                nursery.start_soon(shop.server.answer_after, 0.3)
                with trio.move_on_after(0.1):
                    await context.call(Print("other", command.number))
                await trio.lowlevel.checkpoint()
            else:
                await context.call(Print("other", command.number))
        return command.number

    @registry.handles(Print)
    async def print_(command: Print) -> int:
        return command.number

    lease = Lease(ttl=60, heartbeat=20, grace=30)
    async with (
        trio.open_nursery() as nursery,
        open_atomic_queues(shop.server, registry=registry, lease=lease) as queues,
    ):
        await queues.send_many(Book("a", number) for number in (1, 2, 3, 4, 5))
        await queues.wait_settled()
        assert (await queues.state(Till, "a")).amounts == [1, 2, 3, 4, 5]
        assert trio.current_time() - cut[0] < 2, "it slept though there was work, until a heartbeat"
