"""A simulation that finds nothing might look at nothing: each broken variant must be caught."""

import contextlib
from collections.abc import Callable

import pytest

from .faults import Plan, draw
from .mutants import MUTANTS, broken
from .world import simulate

WITHIN = 40
"""Seeds in which a mutant must be caught."""


def _falls_back(plan: Plan) -> bool:
    return any(blow.what == "fallback" for blow in plan.blows)


def _hints_get_lost(plan: Plan) -> bool:
    return plan.odds.lost_hint >= 0.1


WHERE: dict[str, Callable[[Plan], bool]] = {"no quarantine": _falls_back, "hints alone wake": _hints_get_lost}
"""What a plan must have to show a mutant at all, where most have not."""

FROM = {"no quarantine": 350}
"""Where to begin, for what shows once in thirty seeds."""


@pytest.mark.parametrize("name", MUTANTS)
def test_is_caught(name: str) -> None:
    first = FROM.get(name, 0)
    seeds = [seed for seed in range(first, first + 400) if WHERE.get(name, bool)(draw(seed))][:WITHIN]

    with broken(name):
        assert any(simulate(seed).wrong for seed in seeds)


def test_a_mutant_leaves_no_trace() -> None:
    with contextlib.suppress(ZeroDivisionError), broken("send without dedup"):
        raise ZeroDivisionError

    assert not simulate(0).wrong
