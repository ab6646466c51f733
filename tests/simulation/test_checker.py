"""The checker says what is wrong, and nothing of a history that is well."""

import pytest

from .checker import check
from .history import (
    Accepted,
    Answered,
    Asked,
    Buried,
    Claimed,
    Confirmed,
    Copied,
    Dropped,
    Effect,
    Ended,
    Event,
    FellBack,
    Final,
    Gone,
    Held,
    Killed,
    Purged,
    PutOff,
    Redelivered,
    Settled,
    Started,
    Stopped,
    Ticked,
    Trusted,
    Withdrawn,
)

E = "ledger/e"


def asked(number: int, fate: str = "done", children: tuple[int, ...] = ()) -> Asked:
    return Asked(0.0, number, E, "s", fate, False, children)


def keyed(number: int) -> Asked:
    return Asked(0.0, number, E, "s", "done", False, (), "k")


def accepted(number: int, clock: float = 0.0) -> Accepted:
    return Accepted(1.0, E, number, clock)


def put_off(number: int) -> PutOff:
    return PutOff(0.5, E, number, 100.0)


def started(number: int, fence: int = 10, process: str = "p", at: float = 2.0) -> Started:
    return Started(at, process, E, number, fence, 1)


def ended(number: int, fence: int = 10, process: str = "p") -> Ended:
    return Ended(3.0, process, E, number, fence, "returned")


def settled(number: int, epoch: int = 10) -> Settled:
    return Settled(4.0, E, number, epoch)


SENT = [asked(1), asked(2), accepted(1), accepted(2), Confirmed(1.5, 1), Confirmed(1.5, 2)]
HELD = [Trusted(1.5, "p", 9.0), Claimed(1.5, E, 10, "p")]
TAKEN = [Trusted(2.0, "q", 20.0), Claimed(2.5, E, 11, "q")]
ONE = [started(1), Effect(2.5, "p", E, 1, 10), ended(1), settled(1)]
TWO = [started(2), ended(2), settled(2)]
TWO_OF_Q = [started(2, 11, "q", 6.0), ended(2, 11, "q"), settled(2, 11)]
DIED = [*ONE, Buried(4.0, E, 1)]
BOTH = Final({E: [1, 2]}, {})


def test_a_history_that_is_well() -> None:
    assert check([*SENT, *HELD, *ONE, *TWO, Answered(5.0, 2, 2)], BOTH) == []


def test_a_handler_that_a_killed_pod_ran_is_run_once_more() -> None:
    history = [
        *SENT,
        *HELD,
        started(1),
        Killed(2.2, "p"),
        *TAKEN,
        started(1, 11, "q", 3.0),
        ended(1, 11, "q"),
    ]

    rest = [settled(1, 11), started(2, 11, "q", 3.5), ended(2, 11, "q"), settled(2, 11)]

    assert check([*history, *rest], BOTH) == []


def test_what_is_lost_with_a_copy_is_not_wrong() -> None:
    history: list[Event] = [
        asked(1),
        accepted(1),
        Confirmed(1.5, 1),
        Copied(2.0, 1),
        asked(2),
        accepted(2),
        Confirmed(2.5, 2),
        FellBack(3.0, 1),
        *HELD,
        *ONE,
    ]

    assert check(history, Final({E: [1]}, {})) == []


def test_what_was_put_off_is_accepted_when_it_is_due_and_keeps_no_order() -> None:
    history = [asked(1), asked(2), put_off(1), Confirmed(0.6, 1), accepted(2), accepted(1, 100.0)]

    assert check([*history, *HELD, *TWO, *ONE], Final({E: [2, 1]}, {})) == []


def test_what_is_put_off_on_a_copy_too_is_moved_once_more() -> None:
    history: list[Event] = [asked(1), put_off(1), Copied(0.7, 1), accepted(1, 100.0), FellBack(3.0, 1)]

    assert check([*history, accepted(1, 100.0), *HELD, *ONE], Final({E: [1]}, {})) == []
    assert any("never moved" in wrong for wrong in check(history, Final({}, {})))


def test_the_first_command_of_a_key_stands_for_the_others() -> None:
    history = [keyed(1), keyed(2), accepted(1), Confirmed(1.5, 1), Confirmed(1.5, 2), *HELD, *ONE]

    assert check([*history, Answered(5.0, 2, 1)], Final({E: [1]}, {})) == []
    assert any(
        "the answer to 1 was 7" in w for w in check([*history, Answered(5.0, 2, 7)], Final({E: [1]}, {}))
    )


def test_the_turn_in_hand_outlives_a_pause_and_a_purge() -> None:
    history = [*SENT, *HELD, started(1), Held(2.1, E, True), Purged(2.2, E, 1), ended(1), Held(5.0, E, False)]

    assert check([*history, *TAKEN, *TWO_OF_Q], Final({E: [2]}, {})) == []


def test_a_dead_letter_is_handled_anew_where_it_was_put() -> None:
    def after(where: str, *then: Event) -> list[str]:
        states: list[int] = [one.number for one in then if isinstance(one, Settled)]
        return check([*SENT, *HELD, *DIED, Redelivered(5.0, E, 1, where), *then], Final({E: states}, {}))

    one, two = [started(1), ended(1), settled(1)], [started(2), ended(2), settled(2)]
    assert after("head", *one, *two) == after("tail", *two, *one) == after("nowhere", *two) == []
    assert any("out of turn" in wrong for wrong in after("head", *two, *one))
    assert any("settled twice" in wrong for wrong in after("nowhere", *one, *two))


def test_what_operators_did_since_a_copy_never_was() -> None:
    since = [Purged(2.0, E, 1), Held(2.1, E, True), Ticked(2.2, "s", 1, 0), FellBack(3.0, 1)]

    assert check([*SENT, Copied(1.6, 1), *since, *since[2:3], *HELD, *ONE, *TWO], BOTH) == []


@pytest.mark.parametrize(
    ("history", "final", "what"),
    [
        ([*SENT, *HELD, *ONE], Final({E: [1]}, {}), "never settled"),
        ([asked(1), Confirmed(1.0, 1)], Final({}, {}), "confirmed, and not accepted"),
        ([*SENT, accepted(1), *HELD, *ONE, *TWO], BOTH, "accepted twice"),
        ([*SENT, *HELD, *TWO, *ONE], BOTH, "settled out of turn"),
        ([*SENT, *HELD, *ONE, *TWO, settled(1)], BOTH, "settled twice"),
        ([*SENT, *HELD, *ONE, *TWO], Final({E: [1, 2, 1]}, {}), "stands twice"),
        ([*SENT, *HELD, *ONE, *TWO], Final({E: [1]}, {}), "left without an effect"),
        ([*SENT, *HELD, *ONE, *TWO], Final({E: [1]}, {2: "OSError"}), "is dead"),
        ([*SENT, *HELD, *ONE, *TWO, Answered(5.0, 2, 7)], BOTH, "the answer to 2 was 7"),
        ([*SENT, *HELD, *ONE, *TWO, Claimed(5.0, E, 10, "p")], BOTH, "not above all earlier"),
        ([*SENT, *HELD, started(1), started(1), *ONE, *TWO], BOTH, "started twice under one fence"),
        ([*SENT, *HELD, started(1, process="q"), *ONE, *TWO], BOTH, "fence of another"),
        ([*SENT, *HELD, started(1, at=9.5), *ONE, *TWO], BOTH, "started without a lease"),
        ([*SENT, *HELD, started(1), *TAKEN, started(1, 11, "q"), *ONE, *TWO], BOTH, "runs beside 1 of p"),
        ([*SENT, *HELD, *ONE, *TAKEN, Effect(5.0, "q", E, 1, 11), *TWO], BOTH, "although it was settled"),
        (
            [asked(1, children=(2,)), asked(2), accepted(1), *HELD, *ONE],
            Final({E: [1]}, {}),
            "child of 1, was never accepted",
        ),
        ([asked(1), asked(2), accepted(2), accepted(1)], Final({}, {}), "1 was sent before 2"),
        ([asked(1), put_off(1), accepted(1, 99.0), *HELD, *ONE], Final({E: [1]}, {}), "before it was due"),
        ([asked(1), put_off(1), Confirmed(0.6, 1)], Final({}, {}), "1 was put off, and never moved"),
        ([asked(1), put_off(1), put_off(1)], Final({}, {}), "accepted twice"),
        ([asked(1), put_off(1), *HELD, *ONE, accepted(1, 100.0)], Final({E: [1]}, {}), "and not accepted"),
        ([keyed(1), keyed(2), accepted(1), accepted(2)], Final({}, {}), "accepted beside 1"),
        ([keyed(1), keyed(2), put_off(1), accepted(2)], Final({}, {}), "accepted beside 1"),
        ([keyed(1), Confirmed(1.0, 1)], Final({}, {}), "confirmed, and not accepted"),
        ([keyed(1), Gone(1.0, 1)], Final({}, {}), "told that it is gone"),
        ([*SENT, Held(1.6, E, True), *HELD, *ONE, *TWO], BOTH, "although it is held back"),
        ([*SENT, *HELD, Held(1.6, "ledger", True), *ONE, *TWO], BOTH, "although it is held back"),
        ([*SENT, *HELD, Purged(2.0, E, 2), *ONE], Final({E: [1]}, {}), "and it is not the head"),
        ([*SENT, *HELD, Purged(2.0, E, 1), *TWO], BOTH, "1 stands, and should not"),
        ([*SENT, *HELD, Purged(2.0, E, 1), *TAKEN, started(1, 11, "q")], BOTH, "although it was settled"),
        ([*SENT, *HELD, *ONE, Redelivered(5.0, E, 1, "tail")], BOTH, "and no dead letter"),
        ([*SENT, *HELD, *DIED, *[Redelivered(5.0, E, 1, "tail")] * 2], BOTH, "and no dead letter"),
        ([asked(1), put_off(1), Withdrawn(2.0, 1), accepted(1, 100.0)], BOTH, "although it was withdrawn"),
        ([*SENT, *HELD, Dropped(1.9, 1), *ONE], BOTH, "told that it never will"),
        ([*SENT, *[Ticked(2.0, "s", 1, 1)] * 2], BOTH, "the second command for one tick"),
        ([asked(-1), Ticked(2.0, "s", 1, -1)], BOTH, "a tick without its command"),
    ],
)
def test_says(history: list[Event], final: Final, what: str) -> None:
    assert any(what in wrong for wrong in check(history, final))


def test_a_pod_that_stood_still_past_its_lease_is_excused_and_no_other() -> None:
    def after(standstill: list[Event], at: float) -> list[str]:
        history = [*SENT, *HELD, started(1), *standstill, *TAKEN, started(1, 11, "q", at)]
        return [wrong for wrong in check(history, BOTH) if "runs beside" in wrong]

    assert after([Stopped(2.1, "p", "freeze")], 9.5) == []
    assert after([Stopped(2.1, "p", "freeze")], 8.5) != []
    assert after([], 9.5) != []
