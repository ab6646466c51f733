"""What a blocking sender has instruments told, in the thread that sends."""

import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import pytest
from blocking.office import Locked, Note, Work, in_thread, notes, open_pod, opened
from redis_servers import RedisServer

from trioqueue import DeadlineExceeded, Entity, Instrument


class Notebook(Instrument):
    """Notes what it is told, and in how many threads."""

    def __init__(self) -> None:
        self.notes: list[tuple[Any, ...]] = []
        self.threads: set[int] = set()

    def sending(
        self, commands: Sequence[tuple[Entity, str, str]], how: Literal["send", "call", "child"]
    ) -> AbstractContextManager[Mapping[str, str]]:
        self.threads.add(threading.get_ident())
        self.notes.append((how, [(str(entity), command) for entity, command, _ in commands]))
        return nullcontext({"mark": "!"})

    def sent(self, entity_type: str, command: str, count: int) -> None:
        self.notes.append(("sent", entity_type, command, count))

    def called(self, entity_type: str, command: str, outcome: str, seconds: float) -> None:
        self.notes.append(("called", entity_type, command, outcome))


async def test_what_a_thread_sends_is_told_and_has_the_headers_that_are_added(
    clean_redis: RedisServer,
) -> None:
    notebook = Notebook()
    async with (
        open_pod(clean_redis.url) as queues,
        opened(clean_redis.url, instruments=[notebook]) as sender,
    ):
        await in_thread(sender.send, Note("a", "one"), headers={"mark": "?"})
        await in_thread(sender.send_many, [Note("a", "two"), Note("a", "three")])
        await in_thread(sender.send_many, [])
        assert await in_thread(sender.call, Note("a", "four"), timeout=20) == 4
        with pytest.raises(Locked):
            await in_thread(sender.call, Note("a", "secret"), timeout=20)
        with pytest.raises(DeadlineExceeded):
            await in_thread(sender.call, Work("b"), timeout=0.2)
        assert await notes(queues) == ["one!", "two!", "three!", "four!"]
    desk = ("desk/a", "note")
    last = notebook.notes.pop()
    # The pod, which cancels the handler then, may answer a moment before the thread looks at its clock.
    assert last in {("called", "desk", "work", outcome) for outcome in ("unanswered", "expired")}
    assert notebook.notes == [
        ("send", [desk]),
        ("sent", "desk", "note", 1),
        ("send", [desk, desk]),
        ("sent", "desk", "note", 2),
        ("call", [desk]),
        ("sent", "desk", "note", 1),
        ("called", "desk", "note", "done"),
        ("call", [desk]),
        ("sent", "desk", "note", 1),
        ("called", "desk", "note", "rejected"),
        ("call", [("desk/b", "work")]),
        ("sent", "desk", "work", 1),
    ]
    assert threading.get_ident() not in notebook.threads
