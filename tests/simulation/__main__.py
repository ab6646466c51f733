"""The simulation from a command line: replay a seed, read its trace, or look for one that fails."""

import argparse
import contextlib
import sys
import time
from collections.abc import Sequence

from .history import Asked
from .mutants import MUTANTS, broken
from .world import Result, simulate


def tell(result: Result, *, trace: bool) -> None:
    """Prints what became of a seed."""
    if trace:
        for event in result.history:
            fields = " ".join(
                f"{name}={value}" for name, value in event._asdict().items() if name != "at" and value != ""
            )
            print(f"{event.at:9.4f} {type(event).__name__:<9} {fields}")
        print()
    asked = sum(isinstance(event, Asked) for event in result.history)
    faults = ", ".join(f"{count} {what}" for what, count in sorted(result.faults.items()))
    print(
        f"seed {result.seed}: {result.seconds:.0f} s, {result.confirmed} of {asked} sends confirmed, {faults}"
    )
    for what in result.wrong:
        print("  WRONG", what)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="one to replay")
    parser.add_argument("--seeds", metavar="FROM-TO", help="many, until one fails")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first that fails")
    parser.add_argument("--mutant", choices=MUTANTS, metavar="NAME", help=f"one of: {', '.join(MUTANTS)}")
    parser.add_argument("--trace", action="store_true", help="print all that happened")
    asked = parser.parse_args()
    with broken(asked.mutant) if asked.mutant else contextlib.nullcontext():
        if asked.seed is not None:
            return replay(asked.seed, trace=asked.trace)
        first, _, last = (asked.seeds or "0-99").partition("-")
        return search(range(int(first), int(last or first) + 1), keep_going=asked.keep_going)


def replay(seed: int, *, trace: bool) -> int:
    """Runs one seed and tells all about it; 1: something is wrong."""
    result = simulate(seed, trace=trace)
    print(result.plan)
    tell(result, trace=trace)
    return bool(result.wrong)


def search(seeds: Sequence[int], *, keep_going: bool) -> int:
    """Runs many seeds and tells of those that fail; 1: there are some."""
    began, count, failed, fleet_time = time.process_time(), 0, 0, 0.0
    for seed in seeds:
        result = simulate(seed)
        count += 1
        fleet_time += result.seconds
        if result.wrong:
            tell(result, trace=False)
            failed += 1
            if not keep_going:
                break
    spent = time.process_time() - began
    print(f"{count} seeds, {failed} failed, {fleet_time / 3600:.1f} h of fleets in {spent:.1f} s of CPU")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
