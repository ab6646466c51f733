"""Threads that wait for outcomes, and how an outcome finds them.

An outcome is kept in the store, whether its hint is heard or not.  So whoever waits is told by a hint, or looks
for itself: when a hint says no more than that the outcome is there, after each new connection of the listener, and
every second.
"""

import threading
import time

import redis.exceptions

from trioqueue._errors import Closed, OutcomeUnknown, TrioqueueError
from trioqueue.blocking.links import CLOSED, Links, NoAnswer
from trioqueue.blocking.listener import Listener
from trioqueue.runtime.receiver import KEEP_MS, LOOK_EVERY
from trioqueue.stores.redis.keys import Keys
from trioqueue.stores.redis.replies import user_error
from trioqueue.stores.redis.resp import pack
from trioqueue.stores.reports import Answered, Hint

LAST_WORDS = 0.5
"""Seconds that one look may take, and so by how much it may delay who has no time left."""


class Waiting:
    """One thread that waits for one command."""

    __slots__ = ("command_id", "looked", "outcome", "told")

    def __init__(self, command_id: str) -> None:
        self.command_id = command_id
        self.looked = (
            time.monotonic()
        )  # when it was surely not settled yet; only the thread that waits writes it
        self.told = threading.Event()  # set: there is something to see, in `outcome` or in the store
        self.outcome: bytes | None = None  # not None only once `told` has been set


class Answers:
    """All threads of one sender that wait."""

    def __init__(self, links: Links, keys: Keys, client: str) -> None:
        self._links, self._keys = links, keys
        self._listener = Listener(links, keys.channel + client, self._hear, self._tell_all)
        self._lock = threading.Lock()
        # All three are written under the lock only.
        self._waiting: dict[str, list[Waiting]] = {}  # by command id; no list is empty
        self._listening = False
        self._closed = False

    def expect(self, command_id: str, *, at_once: bool = False) -> Waiting:
        """Begins to wait; must come before the command is sent, or else look `at_once` whether it is settled."""
        waiting = Waiting(command_id)
        if at_once:
            waiting.told.set()
        with self._lock:
            if self._closed:
                raise Closed(CLOSED)
            if not self._listening:
                self._listener.start()
                self._listening = True
            self._waiting.setdefault(command_id, []).append(waiting)
        return waiting

    def forget(self, waiting: Waiting) -> None:
        """Ends a wait; twice is once."""
        with self._lock:
            others = self._waiting.get(waiting.command_id, [])
            if waiting in others:
                others.remove(waiting)
            if not others:
                self._waiting.pop(waiting.command_id, None)

    def wait(self, waiting: Waiting, until: float) -> bytes | None:
        """Returns the outcome; None: it is not there by then, on `time.monotonic`, nor at a last look.

        Raises:
            OutcomeUnknown: The store was out of reach for longer than it keeps outcomes.
            AccessDenied, Incompatible, StoreUnavailable: It does not let us look.
            Closed: The sender was closed.
        """
        while True:
            now = time.monotonic()
            waiting.told.wait(max(0.0, min(LOOK_EVERY, until - now)))
            waiting.told.clear()  # first, so that what is told from here on is seen by the next look
            if waiting.outcome is None:
                waiting.outcome = self._read(waiting)
            if waiting.outcome is not None:
                return waiting.outcome
            if now >= until:
                return None

    def _read(self, waiting: Waiting) -> bytes | None:
        """Looks into the store; while that is out of reach, it finds nothing."""
        if self._closed:
            raise Closed(CLOSED)
        now = time.monotonic()
        try:
            found: bytes | None = self._links.ask(
                pack(("GET", self._keys.result(waiting.command_id))), now + LAST_WORDS
            )
        except redis.exceptions.ResponseError as error:
            raise user_error(error, str(self._links.address)) from error
        except (TrioqueueError, NoAnswer):
            return None
        if found is None and now - waiting.looked > KEEP_MS / 1000:
            # Nobody could look for longer than outcomes are kept: it may have come and gone.
            raise OutcomeUnknown("the call", now - waiting.looked)
        waiting.looked = now
        return found

    # ------------------------------------------------------------------ from the listener's thread
    def _hear(self, hint: Hint) -> None:
        if isinstance(hint, Answered):
            with self._lock:
                for waiting in self._waiting.get(hint.command_id, ()):
                    waiting.outcome = hint.outcome or waiting.outcome
                    waiting.told.set()

    def _tell_all(self) -> None:
        with self._lock:
            for of_command in self._waiting.values():
                for waiting in of_command:
                    waiting.told.set()

    def close(self) -> None:
        """Ends all waits with `Closed`, and the listener; twice is once."""
        with self._lock:
            stop, self._closed = self._listening and not self._closed, True
        self._tell_all()
        if stop:
            self._listener.stop()
