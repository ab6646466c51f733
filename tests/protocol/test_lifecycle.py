"""The table of an entity's modes: closed, connected, and strict.  What the stores make of it: test_contract."""

import itertools

import pytest

from trioqueue.protocol.lifecycle import TABLE, Event, ImpossibleEvent, Mode, advance


def test_every_mode_has_a_row_and_every_event_a_use() -> None:
    assert set(TABLE) == set(Mode)
    assert {event for row in TABLE.values() for event in row} == set(Event)


@pytest.mark.parametrize(("mode", "event"), list(itertools.product(Mode, Event)))
def test_advance_follows_the_table_and_nothing_else(mode: Mode, event: Event) -> None:
    if event in TABLE[mode]:
        assert advance(mode, event) is TABLE[mode][event]
    else:
        with pytest.raises(ImpossibleEvent, match=rf"{mode} can't be {event}"):
            advance(mode, event)


def test_every_mode_can_be_reached_and_left_for_idle() -> None:
    def reachable(start: Mode) -> set[Mode]:
        found, look = {start}, [start]
        while look:
            for after in set(TABLE[look.pop()].values()) - found:
                found.add(after)
                look.append(after)
        return found

    for mode in Mode:
        assert reachable(mode) == set(Mode)


def test_only_what_has_no_work_goes_to_idle() -> None:
    ways = [
        (mode, event) for mode, row in TABLE.items() for event, after in row.items() if after is Mode.IDLE
    ]
    assert ways == [
        (Mode.READY, Event.DROPPED),
        (Mode.PARKED, Event.LET_GO),
        (Mode.PAUSED, Event.LET_GO),
    ]


def test_a_claim_is_the_only_way_to_be_active() -> None:
    entering = {
        event
        for mode, row in TABLE.items()
        for event, after in row.items()
        if after is Mode.ACTIVE is not mode
    }
    assert entering == {Event.CLAIMED}
