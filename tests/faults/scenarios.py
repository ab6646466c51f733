"""Short stories, each of which a protocol without a certain rule does not survive; see `mutants`.

Each takes a lab and the name of the mutant for pods in processes of their own, and gives the verdict.
"""

import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import trio
from faults.checker import Verdict
from faults.fleet_processes import until
from faults.lab import Lab
from faults.operations import SHELF, tick
from faults.proxy import Fault, How, Proxy
from faults.shelf_pod import LEASE
from redis_servers import RedisServer

Scenario: TypeAlias = Callable[[Lab, str], Awaitable[Verdict]]

SETTLES_WITHIN = LEASE.ttl + LEASE.grace + LEASE.heartbeat + 0.75
"""Seconds after which what is not done yet is stuck: whatever happened, happened at once."""


async def _verdict(lab: Lab) -> Verdict:
    return await lab.verdict(seconds=SETTLES_WITHIN)


async def _released(lab: Lab) -> None:
    """Waits until nobody owns anything."""
    while (await lab.sender.statistics()).owned:  # noqa: ASYNC110
        await trio.sleep(0.005)


async def _seen(proxy: Proxy, kind: str, times: int = 1) -> None:
    await until(lambda: proxy.seen[kind] >= times)


async def _beaten(proxy: Proxy) -> None:
    """Waits for a heartbeat, so that the next one is not soon: it would heal what is about to be broken."""
    await _seen(proxy, "beat", proxy.seen["beat"] + 1)


async def commit_unanswered(lab: Lab, mutant: str) -> Verdict:
    """A commit is carried out, its answer is lost, and more has come meanwhile."""
    proxy = await lab.proxy()
    victim = await lab.pod("victim", proxy.url)
    proxy.plan(Fault("commit", How.UNANSWERED))
    await lab.send("a", seconds=0.1)
    await until(victim.running)
    await lab.send_some(3, "a")
    return await _verdict(lab)


async def commit_after_a_takeover(lab: Lab, mutant: str) -> Verdict:
    """A dead pod's commit arrives when another one has gone on, let go, and begun anew."""
    proxy = await lab.proxy()
    victim = lab.process("victim", proxy.url, mutant=mutant)
    await victim.wait_ready()
    late = proxy.plan(Fault("commit", How.LATE, then=lambda: lab.kill(victim), by_hand=True))
    await lab.send("a")
    await late.fired.wait()
    helper = await lab.pod("helper", idle=0.05)
    await lab.settle()
    await _released(lab)
    await lab.send("a", seconds=0.2)
    await until(helper.running)
    late.let_go.set()
    await late.ran.wait()
    return await _verdict(lab)


async def commit_after_a_release(lab: Lab, mutant: str) -> Verdict:
    """A pod's own commit arrives once more, when it has let go of the entity and begun anew."""
    proxy = await lab.proxy()
    victim = await lab.pod("victim", proxy.url, idle=0.05)
    late = proxy.plan(Fault("commit", How.LATE, by_hand=True))
    await lab.send("a", seconds=0.01)
    await late.fired.wait()
    await lab.settle()
    await _released(lab)
    await lab.send("a", seconds=0.2)
    await until(victim.running)
    late.let_go.set()
    await late.ran.wait()
    return await _verdict(lab)


async def hint_for_what_was_given_up(lab: Lab, mutant: str) -> Verdict:
    """A wake-up arrives again when another pod has the entity."""
    proxy = await lab.proxy()
    await lab.pod("victim", proxy.url, idle=0.05)
    await lab.send("a")
    await lab.settle()
    await _released(lab)
    helper = await lab.pod("helper")
    await lab.send("a", helper.queues, seconds=0.3)
    await until(helper.running)
    assert await proxy.hint_again()
    return await _verdict(lab)


async def claim_comes_late(lab: Lab, mutant: str) -> Verdict:
    """A claim arrives once more, when the mailbox had been emptied and has got a command of which no hint told."""
    proxy = await lab.proxy()
    await lab.pod("victim", proxy.url, idle=30.0)
    late = proxy.plan(Fault("claim", How.LATE, by_hand=True))
    await lab.send("a")
    await late.fired.wait()
    await lab.settle()
    await _beaten(proxy)
    proxy.deaf = True
    await lab.send("a")
    late.let_go.set()
    await late.ran.wait()
    return await _verdict(lab)


async def hint_lost(lab: Lab, mutant: str) -> Verdict:
    """Nobody tells a parked worker of a command."""
    proxy = await lab.proxy()
    await lab.pod("victim", proxy.url, idle=30.0)
    await lab.send("a")
    await lab.settle()
    proxy.deaf = True
    await lab.send("a")
    return await _verdict(lab)


async def send_unanswered(lab: Lab, mutant: str) -> Verdict:
    """A send is carried out, and its answer is lost."""
    proxy = await lab.proxy()
    victim = await lab.pod("victim", proxy.url)
    proxy.plan(Fault("send", How.UNANSWERED, nth=2))
    for _ in range(3):
        await lab.send("a", victim.queues)
    return await _verdict(lab)


async def tick_unanswered(lab: Lab, mutant: str) -> Verdict:
    """A schedule is moved on, and the answer is lost."""
    proxy = await lab.proxy()
    victim = await lab.pod("victim", proxy.url)
    proxy.plan(Fault("tick", How.UNANSWERED, nth=2))
    lab.history.sent(SHELF, lab.next_number(SHELF))
    await tick(victim.queues, victim.log)
    return await _verdict(lab)


async def pod_killed(lab: Lab, mutant: str) -> Verdict:
    """A pod dies with handlers in hand."""
    victim = lab.process("victim", mutant=mutant)
    await victim.wait_ready()
    await lab.send_some(1, "a", "b", seconds=0.2)
    await until(victim.running)
    await lab.pod("helper")
    lab.kill(victim)
    return await _verdict(lab)


async def entity_moves(lab: Lab, mutant: str) -> Verdict:
    """An idle entity is let go, and begins anew on another pod."""
    victim = await lab.pod("victim", idle=0.05)
    await lab.send("a", victim.queues)
    await lab.settle()
    await _released(lab)
    helper = await lab.pod("helper")
    await lab.send("a", helper.queues)
    return await _verdict(lab)


async def handler_fails_once(lab: Lab, mutant: str) -> Verdict:
    """The first command of three fails at first."""
    await lab.send("a", deed="fail once")
    await lab.send_some(2, "a")
    await lab.pod("victim")
    return await _verdict(lab)


async def work_comes_with_the_release(lab: Lab, mutant: str) -> Verdict:
    """A command is accepted while the release of an idle entity is under way."""
    proxy = await lab.proxy()
    await lab.pod("victim", proxy.url, idle=0.05)
    await lab.send("a")
    await lab.settle()
    proxy.delay = 0.15
    await _seen(proxy, "release")
    await lab.send("a")
    proxy.delay = 0.0
    return await _verdict(lab)


async def join_comes_late(lab: Lab, mutant: str) -> Verdict:
    """A join arrives once more, when its pod has left."""
    proxy = await lab.proxy()
    late = proxy.plan(Fault("join", How.LATE, nth=1 if mutant else 2, by_hand=True))
    victim = await lab.pod("victim", proxy.url)
    await lab.send("a")
    await lab.settle()
    await victim.stop()
    late.let_go.set()
    await late.ran.wait()
    return await _verdict(lab)


async def pod_cut_off(lab: Lab, mutant: str) -> Verdict:
    """A pod is cut off from Redis while it handles something."""
    proxy = await lab.proxy()
    victim = await lab.pod("victim", proxy.url)
    await lab.send("a", victim.queues, seconds=2.5, deed="slow")
    await until(victim.running)
    await lab.pod("helper")
    proxy.silent = True
    lab.history.fault()
    await lab.settle(SETTLES_WITHIN)
    proxy.speak()
    return await _verdict(lab)


async def killed_before_the_commit(lab: Lab, mutant: str) -> Verdict:
    """A pod dies when its handler has ended and sent, and its commit is on its way."""
    proxy = await lab.proxy()
    victim = lab.process("victim", proxy.url, mutant=mutant)
    await victim.wait_ready()
    fault = proxy.plan(Fault("commit", How.LOST, then=lambda: lab.kill(victim)))
    await lab.send("a")
    await fault.fired.wait()
    await lab.pod("helper")
    return await _verdict(lab)


async def stale_copy(lab: Lab, mutant: str) -> Verdict:
    """Redis comes back with a copy in which a pod that runs a handler does not own its entity."""
    server, proxy = lab.server, await lab.proxy()
    first = await lab.pod("first")
    await first.stop()
    await lab.send("a", seconds=0.7, deed="slow")
    keep_copy(server, lab.folder / "copy")
    victim = await lab.pod("victim", proxy.url)
    await until(victim.running)
    proxy.silent = True
    go_back_to_copy(server, lab.folder / "copy")
    lab.history.fault()
    await lab.pod("helper")
    await lab.settle()
    proxy.reset()
    proxy.speak()
    return await lab.verdict(heals_within=LEASE.ttl + 2 * LEASE.grace + 2.0)


def keep_copy(server: RedisServer, copy: Path) -> None:
    """Copies what the server has on disk at this moment: what a replica would have that hears no more."""
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for source in server.data.glob("appendonly*"):
        if source.is_dir():
            shutil.copytree(source, copy / source.name)
        else:
            shutil.copy(source, copy / source.name)


def go_back_to_copy(server: RedisServer, copy: Path) -> None:
    """Ends the server, and starts another one at its address with the copy."""
    server.kill()
    for gone in server.data.glob("appendonly*"):
        if gone.is_dir():
            shutil.rmtree(gone)
        else:
            gone.unlink()
    for source in copy.iterdir():
        if source.is_dir():
            shutil.copytree(source, server.data / source.name)
        else:
            shutil.copy(source, server.data / source.name)
    server.restart()


EXPOSED_BY: dict[str, tuple[Scenario, str]] = {
    "commit without the check of done": (commit_unanswered, "lost"),
    "commit by anybody": (commit_after_a_takeover, "lost"),
    "commit without the epoch": (commit_after_a_release, "lost"),
    "claim by anybody": (hint_for_what_was_given_up, "overlaps"),
    "claim takes the entity out of wake": (claim_comes_late, "lost"),
    "no quarantine": (stale_copy, "overlaps"),
    "send without the check of sequences": (send_unanswered, "doubled"),
    "a tick counts for everybody": (tick_unanswered, "doubled"),
    "a wake-up is an event": (hint_lost, "stuck"),
    "reap drops the pod first": (pod_killed, "stuck"),
    "epochs count": (entity_moves, "fences"),
    "a retry goes to the end of the line": (handler_fails_once, "disordered"),
    "an idle release forgets what has come": (work_comes_with_the_release, "lost"),
    "join without a ticket": (join_comes_late, "left"),
    "a worker without its lease": (pod_cut_off, "overlaps"),
    "children beside the commit": (killed_before_the_commit, "children"),
}
"""Mutant -> the story that it does not survive, and what the checker finds."""
