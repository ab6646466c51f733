"""What instruments put round sends and handlers, and that nothing depends on how they behave."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trioqueue import (
    BadEntityId,
    Command,
    Context,
    Entity,
    EntityPolicy,
    HandlerCancelled,
    Instrument,
    PayloadTooLarge,
    Registry,
    Rejection,
    Retry,
    command,
    entity_id,
    open_atomic_queues,
)
from trioqueue.protocol.instrument import SentBy
from trioqueue.runtime.instruments import NOBODY, Instruments

POLICIES = {"bell": EntityPolicy(retry=Retry(attempts=2, wait_first=1, jitter=False), max_payload=1000)}


SECONDS = {"nap": 10, "wait": 100}


class Cracked(Rejection):
    pass


@command("bell", rejects=[Cracked])
class Ring(Command[dict[str, str]]):
    """Does as it is told, and answers the headers that came with it."""

    bell_id: str = entity_id()
    how: str = ""


def new_registry() -> Registry:
    registry = Registry()

    @registry.handles(Ring)
    async def ring(command: Ring, context: Context) -> dict[str, str]:
        if command.how == "reject":
            raise Cracked
        if command.how == "fail" and context.attempt == 1:
            raise OSError("out of tune")
        if command.how == "send":
            context.send(Ring("echo", "x"))
        if command.how == "call":
            return await context.call(Ring("echo"))
        if command.how in SECONDS:
            await trio.sleep(SECONDS[command.how])
        return dict(context.headers)

    return registry


around: ContextVar[str] = ContextVar("around", default="")


class Rings(Instrument):
    """Puts something round all that it may, and notes how each is left."""

    def __init__(self, name: str = "x") -> None:
        self._name = name
        self.notes: list[Any] = []

    @contextmanager
    def _round(self, what: Any, headers: Mapping[str, str] | None) -> Iterator[Mapping[str, str] | None]:
        error: BaseException | None = None
        try:
            yield headers
        except BaseException as raised:
            error = raised
            raise
        finally:
            self.notes.append((what, type(error).__name__ if error else "", getattr(error, "why", "")))

    def sending(
        self, commands: Sequence[tuple[Entity, str, str]], how: SentBy
    ) -> AbstractContextManager[Mapping[str, str] | None]:
        names = [f"{how} {entity} {command}" for entity, command, _ in commands]
        return self._round(", ".join(names), {self._name: names[0], "last": self._name})

    def handling(
        self, entity: Entity, command: str, command_id: str, attempt: int, headers: Mapping[str, str]
    ) -> AbstractContextManager[object]:
        return self._round(f"{entity} {command} {attempt}", None)


async def test_they_are_round_sends_and_handlers_and_add_headers(autojump_clock: MockClock) -> None:
    one, other = Rings("one"), Rings("other")
    async with open_atomic_queues(
        "memory://", registry=new_registry(), entities=POLICIES, instruments=[one, other]
    ) as queues:
        headers = await queues.call(Ring("a"), headers={"one": "mine", "color": "red"})
        assert headers == {
            "color": "red",
            "one": "call bell/a ring",
            "other": "call bell/a ring",
            "last": "other",
        }
        assert (await queues.call(Ring("a", "call")))["one"] == "call bell/echo ring"
        await queues.send(Ring("a", "send"))
        await queues.send_many([Ring("a"), Ring("b")])
        await queues.send_many([])
        await queues.wait_settled()
    assert one.notes == other.notes
    assert sorted(one.notes) == sorted(
        (what, "", "")
        for what in (
            *("call bell/a ring", "bell/a ring 1"),
            *("call bell/a ring", "bell/a ring 1", "call bell/echo ring", "bell/echo ring 1"),
            *("send bell/a ring", "bell/a ring 1", "child bell/echo ring", "bell/echo ring 1"),
            *("send bell/a ring, send bell/b ring", "bell/a ring 1", "bell/b ring 1"),
        )
    )


async def test_they_are_left_with_what_ended_it(autojump_clock: MockClock) -> None:
    notes = Rings()
    async with open_atomic_queues(
        "memory://", registry=new_registry(), entities=POLICIES, instruments=[notes]
    ) as queues:
        with pytest.raises(Cracked):
            await queues.call(Ring("a", "reject"))
        await queues.call(Ring("b", "fail"))
        with pytest.raises(PayloadTooLarge):
            await queues.send(Ring("c", "x" * 1000))
        with pytest.raises(BadEntityId):
            await queues.send(Ring(""))
        receipt = await queues.send(Ring("d", "wait"))
        await trio.sleep(1)
        await queues.cancel(receipt)
        await queues.send(Ring("e", "wait"), expires=5)
        await queues.wait_settled()
        await queues.send(Ring("f", "wait"))
        await trio.sleep(1)
        await queues.purge("bell", "f")
        await queues.send(Ring("g", "wait"))
        await trio.sleep(1)
    expected = [
        ("bell/a ring 1", "Cracked", ""),
        ("call bell/a ring", "Cracked", ""),
        ("bell/b ring 1", "OSError", ""),
        ("bell/b ring 2", "", ""),
        ("call bell/b ring", "", ""),
        ("send bell/c ring", "PayloadTooLarge", ""),
        ("bell/d ring 1", "HandlerCancelled", "cancelled"),
        ("bell/e ring 1", "HandlerCancelled", "expired"),
        ("bell/g ring 1", "Cancelled", ""),
    ]
    sends = [(f"send bell/{bell} ring", "", "") for bell in "defg"]
    # A handler whose command an operator took away is not told of it, and runs to its end or its pod's.
    of_f = [note for note in notes.notes if note[0].startswith("bell/f")]
    assert [note for note in notes.notes if note not in of_f and note not in sends] == expected
    assert len(of_f) == 1


async def test_what_is_let_go_of_is_left_so(autojump_clock: MockClock) -> None:
    notes = Rings()
    async with open_atomic_queues(
        "memory://",
        registry=new_registry(),
        entities={"bell": EntityPolicy(commit="group")},
        instruments=[notes],
    ) as queues:
        await queues.send_many([Ring("a", "nap"), Ring("a", "call")])
        await trio.sleep(1)
        await queues.purge("bell", "a")  # so what is handled behind the nap never stands
        await trio.sleep(20)
    assert notes.notes == [
        ("send bell/a ring, send bell/a ring", "", ""),
        ("bell/a ring 1", "", ""),
        ("bell/a ring 1", "HandlerCancelled", "let go"),
    ]


class Contextual(Rings):
    def handling(self, entity: Entity, *_: Any) -> AbstractContextManager[object]:
        return self._set(str(entity))

    @contextmanager
    def _set(self, value: str) -> Iterator[None]:
        token = around.set(value)
        try:
            yield
        finally:
            around.reset(token)


@pytest.mark.parametrize("overlap", [1, 2])
async def test_a_context_variable_that_is_set_round_a_handler_is_its_own(
    overlap: int, autojump_clock: MockClock
) -> None:
    registry, seen = Registry(), []

    @registry.handles(Ring)
    async def ring(command: Ring) -> dict[str, str]:
        await trio.sleep(1)
        seen.append((command.bell_id, around.get()))
        return {}

    around.set("the sender's")
    async with open_atomic_queues(
        "memory://",
        registry=registry,
        entities={"bell": EntityPolicy(overlap=overlap)},
        instruments=[Contextual()],
    ) as queues:
        await queues.send_many([Ring("a"), Ring("b"), Ring("a"), Ring("a")])
        await queues.wait_settled()
    assert len(seen) == 4
    assert all(value == f"bell/{bell}" for bell, value in seen)


BAD_HEADERS = {"headers": {"number": 7}, "surrogates": {"name": "\ud800"}}


class Bad(Instrument):
    """Raises wherever it can; `where` says in which part of it."""

    def __init__(self, where: str) -> None:
        self._where = where

    def __repr__(self) -> str:
        if self._where == "repr":
            raise ZeroDivisionError
        return f"<Bad in {self._where}>"

    def _manager(self) -> Any:
        if self._where in ("call", "repr"):
            raise ZeroDivisionError
        if self._where in BAD_HEADERS:
            return Adds(BAD_HEADERS[self._where])
        return BadManager(self._where)

    def sending(self, *_: Any) -> Any:
        return self._manager()

    def handling(self, *_: Any) -> Any:
        return self._manager()


class Adds:
    def __init__(self, headers: object) -> None:
        self._headers = headers

    def __enter__(self) -> Any:
        return self._headers

    def __exit__(self, *_: object) -> None:
        return None


class BadManager:
    def __init__(self, where: str) -> None:
        self._where = where

    def __enter__(self) -> None:
        if self._where == "enter":
            raise ZeroDivisionError

    def __exit__(self, *_: object) -> bool:
        if self._where == "exit":
            raise ZeroDivisionError
        return True  # which would suppress an error


@pytest.mark.parametrize("where", ["call", "enter", "exit", "headers", "surrogates", "suppress", "repr"])
async def test_one_that_fails_changes_nothing_else(
    where: str, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    notes = Rings()
    async with open_atomic_queues(
        "memory://", registry=new_registry(), entities=POLICIES, instruments=[Bad(where), notes]
    ) as queues:
        for _ in range(3):
            headers = await queues.call(Ring("a", "call"), headers={"color": "red"})
            assert headers == {"x": "call bell/echo ring", "last": "x"}
        with pytest.raises(Cracked):
            await queues.call(Ring("a", "reject"))
        await queues.send(Ring("a", "send"))
        await queues.wait_settled()
    assert ("bell/a ring 1", "Cracked", "") in notes.notes
    assert len(notes.notes) == 3 * 4 + 2 + 4
    failed = [record for record in caplog.records if getattr(record, "event", "") == "instrument_failed"]
    methods = {"suppress": 0, "headers": 1, "surrogates": 1}.get(where, 2)
    assert len(failed) == methods, "once for each method"


async def test_one_that_lacks_what_it_is_asked_for_changes_nothing_either(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is no `Instrument`, which a checker of types says and nobody else."""
    stranger: Any = object()
    async with open_atomic_queues(
        "memory://", registry=new_registry(), entities=POLICIES, instruments=[stranger]
    ) as queues:
        assert await queues.call(Ring("a")) == {}
    assert "AttributeError" in caplog.text


async def test_headers_that_find_no_room_are_left_out(autojump_clock: MockClock) -> None:
    class Talkative(Instrument):
        def sending(self, *_: Any) -> Any:
            return Adds({"much": "x" * 1000})

    async with open_atomic_queues(
        "memory://", registry=new_registry(), entities=POLICIES, instruments=[Talkative()]
    ) as queues:
        assert await queues.call(Ring("a"), headers={"color": "red"}) == {"color": "red"}
        with pytest.raises(PayloadTooLarge):
            await queues.call(Ring("a"), headers={"color": "red" * 1000})


def test_nothing_is_made_where_nobody_wants_it() -> None:
    silent = Instruments([Instrument(), Instrument()])
    assert silent.sending_these([(Ring("a"), "1")], "send") is NOBODY
    assert silent.handling(Entity("bell", "a"), "ring", "1", 1, {}) is None


class Asked(Instrument):
    """Notes what it is asked about, and looks at one of the commands that are sent."""

    def __init__(self, look_at: int | None) -> None:
        self.look_at = look_at
        self.seen: list[Any] = []

    def sending(self, commands: Sequence[tuple[Entity, str, str]], how: SentBy) -> Any:
        self.seen.append(len(commands) if self.look_at is None else commands[self.look_at])


def test_commands_are_named_when_they_are_looked_at() -> None:
    """Of the thousands of a `send_many`, an instrument that does not want them costs nothing."""
    blind, sighted = Asked(None), Asked(-1)
    bad: Any = object()
    for one in (blind, sighted):
        Instruments([one]).sending_these([(bad, "1"), (Ring("a"), "2")], "send")
    assert blind.seen == [2]
    assert sighted.seen == [(Entity("bell", "a"), "ring", "2")]


async def test_a_command_that_cannot_be_sent_is_its_senders_error_also_where_an_instrument_looked_at_it(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    left: list[object] = []

    class Round(Instrument):
        def sending(self, *_: Any) -> Any:
            return Leaves(left)

    async with open_atomic_queues(
        "memory://", registry=new_registry(), entities=POLICIES, instruments=[Round(), Asked(0)]
    ) as queues:
        with pytest.raises(BadEntityId) as caught:
            await queues.send(Ring(""))
        assert left == [caught.value]
    assert not caplog.records


async def test_an_instrument_cannot_refuse_a_command_that_can_be_sent(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Confused(Instrument):
        def sending(self, *_: Any) -> Any:
            raise BadEntityId("7", "is of something else")

    async with open_atomic_queues(
        "memory://", registry=new_registry(), entities=POLICIES, instruments=[Confused()]
    ) as queues:
        assert await queues.call(Ring("a")) == {}
    assert "failed in sending" in caplog.text


class Leaves(AbstractContextManager[None]):
    """Notes the error that it is left with."""

    def __init__(self, left: list[object]) -> None:
        self.left = left

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self.left.append(error)


def test_why_a_handler_was_cancelled_is_in_what_stands_for_it() -> None:
    assert HandlerCancelled("let go").why == "let go"
