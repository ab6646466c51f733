"""The figures as text, for whoever sits before the screen."""

from collections.abc import Iterator, Mapping

from benchmarks.bars import mark
from benchmarks.figures import At, Figures, Key, Spread, ratios


def number(value: float) -> str:
    """Shows three digits that mean something, and all those before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def size(at: At) -> str:
    """Shows what a figure was measured at."""
    return "" if at is None else f"{at:,}" if isinstance(at, int) else at


def lines(parts: Mapping[str, Figures]) -> Iterator[str]:
    """Lays each figure's median, lowest and highest value beside its bar."""
    for part, figures in parts.items():
        yield f"{part:<50}{'':<36}{'median':>10}{'low':>10}{'high':>10}  bar"
        for key in figures:
            spread = figures.spread(key)
            yield f"{_name(key)}{_cells(spread)}  {mark(key, spread.median)}".rstrip()
        yield ""


def compared(now: Mapping[str, Figures], before: Mapping[str, Figures]) -> Iterator[str]:
    """Lays two trees side by side; the ratio is that of each round, as its two values met the same machine."""
    for part, figures in now.items():
        yield f"{part:<50}{'':<36}{'before':>10}{'now':>10}{'now/before':>12}{'low':>8}{'high':>8}  bar"
        for key in figures:
            if key not in before[part]:
                continue
            values, old = figures.values(key), before[part].values(key)
            ratio = ratios(values, old)
            middle = f"{number(Spread.of(old).median):>10}{number(Spread.of(values).median):>10}"
            compared = f"{ratio.median:>12.2f}{ratio.low:>8.2f}{ratio.high:>8.2f}"
            yield f"{_name(key)}{middle}{compared}  {mark(key, Spread.of(values).median)}".rstrip()
        yield ""


def _name(key: Key) -> str:
    what = f"{key.what} @ {size(key.at)}" if key.at is not None else key.what
    return f"{what:<50}{key.unit:<36}"


def _cells(spread: Spread) -> str:
    return "".join(f"{number(value):>10}" for value in (spread.median, spread.low, spread.high))
