"""What happened in a run, as everybody who took part wrote it down by one clock, CLOCK_MONOTONIC.

Pods write lines to files of their own, whole whatever happens to their process.  The test adds what it sent and what it
did to the pods.
"""

import json
import logging
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs
from faults.effects import Effect


class Log:
    """Lines that are whole whatever happens to the process: one write each, opened for appending."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(self, **line: object) -> None:
        os.write(self._file, json.dumps({"at": time.monotonic(), **line}).encode() + b"\n")

    def close(self) -> None:
        os.close(self._file)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Reads what was written so far."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


class EventLog(logging.Handler):
    """Writes what trioqueue logs as an event: lost leases, reaped pods, dead letters."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.INFO)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        event = getattr(record, "event", None)
        if event is not None:
            self._log.write(what=event, text=record.getMessage())


@attrs.frozen
class Turn:
    """One start of a handler, and its end."""

    entity: str
    number: int
    fence: int
    pod: str
    start: float
    end: float
    """`inf`: it runs, or nobody knows."""


@attrs.frozen
class Freeze:
    """A pod stood still."""

    pod: str
    start: float
    end: float


@attrs.define
class History:
    """One run.

    Attributes:
        confirmed: Entity -> numbers of confirmed sends, in order.
        doubtful: Entity -> numbers whose sends were not confirmed: each may stand or not.
        turns: All starts of handlers.
        lapses: Pod -> when it gave its lease up.
        deaths: Pod -> when its process was seen to be dead.
        freezes: When pods stood still.
        faults: When something was done, and to which pod; "": to all of them, or nobody knows.
        owners: Entity -> when it was seen to be owned by which pod, where that was looked at.
        effects: What the effect store has.
        applied: Entity -> numbers in its final state.
        echoed: Entity -> numbers in the final state of the entity that its children go to.
        dead: Numbers of dead letters, where such are meant to be.
        standstills: How often no pod at all was seen to beat for two heartbeats.
        forgotten_from: Redis lost what it was told from then on, until `forgotten_until`.
        stuck: Entities that had work and did not get on.
        left: What the store keeps though nothing should be left.
    """

    confirmed: dict[str, list[int]] = attrs.field(factory=dict)
    confirmed_at: dict[tuple[str, int], float] = attrs.field(factory=dict)
    doubtful: dict[str, set[int]] = attrs.field(factory=dict)
    turns: list[Turn] = attrs.field(factory=list)
    lapses: dict[str, list[float]] = attrs.field(factory=dict)
    deaths: dict[str, float] = attrs.field(factory=dict)
    freezes: list[Freeze] = attrs.field(factory=list)
    faults: list[tuple[float, str]] = attrs.field(factory=list)
    owners: dict[str, list[tuple[float, str]]] = attrs.field(factory=dict)
    effects: list[Effect] = attrs.field(factory=list)
    applied: dict[str, list[int]] = attrs.field(factory=dict)
    echoed: dict[str, list[int]] = attrs.field(factory=dict)
    dead: dict[str, set[int]] = attrs.field(factory=dict)
    standstills: int = 0
    forgotten_from: float = float("inf")
    forgotten_until: float = float("-inf")
    stuck: list[str] = attrs.field(factory=list)
    left: list[str] = attrs.field(factory=list)

    def sent(self, entity: str, number: int) -> None:
        """Notes a confirmed send."""
        self.confirmed.setdefault(entity, []).append(number)
        self.confirmed_at[entity, number] = time.monotonic()

    def doubt(self, entity: str, number: int) -> None:
        """Notes a send of which nobody knows."""
        self.doubtful.setdefault(entity, set()).add(number)

    def fault(self, pod: str = "") -> None:
        """Notes that something happens now from which the fleet has to recover."""
        self.faults.append((time.monotonic(), pod))

    def stood_still(self) -> None:
        """Notes that no pod at all beats."""
        self.standstills += 1
        self.fault()

    def owned(self, at: float, entity: str, pod: str) -> None:
        """Notes who owns an entity."""
        self.owners.setdefault(entity, []).append((at, pod))

    def take_log(self, pod: str, lines: Iterable[dict[str, Any]]) -> None:
        """Adds what a pod wrote."""
        running: dict[tuple[str, int, int], float] = {}
        for line in lines:
            what = line["what"]
            if what == "start":
                running[line["shelf"], line["number"], line["fence"]] = line["at"]
            elif what == "end":
                key = (line["shelf"], line["number"], line["fence"])
                self.turns.append(Turn(*key, pod, running.pop(key), line["at"]))
            elif what == "sent":
                self.confirmed.setdefault(line["shelf"], []).append(line["number"])
                self.confirmed_at[line["shelf"], line["number"]] = line["at"]
                self.doubtful[line["shelf"]].discard(line["number"])
            elif what == "lease_lost":
                self.lapses.setdefault(pod, []).append(line["at"])
            elif what == "sending":
                self.doubt(line["shelf"], line["number"])
        died = self.deaths.get(pod, float("inf"))
        for key, start in running.items():
            self.turns.append(Turn(*key, pod, start, died))
