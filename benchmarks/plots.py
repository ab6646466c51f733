"""The plots of the page: SVG that is the same for the same figures, with text that stays text."""

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from benchmarks import growth, latency
from benchmarks.figures import Figures, Spread

STYLE = {
    "svg.hashsalt": "trioqueue",  # else each run has other ids
    "svg.fonttype": "none",  # text in the reader's font, a tenth of the size of outlines
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "legend.frameon": False,
}
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
"""Told apart by those who see few colours as well (Okabe and Ito, "Color Universal Design", 2008)."""

MARKERS = ("o", "s", "^", "D")


def throughput(figures: Figures, file: Path) -> None:
    """Draws throughput over the number of entities, as a share of the floor's."""

    def draw(axes: Axes) -> None:
        names = (
            growth.TO_AWAKE,
            growth.NEW_BESIDE_AWAKE,
            growth.TO_ASLEEP,
            growth.NEW_BESIDE_ASLEEP,
        )
        for number, name in enumerate(names):
            points = [
                (at, _percent(spread)) for at, spread in figures.series(name, "of B16") if isinstance(at, int)
            ]
            _line(axes, number, name, points)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.set_xlabel("entities that exist")
        axes.set_ylabel("commands/s, % of the floor's (B16)")
        axes.set_ylim(bottom=0)

    _save(draw, file)


def calls(figures: Figures, file: Path) -> None:
    """Draws the latency of calls over the load."""

    def draw(axes: Axes) -> None:
        for number, name in enumerate(("p50", "p99", "p99.9")):
            series = figures.series(latency.AT_LOAD, f"us, {name}")
            _line(axes, number, name, [(int(str(at).rstrip(" %")), spread) for at, spread in series])
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.set_xlim(0, 100)
        axes.set_xlabel("load, % of the highest throughput")
        axes.set_ylabel("latency of a call, us")

    _save(draw, file)


PLOTS: dict[str, Callable[[Figures, Path], None]] = {"growth": throughput, "latency": calls}
"""Part -> what draws its plot."""


def _percent(spread: Spread) -> Spread:
    return Spread(spread.median * 100, spread.low * 100, spread.high * 100)


def _line(axes: Axes, number: int, name: str, points: Sequence[tuple[int, Spread]]) -> None:
    if not points:
        return
    middles = [spread.median for _, spread in points]
    below = [spread.median - spread.low for _, spread in points]
    above = [spread.high - spread.median for _, spread in points]
    axes.errorbar(
        [at for at, _ in points],
        middles,
        yerr=[below, above],
        label=name,
        color=COLOURS[number],
        marker=MARKERS[number],
        capsize=3,
    )


def _save(draw: Callable[[Axes], None], file: Path) -> None:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.5, 4.0), layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        axes.legend()
        FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None, "Creator": None})
