"""Hearing hints: a daemon thread with a connection of its own, started when somebody first waits for an outcome.

Hints may be lost, so nothing depends on this thread but speed: while it hears nothing, those who wait look for
themselves (`answers.py`), and after each new connection it has all of them look.
"""

import logging
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import redis.exceptions

from trioqueue._errors import TrioqueueError
from trioqueue.blocking.links import REPLY_TIMEOUT, Connection, Links, NoAnswer
from trioqueue.stores.redis.replies import hint_of
from trioqueue.stores.redis.resp import pack
from trioqueue.stores.redis.transport import FIRST_PAUSE, LONGEST_PAUSE
from trioqueue.stores.reports import Hint

logger = logging.getLogger("trioqueue.blocking")

BREATH = 1.0
"""Seconds that it listens before it looks whether it is to end, where it can't be told so."""

LONGEST_END = REPLY_TIMEOUT + BREATH
"""Seconds that the thread may need to end: it may be about to connect."""


class Listener:
    """The thread.  `start` and `stop` are called under one lock, each once."""

    def __init__(
        self, links: Links, channel: str, hear: Callable[[Hint], None], connected: Callable[[], None]
    ) -> None:
        self._links = links
        self._channel = channel
        self._greeting = links.greeting((channel,))
        self._hear, self._connected = hear, connected
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"trioqueue {channel}", daemon=True)

    def start(self) -> None:
        """Begins to listen, without waiting until it does."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread and waits until it has ended."""
        self._ended.set()
        # An empty message is no hint, and wakes the thread.
        with suppress(TrioqueueError, NoAnswer, redis.exceptions.ResponseError):
            self._links.ask(pack(("PUBLISH", self._channel, b"")), time.monotonic() + BREATH)
        self._thread.join(LONGEST_END)

    # ------------------------------------------------------------------ in the thread
    def _run(self) -> None:
        pause = FIRST_PAUSE
        warned = False
        while not self._ended.is_set():
            try:
                connection = self._links.open(self._greeting, time.monotonic() + REPLY_TIMEOUT)
            except TrioqueueError as error:
                doubt: Exception = error
            else:
                warned = False
                self._connected()
                try:
                    self._listen(connection)
                    return
                except redis.exceptions.RedisError as error:
                    doubt = error
                finally:
                    connection.disconnect()
            if not warned:
                warned = True
                logger.warning(
                    "no hints are heard (%s), so outcomes are found later than they could be",
                    type(doubt).__name__,
                    extra={"event": "hints_lost"},
                )
            self._ended.wait(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, LONGEST_PAUSE)

    def _listen(self, connection: Connection) -> None:
        """Passes hints on until it is told to end; raises redis-py's error when the connection has ended."""
        while not self._ended.is_set():
            try:
                push: Any = connection.read_response(
                    timeout=BREATH, push_request=True, disconnect_on_error=False
                )
            except redis.exceptions.TimeoutError:
                continue
            if push[0] == b"message" and (hint := hint_of(push[2])):
                self._hear(hint)
