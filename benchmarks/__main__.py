"""Measures trioqueue on redis-servers of its own, and prints what it came to.

Each figure is measured once a round, and told as median, lowest and highest.  On a shared machine absolute figures
don't hold; ratios to the floor (B1, B16: `benchmarks/floor.py`) and to a trip (a PING over trioqueue's own connection)
do, as both are measured beside what they are compared with.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks import fleet, growth, latency, machine, report, table
from benchmarks.rounds import MeasurementFailed, Tree, measure
from benchmarks.server import ROOT

PARTS: dict[str, ModuleType] = {"table": table, "growth": growth, "latency": latency, "fleet": fleet}
"""Name -> its module, which lists its steps, and may derive figures from those that were measured."""


def main() -> int:
    """Runs what the command line asks for, and returns the exit code."""
    asked = _arguments()
    parts = {name: PARTS[name].steps() for name in asked.parts or (["table"] if asked.against else PARTS)}
    where = machine.describe()
    now = Tree(ROOT)
    trees = [now]
    if asked.against:
        trees = [Tree(asked.against.resolve()), now]
    print(", ".join(f"{name} {value}" for name, value in where.items() if value), flush=True)
    began = time.monotonic()

    def progress(what: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {what}", file=sys.stderr, flush=True)

    try:
        measure(parts, trees, rounds=asked.rounds, quick=asked.quick, progress=progress)
    except MeasurementFailed as failed:
        print(f"benchmarks: {failed}", file=sys.stderr)
        return 1
    for tree in trees:
        for part, figures in tree.parts.items():
            if hasattr(PARTS[part], "derive"):
                PARTS[part].derive(figures)
    shown = report.compared(now.parts, trees[0].parts) if asked.against else report.lines(now.parts)
    print("\n".join(["", *shown]))
    if asked.json:
        kept = as_json(where, now, rounds=asked.rounds, quick=asked.quick)
        if asked.against:
            kept["before"] = {"commit": machine.commit(trees[0].path), "parts": _parts(trees[0])}
        asked.json.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    return 0


def as_json(where: dict[str, str], tree: Tree, *, rounds: int, quick: bool) -> dict[str, Any]:
    """Keeps everything that was measured, each round's value for itself."""
    return {"machine": where, "rounds": rounds, "quick": quick, "parts": _parts(tree)}


def _parts(tree: Tree) -> dict[str, Any]:
    return {part: figures.as_json() for part, figures in tree.parts.items()}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--rounds", type=_positive, default=5, help="how often each figure is measured (5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep everything; benchmarks.page shows it")
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, to see that it runs; figures mean nothing"
    )
    parser.add_argument(
        "--against",
        type=Path,
        metavar="DIR",
        help="another checkout: each round measures its package too, and the ratio is shown; default part: table",
    )
    asked = parser.parse_args()
    for part in asked.parts:
        if part not in PARTS:
            parser.error(f"there is no part {part!r}: choose of {', '.join(PARTS)}")
    if asked.against and not (asked.against / "trioqueue").is_dir():
        parser.error(f"there is no package trioqueue in {asked.against}")
    return asked


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
