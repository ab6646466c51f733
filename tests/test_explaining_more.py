"""What is said beside the first sentence: of the pods, of a deadline, and of all else that holds an entity up."""

from typing import Any

import attrs
import pytest
from mailboxes import box, head, pod

from trioqueue import Mailbox, QueuedCommand
from trioqueue._explaining import Buried, Callee, explain_all
from trioqueue._mailbox import UNDECODABLE
from trioqueue.protocol.lifecycle import Mode


def later(seconds: float, command_id: str = "c9") -> tuple[QueuedCommand, float]:
    """Makes a command that is put off, accepted 4 minutes ago, and in how many seconds it is due."""
    due_at = 1000.0 + seconds
    return (
        QueuedCommand("switch", command_id, 1, {}, {}, (), None, False, False, 1000.0 - 240, due_at),
        seconds,
    )


WAITS = "lamp/a has 1 command queued, accepted 4 min ago, and has been waiting 3 min for a pod that "
ROOM = f"{WAITS}serves 'lamp' and has room: it starts when there is one. "
SILENT = (
    "lamp/a has 1 command queued, accepted 4 min ago, and its pod red was last heard of 3 s ago, "
    "so it is dead, frozen or cut off: "
)
IDLE = "lamp/a is idle: nothing is queued, no pod owns it, and the next command wakes it. "
HANDLED = (
    "red is handling switch c1 of lamp/a, accepted 4 min ago: it is done when its handler ends, "
    "and nothing waits behind it. "
)
READY = box(Mode.READY, 1)
SILENT_OWNER = box(Mode.PARKED, 1, owner_silent=3.0, owner_silent_for=4.5)
SPIN = Callee("fan/a", "spin", "c2", 3.0, "fan/a does so and so.")
DEAD = Buried("switch", "c1", 5.0, 2, "OSError: it is\n jammed", 0)

MORE: dict[str, tuple[Mailbox, dict[str, Any], str]] = {
    # ------------------------------------------------------------------------------ who could take it
    "no pod": (READY, {"fleet": []}, f"{ROOM}No pod is registered."),
    "one pod that serves another type": (
        READY,
        {"fleet": [pod("red", "fan")]},
        f"{ROOM}The only registered pod, red, does not serve 'lamp'.",
    ),
    "many pods that serve other types": (
        READY,
        {"fleet": [pod(name, "fan") for name in ("red", "blue", "green", "grey", "pink")]},
        f"{ROOM}None of the 5 registered pods, red, blue, green and 2 others, serves 'lamp'.",
    ),
    "a pod that is full": (
        READY,
        {"fleet": [pod("red", owned=100), pod("blue", "fan")]},
        f"{ROOM}Of those that serve 'lamp', red owns all entities that it may (Limits.owned).",
    ),
    "pods that are full": (
        READY,
        {"fleet": [pod("red", owned=100), pod("blue", owned=100)]},
        f"{ROOM}Of those that serve 'lamp', red and blue own all entities that they may (Limits.owned).",
    ),
    "one of them has room": (
        READY,
        {"fleet": [pod("red", owned=100), pod("blue")]},
        f"{ROOM}blue has room for entities of 'lamp', and may take it with a heartbeat.",
    ),
    "a pod that is not heard of": (
        READY,
        {"fleet": [pod("red", state="silent")]},
        f"{ROOM}red serves 'lamp', and is silent.",
    ),
    "pods that are leaving or not heard of": (
        READY,
        {"fleet": [pod("red", state="silent"), pod("blue", state="leaving")]},
        f"{ROOM}red and blue serve 'lamp', and are leaving or silent.",
    ),
    "pods that may not know it": (
        box(Mode.READY, 1, unknown_for=170.0),
        {"fleet": [pod("red"), pod("blue", "fan")]},
        (
            f"{WAITS}knows switch (first declined 3 min ago): it starts when there is one, or is a dead letter once "
            "EntityPolicy.unknown_grace is over. Of the registered pods, red serves 'lamp'."
        ),
    ),
    "no pod, but its type is paused": (
        box(Mode.READY, 1, type_paused=True),
        {"fleet": []},
        (
            "The type of lamp/a has been paused for 60 s (maintenance), and lamp/a has no pod and 1 command queued, "
            "accepted 4 min ago: nothing starts before resume('lamp')."
        ),
    ),
    # ------------------------------------------------------------------------------ who takes over
    "a silent owner, and others": (
        SILENT_OWNER,
        {"fleet": [pod("red", state="silent"), pod("blue"), pod("green"), pod("grey", "fan")]},
        f"{SILENT}unless it comes back, blue or green takes over in 2 s.",
    ),
    "a silent owner whose time is over, and another": (
        box(Mode.PARKED, 1, owner_silent=30.0, owner_silent_for=4.5),
        {"fleet": [pod("red", state="silent"), pod("blue")]},
        f"{SILENT.replace('3 s ago', '30 s ago')}unless it comes back, blue takes over with a heartbeat.",
    ),
    "a silent owner, and one that was started in its place": (
        SILENT_OWNER,
        {"fleet": [attrs.evolve(pod("red"), heard=3.0), pod("red")]},
        f"{SILENT}unless it comes back, another red takes over in 2 s.",
    ),
    "a silent owner, and nobody else": (
        SILENT_OWNER,
        {"fleet": [pod("red", state="silent"), pod("blue", "fan"), pod("green", state="leaving")]},
        (
            f"{SILENT}no other pod serves 'lamp', so nothing happens until red comes back or a pod that does is "
            "started."
        ),
    ),
    # ------------------------------------------------------------------------------ deadlines
    "a deadline of what is handled": (
        box(Mode.ACTIVE, 1, head=head(expires_in=12.0)),
        {},
        f"{HANDLED}It is cancelled in 12 s unless it is done by then: that is its deadline.",
    ),
    "a deadline of what waits": (
        box(Mode.READY, 1, head=head(expires_in=12.0)),
        {},
        f"{ROOM}switch c1 is dropped unless it starts within 12 s: that is its deadline.",
    ),
    "a deadline that has passed": (
        box(Mode.READY, 1, head=head(expires_in=0.0)),
        {},
        f"{ROOM}The deadline of switch c1 is over: it is dropped instead of started.",
    ),
    # ------------------------------------------------------------------------------ whom it waits for
    "a callee": (
        box(Mode.ACTIVE, 1),
        {"callee": SPIN},
        (
            f"{HANDLED}Its handler waits for fan/a to answer spin c2, accepted 3 s ago. "
            "As to fan/a: fan/a does so and so."
        ),
    ),
    "a callee behind others, with a deadline": (
        box(Mode.ACTIVE, 1),
        {"callee": attrs.evolve(SPIN, before=4, gives_up=27.0)},
        (
            f"{HANDLED}Its handler waits for fan/a to answer spin c2, accepted 3 s ago behind 4 other commands, "
            "and gives up in 27 s. As to fan/a: fan/a does so and so."
        ),
    ),
    "a callee of a callee": (
        box(Mode.ACTIVE, 1),
        {"callee": attrs.evolve(SPIN, entity="rotor/1", command="turn", command_id="c3", via=("fan/a",))},
        (
            f"{HANDLED}Its handler waits for fan/a, whose handler waits for rotor/1 to answer turn c3, "
            "accepted 3 s ago. As to rotor/1: fan/a does so and so."
        ),
    ),
    # ------------------------------------------------------------------------------ a full mailbox
    "full": (
        box(Mode.ACTIVE, 2, full_for=5.0, full_limit=2),
        {},
        (
            f"{HANDLED.replace('nothing waits', '1 more command waits')}Its mailbox is full: a sender that allows 2 "
            "commands in it (EntityPolicy.max_pending) was refused 5 s ago, and others will be until it holds fewer."
        ),
    ),
    "full, and emptier since": (box(Mode.ACTIVE, 1, full_for=5.0, full_limit=2), {}, HANDLED),
    # ------------------------------------------------------------------------------ what is put off
    "put off": (
        box(Mode.IDLE),
        {"put_off": [later(30)]},
        f"{IDLE}switch c9, accepted 4 min ago, is put off and comes into the mailbox in 30 s.",
    ),
    "two put off": (
        box(Mode.IDLE),
        {"put_off": [later(30), later(60)], "fleet": []},
        (
            f"{IDLE}switch c9, accepted 4 min ago, is put off and comes into the mailbox in 30 s; "
            "1 other command is due later."
        ),
    ),
    "three put off": (
        box(Mode.IDLE),
        {"put_off": [later(0.2), later(60), later(90)]},
        (
            f"{IDLE}switch c9, accepted 4 min ago, is put off and comes into the mailbox in less than a second; "
            "2 other commands are due later."
        ),
    ),
    "overdue, and nobody brings it": (
        box(Mode.IDLE),
        {"put_off": [later(-30)], "fleet": [pod("red", state="silent")]},
        (
            f"{IDLE}switch c9, accepted 4 min ago, was put off, is overdue by 30 s and comes once a pod serves: "
            "none does."
        ),
    ),
    "overdue": (
        box(Mode.IDLE),
        {"put_off": [later(-3)], "fleet": [pod("red", "fan")]},
        (
            f"{IDLE}switch c9, accepted 4 min ago, was put off, is overdue by 3 s and comes with the next heartbeat "
            "of a pod."
        ),
    ),
    # ------------------------------------------------------------------------------ what failed for good
    "a dead letter": (
        box(Mode.IDLE),
        {"buried": DEAD},
        (
            f"{IDLE}switch c1 became a dead letter 5 s ago after 2 attempts (OSError: it is jammed): it stays one "
            "until somebody redelivers or discards it."
        ),
    ),
    "dead letters": (
        box(Mode.IDLE),
        {"buried": attrs.evolve(DEAD, command=UNDECODABLE, attempts=0, error="x" * 1000, others=2)},
        (
            f"{IDLE}an undecodable command became a dead letter 5 s ago ({'x' * 200}…), "
            "as did 2 others of this entity: it stays one until somebody redelivers or discards it."
        ),
    ),
    "all of it, in the order of what matters": (
        box(Mode.ACTIVE, 1, full_for=5.0, full_limit=1, head=head(expires_in=12.0)),
        {"callee": SPIN, "put_off": [later(30)], "buried": DEAD, "fleet": [pod()]},
        (
            f"{HANDLED}It is cancelled in 12 s unless it is done by then: that is its deadline. "
            "Its handler waits for fan/a to answer spin c2, accepted 3 s ago. As to fan/a: fan/a does so and so. "
            "Its mailbox is full: a sender that allows 1 command in it (EntityPolicy.max_pending) was refused 5 s ago, "
            "and others will be until it holds fewer. "
            "switch c9, accepted 4 min ago, is put off and comes into the mailbox in 30 s. "
            "switch c1 became a dead letter 5 s ago after 2 attempts (OSError: it is jammed): it stays one until "
            "somebody redelivers or discards it."
        ),
    ),
}


@pytest.mark.parametrize(("seen", "known", "sentences"), MORE.values(), ids=MORE)
def test_more_is_said_where_there_is_more_to_say(
    seen: Mailbox, known: dict[str, Any], sentences: str
) -> None:
    assert explain_all(seen, **known) == sentences.strip()
