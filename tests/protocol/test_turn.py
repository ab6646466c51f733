"""What follows from how a handler ended."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioqueue import Rejection
from trioqueue.messages.policy import Retry
from trioqueue.protocol.turn import (
    Cancelled,
    Drop,
    Expired,
    Failing,
    GiveUp,
    Raised,
    Rejected,
    TryAgain,
    Verdict,
    decide,
    single_leaf,
)


@attrs.define
class No(Rejection):
    why: str = ""


RETRY = Retry(attempts=3, wait_first=1.0, factor=2.0, jitter=False, give_up_on=(KeyError,))


def verdict(ending: Failing, *, failures: int = 0, is_query: bool = False, retry: Retry = RETRY) -> Verdict:
    return decide(ending, retry=retry, failures=failures, is_query=is_query, random=lambda: 0.5)


def test_a_caller_that_has_gone_gets_nothing() -> None:
    assert verdict(Expired()) == Drop(expired=True)
    assert verdict(Cancelled()) == Drop(expired=False)


@pytest.mark.parametrize("is_query", [False, True])
def test_a_rejection_is_an_answer_and_no_failure(is_query: bool) -> None:
    no = No("poor")
    assert verdict(Raised(no), failures=99, is_query=is_query) == Rejected(no)
    wrapped = ExceptionGroup("nursery", [ExceptionGroup("inner", [no])])
    assert verdict(Raised(wrapped)) == Rejected(no), "a nursery in the handler does not hide it"
    two = ExceptionGroup("nursery", [no, ValueError()])
    assert isinstance(verdict(Raised(two)), TryAgain), "beside another error it is none"


def test_failures_are_tried_again_until_the_attempts_are_used_up() -> None:
    error = ValueError("no luck")
    assert verdict(Raised(error)) == TryAgain(1.0, error)
    assert verdict(Raised(error), failures=1) == TryAgain(2.0, error)
    assert verdict(Raised(error), failures=2) == GiveUp(error)


def test_some_errors_are_not_worth_another_try() -> None:
    error = KeyError("gone")
    assert verdict(Raised(error)) == GiveUp(error)
    group = ExceptionGroup("nursery", [error])
    assert verdict(Raised(group)) == GiveUp(group), "the whole error is kept for the dead letter"


def test_a_query_is_tried_once() -> None:
    error = ValueError()
    assert verdict(Raised(error), is_query=True) == GiveUp(error)


@given(attempts=st.integers(1, 20), jitter=st.booleans(), random=st.floats(0, 1, exclude_max=True))
def test_every_policy_ends(attempts: int, jitter: bool, random: float) -> None:
    retry, error = Retry(attempts=attempts, jitter=jitter), ValueError()
    waits: list[float] = []
    while True:
        what = decide(Raised(error), retry=retry, failures=len(waits), is_query=False, random=lambda: random)
        if isinstance(what, GiveUp):
            break
        assert isinstance(what, TryAgain)
        assert 0 <= what.wait <= retry.wait_max
        waits.append(what.wait)
    assert len(waits) == attempts - 1


def test_single_leaf_unwraps_groups_of_one_only() -> None:
    error = ValueError()
    two = ExceptionGroup("two", [error, KeyError()])
    assert single_leaf(error) is error
    assert single_leaf(ExceptionGroup("a", [ExceptionGroup("b", [error])])) is error
    assert single_leaf(two) is two
    assert single_leaf(ExceptionGroup("one", [two])) is two
