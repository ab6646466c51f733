"""Asking until there is an answer: what makes a lost answer no matter."""

import random
import time
from typing import Any

import attrs

from trioqueue._errors import OutcomeUnknown, StoreUnavailable, TrioqueueError
from trioqueue.blocking.links import Links, NoAnswer
from trioqueue.stores.redis.scripts import Script
from trioqueue.stores.redis.transport import FIRST_PAUSE, LONGEST_PAUSE


@attrs.frozen
class Patience:
    """How long a thread waits: so many seconds, from when it was made."""

    seconds: float
    began: float = attrs.field(init=False, factory=time.monotonic)

    @property
    def give_up_at(self) -> float:
        """When it is over, on `time.monotonic`."""
        return self.began + self.seconds

    def left(self) -> float:
        """Says how many seconds are left; not above 0: none."""
        return self.give_up_at - time.monotonic()


class Question:
    """One call of a script, which is safe to repeat and is repeated until it is answered.

    `in_doubt`: A copy was written and not answered.  The server has carried it out, or never will, or, where the copy
    lies unread in its buffers, is still to.
    """

    def __init__(self, links: Links, what: Script, packed: bytes) -> None:
        self._links, self._what, self._packed = links, what, packed
        self.in_doubt = False

    def ask(self, patience: Patience) -> Any:
        """Returns the server's answer.

        Raises:
            StoreUnavailable: There was no connection the whole time; nothing was written.
            OutcomeUnknown: Something was.
            redis.exceptions.ResponseError: The server refused it; if that is of no effect, only `in_doubt` tells.
            Closed: The sender was closed meanwhile.
        """
        pause = FIRST_PAUSE
        while True:
            try:
                return self._links.call(self._what, self._packed, patience.give_up_at)
            except NoAnswer as error:
                self.in_doubt = True
                doubt: Exception = error
            except TrioqueueError as error:
                # A refused password too: passwords are changed, and the server may get its turn later.
                doubt = error
            self._links.check_open()
            left = patience.left()
            if left <= 0:
                raise self._given_up(patience.seconds) from doubt
            self._links.ended.wait(min(left, pause * random.uniform(0.5, 1.0)))
            pause = min(2 * pause, LONGEST_PAUSE)

    def _given_up(self, seconds: float) -> TrioqueueError:
        if self.in_doubt:
            return OutcomeUnknown("what was asked of it", seconds)
        return StoreUnavailable(str(self._links.address), f"not for {seconds:g} s; nothing was sent")
