import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trioqueue._errors import BadDeclaration
from trioqueue.messages.policy import Drain, EntityPolicy, Lease, Limits, Retry

CALM = Retry(jitter=False)


class TestRetry:
    def test_waits_double_up_to_the_longest(self) -> None:
        retry = Retry(wait_first=1.0, wait_max=10.0, jitter=False)

        assert [retry.wait_before(n, 0.9) for n in range(1, 7)] == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]

    def test_the_defaults_outlast_the_restart_of_a_database(self) -> None:
        waits = [CALM.wait_before(failures, 0.0) for failures in range(1, CALM.attempts)]

        assert sum(waits) == pytest.approx(51.1)

    def test_jitter_spreads_by_half(self) -> None:
        retry = Retry(wait_first=2.0)

        assert retry.wait_before(1, 0.0) == 1.0
        assert retry.wait_before(1, 0.5) == 2.0
        assert retry.wait_before(1, 0.75) == 2.5

    @given(
        first=st.floats(0, 1e6),
        factor=st.floats(1, 1e6),
        longest=st.floats(0, 3600),
        jitter=st.booleans(),
        attempt=st.integers(1, 10_000),
        random=st.floats(0, 1, exclude_max=True),
    )
    def test_no_wait_exceeds_the_longest(
        self, first: float, factor: float, longest: float, jitter: bool, attempt: int, random: float
    ) -> None:
        retry = Retry(wait_first=first, factor=factor, wait_max=longest, jitter=jitter)

        assert 0 <= retry.wait_before(attempt, random) <= longest

    def test_no_wait_is_longer_than_what_a_store_believes(self) -> None:
        with pytest.raises(BadDeclaration, match="3600 seconds at most"):
            Retry(wait_max=3601)

    def test_gives_up_after_the_last_attempt(self) -> None:
        retry = Retry(attempts=3)

        assert [retry.gives_up(ValueError(), n) for n in (1, 2, 3, 4)] == [False, False, True, True]

    def test_gives_up_at_once_on_what_is_named(self) -> None:
        retry = Retry(give_up_on=(LookupError,))

        assert retry.gives_up(KeyError(), 1)
        assert not retry.gives_up(ValueError(), 1)

    def test_looks_into_groups(self) -> None:
        retry = Retry(give_up_on=(LookupError,))
        group = ExceptionGroup("", [ValueError(), ExceptionGroup("", [KeyError()])])

        assert retry.gives_up(group, 1)
        assert not retry.gives_up(ExceptionGroup("", [ValueError()]), 1)
        assert not Retry().gives_up(group, 1)

    def test_one_class_or_a_list_will_do(self) -> None:
        options: Any = {"give_up_on": KeyError}

        assert Retry(**options).give_up_on == (KeyError,)
        options = {"give_up_on": [KeyError, ValueError]}
        assert Retry(**options).give_up_on == (KeyError, ValueError)


class TestLease:
    def test_the_defaults_keep_their_own_rules(self) -> None:
        lease = Lease()

        assert (lease.ttl, lease.heartbeat, lease.grace, lease.stall_limit) == (3.0, 1.0, 1.5, 10.0)
        assert lease.margin == pytest.approx(0.3)

    def test_one_lost_heartbeat_must_not_end_it(self) -> None:
        with pytest.raises(BadDeclaration, match=r"Lease\.ttl=1\.9 is shorter than 2 heartbeats of 1 s"):
            Lease(ttl=1.9)
        assert Lease(ttl=2.0).ttl == 2.0

    def test_a_heartbeat_on_its_way_must_count(self) -> None:
        with pytest.raises(BadDeclaration, match=r"Lease\.grace=1\.4 is shorter than 1\.5 heartbeats"):
            Lease(grace=1.4)

    @given(st.integers(1, 100_000))
    @example(200)
    def test_exactly_enough_is_enough(self, heartbeat_ms: int) -> None:
        """1.5 * 0.2 is more than 0.3."""
        beat, grace, ttl = heartbeat_ms / 1000, 3 * heartbeat_ms / 2000, 2 * heartbeat_ms / 1000

        assert Lease(ttl=ttl, heartbeat=beat, grace=grace).grace == grace
        with pytest.raises(BadDeclaration, match=r"Lease\.ttl="):
            Lease(ttl=ttl - 1e-6, heartbeat=beat, grace=grace)
        with pytest.raises(BadDeclaration, match=r"Lease\.grace="):
            Lease(ttl=ttl, heartbeat=beat, grace=grace - 1e-6)

    @given(st.floats(0.01, 100), st.floats(2, 10))
    def test_trust_outlasts_a_heartbeat(self, heartbeat: float, beats: float) -> None:
        lease = Lease(ttl=beats * heartbeat, heartbeat=heartbeat, grace=1.5 * heartbeat)

        assert lease.ttl - lease.margin > heartbeat


def test_the_other_defaults() -> None:
    assert EntityPolicy() == EntityPolicy(
        idle_timeout=15.0,
        max_payload=262_144,
        max_state=262_144,
        retry=Retry(),
        max_crashes=3,
        timeout=None,
        fetch=64,
        unknown_grace=600.0,
    )
    assert Limits() == Limits(running=100, owned=20_000, unanswered=30.0)
    assert Drain() == Drain(soft=10.0, hard=5.0)


def test_never_idle_is_legal() -> None:
    assert EntityPolicy(idle_timeout=math.inf, timeout=0.5).idle_timeout == math.inf


@pytest.mark.parametrize(
    ("make", "name", "value"),
    [
        (Retry, "attempts", 0),
        (Retry, "attempts", 1.5),
        (Retry, "attempts", True),
        (Retry, "wait_first", -1),
        (Retry, "wait_first", math.nan),
        (Retry, "wait_max", math.inf),
        (Retry, "factor", 0.5),
        (Retry, "factor", math.inf),
        (Retry, "give_up_on", ("ValueError",)),
        (Retry, "give_up_on", (KeyboardInterrupt,)),
        (EntityPolicy, "idle_timeout", -1),
        (EntityPolicy, "idle_timeout", "15"),
        (EntityPolicy, "max_payload", 0),
        (EntityPolicy, "max_state", -1),
        (EntityPolicy, "max_crashes", 0),
        (EntityPolicy, "timeout", 0),
        (EntityPolicy, "fetch", 0),
        (EntityPolicy, "keep_results", 1e9),
        (EntityPolicy, "key_window", 1e16),
        (EntityPolicy, "key_window", math.inf),
        (EntityPolicy, "key_window", math.nan),
        (EntityPolicy, "retry", None),
        (EntityPolicy, "unknown_grace", -0.1),
        (Lease, "ttl", 0),
        (Lease, "heartbeat", 0),
        (Lease, "grace", math.inf),
        (Lease, "stall_limit", 0),
        (Limits, "running", 0),
        (Limits, "owned", 0),
        (Limits, "unanswered", 0),
        (Drain, "soft", -1),
        (Drain, "hard", math.nan),
    ],
)
def test_illegal_values_are_named(make: Callable[..., object], name: str, value: object) -> None:
    with pytest.raises(BadDeclaration, match=rf"{getattr(make, '__name__', '')}\.{name}"):
        make(**{name: value})


def test_who_commits_in_groups_reads_more_ahead() -> None:
    assert (EntityPolicy().fetch, EntityPolicy(commit="group").fetch) == (64, 256)
    assert EntityPolicy(commit="group", fetch=8).fetch == 8
