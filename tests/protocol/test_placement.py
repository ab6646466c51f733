"""Placement: preferred, else least loaded, always with room."""

from hypothesis import given
from hypothesis import strategies as st

from trioqueue.protocol.placement import Candidate, choose, next_after

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


def test_what_is_declined_goes_to_each_in_the_order_of_joining() -> None:
    pods = [Candidate("d.3", 0, 1), Candidate("c.20", 9, 1), Candidate("a.100", 5, 1), Candidate("b.7", 0, 0)]
    assert next_after(pods, "d.3") == "c.20"
    assert next_after(pods, "c.20") == "a.100"
    assert next_after(pods, "a.100") == "d.3"
    assert next_after(pods, "gone.21") == "a.100"
    assert next_after([Candidate("a.1", 0, 1)], "a.1") is None


@given(candidates)
def test_what_is_declined_meets_every_pod_that_has_room(pods: list[Candidate]) -> None:
    with_room = {pod.incarnation for pod in pods if pod.room > 0}
    asked = list[str]()
    while len(asked) < len(with_room):
        one = next_after(pods, asked[-1] if asked else "pod.99")
        assert one is not None
        asked.append(one)
        if len(with_room) == 1:
            break
    assert set(asked) == with_room
