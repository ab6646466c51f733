"""The sentence that says why nothing happens with an entity: a table of what is seen, and what is said of it."""

import pytest
from mailboxes import box, head, pod

from trioqueue import Mailbox, Pod
from trioqueue._explaining import SILENT_FOR, explain, explain_all
from trioqueue._mailbox import UNDECODABLE
from trioqueue.protocol.lifecycle import Mode

SENTENCES: dict[str, tuple[Mailbox, str]] = {
    # ------------------------------------------------------------------------------ nothing to do
    "idle": (
        box(Mode.IDLE),
        """
        lamp/a is idle:
        nothing is queued, no pod owns it, and the next command wakes it.
        """,
    ),
    "awake": (
        box(Mode.PARKED),
        """
        lamp/a is awake on red and has nothing queued:
        the next command starts at once.
        """,
    ),
    "awake for long": (
        box(Mode.PARKED, claimed_for=180.0),
        """
        lamp/a is awake on red (last claimed 3 min ago) and has nothing queued:
        the next command starts at once.
        """,
    ),
    # ------------------------------------------------------------------------------ it goes on by itself
    "about to start": (
        box(Mode.PARKED, 1),
        """
        lamp/a has 1 command queued, accepted 4 min ago:
        red is about to start switch c1, within a heartbeat.
        """,
    ),
    "handled": (
        box(Mode.ACTIVE, 1),
        """
        red is handling switch c1 of lamp/a, accepted 4 min ago:
        it is done when its handler ends, and nothing waits behind it.
        """,
    ),
    "handled since it was claimed": (
        box(Mode.ACTIVE, 1, claimed_for=5.0),
        """
        red is handling switch c1 of lamp/a, accepted 4 min ago and begun 5 s ago at the earliest:
        it is done when its handler ends, and nothing waits behind it.
        """,
    ),
    "handled, of an entity that was claimed before": (
        box(Mode.ACTIVE, 1, claimed_for=900.0),
        """
        red is handling switch c1 of lamp/a, accepted 4 min ago:
        it is done when its handler ends, and nothing waits behind it.
        """,
    ),
    "handled again": (
        box(Mode.ACTIVE, 2, head=head(attempts=1)),
        """
        red is handling switch c1 of lamp/a, accepted 4 min ago, which has failed once:
        it is done when its handler ends, and 1 more command waits behind it.
        """,
    ),
    "handled after crashes": (
        box(Mode.ACTIVE, 3, head=head(attempts=2, crashes=1)),
        """
        red is handling switch c1 of lamp/a, accepted 4 min ago, which has failed twice and was in hand when
        1 pod died:
        it is done when its handler ends, and 2 more commands wait behind it.
        """,
    ),
    "backoff": (
        box(Mode.PARKED, 4, head=head(attempts=3), due_in=29.0),
        """
        switch c1 of lamp/a, accepted 4 min ago, has failed 3 times (the log of its pod says why)
        and starts again on red in 29 s:
        3 more commands wait behind it.
        """,
    ),
    "backoff of what was declined before": (
        box(Mode.PARKED, 1, head=head(attempts=1), due_in=0.5, unknown_for=600.0),
        """
        switch c1 of lamp/a, accepted 4 min ago, has failed once (the log of its pod says why)
        and starts again on red in less than a second:
        nothing waits behind it.
        """,
    ),
    "backoff after an activation failed": (
        box(Mode.PARKED, 1, due_in=8.0),
        """
        switch c1 of lamp/a, accepted 4 min ago, waits out a backoff, with no failure counted, and starts on red in 8 s:
        nothing waits behind it.
        """,
    ),
    "declined": (
        box(Mode.PARKED, 1, due_in=0.9, unknown_for=130.0),
        """
        switch c1 of lamp/a, accepted 4 min ago, was first declined 2 min ago by a pod that does not know it,
        and is tried on red
        in less than a second:
        where no pod knows it, it is a dead letter once EntityPolicy.unknown_grace is over.
        """,
    ),
    "declined, and looked at again": (
        box(Mode.PARKED, 1, unknown_for=130.0),
        """
        lamp/a has 1 command queued, accepted 4 min ago:
        red is about to start switch c1, first declined 2 min ago by a pod that does not know it, within a
        heartbeat.
        """,
    ),
    "declined, and in hand": (
        box(Mode.ACTIVE, 2, unknown_for=130.0),
        """
        red has switch c1 of lamp/a in hand, first declined 2 min ago by a pod that does not know it:
        1 more command waits behind it.
        """,
    ),
    "suspect": (
        box(Mode.PARKED, 1, head=head(crashes=2)),
        """
        lamp/a has 1 command queued, accepted 4 min ago, and 2 pods died with switch c1 in hand:
        red starts it alone, as soon as it has no other such command in hand.
        """,
    ),
    # ------------------------------------------------------------------------------ a pod is missing
    "ready": (
        box(Mode.READY, 2),
        """
        lamp/a has 2 commands queued, the first accepted 4 min ago, and has been waiting 3 min for a pod
        that serves 'lamp' and has room:
        it starts when there is one.
        """,
    ),
    "ready in a backoff": (
        box(Mode.READY, 1, head=head(attempts=1), due_in=20.0),
        """
        lamp/a has 1 command queued, accepted 4 min ago, and has been waiting 3 min for a pod that serves
        'lamp' and has room:
        it starts when there is one, in 20 s at the earliest.
        """,
    ),
    "ready and declined": (
        box(Mode.READY, 1, unknown_for=170.0),
        """
        lamp/a has 1 command queued, accepted 4 min ago, and has been waiting 3 min for a pod that knows
        switch (first declined 3 min ago):
        it starts when there is one, or is a dead letter once EntityPolicy.unknown_grace is over.
        """,
    ),
    "silent owner": (
        box(Mode.ACTIVE, 2, owner_silent=7.0),
        """
        lamp/a has 2 commands queued, the first accepted 4 min ago, and its pod red, with switch c1 in hand,
        was last heard of 7 s ago, so it is dead, frozen or cut off:
        unless it comes back, others take over once its lease and grace are over.
        """,
    ),
    "silent owner of nothing": (
        box(Mode.PARKED, owner_silent=7.0),
        """
        lamp/a has nothing queued, and its pod red was last heard of 7 s ago, so it is dead, frozen or cut off:
        unless it comes back, others take over once its lease and grace are over.
        """,
    ),
    "silent owner whose lease is known": (
        box(Mode.PARKED, 1, owner_silent=3.0, owner_silent_for=4.5),
        """
        lamp/a has 1 command queued, accepted 4 min ago, and its pod red was last heard of 3 s ago,
        so it is dead, frozen or cut off:
        unless it comes back, others take over in 2 s.
        """,
    ),
    "silent owner whose time is over": (
        box(Mode.PARKED, 1, owner_silent=30.0, owner_silent_for=4.5),
        """
        lamp/a has 1 command queued, accepted 4 min ago, and its pod red was last heard of 30 s ago,
        so it is dead, frozen or cut off:
        unless it comes back, others take over as soon as there is one that serves 'lamp'.
        """,
    ),
    # ------------------------------------------------------------------------------ the server was restarted
    "quarantine": (
        box(Mode.ACTIVE, 2, quarantine_left=3.0, owner_silent=9.0),
        """
        lamp/a, which red had, has 2 commands queued, the first accepted 4 min ago, and nothing of any entity
        starts for another 3 s:
        Redis was restarted or failed over, and pods that may not have noticed must have stopped before; then a
        pod that serves 'lamp' goes on with it.
        """,
    ),
    "quarantine that a heartbeat ends": (
        box(Mode.IDLE, quarantine_left=0.0),
        """
        lamp/a has nothing queued, and nothing of any entity starts before the next heartbeat of any pod:
        Redis was restarted or failed over, and pods that may not have noticed must have stopped before; then a
        pod that serves 'lamp' can take it.
        """,
    ),
    "paused in a quarantine": (
        box(Mode.PAUSED, quarantine_left=3.0),
        """
        lamp/a has been paused for 5 min (by an operator), and it has no pod and nothing queued:
        nothing starts before resume('lamp', 'a').
        """,
    ),
    # ------------------------------------------------------------------------------ an operator holds it back
    "paused": (
        box(Mode.PAUSED, 3),
        """
        lamp/a has been paused for 5 min (by an operator), and it has no pod and 3 commands queued, the first
        accepted 4 min ago:
        nothing starts before resume('lamp', 'a').
        """,
    ),
    "paused with nothing queued": (
        box(Mode.PAUSED),
        """
        lamp/a has been paused for 5 min (by an operator), and it has no pod and nothing queued:
        nothing starts before resume('lamp', 'a').
        """,
    ),
    "paused by its head": (
        box(Mode.PAUSED, 1, paused_why="switch c1 failed for good: OSError: it is\n  jammed"),
        """
        lamp/a has been paused for 5 min (switch c1 failed for good: OSError: it is jammed), and it has no pod and 1
        command queued, accepted 4 min ago:
        nothing starts before resume('lamp', 'a').
        """,
    ),
    "paused in its turn": (
        box(Mode.ACTIVE, 3, paused_for=2.0, paused_why="by an operator"),
        """
        lamp/a has been paused for 2 s (by an operator), and red is still handling switch c1:
        after that, nothing starts before resume('lamp', 'a').
        """,
    ),
    "paused in its turn, and its pod is silent": (
        box(Mode.ACTIVE, 3, paused_for=9.0, paused_why="by an operator", owner_silent=7.0),
        """
        lamp/a has been paused for 9 s (by an operator), and red, which was handling switch c1, was last
        heard of 7 s ago:
        nothing starts before resume('lamp', 'a').
        """,
    ),
    "paused, and let go of in a moment": (
        box(Mode.PARKED, 1, paused_for=0.1, paused_why="by an operator"),
        """
        lamp/a has been paused for less than a second (by an operator), and it has 1 command queued,
        accepted 4 min ago:
        nothing starts before resume('lamp', 'a').
        """,
    ),
    "of a paused type": (
        box(Mode.READY, 2, type_paused=True),
        """
        The type of lamp/a has been paused for 60 s (maintenance), and lamp/a has no pod and 2 commands queued,
        the first accepted 4 min ago:
        nothing starts before resume('lamp').
        """,
    ),
    "of a type that an older release has paused": (
        box(Mode.READY, 2, type_paused=True, type_paused_why="", type_paused_for=None),
        """
        The type of lamp/a is paused, and lamp/a has no pod and 2 commands queued, the first accepted 4 min ago:
        nothing starts before resume('lamp').
        """,
    ),
    "idle, of a paused type": (
        box(Mode.IDLE, type_paused=True),
        """
        The type of lamp/a has been paused for 60 s (maintenance), and lamp/a has no pod and nothing queued:
        nothing starts before resume('lamp').
        """,
    ),
    "handled, of a paused type": (
        box(Mode.ACTIVE, 1, type_paused=True),
        """
        The type of lamp/a has been paused for 60 s (maintenance), and red is still handling switch c1:
        after that, nothing starts before resume('lamp').
        """,
    ),
    "paused, of a paused type": (
        box(Mode.PAUSED, 1, type_paused=True),
        """
        lamp/a has been paused for 5 min (by an operator), its type has been paused for 60 s (maintenance)
        too, and it has no pod and 1 command
        queued, accepted 4 min ago:
        nothing starts before resume('lamp', 'a') and resume('lamp').
        """,
    ),
    # ------------------------------------------------------------------------------ what can't be read
    "undecodable": (
        box(Mode.ACTIVE, 1, head=head(command=UNDECODABLE)),
        """
        red is handling an undecodable command of lamp/a, accepted 4 min ago:
        it is done when its handler ends, and nothing waits behind it.
        """,
    ),
}


POSSIBLE = [
    *((mode, 0) for mode in (Mode.IDLE, Mode.PARKED, Mode.PAUSED)),
    *((mode, pending) for mode in Mode if mode is not Mode.IDLE for pending in (1, 2)),
]
"""Modes, and how many commands an entity may have in them."""


@pytest.mark.parametrize(("seen", "sentence"), SENTENCES.values(), ids=SENTENCES)
def test_one_sentence_says_what_it_waits_for(seen: Mailbox, sentence: str) -> None:
    assert explain(seen) == " ".join(sentence.split())


@pytest.mark.parametrize(("mode", "pending"), POSSIBLE)
@pytest.mark.parametrize("type_paused", [False, True])
@pytest.mark.parametrize("fleet", [None, [], [pod("blue"), pod("red", state="silent")]])
def test_there_is_a_sentence_for_whatever_is_seen(
    mode: Mode, pending: int, type_paused: bool, fleet: list[Pod] | None
) -> None:
    silent = {"owner": "red", "owner_silent": 9.0}
    quarantine, claimed = {"quarantine_left": 2.0}, {"claimed_for": 2.0}
    for seen in (
        {}, {"due_in": 3.0}, {"unknown_for": 3.0}, silent, {"paused_why": "so"}, quarantine, claimed,
    ):  # fmt: skip
        one = box(mode, pending, type_paused=type_paused, **seen)
        for said in (explain(one, fleet), explain_all(one, fleet=fleet)):
            assert said.endswith(".")
            assert "None" not in said
            assert "\n" not in said
            assert "  " not in said
            assert "lamp/a" in said


@pytest.mark.parametrize(
    ("waited", "said"),
    [
        (0.0, "less than a second"),
        (0.99, "less than a second"),
        (1.0, "1 s"),
        (9.6, "10 s"),
        (119.0, "119 s"),
        (121.0, "2 min"),
        (5400.0, "90 min"),
        (3600.0 * 47, "47 h"),
        (86_400.0 * 12, "12 days"),
    ],
)
def test_a_duration_is_one_number(waited: float, said: str) -> None:
    assert f"accepted {said} ago" in explain(box(Mode.ACTIVE, 1, head=head(waited=waited)))


def test_a_long_reason_is_cut_in_the_sentence_alone() -> None:
    seen = box(Mode.PAUSED, 1, paused_why="x" * 1000)
    assert len(explain(seen)) < 500
    assert "xx…" in explain(seen)
    assert len(seen.paused_why) == 1000


def test_a_healthy_pod_is_not_called_silent() -> None:
    assert "last heard" not in explain(box(Mode.PARKED, owner_silent=SILENT_FOR))
