"""Following a command's progress: the newest word, at once, to the end."""

from typing import Any

import pytest
import trio
from redis_servers import RedisServer
from trio.testing import MockClock

from trioqueue import (
    AtomicQueues,
    Closed,
    Command,
    Context,
    EncodeError,
    EntityPolicy,
    PayloadTooLarge,
    Receipt,
    Registry,
    command,
    entity_id,
    open_atomic_queues,
)

KEPT = {"film": EntityPolicy(keep_results=60)}


@command("film")
class Render(Command[str]):
    film_id: str = entity_id()
    frames: int
    seconds: float = 1.0


def new_registry() -> tuple[Registry, list[Context]]:
    registry, contexts = Registry(), list[Context]()

    @registry.handles(Render)
    async def render(command: Render, context: Context) -> str:
        contexts.append(context)
        for frame in range(command.frames):
            await context.progress({"frame": frame})
            await trio.sleep(command.seconds)
        return "done"

    return registry, contexts


async def follow(queues: AtomicQueues, receipt: Receipt[Any], seen: list[Any]) -> None:
    async with queues.open_follow(receipt) as progress:
        async for value in progress:
            seen.append(value["frame"])  # noqa: PERF401 - what was seen counts, also if this is cancelled


async def test_every_word_is_heard_by_one_who_listens(autojump_clock: MockClock) -> None:
    registry, _ = new_registry()
    async with open_atomic_queues("memory://", registry=registry, entities=KEPT) as queues:
        receipt = await queues.send(Render("a", 4))
        first: list[int] = []
        second: list[int] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow, queues, receipt, first)
            await trio.sleep(2.5)
            nursery.start_soon(follow, queues, receipt, second)
        assert first == [0, 1, 2, 3]
        assert second == [2, 3], "who comes later begins with the newest"
        assert await queues.result(receipt) == "done"
        late: list[int] = []
        await follow(queues, receipt, late)
        assert late == [3]
        assert not queues._followers._followers


async def test_only_the_newest_word_is_kept_for_one_who_is_slow(autojump_clock: MockClock) -> None:
    registry, _ = new_registry()
    async with open_atomic_queues("memory://", registry=registry, entities=KEPT) as queues:
        receipt = await queues.send(Render("a", 10))
        seen: list[int] = []
        async with queues.open_follow(receipt) as progress:
            async for value in progress:
                seen.append(value["frame"])
                await trio.sleep(3.3)
        assert seen == [0, 3, 6, 9]


async def test_a_stranger_hears_it_too(autojump_clock: MockClock) -> None:
    """Without a kept outcome nobody is told, and who follows looks for itself."""
    registry, _ = new_registry()
    async with open_atomic_queues("memory://", registry=registry) as queues:
        receipt = await queues.send(Render("a", 3, 2.0))
        seen: list[int] = []
        await follow(queues, receipt, seen)
        assert seen == [0, 1, 2]


async def test_following_what_waits_and_what_never_was(autojump_clock: MockClock) -> None:
    registry, _ = new_registry()
    async with open_atomic_queues("memory://", registry=registry, entities=KEPT) as queues:
        receipt = await queues.send(Render("a", 2), delay=30)
        seen: list[int] = []
        await follow(queues, receipt, seen)
        assert seen == [0, 1]
        await follow(queues, Receipt("film", "a", "never", "render", 60.0), seen)
        assert seen == [0, 1]


async def test_a_follower_may_leave(autojump_clock: MockClock) -> None:
    registry, _ = new_registry()
    async with open_atomic_queues("memory://", registry=registry, entities=KEPT) as queues:
        receipt = await queues.send(Render("a", 5))
        seen: list[int] = []
        with trio.move_on_after(1.5):
            await follow(queues, receipt, seen)
        assert seen == [0, 1]
        assert not queues._followers._followers
        assert await queues.result(receipt) == "done"


async def test_what_cannot_be_told(autojump_clock: MockClock) -> None:
    registry, contexts = new_registry()
    async with open_atomic_queues("memory://", registry=registry, entities=KEPT) as queues:
        await queues.call(Render("a", 1))
        with pytest.raises(Closed):
            await contexts[0].progress(1)
        with pytest.raises(PayloadTooLarge):
            await queues.tell_progress("id", "", "x" * 5000)
        with pytest.raises(EncodeError):
            await queues.tell_progress("id", "", object())


async def test_on_redis(redis_server: RedisServer) -> None:
    registry, _ = new_registry()
    async with (
        open_atomic_queues(redis_server.url, registry=registry, prefix="following"),
        open_atomic_queues(redis_server.url, prefix="following", entities=KEPT) as sender,
    ):
        with trio.fail_after(20):
            receipt = await sender.send(Render("a", 5, 0.05))
            seen: list[int] = []
            await follow(sender, receipt, seen)
            assert seen[-1] == 4
            assert seen == sorted(set(seen))
            assert await sender.result(receipt) == "done"
