"""`trioqueue tail`, as a process: what it prints of a fleet, and how it ends."""

import re
import signal
from pathlib import Path

import click
import pytest
from cli.going_on import on_terminal, piped, wait_watched
from lamps import Spin, Switch
from redis_servers import RedisServer

from trioqueue import (
    AtomicQueues,
    Context,
    EntityPolicy,
    Registry,
    Rejected,
    Rejection,
    Retry,
    open_atomic_queues,
)
from trioqueue.cli.tail import tail

TWICE = {"lamp": EntityPolicy(retry=Retry(attempts=2, wait_first=0.01, jitter=False), on_exhausted="pause")}


class Broken(Rejection):
    pass


def new_registry() -> Registry:
    registry = Registry()

    @registry.handles(Switch, retry=Retry(attempts=2, wait_first=0.01, jitter=False))
    async def switch(command: Switch, context: Context) -> int:
        if command.what == "jam":
            raise OSError("it is jammed")
        if command.what == "reject":
            raise Broken
        return 1

    @registry.handles(Spin)
    async def spin(command: Spin) -> None:
        pass

    return registry


async def work(queues: AtomicQueues) -> None:
    """Has all that is told of happen."""
    await queues.call(Spin("roof", "fast"))
    await queues.call(Switch("hall", "on"))
    with pytest.raises(Rejected):
        await queues.call(Switch("hall", "reject"))
    await queues.send(Switch("door", "jam"))


async def test_a_line_for_each_event(clean_redis: RedisServer, tmp_path: Path) -> None:
    async with (
        open_atomic_queues(clean_redis.url, registry=new_registry(), name="red") as queues,
        piped("tail", url=clean_redis.url, cwd=tmp_path) as command,
    ):
        await wait_watched(queues)
        await work(queues)
        lines = [await command.line()]
        while "dead" not in lines[-1].split():
            lines.append(await command.line())
        # The last line may be the one of the command that was handled, and the one of its death comes then.
        if "handled" in lines[-1].split():
            lines.append(await command.line())
        assert await command.end(signal.SIGINT) == (130, "")

    assert all(re.match(r"\d\d:\d\d:\d\d\.\d\d\d  \w+/\w+", line) for line in lines)
    said = [line.split()[1:5] for line in lines]
    assert said == [
        ["fan/roof", "awake", "red"],
        ["fan/roof", "handled", "spin", "red"],
        ["lamp/hall", "awake", "red"],
        ["lamp/hall", "handled", "switch", "red"],
        ["lamp/hall", "handled", "switch", "red"],
        ["lamp/door", "awake", "red"],
        ["lamp/door", "failed", "switch", "red"],
        ["lamp/door", "handled", "switch", "red"],
        ["lamp/door", "dead", "switch", "red"],
    ]
    assert re.search(r"waited +[\d.,]+ ms +took +[\d.,]+ ms$", lines[3])
    assert lines[4].endswith(" ms  rejected")
    assert lines[6].endswith("OSError, attempt 1, again in 10.0 ms")
    assert lines[8].endswith("OSError, after 2 attempts")
    assert len({line.index("red") for line in lines}) == 1, "aligned"
    assert "\x1b" not in "".join(lines)


async def test_only_some_as_json(clean_redis: RedisServer, tmp_path: Path) -> None:
    async with (
        open_atomic_queues(clean_redis.url, registry=new_registry(), name="red", entities=TWICE) as queues,
        piped(
            "tail", "lamp", "--only", "handled,paused", "--json", url=clean_redis.url, cwd=tmp_path
        ) as command,
    ):
        await wait_watched(queues)
        await work(queues)
        done, rejected, paused = [await command.document() for _ in range(3)]
        assert await command.end(signal.SIGTERM) == (143, "")

    assert done.pop("at") <= rejected["at"] <= paused["at"]
    assert done.pop("waited") >= 0
    assert done.pop("duration") >= 0
    assert done.pop("command_id")
    assert done == {
        "event": "handled",
        "pod": "red",
        "entity_type": "lamp",
        "entity_id": "hall",
        "command": "switch",
        "outcome": "done",
    }
    assert rejected["outcome"] == "rejected"
    assert (paused["event"], paused["entity_id"]) == ("paused", "door")
    assert "it is jammed" in paused["why"]


async def test_one_entity_until_nobody_reads(clean_redis: RedisServer, tmp_path: Path) -> None:
    """It ends at once, though nothing more happens that it would print."""
    async with (
        open_atomic_queues(clean_redis.url, registry=new_registry(), name="red") as queues,
        piped(
            "tail", "--entity", "lamp/hall", "--only", "handled", url=clean_redis.url, cwd=tmp_path
        ) as command,
    ):
        await wait_watched(queues)
        await queues.call(Switch("door", "on"))
        await queues.call(Switch("hall", "on"))
        assert (await command.line()).split()[1:3] == ["lamp/hall", "handled"]
        assert command.process.stdout is not None
        await command.process.stdout.aclose()
        assert await command.ended() == (1, "")


async def test_colours_on_a_terminal(clean_redis: RedisServer, tmp_path: Path) -> None:
    async with (
        open_atomic_queues(clean_redis.url, registry=new_registry(), name="red") as queues,
        on_terminal("tail", "--only", "failed", url=clean_redis.url, cwd=tmp_path) as terminal,
    ):
        await wait_watched(queues)
        await queues.send(Switch("door", "jam"))
        await terminal.wait_shown(lambda: "failed" in terminal.shown)
        assert "\x1b[31m" in terminal.shown
        terminal.process.send_signal(signal.SIGINT)
        assert await terminal.ended() == 130


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--only", "handled,drowned"), "'drowned' is no kind of event: give some of awake, asleep, handled"),
        (("--only", ","), "give some of awake"),
        (("No Type",), "is no legal entity type"),
        (("fan", "--entity", "lamp/hall"), "lamp/hall is not of the type 'fan': leave one of them out."),
    ],
)
def test_what_cannot_be_meant(args: tuple[str, ...], says: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        tail.main([*args, "--url", "redis://localhost:1"], standalone_mode=False)

    assert says in caught.value.format_message()
