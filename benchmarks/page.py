"""Shows what a run of the benchmarks came to as a page of the documentation, with two plots.

    python -m benchmarks.page FILE.json [PAGE.md]

writes the page by default where the documentation includes it, and keeps the figures beside it.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.bars import bar_of
from benchmarks.figures import OF_SMALLEST, At, Figures, Key, Spread
from benchmarks.report import number, size
from benchmarks.server import ROOT

PAGE = ROOT / "docs" / "_generated" / "speed.md"

COLUMNS = {
    "of B1": "of its floor",
    "of B16": "of its floor",
    "processor time, of B1's": "processor time, floor = 1",
    "processor time, of B16's": "processor time, floor = 1",
    OF_SMALLEST: "processor time, smallest = 1",
}
"""Unit -> the column that has it, where that is not the unit's name."""

TABLES = (
    (
        "of its floor",
        "processor time, floor = 1",
        "processor time, smallest = 1",
        "commands/s",
        "client us",
        "Redis us",
    ),
    ("trips, p50", "p99 / p50", "us, p50", "us, p99", "us, p99.9"),
    ("us a command", "% of a core"),
)
"""Columns of the tables of a part; a figure stands in the first table that any figure of its row belongs to."""

HEADINGS = {"table": "What has a bar", "growth": "Growth", "latency": "Calls under load", "fleet": "Fleets"}

PLOTS = {
    "growth": ("throughput", "Throughput as a share of the floor's, over the number of entities"),
    "latency": ("latency", "Latency of calls over the load"),
}
"""Part -> its plot, and what that shows."""


def as_text(kept: Mapping[str, Any]) -> str:
    """Writes a run as it is kept: a line for each figure, so that git shows which ones have changed."""
    parts = [
        f"  {json.dumps(name)}: [\n"
        + ",\n".join(f"   {json.dumps(figure, ensure_ascii=False)}" for figure in figures)
        + "\n  ]"
        for name, figures in kept["parts"].items()
    ]
    rest = [f" {json.dumps(name)}: {json.dumps(kept[name])}" for name in ("machine", "rounds", "quick")]
    return "{\n" + ",\n".join([*rest, ' "parts": {\n' + ",\n".join(parts) + "\n }"]) + "\n}\n"


def parts_of(kept: Mapping[str, Any]) -> dict[str, Figures]:
    """Reads the figures of a run."""
    return {name: Figures.from_json(figures) for name, figures in kept["parts"].items()}


def plot_name(part: str, page: Path) -> str:
    """Names the file of a part's plot, which lies beside the page."""
    return f"{page.stem}_{PLOTS[part][0]}.svg"


def render(kept: Mapping[str, Any], page: Path = PAGE) -> str:
    """Shows a run as Markdown."""
    return "\n".join(_lines(kept, page)) + "\n"


def _lines(kept: Mapping[str, Any], page: Path) -> Iterator[str]:
    yield _where(kept)
    parts = parts_of(kept)
    for part, figures in parts.items():
        yield f"\n### {HEADINGS[part]}"
        barred = [key for key in figures if bar_of(key)]
        if barred:
            yield "\n| figure | bar | median | lowest – highest | |\n|---|---|---|---|---|"
            yield from (_bar_row(key, figures.spread(key)) for key in barred)
        if part in PLOTS:
            yield f"\n![{PLOTS[part][1]}]({plot_name(part, page)})"
        yield from _tables(figures)


def _where(kept: Mapping[str, Any]) -> str:
    where = kept["machine"]
    named = ("day", "commit", "processor", "cores", "kernel")
    versions = ", ".join(f"{name} {version}" for name, version in where.items() if name not in named)
    commit = f", commit `{where['commit']}`" if where["commit"] else ""
    quick = "  \n**A quick run, to see that it runs: the figures mean nothing.**" if kept["quick"] else ""
    return (
        f"On {where['day']}, on {where['processor']} with {where['cores']} cores, {where['kernel']}: "
        f"{versions}{commit}.  \n{kept['rounds']} rounds.{quick}"
    )


def _bar_row(key: Key, spread: Spread) -> str:
    bar = bar_of(key)
    assert bar is not None
    met = "met" if bar.met_by(spread.median) else "**missed**"
    around = f"{number(spread.low)} – {number(spread.high)}"
    return f"| {_row(key)}, {key.unit} | {bar} | {number(spread.median)} | {around} | {met} |"


def _row(key: Key) -> str:
    return key.what if key.at is None else f"{key.what}: {size(key.at)}"


def _column(key: Key) -> str:
    return COLUMNS.get(key.unit, key.unit)


def _tables(figures: Figures) -> Iterator[str]:
    rows: dict[tuple[str, At], dict[str, Key]] = {}
    for key in figures:
        rows.setdefault((key.what, key.at), {})[_column(key)] = key
    left: list[Key] = []
    placed: dict[tuple[str, ...], list[dict[str, Key]]] = {table: [] for table in TABLES}
    for row in rows.values():
        table = next((one for one in TABLES if set(row) & set(one)), None)
        if table:
            placed[table].append(row)
        left += [key for column, key in row.items() if not table or column not in table]
    for table, shown in placed.items():
        columns = [column for column in table if any(column in row for row in shown)]
        if columns:
            yield f"\n| | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}"
            for row in shown:
                cells = [_cell(figures, row.get(column)) for column in columns]
                yield f"| {_row(next(iter(row.values())))} | {' | '.join(cells)} |"
    if left:
        yield "\n| | |\n|---|---|"
        yield from (f"| {_row(key)} | {_cell(figures, key)} {key.unit} |" for key in left)


def _cell(figures: Figures, key: Key | None) -> str:
    if key is None:
        return ""
    spread = figures.spread(key)
    of = f" {key.unit}" if key.unit.startswith("of B") else ""
    if spread.low == spread.high:
        return f"{number(spread.median)}{of}"
    return f"{number(spread.median)}{of} ({number(spread.low)} – {number(spread.high)})"


def write(kept: Mapping[str, Any], page: Path) -> None:
    """Writes the page, the plots, and the figures beside it."""
    from benchmarks import plots  # noqa: PLC0415 - only here is matplotlib needed

    page.parent.mkdir(parents=True, exist_ok=True)
    for part, figures in parts_of(kept).items():
        if part in PLOTS:
            plots.PLOTS[part](figures, page.with_name(plot_name(part, page)))
    page.write_text(render(kept, page))
    page.with_suffix(".json").write_text(as_text(kept))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path, help="what `python -m benchmarks --json` wrote")
    parser.add_argument("page", type=Path, nargs="?", default=PAGE, help="the page to write")
    asked = parser.parse_args()
    write(json.loads(asked.file.read_text()), asked.page)


if __name__ == "__main__":
    main()
