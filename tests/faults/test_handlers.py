"""Handlers that do what they should not do: they harm nobody but their own entity."""

import time
from pathlib import Path

import pytest
import trio
from faults.fleet_processes import until
from faults.lab import Lab, open_lab
from faults.shelf_pod import LEASE, RETRY, Odd, Shelf
from redis_servers import RedisServer

from trioqueue import CallFailed

SHELVES = ("a", "b", "c", "d")
BAD = "bad"


async def dead_letters(lab: Lab) -> int:
    return (await lab.sender.statistics()).dead


async def test_the_loop_may_be_blocked_for_longer_than_a_lease(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    async with open_lab(redis_server, tmp_path) as lab:
        victim = lab.process("victim")
        await victim.wait_ready()
        await lab.send_some(2, *SHELVES)
        await lab.send(BAD, seconds=LEASE.ttl + LEASE.grace + LEASE.heartbeat, deed="block")
        await until(victim.running)
        await lab.pod("helper")
        await lab.send_some(2, *SHELVES)
        verdict = await lab.verdict(seconds=10)
        verdict.assert_clean(confirmed=17)
        assert len([turn for turn in lab.history.turns if turn.entity == BAD]) == 1
        assert not victim.saw("lease_lost")


async def test_blocked_for_longer_than_the_stall_limit_a_pod_loses_its_entities(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    async with open_lab(redis_server, tmp_path) as lab:
        victim = lab.process("victim", stall_limit=0.3)
        await victim.wait_ready()
        await lab.send_some(2, *SHELVES)
        await lab.settle()
        await lab.send(BAD, seconds=2.8, deed="block")
        await until(victim.running)
        lab.history.fault()
        await lab.pod("helper")
        await lab.send_some(2, *SHELVES)
        stalled = 0.3 + LEASE.ttl + LEASE.grace + 2 * LEASE.heartbeat + 0.5
        verdict = await lab.verdict(seconds=10, excused=frozenset({BAD}), heals_within=stalled)
        verdict.assert_clean(confirmed=17)
        assert victim.saw("lease_lost")
        assert {turn.pod for turn in lab.history.turns if turn.entity == BAD} == {"victim", "helper"}


@pytest.mark.parametrize("deed", ["shield", "swallow", "thread"])
async def test_a_handler_that_does_not_end_keeps_its_entity_from_its_own_pod_alone(
    deed: str, redis_server: RedisServer, tmp_path: Path
) -> None:
    async with open_lab(redis_server, tmp_path) as lab:
        proxy = await lab.proxy()
        victim = await lab.pod("victim", proxy.url)
        await lab.send(BAD, seconds=4.0, deed=deed)
        await until(victim.running)
        await lab.send_some(2, *SHELVES)
        await lab.pod("helper")
        proxy.silent = True  # so the lease is lost, and the handler should end
        lab.history.fault()
        await lab.send_some(2, *SHELVES)
        await lab.settle()
        assert (await lab.sender.state(Shelf, BAD)).applied == [0]
        proxy.speak()
        # The pod has joined anew, and serves others, while its old handler goes on.
        await until(victim.serves)
        await lab.send("late", victim.queues)
        await lab.send(BAD, victim.queues)
        verdict = await lab.verdict(excused=frozenset({BAD}))
        verdict.assert_clean(confirmed=19)
        late = [turn for turn in lab.history.turns if turn.entity == "late"]
        again = [turn for turn in lab.history.turns if turn.entity == BAD and turn.number == 1]
        first = min(turn.end for turn in lab.history.turns if turn.entity == BAD and turn.pod == "victim")
        assert [turn.pod for turn in late] == ["victim"]
        assert late[0].end < first, "the handler had ended before: this shows nothing"
        assert [turn.pod for turn in again if turn.start < first] == ["helper"] * len(again)


async def test_a_handler_that_always_raises_ends_as_a_dead_letter(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    async with open_lab(redis_server, tmp_path) as lab:
        await lab.pod("victim")
        await lab.send(BAD, deed="fail")
        await lab.send_some(3, BAD, *SHELVES)
        lab.history.dead[BAD] = {0}
        await lab.settle()
        assert await dead_letters(lab) == 1
        (await lab.verdict()).assert_clean(confirmed=16)
        starts = [turn for turn in lab.history.turns if turn.entity == BAD and turn.number == 0]
        assert len(starts) == RETRY.attempts


async def test_an_answer_that_cannot_be_encoded_is_a_failure(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    async with open_lab(redis_server, tmp_path) as lab:
        await lab.pod("victim")
        with trio.fail_after(10), pytest.raises(CallFailed):
            await lab.sender.call(Odd(BAD, 0))
        await lab.send_some(3, BAD, *SHELVES)
        await lab.settle()
        assert await dead_letters(lab) == 1
        (await lab.verdict()).assert_clean(confirmed=15)


async def test_a_command_that_kills_its_pods_takes_no_other_with_it(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    deaths = 3  # the first may be anybody's fault; from the second on it is handed out alone
    async with open_lab(redis_server, tmp_path) as lab:
        pods = [lab.process(f"pod{n}", max_crashes=1) for n in range(deaths + 1)]
        for pod in pods:
            await pod.wait_ready()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lab.note_deaths)
            nursery.start_soon(lab.keep_sending, SHELVES)
            await trio.sleep(0.1)
            await lab.send(BAD, deed="exit")
            lab.history.dead[BAD] = {0}
            await lab.send_some(2, BAD)
            ends_at = time.monotonic() + 20
            while await dead_letters(lab) == 0:
                assert time.monotonic() < ends_at
                await trio.sleep(0.05)
            nursery.cancel_scope.cancel()
        assert await dead_letters(lab) == 1
        # What was sent meanwhile is up to how fast the machine is, and who healed too late is judged apart.
        (await lab.verdict(seconds=30.0)).assert_clean(confirmed=100)
        assert 1 <= len(lab.history.deaths) <= deaths
