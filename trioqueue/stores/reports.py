"""What a store tells: by hints, with a heartbeat, and of one entity or command that is asked about."""

from typing import Literal, NamedTuple

import attrs

from trioqueue._names import Entity
from trioqueue.protocol.lifecycle import Mode


def size_of(data: bytes | str | None) -> str:
    """Shows what travels in a repr, which may end up in a log: how much it is, and nothing of what it says."""
    return f"<{len(data)} bytes>" if isinstance(data, bytes) else repr(data)


class LinkState(NamedTuple):
    """A client's link to its store: requests that it has carried so far, and whether there is one now."""

    requests: int
    connected: bool


class Queued(NamedTuple):
    """A command in a mailbox: when it was accepted (store time), its envelope, and whether it is in the urgent lane."""

    accepted_us: int
    data: bytes
    urgent: bool = False

    def __repr__(self) -> str:
        return f"Queued({self.accepted_us}, {size_of(self.data)})"


class Wake(NamedTuple):
    """Hint: an entity of yours has work."""

    entity: Entity


class Answered(NamedTuple):
    """Hint: a command you wait for is settled; None: its outcome is too large for a hint, read it."""

    command_id: str
    outcome: bytes | None

    def __repr__(self) -> str:
        return f"Answered({self.command_id}, {size_of(self.outcome)})"


class CancelAsked(NamedTuple):
    """Hint: the caller of this command, which is in one of your mailboxes, has gone."""

    entity: Entity
    command_id: str


class Due(NamedTuple):
    """Hint: a command is put off, and due before all others."""


class Progress(NamedTuple):
    """Hint: the newest word on how far a command is that you sent."""

    command_id: str
    word: bytes

    def __repr__(self) -> str:
        return f"Progress({self.command_id}, {size_of(self.word)})"


class Changed(NamedTuple):
    """Hint: an operator changed an entity of yours; what its worker waits for may be over."""

    entity: Entity


class KeepAwake(NamedTuple):
    """Hint: keep these entities of yours awake for so many seconds, whether they have work or not."""

    entities: tuple[Entity, ...]
    seconds: float


class Watched(NamedTuple):
    """Hint: the types of which somebody wants to be told what happens have changed; "*" is all of them."""

    types: tuple[str, ...]


class Told(NamedTuple):
    """Hint: what a pod tells of its entities."""

    data: bytes

    def __repr__(self) -> str:
        return f"Told({size_of(self.data)})"


Hint = Wake | Answered | CancelAsked | Due | Progress | Changed | KeepAwake | Watched | Told


@attrs.frozen
class Silent:
    """A pod that others should hand on, and the types it took."""

    incarnation: str
    types: tuple[str, ...]


@attrs.frozen
class Report:
    """What a heartbeat found.

    `wakes`: entities of ours with work (a page of them, going round).  `cancels`: entities of ours with cancelled
    commands.  `ready`: entities that wait for a pod of our types; `pressed`: some wait and we have no room.  `due_in`:
    seconds until the first command that is put off is due, where that is ours to look after.  `watched`: types of which
    somebody wants to be told what happens, "*" is all of them.  `asked_at`: when it was asked for, by
    `time.monotonic()`; what a hint has said since is newer.
    """

    owned: int
    wakes: tuple[Entity, ...] = ()
    cancels: tuple[Entity, ...] = ()
    ready: tuple[Entity, ...] = ()
    pressed: bool = False
    silent: tuple[Silent, ...] = ()
    due_in: float | None = None
    watched: tuple[str, ...] = ()
    asked_at: float = attrs.field(default=0.0, eq=False)


@attrs.frozen
class StoreStatistics:
    """Counts of the whole fleet at one moment; `held` would be `ready` if their type were not held back."""

    pods: int
    owned: int
    with_work: int
    ready: int
    dead: int
    put_off: int = 0
    held: int = 0


Withdrawal = Literal["dropped", "told", "late"]
"""What became of a command that was cancelled: it never starts; it may run, and its pod was told; it is settled, or was
never there."""


class Tick(NamedTuple):
    """A schedule as it is: the store's time, and its next tick, in milliseconds since the epoch; None: nobody began it.

    `moved`: this very request has moved it on.
    """

    now_ms: int
    next_ms: int | None
    moved: bool


class Letter(NamedTuple):
    """A dead letter as it is kept: when it was given up (store time), its id, and its record."""

    died_us: int
    command_id: str
    record: bytes

    def __repr__(self) -> str:
        return f"Letter({self.died_us}, {self.command_id}, {size_of(self.record)})"


@attrs.frozen
class Inspection:
    """All that a store knows about one entity; times are the store's, in microseconds.

    `owner_renewed_us`: when its owner was heard of last; 0: it is leaving.
    """

    now_us: int
    mode: Mode
    owner: str | None = None
    owner_name: str | None = None
    owner_renewed_us: int | None = None
    epoch: int = 0
    queued: int = 0
    head: Queued | None = None
    attempts: int = 0
    crashes: int = 0
    due_us: int | None = None
    unknown_since_us: int | None = None
    ready_since_us: int | None = None
    paused_since_us: int | None = None
    paused_why: str = ""
    held: bool = False  # its type is
    held_since_us: int | None = None
    held_why: str = ""
    state_bytes: int = 0
    full_since_us: int | None = None  # a sender was refused then, as the mailbox held as many as it allows
    full_limit: int = 0
    quarantine_until_us: int | None = None  # the whole store's
    owner_silent_us: int | None = None  # after so long without a heartbeat of its owner, others take over


@attrs.frozen
class Lane:
    """An entity with commands, at a glance: where they wait, how many they are, and the first of them.

    `mode`: "owned", "ready" or "paused"; `incarnation`: the number of the one that owns it.
    """

    entity: Entity
    mode: Literal["owned", "ready", "paused"]
    incarnation: int | None
    queued: int
    head: Queued | None


@attrs.frozen
class Lanes:
    """Entities with commands, at one moment of the store's clock; `whole`: there are no others."""

    now_us: int
    lanes: tuple[Lane, ...]
    whole: bool


@attrs.frozen
class Registration:
    """A registered incarnation.

    `renewed_us`: its last heartbeat; 0: it is leaving.  `silent_us`: after so long without one, others take over.
    `owned`: entities; of these, `with_work` have commands.
    """

    incarnation: str
    name: str
    types: tuple[str, ...]
    room: int
    renewed_us: int
    silent_us: int
    owned: int
    with_work: int


@attrs.frozen
class Registrations:
    """All of them, at one moment of the store's clock."""

    now_us: int
    pods: tuple[Registration, ...]
    quarantine_until_us: int | None = None


class PutOff(NamedTuple):
    """A command that is put off: when it is due (store time), its id, and itself."""

    due_us: int
    command_id: str
    queued: Queued
