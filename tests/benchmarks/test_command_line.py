"""The benchmarks as a person runs them, on a real Redis, so small that they say nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli.command_line import environment

from benchmarks import page
from benchmarks.figures import Key

ROOT = Path(__file__).parents[2]
PATIENCE = 120
"""Seconds; a part takes about ten."""


def benchmarks(*args: str, module: str = "benchmarks") -> subprocess.CompletedProcess[str]:
    # From the root, where the benchmarks are found; what they measure is the package beside them.
    return subprocess.run(
        [sys.executable, "-m", module, *args],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_a_run_becomes_a_page(tmp_path: Path) -> None:
    ran = benchmarks("table", "--quick", "--rounds", "1", "--json", str(tmp_path / "run.json"))

    assert ran.returncode == 0, ran.stderr
    assert "hot, commit each" in ran.stdout
    kept = json.loads((tmp_path / "run.json").read_text())
    assert kept["quick"]
    assert kept["rounds"] == 1
    assert set(kept["machine"]) >= {"processor", "cores", "kernel", "Python", "trio", "Redis", "day"}
    figures = page.parts_of(kept)["table"]
    for what, unit in (("hot, commit each", "of B1"), ("trip", "us, p50"), ("entity, parked", "KiB")):
        assert figures.median(what, unit) > 0
    assert Key("parked entities", "other requests/s") in figures
    page.write(kept, tmp_path / "speed.md")
    assert "| hot, commit each, of B1 | ≥ 0.5 |" in (tmp_path / "speed.md").read_text()


def test_two_trees_are_measured_in_turn(tmp_path: Path) -> None:
    # The latency part is the quickest.
    ran = benchmarks(
        "latency", "--quick", "--rounds", "1", "--against", str(ROOT), "--json", str(tmp_path / "run.json")
    )

    assert ran.returncode == 0, ran.stderr
    assert "now/before" in ran.stdout
    kept = json.loads((tmp_path / "run.json").read_text())
    now, before = kept["parts"]["latency"], kept["before"]["parts"]["latency"]
    assert [one["what"] for one in now] == [one["what"] for one in before]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "there is no part 'nothing'"),
        (["--against", os.devnull], "there is no package trioqueue"),
        (["--rounds", "0"], "at least 1"),
    ],
)
def test_what_cannot_be_measured_is_refused_at_once(arguments: list[str], said: str) -> None:
    ran = benchmarks(*arguments)

    assert ran.returncode == 2
    assert said in ran.stderr


def test_a_profile_does_one_kind_of_work_for_some_seconds(tmp_path: Path) -> None:
    ran = benchmarks("calls", "--seconds", "0.1", module="benchmarks.profile")

    assert ran.returncode == 0, ran.stderr
    assert "commands/s" in ran.stdout.splitlines()[-1]
