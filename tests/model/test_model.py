"""No promise breaks with all rules of the protocol, and one does without any of them.

TRIOQUEUE_MODEL_DEPTH multiplies how far the large instances are searched: 1 takes about a minute, 60 an hour.
"""

import os
from collections.abc import Callable

import pytest

from .__main__ import show
from .instances import INSTANCES, LARGER, MUTANTS, SMALL, WALKS, broken
from .rules import RULES, rules
from .search import Found, exhaust, walk

DEPTH = float(os.environ.get("TRIOQUEUE_MODEL_DEPTH", "1"))

STATES = round(2_500 * DEPTH)
"""States of each larger instance."""

WAYS = round(12 * DEPTH)
"""Random ways through each of the largest."""

ENOUGH = 60_000
"""States within which the protocol without a rule has to break a promise: about five seconds at most."""


def told(found: Found) -> str:
    return "\n".join([found.broken or "", *found.trace])


@pytest.mark.parametrize("name", SMALL)
def test_no_promise_breaks_in_any_state(name: str, record_property: Callable[[str, object], None]) -> None:
    found = exhaust(SMALL[name](rules()), drain_every=23)
    record_property("states", found.states)

    assert found.broken is None, told(found)
    assert found.whole
    assert found.drains


@pytest.mark.parametrize("name", LARGER)
def test_no_promise_breaks_nearby(name: str, record_property: Callable[[str, object], None]) -> None:
    found = exhaust(LARGER[name](rules()), states=STATES, drain_every=23)
    record_property("states", found.states)

    assert found.broken is None, told(found)
    assert found.whole or found.states >= STATES


@pytest.mark.parametrize("name", WALKS)
def test_no_promise_breaks_on_random_ways(name: str, record_property: Callable[[str, object], None]) -> None:
    found = walk(WALKS[name](rules()), walks=WAYS, seed=round(1000 * DEPTH))
    record_property("random ways", WAYS)

    assert found.broken is None, told(found)
    assert found.drains == WAYS


@pytest.mark.parametrize("rule", RULES)
def test_a_promise_breaks_without(rule: str, record_property: Callable[[str, object], None]) -> None:
    found = exhaust(broken(rule), states=ENOUGH, drain_every=5)

    assert found.broken, (
        f"{found.states} states of {MUTANTS[rule]!r} show no need for the rule: {RULES[rule]}"
    )
    record_property("rules that are needed", 1)


def test_the_command_line_explains_a_rule(capsys: pytest.CaptureFixture[str]) -> None:
    assert show("void spends the number", seconds=10.0)

    told = capsys.readouterr().out
    assert told.startswith(RULES["void spends the number"])
    assert "store is FULL" in told


def test_a_trace_begins_at_the_start_and_is_a_shortest_one() -> None:
    found = exhaust(INSTANCES["one command, three cuts"](rules("a group is taken once")))

    assert found.broken == "I3 command 0 is accepted twice"
    assert [line.split(" ")[0] for line in found.trace] == ["producer", "store", "store"]
    assert "ANSWER LOST" in found.trace[1]
