"""What an operator sees of an entity, made of what a store knows."""

import pytest

from trioqueue import Codec, Entity, Head, Mailbox
from trioqueue._mailbox import UNDECODABLE, mailbox_of
from trioqueue.messages.envelope import Envelope, encode_envelope
from trioqueue.protocol.lifecycle import Mode
from trioqueue.stores.reports import Inspection, Queued

LAMP = Entity("lamp", "a")
NOW = 1_700_000_000_000_000


def envelope(deadline: float | None = None) -> bytes:
    return encode_envelope(Codec(), Envelope("c1", LAMP, "switch", deadline=deadline))


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
            epoch=NOW - 2_500_000,
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
            owner_silent_us=4_500_000,
            full_since_us=NOW - 9_000_000,
            full_limit=2,
            quarantine_until_us=NOW + 1_000_000,
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
        NOW - 2_500_000,
        due_in=4.0,
        unknown_for=5.0,
        ready_for=6.0,
        paused_for=7.0,
        paused_why="so",
        type_paused=True,
        type_paused_for=8.0,
        type_paused_why="so too",
        state_bytes=9,
        owner_silent_for=4.5,
        full_for=9.0,
        full_limit=2,
        quarantine_left=1.0,
        claimed_for=2.5,
        at=NOW / 1e6,
    )


@pytest.mark.parametrize(("deadline", "left"), [(None, None), (10.0, 7.0), (2.0, 0.0)])
def test_a_deadline_counts_from_the_acceptance(deadline: float | None, left: float | None) -> None:
    queued = Queued(NOW - 3_000_000, envelope(deadline))
    seen = mailbox_of(Codec(), LAMP, Inspection(NOW, Mode.READY, head=queued, queued=1))
    assert seen.head
    assert seen.head.expires_in == left


def test_what_the_store_does_not_know_is_none() -> None:
    seen = mailbox_of(Codec(), LAMP, Inspection(NOW, Mode.IDLE))
    assert seen == Mailbox(
        entity_type="lamp",
        entity_id="a",
        mode="idle",
        pending=0,
        head=None,
        owner=None,
        owner_silent=None,
        fence=0,
        due_in=None,
        unknown_for=None,
        ready_for=None,
        paused_for=None,
        paused_why="",
        type_paused=False,
        type_paused_for=None,
        type_paused_why="",
        state_bytes=0,
        at=NOW / 1e6,
    )


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


def test_a_head_that_cannot_be_read_is_shown_as_such() -> None:
    seen = mailbox_of(Codec(), LAMP, Inspection(NOW, Mode.READY, head=Queued(NOW, b"\xff"), queued=1))
    assert seen.head
    assert seen.head.command == seen.head.command_id == UNDECODABLE
