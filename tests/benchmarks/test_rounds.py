"""Measuring a size and the smallest one in turns, each in a process of its own."""

from collections.abc import Mapping
from typing import Any

import pytest

from benchmarks import growth
from benchmarks.figures import OF_SMALLEST, Figures, Key
from benchmarks.rounds import MeasurementFailed, Step, Tree, measure
from benchmarks.server import ROOT


def measured(function: str, options: Mapping[str, Any], smallest: Mapping[str, Any]) -> Figures:
    tree = Tree(ROOT)
    step = Step(function, options, smallest=smallest)
    measure({"growth": [step]}, [tree], rounds=1, quick=True, progress=lambda _: None)
    return tree.parts["growth"]


def processor_times(figures: Figures, others: int) -> list[float]:
    client, redis = (
        figures.values(Key(growth.PUT_OFF, f"{side} us", others)) for side in ("client", "Redis")
    )
    return [ours + its for ours, its in zip(client, redis, strict=True)]


def test_a_size_is_compared_with_the_smallest_one_lap_by_lap() -> None:
    figures = measured("growth.put_off", {"others": 100_000}, {"others": 0})

    size, smallest = processor_times(figures, 100_000), processor_times(figures, 0)
    assert len(size) == 2
    compared = figures.values(Key(growth.PUT_OFF, OF_SMALLEST, 100_000))
    assert compared == pytest.approx([own / its for own, its in zip(size, smallest, strict=True)])


@pytest.mark.parametrize("wrong", [0, 1])
def test_a_process_that_fails_is_told(wrong: int, capfd: pytest.CaptureFixture[str]) -> None:
    options: list[dict[str, int]] = [{"others": 0}, {"others": 0}]
    options[wrong] = {"nonsense": 1}

    with pytest.raises(MeasurementFailed, match="exit code 1"):
        measured("growth.put_off", *options)

    assert "nonsense" in capfd.readouterr().err
