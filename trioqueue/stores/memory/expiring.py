"""What the in-process store keeps for a time only: outcomes, and what idempotency keys stand for."""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Expiring(dict[K, tuple[int, V]], Generic[K, V]):
    """Key -> (until when, value).  What is past its time is dropped when something is added; until then it is there."""

    def __init__(self, now_us: Callable[[], int]) -> None:
        super().__init__()
        self._now_us = now_us
        self._ends: list[
            tuple[int, int, K]
        ] = []  # heap of (until, number, key), those of overwritten ones included
        self._count = 0

    def keep(self, key: K, until_us: int, value: V) -> None:
        """Keeps something."""
        now = self._now_us()
        while self._ends and self._ends[0][0] <= now:
            _, _, old = heappop(self._ends)
            if old in self and self[old][0] <= now:
                del self[old]
        self[key] = (until_us, value)
        self._count += 1
        heappush(self._ends, (until_us, self._count, key))

    def kept(self, key: K) -> V | None:
        """Gives what is kept and not past its time."""
        entry = self.get(key)
        return entry[1] if entry and entry[0] > self._now_us() else None
