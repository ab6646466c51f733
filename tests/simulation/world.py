"""A fleet from its start to its end: everything goes wrong, then nothing does, then all must be well."""

import contextlib
import logging
import random
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from random import Random
from typing import Any
from unittest.mock import patch

import attrs
import orjson
import trio
from trio.testing import MockClock

from trioqueue import AtomicQueues, Codec, Drain, open_atomic_queues
from trioqueue._names import Entity
from trioqueue.messages.registry import Registry
from trioqueue.protocol.lifecycle import Mode
from trioqueue.runtime.supervisor import REJOIN_PAUSE
from trioqueue.stores.memory.mailboxes import client_of
from trioqueue.stores.memory.records import Mailbox
from trioqueue.stores.memory.server import OVERDUE_US
from trioqueue.testing import MemoryHarness, audit, audit_drained

from . import history
from .checker import check
from .faults import Blow, Plan, draw
from .history import Event, Final
from .network import QUIET, RECONNECTS, Link, Network
from .operator import Operator
from .process import Process, scheduling
from .server import SimulatedServer
from .store import SimulatedStore
from .workload import DELAYS, Workload

SLACK = 0.5
"""Seconds that healing may take beyond what is promised: answers on their way."""

LONGEST_DELAY_US = round(max(DELAYS) * 1e6)
"""Nothing is put off for longer, by a clock that is not set."""

SETTLES_WITHIN = 300.0
"""Seconds in which all that was accepted is settled once nothing goes wrong."""

ENDS_WITHIN = 60.0
"""Seconds in which a drained fleet has ended."""


@attrs.define
class Result:
    """What became of a seed."""

    seed: int
    plan: Plan
    wrong: list[str]
    history: list[Event]
    confirmed: int
    faults: dict[str, int]
    seconds: float  # of fleet time


class Pod:
    """A place in the fleet, where one process after another lives."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lives = 0
        self.process: Process | None = None  # None: between two lives
        self.link: Link | None = None
        self.queues: AtomicQueues | None = None  # None: not open
        self.ending = trio.Event()


class World:
    """One run."""

    def __init__(self, seed: int) -> None:
        self.plan = draw(seed)
        self.dice = Random(seed + 1)
        self.history: list[Event] = []
        self.write: Callable[[Event], None] = self.history.append
        self.server = SimulatedServer(self.write)
        self.network = Network(self.server, Random(seed + 2), self.write)
        self.workload = Workload(
            self.network,
            self.dice,
            self.plan.entities,
            self.plan.handling,
            self.plan.activation,
            self.plan.ticks,
            self.write,
        )
        self.codec = Codec()
        self.pods = [Pod(f"p{n}") for n in range(self.plan.pods)]
        self.processes: list[Process] = []
        self.closing = False
        self.operating = trio.CancelScope()  # round all that an operator does
        self.final = Final({}, {})

    # -------------------------------------------------------------------------------- processes
    def _begin(self, name: str) -> tuple[Process, Link]:
        process = Process(name)
        process.enter()
        self.processes.append(process)
        link = self.network.links[name] = Link(self.network, process, name)
        return process, link

    @asynccontextmanager
    async def _open(self, link: Link, registry: Registry | None) -> AsyncGenerator[AtomicQueues, None]:
        plan = self.plan
        async with open_atomic_queues(
            link,  # type: ignore[arg-type]
            registry=registry,
            name=link.client,
            entities={"ledger": plan.policy},
            codec=self.codec,
            lease=plan.lease,
            limits=plan.limits,
            drain=Drain(soft=1.0, hard=5.0),
        ) as queues:
            yield queues

    async def _live(self, pod: Pod, after: float) -> None:
        """Is one life of a pod."""
        await trio.sleep(after)
        pod.lives += 1
        pod.process, pod.link = process, link = self._begin(f"{pod.name}-{pod.lives}")
        pod.ending = ending = trio.Event()
        try:
            with process.scope:
                async with self._open(link, self.workload.registry) as queues:
                    if pod.process is process:  # else it was told to end before it was open
                        pod.queues = queues
                    async with trio.open_nursery() as nursery:
                        if self.dice.random() < 0.5:
                            line = Random(self.dice.random())
                            nursery.start_soon(
                                self.workload.send, queues, process.name, line, 3 * self.plan.pause
                            )
                        await ending.wait()
                        nursery.cancel_scope.cancel()
        except Exception as error:
            if not process.dead:
                self.write(history.Wrong(trio.current_time(), f"{process.name} ended: {error!r}"))
                if not isinstance(error, AssertionError | ExceptionGroup):
                    raise
        finally:
            if pod.process is process:
                pod.process = pod.link = pod.queues = None

    async def _sender(self, number: int) -> None:
        process, link = self._begin(f"s{number}")
        with process.scope:
            async with self._open(link, None) as queues:
                await self.workload.send(queues, process.name, Random(self.dice.random()), self.plan.pause)

    async def _operator(self) -> None:
        process, link = self._begin("o")
        with process.scope:
            async with self._open(link, None) as queues:
                with self.operating:
                    await Operator(
                        self.workload, queues, Random(self.dice.random()), self.plan.operates
                    ).run()

    # -------------------------------------------------------------------------------- what goes wrong
    def strike(self, blow: Blow, lives: trio.Nursery) -> None:
        """Has one thing go wrong."""
        network, whom = self.network, self.pods[blow.whom % len(self.pods)]
        match blow.what:
            case "stall":
                network.stalled_until = trio.current_time() + blow.seconds
                network.late_until = max(network.late_until, network.stalled_until)
            case "clock":
                self.server.skew_us += round(blow.seconds * 1e6)
            case "restart":
                self._restart()
            case "fallback":
                number = self.server.make_copy()
                network.late_until = max(network.late_until, trio.current_time() + blow.seconds)
                network.after(blow.seconds, lambda: self._fall_back(number, whom))
            case "unreachable" if blow.whom % 2:
                network.unreachable_until = trio.current_time() + blow.seconds
                network.late_until = max(network.late_until, network.unreachable_until)
            case _:
                if whom.process is None or whom.process.stopped or whom.link is None:
                    return
                self._strike_pod(blow, whom, whom.process, whom.link, lives)
        network.note(blow.what, f"{blow.seconds:g} s {whom.name}-{whom.lives}")

    def _strike_pod(self, blow: Blow, pod: Pod, process: Process, link: Link, lives: trio.Nursery) -> None:
        now, network = trio.current_time(), self.network
        match blow.what:
            case "kill":
                process.kill()
                network.links.pop(process.name, None)
                self.write(history.Killed(now, process.name))
                pod.process = pod.link = pod.queues = None
                lives.start_soon(self._live, pod, blow.seconds)
            case "drain":
                pod.ending.set()
                pod.process = pod.link = pod.queues = None
                lives.start_soon(self._live, pod, blow.seconds)
            case "freeze" | "block":
                process.blocked = blow.what == "block"
                process.stop()
                self.write(history.Stopped(now, process.name, blow.what))
                network.late_until = max(network.late_until, now + blow.seconds)
                network.after(blow.seconds, lambda: self._thaw(process))
            case "cut":
                link.cut()
            case "unreachable":
                link.unreachable_until = now + blow.seconds
                network.late_until = max(network.late_until, link.unreachable_until)

    def _thaw(self, process: Process) -> None:
        if process.stopped and not process.dead:
            self.write(history.Thawed(trio.current_time(), process.name))
            process.go_on()

    def _restart(self) -> None:
        self.server.restart()
        self.network.cut_all()

    def _fall_back(self, number: int, whom: Pod) -> None:
        if number not in self.server._copies:
            return  # another one took its place meanwhile
        self.server.fall_back(number)
        self.network.cut_all()
        if whom.link is not None:
            # It does not hear of it for a while, since it is cut off as the former server is.
            lease = self.plan.lease
            whom.link.unreachable_until = trio.current_time() + self.dice.uniform(0, lease.ttl + lease.grace)
            self.network.late_until = max(self.network.late_until, whom.link.unreachable_until)

    # -------------------------------------------------------------------------------- its course
    async def run(self) -> None:
        """Children: the network, each process, and who strikes."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.network.run)
            async with trio.open_nursery() as lives:
                for number in range(self.plan.senders):
                    lives.start_soon(self._sender, number)
                for pod in self.pods:
                    lives.start_soon(self._live, pod, self.dice.random())
                if self.plan.operates:
                    lives.start_soon(self._operator)
                await self._suffer(lives)
                await self._resume()
                await self._heal()
                await self._settle()
                with trio.move_on_after(ENDS_WITHIN) as late:
                    await self._end(lives)
                if late.cancelled_caught:
                    left = [task.name for task in lives.child_tasks]
                    self.write(history.Wrong(trio.current_time(), f"did not end: {left}"))
                for process in self.processes:
                    process.scope.cancel()
            nursery.cancel_scope.cancel()
        self._look_at_what_is_left()

    async def _suffer(self, lives: trio.Nursery) -> None:
        self.network.odds = self.plan.odds
        began = trio.current_time()
        for blow in self.plan.blows:
            await trio.sleep_until(began + blow.at)
            self.strike(blow, lives)
        await trio.sleep_until(began + self.plan.seconds)
        self.network.odds = QUIET
        while self.network.late_until > trio.current_time():  # noqa: ASYNC110
            await trio.sleep_until(self.network.late_until)

    async def _resume(self) -> None:
        """Ends all that an operator has begun."""
        self.operating.cancel()
        if self.plan.operates:
            await trio.sleep(RECONNECTS[1] + SLACK)  # until what it asked last was done
        for entity, box in list(self.server.mailboxes.items()):
            if box.paused:
                self.server.pause(entity, "")
        self.server.hold("ledger", "")

    async def _heal(self) -> None:
        """Waits as long as healing may take, and sees whether somebody works at all that was accepted before."""
        lease = self.plan.lease
        began_us = self.server._now_us()
        bound = lease.ttl + lease.grace + lease.heartbeat + SLACK
        # A restart is noticed by a heartbeat, and the quarantine begins with the first who joins.
        bound += lease.heartbeat + 2 * REJOIN_PAUSE + lease.heartbeat
        await trio.sleep(bound / 2)
        self.workload.sending = False
        await trio.sleep(bound / 2)
        self._audit()
        if lost := self._not_moved():
            self.write(history.Wrong(trio.current_time(), f"nobody moves what is due: {lost}"))
        if self._not_ticked():
            self.write(history.Wrong(trio.current_time(), f"nobody ticks: {self.server.schedules}"))
        # From now on none of them comes any more, as else it would never be quiet.
        self.server.schedules = dict.fromkeys(self.server.schedules, 2**60)
        ill = self._not_healed(began_us)
        await trio.sleep(SLACK)  # a claim may just be on its way
        for entity, why in self._not_healed(began_us).items():
            if ill.get(entity) == why:
                self.write(history.Wrong(trio.current_time(), f"{entity} is not healed: {why}"))

    def _not_moved(self) -> list[str]:
        """Names what is longer due than it takes any pod to see that nobody moves it."""
        longest_us = OVERDUE_US + round((self.plan.lease.heartbeat + SLACK) * 1e6)
        due_us = self.server._now_us() - longest_us
        return [name for name, one in self.server.later.commands.items() if one.due[0] < due_us]

    def _not_ticked(self) -> bool:
        """Says whether a tick is longer due than it takes to make it, or those that were missed before it."""
        if any(blow.what == "clock" and blow.seconds < 0 for blow in self.plan.blows):
            return False  # who found the next tick far away then, looks again within a minute
        longest = self.plan.lease.heartbeat + 2 * SLACK
        due_ms = (self.server._now_us() - round(longest * 1e6)) // 1000
        begun = self.server.schedules.values()
        if self.plan.ticks and not begun:
            return True
        return (
            any(following < due_ms for following in begun)
            and self.server.ticked_at < trio.current_time() - longest
        )

    def _not_healed(self, began_us: int) -> dict[Entity, str]:
        """Names the entities that have work since then and nobody who does it, and says why."""
        return {
            entity: f"{why}: {_shown(box)}"
            for entity, box in self.server.mailboxes.items()
            if box.queue and box.queue[0].accepted_us < began_us and (why := self._nobody_works(box, entity))
        }

    def _nobody_works(self, box: Mailbox, entity: Entity) -> str:
        if box.mode is Mode.READY:
            room = [pod for pod in self.server.pods.values() if pod.room > len(pod.owns)]
            return "there is room for it" if room else ""
        if box.owner not in self.server.pods:
            return "its owner is not registered"
        for pod in self.pods:
            if pod.process is not None and pod.process.name == client_of(box.owner) and pod.queues:
                supervisor = pod.queues._supervisor
                incarnation = supervisor.incarnation if supervisor else None
                if incarnation is None or incarnation.member.incarnation != box.owner:
                    return "its owner is an incarnation of the past"
                worker = incarnation._workers.get(entity)
                if worker is None:
                    return "it has no worker"
                if box.mode is Mode.ACTIVE and worker.turns.epoch != box.epoch:
                    return f"its worker has the epoch {worker.turns.epoch}"
                if worker.rest.is_parked():
                    return "its worker sleeps"
                return ""
        return "its owner is dead"

    def _audit(self) -> None:
        try:
            audit(self._picture())
        except AssertionError as error:
            self.write(history.Wrong(trio.current_time(), f"audit: {error}"))

    def _picture(self) -> Any:
        harness = MemoryHarness()
        harness._server = self.server
        # It does not wait for anything.
        try:
            harness.world().send(None)
        except StopIteration as stopped:
            return stopped.value
        raise AssertionError("it waited")

    async def _settle(self) -> None:
        """Waits until all is settled: without help, in a bounded time."""
        server = self.server
        left_us = max([0, *(one.due[0] for one in server.later.commands.values())]) - server._now_us()
        if left_us > LONGEST_DELAY_US:
            server.skew_us += left_us  # its clock was set back, and is put right
        with trio.move_on_after(SETTLES_WITHIN) as late:
            while server.later.commands or any(  # noqa: ASYNC110 - the server tells nobody
                box.queue for box in server.mailboxes.values()
            ):
                await trio.sleep(0.1)
        if late.cancelled_caught:
            left = {str(entity): _shown(box) for entity, box in server.mailboxes.items() if box.queue}
            left |= dict.fromkeys(server.later.commands, "put off")
            self.write(history.Wrong(trio.current_time(), f"did not settle: {left}"))

    async def _end(self, lives: trio.Nursery) -> None:
        """Drains all pods, and then lets the dead unwind."""
        for pod in self.pods:
            pod.ending.set()
        while any(  # noqa: ASYNC110
            not process.dead for process in self.processes if process.name in self.network.links
        ):
            await trio.sleep(0.1)
        for process in self.processes:
            if process.dead:
                process.bury()
        while lives.child_tasks:  # noqa: ASYNC110 - a nursery tells nobody
            await trio.sleep(0.1)

    def _look_at_what_is_left(self) -> None:
        self.server.producers.clear()  # a silent one is forgotten after a day: late copies may still come
        try:
            audit_drained(self._picture())
        except AssertionError as error:
            self.write(history.Wrong(0.0, f"left at the end: {str(error)[:300]}"))
        states = {
            str(entity): orjson.loads(data)["s"]["numbers"]
            for entity, (_, data) in self.server.states.items()
        }
        dead: dict[int, str] = {}
        for letters in self.server.dead.values():
            for letter in letters.values():
                dead[self.server.number_of_letter(letter)] = orjson.loads(letter.record)["error"]
        self.final = Final(states, dead)


def _shown(box: Mailbox) -> str:
    return f"{box.mode} of {box.owner}, epoch {box.epoch}, {len(box.queue)} queued, due {box.due_us}"


@contextlib.contextmanager
def quiet(*, trace: Callable[[logging.LogRecord], None] | None = None) -> Iterator[None]:
    """Keeps the log out of the way, or in the trace."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            assert trace is not None
            trace(record)

    logger = logging.getLogger("trioqueue")
    level, propagate = logger.level, logger.propagate
    handler = Handler()
    logger.propagate = False
    if trace is None:
        logger.setLevel(logging.CRITICAL)
    else:
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


def _open_store(link: Link, *_: Any, **__: Any) -> AbstractAsyncContextManager[SimulatedStore]:
    @asynccontextmanager
    async def opened() -> AsyncGenerator[SimulatedStore, None]:
        store = SimulatedStore(link)
        try:
            yield store
        finally:
            await store.aclose()

    return opened()


def simulate(seed: int, *, trace: bool = False) -> Result:
    """Runs the fleet of a seed and judges it."""
    made: list[World] = []

    async def main() -> float:
        world = World(seed)
        made.append(world)
        await world.run()
        return trio.current_time()

    def note(record: logging.LogRecord) -> None:
        made[0].write(history.Log(trio.current_time(), record.getMessage()))

    before = random.getstate()
    random.seed(seed)
    try:
        with (
            scheduling(seed),
            quiet(trace=note if trace else None),
            patch("trioqueue._open._open_store", _open_store),
            patch("trioqueue.runtime.supervisor.TICK_EVERY", 0.5),
        ):
            seconds = trio.run(main, clock=MockClock(autojump_threshold=0))
    finally:
        random.setstate(before)
    world = made[0]
    return Result(
        seed=seed,
        plan=world.plan,
        wrong=check(world.history, world.final),
        history=world.history,
        confirmed=world.workload.confirmed,
        faults=world.network.fired,
        seconds=seconds,
    )
