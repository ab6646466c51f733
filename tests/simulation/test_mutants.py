"""A simulation that finds nothing might look at nothing: each broken variant must be caught."""

import contextlib
from collections.abc import Callable

import pytest

from .faults import Plan, draw
from .mutants import MUTANTS, broken
from .world import simulate

WITHIN = 40
"""Seeds in which a mutant must be caught."""


WHERE: dict[str, Callable[[Plan], bool]] = {
    "commit ignores the epoch": lambda plan: plan.odds.late_run >= 0.05 and plan.policy.idle_timeout <= 0.5,
    "send remembers the last number alone": lambda plan: (
        max(plan.odds.late_run, plan.odds.lost_request) >= 0.05
    ),
    "hints alone wake": lambda plan: plan.odds.lost_hint >= 0.5,
    "no quarantine": lambda plan: [blow.what for blow in plan.blows].count("fallback") > 1,
    **dict.fromkeys(
        [
            "entities are not paused",
            "types are not held",
            "a resumed entity wakes nobody",
            "an operator overrules nobody",
            "a purge takes what it has not seen",
            "a dead letter is redelivered again",
            "a redelivered command is lost",
            "what is withdrawn is still moved",
        ],
        lambda plan: plan.operates > 0,
    ),
    **dict.fromkeys(
        ["each pod makes each tick", "a tick sends nothing", "nobody keeps schedules"],
        lambda plan: plan.ticks > 0,
    ),
    "requests for any generation": lambda plan: [blow.what for blow in plan.blows].count("fallback") > 1,
}
"""What a plan must have to show a mutant at all, where most have not."""

FROM = {
    "commit ignores the epoch": 190,
    "hints alone wake": 50,
    "no quarantine": 730,
    "requests for any generation": 280,
    "a purge takes what it has not seen": 20,
}
"""Where to begin, for what shows once in fifty seeds only."""


@pytest.mark.parametrize("name", MUTANTS)
def test_is_caught(name: str) -> None:
    first = FROM.get(name, 0)
    seeds = [seed for seed in range(first, first + 600) if WHERE.get(name, bool)(draw(seed))][:WITHIN]

    with broken(name):
        assert any(simulate(seed).wrong for seed in seeds)


def test_a_mutant_leaves_no_trace() -> None:
    with contextlib.suppress(ZeroDivisionError), broken("send without dedup"):
        raise ZeroDivisionError

    assert not simulate(0).wrong
