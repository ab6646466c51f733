"""What the tests of the blocking sender send to, and how: a test is a Trio task, and uses the sender in threads."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import attrs
import trio

from trioqueue import (
    AtomicQueues,
    Command,
    Context,
    EntityPolicy,
    Registry,
    Rejection,
    Retry,
    command,
    entity_id,
    open_atomic_queues,
    state,
)
from trioqueue.blocking import Sender, open_sender

T = TypeVar("T")

registry = Registry()

PATIENCE = 20.0
"""Seconds after which a test that waits is a test that hangs."""


@attrs.define
class Locked(Rejection):
    drawer: str


@state("desk")
class Desk:
    notes: list[str] = attrs.field(factory=list)


@command("desk", rejects=[Locked])
class Note(Command[int]):
    desk_id: str = entity_id()
    text: str


@command("desk")
class Read(Command[list[str]]):
    desk_id: str = entity_id()


@command("desk")
class Work(Command[str]):
    """Takes until it is told to end, or is cancelled."""

    desk_id: str = entity_id()


@command("desk")
class Burn(Command):
    desk_id: str = entity_id()


@attrs.define(eq=False)
class Watch:
    """What a test knows of `Work`."""

    command_id: str = ""
    begun: trio.Event = attrs.field(factory=trio.Event)
    cancelled: trio.Event = attrs.field(factory=trio.Event)
    let_go: trio.Event = attrs.field(factory=trio.Event)


@registry.handles(Note)
async def note(command: Note, desk: Desk, context: Context) -> int:
    if command.text == "secret":
        raise Locked("top")
    desk.notes.append(command.text + context.headers.get("mark", ""))
    return len(desk.notes)


@registry.handles(Read)
async def read(command: Read, desk: Desk) -> list[str]:
    return desk.notes


@registry.handles(Work)
async def work(command: Work, watch: Watch, context: Context) -> str:
    watch.command_id = context.command_id
    watch.begun.set()
    try:
        await watch.let_go.wait()
    except trio.Cancelled:
        watch.cancelled.set()
        raise
    return "done"


@registry.handles(Burn)
async def burn(command: Burn) -> None:
    raise RuntimeError("no water")


@asynccontextmanager
async def open_pod(url: str, watch: Watch | None = None, **options: Any) -> AsyncGenerator[AtomicQueues]:
    async with open_atomic_queues(
        url,
        registry=registry,
        provide={Watch: watch or Watch()},
        entities={"desk": EntityPolicy(retry=Retry(attempts=1))},
        **options,
    ) as queues:
        yield queues


async def in_thread(do: Callable[..., T], *args: Any, **options: Any) -> T:
    """Lets a thread do it; not for ever."""
    with trio.fail_after(PATIENCE):
        return await trio.to_thread.run_sync(partial(do, *args, **options))


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncGenerator[Sender]:
    """A sender that is used in threads and closed in one."""
    sender = await in_thread(open_sender, url, **options)
    try:
        yield sender
    finally:
        with trio.CancelScope(shield=True):
            await in_thread(sender.close)


async def notes(queues: AtomicQueues, desk: str = "a") -> list[str]:
    """Reads what a desk has, once all is handled."""
    with trio.fail_after(PATIENCE):
        await queues.wait_settled()
    return (await queues.state(Desk, desk)).notes
