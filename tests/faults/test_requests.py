"""Each kind of request, and each thing that can happen to one."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
from faults.fleet_processes import until
from faults.lab import open_lab
from faults.shelf_pod import LEASE, Take
from faults.trial import FAULTS, Trial
from redis_servers import RedisServer

from trioqueue import Lease, StoreFull
from trioqueue._names import Entity
from trioqueue.stores.contract import ClaimWish, Group, PodInfo
from trioqueue.stores.redis.store import open_redis_store

SHELVES = ("a", "b", "c")


async def send(trial: Trial) -> None:
    if trial.kills:
        trial.arm("send", 3)
        await trial.start(sends=6)
    else:
        await trial.start()
        trial.arm("send", 3)
        for _ in range(6):
            await trial.lab.send("own", trial.pod.queues)


async def claim(trial: Trial) -> None:
    await trial.start()
    trial.arm("claim")
    await trial.lab.send_some(3, *SHELVES)


async def commit(trial: Trial) -> None:
    await trial.start()
    trial.arm("commit", 2)
    await trial.lab.send_some(3, *SHELVES)


async def release(trial: Trial) -> None:
    await trial.start(idle=0.05)
    trial.arm("release")
    await trial.lab.send_some(2, *SHELVES)


async def beat(trial: Trial) -> None:
    await trial.start()
    trial.arm("beat", 2)
    await trial.lab.send_some(3, *SHELVES, seconds=0.05)


async def join(trial: Trial) -> None:
    trial.arm("join", 2)  # the first one only learns the ticket
    await trial.start()
    await trial.lab.send_some(2, *SHELVES)


async def leave(trial: Trial) -> None:
    await trial.start()
    await trial.lab.send_some(2, *SHELVES)
    await trial.lab.settle()
    trial.arm("leave")
    await trial.end()


async def retire(trial: Trial) -> None:
    await trial.start()
    await trial.lab.send("a", seconds=0.3)
    await until(lambda: trial.proxy.seen["claim"])
    trial.arm("retire")
    await trial.end()


async def assign(trial: Trial) -> None:
    await trial.lab.send_some(2, *SHELVES)  # nobody is there yet: they are ready
    trial.arm("assign")
    await trial.start()


async def reap(trial: Trial) -> None:
    await trial.start()
    lab = trial.lab
    async with open_redis_store(lab.server.url, prefix=lab.prefix, unanswered=5.0) as store:
        short = Lease(ttl=0.5, heartbeat=LEASE.heartbeat, grace=LEASE.grace)
        ghost = await store.join(PodInfo("ghost", frozenset({"shelf"}), 10, short))
        entity = Entity("shelf", "haunted")
        number = lab.next_number("haunted")
        outgoing = lab.sender.encode(Take("haunted", number), "haunted-0")
        await store.send(
            Group([outgoing]), member=ghost, wishes=[ClaimWish(entity, "", 64)], on_claim=lambda *_: None
        )
        lab.history.sent("haunted", number)
    lab.history.fault()
    trial.arm("reap")


async def cancel(trial: Trial) -> None:
    if trial.kills:
        trial.arm("cancel")
        await trial.start(does="call in vain")
        return
    await trial.start()
    trial.arm("cancel")
    number = trial.lab.next_number("own")
    trial.lab.history.doubt("own", number)
    with trio.move_on_after(0.1):
        await trial.pod.queues.call(Take("own", number, seconds=0.3))
    await trial.lab.send("own")


async def give_up(trial: Trial) -> None:
    await trial.start()
    await trial.lab.send_some(1, *SHELVES)
    await trial.lab.settle()
    trial.arm("give up")
    trial.proxy.silent = True
    trial.lab.history.fault()
    await trio.sleep(LEASE.ttl)  # so it has lost its lease, and nobody has reaped it
    trial.proxy.speak()
    await trial.lab.send_some(1, *SHELVES)


async def void(trial: Trial) -> None:
    trial.arm("void")
    with trial.lab.server.client() as client:
        client.config_set("maxmemory", 1)
        try:
            if trial.kills:
                await trial.start(sends=1)
            else:
                await trial.start()
                with pytest.raises(StoreFull):
                    await trial.lab.send("own", trial.pod.queues)
            await trial.happened()
        finally:
            client.config_set("maxmemory", 0)
    if not trial.kills:
        await trial.lab.send("own", trial.pod.queues)


async def move(trial: Trial) -> None:
    await trial.start()
    trial.arm("move")
    for delay in (0.1, 0.1, 0.2):
        for shelf in ("put off", "put off too"):
            await trial.lab.send(shelf, delay=delay)


KINDS: tuple[Callable[[Trial], Awaitable[None]], ...] = (
    send, void, claim, commit, release, beat, join, leave, retire, give_up, assign, reap, cancel, move,
)  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
async def test_a_request_is_carried_out_once(
    kind: Callable[[Trial], Awaitable[None]], fault: str, redis_server: RedisServer, tmp_path: Path
) -> None:
    async with open_lab(redis_server, tmp_path) as lab:
        trial = Trial(lab, await lab.proxy(), fault)
        await kind(trial)
        await trial.happened()
        await lab.pod("helper")
        await lab.send_some(2, *SHELVES)
        verdict = await lab.verdict()
        verdict.assert_clean(confirmed=6)
