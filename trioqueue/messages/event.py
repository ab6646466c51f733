"""What happens to entities, as it is told to whoever watches a fleet."""

from typing import Any

import attrs

EVERY_TYPE = "*"
"""In place of an entity type: all of them."""


@attrs.frozen
class Event:
    """Something that happened in a fleet; which one, says its class.

    Attributes:
        pod: Name of the pod that told of it.
    """

    pod: str


@attrs.frozen
class EntityAwake(Event):
    """A worker began with an entity.

    Attributes:
        entity_type: The entity's type.
        entity_id: Its id.
    """

    entity_type: str
    entity_id: str


@attrs.frozen
class EntityAsleep(Event):
    """A worker of an entity ended.

    Attributes:
        entity_type: The entity's type.
        entity_id: Its id.
        idle: Whether it had nothing to do; else the pod drained, lost its lease, or let go of the entity for another.
    """

    entity_type: str
    entity_id: str
    idle: bool


@attrs.frozen
class CommandHandled(Event):
    """A command has left its mailbox.

    Attributes:
        entity_type: The type of the entity it was for.
        entity_id: The entity's id.
        command: Its wire name; "" where it can't be read.
        command_id: Its id.
        outcome: "done", "rejected", "dead", "cancelled" or "expired".
        waited: Seconds from when it was accepted until this turn.
        duration: Seconds of the turn.
    """

    entity_type: str
    entity_id: str
    command: str
    command_id: str
    outcome: str
    waited: float
    duration: float


@attrs.frozen
class CommandFailed(Event):
    """A handler failed, and its command is tried again.

    Attributes:
        entity_type: The type of the entity it is for.
        entity_id: The entity's id.
        command: Its wire name.
        command_id: Its id.
        attempt: Which attempt it was, counting from 1.
        again_in: Seconds until the next one.
        error: Name of the exception's class.
    """

    entity_type: str
    entity_id: str
    command: str
    command_id: str
    attempt: int
    again_in: float
    error: str


@attrs.frozen
class CommandDead(Event):
    """A command became a dead letter; it is told as handled too, before.

    Attributes:
        entity_type: The type of the entity it was for.
        entity_id: The entity's id.
        command: Its wire name; "" where it can't be read.
        command_id: Its id.
        attempts: How often it was tried.
        error: Name of the exception's class.
    """

    entity_type: str
    entity_id: str
    command: str
    command_id: str
    attempts: int
    error: str


@attrs.frozen
class EntityPaused(Event):
    """A worker let go of an entity that is paused, itself or with its type.

    Attributes:
        entity_type: The entity's type.
        entity_id: Its id.
        why: Of one whose head failed for good; "" where an operator has paused it.
    """

    entity_type: str
    entity_id: str
    why: str


@attrs.frozen
class PodLostLease(Event):
    """A pod lost its lease: its workers are cancelled, and it joins anew.

    Attributes:
        why: What happened.
    """

    why: str


@attrs.frozen
class EventsMissed(Event):
    """Events were lost here: the connection broke, or somebody was too slow.

    Attributes:
        pod: Whose events; "": those that the reader was too slow for.
        count: How many; of a watch of one type, at most so many.
    """

    count: int


_BY_WORD: dict[str, type[Event]] = {
    "awake": EntityAwake,
    "asleep": EntityAsleep,
    "handled": CommandHandled,
    "failed": CommandFailed,
    "dead": CommandDead,
    "paused": EntityPaused,
    "lease lost": PodLostLease,
}
_WORDS = {kind: word for word, kind in _BY_WORD.items()}


def event_to_wire(event: Event) -> list[Any]:
    """Gives an event as builtins, without its pod, which travels once for many of them."""
    _, *values = attrs.astuple(event)
    return [_WORDS[type(event)], *values]


def event_from_wire(pod: str, wire: Any) -> Event | None:
    """Reads an event back; None: it is of a kind that this version does not know, or none at all."""
    match wire:
        case [str(word), *values]:
            kind = _BY_WORD.get(word)
        case _:
            return None
    if kind is None or len(values) != len(attrs.fields(kind)) - 1:
        return None
    return kind(pod, *values)


def concerns(event: Event, entity_type: str) -> bool:
    """Says whether an event is for who watches a type, or all of them; what concerns whole pods is for everybody."""
    return entity_type in (EVERY_TYPE, getattr(event, "entity_type", entity_type))
