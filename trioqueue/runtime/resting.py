"""How workers rest, and what ends a rest.

A worker rests *parked*, when its entity has no work, or because its head waits: then no hint starts that earlier.
Where it has nothing open, it dozes when it is parked: its task has ended, and what wakes it starts another one.  To
start a task takes some microseconds more than to wake one, and a pod may hold tens of thousands that rest.

Each rest without work is as long as any other of its kind, so they end in the order in which they began, and that is
all that `Parking` keeps: no deadline for each.  Others, such as that of an entity that is kept awake, have their own.
"""

import math
from typing import TYPE_CHECKING, Any

import trio

if TYPE_CHECKING:
    from trioqueue.runtime.worker import Worker

OVER = "over"
"""In place of what woke a worker: its rest was over."""

AT_ONCE = 250
"""Rests that are ended before other tasks have their turn: to let go of ten thousand entities takes a pod a second."""


class Rest:
    """The rest of one worker.

    What wakes it may bring something: the answer of a claim.  Between its wake-up and its next rest, it is not woken
    again: what it is told meanwhile, `hinted` keeps.
    """

    __slots__ = (
        "_cause",
        "_parking",
        "_scope",
        "_task",
        "_worker",
        "claiming",
        "dozes",
        "hinted",
        "parked",
        "rested",
    )

    def __init__(self, worker: "Worker") -> None:
        self._worker = worker
        # What ends its rest; None: a claim does, or it does not rest there.
        self._parking: Parking | None = None
        # Which task rests; not None exactly while it may be woken, by setting it to None and rescheduling.
        self._task: trio.lowlevel.Task | None = None
        self.dozes = False  # it rests without a task
        # For how many seconds it rested without work when it last did, with the nap before a doze.
        self.rested = 0.0
        # What ends a rest of its own length; its deadline is moved away while a claim is on its way.
        self._scope: trio.CancelScope | None = None
        self._cause: Any = None  # what woke it
        self.parked = False  # True: a hint may end the rest
        self.claiming = False  # a send's claim is under way for it: nobody else asks meanwhile
        self.hinted = False  # told of work; cleared by each claim

    def __repr__(self) -> str:
        state = "parked" if self.parked else "at work" if self._task is None else "waiting"
        return f"<Rest {state}{', hinted' if self.hinted else ''}>"

    # -------------------------------------------------------------------------------- from outside, sync
    def is_parked(self) -> bool:
        """Says whether it rests without work, and nothing is on its way to it."""
        return self.parked and not self.claiming and (self.dozes or self._task is not None)

    def wake(self) -> bool:
        """Wakes it; False: it does not rest, or a claim is on its way to it."""
        return not self.claiming and self.end(None)

    def end(self, cause: Any) -> bool:
        """Ends its rest, if it rests; False: it doesn't."""
        task, self._task = self._task, None
        if task is not None:
            self._cause = cause
            trio.lowlevel.reschedule(task)
        elif self.dozes:
            self.forget()
            self._worker.rise(cause)
        else:
            return False
        return True

    def hint(self) -> None:
        """Tells it that there may be work."""
        self.hinted = True
        if self.parked:
            self.wake()

    def look(self) -> None:
        """Tells it that what it waits for may be over."""
        self.hinted = True
        self.wake()

    def reserve(self) -> bool:
        """Keeps it at rest for a claim that a send brings; False: it is busy and finds the work by itself."""
        if self.claiming or self._worker.started and (not self.parked or self._task is None):
            return False
        self.claiming = True
        self._leave_parking()
        if self._scope is not None:
            self._scope.deadline = math.inf
        return True

    def take_claim(self, answer: object) -> None:
        """Gives it the claim that `reserve` announced."""
        # What it was told of, the claim has looked for; what it is told of from now on, it has not.
        self.claiming = self.hinted = False
        if not self.end(answer):
            self.hinted = True  # it was woken by something else: what the claim found, it looks for itself

    def lengthen(self, seconds: float) -> bool:
        """Has a rest of its own length last so long from now on; False: this one is not."""
        if self._scope is not None:
            self._scope.deadline = trio.current_time() + seconds
        return self._scope is not None

    def forget(self) -> None:
        """Ends a doze for good."""
        self.dozes = self.parked = False
        self._leave_parking()

    # -------------------------------------------------------------------------------- its own
    def doze(self, parking: "Parking", napped: float = 0.0) -> None:
        """Notes that it rests without work from now on, after a nap of so many seconds, and its task ends."""
        self.dozes = self.parked = True
        self._enter(parking, napped)

    # Protected, since an interrupt between noting the task and its wait would leave a wake-up for one that runs.
    @trio.lowlevel.enable_ki_protection
    async def park(self, parking: "Parking") -> Any:
        """Rests without work, with its task; answers what ended that."""
        if self.hinted:
            return None
        self._enter(parking)
        self.parked, self._task = True, trio.lowlevel.current_task()
        try:
            await trio.lowlevel.wait_task_rescheduled(self._leave)
        finally:
            self.parked = False
            self._leave_parking()
        return self._take_cause()

    @trio.lowlevel.enable_ki_protection
    async def last(self, seconds: float, *, parked: bool) -> Any:
        """Rests for so long; answers what ended that."""
        if parked and self.hinted:
            return None
        with trio.CancelScope(deadline=trio.current_time() + seconds) as self._scope:
            self.parked, self._task = parked, trio.lowlevel.current_task()
            try:
                await trio.lowlevel.wait_task_rescheduled(self._leave)
            finally:
                self.parked, self._scope = False, None
            return self._take_cause()
        return OVER

    def _enter(self, parking: "Parking", rested: float = 0.0) -> None:
        self._parking, self.rested = parking, rested
        parking.enter(self)

    def _leave_parking(self) -> None:
        if self._parking is not None:
            self.rested += self._parking.leave(self)
            self._parking = None

    def _take_cause(self) -> Any:
        cause, self._cause = self._cause, None
        return cause

    def _leave(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED


class Parking:
    """Ends the rests of those who rest for `seconds` without work."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        # Who rests, and until when, on Trio's clock; in that order.
        self._until: dict[Rest, float] = {}
        # Set by a rest that begins while nobody rests; None unless the task waits for that.
        self._begun: trio.Event | None = None

    def __repr__(self) -> str:
        return f"<Parking {len(self._until)} for {self._seconds:g} s each>"

    def enter(self, rest: Rest) -> None:
        """Notes that a rest begins."""
        self._until[rest] = trio.current_time() + self._seconds
        if self._begun is not None:
            self._begun.set()

    def leave(self, rest: Rest) -> float:
        """Notes that it is not to be ended any more; says for how many seconds it has lasted."""
        until = self._until.pop(rest, None)
        return self._seconds if until is None else self._seconds - (until - trio.current_time())

    async def run(self) -> None:
        """Ends rests that have lasted long enough, for ever."""
        while True:
            if not self._until:
                self._begun = trio.Event()
                await self._begun.wait()
                self._begun = None
            # Those that begin meanwhile end later, so nobody has to wake this task for them.
            await trio.sleep_until(next(iter(self._until.values()), 0.0))
            now = trio.current_time()
            for _ in range(min(AT_ONCE, len(self._until))):
                rest, until = next(iter(self._until.items()))
                if until > now:
                    break
                del self._until[rest]
                rest.end(OVER)
