"""Workers that rest without work, and the task that ends their rests.

Ten thousand of them rest at once, and a busy one rests many times a second.  Each rest is as long as any other of its
kind, so they end in the order in which they began, and that is all that has to be kept: no deadline for each.
"""

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from trioqueue.runtime.worker import Worker


class Resting:
    """Those who rest for `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        # Who rests, and until when, on Trio's clock; in that order.
        self._until: dict[Worker, float] = {}
        # Set by a rest that begins while nobody rests; None unless the task waits for that.
        self._begun: trio.Event | None = None

    def __repr__(self) -> str:
        return f"<Resting {len(self._until)} for {self._seconds:g} s each>"

    def begin(self, worker: "Worker") -> None:
        """Notes that a worker rests from now on."""
        self._until[worker] = trio.current_time() + self._seconds
        if self._begun is not None:
            self._begun.set()

    def end(self, worker: "Worker") -> None:
        """Notes that a worker does not rest any more, if it did."""
        self._until.pop(worker, None)

    async def run(self) -> None:
        """Tells workers that their rest is over, for ever."""
        while True:
            if not self._until:
                self._begun = trio.Event()
                await self._begun.wait()
                self._begun = None
            # Who ends a rest meanwhile needs no wake-up of this task: those that are left end no sooner.
            await trio.sleep_until(next(iter(self._until.values()), 0.0))
            now = trio.current_time()
            while self._until:
                worker, until = next(iter(self._until.items()))
                if until > now:
                    break
                del self._until[worker]
                worker.end_rest()
