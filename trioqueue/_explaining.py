"""What is said of an entity to whoever asks why nothing happens: a few sentences, made of what is seen."""

from collections.abc import Sequence

import attrs

from trioqueue._looking import QueuedCommand
from trioqueue._mailbox import UNDECODABLE, Head, Mailbox
from trioqueue.protocol.lifecycle import Mode

SILENT_FOR = 5.0
"""Seconds without a heartbeat of its owner from which on the explanation speaks of it, where its lease is not known."""

SHOWN_WHY = 200
"""Characters of the reason for a pause or a death in an explanation; `Mailbox` and `DeadLetter` have all."""


@attrs.frozen
class Buried:
    """The newest dead letter of an entity, and how many others it has among those that were looked through."""

    command: str
    command_id: str
    died: float  # seconds ago
    attempts: int
    error: str
    others: int


@attrs.frozen
class Callee:
    """A command that the handler of an entity waits for: whose it is, for how long it has been there, and what is said
    of its entity.
    """

    entity: str
    command: str
    command_id: str
    waited: float
    said: str


def explain_all(
    box: Mailbox,
    *,
    callee: Callee | None = None,
    put_off: Sequence[tuple[QueuedCommand, float]] = (),
    buried: Buried | None = None,
) -> str:
    """Says in a few sentences why nothing happens with an entity, or what will.

    Args:
        box: The entity.
        callee: What its handler waits for.
        put_off: Its commands that are put off, and in how many seconds each is due; the first due first.
        buried: Its newest dead letter.
    """
    said = [explain(box)]
    if callee is not None:
        said.append(
            f"Its handler waits for the answer to {callee.command} {callee.command_id} of {callee.entity}, "
            f"accepted {_span(callee.waited)} ago: {callee.said}"
        )
    if box.full_for is not None and 0 < box.full_limit <= box.pending:
        said.append(
            f"Its mailbox is full: a sender that allows {_count(box.full_limit, 'command')} "
            f"was refused {_span(box.full_for)} ago, and others will be until some are handled."
        )
    if put_off:
        first, seconds = put_off[0]
        they = f"{_count(len(put_off), 'command')} for it {'is' if len(put_off) == 1 else 'are'} put off"
        comes = f"{first.command} {first.command_id} comes in {_span(seconds)}"
        said.append(f"{they}: {comes}." if len(put_off) == 1 else f"{they}, the first, {comes}.")
    if buried is not None:
        tries = f" after {_count(buried.attempts, 'attempt')}" * bool(buried.attempts)
        more = f", as did {_count(buried.others, 'other')} of its commands" * bool(buried.others)
        said.append(
            f"{buried.command} {buried.command_id} became a dead letter {_span(buried.died)} ago{tries} "
            f"({_short(buried.error)}){more}: redeliver or discard it."
        )
    return " ".join(said)


def _explain_quarantine(box: Mailbox, left: float) -> str:
    """Says why nothing starts anywhere."""
    return (
        f"{_name(box)} {_work(box)}, and nothing of any entity starts for another {_span(left)}: "
        "Redis was restarted or failed over, and pods that may not have noticed must have stopped before."
    )


def explain(box: Mailbox) -> str:
    """Says in one sentence what an entity does or waits for, since when, who owns it, and what happens next."""
    name, owner, head = _name(box), box.owner, box.head
    if box.quarantine_left is not None:
        return _explain_quarantine(box, box.quarantine_left)
    if box.mode == Mode.PAUSED or box.paused_why or box.type_paused:
        return _explain_paused(box)
    if box.mode == Mode.READY and head is not None:
        return _explain_ready(box, head)
    if silent := _silent(box):
        return (
            f"{name} {_work(box)}, and its pod {owner} {silent}: "
            f"unless it comes back, others take over {_take_over(box)}."
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
    """Says since when its owner is silent, if that is longer than a heartbeat or two."""
    silent = box.owner_silent or 0.0
    allowed = SILENT_FOR if box.owner_silent_for is None else box.owner_silent_for / 2
    return f"was last heard of {_span(silent)} ago" if silent > allowed else ""


def _take_over(box: Mailbox) -> str:
    """Says when others do."""
    if box.owner_silent_for is None:
        return "once its lease and grace are over"
    left = box.owner_silent_for - (box.owner_silent or 0.0)
    return f"in {_span(left)}" if left > 0 else f"as soon as there is one that serves {box.entity_type!r}"


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
