"""What the in-process store holds: mailboxes, pods, and what is known of senders."""

from collections import Counter, deque

import attrs

from trioqueue._names import Entity
from trioqueue.protocol.lifecycle import Mode
from trioqueue.stores.contract import PodInfo
from trioqueue.stores.reports import Queued


@attrs.define(eq=False)
class Mailbox:
    """One entity as the store holds it.

    Invariants: owner is None exactly in modes idle and ready; queue is empty in idle, not empty in ready and active;
    due_us is None unless the head waits; attempts, crashes, marked and unknown_since_us concern the head alone.
    The queue holds first what workers have fetched, then the urgent commands, then the others.
    """

    mode: Mode = Mode.IDLE
    owner: str | None = None
    epoch: int = 0
    done: int = 0
    fetched: int = 0  # how far workers have read, in the count of `done`
    eager: bool = False  # the owner's worker is told of each command that comes while it is awake
    queue: deque[Queued] = attrs.Factory(deque[Queued])
    attempts: int = 0
    crashes: int = 0  # pods that died while this was active
    proven: bool = False  # of these, one had nothing else in hand
    marked: str = (
        ""  # "alone" or "among others": taken from a dead owner while active, not counted as a crash yet
    )
    due_us: int | None = None
    unknown_since_us: int | None = None
    overruled: bool = (
        False  # an operator changed or held back what the owner's worker has fetched, or may still be told of
    )
    ready_since_us: int | None = None
    paused: tuple[int, str] | None = None  # since when, and why, it is held back
    # When a sender was refused last, and how many commands it allows; forgotten with the last command.
    full: tuple[int, int] | None = None
    # Command id -> when; cleared with the last command at the latest.
    cancels: dict[str, int] = attrs.Factory(dict[str, int])

    def add(self, queued: Queued) -> None:
        """Puts a command into its lane."""
        if not queued.urgent:
            self.queue.append(queued)
            return
        place = max(0, self.fetched - self.done)
        while place < len(self.queue) and self.queue[place].urgent:
            place += 1
        self.queue.insert(place, queued)

    def hand_out(self, batch: tuple[Queued, ...]) -> tuple[Queued, ...]:
        """Notes that a worker gets the first commands: from now on none is put in front of them."""
        if batch:
            self.fetched = max(self.fetched, self.done + len(batch))
        return batch

    def moved_on(self, count: int) -> None:
        """Notes that so many commands left the beginning, or (below 0) were put there, without being settled."""
        self.fetched = max(self.fetched, self.done) - count

    def is_suspect(self) -> bool:
        """Says whether the head is handed out alone.

        One death among others may be anybody's fault, and most are nobody's; after two, it must be found out whose.
        """
        return self.crashes > 1 or self.proven

    def settle_head(self) -> None:
        """Forgets what was noted about a head that has left."""
        self.attempts = self.crashes = 0
        self.proven, self.marked = False, ""
        self.due_us = self.unknown_since_us = None


@attrs.define(eq=False)
class Pod:
    """One registered incarnation.  `leaving`: its reap has begun, it takes and asks nothing any more."""

    info: PodInfo
    renewed_us: int
    room: int
    leaving: bool = False
    suspect: Entity | None = None
    owns: set[Entity] = attrs.Factory(set[Entity])  # exactly the mailboxes whose owner is this incarnation
    loads: Counter[str] = attrs.Factory(Counter[str])  # of these, how many of each type


@attrs.define(eq=False)
class Producer:
    """What is known of one sender's sequence numbers: `gaps` lie between and were never seen."""

    low: int = 1
    high: int = 0
    gaps: set[int] = attrs.Factory(set[int])
    voided: set[int] = attrs.Factory(set[int])  # of the numbers from `low` on

    def takes(self, low: int, sequence: int) -> bool:
        """Tells a new group from a repeated one, and notes its number.

        Without the numbers between (a plain "last number"), a group that is overtaken by a later one would count as its
        repetition and be lost; without the lowest unsettled one, the gaps would grow without bound.
        """
        if low > self.low:
            self.low = low
            self.gaps = {number for number in self.gaps if number >= low}
            self.voided = {number for number in self.voided if number >= low}
        if sequence < self.low:
            return False
        if sequence > self.high:
            self.gaps.update(range(max(self.high + 1, self.low), sequence))
            self.high = sequence
            return True
        if sequence in self.gaps:
            self.gaps.remove(sequence)
            return True
        return False

    def is_new(self, low: int, sequence: int) -> bool:
        """Says whether a group of this number would be taken."""
        return sequence >= max(low, self.low) and (sequence > self.high or sequence in self.gaps)

    def void(self, sequence: int) -> bool:
        """Spends a group's number unless the group was taken; True: it was taken."""
        if sequence in self.voided:
            return False  # a copy of this request ran before, and its answer was lost
        if sequence <= self.high and sequence not in self.gaps:
            return True
        if sequence > self.high:
            self.gaps.update(range(max(self.high + 1, self.low), sequence))
            self.high = sequence
        self.gaps.discard(sequence)
        self.voided.add(sequence)
        return False
