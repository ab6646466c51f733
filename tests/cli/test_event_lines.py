"""Events as lines, for people and for programs."""

import json
import re
import time

import pytest

from trioqueue import (
    CommandHandled,
    EntityAsleep,
    EntityAwake,
    EntityPaused,
    EventsMissed,
    PodLostLease,
)
from trioqueue.cli.event_lines import event_printer, line_of


def test_lines_of_what_happens_rarely() -> None:
    at = 1_700_000_000.25

    def said(event: object) -> list[str]:
        return re.split(r"  +", line_of(event, at))[1:]  # type: ignore[arg-type]

    assert said(EntityAsleep("red", "lamp", "hall", idle=True)) == ["lamp/hall", "asleep", "red", "idle"]
    assert said(EntityAsleep("red", "lamp", "hall", idle=False))[-1] == "its pod let go of it"
    assert said(EntityPaused("red", "lamp", "hall", ""))[-1] == "by an operator"
    assert said(PodLostLease("red", "no heartbeat")) == ["lost", "red", "no heartbeat"]
    assert said(EventsMissed("", 1234)) == ["missed", "up to 1,234 events never came"]
    undecodable = CommandHandled("red", "lamp", "hall", "", "", "dead", 0.0, 0.0)
    assert said(undecodable)[:2] == ["lamp/hall", "handled"]


def test_a_pod_that_goes_without_saying() -> None:
    handled = CommandHandled("red", "lamp", "hall", "switch", "7", "done", 0.0, 0.0)

    named, unnamed = line_of(handled, 0.0), line_of(handled, 0.0, own="red")
    assert (" red " in named, " red " in unnamed) == (True, False)
    assert len(named) == len(unnamed), "aligned with those of other pods"
    assert line_of(handled, 0.0, own="blue") == named


def test_no_line_orders_a_terminal_about(capsys: pytest.CaptureFixture[str]) -> None:
    event_printer(as_json=False)(EntityPaused("red", "lamp", "hall", "\x1b[2J\nno"))

    assert re.fullmatch(r"[\d:.]+  lamp/hall +paused +red +\[2J no\n", capsys.readouterr().out)


def test_json_has_the_time_the_word_and_the_fields(capsys: pytest.CaptureFixture[str]) -> None:
    event_printer(as_json=True, own="red")(EntityAwake("red", "lamp", "hall"))

    said = json.loads(capsys.readouterr().out)
    assert time.time() - 60 < said.pop("at") <= time.time()
    assert said == {"event": "awake", "pod": "red", "entity_type": "lamp", "entity_id": "hall"}
