"""What is written down while a simulated fleet runs, in the order in which it happened.

Times are seconds of Trio's clock since the start.  A command is known by its `number`, which no two commands share: not
even two calls by two starts of one handler.  A `process` is one life of a pod, known by its client id.
"""

from typing import NamedTuple


class Asked(NamedTuple):
    """Somebody is about to send a command; `line` names whose sends are awaited one after another, "" nobody's."""

    at: float
    number: int
    entity: str
    line: str
    fate: str
    bounded: bool  # it has a deadline, or a caller who may cancel it
    children: tuple[int, ...] = ()
    key: str = ""  # of all commands of its entity with this one, the first alone counts


class Confirmed(NamedTuple):
    """The send returned."""

    at: float
    number: int


class Cancelled(NamedTuple):
    """The send was cancelled: it may be accepted at any time, or never."""

    at: float
    number: int


class Answered(NamedTuple):
    """A call returned this."""

    at: float
    number: int
    value: int


class Gone(NamedTuple):
    """A call with a key was told that there is neither its command nor an outcome any more."""

    at: float
    number: int


class PutOff(NamedTuple):
    """The server keeps a command until its own clock shows `due`, in seconds."""

    at: float
    entity: str
    number: int
    due: float


class Accepted(NamedTuple):
    """The server put a command into a mailbox, when its own clock showed `clock`."""

    at: float
    entity: str
    number: int
    clock: float = 0.0


class Claimed(NamedTuple):
    """The server gave an entity a new epoch."""

    at: float
    entity: str
    epoch: int
    process: str


class Settled(NamedTuple):
    """The server took a command out of a mailbox."""

    at: float
    entity: str
    number: int
    epoch: int


class Failed(NamedTuple):
    """The server counted a failure of the head of a mailbox."""

    at: float
    entity: str
    number: int


class Held(NamedTuple):
    """An operator holds an entity, or a type, back from now on, or lets it go on."""

    at: float
    what: str
    held: bool


class Purged(NamedTuple):
    """An operator took a command out of a mailbox."""

    at: float
    entity: str
    number: int


class Buried(NamedTuple):
    """A command became a dead letter, by the commit that settled it."""

    at: float
    entity: str
    number: int


class Redelivered(NamedTuple):
    """A dead letter was put to the "tail" or the "head" of its mailbox, or "nowhere"."""

    at: float
    entity: str
    number: int
    where: str


class Withdrawn(NamedTuple):
    """The server took out a command that was put off, as it was cancelled."""

    at: float
    number: int


class Dropped(NamedTuple):
    """Somebody who cancelled a command was told that it never starts from now on."""

    at: float
    number: int


class Ticked(NamedTuple):
    """The server moved a schedule on from this tick (in ms), and sent its command, or none (0)."""

    at: float
    schedule: str
    tick: int
    number: int


class Reaped(NamedTuple):
    """An entity was taken from a silent process while it was active."""

    at: float
    entity: str


class Trusted(NamedTuple):
    """A heartbeat of this process was confirmed: it may run handlers until then."""

    at: float
    process: str
    until: float


class Started(NamedTuple):
    """A handler began."""

    at: float
    process: str
    entity: str
    number: int
    fence: int
    attempt: int


class Ended(NamedTuple):
    """A handler ended, in whatever way."""

    at: float
    process: str
    entity: str
    number: int
    fence: int
    how: str


class Effect(NamedTuple):
    """A write reached the store outside, which refuses fences below the highest it has seen."""

    at: float
    process: str
    entity: str
    number: int
    fence: int


class Stopped(NamedTuple):
    """A process stands still: frozen, or its event loop is blocked."""

    at: float
    process: str
    what: str


class Thawed(NamedTuple):
    """A process goes on."""

    at: float
    process: str


class Killed(NamedTuple):
    """A process is no more."""

    at: float
    process: str


class Copied(NamedTuple):
    """A copy of the server's data was made."""

    at: float
    copy: int


class FellBack(NamedTuple):
    """The server goes on with a copy: what came after it never was."""

    at: float
    copy: int


class Fault(NamedTuple):
    """Anything else that went wrong."""

    at: float
    what: str


class Log(NamedTuple):
    """What the library logged; only with a trace."""

    at: float
    what: str


class Wrong(NamedTuple):
    """Something that the simulation itself saw and that must not be."""

    at: float
    what: str


Event = (
    Asked
    | Confirmed
    | Cancelled
    | Answered
    | Gone
    | PutOff
    | Accepted
    | Claimed
    | Settled
    | Failed
    | Held
    | Purged
    | Buried
    | Redelivered
    | Withdrawn
    | Dropped
    | Ticked
    | Reaped
    | Trusted
    | Started
    | Ended
    | Effect
    | Stopped
    | Thawed
    | Killed
    | Copied
    | FellBack
    | Fault
    | Log
    | Wrong
)


class Final(NamedTuple):
    """What was left when all had come to rest: numbers in each entity's state, and the dead with their reasons."""

    states: dict[str, list[int]]
    dead: dict[int, str]
