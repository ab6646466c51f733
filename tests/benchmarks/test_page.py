"""The page that shows a run."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import growth, latency, page, plots
from benchmarks.figures import Figures, Key


def a_run() -> dict[str, Any]:
    parts = {
        "table": {
            Key("hot, commit each", "of B1"): [0.4, 0.6, 0.55],
            Key("hot, commit each", "commands/s"): [20_000.0, 30_000.0, 25_000.0],
            Key("floor, B1", "commands/s"): [50_000.0],
            Key("hot, commit group", "Redis us"): [5.0],
            Key("entity with state, parked", "bytes in Redis"): [431.7],
        },
        "growth": {
            Key(name, "of B16", size): [0.1, 0.12]
            for name in (growth.TO_AWAKE, growth.TO_ASLEEP)
            for size in (100, 10_000)
        },
        "latency": {
            Key(latency.AT_LOAD, f"us, {what}", f"{load} %"): [float(load), load * 2.0]
            for what in ("p50", "p99", "p99.9")
            for load in latency.LOADS
        },
    }
    kept: dict[str, Any] = {
        "machine": {
            "day": "2026-11-30",
            "commit": "",
            "processor": "P",
            "cores": "2",
            "kernel": "K",
            "trio": "0.35",
        },
        "rounds": 3,
        "quick": False,
        "parts": {},
    }
    for part, values in parts.items():
        figures = Figures()
        for key, several in values.items():
            for value in several:
                figures.add(key, value)
        kept["parts"][part] = figures.as_json()
    return kept


def test_it_says_where_and_when() -> None:
    assert page.render(a_run()).startswith("On 2026-11-30, on P with 2 cores, K: trio 0.35.  \n3 rounds.\n")


def test_figures_stand_beside_their_bars() -> None:
    rows = page.render(a_run()).splitlines()

    assert "| hot, commit each, of B1 | ≥ 0.5 | 0.55 | 0.4 – 0.6 | met |" in rows
    assert "| hot, commit group, Redis us | ≤ 4 | 5 | 5 – 5 | **missed** |" in rows


def test_a_row_has_all_figures_of_one_work() -> None:
    rows = page.render(a_run()).splitlines()

    assert "| | of its floor | commands/s | Redis us |" in rows
    assert "| hot, commit each | 0.55 of B1 (0.4 – 0.6) | 25,000 (20,000 – 30,000) |  |" in rows
    assert "| floor, B1 |  | 50,000 |  |" in rows


def test_no_figure_is_left_out() -> None:
    kept = a_run()
    shown = page.render(kept)

    assert "| entity with state, parked | 432 bytes in Redis |" in shown.splitlines()
    for figures in kept["parts"].values():
        for figure in figures:
            assert figure["what"] in shown


def test_a_quick_run_is_not_taken_for_a_real_one() -> None:
    assert "mean nothing" in page.render(a_run() | {"quick": True})
    assert "mean nothing" not in page.render(a_run())


def test_the_page_names_the_plots_that_are_written(tmp_path: Path) -> None:
    page.write(a_run(), tmp_path / "speed.md")

    written = (tmp_path / "speed.md").read_text()
    files = {file.name for file in tmp_path.iterdir()}
    assert files == {"speed.md", "speed.json", "speed_throughput.svg", "speed_latency.svg"}
    assert all(f"]({name})" in written for name in files if name.endswith(".svg"))
    assert json.loads((tmp_path / "speed.json").read_text()) == a_run()


@pytest.mark.parametrize("part", plots.PLOTS)
def test_the_same_figures_make_the_same_plot(part: str, tmp_path: Path) -> None:
    figures = page.parts_of(a_run())[part]

    plots.PLOTS[part](figures, tmp_path / "one.svg")
    plots.PLOTS[part](figures, tmp_path / "two.svg")

    one = (tmp_path / "one.svg").read_text()
    assert one == (tmp_path / "two.svg").read_text()
    assert "<dc:date>" not in one


def test_the_page_in_the_documentation_is_what_its_figures_say() -> None:
    kept = page.PAGE.with_suffix(".json").read_text()

    assert page.as_text(json.loads(kept)) == kept
    assert page.render(json.loads(kept)) == page.PAGE.read_text(), (
        "python -m benchmarks.page docs/_generated/speed.json"
    )
