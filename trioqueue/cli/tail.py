"""`trioqueue tail`: what happens to entities, as it happens."""

import sys
import time
from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any

import click
from rich.console import Console

from trioqueue import (
    CommandDead,
    CommandFailed,
    CommandHandled,
    Entity,
    EntityAsleep,
    EntityAwake,
    EntityPaused,
    Event,
    EventsMissed,
    PodLostLease,
)
from trioqueue._errors import BadDeclaration
from trioqueue._names import legal_entity_type
from trioqueue.cli.cells import flat, replace_unencodable
from trioqueue.cli.ending import until_sigterm, until_unread
from trioqueue.cli.options import ENTITY, Connection, as_json, connects, plain, print_json, run

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
"""What a line calls each event."""

ALWAYS = ("missed",)
"""What is told however little was asked for: it says that something of it may be missing."""

STYLES: dict[str, dict[str, Any]] = {
    "awake": {"dim": True},
    "asleep": {"dim": True},
    "failed": {"fg": "red"},
    "dead": {"fg": "red", "bold": True},
    "paused": {"fg": "yellow"},
    "lost": {"fg": "red", "bold": True},
    "missed": {"fg": "yellow"},
}


class Words(click.ParamType[frozenset[str]]):
    """Some of the words that lines call events by, between commas."""

    name = "words"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> frozenset[str]:
        """Reads them."""
        if isinstance(value, frozenset):
            return value  # pyright: ignore[reportUnknownVariableType]
        words = frozenset(one.strip() for one in str(value).split(",") if one.strip())
        known = [word for word in WORDS.values() if word not in ALWAYS]
        if strange := sorted(words.difference(known)) or not words:
            told = f"{strange[0]!r} is" if isinstance(strange, list) else "that is"
            self.fail(f"{told} no kind of event: give some of {', '.join(known)}.", param, ctx)
        return words


@click.command()
@click.argument("entity_type", metavar="[TYPE]", required=False)
@click.option("--entity", type=ENTITY, metavar="ENTITY", help="Of this entity alone, as account/42.")
@click.option(
    "--only",
    type=Words(),
    metavar="KIND,...",
    help="Only these: awake, asleep, handled, failed, dead, paused, lost.",
)
@connects
@as_json
def tail(
    connection: Connection,
    *,
    entity_type: str | None,
    entity: Entity | None,
    only: frozenset[str] | None,
    as_json: bool,
) -> None:
    """Prints what happens to entities, as it happens.

    That is those of a type, or all of them, until it is ended.

    A line has the time when it came here, the entity, what happened, the command, the pod, and more of it:

    \b
    handled   a command has left its mailbox: how long it waited and took
    failed    a handler failed: the error, the attempt, and when it is tried again
    dead      a command became a dead letter
    paused    a worker let go of an entity that is paused
    awake     a worker began with an entity
    asleep    a worker ended
    lost      a pod lost its lease
    missed    so many events never came; told whatever --only says

    Events come some 50 ms late, and one may be lost.  Those of one entity and pod come in their order.

    With --json, each line is an object: at (in seconds since the epoch), event (one of the words above), and the fields
    of the event.
    """  # noqa: D301 - \b has click leave the lines below it as they are
    if entity is not None:
        if entity_type not in (None, entity.type):
            raise click.UsageError(f"{entity} is not of the type {entity_type!r}: leave one of them out.")
        entity_type = entity.type
    if entity_type is not None:
        try:
            legal_entity_type(entity_type)
        except BadDeclaration as error:
            raise click.UsageError(str(error)) from None
    show = _print_as_json if as_json else _Lines()

    async def watch() -> None:
        async with (
            until_sigterm(""),
            until_unread(),
            connection.open() as queues,
            queues.open_events(entity_type) as events,
        ):
            async for event in events:
                if _wanted(event, entity, only):
                    show(event, time.time())

    replace_unencodable()
    run(watch)


def _wanted(event: Event, entity: Entity | None, only: Collection[str] | None) -> bool:
    word = WORDS[type(event)]
    if only is not None and word not in only and word not in ALWAYS:
        return False
    # What concerns whole pods concerns each entity.
    return entity is None or getattr(event, "entity_id", entity.id) == entity.id


def _print_as_json(event: Event, at: float) -> None:
    print_json({"at": at, "event": WORDS[type(event)], **plain(event)})


class _Lines:
    """Prints a line for each event, with colours on a terminal."""

    def __init__(self) -> None:
        console = Console(highlight=False)
        self._style: Callable[..., str] = (
            click.style if console.is_terminal and not console.no_color else _unstyled
        )

    def __call__(self, event: Event, at: float) -> None:
        word = WORDS[type(event)]
        line = flat(line_of(event, at))
        sys.stdout.write(self._style(line, **STYLES.get(word, {})) + "\n")
        sys.stdout.flush()


def _unstyled(line: str, **_: Any) -> str:
    return line


def line_of(event: Event, at: float) -> str:
    """Writes an event on a line, of columns that stay where they are unless something is longer than they are wide."""
    moment = datetime.fromtimestamp(at).astimezone()
    entity_type: str = getattr(event, "entity_type", "")
    entity = f"{entity_type}/{getattr(event, 'entity_id', '')}" if entity_type else ""
    command: str = getattr(event, "command", "")
    return (
        f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03}  {entity:<20}  {WORDS[type(event)]:<7}  "
        f"{command:<12}  {event.pod:<8}  {_more_of(event)}"
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
