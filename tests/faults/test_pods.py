"""Three pods and a sender on one Redis: one pod is killed, one frozen past its lease, one told to end."""

import os
import signal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio
from faults.fleet_processes import PodProcess, pods, until
from faults.shelf_pod import LEASE, Shelf, Take
from redis_servers import RedisServer

from trioqueue import open_atomic_queues
from trioqueue._names import Entity
from trioqueue.stores.contract import Commit, Fenced, LeaseLost, Member
from trioqueue.stores.redis.store import open_redis_store

ROUNDS = int(os.environ.get("TRIOQUEUE_FAULT_ROUNDS", "2"))
SHELVES, EACH, SLOW = 12, 40, 0.05


async def send_orders(url: str) -> dict[str, list[tuple[int, int]]]:
    """Sends every shelf its orders, each confirmed before the next of that shelf; answers what was confirmed."""
    confirmed: dict[str, list[tuple[int, int]]] = {f"shelf-{n}": [] for n in range(SHELVES)}
    async with open_atomic_queues(url) as queues:
        for number in range(EACH):
            for shelf, sent in confirmed.items():
                quantity = 1 + (number * 7 + len(shelf)) % 5
                await queues.send(Take(shelf, number, quantity, SLOW if number % 4 == 0 else 0.0))
                sent.append((number, quantity))
            await trio.sleep(0.02)  # spreads the orders over the faults
    return confirmed


async def late_commit(url: str, frozen: Member, shelf: str, fence: int) -> Any:
    """Sends the commit that the frozen pod had in mind, as it would have arrived: late."""
    async with open_redis_store(url, prefix="tq", unanswered=5.0) as store:
        try:
            return await store.commit(
                frozen, Commit(Entity("shelf", shelf), fence, 0, pops=1, state=b'{"v":1,"s":{}}')
            )
        except LeaseLost as lost:
            return lost


@pytest.mark.parametrize("turn", range(ROUNDS))
async def test_killed_frozen_and_ended_pods_lose_and_double_nothing(
    turn: int, clean_redis: RedisServer, tmp_path: Path
) -> None:
    url, client = clean_redis.url, clean_redis.client()
    killed, frozen, ended = fleet = list(pods(url, tmp_path, "abc"))
    try:
        for pod in fleet:
            await pod.wait_ready()
        with trio.fail_after(60):
            confirmed: dict[str, list[tuple[int, int]]] = {}

            async def send() -> None:
                confirmed.update(await send_orders(url))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)

                await until(killed.running)
                killed.signal(signal.SIGKILL)
                await killed.wait_ended()

                held = (await until(frozen.running))[0]
                frozen.signal(signal.SIGSTOP)
                owner = client.hget(f"{{tq:0}}:e:shelf:{held['shelf']}", "owner")
                generation = client.hget("{tq:0}:meta", "generation")
                was = Member(owner.decode(), generation.decode()) if owner else None
                await trio.sleep(LEASE.ttl + LEASE.grace + 2 * LEASE.heartbeat)
                frozen.signal(signal.SIGCONT)
                await until(lambda: frozen.saw("lease_lost"))

                await until(ended.running)
                ended.signal(signal.SIGTERM)
                assert await ended.wait_ended() == 0

            async with open_atomic_queues(url) as queues:
                await queues.wait_settled()
                shelves = {shelf: await queues.state(Shelf, shelf) for shelf in confirmed}
                assert (await queues.statistics()).dead == 0

        # The faults did happen.
        assert sum(map(len, confirmed.values())) == SHELVES * EACH
        assert killed.running(), "the killed pod had no handler in hand"
        assert ended.saw("left")

        # Exactly once, in order, exact.
        for shelf, orders in confirmed.items():
            assert shelves[shelf].applied == [number for number, _ in orders]
            assert shelves[shelf].stock == 100_000 - sum(quantity for _, quantity in orders)

        # What the frozen pod had in mind is refused, by the store too.
        if was is not None:
            answer = await late_commit(url, was, held["shelf"], held["fence"])
            assert isinstance(answer, Fenced | LeaseLost)

        assert_no_overlap(fleet, frozen)
    finally:
        for pod in fleet:
            pod.end()


def assert_no_overlap(fleet: list[PodProcess], frozen: PodProcess) -> None:
    """Handlers of one shelf never overlap, the frozen pod's aside; and starts follow their fences."""
    starts: dict[str, list[tuple[float, float, int, bool]]] = {}
    for pod in fleet:
        open_at: dict[tuple[str, int, int], float] = {}
        for line in pod.lines():
            if line["what"] == "start":
                open_at[line["shelf"], line["number"], line["fence"]] = line["at"]
            elif line["what"] == "end":
                begun = open_at.pop((line["shelf"], line["number"], line["fence"]))
                starts.setdefault(line["shelf"], []).append((begun, line["at"], line["fence"], pod is frozen))
    assert sum(map(len, starts.values())) >= SHELVES * EACH
    for runs in starts.values():
        runs.sort()
        for before, after in pairwise(runs):
            if not (before[3] or after[3]):
                assert before[1] <= after[0], "two handlers of one shelf at once"
                assert before[2] <= after[2], "an older fence ran after a newer one"
