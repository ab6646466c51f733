"""How figures are summed up, and held against their bars."""

import math

import pytest

from benchmarks import growth
from benchmarks.bars import BARS, bar_of, mark
from benchmarks.figures import OF_SMALLEST, Figures, Key, Spread, percentile, ratios


@pytest.mark.parametrize(("share", "value"), [(0, 1), (1, 1), (50, 50), (99, 99), (99.9, 100), (100, 100)])
def test_a_percentile_is_a_value_that_was_measured(share: float, value: float) -> None:
    assert percentile(list(range(100, 0, -1)), share) == value


def test_a_percentile_of_one_value_is_that_value() -> None:
    assert percentile([7.0], 99.9) == 7.0


def test_a_figure_is_told_as_median_lowest_and_highest() -> None:
    figures = Figures()
    for value in (3.0, 9.0, 4.0):
        figures.add(Key("hot", "commands/s"), value)

    assert figures.spread(Key("hot", "commands/s")) == Spread(4.0, 3.0, 9.0)


def test_figures_survive_their_json() -> None:
    figures = Figures()
    figures.add(Key("to some", "client us", 100), 1.5)
    figures.add(Key("to some", "client us", 100), 2.5)
    figures.add(Key("fleet", "commands/s", "1 → 2"), 7.0)

    again = Figures.from_json(figures.as_json())

    assert again.as_json() == figures.as_json()
    assert again.series("to some", "client us") == [(100, Spread(2.0, 1.5, 2.5))]


def test_two_trees_are_compared_round_by_round() -> None:
    # The machine was half as fast in the second round; the ratio does not know.
    assert ratios([20.0, 10.0], [10.0, 5.0]) == Spread(2.0, 2.0, 2.0)


def test_nothing_in_place_of_nothing_is_no_change() -> None:
    assert ratios([0.0], [0.0]).median == 1.0
    assert ratios([1.0], [0.0]).median == math.inf


@pytest.mark.parametrize(("value", "said"), [(0.5, "≥ 0.5 met"), (0.51, "≥ 0.5 met"), (0.49, "≥ 0.5 MISSED")])
def test_a_bar_from_below(value: float, said: str) -> None:
    assert mark(Key("hot, commit each", "of B1"), value) == said


def test_a_bar_from_above() -> None:
    key = Key("parked entities", "other requests/s")

    assert mark(key, 0.0) == "≤ 0 met"
    assert mark(key, 0.2) == "≤ 0 MISSED"


def test_most_figures_have_no_bar() -> None:
    assert mark(Key("hot, commit each", "commands/s"), 1.0) == ""


def test_growth_has_one_bar_at_all_sizes() -> None:
    figures = Figures()
    for size, value in ((10_000, 1.05), (100_000, 1.5)):
        figures.add(Key(growth.TO_AWAKE, OF_SMALLEST, size), value)

    marks = {key.at: mark(key, figures.spread(key).median) for key in figures}
    assert marks == {10_000: "≤ 1.1 met", 100_000: "≤ 1.1 MISSED"}


def test_bars_hold_at_no_size_of_their_own() -> None:
    assert all(key.at is None and bar_of(key) is bar for key, bar in BARS.items())
