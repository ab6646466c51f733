"""The unanswered requests of one connection, in order.  No I/O: the transport acts on what is decided here."""

from collections import deque
from collections.abc import Callable
from typing import TypeAlias

import attrs

Deliver: TypeAlias = Callable[[object], None]
"""Takes a reply, or an exception instance.  Called once, synchronously; it must not raise."""


@attrs.define(eq=False)
class Request:
    """One command, packed, and who waits for its reply."""

    packed: bytes = attrs.field(repr=False)  # what travels is not for logs
    deliver: Deliver
    server: str | None
    """Run id of the only server it may be sent to; None: any."""
    since: float
    """`time.monotonic()` when it was added."""
    written: bool = False
    """It was in flight when a link was lost, or an earlier copy was sent, so it may have been carried out.  Once it is
    queued, only `take_back` writes this."""
    elsewhere: Callable[[], bytes] | None = attrs.field(default=None, repr=False)
    """Packs what is sent to another server in its place; None: nothing is."""


class Backlog:
    """Everything that has no reply yet.

    Invariant: `in_flight` and then `queue` are all unanswered requests, oldest first.  A request moves to `in_flight`
    before its first byte is sent, and back, to the front of the queue, only when its link is no more.
    """

    __slots__ = ("in_flight", "queue", "strays")

    def __init__(self) -> None:
        self.queue: list[Request] = []
        self.in_flight: deque[Request] = deque()
        """The reader alone takes from its left, once for each reply."""
        self.strays = False
        """False only if everything queued may go to the current server.  Set by who adds, cleared by `turn_away`."""

    def take(self) -> list[Request]:
        """Moves everything queued to in flight, and returns it."""
        batch, self.queue = self.queue, []
        self.in_flight.extend(batch)
        return batch

    def take_back(self) -> None:
        """Moves everything in flight to the front of the queue: its link is lost."""
        for request in self.in_flight:
            request.written = True
        self.queue[:0] = self.in_flight
        self.in_flight.clear()

    def turn_away(self, server: str) -> list[Request]:
        """Removes from the queue, and returns, what may not be sent to this server; what may in another form, stays."""
        self.strays = False
        strays = [request for request in self.queue if request.server not in (None, server)]
        for request in strays:
            if request.elsewhere is not None:
                request.packed, request.server, request.elsewhere = request.elsewhere(), None, None
        strays = [request for request in strays if request.server is not None]
        if strays:
            self.queue = [request for request in self.queue if request.server in (None, server)]
        return strays

    def give_up(self, older_than: float) -> list[Request]:
        """Removes from the queue, and returns, what was added before this time."""
        count = 0
        while count < len(self.queue) and self.queue[count].since <= older_than:
            count += 1
        given_up, self.queue = self.queue[:count], self.queue[count:]
        return given_up

    def clear(self) -> list[Request]:
        """Removes everything and returns it, oldest first."""
        left = [*self.in_flight, *self.queue]
        self.in_flight.clear()
        self.queue = []
        return left
