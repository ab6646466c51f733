"""The sentences that says why nothing happens with an entity: a table of what is seen, and what is said of it."""

from typing import Any

import pytest

from trioqueue import Codec, Entity, Head, Mailbox
from trioqueue._explaining import SILENT_FOR, explain
from trioqueue._mailbox import UNDECODABLE, mailbox_of
from trioqueue.messages.envelope import Envelope, encode_envelope
from trioqueue.protocol.lifecycle import Mode
from trioqueue.stores.reports import Inspection, Queued


def box(mode: Mode, pending: int = 0, **seen: Any) -> Mailbox:
    """Makes a mailbox of `lamp/a` with so many commands; those of `head` and `pod` are what stands here."""
    head = Head("switch", "c1", waited=240.0, attempts=0, crashes=0) if pending else None
    usual: dict[str, Any] = {
        "entity_type": "lamp",
        "entity_id": "a",
        "mode": mode.value,
        "pending": pending,
        "head": head,
        "owner": "red" if mode in (Mode.PARKED, Mode.ACTIVE) else None,
        "owner_silent": 0.4 if mode in (Mode.PARKED, Mode.ACTIVE) else None,
        "fence": 1,
        "due_in": None,
        "unknown_for": None,
        "ready_for": 180.0 if mode is Mode.READY else None,
        "paused_for": 300.0 if mode is Mode.PAUSED else None,
        "paused_why": "by an operator" if mode is Mode.PAUSED else "",
        "type_paused": False,
        "type_paused_for": 60.0 if seen.get("type_paused") else None,
        "type_paused_why": "maintenance" if seen.get("type_paused") else "",
        "state_bytes": 0,
    }
    return Mailbox(**{**usual, **seen})


def head(attempts: int = 0, crashes: int = 0, waited: float = 240.0, command: str = "switch") -> Head:
    return Head(command, "c1", waited, attempts, crashes)


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
    # ------------------------------------------------------------------------------ it goes on by itself
    "about to start": (
        box(Mode.PARKED, 1),
        """
        lamp/a has 1 command queued, accepted 4 min ago:
        red is about to start switch c1.
        """,
    ),
    "handled": (
        box(Mode.ACTIVE, 1),
        """
        red is handling switch c1 of lamp/a, accepted 4 min ago:
        nothing waits behind it.
        """,
    ),
    "handled again": (
        box(Mode.ACTIVE, 2, head=head(attempts=1)),
        """
        red is handling switch c1 of lamp/a, accepted 4 min ago, which has failed once:
        1 more command waits behind it.
        """,
    ),
    "handled after crashes": (
        box(Mode.ACTIVE, 3, head=head(attempts=2, crashes=1)),
        """
        red is handling switch c1 of lamp/a, accepted 4 min ago, which has failed twice and was in hand when
        1 pod died:
        2 more commands wait behind it.
        """,
    ),
    "backoff": (
        box(Mode.PARKED, 4, head=head(attempts=3), due_in=29.0),
        """
        switch c1 of lamp/a has failed 3 times and starts again on red in 29 s:
        3 more commands wait behind it.
        """,
    ),
    "backoff of what was declined before": (
        box(Mode.PARKED, 1, head=head(attempts=1), due_in=0.5, unknown_for=600.0),
        """
        switch c1 of lamp/a has failed once and starts again on red in less than a second:
        nothing waits behind it.
        """,
    ),
    "backoff after an activation failed": (
        box(Mode.PARKED, 1, due_in=8.0),
        """
        switch c1 of lamp/a waits out a backoff, with no failure counted, and starts on red in 8 s:
        nothing waits behind it.
        """,
    ),
    "declined": (
        box(Mode.PARKED, 1, due_in=0.9, unknown_for=130.0),
        """
        switch c1 of lamp/a was first declined 2 min ago by a pod that does not know it, and is tried on red
        in less than a second:
        where no pod knows it, it is a dead letter once EntityPolicy.unknown_grace is over.
        """,
    ),
    "declined, and looked at again": (
        box(Mode.PARKED, 1, unknown_for=130.0),
        """
        lamp/a has 1 command queued, accepted 4 min ago:
        red is about to start switch c1, first declined 2 min ago by a pod that does not know it.
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
        lamp/a has 2 commands queued, the first accepted 4 min ago, and its pod red was last heard of 7 s
        ago:
        unless it comes back, others take over once its lease and grace are over.
        """,
    ),
    "silent owner of nothing": (
        box(Mode.PARKED, owner_silent=7.0),
        """
        lamp/a has nothing queued, and its pod red was last heard of 7 s ago:
        unless it comes back, others take over once its lease and grace are over.
        """,
    ),
    # ------------------------------------------------------------------------------ an operator holds it back
    "paused": (
        box(Mode.PAUSED, 3),
        """
        lamp/a has been paused for 5 min (by an operator), and it has 3 commands queued, the first accepted
        4 min ago:
        nothing starts before resume('lamp', 'a').
        """,
    ),
    "paused with nothing queued": (
        box(Mode.PAUSED),
        """
        lamp/a has been paused for 5 min (by an operator), and it has nothing queued:
        nothing starts before resume('lamp', 'a').
        """,
    ),
    "paused by its head": (
        box(Mode.PAUSED, 1, paused_why="switch c1 failed for good: OSError: it is\n  jammed"),
        """
        lamp/a has been paused for 5 min (switch c1 failed for good: OSError: it is jammed), and it has 1
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
        The type of lamp/a has been paused for 60 s (maintenance), and lamp/a has 2 commands queued,
        the first accepted 4 min ago:
        nothing starts before resume('lamp').
        """,
    ),
    "of a type that an older release has paused": (
        box(Mode.READY, 2, type_paused=True, type_paused_why="", type_paused_for=None),
        """
        The type of lamp/a is paused, and lamp/a has 2 commands queued, the first accepted 4 min ago:
        nothing starts before resume('lamp').
        """,
    ),
    "idle, of a paused type": (
        box(Mode.IDLE, type_paused=True),
        """
        The type of lamp/a has been paused for 60 s (maintenance), and lamp/a has nothing queued:
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
        too, and it has 1 command
        queued, accepted 4 min ago:
        nothing starts before resume('lamp', 'a') and resume('lamp').
        """,
    ),
    # ------------------------------------------------------------------------------ what can't be read
    "undecodable": (
        box(Mode.ACTIVE, 1, head=head(command=UNDECODABLE)),
        """
        red is handling an undecodable command of lamp/a, accepted 4 min ago:
        nothing waits behind it.
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
def test_there_is_one_sentence_for_whatever_is_seen(mode: Mode, pending: int, type_paused: bool) -> None:
    silent = {"owner": "red", "owner_silent": 9.0}
    for seen in ({}, {"due_in": 3.0}, {"unknown_for": 3.0}, silent, {"paused_why": "so"}):
        said = explain(box(mode, pending, type_paused=type_paused, **seen))
        assert said.endswith(".")
        assert "None" not in said
        assert "\n" not in said
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


# ------------------------------------------------------------------------------------ from what the store knows
LAMP = Entity("lamp", "a")
NOW = 1_700_000_000_000_000


def envelope() -> bytes:
    return encode_envelope(Codec(), Envelope("c1", LAMP, "switch"))


def test_times_become_durations() -> None:
    seen = mailbox_of(
        Codec(),
        LAMP,
        Inspection(
            NOW,
            Mode.ACTIVE,
            owner="abc.1",
            owner_name="red",
            owner_renewed_us=NOW - 500_000,
            epoch=7,
            queued=2,
            head=Queued(NOW - 3_000_000, envelope()),
            attempts=1,
            crashes=2,
            due_us=NOW + 4_000_000,
            unknown_since_us=NOW - 5_000_000,
            ready_since_us=NOW - 6_000_000,
            paused_since_us=NOW - 7_000_000,
            paused_why="so",
            held=True,
            held_since_us=NOW - 8_000_000,
            held_why="so too",
            state_bytes=9,
        ),
    )
    assert seen == Mailbox(
        "lamp",
        "a",
        "active",
        2,
        Head("switch", "c1", 3.0, 1, 2),
        "red",
        0.5,
        7,
        due_in=4.0,
        unknown_for=5.0,
        ready_for=6.0,
        paused_for=7.0,
        paused_why="so",
        type_paused=True,
        type_paused_for=8.0,
        type_paused_why="so too",
        state_bytes=9,
    )


def test_what_the_store_does_not_know_is_none() -> None:
    seen = mailbox_of(Codec(), LAMP, Inspection(NOW, Mode.IDLE))
    assert seen == box(Mode.IDLE, fence=0)


def test_a_time_that_lies_ahead_or_behind_is_now() -> None:
    """Redis' clock may be set back between two times, and what was due may not have started yet."""
    ahead, behind = NOW + 1_000_000, NOW - 1_000_000
    seen = mailbox_of(
        Codec(), LAMP, Inspection(NOW, Mode.PARKED, head=Queued(ahead, envelope()), due_us=behind, queued=1)
    )
    assert seen.head
    assert (seen.head.waited, seen.due_in) == (0.0, 0.0)


def test_a_pod_that_is_leaving_is_not_silent_since_the_epoch() -> None:
    seen = mailbox_of(Codec(), LAMP, Inspection(NOW, Mode.PARKED, owner="abc.1", owner_renewed_us=0))
    assert (seen.owner, seen.owner_silent) == ("abc.1", None)
    assert (
        explain(seen) == "lamp/a is awake on abc.1 and has nothing queued: the next command starts at once."
    )


def test_a_head_that_cannot_be_read_is_shown_as_such() -> None:
    seen = mailbox_of(Codec(), LAMP, Inspection(NOW, Mode.READY, head=Queued(NOW, b"\xff"), queued=1))
    assert seen.head
    assert seen.head.command == seen.head.command_id == UNDECODABLE


def test_a_healthy_pod_is_not_called_silent() -> None:
    assert "last heard" not in explain(box(Mode.PARKED, owner_silent=SILENT_FOR))
