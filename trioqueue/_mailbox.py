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

SHOWN_WHY = 200
"""Characters of the reason for a pause in an explanation; `Mailbox.paused_why` has all."""


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
        type_paused_for: Seconds since that is so.
        type_paused_why: Why.
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
    type_paused_for: float | None
    type_paused_why: str
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
        owner_silent=since(seen.owner_renewed_us or None),  # 0: it is leaving
        fence=seen.epoch,
        due_in=None if seen.due_us is None else max(0.0, (seen.due_us - seen.now_us) / 1e6),
        unknown_for=since(seen.unknown_since_us),
        ready_for=since(seen.ready_since_us),
        paused_for=since(seen.paused_since_us),
        paused_why=seen.paused_why,
        type_paused=seen.held,
        type_paused_for=since(seen.held_since_us),
        type_paused_why=seen.held_why,
        state_bytes=seen.state_bytes,
    )


def explain(box: Mailbox) -> str:
    """Says in one sentence what an entity does or waits for, since when, who owns it, and what happens next."""
    name, owner, head = _name(box), box.owner, box.head
    if box.mode == Mode.PAUSED or box.paused_why or box.type_paused:
        return _explain_paused(box)
    if box.mode == Mode.READY and head is not None:
        return _explain_ready(box, head)
    if silent := _silent(box):
        return (
            f"{name} {_work(box)}, and its pod {owner} {silent}: "
            "unless it comes back, others take over once its lease and grace are over."
        )
    if head is None and owner is None:
        return f"{name} is idle: nothing is queued, no pod owns it, and the next command wakes it."
    if head is None:
        return f"{name} is awake on {owner} and has nothing queued: the next command starts at once."
    if box.due_in:
        return _explain_backoff(box, head, box.due_in)
    if (
        box.mode == Mode.ACTIVE and box.unknown_for is not None
    ):  # its owner may be about to decline it once more
        return f"{owner} has {_first(head)} of {name} in hand, {_declined(box)}: {_behind(box)}."
    if box.mode == Mode.ACTIVE:
        return (
            f"{owner} is handling {_first(head)} of {name}, accepted {_span(head.waited)} ago"
            f"{_failures(head)}: {_behind(box)}."
        )
    if head.crashes > 1:
        return (
            f"{name} {_work(box)}, and {head.crashes} pods died with {_first(head)} in hand: "
            f"{owner} starts it alone, as soon as it has no other such command in hand."
        )
    declined = f", {_declined(box)}" * (box.unknown_for is not None)
    return f"{name} {_work(box)}: {owner} is about to start {_first(head)}{declined}."


def _explain_paused(box: Mailbox) -> str:
    """Says what an operator holds back: the entity, its type, or both."""
    name, resumes = _name(box), list[str]()
    if box.mode == Mode.PAUSED or box.paused_why:
        held, its = f"{name} has been paused for {_span(box.paused_for)} ({_short(box.paused_why)})", "it"
        if box.type_paused:
            held += f", its type {_type_paused(box)} too"
        resumes.append(f"resume({box.entity_type!r}, {box.entity_id!r})")
    else:
        held, its = f"The type of {name} {_type_paused(box)}", name
    if box.type_paused:
        resumes.append(f"resume({box.entity_type!r})")
    does, then = f"{its} {_work(box)}", "nothing"
    if box.mode == Mode.ACTIVE and box.head is not None:
        if silent := _silent(box):
            does = f"{box.owner}, which was handling {_first(box.head)}, {silent}"
        else:
            does, then = f"{box.owner} is still handling {_first(box.head)}", "after that, nothing"
    return f"{held}, and {does}: {then} starts before {' and '.join(resumes)}."


def _type_paused(box: Mailbox) -> str:
    if not box.type_paused_why:  # by an older release, which notes none
        return "is paused"
    return f"has been paused for {_span(box.type_paused_for)} ({_short(box.type_paused_why)})"


def _explain_ready(box: Mailbox, head: Head) -> str:
    """Says which pod is missing."""
    wanted, then = f"serves {box.entity_type!r} and has room", "it starts when there is one"
    if box.due_in:
        then += f", in {_span(box.due_in)} at the earliest"
    if box.unknown_for is not None:
        wanted = f"knows {head.command} (first declined {_span(box.unknown_for)} ago)"
        then += ", or is a dead letter once EntityPolicy.unknown_grace is over"
    return f"{_name(box)} {_work(box)}, and has been waiting {_span(box.ready_for)} for a pod that {wanted}: {then}."


def _explain_backoff(box: Mailbox, head: Head, seconds: float) -> str:
    """Says why the head may not start yet."""
    first, then = f"{_first(head)} of {_name(box)}", f"on {box.owner} in {_span(seconds)}"
    if head.attempts:
        return f"{first} has failed {_times(head.attempts)} and starts again {then}: {_behind(box)}."
    if box.unknown_for is not None:
        return (
            f"{first} was {_declined(box)}, and is tried "
            f"{then}: where no pod knows it, it is a dead letter once EntityPolicy.unknown_grace is over."
        )
    # The activation failed, or an operator has paused and resumed it meanwhile.
    return f"{first} waits out a backoff, with no failure counted, and starts {then}: {_behind(box)}."


def _name(box: Mailbox) -> str:
    return f"{box.entity_type}/{box.entity_id}"


def _first(head: Head) -> str:
    return "an undecodable command" if head.command == UNDECODABLE else f"{head.command} {head.command_id}"


def _silent(box: Mailbox) -> str:
    """Says since when its owner is silent, if it is."""
    silent = box.owner_silent or 0.0
    return f"was last heard of {_span(silent)} ago" if silent > SILENT_FOR else ""


def _work(box: Mailbox) -> str:
    if box.head is None:
        return "has nothing queued"
    accepted = f"accepted {_span(box.head.waited)} ago"
    return f"has {_count(box.pending, 'command')} queued, {'the first ' * (box.pending > 1)}{accepted}"


def _behind(box: Mailbox) -> str:
    behind = box.pending - 1
    if not behind:
        return "nothing waits behind it"
    return f"{_count(behind, 'more command')} {'waits' if behind == 1 else 'wait'} behind it"


def _failures(head: Head) -> str:
    told = [f"has failed {_times(head.attempts)}"] * bool(head.attempts)
    told += [f"was in hand when {_count(head.crashes, 'pod')} died"] * bool(head.crashes)
    return f", which {' and '.join(told)}" if told else ""


def _declined(box: Mailbox) -> str:
    return f"first declined {_span(box.unknown_for)} ago by a pod that does not know it"


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _count(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _short(why: str) -> str:
    """Makes a part of a sentence of what may be an error's text of many lines."""
    line = " ".join(why.split())
    return line if len(line) <= SHOWN_WHY else f"{line[:SHOWN_WHY]}…"


def _span(seconds: float | None) -> str:
    """Writes a duration as people say it."""
    seconds = seconds or 0.0
    if seconds < 1:
        return "less than a second"
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
