"""The arithmetic of leases: what a pod believes ends before what others do."""

from hypothesis import given
from hypothesis import strategies as st

from trioqueue.protocol.lease import STALL_BEATS, renewed, shift_us, silent_since, trusted_until

times = st.floats(min_value=0, max_value=1e9)
durations = st.floats(min_value=0.01, max_value=3600)
micros = st.integers(min_value=0, max_value=2**53)
heartbeats = st.integers(min_value=1_000, max_value=60_000_000)


def test_trust_counts_from_the_sending() -> None:
    assert trusted_until(100.0, 3.0, 0.25) == 102.75


@given(sent=times, late=st.floats(min_value=0, max_value=1e4), ttl=durations, grace=durations)
def test_trust_ends_before_others_stop_believing(sent: float, late: float, ttl: float, grace: float) -> None:
    """The store renewed no earlier than the beat was sent, however long the answer took."""
    believed = trusted_until(sent, ttl, ttl / 10)
    renewed_us = round((sent + late) * 1e6)
    assert believed * 1e6 <= silent_since(renewed_us, round(ttl * 1e6), round(grace * 1e6)) + 1


@given(st.permutations([1.0, 2.0, 3.0, 4.0]), durations)
def test_answers_may_come_in_any_order(order: list[float], ttl: float) -> None:
    believed = 0.0
    for sent_at in order:
        after = renewed(believed, sent_at, ttl, 0.0)
        assert after >= believed
        believed = after
    assert believed == trusted_until(4.0, ttl, 0.0)


@given(last=micros, heartbeat=heartbeats, beats=st.floats(min_value=0, max_value=STALL_BEATS))
def test_usual_gaps_shift_nothing(last: int, heartbeat: int, beats: float) -> None:
    assert shift_us(last, last + int(heartbeat * beats), heartbeat) == 0


@given(last=micros, heartbeat=heartbeats, gap=st.integers(min_value=1, max_value=10**15))
def test_a_standstill_leaves_every_pod_one_heartbeat_older(last: int, heartbeat: int, gap: int) -> None:
    now = last + STALL_BEATS * heartbeat + gap
    silence_before = 123
    renewal = last - silence_before + shift_us(last, now, heartbeat)
    assert now - renewal == silence_before + heartbeat


@given(last=micros, heartbeat=heartbeats, back=st.integers(min_value=1, max_value=10**15))
def test_a_clock_that_is_set_back_is_made_up_for(last: int, heartbeat: int, back: int) -> None:
    now = last - back
    assert now - (last + shift_us(last, now, heartbeat)) == heartbeat


@given(heartbeat=heartbeats, pace=st.floats(min_value=STALL_BEATS + 0.01, max_value=50))
def test_a_fleet_of_slow_heartbeats_still_reaps(heartbeat: int, pace: float) -> None:
    """Each beat finds a standstill; were its whole length made up for, a dead pod would stay young for ever."""
    now, renewal = 0, 0
    for _ in range(10):
        before, now = now, now + int(heartbeat * pace)
        renewal += shift_us(before, now, heartbeat)
    assert now - renewal == 10 * heartbeat
