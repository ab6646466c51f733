"""Fleets of many seeds keep all promises.

TRIOQUEUE_SEEDS=from-to runs those seeds instead; `nox -s soak` takes thousands.
"""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from .faults import KINDS
from .history import (
    Accepted,
    Asked,
    Confirmed,
    Dropped,
    Event,
    Held,
    Purged,
    PutOff,
    Redelivered,
    Ticked,
    Withdrawn,
)
from .world import Result, simulate

HERE = Path(__file__).parent.parent

AT_ONCE = 25
"""Seeds of one test."""

OPERATED = (Held, Purged, Redelivered, Withdrawn, Dropped, Ticked)

FIRST, LAST = (int(number) for number in os.environ.get("TRIOQUEUE_SEEDS", "0-99").split("-"))


def told(result: Result) -> str:
    """Says what is wrong with a seed, and how to see it again."""
    again = f"cd tests && python -m simulation --seed {result.seed} --trace"
    return "\n".join([f"seed {result.seed}: {again}", *(what[:500] for what in result.wrong[:5])])


@pytest.mark.parametrize("first", range(FIRST, LAST + 1, AT_ONCE))
def test_no_promise_breaks(first: int, record_property: Callable[[str, object], None]) -> None:
    confirmed, seconds = 0, 0.0
    put_off = first_ones = others = 0
    faults: Counter[str] = Counter()
    operated: Counter[str] = Counter()
    seeds = range(first, min(first + AT_ONCE, LAST + 1))

    for seed in seeds:
        result = simulate(seed)
        assert not result.wrong, told(result)
        confirmed += result.confirmed
        seconds += result.seconds
        faults.update(result.faults)
        operated.update(type(event).__name__ for event in result.history if isinstance(event, OPERATED))
        taken = {event.number for event in result.history if isinstance(event, PutOff | Accepted)}
        put_off += sum(isinstance(event, PutOff) for event in result.history)
        keyed = {event.number for event in result.history if isinstance(event, Asked) and event.key}
        first_ones += len(keyed & taken)
        others += sum(isinstance(e, Confirmed) and e.number in keyed - taken for e in result.history)

    record_property("seeds", len(seeds))
    record_property("hours of fleets", seconds / 3600)
    record_property("confirmed sends", confirmed)
    record_property("put off, first with a key, others with it", [put_off, first_ones, others])
    record_property("what operators and schedules did", dict(operated))
    record_property("faults", dict(faults))

    # Else nothing was tried.
    if len(seeds) == AT_ONCE:
        assert confirmed >= 40 * AT_ONCE
        assert min(put_off, first_ones) >= AT_ONCE
        assert others >= AT_ONCE // 2
        assert min(operated[kind.__name__] for kind in OPERATED) >= 3, operated
        assert sum(faults[kind] for kind in KINDS) >= 2 * AT_ONCE
        assert faults.total() >= 10 * AT_ONCE
        assert len(faults) >= 15, faults


def shown(history: list[Event]) -> list[str]:
    return [f"{type(event).__name__} {tuple(event)}" for event in history]


def test_a_seed_replays_exactly() -> None:
    assert shown(simulate(25).history) == shown(simulate(25).history)


def test_a_seed_replays_exactly_where_sets_have_another_order() -> None:
    traces = {
        subprocess.run(
            [sys.executable, "-m", "simulation", "--seed", "25", "--trace"],
            cwd=HERE,
            env={**os.environ, "PYTHONHASHSEED": order},
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        for order in ("1", "2")
    }

    assert len(traces) == 1
