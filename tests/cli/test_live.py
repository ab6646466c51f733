"""What the live screen knows: rates, what fails, trouble, and what it keeps while the store does not answer."""

import attrs
import pytest
from cli.fleets import handled, lane, lanes, pod, statistics

from trioqueue import CommandDead, CommandFailed, EntityAwake, EntityPaused, EventsMissed, PodLostLease
from trioqueue.cli.live import FAILING_FOR, PATIENCE, TROUBLES, WINDOW, Failing, Live, Rates

BEGAN = 1000.0
WALL = 1_700_000_000.0


def new_live() -> Live:
    return Live(BEGAN, every=1.0)


def look(live: Live, now: float, *found: object, whole: bool = True) -> None:
    live.look(statistics(), [pod("red")], lanes(*found, whole=whole), now)  # type: ignore[arg-type]


# ------------------------------------------------------------------------ rates
def test_a_rate_is_over_the_last_ten_seconds() -> None:
    rates: Rates[str] = Rates(0.0)
    for tenth in range(300):
        rates.count("a", tenth / 10)

    assert rates.rate("a", 30.0) == pytest.approx(10, rel=0.05)
    assert rates.rate("a", 35.0) == pytest.approx(5, rel=0.15)
    assert rates.rate("a", 30.0 + WINDOW) == 0
    assert rates.rate("b", 30.0) == 0


def test_a_rate_of_the_first_moment_is_no_higher_than_what_was_counted() -> None:
    rates: Rates[str] = Rates(0.5)
    rates.count("a", 0.51)
    rates.count("a", 0.52)

    assert rates.rate("a", 0.53) == 2
    assert rates.rate("a", 4.5) == 0.5


def test_the_most_frequent_come_first_and_what_is_over_is_forgotten() -> None:
    rates: Rates[str] = Rates(0.0)
    for key in "abbccc":
        rates.count(key, 1.0)
    rates.count("a", 15.0)

    assert rates.most(2, 15.0) == [("a", pytest.approx(1 / 9))]
    assert len(rates._sum) == 1
    assert rates.most(1, 5.0)


def test_rates_are_those_of_entities_and_pods() -> None:
    live = new_live()
    for _ in range(40):
        live.take(handled("hall"), BEGAN + 1)
    for _ in range(20):
        live.take(handled("door", pod="blue"), BEGAN + 1)
    live.look(statistics(pods=2), [pod("red"), pod("blue")], lanes(lane("hall", 7)), BEGAN + 2)
    seen = live.snapshot(BEGAN + 2, WALL)

    assert [(row.entity, row.per_second) for row in seen.busiest] == [("lamp/hall", 20), ("lamp/door", 10)]
    assert [(one.name, one.per_second) for one in seen.pods] == [("red", 20), ("blue", 10)]
    assert (seen.handled, seen.handled_per_second, seen.watched_for) == (60, 30, 2)


# ------------------------------------------------------------------------ entities
def test_lists_are_ordered_and_cut() -> None:
    live = new_live()
    look(live, BEGAN, lane("a", 1, 30.0), lane("b", 5, 2.0), lane("c", 5, 1.0), lane("d", 2, 60.0))
    seen = live.snapshot(BEGAN, WALL, most=3)

    assert [row.entity for row in seen.deepest] == ["lamp/b", "lamp/c", "lamp/d"]
    assert [row.entity for row in seen.oldest] == ["lamp/d", "lamp/a", "lamp/b"]
    assert (seen.read, seen.whole) == (4, True)

    look(
        live, BEGAN, lane("a", 1, 30.0), lane("b", 1, 60.0, "paused", None), lane("c", 1, 10.0, "ready", None)
    )
    assert [row.entity for row in live.snapshot(BEGAN, WALL).oldest] == ["lamp/a", "lamp/c", "lamp/b"]


def test_a_busy_entity_that_was_not_read_is_empty_only_if_all_were() -> None:
    live = new_live()
    live.take(handled("hall"), BEGAN)
    look(live, BEGAN, lane("door"))
    (row,) = live.snapshot(BEGAN, WALL).busiest
    assert (row.pending, row.mode, row.waited, row.pod) == (0, "empty", None, "red")

    look(live, BEGAN, lane("door"), whole=False)
    (row,) = live.snapshot(BEGAN, WALL).busiest
    assert (row.pending, row.mode, row.waited) == (None, None, None)


def test_an_entity_fails_until_something_of_it_is_handled() -> None:
    live = new_live()
    live.take(CommandFailed("red", "lamp", "hall", "switch", "c-1", 3, 4.0, "OSError"), BEGAN)
    look(live, BEGAN + 1, lane("hall"))
    seen = live.snapshot(BEGAN + 1, WALL)
    assert seen.deepest[0].failing == Failing("switch", 3, "OSError", 3.0)
    assert (seen.failing, seen.failed) == (1, 1)
    due = live.snapshot(BEGAN + 4.5, WALL).deepest[0].failing
    assert due
    assert due.again_in == 0

    live.take(handled("hall"), BEGAN + 2)
    seen = live.snapshot(BEGAN + 2, WALL)
    assert seen.deepest[0].failing is None
    assert (seen.failing, seen.failed) == (0, 1)


def test_a_failure_whose_end_was_missed_is_forgotten() -> None:
    live = new_live()
    live.take(CommandFailed("red", "lamp", "hall", "switch", "c-1", 3, 4.0, "OSError"), BEGAN)
    later = BEGAN + 4 + FAILING_FOR
    look(live, later - 0.1)
    assert live.snapshot(later - 0.1, WALL).failing == 1
    assert live.snapshot(later, WALL).failing == 0


def test_pods_that_do_not_serve_come_first() -> None:
    live = new_live()
    live.look(statistics(), [pod("a"), pod("b", "silent"), pod("c", "leaving"), pod("d")], lanes(), BEGAN)

    assert [one.name for one in live.snapshot(BEGAN, WALL).pods] == ["b", "c", "a", "d"]


def test_entities_of_long_ago_are_forgotten() -> None:
    live = new_live()
    for number in range(1000):
        live.take(handled(str(number)), BEGAN)
    look(live, BEGAN + 59)
    live.take(handled("hall"), BEGAN + 60)
    look(live, BEGAN + 60)

    assert len(live._handled_by) == len(live._entities) == 1


# ------------------------------------------------------------------------ trouble
def test_trouble_is_told_once_until_other_trouble_comes() -> None:
    live = new_live()
    live.take(CommandDead("red", "lamp", "a", "switch", "c-1", 10, "OSError"), BEGAN + 1)
    live.take(CommandDead("red", "lamp", "b", "switch", "c-2", 10, "OSError"), BEGAN + 2)
    live.take(PodLostLease("blue", "no heartbeat was confirmed"), BEGAN + 3)
    live.take(CommandDead("red", "lamp", "a", "switch", "c-3", 1, "OSError"), BEGAN + 4)
    live.take(EntityPaused("red", "lamp", "a", ""), BEGAN + 5)
    live.take(EntityAwake("red", "lamp", "a"), BEGAN + 5)
    live.warn("it rains", BEGAN + 6)
    seen = live.snapshot(BEGAN + 6, WALL)

    assert [(one.at - WALL, one.what, one.who, one.text, one.times) for one in seen.trouble] == [
        (0, "warning", "", "it rains", 1),
        (-1, "paused", "lamp/a", "by an operator", 1),
        (-2, "dead", "lamp/a", "switch: OSError after 1 attempt", 1),
        (-3, "lease lost", "blue", "no heartbeat was confirmed", 1),
        (-4, "dead", "lamp/b", "switch: OSError after 10 attempts", 2),
    ]
    assert seen.dead == 3


def test_a_pod_that_died_is_told_and_one_that_left_is_not() -> None:
    live = new_live()
    dead, frozen = attrs.evolve(pod("b"), heard=4.2), attrs.evolve(pod("c"), heard=3.5)
    live.look(statistics(), [pod("a"), dead, frozen, pod("d", "leaving")], lanes(), BEGAN)
    live.look(statistics(), [frozen], lanes(), BEGAN + 1)

    (gone,) = live.snapshot(BEGAN + 1, WALL).trouble
    assert (gone.what, gone.who) == ("pod gone", "b")
    assert gone.text == "not heard of for 4.2 s, others take over"

    live.look(statistics(), [attrs.evolve(frozen, incarnation="c.2", heard=0.1)], lanes(), BEGAN + 2)
    assert live.snapshot(BEGAN + 2, WALL).trouble[0].text.endswith("others take over; it has joined anew")


def test_old_trouble_is_forgotten() -> None:
    live = new_live()
    for number in range(2 * TROUBLES):
        live.take(PodLostLease(f"pod-{number}", "why"), BEGAN)

    assert len(live.snapshot(BEGAN, WALL, most=10 * TROUBLES).trouble) == TROUBLES


def test_missed_events_are_counted() -> None:
    live = new_live()
    live.take(EventsMissed("red", 3), BEGAN)
    live.take(EventsMissed("", 4), BEGAN)

    seen = live.snapshot(BEGAN + 2, WALL)
    assert (seen.missed, seen.missed_per_second, seen.handled_per_second) == (7, 3.5, 0)
    assert live.snapshot(BEGAN + 20, WALL).missed == 7


# ------------------------------------------------------------------------ a store that is gone
def test_while_the_store_does_not_answer_the_last_picture_stays() -> None:
    live = new_live()
    for _ in range(9):
        live.take(handled("hall"), BEGAN + 1)
    look(live, BEGAN + 1, lane("hall", 7))
    before = live.snapshot(BEGAN + 1 + PATIENCE, WALL)
    assert before.silent_for is None
    seen = live.snapshot(BEGAN + 60, WALL + 60)

    assert seen.silent_for == 59
    assert (seen.at, seen.busiest, seen.deepest) == (WALL, before.busiest, before.deepest)

    look(live, BEGAN + 61, lane("door", 2))
    live.take(handled("door"), BEGAN + 61)
    seen = live.snapshot(BEGAN + 62, WALL + 62)
    assert seen.silent_for is None
    assert [(row.entity, row.per_second) for row in seen.busiest] == [("lamp/door", 1)], "not a 61st of it"
    assert seen.handled == 10


def test_before_anything_was_read_nothing_is_claimed() -> None:
    live = new_live()

    seen = live.snapshot(BEGAN + 1, WALL)
    assert (seen.fleet, seen.silent_for) == (None, None)
    assert live.snapshot(BEGAN + 10, WALL).silent_for == 10
