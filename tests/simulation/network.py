"""What lies between a pod and its server, and a store's client that copes with it.

Everything that happens in the network happens at a time, in one order, in one task.  Requests of one client arrive in
the order in which they were made, as on one connection, unless they had to be repeated.
"""

import heapq
import itertools
import math
import traceback
from collections.abc import Callable
from random import Random
from typing import Any, TypeVar

import attrs
import trio

from trioqueue import OutcomeUnknown
from trioqueue.stores.contract import (
    LeaseLost,
)
from trioqueue.stores.memory.mailboxes import Quarantined
from trioqueue.stores.memory.store import QUARANTINE_POLL
from trioqueue.stores.reports import Hint

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
