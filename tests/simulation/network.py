"""What lies between a pod and its server, and a store's client that copes with it.

Everything that happens in the network happens at a time, in one order, in one task.  Requests of one client arrive in
the order in which they were made, as on one connection, unless they had to be repeated.
"""

import heapq
import itertools
import math
import traceback
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any, TypeVar

import attrs
import trio

from trioqueue import OutcomeUnknown, StoreUnavailable
from trioqueue._names import Entity
from trioqueue.messages.policy import Lease
from trioqueue.protocol.lease import renewed, trusted_until
from trioqueue.stores.contract import (
    PAGE,
    ClaimAnswer,
    ClaimWish,
    Commit,
    CommitAnswer,
    Group,
    LeaseLost,
    Member,
    NotClaimed,
    PodInfo,
    SendClaimAnswer,
)
from trioqueue.stores.memory.mailboxes import Quarantined
from trioqueue.stores.memory.store import QUARANTINE_POLL
from trioqueue.stores.reports import Hint, Report, Silent, StoreStatistics, Withdrawal

from . import history
from .history import Event
from .process import Process
from .server import SimulatedServer

T = TypeVar("T")

LATENCY = (0.0002, 0.003)
"""Seconds that a request, a reply or a hint takes."""

GRAIN = 0.001
"""Seconds to which the network's times are rounded up: what is almost at once is at once, and cheaper."""

RECONNECTS = (0.02, 1.0)
"""Seconds until a client has noticed that an answer will not come, and asks again."""

UNANSWERED = 8.0
"""Seconds after which a send gives up, `Limits.unanswered`."""


@attrs.define
class Odds:
    """How likely it is that something happens to one request, or to one hint."""

    lost_request: float = 0.0
    lost_reply: float = 0.0
    late_reply: float = 0.0
    late_run: float = 0.0
    lost_hint: float = 0.0
    doubled_hint: float = 0.0
    late_hint: float = 0.0
    longest: float = 9.0  # seconds that something may be late


QUIET = Odds()


class Network:
    """Does everything at its time; `unreachable` and `stalled_until` concern the server as a whole."""

    def __init__(self, server: SimulatedServer, dice: Random, write: Callable[[Event], None]) -> None:
        self.server = server
        self.dice = dice
        self.write = write
        self.odds = QUIET
        self.unreachable_until = -math.inf
        self.stalled_until = -math.inf
        self.late_until = -math.inf  # when the last of what is late will have happened
        self.links: dict[str, Link] = {}
        self.fired: dict[str, int] = {}
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._scope: trio.CancelScope | None = None
        server.hints = self._hint

    def at(self, when: float, action: Callable[[], None]) -> None:
        when = math.ceil(when / GRAIN) * GRAIN
        heapq.heappush(self._heap, (when, next(self._count), action))
        if self._scope is not None and when < self._scope.deadline:
            self._scope.deadline = when

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        self.at(trio.current_time() + seconds, action)

    async def run(self) -> None:
        while True:
            with trio.CancelScope(deadline=self._heap[0][0] if self._heap else math.inf) as self._scope:
                await trio.sleep_forever()
            self._scope = None
            while self._heap and self._heap[0][0] <= trio.current_time():
                action = heapq.heappop(self._heap)[2]
                try:
                    action()
                except Exception as error:  # else those that stand still would wait for ever to go on
                    where = "".join(traceback.format_exception(error)[-3:])
                    self.write(history.Wrong(trio.current_time(), f"{error!r} {where}"))

    def note(self, what: str, of: str) -> None:
        self.fired[what] = self.fired.get(what, 0) + 1
        self.write(history.Fault(trio.current_time(), f"{what}: {of}"))

    def late(self) -> float:
        seconds = self.dice.uniform(0.05, self.odds.longest)
        self.late_until = max(self.late_until, trio.current_time() + seconds)
        return seconds

    def latency(self) -> float:
        return self.dice.uniform(*LATENCY)

    def reachable(self) -> bool:
        return self.unreachable_until <= trio.current_time()

    def cut_all(self) -> None:
        """Breaks all connections."""
        for link in list(self.links.values()):
            link.cut()

    def _hint(self, client: str, hint: Hint) -> None:
        link = self.links.get(client)
        if link is None or link.hints is None:
            return
        hints, odds, dice = link.hints, self.odds, self.dice.random()
        delay, copies = self.latency(), 1
        if not link.reachable() or dice < odds.lost_hint:
            self.note("lost hint", f"{client} {hint}")
            return
        if dice < odds.lost_hint + odds.doubled_hint:
            self.note("doubled hint", f"{client} {hint}")
            copies = 2
        elif dice < odds.lost_hint + odds.doubled_hint + odds.late_hint:
            self.note("late hint", f"{client} {hint}")
            delay = self.late()
        for _ in range(copies):
            self.after(delay, lambda: link.process.tell(lambda: hints(hint)))
            delay += self.latency()


class Link:
    """One client's connection."""

    def __init__(self, network: Network, process: Process, client: str) -> None:
        self.network = network
        self.process = process
        self.client = client
        self.unreachable_until = -math.inf
        self.hints: Callable[[Hint], None] | None = None
        self.connected: Callable[[], None] | None = None
        self.waiting: dict[Request, None] = {}
        self.last_arrival = 0.0

    def reachable(self) -> bool:
        return self.network.reachable() and self.unreachable_until <= trio.current_time()

    def cut(self) -> None:
        """Breaks the connection: requests are repeated on the next, hints meanwhile are missing."""
        for request in list(self.waiting):
            request.connection_lost()
        if self.connected is not None:
            connected = self.connected
            self.network.after(self.network.dice.uniform(*RECONNECTS), lambda: self.process.tell(connected))


class Request:
    """A request, from when it is made until it is answered; repeated as often as that takes."""

    def __init__(
        self,
        link: Link,
        what: str,
        run: Callable[[SimulatedServer], Any],
        answer: Callable[[Any], None],
        *,
        patience: float = math.inf,
    ) -> None:
        self._link = link
        self._what = what
        self._run = run
        self._answer = answer
        self._copy = 0  # only the answer to the newest copy counts
        link.waiting[self] = None
        if patience < math.inf:
            link.network.after(patience, self._give_up)
        self._write()

    def _write(self) -> None:
        link, network = self._link, self._link.network
        if self not in link.waiting or link.process.dead:
            return
        if link.process.stopped:
            link.process.tell(self._write)
            return
        self._copy += 1
        copy, odds, dice = self._copy, network.odds, network.dice.random()
        now = trio.current_time()
        if not link.reachable():
            network.after(network.dice.uniform(*RECONNECTS), self._write)
            return
        arrival = max(now + network.latency(), link.last_arrival + 1e-6)
        for fate in ("lost_request", "lost_reply", "late_reply", "late_run", ""):
            chance = getattr(odds, fate) if fate else 1.0
            if dice < chance:
                break
            dice -= chance
        if fate:
            network.note(fate.replace("_", " "), f"{link.client} {self._what}")
        if fate and fate != "late_reply":
            network.after(network.dice.uniform(*RECONNECTS), lambda: self._again(copy))
        if fate == "late_run":
            network.after(network.late(), lambda: self._arrive(None, 0.0))
        elif fate != "lost_request":
            link.last_arrival = arrival
            reply = network.late() if fate == "late_reply" else network.latency()
            network.at(arrival, lambda: self._arrive(None if fate == "lost_reply" else copy, reply))

    def _again(self, copy: int) -> None:
        if copy == self._copy:
            self._write()

    def connection_lost(self) -> None:
        """Asks again soon, whatever became of the last copy."""
        copy = self._copy = self._copy + 1
        self._link.network.after(self._link.network.dice.uniform(*RECONNECTS), lambda: self._again(copy))

    def _arrive(self, copy: int | None, reply: float) -> None:
        """Is heard by the server; copy: whose answer counts, None: nobody hears it."""
        network = self._link.network
        if trio.current_time() < network.stalled_until:
            network.at(network.stalled_until, lambda: self._arrive(copy, reply))
            return
        try:
            answer = self._run(network.server)
        except (LeaseLost, Quarantined) as error:
            answer = error
        if copy is not None:
            network.after(reply, lambda: self._link.process.tell(lambda: self._reply(copy, answer)))

    def _reply(self, copy: int, answer: Any) -> None:
        if copy != self._copy or self not in self._link.waiting:
            return
        if isinstance(answer, Quarantined):
            self._link.network.after(QUARANTINE_POLL, lambda: self._again(copy))
            return
        del self._link.waiting[self]
        self._answer(answer)

    def _give_up(self) -> None:
        if self in self._link.waiting:
            del self._link.waiting[self]
            self._link.process.tell(lambda: self._answer(OutcomeUnknown("the request", UNANSWERED)))


class Waiter:
    """Waits for an answer; cancelled: the answer is dropped."""

    def __init__(self) -> None:
        self._task: trio.lowlevel.Task | None = None
        self._answer: list[Any] = []

    def answer(self, answer: Any) -> None:
        self._answer.append(answer)
        if self._task is not None:
            trio.lowlevel.reschedule(self._task)
            self._task = None

    async def wait(self) -> Any:
        def leave(_: object) -> trio.lowlevel.Abort:
            self._task = None
            return trio.lowlevel.Abort.SUCCEEDED

        if not self._answer:
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(leave)
        if isinstance(self._answer[0], Exception):
            raise self._answer[0]
        return self._answer[0]


class SimulatedStore:
    """The Store over a link: what a request is, and when it is repeated, as the contract has it."""

    def __init__(self, link: Link) -> None:
        self.client = link.client
        self._link = link
        self._sequence = 0
        self._unsettled: dict[int, None] = {}
        self._joined_at = 0.0

    def __repr__(self) -> str:
        return f"<SimulatedStore {self.client}>"

    def listen(self, hints: Callable[[Hint], None], connected: Callable[[], None]) -> None:
        self._link.hints, self._link.connected = hints, connected

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
        self._link.network.links.pop(self.client, None)

    async def _ask(self, what: str, run: Callable[[SimulatedServer], T], *, patience: float = math.inf) -> T:
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._link.process.dead:
            raise StoreUnavailable("memory", "this process is dead")
        waiter = Waiter()
        Request(self._link, what, run, waiter.answer, patience=patience)
        answer: T = await waiter.wait()
        return answer

    async def send(
        self,
        group: Group,
        *,
        member: Member | None = None,
        wishes: Sequence[ClaimWish] = (),
        on_claim: Callable[[Entity, SendClaimAnswer], None] | None = None,
    ) -> bool:
        def claims(answers: Sequence[tuple[Entity, SendClaimAnswer]]) -> None:
            for entity, answer in answers:
                assert on_claim is not None
                on_claim(entity, answer)

        waiter = Waiter()

        def settle(answer: Any) -> None:
            if isinstance(answer, Exception):
                claims([(wish.entity, NotClaimed()) for wish in wishes])
                waiter.answer(answer)
                return
            duplicate, group.first_id, answers = answer
            self._unsettled.pop(group.sequence, None)
            claims(answers)
            waiter.answer(duplicate)

        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            if self._link.process.dead:
                raise StoreUnavailable("memory", "this process is dead")
        except BaseException:
            claims([(wish.entity, NotClaimed()) for wish in wishes])
            raise
        if not group.sequence:
            self._sequence += 1
            group.sequence = self._sequence
            self._unsettled[group.sequence] = None
        low = min(group.sequence, min(self._unsettled, default=self._sequence))
        sequence = group.sequence

        def run(server: SimulatedServer) -> Any:
            duplicate, answers = server.send(
                self.client, low, sequence, group.commands, member, wishes, group.limits
            )
            return duplicate, server.first_id(group.commands) or "", answers

        Request(self._link, f"send {sequence}", run, settle, patience=UNANSWERED)
        return bool(await waiter.wait())

    async def secure(self) -> None:
        pass  # the simulated server has no replicas

    def abandon(self, group: Group) -> None:
        self._unsettled.pop(group.sequence, None)

    async def claim(
        self, member: Member, entity: Entity, *, have: str = "", fetch: int = 64, eager: bool = False
    ) -> ClaimAnswer:
        return await self._ask(
            f"claim {entity}", lambda server: server.claim(member, entity, have, fetch, eager=eager)
        )

    async def commit(self, member: Member, commit: Commit) -> CommitAnswer:
        return await self._ask(f"commit {commit.entity}", lambda server: server.commit(member, commit))

    async def release(self, member: Member, entity: Entity, epoch: int | None, why: str) -> bool:
        return await self._ask(
            f"release {entity} {why}", lambda server: server.release(member, entity, epoch, why)
        )

    async def join(self, info: PodInfo) -> Member:
        joined: list[Member] = []

        def run(server: SimulatedServer) -> Member:
            # A repeated join is recognized, by its ticket.
            if not (joined and joined[-1].generation == server.generation):
                joined.append(server.join(self.client, info))
            return joined[-1]

        self._joined_at = trio.current_time()
        return await self._ask("join", run)

    async def retire(self, member: Member) -> None:
        await self._ask("retire", lambda server: server.retire(member))

    async def reap(self, member: Member, silent: Silent, *, gave_up: bool = False) -> bool:
        return await self._ask(
            f"reap {silent.incarnation}",
            lambda server: server.reap(member, silent.incarnation, gave_up=gave_up),
        )

    async def assign(self, member: Member, entities: Sequence[Entity]) -> None:
        while entities:
            chunk = entities
            entities = await self._ask("assign", lambda server: server.assign(member, chunk))  # noqa: B023

    async def owned(self, member: Member, offset: int) -> tuple[Entity, ...]:
        return await self._ask("owned", lambda server: server.owned(member, offset))

    async def wakes(self, member: Member, offset: int) -> tuple[Entity, ...]:
        return await self._ask("wakes", lambda server: server.wakes(member, offset))

    async def cancel(self, entity: Entity, command_id: str) -> bool:
        return await self._ask(f"cancel {command_id}", lambda server: server.cancel(entity, command_id))

    async def withdraw(
        self, entity: Entity, command_id: str, beginning: bytes, outcome: bytes, keep_ms: int
    ) -> Withdrawal:
        return await self._ask(
            f"withdraw {command_id}",
            lambda server: server.withdraw(entity, command_id, beginning, outcome, keep_ms),
        )

    async def is_queued(self, entity: Entity, command_id: str, beginning: bytes) -> bool:
        return await self._ask(
            f"find {command_id}",
            lambda server: (
                command_id in server.later.commands or server.place_of(entity, beginning) is not None
            ),
        )

    async def tell_progress(self, command_id: str, client: str, word: bytes) -> None:
        await self._ask(
            f"progress {command_id}", lambda server: server.tell_progress(command_id, client, word)
        )

    async def progress(self, command_id: str) -> bytes | None:
        return await self._ask(f"progress {command_id}", lambda server: server.words.kept(command_id))

    async def move(self, member: Member) -> float | None:
        return await self._ask("move", lambda server: server.move(member))

    async def cancelled(self, entity: Entity) -> tuple[str, ...]:
        def run(server: SimulatedServer) -> tuple[str, ...]:
            box = server.mailboxes.get(entity)
            return tuple(box.cancels) if box else ()

        return await self._ask("cancelled", run)

    async def state(self, entity: Entity) -> bytes | None:
        def run(server: SimulatedServer) -> bytes | None:
            kept = server.states.get(entity)
            return kept[1] if kept else None

        return await self._ask("state", run)

    async def result(self, command_id: str) -> bytes | None:
        return await self._ask(f"result {command_id}", lambda server: server.result(command_id))

    async def statistics(self) -> StoreStatistics:
        return await self._ask("statistics", lambda server: server.statistics())

    @asynccontextmanager
    async def hold_lease(
        self, member: Member, lease: Lease, report: Callable[[Report], None]
    ) -> AsyncGenerator["SimulatedLease", None]:
        held = SimulatedLease(self._link, member, lease, report, self._joined_at)
        held.beat()
        try:
            yield held
        finally:
            held.ended = True


class SimulatedLease:
    """A lease that a thread keeps: it beats while the loop is blocked, and not while the process is frozen."""

    def __init__(
        self, link: Link, member: Member, lease: Lease, report: Callable[[Report], None], joined_at: float
    ) -> None:
        self.ended = False
        self._link = link
        self._member = member
        self._lease = lease
        self._report = report
        self._trusted_until = trusted_until(joined_at, lease.ttl, lease.margin)
        self._ticked_at = trio.current_time()
        self._page = 0
        self._trust()

    def left(self) -> float:
        return self._trusted_until - trio.current_time()

    def tick(self) -> None:
        self._ticked_at = trio.current_time()

    def _trust(self) -> None:
        network = self._link.network
        network.write(history.Trusted(trio.current_time(), self._link.client, self._trusted_until))

    def beat(self) -> None:
        link, network, now = self._link, self._link.network, trio.current_time()
        if self.ended or link.process.dead:
            return
        if link.process.stopped and not link.process.blocked:
            link.process.tell(self.beat)
            return
        network.after(self._lease.heartbeat, self.beat)
        if now - self._ticked_at > self._lease.stall_limit or not link.reachable():
            return
        odds, dice = network.odds, network.dice.random()
        arrival, reply = network.latency(), network.latency()
        if dice < odds.lost_request:
            network.note("lost beat", link.client)
            return
        dice -= odds.lost_request
        if dice < odds.late_run:
            network.note("late beat", link.client)
            arrival = network.late()
        elif dice < odds.late_run + odds.lost_reply:
            network.note("lost answer to a beat", link.client)
            reply = math.inf
        network.after(arrival, lambda: self._arrive(now, reply))

    def _arrive(self, sent_at: float, reply: float) -> None:
        network = self._link.network
        if trio.current_time() < network.stalled_until:
            network.at(network.stalled_until, lambda: self._arrive(sent_at, reply))
            return
        try:
            found = network.server.beat(self._member, self._page)
        except LeaseLost:
            found = None
        if reply < math.inf:
            network.after(reply, lambda: self._answered(sent_at, found))

    def _answered(self, sent_at: float, found: Report | None) -> None:
        process = self._link.process
        if self.ended or process.dead:
            return
        if process.stopped and not process.blocked:
            process.tell(lambda: self._answered(sent_at, found))
            return
        if trio.current_time() - sent_at > self._lease.heartbeat:
            return  # the connection of the heartbeat has timed out
        if found is None:
            self._trusted_until = 0.0
            return
        if self._trusted_until > 0.0:
            self._page = self._page + PAGE if len(found.wakes) == PAGE else 0
            self._trusted_until = renewed(self._trusted_until, sent_at, self._lease.ttl, self._lease.margin)
            self._trust()
            process.tell(lambda: self._report(found))
