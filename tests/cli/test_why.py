"""`trioqueue why`, as a process on a real Redis: the situations that an operator is woken for, each of them staged."""

import json
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from cli.command_line import Ran, verb
from faults.fleet_processes import FleetProcess
from lamps import Lamp, Spin, Switch, Works, die, log_of
from redis_servers import RedisServer

from trioqueue import (
    AtomicQueues,
    Command,
    Context,
    Drain,
    EntityPolicy,
    Limits,
    Mailbox,
    MailboxFull,
    Registry,
    Retry,
    command,
    entity_id,
    open_atomic_queues,
)

PATIENCE = 60
"""Seconds until a situation is there."""

AT_ONCE = Drain(soft=0.0, hard=1.0)
"""What runs, runs for ever: nobody waits for it at the end."""


@command("lamp")
class Flash(Command):
    """No pod knows it."""

    lamp_id: str = entity_id()


@command("lamp")
class Cool(Command[int]):
    """Its handler calls the fan of the lamp, and waits."""

    lamp_id: str = entity_id()


@pytest.fixture
def works() -> Works:
    return Works()


@asynccontextmanager
async def open_red(works: Works, url: str, **options: Any) -> AsyncGenerator[AtomicQueues]:
    """Opens the pod `red`, whose lamps stay awake as long as the test is."""
    policy = EntityPolicy(idle_timeout=600, **options.pop("policy", {}))
    async with works.open(url, "red", drain=AT_ONCE, entities={"lamp": policy}, **options) as queues:
        yield queues


@asynccontextmanager
async def open_process(url: str, folder: Path, **lease: float) -> AsyncGenerator[FleetProcess]:
    """Starts the pod `red` as a process."""
    process = FleetProcess("cli.lamp_pod", folder / "red.jsonl", {"url": url, "name": "red", "lease": lease})
    try:
        await process.wait_ready()
        yield process
    finally:
        process.end()


async def until(queues: AtomicQueues, seen: Callable[[Mailbox], object], lamp: str = "a") -> Mailbox:
    """Waits until a lamp is seen so; nobody tells of it."""
    with trio.fail_after(PATIENCE):
        while not seen(box := await queues.inspect("lamp", lamp)):  # noqa: ASYNC110
            await trio.sleep(0.01)
    return box


async def why(url: str, folder: Path, entity: str = "lamp/a") -> str:
    """Asks, and writes ID for ids and TIME for durations; each has been checked to be there by that."""
    ran = await verb("why", entity, url=url, cwd=folder)
    assert (ran.code, ran.stderr) == (0, "")
    said = re.sub(r"\b[0-9a-f]{12}-[0-9a-f]{8}\b", "ID", ran.stdout)
    return re.sub(r"less than a second|\b\d+ (?:s|min|h|days)\b", "TIME", said).rstrip("\n")


def text(*lines: str) -> str:
    return " ".join(lines)


# ------------------------------------------------------------------------------------ it goes on by itself
async def test_parked(works: Works, clean_redis: RedisServer, tmp_path: Path) -> None:
    async with open_red(works, clean_redis.url) as queues:
        await queues.call(Switch("a", "on"))
        assert await why(clean_redis.url, tmp_path) == text(
            "lamp/a is awake on red (last claimed TIME ago) and has nothing queued:",
            "the next command starts at once.",
        )


async def test_running(works: Works, clean_redis: RedisServer, tmp_path: Path) -> None:
    works.closed = {"slow"}
    async with open_red(works, clean_redis.url) as queues:
        await queues.send_many([Switch("a", "slow"), Switch("a", "next")])
        await works.wait_started("slow")
        assert await why(clean_redis.url, tmp_path) == text(
            "red is handling switch ID of lamp/a, accepted TIME ago:",
            "it is done when its handler ends, and 1 more command waits behind it.",
        )


async def test_running_with_a_deadline(works: Works, clean_redis: RedisServer, tmp_path: Path) -> None:
    works.closed = {"slow"}
    async with open_red(works, clean_redis.url) as queues, trio.open_nursery() as nursery:
        await queues.send(Switch("a", "slow"), expires=3600)
        await works.wait_started("slow")
        assert await why(clean_redis.url, tmp_path) == text(
            "red is handling switch ID of lamp/a, accepted TIME ago:",
            "it is done when its handler ends, and nothing waits behind it.",
            "It is cancelled in TIME unless it is done by then: that is its deadline.",
        )
        nursery.cancel_scope.cancel()


async def test_backing_off(works: Works, clean_redis: RedisServer, tmp_path: Path) -> None:
    works.jammed = {"bad"}
    retry = Retry(wait_first=3600, wait_max=3600, jitter=False)
    async with open_red(works, clean_redis.url, policy={"retry": retry}) as queues:
        await queues.send_many([Switch("a", "bad"), Switch("a", "next")])
        await until(queues, lambda box: box.due_in)
        assert await why(clean_redis.url, tmp_path) == text(
            "switch ID of lamp/a, accepted TIME ago, has failed once (the log of its pod says why)",
            "and starts again on red in TIME: 1 more command waits behind it.",
        )


async def test_put_off(works: Works, clean_redis: RedisServer, tmp_path: Path) -> None:
    async with open_red(works, clean_redis.url) as queues:
        await queues.send(Switch("a", "later"), delay=3600)
        assert await why(clean_redis.url, tmp_path) == text(
            "lamp/a is idle: nothing is queued, no pod owns it, and the next command wakes it.",
            "switch ID, accepted TIME ago, is put off and comes into the mailbox in TIME.",
        )


# ------------------------------------------------------------------------------------ somebody holds it back
async def test_paused_by_an_operator(works: Works, clean_redis: RedisServer, tmp_path: Path) -> None:
    async with open_red(works, clean_redis.url) as queues:
        await queues.pause("lamp", "a b", why="a new bulb")
        await queues.send(Switch("a b", "on"))
        assert await why(clean_redis.url, tmp_path, "lamp/a b") == text(
            "lamp/a b has been paused for TIME (a new bulb), and it has no pod and 1 command queued,",
            "accepted TIME ago: nothing starts before resume('lamp', 'a b').\n"
            "To let it go on: trioqueue resume 'lamp/a b'",
        )


async def test_its_type_paused_by_an_operator(works: Works, clean_redis: RedisServer, tmp_path: Path) -> None:
    async with open_red(works, clean_redis.url) as queues:
        await queues.pause("lamp", why="a new fuse")
        await queues.send(Switch("a", "on"))
        await until(queues, lambda box: box.mode == "ready")
        assert await why(clean_redis.url, tmp_path) == text(
            "The type of lamp/a has been paused for TIME (a new fuse), and lamp/a has no pod and 1 command queued,",
            "accepted TIME ago: nothing starts before resume('lamp').\nTo let it go on: trioqueue resume lamp",
        )


async def test_paused_by_its_head(works: Works, clean_redis: RedisServer, tmp_path: Path) -> None:
    works.jammed = {"bad"}
    policy = {"on_exhausted": "pause", "retry": Retry(attempts=1)}
    async with open_red(works, clean_redis.url, policy=policy) as queues:
        await queues.send_many([Switch("a", "bad"), Switch("a", "next")])
        await until(queues, lambda box: box.mode == "paused")
        assert await why(clean_redis.url, tmp_path) == text(
            "lamp/a has been paused for TIME (switch ID failed for good: OSError: bad is jammed),",
            "and it has no pod and 2 commands queued, the first accepted TIME ago:",
            "nothing starts before resume('lamp', 'a').\nTo let it go on: trioqueue resume lamp/a",
        )


# ------------------------------------------------------------------------------------ a pod is missing
WAITS = "lamp/a has 1 command queued, accepted TIME ago, and has been waiting TIME for a pod that"


async def test_no_pod_serves_its_type(works: Works, clean_redis: RedisServer, tmp_path: Path) -> None:
    async with open_red(works, clean_redis.url, serves={"fan"}) as queues:
        await queues.send(Switch("a", "on"))
        assert await why(clean_redis.url, tmp_path) == text(
            f"{WAITS} serves 'lamp' and has room: it starts when there is one.",
            "The only registered pod, red, does not serve 'lamp'.",
        )


async def test_the_pod_that_serves_its_type_is_full(
    works: Works, clean_redis: RedisServer, tmp_path: Path
) -> None:
    works.closed = {"slow"}
    async with open_red(works, clean_redis.url, limits=Limits(owned=1)) as queues:
        await queues.send(Switch("b", "slow"))
        await works.wait_started("slow")
        await queues.send(Switch("a", "on"))
        assert await why(clean_redis.url, tmp_path) == text(
            f"{WAITS} serves 'lamp' and has room: it starts when there is one.",
            "Of those that serve 'lamp', red owns all entities that it may (Limits.owned).",
        )


async def test_no_pod_knows_the_command(works: Works, clean_redis: RedisServer, tmp_path: Path) -> None:
    """The pod looks at it again with each second, and declines it again: what is said then is as true."""
    async with open_red(works, clean_redis.url) as queues:
        await queues.send(Flash("a"))
        await until(queues, lambda box: box.unknown_for is not None)
        said = await why(clean_redis.url, tmp_path)
    declined = "first declined TIME ago by a pod that does not know it"
    dead = "is a dead letter once EntityPolicy.unknown_grace is over"
    assert said.replace(", in TIME at the earliest", "") in (
        (
            f"{WAITS} knows flash (first declined TIME ago): it starts when there is one, or {dead}. "
            "Of the registered pods, red serves 'lamp'."
        ),
        (
            f"flash ID of lamp/a, accepted TIME ago, was {declined}, and is tried on red in TIME: "
            f"where no pod knows it, it {dead}."
        ),
        f"red has flash ID of lamp/a in hand, {declined}: nothing waits behind it.",
        (
            f"lamp/a has 1 command queued, accepted TIME ago: red is about to start flash ID, {declined}, "
            "within a heartbeat."
        ),
    )


async def test_its_pod_is_frozen(clean_redis: RedisServer, tmp_path: Path) -> None:
    async with (
        open_process(clean_redis.url, tmp_path, ttl=1.5, heartbeat=0.5, grace=0.75) as red,
        open_atomic_queues(clean_redis.url) as sender,
    ):
        await sender.send(Switch("a", "slow", 600))
        await until(sender, lambda box: box.mode == "active")
        red.freeze()
        await until(sender, lambda box: (box.owner_silent or 0) > (box.owner_silent_for or 60))
        assert await why(clean_redis.url, tmp_path) == text(
            "lamp/a has 1 command queued, accepted TIME ago, and its pod red, with switch ID in hand,",
            "was last heard of TIME ago, so it is dead, frozen or cut off: no other pod serves 'lamp',",
            "so nothing happens until red comes back or a pod that does is started.",
        )


async def test_redis_was_restarted(tmp_path: Path) -> None:
    with RedisServer(appendonly=True) as server:
        async with open_process(server.url, tmp_path, ttl=60, heartbeat=0.5, grace=30):
            async with open_atomic_queues(server.url) as sender:
                await sender.send_many([Switch("a", "slow", 600), Switch("a", "next")])
                await until(sender, lambda box: box.mode == "active")
            server.restart()
            async with open_atomic_queues(server.url) as sender:
                await until(sender, lambda box: box.quarantine_left)
            assert await why(server.url, tmp_path) == text(
                "lamp/a, which red had, has 2 commands queued, the first accepted TIME ago,",
                "and nothing of any entity starts for another TIME: Redis was restarted or failed over,",
                "and pods that may not have noticed must have stopped before;",
                "then a pod that serves 'lamp' goes on with it.",
            )


# ------------------------------------------------------------------------------------ something went wrong
async def test_its_mailbox_is_full(works: Works, clean_redis: RedisServer, tmp_path: Path) -> None:
    works.closed = {"slow"}
    async with open_red(works, clean_redis.url, policy={"max_pending": 2}) as queues:
        await queues.send_many([Switch("a", "slow"), Switch("a", "next")])
        await works.wait_started("slow")
        with pytest.raises(MailboxFull):
            await queues.send(Switch("a", "refused"))
        assert await why(clean_redis.url, tmp_path) == text(
            "red is handling switch ID of lamp/a, accepted TIME ago: it is done when its handler ends,",
            "and 1 more command waits behind it. Its mailbox is full: a sender that allows 2 commands in it",
            "(EntityPolicy.max_pending) was refused TIME ago, and others will be until it holds fewer.",
        )


async def test_its_head_became_a_dead_letter(works: Works, clean_redis: RedisServer, tmp_path: Path) -> None:
    async with open_red(works, clean_redis.url, policy={"retry": Retry(attempts=1)}) as queues:
        await die(works, queues, Switch("b", "of another lamp"), Switch("a", "bad"))
        assert await why(clean_redis.url, tmp_path) == text(
            "lamp/a is awake on red (last claimed TIME ago) and has nothing queued: the next command starts at once.",
            "switch ID became a dead letter TIME ago after 1 attempt (OSError: bad is jammed):",
            "it stays one until somebody redelivers or discards it.",
        )


async def test_its_handler_waits_for_another_entity(clean_redis: RedisServer, tmp_path: Path) -> None:
    registry, spins = Registry(), trio.Event()

    @registry.handles(Cool)
    async def cool(command: Cool, context: Context) -> int:
        await context.call(Spin(command.lamp_id, "for cooling"))
        return 1

    @registry.handles(Spin)
    async def spin(command: Spin) -> None:
        spins.set()
        await trio.sleep_forever()

    async with open_atomic_queues(clean_redis.url, registry=registry, name="red", drain=AT_ONCE) as queues:
        await queues.send(Cool("a"), expires=3600)
        await spins.wait()
        assert await why(clean_redis.url, tmp_path) == text(
            "red is handling cool ID of lamp/a, accepted TIME ago: it is done when its handler ends,",
            "and nothing waits behind it.",
            "It is cancelled in TIME unless it is done by then: that is its deadline.",
            "Its handler waits for fan/a to answer spin ID, accepted TIME ago, and gives up in TIME.",
            "As to fan/a: red is handling spin ID of fan/a, accepted TIME ago:",
            "it is done when its handler ends, and nothing waits behind it.",
        )


# ------------------------------------------------------------------------------------ for programs, and mistakes
async def test_programs_get_what_it_is_made_of(
    works: Works, clean_redis: RedisServer, tmp_path: Path
) -> None:
    async with open_red(works, clean_redis.url) as queues:
        await queues.pause("lamp", "a", why="a new \x1b[31mbulb")
        await queues.send(Switch("a", "on"))
        ran = await verb("why", "lamp/a", "--json", url=clean_redis.url, cwd=tmp_path)
        assert "a new \\x1b[31mbulb" in await why(clean_redis.url, tmp_path), "a terminal must not obey it"
        assert await log_of(queues) == [], "nobody was woken"
        assert (await queues.state(Lamp, "a")).log == []
    answer = json.loads(ran.stdout)
    assert (ran.code, sorted(answer)) == (0, ["mailbox", "why"])
    assert answer["why"].startswith("lamp/a has been paused for ")
    box = answer["mailbox"]
    assert (box["entity_type"], box["entity_id"], box["mode"], box["pending"]) == ("lamp", "a", "paused", 1)
    assert (box["head"]["command"], box["paused_why"]) == ("switch", "a new \x1b[31mbulb")


@pytest.mark.parametrize(
    ("entity", "says"),
    [("lamp", "write its type, a slash and its id, as account/42"), ("lamp/", "is empty"), ("La/a", "legal")],
)
async def test_what_is_no_entity_is_refused(
    entity: str, says: str, clean_redis: RedisServer, tmp_path: Path
) -> None:
    ran: Ran = await verb("why", entity, url=clean_redis.url, cwd=tmp_path)
    assert (ran.code, ran.stdout, len(ran.stderr.splitlines())) == (2, "", 1)
    assert says in ran.stderr
