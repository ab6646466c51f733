"""Outcomes travel."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioqueue.protocol.outcome import Kind, Outcome

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
outcomes = st.builds(Outcome, st.sampled_from(Kind), values, st.text(), st.text())


@given(outcomes)
def test_what_is_written_is_read_back(outcome: Outcome) -> None:
    assert Outcome.from_wire(json.loads(json.dumps(outcome.to_wire()))) == outcome


def test_empty_parts_take_no_room() -> None:
    assert Outcome(Kind.DONE).to_wire() == {"k": "done"}
    assert Outcome(Kind.DONE, 0).to_wire() == {"k": "done", "v": 0}, "0 is a value"


@pytest.mark.parametrize(
    "wire", [None, [], "done", {}, {"k": None}, {"k": "unknown"}, {"k": 1}, {"v": 1}], ids=repr
)
def test_what_can_not_be_an_outcome_is_refused(wire: Any) -> None:
    with pytest.raises(ValueError):
        Outcome.from_wire(wire)


def test_it_reads_well() -> None:
    told = str(Outcome(Kind.REJECTED, {"balance": 3}, "insufficient_funds"))
    assert "rejected" in told
    assert "insufficient_funds" in told
    assert "balance" not in told, "what travels is not for logs"
