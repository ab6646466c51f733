"""What was measured: each figure several times, and told as its median with the lowest and the highest."""

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import attrs

At: TypeAlias = int | str | None
"""The size that a figure was measured at, such as a number of entities; None where there is only one."""


def percentile(values: Sequence[float], share: float) -> float:
    """Finds the value that `share` percent of the values do not exceed, by nearest rank."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share / 100) - 1)]


OF_SMALLEST = "processor time, of the smallest's"
"""The unit of what a command costs compared with the smallest size."""


@attrs.frozen
class Key:
    """Which figure: of what, in which unit, at which size."""

    what: str
    unit: str
    at: At = None


@attrs.frozen
class Spread:
    """A figure's values, one a round, in short."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(statistics.median(values), min(values), max(values))


class Figures:
    """All figures of one part, in the order in which they were first measured."""

    def __init__(self) -> None:
        self._values: dict[Key, list[float]] = {}

    def add(self, key: Key, value: float) -> None:
        self._values.setdefault(key, []).append(value)

    def __bool__(self) -> bool:
        return bool(self._values)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._values)

    def __contains__(self, key: Key) -> bool:
        return key in self._values

    def values(self, key: Key) -> list[float]:
        return self._values[key]

    def spread(self, key: Key) -> Spread:
        return Spread.of(self._values[key])

    def median(self, what: str, unit: str, at: At = None) -> float:
        return self.spread(Key(what, unit, at)).median

    def series(self, what: str, unit: str) -> list[tuple[At, Spread]]:
        """Lists a figure at all its sizes."""
        return [(key.at, self.spread(key)) for key in self._values if (key.what, key.unit) == (what, unit)]

    def as_json(self) -> list[dict[str, Any]]:
        return [{**attrs.asdict(key), "values": values} for key, values in self._values.items()]

    @classmethod
    def from_json(cls, kept: Iterable[dict[str, Any]]) -> "Figures":
        figures = cls()
        for one in kept:
            for value in one["values"]:
                figures.add(Key(one["what"], one["unit"], one["at"]), value)
        return figures


def ratios(now: Sequence[float], before: Sequence[float]) -> Spread:
    """Compares round by round: two values of one round have met the same machine."""
    return Spread.of([n / b if b else math.inf if n else 1.0 for n, b in zip(now, before, strict=False)])
