"""The bars: what the design asks of each figure."""

from typing import Literal

import attrs

from benchmarks.figures import OF_SMALLEST, Key


@attrs.frozen
class Bar:
    """A limit, and on which side of it is good."""

    side: Literal["≥", "≤"]
    limit: float

    def __str__(self) -> str:
        return f"{self.side} {self.limit:g}"

    def met_by(self, value: float) -> bool:
        return value >= self.limit if self.side == "≥" else value <= self.limit


BARS = {
    Key("hot, commit each", "of B1"): Bar("≥", 0.50),
    Key("hot, commit group", "of B16"): Bar("≥", 0.50),
    Key("seed, commit each", "of B16"): Bar("≥", 0.20),
    Key("seed, commit group", "of B16"): Bar("≥", 0.35),
    Key("wide", "of B16"): Bar("≥", 0.10),
    Key("call, own pod, warm", "trips, p50"): Bar("≤", 5),
    Key("call, own pod, warm", "p99 / p50"): Bar("≤", 4),
    Key("call, own pod, cold", "p99 / p50"): Bar("≤", 4),
    Key("call, other pod, warm", "trips, p50"): Bar("≤", 8),
    Key("call, other pod, warm", "p99 / p50"): Bar("≤", 4),
    Key("call, other pod, cold", "trips, p50"): Bar("≤", 10),
    Key("call, other pod, cold", "p99 / p50"): Bar("≤", 4),
    Key("hot, alone", "Redis us"): Bar("≤", 14),
    Key("hot, commit group", "Redis us"): Bar("≤", 4),
    Key("cold with state, alone", "Redis us"): Bar("≤", 28),
    Key("cold with state, under load", "Redis us"): Bar("≤", 16),
    Key("entity, awake", "KiB"): Bar("≤", 8),
    Key("entity, parked", "KiB"): Bar("≤", 6),
    Key("parked entities", "other requests/s"): Bar("≤", 0),
    Key("cold call beside hot entities", "p99 / quiet p99"): Bar("≤", 2),
    Key("cold call, other pod, beside hot entities", "p99 / quiet p99"): Bar("≤", 2),
}
"""The bars by figure, as section 7 of the design has them."""


BARS_OF_UNITS = {OF_SMALLEST: Bar("≤", 1.1)}
"""Bars of whatever is measured in a unit: growth."""


def bar_of(key: Key) -> Bar | None:
    """Finds the bar of a figure, if it has one."""
    return BARS.get(attrs.evolve(key, at=None)) or BARS_OF_UNITS.get(key.unit)


def mark(key: Key, value: float) -> str:
    """Says what becomes of a figure: its bar, and whether it is met; nothing for one that has none."""
    bar = bar_of(key)
    return "" if bar is None else f"{bar} {'met' if bar.met_by(value) else 'MISSED'}"
