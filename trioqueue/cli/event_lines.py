"""An event as it is printed: a line for people, an object for programs."""

import sys
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import click
from rich.console import Console

from trioqueue import (
    CommandDead,
    CommandFailed,
    CommandHandled,
    EntityAsleep,
    EntityAwake,
    EntityPaused,
    Event,
    EventsMissed,
    PodLostLease,
)
from trioqueue.cli.cells import flat, replace_unencodable
from trioqueue.cli.options import plain, print_json

WORDS: dict[type[Event], str] = {
    EntityAwake: "awake",
    EntityAsleep: "asleep",
    CommandHandled: "handled",
    CommandFailed: "failed",
    CommandDead: "dead",
    EntityPaused: "paused",
    PodLostLease: "lost",
    EventsMissed: "missed",
}
"""What each event is called."""

STYLES: dict[str, dict[str, Any]] = {
    "awake": {"dim": True},
    "asleep": {"dim": True},
    "failed": {"fg": "red"},
    "dead": {"fg": "red", "bold": True},
    "paused": {"fg": "yellow"},
    "lost": {"fg": "red", "bold": True},
    "missed": {"fg": "yellow"},
}


def event_printer(*, as_json: bool, own: str = "") -> Callable[[Event], None]:
    """Gives what prints each event when it comes.

    Args:
        as_json: Whether for programs; else it has colours on a terminal.
        own: The pod that a line does not name, as most lines are about it.
    """
    replace_unencodable()
    if as_json:
        return _print_as_json
    console = Console(highlight=False)
    colours = console.is_terminal and not console.no_color

    def print_line(event: Event) -> None:
        line = flat(line_of(event, time.time(), own=own))
        sys.stdout.write(
            (click.style(line, **STYLES.get(WORDS[type(event)], {})) if colours else line) + "\n"
        )
        sys.stdout.flush()

    return print_line


def _print_as_json(event: Event) -> None:
    print_json({"at": time.time(), "event": WORDS[type(event)], **plain(event)})


def line_of(event: Event, at: float, *, own: str = "") -> str:
    """Writes an event on a line, of columns that stay where they are unless something is longer than they are wide."""
    moment = datetime.fromtimestamp(at).astimezone()
    entity_type: str = getattr(event, "entity_type", "")
    entity = f"{entity_type}/{getattr(event, 'entity_id', '')}" if entity_type else ""
    command: str = getattr(event, "command", "")
    pod = "" if event.pod == own else event.pod
    return (
        f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03}  {entity:<20}  {WORDS[type(event)]:<7}  "
        f"{command:<12}  {pod:<8}  {_more_of(event)}"
    ).rstrip()


def _more_of(event: Event) -> str:
    match event:
        case CommandHandled():
            outcome = "" if event.outcome == "done" else f"  {event.outcome}"
            return f"waited {_ms(event.waited):>8}  took {_ms(event.duration):>8}{outcome}"
        case CommandFailed():
            return f"{event.error}, attempt {event.attempt}, again in {_ms(event.again_in)}"
        case CommandDead():
            return f"{event.error}, after {event.attempts} {'attempt' if event.attempts == 1 else 'attempts'}"
        case EntityPaused():
            return event.why or "by an operator"
        case EntityAsleep():
            return "idle" if event.idle else "its pod let go of it"
        case PodLostLease():
            return event.why
        case EventsMissed():
            return f"up to {event.count:,} events never came"
        case _:
            return ""


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 0.1 else f"{seconds * 1000:,.0f} ms"
