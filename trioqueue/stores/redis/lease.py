"""Keeping a lease from a thread, so that a busy event loop does not lose it.

A handler that computes for five seconds stops every Trio task of its pod.  If the heartbeat were one of them, the pod
would lose its lease, another would run the same entity, and that would be the main cause of double work.  So a plain
thread with a redis-py connection of its own beats, for as long as the loop has ticked within `stall_limit`.

The thread and the loop share two floats.  The thread writes `trusted_until`, the loop writes `ticked_at`; each is
written by one side only.  The thread never moves a cancel scope's deadline: Trio would look at the old
deadline before it ran what a thread has queued, and cancel everything at the very moment the loop comes back.
"""

import contextlib
import logging
import threading
import time
import traceback
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from sys import _current_frames
from typing import Any

import redis
import redis.exceptions
import trio
from redis.backoff import NoBackoff
from redis.retry import Retry

from trioqueue.messages.policy import Lease
from trioqueue.protocol.lease import renewed, trusted_until
from trioqueue.stores.contract import CHUNK, PAGE, Member
from trioqueue.stores.redis.address import Address
from trioqueue.stores.redis.keys import Keys
from trioqueue.stores.redis.replies import LOST, Sieve, report
from trioqueue.stores.redis.scripts import script
from trioqueue.stores.reports import Report

logger = logging.getLogger("trioqueue.lease")

STALL_WARNING = 1.0
"""Seconds of a standing event loop after which the log says where it stands."""

LONGEST_END = 5.0
"""Seconds that the thread may need to end: longer than its connection's timeout."""


now = partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
"""Reads a clock that goes on while the machine sleeps, as other pods' clocks do; read for every command."""


class ThreadLease:
    """A lease that a thread keeps."""

    def __init__(
        self,
        address: Address,
        keys: Keys,
        member: Member,
        types: frozenset[str],
        lease: Lease,
        found: Callable[[Report], None],
        sieve: Sieve,
        joined_at: float,
    ) -> None:
        self._keys = keys
        self._member = member
        self._types = types
        self._lease = lease
        self._found = found
        self._sieve = sieve
        # Without retries: redis-py would spend up to 11 timeouts and ever longer pauses in one beat, which counts from
        # its first sending.  The next beat is the retry.
        self._client = address.sync_client(
            socket_timeout=lease.heartbeat,
            socket_connect_timeout=lease.heartbeat,
            protocol=3,
            retry=Retry(NoBackoff(), 0),
        )
        self._token = trio.lowlevel.current_trio_token()
        self._loop_thread = threading.get_ident()
        self._ended = threading.Event()
        self._page: int = 0
        # Written by the thread only (once before it starts): until when handlers may run, by `now()`.
        self._trusted_until = trusted_until(joined_at, lease.ttl, lease.margin)
        # Written by the loop only: when it was last seen alive, by `now()`.
        self._ticked_at = now()
        self._warned_at = 0.0
        self._thread = threading.Thread(
            target=self._keep, name=f"heartbeat {member.incarnation}", daemon=True
        )

    def left(self) -> float:
        """Says for how many seconds more the lease can be trusted."""
        return self._trusted_until - now()

    def peek(self) -> float:
        """Says the same: two floats are all that is read."""
        return self.left()

    def tick(self) -> None:
        """Notes that the event loop is alive."""
        self._ticked_at = now()

    def start(self) -> None:
        """Begins to beat."""
        self._thread.start()

    async def stop(self) -> None:
        """Ends the thread; cancelled or late, the thread ends by itself soon after."""
        self._ended.set()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + LONGEST_END):  # else a client leaks
            await trio.to_thread.run_sync(self._thread.join, LONGEST_END)

    # -------------------------------------------------------------------------------- in the thread
    def _keep(self) -> None:
        beat = script("beat")
        keys = [
            *self._keys.common,
            self._keys.later[0],
            *(self._keys.placement(t)[1] for t in sorted(self._types)),
        ]
        try:
            pause = 0.0
            while not self._ended.wait(pause):
                sent_at = now()
                stalled = sent_at - self._ticked_at
                if stalled > STALL_WARNING:
                    self._warn(stalled)
                if stalled <= self._lease.stall_limit:
                    self._beat(sent_at, beat.source, keys)
                pause = max(0.0, self._lease.heartbeat - (now() - sent_at))
                if self._trusted_until < now() - self._lease.ttl:
                    return  # refused, or not heard for so long that a new incarnation is due
        finally:
            self._client.close()

    def _beat(self, sent_at: float, source: str, keys: list[str]) -> None:
        asked_at = time.monotonic()
        try:
            answer: Any = self._client.eval(
                source,
                len(keys),
                *keys,
                self._keys.channel,
                *self._member,
                str(self._page),
                str(PAGE),
                str(CHUNK),
            )
        except redis.exceptions.RedisError as error:
            logger.warning(
                "heartbeat not confirmed: %s",
                type(error).__name__,
                extra={"event": "heartbeat_failed", "pod": self._member.incarnation},
            )
            return
        if isinstance(answer, bytes):
            assert answer in LOST, answer
            self._trusted_until = 0.0
            return
        strays = [stray for names in answer[1:4] for stray in self._sieve.sift(names)]
        found = report(answer, self._types, asked_at)
        self._page = self._page + PAGE if len(found.wakes) == PAGE else 0
        if self._trusted_until > 0.0:  # 0: a refusal is final
            self._trusted_until = renewed(self._trusted_until, sent_at, self._lease.ttl, self._lease.margin)
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._found, found)
        if strays:
            self._take_out(strays, keys)

    def _take_out(self, strays: list[bytes], keys: list[str]) -> None:
        """Removes what is no entity's name from the indexes that a beat reads; a failure leaves it to the next beat."""
        indexes = (self._keys.wake, self._keys.marked, *keys[len(self._keys.common) + 1 :])
        try:
            for index in indexes:
                self._client.zrem(index, *strays)
        except redis.exceptions.RedisError as error:
            logger.warning(
                "could not take out names that are no entity's: %s",
                type(error).__name__,
                extra={"event": "stray_name_left", "pod": self._member.incarnation},
            )

    def _warn(self, stalled: float) -> None:
        """Says once a stall, and again each time it has doubled, where the loop stands."""
        if stalled < self._warned_at * 2 and self._warned_at < stalled:
            return
        self._warned_at = stalled
        frame = _current_frames().get(self._loop_thread)
        where = "".join(traceback.format_stack(frame, limit=-1) if frame else ["unknown\n"]).strip()
        stack: list[traceback.FrameSummary] = traceback.extract_stack(frame) if frame else []
        inner = stack[-1] if stack else None
        logger.warning(
            "a handler blocks the event loop since %.1f s, no other entity of this pod moves: %s",
            stalled,
            f"{inner.name} in {inner.filename}:{inner.lineno}" if inner else where,
            extra={"event": "loop_stalled", "pod": self._member.incarnation, "stalled_s": stalled},
        )


@asynccontextmanager
async def keep_lease(
    address: Address,
    keys: Keys,
    member: Member,
    types: frozenset[str],
    lease: Lease,
    found: Callable[[Report], None],
    sieve: Sieve,
    *,
    joined_at: float,
) -> AsyncGenerator[ThreadLease, None]:
    """Keeps a lease until the block is left."""
    held = ThreadLease(address, keys, member, types, lease, found, sieve, joined_at)
    held.start()
    try:
        yield held
    finally:
        await held.stop()
