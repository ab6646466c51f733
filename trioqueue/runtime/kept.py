"""How long a worker keeps its entity awake though there is no work."""

import math

import trio


class Kept:
    """What a worker knows of being kept awake.

    `opened`, where it is asked for: the worker is inside of the activation.
    """

    __slots__ = ("_closed_until", "_until")

    def __init__(self) -> None:
        self._until = -math.inf  # until when it is kept awake; passed: it isn't
        # Until when a failed activation is not tried again for the sake of being awake alone.
        self._closed_until = -math.inf

    def keep(self, seconds: float) -> None:
        """Keeps it awake for so long."""
        self._until = max(self._until, trio.current_time() + seconds)

    def end(self) -> None:
        """Keeps it awake no more."""
        self._until = -math.inf

    def left(self) -> float:
        """Says for how many seconds it is kept awake; 0: it isn't."""
        return max(0.0, self._until - trio.current_time())

    def failed(self, seconds: float) -> None:
        """Takes note that the activation is not to be tried again for so long without work."""
        self._closed_until = trio.current_time() + seconds

    def wants_to_open(self, *, opened: bool) -> bool:
        """Says whether the activation is to be entered without work."""
        return not opened and self.left() > 0 and trio.current_time() >= self._closed_until

    def longest_rest(self, idle_timeout: float, *, opened: bool) -> float:
        """Says for how many seconds to rest without work: until it has been idle for long enough, or may open again."""
        left = self.left()
        if opened or not left:
            return left + idle_timeout
        return max(0.0, self._closed_until - trio.current_time())
