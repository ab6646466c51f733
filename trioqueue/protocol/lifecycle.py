"""The modes of an entity, and what moves it from one to another.

An entity is always in exactly one mode, and which one is stored with it, never inferred:

idle
    Nothing is queued, nobody owns it, no index names it.  It takes no memory at all.
ready
    It has work, and no live pod takes its type or has room.  The index of ready entities names it.
parked
    A pod owns it and no handler of it is to run: it was just assigned, has nothing to do, or its head
    waits out a backoff.  It may never have had work: a scaler has it kept awake.
active
    A pod owns it under an epoch, and exactly one worker scope serves it for that (owner, epoch).
paused
    An operator holds it back, or its head failed for good and waits for one.  It may have work or not; nobody owns
    it, and what is sent to it queues.

An owned entity (parked or active) is in the index `wake` exactly while it has work.  That index is a truth
that is read again with every heartbeat, not an event that could be lost; a claim leaves the entry where it is,
so that a claim that runs late can't hide work.

Stores look each change up here.  What the table does not list can't happen: `advance` raises and the store
writes nothing.
"""

import enum


class Mode(enum.StrEnum):
    """Where an entity is in its life."""

    IDLE = "idle"
    READY = "ready"
    PARKED = "parked"
    ACTIVE = "active"
    PAUSED = "paused"


class Event(enum.StrEnum):
    """What happened to an entity."""

    PLACED = "placed"  # work found it without an owner, and a pod that takes its type has room
    UNPLACED = "unplaced"  # work found it without an owner, and no pod could take it
    KEPT = "kept awake"  # it shall be awake without work, and a pod that takes its type has room
    QUEUED = "queued"  # work came in behind other work, or to an owner
    CLAIMED = "claimed"  # its owner begins, under a new epoch
    FOUND_EMPTY = "found empty"  # its owner looked, and nothing was queued
    HELD_BACK = "held back"  # its owner looked, and the head may not start yet
    CONTINUED = "continued"  # a commit, with work left
    EMPTIED = "emptied"  # a commit that settled the last command
    BACKED_OFF = "backed off"  # a commit that sends its head into a backoff
    LET_GO = "let go"  # its owner gave it up or was reaped, or its pause ended, with nothing queued
    DROPPED = "dropped"  # an operator took all its work away
    OVERRULED = "overruled"  # an operator changed what its worker has fetched, which has to claim anew
    HANDED_OVER = "handed over"  # its owner gave it up or was reaped, and another pod takes it on
    PAUSED = "paused"  # an operator holds it back; its owner, if it has one, gave it up or was reaped
    STRANDED = "stranded"  # its owner gave it up or was reaped, with work that no other pod can take


TABLE: dict[Mode, dict[Event, Mode]] = {
    Mode.IDLE: {
        Event.PLACED: Mode.PARKED,
        Event.UNPLACED: Mode.READY,
        Event.KEPT: Mode.PARKED,
        Event.PAUSED: Mode.PAUSED,
    },
    Mode.READY: {
        Event.QUEUED: Mode.READY,
        Event.UNPLACED: Mode.READY,
        Event.PLACED: Mode.PARKED,
        Event.PAUSED: Mode.PAUSED,
        Event.DROPPED: Mode.IDLE,
    },
    Mode.PARKED: {
        Event.QUEUED: Mode.PARKED,
        Event.CLAIMED: Mode.ACTIVE,
        Event.FOUND_EMPTY: Mode.PARKED,
        Event.HELD_BACK: Mode.PARKED,
        Event.LET_GO: Mode.IDLE,
        Event.HANDED_OVER: Mode.PARKED,
        Event.STRANDED: Mode.READY,
        Event.PAUSED: Mode.PAUSED,
    },
    Mode.ACTIVE: {
        Event.QUEUED: Mode.ACTIVE,
        Event.CLAIMED: Mode.ACTIVE,  # again, by the same owner: the answer to its last request was lost
        Event.CONTINUED: Mode.ACTIVE,
        Event.EMPTIED: Mode.PARKED,
        Event.BACKED_OFF: Mode.PARKED,
        Event.HELD_BACK: Mode.PARKED,
        Event.HANDED_OVER: Mode.PARKED,
        Event.STRANDED: Mode.READY,
        Event.PAUSED: Mode.PAUSED,
        Event.OVERRULED: Mode.PARKED,
    },
    Mode.PAUSED: {
        Event.QUEUED: Mode.PAUSED,
        Event.PLACED: Mode.PARKED,
        Event.UNPLACED: Mode.READY,
        Event.LET_GO: Mode.IDLE,
    },
}


class ImpossibleEvent(AssertionError):
    """A store met an event that its entity's mode does not allow: a mistake in the store."""


def advance(mode: Mode, event: Event) -> Mode:
    """Looks up the mode that follows, or raises `ImpossibleEvent`."""
    try:
        return TABLE[mode][event]
    except KeyError:
        raise ImpossibleEvent(f"an entity that is {mode} can't be {event}") from None
