"""Putting commands into their mailboxes, each group once, from any number of threads.

A sender is one producer, whichever thread sends: its groups are numbered under one lock, and the store takes each
number once, in whatever order they arrive.  With each group travels the lowest number that is not settled, below which
the store forgets.  It is read under the lock that gives the numbers, so it never passes a number that some thread is
still on its way with.  A thread that an exception drives out settles its number as it leaves: a copy that still arrives
is then taken if the store has seen no later number, and else dropped, which is what "unknown" means.  If a number was
never settled, the store would remember the gaps above it for a day, and nothing else would be wrong.
"""

import threading
from collections.abc import Generator
from contextlib import contextmanager

import redis.exceptions

from trioqueue._errors import AccessDenied, OutcomeUnknown
from trioqueue.blocking.links import Links
from trioqueue.blocking.questions import Patience, Question
from trioqueue.stores.contract import Group
from trioqueue.stores.redis.keys import Keys
from trioqueue.stores.redis.replies import send_answer, user_error, words_of
from trioqueue.stores.redis.scripts import script
from trioqueue.stores.redis.send_load import SendLoad


class Delivery:
    """One producer, for all threads of a sender."""

    def __init__(self, links: Links, keys: Keys, producer: str) -> None:
        self._links, self._keys, self._producer = links, keys, producer
        self._send, self._void = script("send"), script("void")
        self._numbering = threading.Lock()
        # Both are read and written under the lock only.
        self._sequence = 0
        self._unsettled: dict[int, None] = {}  # numbers given out and not settled, oldest first

    def send(self, group: Group, patience: Patience) -> None:
        """Puts a group into its mailboxes, as `Store.send` does.

        Raises:
            StoreFull, MailboxFull, PayloadTooLarge, AccessDenied, Incompatible: Nothing of it was taken, nor will be.
            StoreUnavailable: Likewise, as nothing was sent or the server can't take it now.
            OutcomeUnknown: No answer came in time.
            Closed: The sender was closed while there was none.
        """
        with self._number(group) as low:
            load = SendLoad(self._keys, self._producer, {})
            load.add(group)
            keys = load.keys()
            packed = self._send.call(self._keys, keys, load.arguments(low, None))
            question = Question(self._links, self._send, packed)
            refusal = self._refusal(group, question, patience)
            if refusal is None:
                return
            # An earlier copy may have been taken, or still be; a denial may have stopped the script behind the noting
            # of the number and before the push.
            taken = question.in_doubt and self._was_taken(group, low, patience)
            if not taken or isinstance(refusal, AccessDenied):
                raise refusal

    def _refusal(self, group: Group, question: Question, patience: Patience) -> Exception | None:
        """Asks, and says why the group was refused; None: it is taken."""
        try:
            words = words_of(question.ask(patience))
        except redis.exceptions.ResponseError as error:
            return user_error(error, str(self._links.address))
        answer = send_answer(group, words[0])
        return answer if isinstance(answer, Exception) else None

    def _was_taken(self, group: Group, low: int, patience: Patience) -> bool:
        """Spends the number of a refused group: after it no copy that is still under way counts."""
        keys = self._keys.sequences(self._producer)
        packed = self._void.call(self._keys, keys, [low, group.sequence])
        try:
            return bool(Question(self._links, self._void, packed).ask(patience) == b"ACCEPTED")
        except redis.exceptions.ResponseError as error:
            raise OutcomeUnknown("what was asked of it", patience.seconds) from error

    @contextmanager
    def _number(self, group: Group) -> Generator[int]:
        """Numbers a group for as long as it is asked for, and gives the lowest number that is."""
        with self._numbering:
            self._sequence += 1
            group.sequence = self._sequence
            self._unsettled[group.sequence] = None
            low = next(iter(self._unsettled))
        try:
            yield low
        finally:
            with self._numbering:
                del self._unsettled[group.sequence]
