"""`trioqueue show`: one page of everything that the store knows of an entity."""

import json
import sys
from collections.abc import Sequence
from typing import Any

import attrs
import click
import trio
from rich.cells import cell_len, set_cell_size

from trioqueue import (
    AtomicQueues,
    DeadLetter,
    DecodeError,
    Entity,
    EventsMissed,
    Head,
    Mailbox,
    QueuedCommand,
    RawState,
)
from trioqueue.cli.event_lines import event_printer
from trioqueue.cli.options import ENTITY, Connection, as_json, connects, plain, print_json, run
from trioqueue.cli.tables import Table, printable, span, width

LETTERS = 5
"""Dead letters of the entity that are shown."""

BETWEEN = 3
"""Characters between two columns of a table."""

NARROWEST = 20
"""Characters to which what is too long is cut at most, however narrow the terminal is."""


@attrs.frozen
class Page:
    """What is shown.

    Attributes:
        mailbox: The entity.
        queued: The first commands in its mailbox.
        put_off: Those of its commands that are put off.
        state: As it is stored; None: it has none, or none that can be read.
        state_error: Why it can't be read.
        dead_letters: Its newest ones.
    """

    mailbox: Mailbox
    queued: tuple[QueuedCommand, ...]
    put_off: tuple[QueuedCommand, ...]
    state: RawState | None
    state_error: str | None
    dead_letters: list[DeadLetter]


@click.command()
@click.argument("entity", type=ENTITY)
@click.option(
    "--count",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    help="How many commands to show at most.",
)
@click.option(
    "--events",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="Follow what happens to it, for so long.",
)
@connects
@as_json
def show(connection: Connection, *, entity: Entity, count: int, events: float | None, as_json: bool) -> None:
    """Shows all that the store knows of ENTITY on one page.

    That is its mode, the pod that owns it and when that was heard of last, the fence of its newest activation, what it
    waits for; the first commands in its mailbox, those that are put off, its state as it is stored, and its newest
    dead letters, as far as they are among the newest hundred of its type.  Fields are cut to the width of the terminal.

    It is read in some round trips, not at one moment.  It changes nothing and wakes nobody.

    With --events, what happens to it follows, as `trioqueue tail` prints it.

    With --json: one document with mailbox, queued, put_off, state, state_error and dead_letters; with --events, then
    one for each event, on a line of its own, as with `trioqueue tail --json`.
    """

    async def look() -> None:
        async with connection.open() as queues:
            page = await _read(queues, entity, count)
            if as_json:
                print_json(page)
            else:
                _print(page)
            if events is not None:
                await _follow(queues, entity, events, as_json=as_json)

    run(look)


async def _read(queues: AtomicQueues, entity: Entity, count: int) -> Page:
    box = await queues.inspect(*entity)
    state: RawState | None = None
    wrong: str | None = None
    try:
        state = await queues.raw_state(*entity)
    except DecodeError as error:
        wrong = str(error)
    letters = await queues.dead_letters(entity.type, newest=True)
    return Page(
        mailbox=box,
        queued=await queues.queued(*entity, count=count),
        put_off=await queues.put_off(*entity),
        state=state,
        state_error=wrong,
        dead_letters=[letter for letter in letters if letter.entity_id == entity.id][:LETTERS],
    )


# -------------------------------------------------------------------------------- the page
def _print(page: Page) -> None:
    box = page.mailbox
    wide = width()
    click.echo(_title(box))
    for name, text in _facts(page):
        shown = printable(text)
        click.echo(f"{name:<10}  {_cut(shown, wide - 12) if name == 'state' else shown}")
    if page.queued:
        click.echo("\nIn its mailbox:")
        rows = [
            (
                "urgent" * one.urgent,
                span(max(0.0, box.at - one.accepted_at)),
                one.command,
                one.command_id,
                _json(one.fields),
            )
            for one in page.queued
        ]
        _table(("lane", "waited", "command", "id", "fields"), rows, wide)
        if box.pending > len(page.queued):
            click.echo(f"These are {len(page.queued):,} of {box.pending:,}: --count {box.pending} shows all.")
    if page.put_off:
        click.echo("\nPut off:")
        due = [(one, (one.due_at or 0.0) - box.at) for one in page.put_off]
        _table(
            ("due", "command", "id", "fields"),
            [(_in(seconds), one.command, one.command_id, _json(one.fields)) for one, seconds in due],
            wide,
        )
    if page.dead_letters:
        click.echo("\nNewest dead letters:")
        _table(
            ("died", "command", "id", "attempts", "error"),
            [
                (
                    f"{span(max(0.0, box.at - one.died_at))} ago",
                    one.command or "(undecodable)",
                    one.command_id,
                    one.attempts,
                    " ".join(one.error.split()),
                )
                for one in page.dead_letters
            ],
            wide,
        )


def _title(box: Mailbox) -> str:
    owner = "" if box.owner is None else f" on {box.owner}"
    if box.owner is not None and box.owner_silent is not None:
        owner += f", heard of {span(box.owner_silent)} ago"
    return f"{box.entity_type}/{box.entity_id} is {box.mode}{owner}"


def _facts(page: Page) -> list[tuple[str, str]]:
    """Names what there is to say beside its lists, and leaves out what there is not."""
    box, head = page.mailbox, page.mailbox.head
    facts = list[tuple[str, str]]()
    if box.fence:
        facts.append(("fence", f"{box.fence}, claimed {span(box.claimed_for or 0.0)} ago"))
    if box.ready_for is not None:
        facts.append(("ready", f"for {span(box.ready_for)}: no pod takes it"))
    if box.paused_for is not None:
        facts.append(("paused", f"for {span(box.paused_for)}: {' '.join(box.paused_why.split())}"))
    if box.type_paused:
        for_ = "" if box.type_paused_for is None else f" for {span(box.type_paused_for)}"
        facts.append(("type", f"paused{for_}: {' '.join(box.type_paused_why.split())}"))
    if box.quarantine_left is not None:
        facts.append(("quarantine", f"nothing of any entity starts for another {span(box.quarantine_left)}"))
    full = ""
    if box.full_for is not None:
        full = f", full for a sender that allows {box.full_limit}, {span(box.full_for)} ago"
    facts.append(("mailbox", f"{box.pending:,} {'command' if box.pending == 1 else 'commands'}{full}"))
    if head is not None:
        facts.append(("first", _first(head)))
    if box.due_in is not None:
        facts.append(("due", _in(box.due_in)))
    if box.unknown_for is not None:
        facts.append(
            ("unknown", f"first declined {span(box.unknown_for)} ago by a pod that does not know it")
        )
    facts.append(("state", _state(page)))
    return facts


def _first(head: Head) -> str:
    told = [f"{head.command} {head.command_id}", f"accepted {span(head.waited)} ago"]
    if head.attempts:
        told.append(f"attempts that failed: {head.attempts}")
    if head.crashes:
        told.append(f"pods that died with it: {head.crashes}")
    if head.expires_in is not None:
        told.append(f"deadline in {span(head.expires_in)}")
    return ", ".join(told)


def _state(page: Page) -> str:
    if page.state_error is not None:
        return f"{page.mailbox.state_bytes:,} bytes: {page.state_error}"
    if page.state is None:
        return "none"
    version = f"version {page.state.version}"
    return f"{page.mailbox.state_bytes:,} bytes, {version}: {_json(page.state.fields)}"


def _table(headings: Sequence[str], rows: Sequence[Sequence[object]], wide: int) -> None:
    """Prints a table whose last column is cut to what the others leave of the width, so that a row stays a line."""
    table = Table(*headings)
    used = sum(
        BETWEEN + max(cell_len(printable(str(row[at]))) for row in (headings, *rows))
        for at in range(len(headings) - 1)
    )
    for row in rows:
        table.row(*row[:-1], _cut(printable(str(row[-1])), wide - used))
    table.show(empty="")


def _cut(text: str, most: int) -> str:
    most = max(most, NARROWEST)
    return text if cell_len(text) <= most else f"{set_cell_size(text, most - 1).rstrip()}…"


def _in(seconds: float) -> str:
    return f"in {span(seconds)}" if seconds > 0 else f"{span(-seconds)} ago"


def _json(fields: Any) -> str:
    return json.dumps(plain(fields), ensure_ascii=False, default=str)


# -------------------------------------------------------------------------------- its events
async def _follow(queues: AtomicQueues, entity: Entity, seconds: float, *, as_json: bool) -> None:
    show = event_printer(as_json=as_json)
    async with queues.open_events(entity.type) as events:
        if not as_json:
            click.echo(f"\nEvents of the next {span(seconds)}:")
        sys.stdout.flush()
        with trio.move_on_after(seconds):
            async for event in events:
                if isinstance(event, EventsMissed) or getattr(event, "entity_id", None) == entity.id:
                    show(event)
