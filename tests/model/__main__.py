"""The model from a command line: search longer, and explain a rule by what happens without it."""

import argparse
import sys

from .instances import INSTANCES, LARGER, MUTANTS, SMALL, TOGETHER_OFF, WALKS, broken
from .rules import RULES, rules
from .search import Found, Model, exhaust, walk


def look(name: str, model: Model, *, seconds: float, drain_every: int = 7, seed: int = 1) -> Found:
    """Searches an instance, breadth first or at random."""
    if name in WALKS:
        return walk(model, walks=10**9, seconds=seconds, seed=seed)
    return exhaust(model, seconds=seconds, drain_every=drain_every)


def report(name: str, found: Found, *, good: bool) -> bool:
    how = found.broken or ("every state" if found.whole else "as far as there was time")
    verdict = "ok  " if good else "FAIL"
    print(
        f"{verdict} {name:<42}{found.states:>9} states {found.drains:>7} drains {found.seconds:>6.1f} s  {how[:90]}",
        flush=True,
    )
    return good


def check(seconds: float, seed: int) -> bool:
    """Looks for a broken promise with all rules."""
    share = seconds / (len(LARGER) + 2 * len(WALKS))
    good = True
    for name in INSTANCES:
        limit = seconds if name in SMALL else share * (2 if name in WALKS else 1)
        found = look(name, INSTANCES[name](rules()), seconds=limit, drain_every=23, seed=seed)
        good &= report(name, found, good=found.broken is None)
        if found.broken:
            print(*found.trace, sep="\n")
    return good


def mutants(seconds: float) -> bool:
    """Looks for a broken promise without each rule."""
    good = True
    for rule, name in MUTANTS.items():
        found = look(name, broken(rule), seconds=seconds, drain_every=3)
        good &= report(rule, found, good=found.broken is not None)
    return good


def show(name: str, seconds: float) -> bool:
    """Tells how things go wrong without a rule, or in an instance."""
    if name in RULES:
        also = "".join(f" and without {other!r}" for other in TOGETHER_OFF.get(name, ()))
        print(f"{RULES[name]}\nWithout it{also}, in the instance {MUTANTS[name]!r}:\n")
        found = look(MUTANTS[name], broken(name), seconds=seconds, drain_every=1)
    else:
        found = look(name, INSTANCES[name](rules()), seconds=seconds)
    for n, step in enumerate(found.trace, 1):
        print(f"{n:>4}  {step}")
    print(f"\n{found.broken or f'nothing was found in {found.states} states'}")
    return bool(found.broken) == (name in RULES)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m model", description=__doc__)
    parser.add_argument("--check", action="store_true", help="all instances, with all rules")
    parser.add_argument("--mutants", action="store_true", help="each rule switched off, where that shows")
    parser.add_argument("--show", metavar="NAME", help="the shortest trace without a rule, or in an instance")
    parser.add_argument(
        "--list", action="store_true", help="the rules and their sentences, and the instances"
    )
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="for all of a check; for one mutant; for a trace"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the random walks")
    asked = parser.parse_args()
    good = True
    if asked.list:
        print(*(f"{name}\n    {sentence}" for name, sentence in RULES.items()), "", *INSTANCES, sep="\n")
    if asked.show:
        if asked.show not in {**RULES, **INSTANCES}:
            parser.error(f"there is no rule and no instance {asked.show!r}, see --list")
        good &= show(asked.show, asked.seconds)
    if asked.check:
        good &= check(asked.seconds, asked.seed)
    if asked.mutants:
        good &= mutants(asked.seconds)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
