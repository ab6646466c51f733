"""Random faults to a fleet of processes, and random senders, for as long as it is told to."""

import signal
import time
from collections import Counter
from random import Random

import trio
from faults.fleet_processes import PodProcess
from faults.lab import Lab
from faults.proxy import Proxy
from faults.shelf_pod import LEASE

PODS = 4
SENDERS = 2
ENTITIES = 200
LINES = 4
"""Tasks of a sender."""

PAUSE = (0.3, 0.9)
"""Seconds between two faults."""

LIFE = (5.0, 15.0)
"""Seconds that a sender lives until it is killed."""


class Chaos:
    """Makes faults happen, and counts them."""

    def __init__(self, lab: Lab, seed: int) -> None:
        self.lab, self.fired = lab, Counter[str]()
        self._dice = Random(seed)
        self._names = 0
        self._whole: set[PodProcess] = set()  # those that nothing happens to at the moment
        self._nursery: trio.Nursery

    async def start(self) -> None:
        """Starts the fleet."""
        async with trio.open_nursery() as nursery:
            for _ in range(PODS):
                nursery.start_soon(self._start)

    async def run(self, seconds: float) -> None:
        """Disturbs the fleet; at the end, all pods are whole."""
        async with trio.open_nursery() as self._nursery:
            ends_at = time.monotonic() + seconds
            while time.monotonic() < ends_at:
                await trio.sleep(self._dice.uniform(*PAUSE))
                if len(self._whole) > PODS // 2:  # else there may be nobody who heals
                    pod = self._dice.choice(sorted(self._whole, key=lambda one: one.name))
                    self._whole.discard(pod)
                    self._nursery.start_soon(
                        self._dice.choice((self._kill, self._freeze, self._freeze, self._end)), pod
                    )

    async def _start(self) -> None:
        pod = self.lab.process(f"pod{self._names}")
        self._names += 1
        await pod.wait_ready()
        self._whole.add(pod)

    async def _kill(self, pod: PodProcess) -> None:
        self.lab.kill(pod)
        self.fired["kill"] += 1
        await self._replace()

    async def _freeze(self, pod: PodProcess) -> None:
        seconds = self._dice.uniform(0.2, 2 * LEASE.ttl)
        await self.lab.freeze(pod, seconds)
        self.fired["freeze past the lease" if seconds > LEASE.ttl - LEASE.margin else "freeze"] += 1
        self._whole.add(pod)

    async def _end(self, pod: PodProcess) -> None:
        self.lab.history.fault(pod.name)
        pod.signal(signal.SIGTERM)
        code = await pod.wait_ended()
        assert code == 0, f"{pod.name} ended with {code}: {pod.noise()}"
        self.fired["term"] += 1
        await self._replace()

    async def _replace(self) -> None:
        await trio.sleep(self._dice.uniform(0, 0.5))
        await self._start()
        self.fired["restart"] += 1


async def send_for(
    lab: Lab, proxy: Proxy, number: int, seconds: float, fired: Counter[str], seed: int
) -> None:
    """Has this sender's share of the entities sent to: by processes that are killed, over a link that breaks."""
    dice = Random(seed * 100 + number)
    shelves = [f"shelf-{n}" for n in range(ENTITIES) if n % SENDERS == number]
    lines = [shelves[n::LINES] for n in range(LINES)]
    ends_at = time.monotonic() + seconds
    generation = first = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_break_now_and_then, proxy, dice, fired)
        while True:
            name = f"sender{number}-{generation}"
            sender = lab.sender_process(name, proxy.url, lines=lines, first=first, seed=dice.randrange(10**6))
            await sender.wait_ready()
            life, left = dice.uniform(*LIFE), ends_at - time.monotonic()
            await trio.sleep(max(0.0, min(life, left)))
            if left <= life:
                break
            sender.kill()
            fired["sender kill"] += 1
            generation, first = generation + 1, sender.next_number(first)
        nursery.cancel_scope.cancel()
    sender.signal(signal.SIGTERM)
    code = await sender.wait_ended()
    assert code == 0, f"{sender.name} ended with {code}: {sender.noise()}"


async def _break_now_and_then(proxy: Proxy, dice: Random, fired: Counter[str]) -> None:
    while True:
        await trio.sleep(dice.uniform(1.0, 4.0))
        how = dice.choice(("reset", "finish", "half_close"))
        fired[f"link {how}"] += getattr(proxy, how)()
