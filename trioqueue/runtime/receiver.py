"""Callers that wait for an outcome, and how the outcome finds them."""

import math
from collections.abc import Awaitable, Callable

import trio

from trioqueue._errors import OutcomeUnknown, TrioqueueError

LOOK_EVERY = 1.0
"""Seconds between two looks for outcomes whose hint was lost; the age at which a caller is looked for."""

KEEP_MS = 60_000
"""How long an outcome is kept for its caller, whose hint may be lost.  Longer than any reconnection that goes unnoticed
by the caller; short, as at ten thousand calls a second each second of it holds ten thousand outcomes."""

PAGE = 500
"""Outcomes looked for in one round; the rest in the next."""


class Waiting:
    """One caller that waits for one command."""

    __slots__ = ("_task", "command_id", "looked", "outcome", "since")

    def __init__(self, command_id: str) -> None:
        self.command_id = command_id
        self.since = trio.current_time()  # when it is looked for again, one `LOOK_EVERY` later; -inf: at once
        self.looked = self.since  # when it was surely not settled yet
        # Invariant: not None exactly while the caller sleeps in `wait`.
        self._task: trio.lowlevel.Task | None = None
        self.outcome: bytes | TrioqueueError | None = None

    # Protected, since an interrupt between noting the task and its wait would leave a wake-up for one that runs.
    @trio.lowlevel.enable_ki_protection
    async def wait(self) -> bytes:
        """Waits for the outcome; cancelled: the outcome is lost to this caller."""
        if self.outcome is None:
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._leave)
        else:
            await trio.lowlevel.checkpoint()
        assert self.outcome is not None
        if isinstance(self.outcome, TrioqueueError):
            raise self.outcome
        return self.outcome

    def settle(self, outcome: bytes | TrioqueueError) -> None:
        """Hands the outcome over; only the first one counts."""
        if self.outcome is None:
            self.outcome = outcome
            if self._task is not None:
                trio.lowlevel.reschedule(self._task)
                self._task = None

    def _leave(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED


class Receiver:
    """All callers of one client that wait."""

    def __init__(self, read: Callable[[str], Awaitable[bytes | None]]) -> None:
        self._read = read
        self._waiting: dict[str, list[Waiting]] = {}  # by command id; no list is empty
        self._look = trio.Event()

    def expect(self, command_id: str, *, at_once: bool = False) -> Waiting:
        """Begins to wait; must come before the command is sent, or else look `at_once` whether it is settled."""
        waiting = Waiting(command_id)
        if at_once:
            waiting.since = -math.inf
            self._look.set()
        self._waiting.setdefault(command_id, []).append(waiting)
        return waiting

    def forget(self, waiting: Waiting) -> None:
        """Ends a wait."""
        others = self._waiting.get(waiting.command_id, [])
        if waiting in others:
            others.remove(waiting)
        if not others:
            self._waiting.pop(waiting.command_id, None)

    def deliver(self, command_id: str, outcome: bytes | None) -> None:
        """Takes a hint; None: the outcome is there, to be read."""
        for waiting in self._waiting.get(command_id, ()):
            if outcome is not None:
                waiting.settle(outcome)
            else:
                waiting.since = -math.inf
                self._look.set()

    def look_soon(self) -> None:
        """Takes note that hints may have been lost."""
        for waiting in self._all():
            waiting.since = -math.inf
        self._look.set()

    def close(self, error: TrioqueueError) -> None:
        """Ends all waits with an error."""
        for waiting in self._all():
            waiting.settle(error)

    def _all(self) -> list[Waiting]:
        return [waiting for of_command in self._waiting.values() for waiting in of_command]

    async def run(self) -> None:
        """Looks, for ever, for outcomes whose hints were lost."""
        while True:
            with trio.move_on_after(LOOK_EVERY):
                await self._look.wait()
            self._look = trio.Event()
            now = trio.current_time()
            due = [w for w in self._all() if w.outcome is None and now - w.since >= LOOK_EVERY]
            due.sort(key=lambda waiting: waiting.since)
            try:
                for waiting in due[:PAGE]:
                    await self._look_for(waiting)
            except TrioqueueError:
                continue  # the link is down; the next look is after the reconnection
            if len(due) > PAGE:
                self._look.set()

    async def _look_for(self, waiting: Waiting) -> None:
        now = trio.current_time()
        outcome = await self._read(waiting.command_id)
        if outcome is not None:
            waiting.settle(outcome)
        elif now - waiting.looked > KEEP_MS / 1000:
            # Nobody looked for longer than outcomes are kept: it may have come and gone.
            waiting.settle(OutcomeUnknown("the call", now - waiting.looked))
        waiting.since = waiting.looked = now
