"""What the store, the pods and the checker know: plain values, so that equal situations are equal states."""

from typing import Any, NamedTuple, TypeVar

import attrs

IDLE, READY, PARKED, ACTIVE = "idle", "ready", "parked", "active"

FUTURE, PAST, FAR, EARLY = "future", "past", "far", "early"
"""Where a head's due time lies.  Far: further than any wait, as the clock was set back.  Early: it was forgotten before
it came, which no script does."""

Inc = tuple[int, int]
"""An incarnation: its pod, and the number that its join gave."""

ALONE, AMONG = "alone", "among others"
"""How a head was in the hands of a pod that died: as its suspect, or as one of all."""

FAULTS = (
    "cut",  # an answer is lost or late, and the request asked again
    "forget",  # a request's caller is cancelled, and nobody asks again; the request may still run
    "kill",
    "expire",  # a pod loses its lease by itself
    "freeze",  # a pod stands still past its lease
    "fail",  # a handler fails
    "put_off",  # an activation fails
    "handoff",
    "drain",
    "cancel",  # a caller goes away
    "full",  # the store has no memory for a send
    "void_lost",  # the answer to a void is lost, and it is asked again
    "give_up",  # a sender gets no answer and gives up
    "restart",  # a pod is started
    "failover",
    "back",  # the store's clock is set back
)


class Mail(NamedTuple):
    """One entity: its hash, its mailbox, and its entries in the indices."""

    mode: str = IDLE
    owner: Inc | None = None
    epoch: int = 0
    done: int = 0
    q: tuple[int, ...] = ()
    due: str | None = None
    tries: int = 0  # failures of the head
    crash: int = 0  # deaths of pods that had the head in hand
    proven: bool = False  # in one of them the head was the suspect
    mark: str = ""  # taken from a silent owner while active, not counted yet
    wake: Inc | None = None
    cancels: frozenset[int] = frozenset()

    def is_suspect(self) -> bool:
        """Says whether the head is handed out alone.

        One death among others may be anybody's fault; after two it must be found out whose.
        """
        return bool(self.q) and (self.crash > 1 or self.proven)


class Store(NamedTuple):
    """All that the scripts read and write."""

    mails: tuple[Mail, ...]
    pods: frozenset[Inc] = frozenset()
    leaving: frozenset[Inc] = frozenset()  # of these, the ones whose reap has begun
    retired: frozenset[Inc] = frozenset()  # of these, the ones that have no room any more
    suspects: frozenset[tuple[Inc, int]] = frozenset()  # the suspect that a pod has in hand
    low: int = 1  # of the producer's sequence numbers
    high: int = 0
    gaps: frozenset[int] = frozenset()
    voided: frozenset[int] = frozenset()
    floor: int = 0
    counter: int = 0  # incarnations so far
    joined: tuple[tuple[int, Inc] | None, ...] = ()  # per pod: ticket and incarnation of its last join
    run: int = 0  # which server this is
    gen: int = 0  # which server the last join found
    since: int = 0  # number of the first incarnation that joined it
    quarantine: bool = False


class Pod(NamedTuple):
    """A process.  `desk`: one slot for each entity.

    Slots: None | (PARKED, epoch) | (BACKOFF, epoch) | (LATER, epoch) | (RUN, Turn) | (WAIT, request, back), where an
    epoch of None was never claimed and `back` is what the answer is to be understood with.
    """

    alive: bool
    inc: Inc
    gen: int
    desk: tuple[Any, ...]
    hints: frozenset[int] = frozenset()
    report: "Report | None" = None  # a heartbeat's, not yet attended to
    before: Inc | None = None  # the older incarnation that is to be given up
    draining: bool = False


BACKOFF, LATER, RUN, WAIT = "backoff", "later", "run", "wait"


class Turn(NamedTuple):
    """A handler runs: of hand[k], those before it are finished and not committed."""

    epoch: int
    done: int
    hand: tuple[int, ...]
    k: int = 0
    marks: frozenset[int] = frozenset()
    tries: int = 0
    crash: int = 0


class Report(NamedTuple):
    owned: frozenset[int]
    wakes: frozenset[int]
    cancels: tuple[tuple[int, frozenset[int]], ...]
    ready: tuple[int, ...]
    pressed: bool


class Ghost(NamedTuple):
    """What only the checker knows.  The second half is kept only where the instance asks to count."""

    acc: tuple[tuple[int, ...], ...]  # per entity: accepted commands
    com: tuple[tuple[int, ...], ...]  # per entity: committed commands
    dead: frozenset[int] = frozenset()
    cancelled: frozenset[int] = frozenset()
    asked: frozenset[int] = frozenset()  # commands whose callers have gone
    confirmed: frozenset[int] = frozenset()  # commands whose send returned
    refused: frozenset[int] = frozenset()  # commands whose send raised that nothing was taken
    outside: tuple[
        tuple[int, Inc | None], ...
    ] = ()  # per entity: highest fence another store has seen, and whose
    used: tuple[int, ...] = ()  # per entity: highest epoch ever handed out
    born: frozenset[tuple[int, int, int, int]] = frozenset()  # ids of children
    known: frozenset[Inc] = frozenset()  # incarnations that pods hold or held
    seen: frozenset[Inc] = frozenset()  # incarnations that were registered once
    gone: frozenset[Inc] = frozenset()  # of these, the ones that left
    crashes: tuple[int, ...] = ()  # per entity: silent pods that were reaped while it was active with them
    starts: tuple[int, ...] = ()  # per command: handler starts
    fails: tuple[int, ...] = ()  # per command: handler failures
    lets: tuple[int, ...] = ()  # per command: starts that were let go of unfinished


class State(NamedTuple):
    r: Store
    pods: tuple[Pod, ...]
    late: tuple[Any, ...]  # requests that nobody waits for any more: each may still run, or never
    sends: tuple[str, ...]  # per group of the producer
    snap: tuple[Store, Ghost] | None  # as a replica or an older file holds them
    g: Ghost
    faults: tuple[int, ...]  # left, in the order of FAULTS
    back: bool = False  # the clock was set back: it is below every epoch


TODO, FLYING, WISHING, TAKEN, REFUSED, UNKNOWN = "todo", "flying", "wishing", "taken", "refused", "unknown"
"""How a group stands with its producer; wishing: it flies with a wish to claim, sent by a pod."""


@attrs.frozen
class Program:
    """What an instance is about.

    `groups`: the producer's sends, each of (command, entity).  `children`: what a command's handler sends.  `poison`:
    commands whose handler kills its pod.  `wisher`: the pod that sends with a wish to claim.  `group`: workers commit
    several finished commands at once, as the scripts allow.  `late_joins`: a join's answer may be lost too.
    """

    groups: tuple[tuple[tuple[int, int], ...], ...] = (((0, 0),),)
    children: tuple[tuple[int, tuple[tuple[int, int], ...]], ...] = ()
    types: tuple[int, ...] = ()
    pods: int = 2
    spare: int = 0  # of these, not started yet
    room: int = 2
    fetch: int = 2
    max_attempts: int = 2
    max_crashes: int = 2
    awaited: bool = False
    poison: frozenset[int] = frozenset()
    wisher: int | None = None
    group: bool = False
    count: bool = False
    late_joins: bool = False

    def place(self) -> dict[int, int]:
        """Says to which entity each command goes."""
        sent = [pair for group in self.groups for pair in group]
        return dict(sent + [pair for _, born in self.children for pair in born])


T = TypeVar("T")


def put(row: tuple[T, ...], i: int, value: T) -> tuple[T, ...]:
    """Replaces one value of a tuple."""
    return (*row[:i], value, *row[i + 1 :])
