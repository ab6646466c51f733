"""The ids of commands: no two are alike, ever, and neighbours differ in most places."""

from trioqueue._encoding import _STEP, Encoder
from trioqueue.messages.codec import Codec


def test_neighbours_differ_in_every_digit() -> None:
    encoder = Encoder(Codec(), {}, "c")
    ids = [encoder.next_id() for _ in range(200)]
    assert len(set(ids)) == len(ids)
    for place in range(1, 9):
        assert len({one[-place] for one in ids}) == 16, f"Lua may look at digit {place} from the end alone"


def test_ids_go_on_when_all_numbers_were_given() -> None:
    encoder = Encoder(Codec(), {}, "c")
    first = encoder.next_id()
    encoder._number = -_STEP & 0xFFFFFFFF
    assert [encoder.next_id(), encoder.next_id()] == ["c-1.00000000", "c-1." + first.removeprefix("c-")]
