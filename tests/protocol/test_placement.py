"""Placement: preferred, else least loaded, always with room."""

from hypothesis import given
from hypothesis import strategies as st

from trioqueue.protocol.placement import Candidate, choose

candidates = st.lists(
    st.builds(
        Candidate,
        incarnation=st.sampled_from([f"pod.{n}" for n in range(8)]),
        load=st.integers(0, 5),
        room=st.integers(-2, 3),
    ),
    unique_by=lambda candidate: candidate.incarnation,
)
names = st.none() | st.sampled_from([f"pod.{n}" for n in range(8)])


def test_nobody_takes_what_nobody_has_room_for() -> None:
    assert choose([]) is None
    assert choose([Candidate("a", 3, 0)]) is None
    assert choose([Candidate("a", 3, 1)], without="a") is None


def test_the_preferred_pod_takes_it_though_it_is_more_loaded() -> None:
    both = [Candidate("a", 9, 1), Candidate("b", 0, 1)]
    assert choose(both, prefer="a") == "a"
    assert choose(both) == "b"
    assert choose(both, prefer="gone") == "b"


def test_equal_loads_go_to_the_smaller_name() -> None:
    assert choose([Candidate("b", 1, 1), Candidate("a", 1, 1)]) == "a"


@given(candidates, names, names)
def test_choice(pods: list[Candidate], prefer: str | None, without: str | None) -> None:
    chosen = choose(pods, prefer=prefer, without=without)
    able = {pod.incarnation: pod for pod in pods if pod.room > 0 and pod.incarnation != without}
    if chosen is None:
        assert not able
    elif prefer in able:
        assert chosen == prefer
    else:
        assert able[chosen].load == min(pod.load for pod in able.values())
    assert choose(reversed(pods), prefer=prefer, without=without) == chosen, "the order of pods means nothing"
