"""Dead letters at the front door: what they tell, and how they come back."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import pytest
import trio
from lamps import Switch, Works, die, log_of, mode_of
from trio.testing import MockClock

from trioqueue import (
    AtomicQueues,
    CallFailed,
    Command,
    Context,
    DeadLetter,
    Entity,
    EntityPolicy,
    Registry,
    Retry,
    Status,
    command,
    entity_id,
    open_atomic_queues,
)
from trioqueue.stores.contract import Group, Outgoing
from trioqueue.stores.reports import Letter

AT_ONCE = pytest.approx(0, abs=0.05)


@command("lamp")
class Paint(Command):
    """Nobody handles it."""

    lamp_id: str = entity_id()


@pytest.fixture
def works() -> Works:
    return Works()


@pytest.fixture
async def queues(works: Works) -> AsyncIterator[AtomicQueues]:
    async with works.open() as one:
        yield one


async def test_a_dead_letter_tells_what_and_why(
    works: Works, queues: AtomicQueues, autojump_clock: MockClock
) -> None:
    await die(works, queues, Switch("a", "bad", 3))
    (letter,) = await queues.dead_letters("lamp")
    assert (letter.entity_type, letter.entity_id, letter.command) == ("lamp", "a", "switch")
    assert letter.error == "OSError: bad is jammed"
    assert 'raise OSError(f"{command.what} is jammed")' in letter.traceback
    assert (letter.attempts, letter.crashes) == (2, 0)
    assert letter.died_at - letter.accepted_at == pytest.approx(3 + 20 + 3, abs=0.1)
    assert letter.command_id.encode() in letter.envelope
    assert b'"what":"bad"' in letter.envelope
    assert (letter.version, letter.headers) == (1, {})
    assert letter.fields == {"lamp_id": "a", "what": "bad", "seconds": 3}
    assert "bad" not in repr(letter).replace(letter.error, ""), "a payload is not for logs"
    assert (await queues.statistics()).dead == 1


async def test_dead_letters_are_paged_oldest_first(
    works: Works, queues: AtomicQueues, autojump_clock: MockClock
) -> None:
    await die(works, queues, *(Switch(lamp, "bad") for lamp in "dacb"))
    letters = await queues.dead_letters("lamp")
    assert [one.entity_id for one in letters] == list("dacb")
    assert await queues.dead_letters("lamp", offset=1, count=2) == letters[1:3]
    assert await queues.dead_letters("lamp", offset=4) == []
    assert await queues.dead_letters("fan") == []


async def test_one_is_found_by_its_command(
    works: Works, queues: AtomicQueues, autojump_clock: MockClock
) -> None:
    await die(works, queues, Switch("a", "bad"), Switch("b", "bad"))
    for letter in await queues.dead_letters("lamp"):
        assert await queues.dead_letter("lamp", letter.command_id) == letter
        assert await queues.dead_letter("fan", letter.command_id) is None
        assert await queues.discard(letter)
        assert await queues.dead_letter("lamp", letter.command_id) is None


async def test_what_nobody_can_read_or_knows_is_a_dead_letter_too(
    works: Works, autojump_clock: MockClock
) -> None:
    async with works.open(entities={"lamp": EntityPolicy(unknown_grace=0)}) as queues:
        raw = b"\xff is no text"
        await queues._store.send(Group([Outgoing(Entity("lamp", "a"), raw)]))
        await trio.sleep(1)
        await queues.send(Paint("a"))
        await queues.wait_settled()
        unreadable, unknown = await queues.dead_letters("lamp")
        assert (unreadable.command, unreadable.envelope, unreadable.fields) == ("", raw, {})
        assert unreadable.error.startswith("DecodeError: ")
        assert (unknown.command, unknown.error.partition(":")[0]) == ("paint", "UnknownCommand")
        assert (unreadable.attempts, unknown.attempts) == (0, 0), "no handler has had them"
        await trio.sleep(1)
        assert await queues.redeliver(unreadable)
        await queues.wait_settled()
        _, again = await queues.dead_letters("lamp")
        assert (again.envelope, again.command_id != unreadable.command_id) == (raw, True)
        assert await queues.discard(again)
        assert works.starts == []


async def test_a_letter_that_is_redelivered_comes_last_with_all_its_attempts(
    works: Works, queues: AtomicQueues, autojump_clock: MockClock
) -> None:
    await die(works, queues, Switch("a", "bad"))
    (letter,) = await queues.dead_letters("lamp")
    works.jammed = {"bad"}
    await queues.send_many([Switch("a", "slow", 5), Switch("a", "fetched")])
    await trio.sleep(1)
    assert await queues.redeliver(letter) is True
    assert await queues.redeliver(letter) is False
    assert await queues.discard(letter) is False
    assert await queues.dead_letters("lamp") == []
    await queues.send(Switch("a", "last"))
    await trio.sleep(5)
    works.jammed.clear()
    await queues.wait_settled()
    assert await log_of(queues) == ["slow", "fetched", "bad", "last"]
    assert [one.attempt for one in works.starts if one.what == "bad"] == [1, 2, 1, 2]


async def test_a_letter_that_is_redelivered_to_the_head_comes_before_what_runs(
    works: Works, queues: AtomicQueues, autojump_clock: MockClock
) -> None:
    await die(works, queues, Switch("a", "bad"))
    (letter,) = await queues.dead_letters("lamp")
    slow, _ = await queues.send_many([Switch("a", "slow", 5), Switch("a", "fetched")])
    await trio.sleep(1)
    began = trio.current_time()
    works.starts.clear()
    assert await queues.redeliver(letter, to="head") is True
    assert await queues.redeliver(letter, to="head") is False
    assert await queues.result(slow) == 2
    assert trio.current_time() - began == pytest.approx(4 + 5, abs=0.1)
    await queues.wait_settled()
    assert works.started() == ["bad", "slow", "fetched"]
    assert works.overlaps == []
    assert await log_of(queues) == ["bad", "slow", "fetched"]


@pytest.mark.parametrize("to", ["tail", "head"])
async def test_a_letter_is_redelivered_to_whatever_its_entity_does(
    works: Works, queues: AtomicQueues, autojump_clock: MockClock, to: Literal["tail", "head"]
) -> None:
    await die(works, queues, *(Switch(lamp, "bad") for lamp in ("idle", "paused", "awake")))
    letters = await queues.dead_letters("lamp")
    await trio.sleep(100)
    await queues.call(Switch("awake", "before"))
    await queues.pause("lamp", "paused")
    await queues.send(Switch("paused", "queued"))
    for letter in letters:
        assert await queues.redeliver(letter, to=to)
    await queues.wait_settled()
    assert await log_of(queues, "idle") == ["bad"]
    assert await log_of(queues, "awake") == ["before", "bad"]
    assert await log_of(queues, "paused") == []
    await queues.resume("lamp", "paused")
    await queues.wait_settled()
    assert await log_of(queues, "paused") == (["queued", "bad"] if to == "tail" else ["bad", "queued"])


async def test_a_letter_that_is_redelivered_to_the_head_starts_in_the_midst_of_a_backoff(
    works: Works, queues: AtomicQueues, autojump_clock: MockClock
) -> None:
    await die(works, queues, Switch("a", "dead"))
    (letter,) = await queues.dead_letters("lamp")
    works.jammed = {"bad"}
    bad = await queues.send(Switch("a", "bad"))
    await trio.sleep(1)
    works.jammed.clear()
    began = trio.current_time()
    await queues.redeliver(letter, to="head")
    await queues.result(bad)
    assert await log_of(queues) == ["dead", "bad"]
    assert trio.current_time() - began == AT_ONCE


async def test_the_outcome_of_a_letter_is_that_of_its_last_delivery(
    works: Works, queues: AtomicQueues, autojump_clock: MockClock
) -> None:
    works.jammed = {"bad"}
    receipt = await queues.send(Switch("a", "bad"))
    with pytest.raises(CallFailed):
        await queues.result(receipt)
    works.jammed.clear()
    (letter,) = await queues.dead_letters("lamp")
    assert letter.command_id == receipt.command_id
    assert await queues.status(receipt) == Status("finished", "dead")
    await queues.pause("lamp", "a")
    await queues.redeliver(letter)
    assert await queues.status(receipt) == Status("pending")
    await queues.resume("lamp", "a")
    await queues.wait_settled()
    assert await queues.result(receipt) == 1


async def test_a_discarded_letter_is_gone(
    works: Works, queues: AtomicQueues, autojump_clock: MockClock
) -> None:
    await die(works, queues, Switch("a", "bad"))
    (letter,) = await queues.dead_letters("lamp")
    assert await queues.discard(letter) is True
    assert await queues.discard(letter) is False
    assert await queues.redeliver(letter) is False
    assert (await queues.statistics()).dead == 0
    assert await mode_of(queues) in ("idle", "parked")


async def test_a_letter_is_not_lost_by_a_slip(
    works: Works, queues: AtomicQueues, autojump_clock: MockClock
) -> None:
    await die(works, queues, Switch("a", "bad"))
    (letter,) = await queues.dead_letters("lamp")
    with pytest.raises(ValueError, match="'tail' or 'head', not 'front'"):
        await queues.redeliver(letter, to="front")  # type: ignore[arg-type]
    assert await queues.dead_letters("lamp") == [letter]


# ------------------------------------------------------------------------------------ where it was
@command("robot")
class Turn(Command):
    robot_id: str = entity_id()
    degrees: int


async def turn_motor(degrees: int) -> None:
    await trio.sleep(degrees)  # a motor that never gets there


async def watch(event: trio.Event) -> None:
    await event.wait()


def robots(opened: list[str]) -> Registry:
    registry = Registry()

    @registry.activation("robot")
    @asynccontextmanager
    async def connected(entity: Entity, nursery: trio.Nursery) -> AsyncGenerator[None]:
        nursery.start_soon(watch, trio.Event(), name="battery")
        opened.append(entity.id)
        yield

    @registry.handles(Turn, timeout=5, retry=Retry(attempts=2, wait_first=1))
    async def turn(command: Turn, context: Context) -> None:
        if context.attempt == 1:
            context.nursery.start_soon(watch, trio.Event(), name=f"camera of {command.robot_id}")
        if command.degrees < 0:
            raise ValueError("it can't turn back")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(turn_motor, command.degrees)

    return registry


async def letter_after(turn: Turn) -> tuple[DeadLetter, list[str]]:
    """Has a command die, and reads its letter; beside it, whose activations were opened."""
    opened: list[str] = []
    async with open_atomic_queues("memory://", registry=robots(opened)) as queues:
        with pytest.raises(CallFailed):
            await queues.call(turn)
        (letter,) = await queues.dead_letters("robot")
    return letter, opened


async def test_a_letter_says_where_a_handler_was_when_its_time_was_over(autojump_clock: MockClock) -> None:
    letter, _ = await letter_after(Turn("r2", 90))
    assert letter.error == "HandlerTimeout: the handler took longer than its timeout of 5 s"
    where, _, end = letter.traceback.partition("The above exception was the direct cause")
    assert "await trio.sleep(degrees)  # a motor that never gets there" in where
    assert "in turn_motor" in where
    assert "HandlerTimeout" in end


async def test_a_letter_has_the_tasks_that_its_entity_had(autojump_clock: MockClock) -> None:
    for turn in (Turn("r2", 90), Turn("r2", -90)):
        letter, opened = await letter_after(turn)
        battery, camera = letter.tasks.splitlines()
        assert battery.startswith("battery at ")
        assert camera.startswith("camera of r2 at ")
        assert battery.endswith("in watch: await event.wait()")
        assert opened == ["r2"], "an error of a handler is none of its activation"
    assert "battery" not in repr(letter)


async def test_a_letter_of_what_no_handler_had_has_no_tasks(
    works: Works, queues: AtomicQueues, autojump_clock: MockClock
) -> None:
    await queues._store.send(Group([Outgoing(Entity("lamp", "a"), b"\xff")]))
    await queues.wait_settled()
    (letter,) = await queues.dead_letters("lamp")
    assert (letter.tasks, "DecodeError" in letter.traceback) == ("", True)


async def test_a_letter_that_an_older_release_has_written_has_no_tasks(
    queues: AtomicQueues, autojump_clock: MockClock
) -> None:
    record = {"entity": "lamp/a", "envelope": "", "error": "E", "attempts": 1, "crashes": 0, "accepted_us": 1}
    seen = queues._dead_letter(Letter(2, "c1", queues._codec.dumps(record)))
    assert (seen.tasks, seen.traceback, seen.error) == ("", "", "E")
