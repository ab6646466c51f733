"""A fleet under test: pods in this process or in their own, each behind a proxy if wanted, and the verdict on them."""

import signal
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import uniform
from typing import Any

import trio
from faults.checker import SLACK, Verdict, check
from faults.effects import EffectsOfPod, EffectStore, open_effects
from faults.fleet_processes import FleetProcess, PodProcess, SenderProcess
from faults.history import Freeze, History, Log, read_lines
from faults.proxy import Proxy, open_proxy
from faults.shelf_pod import LEASE, Echoes, Shelf, Take, open_pod
from redis_harness import RedisHarness
from redis_servers import RedisServer

from trioqueue import AtomicQueues, StoreFull, TrioqueueError, open_atomic_queues
from trioqueue.testing._world import audit_drained

SETTLES_WITHIN = 2 * (LEASE.ttl + LEASE.grace + LEASE.heartbeat) + SLACK
"""Seconds for what is left to do: a pod that dies in the last moment, and one that it was handed to."""


class Pod:
    """A pod in this process, ended by `stop`."""

    def __init__(self, name: str, log: Log) -> None:
        self.name, self.log = name, log
        self.queues: AtomicQueues
        self._stop = trio.Event()
        self.stopped = trio.Event()

    async def run(
        self, url: str, effects: EffectsOfPod, options: dict[str, Any], task_status: trio.TaskStatus[None]
    ) -> None:
        try:
            async with open_pod(url, self.log, effects, name=self.name, **options) as self.queues:
                task_status.started()
                await self._stop.wait()
        finally:
            self.log.close()
            self.stopped.set()

    async def stop(self) -> None:
        """Drains it."""
        self._stop.set()
        await self.stopped.wait()

    def serves(self) -> bool:
        """Says whether it holds a lease."""
        supervisor = self.queues._supervisor
        return supervisor is not None and supervisor.incarnation is not None

    def running(self) -> bool:
        """Says whether a handler runs."""
        count = 0
        for line in read_lines(self.log.path):
            count += {"start": 1, "end": -1}.get(line["what"], 0)
        return count > 0


class Lab:
    """Made by `open_lab`.  `sender` sends past all proxies."""

    def __init__(
        self, server: RedisServer, folder: Path, nursery: trio.Nursery, effects: EffectStore
    ) -> None:
        self.server, self.folder, self.history = server, folder, History()
        self.harness = RedisHarness(server)
        self.prefix = self.harness.prefix
        self.sender: AtomicQueues
        self._nursery = nursery
        self._effects = effects
        self._proxies = trio.Event()
        self.proxies: list[Proxy] = []
        self.pods: list[Pod] = []
        self.processes: list[PodProcess] = []
        self.senders: list[SenderProcess] = []  # in the order of their starts
        self._numbers: dict[str, int] = {}

    # ------------------------------------------------------------------ who takes part
    async def proxy(self) -> Proxy:
        """Makes a way to the server that can be disturbed."""

        async def keep(task_status: trio.TaskStatus[Proxy]) -> None:
            async with open_proxy(self.server.port) as proxy:
                task_status.started(proxy)
                await self._proxies.wait()

        proxy: Proxy = await self._nursery.start(keep)
        self.proxies.append(proxy)
        return proxy

    async def pod(self, name: str, url: str | None = None, **options: Any) -> Pod:
        """Opens a pod in this process."""
        pod = Pod(name, Log(self.folder / f"{name}.jsonl"))
        self.pods.append(pod)
        effects = EffectsOfPod(name, self._effects.socket)
        options = {"prefix": self.prefix, **options}
        await self._nursery.start(pod.run, url or self.server.url, effects, options)
        return pod

    def process(
        self,
        name: str,
        url: str | None = None,
        *,
        mutant: str = "",
        sends: int = 0,
        does: str = "",
        **options: Any,
    ) -> PodProcess:
        """Starts a pod in a process of its own."""
        process = PodProcess(
            url or self.server.url,
            self.folder / f"{name}.jsonl",
            effects=self._effects.socket,
            options={"prefix": self.prefix, **options},
            mutant=mutant,
            sends=sends,
            does=does,
        )
        self.processes.append(process)
        return process

    def sender_process(
        self, name: str, url: str, *, lines: list[list[str]], first: int, seed: int
    ) -> SenderProcess:
        """Starts a sender in a process of its own."""
        log = self.folder / f"{name}.jsonl"
        process = SenderProcess(url, log, prefix=self.prefix, lines=lines, first=first, seed=seed)
        self.senders.append(process)
        return process

    # ------------------------------------------------------------------ what is done
    def next_number(self, shelf: str) -> int:
        self._numbers[shelf] = self._numbers.get(shelf, -1) + 1
        return self._numbers[shelf]

    async def send(
        self, shelf: str, queues: AtomicQueues | None = None, *, delay: float | None = None, **more: Any
    ) -> int:
        """Sends the next command of a shelf, and notes whether that was confirmed."""
        number = self.next_number(shelf)
        try:
            await (queues or self.sender).send(Take(shelf, number, **more), delay=delay)
        except StoreFull:
            raise  # it was not accepted, and nobody may find it anywhere
        except (TrioqueueError, trio.Cancelled):
            self.history.doubt(shelf, number)
            raise
        self.history.sent(shelf, number)
        return number

    async def send_some(self, count: int, *shelves: str, **more: Any) -> None:
        for _ in range(count):
            for shelf in shelves:
                await self.send(shelf, **more)

    async def keep_sending(self, shelves: Iterable[str], queues: AtomicQueues | None = None) -> None:
        """Sends for ever, each shelf by a task of its own; what a full server refuses is given up."""

        async def one(shelf: str) -> None:
            while True:
                with suppress(StoreFull):
                    await self.send(shelf, queues)
                await trio.sleep(uniform(0.005, 0.02))

        async with trio.open_nursery() as nursery:
            for shelf in shelves:
                nursery.start_soon(one, shelf)

    def kill(self, process: PodProcess) -> None:
        """Ends a pod's process with SIGKILL."""
        self.history.deaths[process.name] = process.kill()
        self.history.fault(process.name)

    async def note_deaths(self) -> None:
        """Notes for ever which pods have died by themselves."""
        while True:
            for process in self.processes:
                if not process.alive() and process.name not in self.history.deaths:
                    self.history.deaths[process.name] = time.monotonic()
                    self.history.fault(process.name)
            await trio.sleep(0.002)

    async def freeze(self, process: PodProcess, seconds: float) -> None:
        """Has a pod's process stand still for a while."""
        process.freeze()
        start = time.monotonic()
        self.history.fault(process.name)
        try:
            await trio.sleep(seconds)
        finally:
            process.thaw()
            self.history.freezes.append(Freeze(process.name, start, time.monotonic()))
            self.history.fault(process.name)

    async def look_at_owners(self, every: float = 0.1) -> None:
        """Notes for ever who owns what, so that the checker knows whom a fault concerns.

        And when the whole fleet missed two heartbeats: then the machine stood still, which is a fault of nobody's, and
        the store holds it against no pod.
        """
        keys = self.harness.keys
        silence_us = 2 * round(LEASE.heartbeat * 1e6)
        with self.server.client() as client:
            while True:
                at = time.monotonic()
                seconds, microseconds = client.time()
                ticked = int(client.hget(keys.meta, "last_tick") or 0)
                if ticked and seconds * 1_000_000 + microseconds - ticked > silence_us:
                    self.history.stood_still()
                names = {
                    field.rpartition(b".")[2]: name.decode()
                    for field, name in client.hgetall(keys.fleet).items()
                    if field.startswith(b"name:")
                }
                for entity, number in client.zrange(keys.owned, 0, -1, withscores=True):
                    kind, _, name = entity.decode().partition("/")
                    pod = names.get(b"%.0f" % number)
                    if kind == "shelf" and pod is not None:
                        self.history.owned(at, name, pod)
                await trio.sleep(every)

    # ------------------------------------------------------------------ what came of it
    async def settle(self, seconds: float = SETTLES_WITHIN) -> None:
        """Waits until nothing is left to do; what is then still left, is stuck."""
        with trio.move_on_after(seconds) as scope:
            while (await self.sender.statistics()).put_off:  # noqa: ASYNC110 - the store tells no sender
                await trio.sleep(0.02)
            await self.sender.wait_settled()
        if scope.cancelled_caught:
            world = await self.harness.world()
            self.history.stuck = [
                f"{entity} has {len(one.queued)} commands and gets none done"
                for entity, one in world.entities.items()
                if one.queued
            ]

    async def _read(self) -> None:
        history = self.history
        for shelf in {*history.confirmed, *history.doubtful}:
            history.applied[shelf] = (await self.sender.state(Shelf, shelf)).applied
            history.echoed[shelf] = (await self.sender.state(Echoes, shelf)).applied
        history.effects = self._effects.all()

    async def end_processes(self) -> None:
        """Ends what is still alive, politely."""
        processes: list[FleetProcess] = [*self.processes, *self.senders]
        for process in processes:
            if process.alive():
                process.thaw()
                process.signal(signal.SIGTERM)
        for process in processes:
            with trio.move_on_after(10) as scope:
                await process.wait_ended()
            assert not scope.cancelled_caught, f"{process.name} does not end"

    async def verdict(
        self,
        *,
        seconds: float = SETTLES_WITHIN,
        excused: frozenset[str] = frozenset(),
        heals_within: float | None = None,
    ) -> Verdict:
        """Waits until all is done, ends everything, and says whether the promises were kept."""
        await self.settle(seconds)
        unfired = [fault.kind for proxy in self.proxies for fault in proxy.planned]
        assert not unfired, f"planned, but it never came to it: {unfired}"
        if not self.history.stuck:
            await self._wait_reaped(seconds)
        for pod in self.pods:
            await pod.stop()
            if not self.history.stuck:
                await self._wait_reaped(seconds)  # it may have lost its lease just then
        await self.end_processes()
        for process in (*self.senders, *self.processes):
            self.history.take_log(process.name, process.lines())
        for pod in self.pods:
            self.history.take_log(pod.name, read_lines(pod.log.path))
        await self._read()
        if not self.history.stuck:
            try:
                audit_drained(await self.harness.world())
            except AssertionError as error:
                self.history.left.append(str(error))
        return check(self.history, LEASE, excused=excused, heals_within=heals_within)

    async def _wait_reaped(self, seconds: float) -> None:
        """Waits until the registry knows nobody who is dead."""
        alive = sum(not pod.stopped.is_set() for pod in self.pods) + sum(
            process.alive() for process in self.processes
        )
        with trio.move_on_after(seconds):
            while alive and (await self.sender.statistics()).pods > alive:  # noqa: ASYNC110
                await trio.sleep(0.02)


@asynccontextmanager
async def open_lab(server: RedisServer, folder: Path, *, proxied: bool = False) -> AsyncGenerator[Lab]:
    """Makes a fleet, and ends all of it with the block; `proxied`: the sender too gets a proxy, the first one."""
    async with open_effects(folder / "effects.db") as effects, trio.open_nursery() as nursery:
        lab = Lab(server, folder, nursery, effects)
        try:
            url = (await lab.proxy()).url if proxied else server.url
            async with open_atomic_queues(url, prefix=lab.prefix) as lab.sender:
                yield lab
                for pod in lab.pods:
                    await pod.stop()
                lab._proxies.set()
        finally:
            for process in (*lab.processes, *lab.senders):
                process.end()
        nursery.cancel_scope.cancel()
