"""Noticing that a server no longer answers, without a timer for each request.

The watch sleeps for as long as silence is still allowed, looks again, and sleeps on; with nothing in flight it is
parked, until the next request wakes it.  So a busy connection costs one look each `limit` seconds, an idle one nothing.
"""

import time
from collections import deque

import trio

from trioqueue.stores.redis.backlog import Request
from trioqueue.stores.redis.parking import Bench
from trioqueue.stores.redis.wire import Wire


class SilenceWatch:
    """Finds that requests are in flight and no byte has moved for `limit` seconds.

    Silence counts from the last sign of life and not from when the oldest request was written: a server that works off
    a long queue must not be sent it all once more.  Redis sends its answers only when it has worked off all that it
    had read, up to 16 KiB of requests, so `limit` must be longer than a hundred scripts may take.
    """

    def __init__(self, in_flight: deque[Request], limit: float) -> None:
        self._in_flight = in_flight
        self._limit = limit
        self._bench = Bench()
        # `time.monotonic()` of the last write that found nothing in flight.
        self._asked_at = 0.0

    def begin(self) -> None:
        """To be called by a write that finds nothing in flight: silence counts from now."""
        self._asked_at = time.monotonic()
        self._bench.wake()

    def is_parked(self) -> bool:
        """Says whether `begin` will wake a task."""
        return self._bench.is_taken()

    async def wait(self, wire: Wire) -> str:
        """Waits until this wire has been silent for too long, and says so."""
        while True:
            if not self._in_flight:
                await self._bench.sit()
            if self._silence(wire) >= self._limit:
                # It may be this process that stood still: what came in meanwhile is read before anyone is blamed.
                await trio.lowlevel.checkpoint()
                if self._in_flight and self._silence(wire) >= self._limit:
                    return f"no answer for {self._limit:g} s"
            await trio.sleep(max(self._limit - self._silence(wire), 0.0))

    def _silence(self, wire: Wire) -> float:
        return time.monotonic() - max(self._asked_at, wire.moved_at)
