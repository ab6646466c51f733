"""What an operator sees of one entity, and the one sentence that says what it waits for."""

import attrs

from trioqueue._errors import DecodeError
from trioqueue._names import Entity
from trioqueue.messages.codec import Codec
from trioqueue.messages.envelope import Envelope, decode_envelope
from trioqueue.protocol.lifecycle import Mode
from trioqueue.stores.reports import Inspection

UNDECODABLE = "(undecodable)"
"""In place of the name and id of a command whose envelope can't be read."""

SILENT_FOR = 5.0
"""Seconds without a heartbeat of its owner from which on the explanation speaks of it."""


@attrs.frozen
class Head:
    """The first command of a mailbox.

    Attributes:
        command: Its wire name.
        command_id: Its id.
        waited: Seconds since it was accepted.
        attempts: Times that its handler failed.
        crashes: Pods that died while they had it.
    """

    command: str
    command_id: str
    waited: float
    attempts: int
    crashes: int


@attrs.frozen
class Mailbox:
    """One entity at one moment, by the store's clock.

    Attributes:
        entity_type: Its type.
        entity_id: Its id.
        mode: "idle", "ready" (has work, and no pod takes it), "parked" (a pod owns it, nothing runs), "active" or
            "paused".
        pending: Commands in the mailbox, the one that is being handled included; those that are put off are not.
        head: The first of them.
        owner: Name of the pod that owns it.
        owner_silent: Seconds since that pod's last heartbeat.
        fence: Of its newest activation; 0: it has none since it was idle last.
        due_in: Seconds that the head still has to wait, after a failure, say.
        unknown_for: Seconds since the first pod declined the head, as it does not know the command.
        ready_for: Seconds since no pod takes it.
        paused_for: Seconds since it is paused.
        paused_why: Why that is.
        type_paused: Whether its whole type is paused.
        state_bytes: Size of its encoded state.
    """

    entity_type: str
    entity_id: str
    mode: str
    pending: int
    head: Head | None
    owner: str | None
    owner_silent: float | None
    fence: int
    due_in: float | None
    unknown_for: float | None
    ready_for: float | None
    paused_for: float | None
    paused_why: str
    type_paused: bool
    state_bytes: int


def mailbox_of(codec: Codec, entity: Entity, seen: Inspection) -> Mailbox:
    """Makes an operator's view of what the store knows."""

    def since(at_us: int | None) -> float | None:
        return None if at_us is None else max(0.0, (seen.now_us - at_us) / 1e6)

    head: Head | None = None
    if seen.head is not None:
        try:
            envelope = decode_envelope(codec, entity, seen.head.data)
        except DecodeError:
            envelope = Envelope(UNDECODABLE, entity, UNDECODABLE)
        waited = since(seen.head.accepted_us) or 0.0
        head = Head(envelope.name, envelope.command_id, waited, seen.attempts, seen.crashes)
    return Mailbox(
        entity_type=entity.type,
        entity_id=entity.id,
        mode=seen.mode.value,
        pending=seen.queued,
        head=head,
        owner=seen.owner_name or seen.owner,
        owner_silent=since(seen.owner_renewed_us),
        fence=seen.epoch,
        due_in=None if seen.due_us is None else max(0.0, (seen.due_us - seen.now_us) / 1e6),
        unknown_for=since(seen.unknown_since_us),
        ready_for=since(seen.ready_since_us),
        paused_for=since(seen.paused_since_us),
        paused_why=seen.paused_why,
        type_paused=seen.held,
        state_bytes=seen.state_bytes,
    )


def explain(box: Mailbox) -> str:
    """Says in one sentence what an entity does or waits for, since when, who owns it, and what happens next."""
    name = f"{box.entity_type}/{box.entity_id}"
    if box.mode == Mode.PAUSED or box.paused_why:
        what = "finishes the command in hand and is then paused" if box.mode == Mode.ACTIVE else "is paused"
        return (
            f"{name} {what} since {_span(box.paused_for)} ({box.paused_why}), {_work(box)}: "
            f"nothing starts before resume({box.entity_type!r}, {box.entity_id!r})."
        )
    if box.type_paused and box.pending:
        return (
            f"{name} {_work(box)}, and its type is paused: nothing starts before resume({box.entity_type!r})."
        )
    head = box.head
    if head is None:
        if box.owner is None:
            return f"{name} is idle: nothing is queued and no pod owns it, the next command wakes it."
        return f"{name} has nothing queued and is awake on {box.owner}: the next command starts at once."
    first = f"{head.command} {head.command_id}"
    if box.mode == Mode.READY:
        declined = (
            f", no pod knows {head.command} (since {_span(box.unknown_for)})" if box.unknown_for else ""
        )
        return (
            f"{name} {_work(box)} and waits since {_span(box.ready_for)} for a pod that serves "
            f"{box.entity_type!r} and has room{declined}: it starts when one comes."
        )
    silent = box.owner_silent or 0.0
    if silent > SILENT_FOR:
        return (
            f"{name} {_work(box)}, and its pod {box.owner} is silent since {_span(silent)}: "
            "another pod takes it over once that one's lease and grace are over."
        )
    if box.due_in:
        why = (
            f"no pod knew {head.command}"
            if box.unknown_for is not None
            else f"{first} failed {_times(head.attempts)}"
        )
        return f"{name} waits on {box.owner}, as {why}: it starts again in {_span(box.due_in)}."
    if box.mode == Mode.ACTIVE:
        return (
            f"{box.owner} handles {first} of {name}, accepted {_span(head.waited)} ago"
            f"{_failures(head)}: {_behind(box)}."
        )
    return f"{name} {_work(box)} and is about to start {first} on {box.owner}."


def _work(box: Mailbox) -> str:
    if not box.pending:
        return "has nothing queued"
    assert box.head is not None
    return f"has {_count(box.pending, 'command')}, the first accepted {_span(box.head.waited)} ago"


def _behind(box: Mailbox) -> str:
    behind = box.pending - 1
    if not behind:
        return "nothing waits behind it"
    return f"{_count(behind, 'more command')} {'waits' if behind == 1 else 'wait'} behind it"


def _failures(head: Head) -> str:
    told = [f"failed {_times(head.attempts)}"] * bool(head.attempts)
    told += [f"in hand when {_count(head.crashes, 'pod')} died"] * bool(head.crashes)
    return f" and {' and '.join(told)}" if told else ""


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _count(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _span(seconds: float | None) -> str:
    """Writes a duration as people say it."""
    seconds = seconds or 0.0
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
