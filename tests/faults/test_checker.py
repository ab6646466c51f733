"""The checker: a clean history is clean, and each thing that may be wrong with one is found, under its own name."""

from collections.abc import Callable

import pytest
from faults.checker import check
from faults.effects import Effect
from faults.history import Freeze, History, Turn
from faults.shelf_pod import LEASE

LONG = LEASE.ttl + LEASE.grace


def history() -> History:
    """Three commands of one shelf, the last one on another pod."""
    made = History(
        turns=[
            Turn("a", 0, 10, "one", 1.0, 1.1),
            Turn("a", 1, 10, "one", 1.2, 1.3),
            Turn("a", 2, 11, "two", 1.4, 1.5),
        ],
        applied={"a": [0, 1, 2]},
        echoed={"a": [0, 2]},
    )
    for turn in made.turns:
        made.confirmed.setdefault("a", []).append(turn.number)
        made.confirmed_at["a", turn.number] = turn.start - 0.05
        made.effects.append(Effect(turn.end, "a", turn.number, turn.fence, turn.pod, accepted=True))
    return made


def lose(made: History) -> None:
    made.applied["a"].remove(1)


def lose_an_effect(made: History) -> None:
    del made.effects[1]


def double(made: History) -> None:
    made.applied["a"].append(1)


def invent(made: History) -> None:
    made.applied["a"].append(99)


def swap(made: History) -> None:
    made.applied["a"] = [1, 0, 2]


def swap_effects(made: History) -> None:
    made.effects.reverse()


def double_a_child(made: History) -> None:
    made.echoed["a"] = [0, 0, 2]


def overlap(made: History) -> None:
    made.turns[1] = Turn("a", 1, 10, "one", 1.2, 1.45)


def share_a_fence(made: History) -> None:
    made.turns[2] = Turn("a", 2, 10, "two", 1.4, 1.5)


def lower_a_fence(made: History) -> None:
    made.turns[2] = Turn("a", 2, 9, "two", 1.4, 1.5)


def refuse_an_effect(made: History) -> None:
    made.effects.append(Effect(1.6, "a", 1, 10, "one", accepted=False))


def begin_late(made: History) -> None:
    made.turns[2] = Turn("a", 2, 11, "two", 9.0, 9.1)


def begin_late_after_faults_elsewhere(made: History) -> None:
    begin_late(made)
    made.faults = [(8.0, "three")]
    made.owners = {"a": [(1.0, "one"), (7.9, "two"), (8.1, "two")]}


def get_stuck(made: History) -> None:
    made.stuck = ["a"]


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lose, "lost"),
        (lose_an_effect, "lost"),
        (double, "doubled"),
        (invent, "unexpected"),
        (swap, "disordered"),
        (swap_effects, "disordered"),
        (double_a_child, "children"),
        (overlap, "overlaps"),
        (share_a_fence, "fences"),
        (lower_a_fence, "fences"),
        (refuse_an_effect, "fences"),
        (begin_late, "late"),
        (begin_late_after_faults_elsewhere, "late"),
        (get_stuck, "stuck"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_what_is_wrong_is_found(spoil: Callable[[History], None], found: str) -> None:
    made = history()
    spoil(made)
    assert found in check(made, LEASE).problems()


def test_a_clean_history_is_clean() -> None:
    check(history(), LEASE).assert_clean(confirmed=3)


def test_too_little_is_no_proof() -> None:
    with pytest.raises(AssertionError, match="shows nothing"):
        check(history(), LEASE).assert_clean(confirmed=4)


@pytest.mark.parametrize("spoil", [overlap, refuse_an_effect])
def test_a_pod_that_was_frozen_past_its_lease_is_excused(spoil: Callable[[History], None]) -> None:
    made = history()
    spoil(made)
    made.freezes = [Freeze("one", 1.25 - LONG, 1.4)]
    verdict = check(made, LEASE)
    verdict.assert_clean()
    assert verdict.overlaps_after_freezes + verdict.effects_refused_after_freezes == 1


def test_a_short_freeze_excuses_nothing() -> None:
    made = history()
    overlap(made)
    made.freezes = [Freeze("one", 1.25, 1.25 + LEASE.ttl / 2)]
    assert "overlaps" in check(made, LEASE).problems()


def test_short_freezes_add_up_if_there_was_no_time_for_a_heartbeat() -> None:
    half, pause = LEASE.ttl / 2, LEASE.heartbeat / 2
    made = history()
    overlap(made)
    made.freezes = [Freeze("one", 1.4 - half, 1.4), Freeze("one", 1.4 + pause, 1.4 + pause + half)]
    check(made, LEASE).assert_clean()
    made.freezes[1] = Freeze("one", 1.4 + 3 * pause, 1.4 + 3 * pause + half)
    assert "overlaps" in check(made, LEASE).problems()


def test_a_freeze_between_the_look_at_the_lease_and_the_handler_is_excused() -> None:
    made = history()
    overlap(made)
    made.freezes = [Freeze("one", 1.19 - LONG, 1.19)]
    check(made, LEASE).assert_clean()
    made.freezes = [Freeze("one", 1.1 - LONG, 1.1)]
    assert "overlaps" in check(made, LEASE).problems()


def test_a_fault_of_the_owner_gives_time_to_heal() -> None:
    made = history()
    begin_late(made)
    made.faults = [(8.0, "two")]
    made.owners = {"a": [(1.0, "one"), (7.9, "two")]}
    check(made, LEASE).assert_clean()
