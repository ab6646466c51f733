"""What is said of an entity to whoever asks why nothing happens: a few sentences, made of what is seen."""

from collections.abc import Sequence

import attrs

from trioqueue._looking import Pod, QueuedCommand
from trioqueue._mailbox import UNDECODABLE, Head, Mailbox
from trioqueue.protocol.lifecycle import Mode

SILENT_FOR = 5.0
"""Seconds without a heartbeat of its owner from which on the explanation speaks of it, where its lease is not known."""

OVERDUE = 1.0
"""Seconds by which a command that is put off may be late, as pods look with each heartbeat."""

SHOWN_WHY = 200
"""Characters of the reason for a pause or a death in an explanation; `Mailbox` and `DeadLetter` have all."""

SHOWN_PODS = 3
"""Pods that are named in a sentence; of others it says how many they are."""


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
    """A command that the handler of an entity waits for, and what is said of the entity that is to answer it.

    `via` are the entities in between, whose handlers wait likewise; `gives_up` is when the last of them does.
    """

    entity: str
    command: str
    command_id: str
    waited: float
    said: str
    via: tuple[str, ...] = ()
    before: int = 0  # commands of its mailbox
    gives_up: float | None = None


def explain_all(
    box: Mailbox,
    *,
    fleet: Sequence[Pod] | None = None,
    callee: Callee | None = None,
    put_off: Sequence[tuple[QueuedCommand, float]] = (),
    buried: Buried | None = None,
) -> str:
    """Says in a few sentences why nothing happens with an entity, or what will.

    Args:
        box: The entity.
        fleet: The pods that are registered; None: that is not known.
        callee: What its handler waits for.
        put_off: Its commands that are put off, and in how many seconds each is due; the first due first.
        buried: Its newest dead letter.
    """
    said = [explain(box, fleet)]
    if fleet is not None and box.mode == Mode.READY and not _is_held(box) and box.quarantine_left is None:
        said.append(_explain_fleet(box, fleet))
    if box.head is not None and box.head.expires_in is not None:
        said.append(_explain_end(box, box.head, box.head.expires_in))
    if callee is not None:
        said.append(_explain_callee(callee))
    if box.full_for is not None and 0 < box.full_limit <= box.pending:
        said.append(
            f"Its mailbox is full: a sender that allows {_count(box.full_limit, 'command')} in it "
            f"(EntityPolicy.max_pending) was refused {_span(box.full_for)} ago, "
            "and others will be until it holds fewer."
        )
    if put_off:
        said.append(_explain_put_off(*put_off[0], len(put_off), fleet))
    if buried is not None:
        said.append(_explain_buried(buried))
    return " ".join(said)


def explain(box: Mailbox, fleet: Sequence[Pod] | None = None) -> str:
    """Says in one sentence what an entity does or waits for, since when, who owns it, and what happens next."""
    name, owner, head = _name(box), box.owner, box.head
    if _is_held(box):
        return _explain_paused(box)
    if box.quarantine_left is not None:
        return _explain_quarantine(box, box.quarantine_left)
    if box.mode == Mode.READY and head is not None:
        return _explain_ready(box, head)
    if silent := _silent(box):
        in_hand = f", with {_first(head)} in hand," if box.mode == Mode.ACTIVE and head is not None else ""
        return (
            f"{name} {_work(box)}, and its pod {owner}{in_hand} {silent}, so it is dead, frozen or cut off: "
            f"{_take_over(box, fleet)}."
        )
    if head is None and owner is None:
        return f"{name} is idle: nothing is queued, no pod owns it, and the next command wakes it."
    if head is None:
        claimed = "" if box.claimed_for is None else f" (last claimed {_span(box.claimed_for)} ago)"
        return f"{name} is awake on {owner}{claimed} and has nothing queued: the next command starts at once."
    if box.due_in:
        return _explain_backoff(box, head, box.due_in)
    if (
        box.mode == Mode.ACTIVE and box.unknown_for is not None
    ):  # its owner may be about to decline it once more
        return f"{owner} has {_first(head)} of {name} in hand, {_declined(box)}: {_behind(box)}."
    if box.mode == Mode.ACTIVE:
        return (
            f"{owner} is handling {_first(head)} of {name}, accepted {_span(head.waited)} ago"
            f"{_begun(box, head)}{_failures(head)}: it is done when its handler ends, and {_behind(box)}."
        )
    if head.crashes > 1:
        return (
            f"{name} {_work(box)}, and {head.crashes} pods died with {_first(head)} in hand: "
            f"{owner} starts it alone, as soon as it has no other such command in hand."
        )
    declined = f", {_declined(box)}" * (box.unknown_for is not None)
    return f"{name} {_work(box)}: {owner} is about to start {_first(head)}{declined}, within a heartbeat."


# -------------------------------------------------------------------------------- what holds it up
def _is_held(box: Mailbox) -> bool:
    """Says whether an operator, or its head, holds it back."""
    return box.mode == Mode.PAUSED or bool(box.paused_why) or box.type_paused


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
    does, then = f"{its} {_work(box, owned=box.owner is not None)}", "nothing"
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


def _explain_quarantine(box: Mailbox, left: float) -> str:
    """Says why nothing starts anywhere."""
    until = f"for another {_span(left)}" if left else "before the next heartbeat of any pod"
    which = f", which {box.owner} had," if box.owner is not None else ""
    goes_on = (
        f"a pod that serves {box.entity_type!r} {'can take it' if box.head is None else 'goes on with it'}"
    )
    return (
        f"{_name(box)}{which} {_work(box)}, and nothing of any entity starts {until}: Redis was restarted or failed "
        f"over, and pods that may not have noticed must have stopped before; then {goes_on}."
    )


def _explain_ready(box: Mailbox, head: Head) -> str:
    """Says which pod is missing."""
    wanted, then = f"serves {box.entity_type!r} and has room", "it starts when there is one"
    if box.due_in:
        then += f", in {_span(box.due_in)} at the earliest"
    if box.unknown_for is not None:
        wanted = f"knows {head.command} (first declined {_span(box.unknown_for)} ago)"
        then += f", or {_grace()}"
    return f"{_name(box)} {_work(box)}, and has been waiting {_span(box.ready_for)} for a pod that {wanted}: {then}."


def _explain_fleet(box: Mailbox, fleet: Sequence[Pod]) -> str:
    """Says which pods could take an entity that waits for one."""
    kind = repr(box.entity_type)
    if not fleet:
        return "No pod is registered."
    serving = [pod for pod in fleet if box.entity_type in pod.types]
    if len(fleet) == 1 and not serving:
        return f"The only registered pod, {_names(fleet)}, does not serve {kind}."
    if not serving:
        return f"None of the {len(fleet)} registered pods, {_names(fleet)}, serves {kind}."
    well = [pod for pod in serving if pod.state == "serving"]
    if not well:
        states = " or ".join(sorted({pod.state for pod in serving}))
        return (
            f"{_do(serving, 'serves', 'serve')} {kind}, and {'is' if len(serving) == 1 else 'are'} {states}."
        )
    if box.unknown_for is not None:
        return f"Of the registered pods, {_do(well, 'serves', 'serve')} {kind}."
    free = [pod for pod in well if pod.owned < pod.room]
    if free:
        have = _do(free, "has", "have")
        return f"{have} room for entities of {kind}, and may take it with a heartbeat."
    own = _do(well, "owns all entities that it may", "own all entities that they may")
    return f"Of those that serve {kind}, {own} (Limits.owned)."


def _explain_backoff(box: Mailbox, head: Head, seconds: float) -> str:
    """Says why the head may not start yet."""
    first = f"{_first(head)} of {_name(box)}, accepted {_span(head.waited)} ago,"
    then = f"on {box.owner} in {_span(seconds)}"
    if head.attempts:
        return (
            f"{first} has failed {_times(head.attempts)} (the log of its pod says why) "
            f"and starts again {then}: {_behind(box)}."
        )
    if box.unknown_for is not None:
        return f"{first} was {_declined(box)}, and is tried {then}: where no pod knows it, it {_grace()}."
    # The activation failed, or an operator has paused and resumed it meanwhile.
    return f"{first} waits out a backoff, with no failure counted, and starts {then}: {_behind(box)}."


def _explain_end(box: Mailbox, head: Head, seconds: float) -> str:
    """Says when the head is not worth it any more."""
    if box.mode == Mode.ACTIVE and not _silent(box):
        return f"It is cancelled in {_span(seconds)} unless it is done by then: that is its deadline."
    if seconds:
        return f"{_first(head)} is dropped unless it starts within {_span(seconds)}: that is its deadline."
    return f"The deadline of {_first(head)} is over: it is dropped instead of started."


def _explain_callee(callee: Callee) -> str:
    """Says whom the handler waits for, and what that one does."""
    whom = ", whose handler waits for ".join((*callee.via, callee.entity))
    before = f" behind {_count(callee.before, 'other command')}" * bool(callee.before)
    until = "" if callee.gives_up is None else f", and gives up in {_span(callee.gives_up)}"
    return (
        f"Its handler waits for {whom} to answer {_called(callee.command, callee.command_id)}, "
        f"accepted {_span(callee.waited)} ago{before}{until}. "
        f"As to {callee.entity}: {callee.said}"
    )


def _explain_put_off(first: QueuedCommand, seconds: float, count: int, fleet: Sequence[Pod] | None) -> str:
    """Says what is not in the mailbox yet."""
    age = (first.due_at or 0.0) - seconds - first.accepted_at
    comes = f"accepted {_span(age)} ago, is put off and comes into the mailbox in {_span(seconds)}"
    if seconds < -OVERDUE:
        serving = fleet is None or any(pod.state == "serving" for pod in fleet)
        when = "with the next heartbeat of a pod" if serving else "once a pod serves: none does"
        comes = f"accepted {_span(age)} ago, was put off, is overdue by {_span(-seconds)} and comes {when}"
    later = f"; {_count(count - 1, 'other command')} {'is' if count == 2 else 'are'} due later" * (count > 1)
    return f"{_called(first.command, first.command_id)}, {comes}{later}."


def _explain_buried(buried: Buried) -> str:
    """Says what failed for good."""
    tries = f" after {_count(buried.attempts, 'attempt')}" * bool(buried.attempts)
    others = f", as did {_count(buried.others, 'other')} of this entity" * bool(buried.others)
    return (
        f"{_called(buried.command, buried.command_id)} became a dead letter {_span(buried.died)} ago{tries} "
        f"({_short(buried.error)}){others}: "
        "it stays one until somebody redelivers or discards it."
    )


# -------------------------------------------------------------------------------- parts of sentences
def _name(box: Mailbox) -> str:
    return f"{box.entity_type}/{box.entity_id}"


def _first(head: Head) -> str:
    return _called(head.command, head.command_id)


def _called(command: str, command_id: str) -> str:
    return "an undecodable command" if command == UNDECODABLE else f"{command} {command_id}"


def _silent(box: Mailbox) -> str:
    """Says since when its owner is silent, if that is longer than a heartbeat or two."""
    silent = box.owner_silent or 0.0
    allowed = SILENT_FOR if box.owner_silent_for is None else box.owner_silent_for / 2
    return f"was last heard of {_span(silent)} ago" if silent > allowed else ""


def _take_over(box: Mailbox, fleet: Sequence[Pod] | None) -> str:
    """Says whether and when others do."""
    left = None if box.owner_silent_for is None else box.owner_silent_for - (box.owner_silent or 0.0)
    when = "once its lease and grace are over" if left is None else f"in {_span(left)}"
    if fleet is None:
        if left is not None and left <= 0:
            when = f"as soon as there is one that serves {box.entity_type!r}"
        return f"unless it comes back, others take over {when}"
    others = [
        attrs.evolve(pod, name=f"another {pod.name}") if pod.name == box.owner else pod
        for pod in fleet
        if pod.state == "serving" and box.entity_type in pod.types and not _is_owner(box, pod)
    ]
    if not others:
        return (
            f"no other pod serves {box.entity_type!r}, so nothing happens until {box.owner} comes back or a pod "
            "that does is started"
        )
    if left is not None and left <= 0:
        when = "with a heartbeat"
    return f"unless it comes back, {_names(others, 'or')} takes over {when}"


def _is_owner(box: Mailbox, pod: Pod) -> bool:
    """Says whether a pod is the silent owner, and not one that was started in its place, by the same name."""
    return pod.name == box.owner and (pod.heard is None or pod.heard >= (box.owner_silent or 0.0))


def _work(box: Mailbox, *, owned: bool = True) -> str:
    no_pod = "" if owned else "no pod and "
    if box.head is None:
        return f"has {no_pod}nothing queued"
    accepted = f"accepted {_span(box.head.waited)} ago"
    return (
        f"has {no_pod}{_count(box.pending, 'command')} queued, {'the first ' * (box.pending > 1)}{accepted}"
    )


def _behind(box: Mailbox) -> str:
    behind = box.pending - 1
    if not behind:
        return "nothing waits behind it"
    return f"{_count(behind, 'more command')} {'waits' if behind == 1 else 'wait'} behind it"


def _begun(box: Mailbox, head: Head) -> str:
    """Says for how long its handler may have run, where that is less than it has been there."""
    if box.claimed_for is None or box.claimed_for > head.waited - 1:
        return ""
    return f" and begun {_span(box.claimed_for)} ago at the earliest"


def _failures(head: Head) -> str:
    told = [f"has failed {_times(head.attempts)}"] * bool(head.attempts)
    told += [f"was in hand when {_count(head.crashes, 'pod')} died"] * bool(head.crashes)
    return f", which {' and '.join(told)}" if told else ""


def _declined(box: Mailbox) -> str:
    return f"first declined {_span(box.unknown_for)} ago by a pod that does not know it"


def _grace() -> str:
    return "is a dead letter once EntityPolicy.unknown_grace is over"


def _names(pods: Sequence[Pod], last: str = "and") -> str:
    """Names pods, or a few of them."""
    names = [pod.name for pod in pods[:SHOWN_PODS]]
    if len(pods) > SHOWN_PODS:
        names.append(_count(len(pods) - SHOWN_PODS, "other"))
    return f"{', '.join(names[:-1])} {last} {names[-1]}" if len(names) > 1 else names[0]


def _do(pods: Sequence[Pod], one: str, many: str) -> str:
    return f"{_names(pods)} {one if len(pods) == 1 else many}"


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
