"""`trioqueue tail`: what happens to entities, as it happens."""

from collections.abc import Collection
from typing import Any

import click

from trioqueue import Entity, Event
from trioqueue._errors import BadDeclaration
from trioqueue._names import legal_entity_type
from trioqueue.cli.ending import until_sigterm, until_unread
from trioqueue.cli.event_lines import WORDS, event_printer
from trioqueue.cli.options import ENTITY, Connection, as_json, connects, run

ALWAYS = ("missed",)
"""What is told however little was asked for: it says that something of it may be missing."""


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
    show = event_printer(as_json=as_json)

    async def watch() -> None:
        async with (
            until_sigterm(""),
            until_unread(),
            connection.open() as queues,
            queues.open_events(entity_type) as events,
        ):
            async for event in events:
                if _wanted(event, entity, only):
                    show(event)

    run(watch)


def _wanted(event: Event, entity: Entity | None, only: Collection[str] | None) -> bool:
    word = WORDS[type(event)]
    if only is not None and word not in only and word not in ALWAYS:
        return False
    # What concerns whole pods concerns each entity.
    return entity is None or getattr(event, "entity_id", entity.id) == entity.id
