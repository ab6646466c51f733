"""`trioqueue dead`: look at dead letters, put them back, or delete them."""

import json
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

import attrs
import click

from trioqueue import AtomicQueues, DeadLetter, Entity, TrioqueueError
from trioqueue.cli.options import (
    ENTITY,
    TYPE,
    Connection,
    as_json,
    ask,
    confirmed,
    connects,
    plain,
    print_json,
)
from trioqueue.cli.tables import Table, printable, span

F = TypeVar("F", bound=Callable[..., Any])

PAGE = 100
"""Dead letters that are read at once."""

UNREADABLE = "(unreadable)"
"""In place of the name of a command whose envelope can't be read."""


@attrs.define
class NoSuchLetter(TrioqueueError):
    """Tells that a type has no dead letter of this command; it may have had it."""

    entity_type: str
    command_id: str

    def __str__(self) -> str:
        return (
            f"{self.entity_type} has no dead letter {self.command_id!r} (any more): "
            f"see `trioqueue dead ls {self.entity_type}`."
        )


@click.group(invoke_without_command=True)
@click.pass_context
def dead(context: click.Context) -> None:
    """Looks at dead letters, puts them back, or deletes them."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


# ------------------------------------------------------------------------ looking
@dead.command(name="ls")
@connects
@click.argument("entity_type", metavar="TYPE", type=TYPE)
@click.option(
    "--entity", type=ENTITY, help="Only those of this one; then all of the type are looked through."
)
@click.option("--count", type=click.IntRange(1), default=20, show_default=True, help="How many at most.")
@click.option("--offset", type=click.IntRange(0), default=0, help="How many of the newest to leave out.")
@as_json
def list_(
    connection: Connection, entity_type: str, entity: Entity | None, count: int, offset: int, *, as_json: bool
) -> None:
    """Lists the dead letters of a type, the newest first."""
    if entity is not None and entity.type != entity_type:
        raise click.UsageError(f"{entity} is no {entity_type}: leave --entity out, or list {entity.type}.")

    async def look(queues: AtomicQueues) -> list[DeadLetter]:
        if entity is None:
            return await queues.dead_letters(entity_type, offset=offset, count=count + 1, newest=True)
        return (await _of(queues, entity, offset + count + 1))[offset:]

    found = connection.run(look)
    if as_json:
        print_json(found[:count])
        return
    table = Table("command id", "entity", "command", "attempts", "died", "error")
    for letter in found[:count]:
        table.row(
            letter.command_id,
            f"{letter.entity_type}/{letter.entity_id}",
            letter.command or UNREADABLE,
            letter.attempts,
            f"{span(max(0.0, time.time() - letter.died_at))} ago",
            " ".join(letter.error.split()),
        )
    table.show(empty=f"{entity or entity_type} has no dead letters{' that far back' if offset else ''}.")
    if len(found) > count:
        click.echo(f"There are more: add --offset {offset + count}.")


async def _of(queues: AtomicQueues, entity: Entity, count: int) -> list[DeadLetter]:
    """Reads the newest of one entity; none twice, although others die meanwhile and move all further back."""
    found, offset = dict[str, DeadLetter](), 0
    while len(found) < count and (
        letters := await queues.dead_letters(entity.type, offset=offset, count=PAGE, newest=True)
    ):
        found |= {letter.command_id: letter for letter in letters if letter.entity_id == entity.id}
        offset += len(letters)
    return list(found.values())[:count]


@dead.command()
@connects
@click.argument("entity_type", metavar="TYPE", type=TYPE)
@click.argument("command_id")
@as_json
def show(connection: Connection, entity_type: str, command_id: str, *, as_json: bool) -> None:
    """Shows all that is known of a dead letter.

    These are its fields, its error, and where that was raised, and for a timeout what else its entity had running.
    """
    letter = connection.run(lambda queues: _letter(queues, entity_type, command_id))
    if as_json:
        print_json(letter)
        return
    rows = {
        "command": f"{letter.command or UNREADABLE} of {letter.entity_type}/{letter.entity_id}",
        "id": letter.command_id,
        "fields": _json(letter.fields),
        "headers": _json(letter.headers) if letter.headers else "",
        "version": str(letter.version) if letter.version != 1 else "",
        "raw": "" if letter.command else letter.envelope.decode(errors="backslashreplace"),
        "accepted": _at(letter.accepted_at),
        "died": _at(letter.died_at),
        "attempts": f"{letter.attempts:,}",
        "crashes": f"{letter.crashes:,}" if letter.crashes else "",
        "error": letter.error,
    }
    for name, text in rows.items():
        if text:
            click.echo(f"{name:9} {printable(text)}")
    for name, text in (("traceback", letter.traceback), ("tasks", letter.tasks)):
        if text:
            click.echo(f"\n{name}\n{printable(text.rstrip())}")


def _json(value: object) -> str:
    return json.dumps(plain(value), ensure_ascii=False)


def _at(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


# ------------------------------------------------------------------------ steering
def one_or_all(function: F) -> F:
    """Gives a verb a type, and the id of a command or `--all`, as `everything`."""
    envvar = f"TRIOQUEUE_DEAD_{function.__name__.upper()}_ALL"
    with_all = click.option(
        "--all", "everything", is_flag=True, envvar=envvar, help="All of the type, instead of one."
    )(function)
    with_id = click.argument("command_id", required=False)(with_all)
    return click.argument("entity_type", metavar="TYPE", type=TYPE)(with_id)


@dead.command()
@connects
@one_or_all
@click.option(
    "--to",
    type=click.Choice(["tail", "head"]),
    default="tail",
    show_default=True,
    help="Where in its entity's mailbox: behind all that is queued, or before.",
)
@confirmed
@as_json
def redeliver(
    connection: Connection,
    entity_type: str,
    command_id: str | None,
    to: Literal["tail", "head"],
    *,
    everything: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Puts a dead letter back into its mailbox, or all of a type.

    Its command has all its attempts again.  All are those that are there when it begins, and they come back in the
    order in which they died.  It asks before it takes all.
    """
    _check_which(command_id, everything=everything)
    if everything:
        where = "at the tail" if to == "tail" else "at the head"
        _ask_for_all(
            connection, entity_type, f"Put {{}} of {entity_type} back, {where} of the mailboxes?", yes=yes
        )

    async def put(queues: AtomicQueues, letter: DeadLetter) -> bool:
        return await queues.redeliver(letter, to=to)

    # At the head the last one that is put there comes first, so that the newest has to be put there first.
    done = _work(connection, entity_type, command_id, put, newest=to == "head")
    if as_json:
        print_json({"redelivered": done})
    else:
        click.echo(f"{_letters(done)} put back.")


@dead.command()
@connects
@one_or_all
@confirmed
@as_json
def discard(
    connection: Connection,
    entity_type: str,
    command_id: str | None,
    *,
    everything: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Deletes a dead letter for good, or all of a type.

    All are those that are there when it begins.  It asks before.
    """
    _check_which(command_id, everything=everything)
    if command_id is None:
        _ask_for_all(connection, entity_type, f"Delete {{}} of {entity_type} for good?", yes=yes)
    elif not yes:
        letter = connection.run(lambda queues: _letter(queues, entity_type, command_id))
        name = f"{letter.command or UNREADABLE} of {letter.entity_type}/{letter.entity_id}"
        ask(f"Delete the dead letter of {name} ({printable(letter.error)}) for good?", yes=yes)

    async def delete(queues: AtomicQueues, letter: DeadLetter) -> bool:
        return await queues.discard(letter)

    done = _work(connection, entity_type, command_id, delete)
    if as_json:
        print_json({"discarded": done})
    else:
        click.echo(f"{_letters(done)} deleted.")


def _check_which(command_id: str | None, *, everything: bool) -> None:
    if (command_id is None) is not everything:
        raise click.UsageError("Give the id of a command, or --all, and not both.")


def _ask_for_all(connection: Connection, entity_type: str, question: str, *, yes: bool) -> None:
    """Asks for all, with their number as far as a look at one page tells it."""
    if yes:
        return
    found = connection.run(lambda queues: queues.dead_letters(entity_type, count=PAGE + 1))
    if len(found) > PAGE:
        ask(question.format(f"all dead letters (more than {PAGE})"), yes=yes)
    elif found:
        ask(
            question.format("the one dead letter" if len(found) == 1 else f"all {len(found)} dead letters"),
            yes=yes,
        )


def _work(
    connection: Connection,
    entity_type: str,
    command_id: str | None,
    do: Callable[[AtomicQueues, DeadLetter], Awaitable[bool]],
    *,
    newest: bool = False,
) -> int:
    """Does it with one letter or with all, and says with how many.

    Raises:
        NoSuchLetter: There is no such one, or somebody was quicker.
    """

    async def work(queues: AtomicQueues) -> int:
        if command_id is None:
            return await _with_each(queues, entity_type, do, newest=newest)
        if not await do(queues, await _letter(queues, entity_type, command_id)):
            raise NoSuchLetter(entity_type, command_id)
        return 1

    return connection.run(work)


async def _with_each(
    queues: AtomicQueues,
    entity_type: str,
    do: Callable[[AtomicQueues, DeadLetter], Awaitable[bool]],
    *,
    newest: bool,
) -> int:
    """Does it with each letter that is there now, and with none that dies, perhaps again, while it goes on."""
    last = await queues.dead_letters(entity_type, count=1, newest=True)
    done = passed = 0
    while last and (
        letters := await queues.dead_letters(entity_type, offset=passed, count=PAGE, newest=newest)
    ):
        for letter in letters:
            if letter.died_at > last[0].died_at:
                passed += 1
            else:
                done += await do(queues, letter)
    return done


async def _letter(queues: AtomicQueues, entity_type: str, command_id: str) -> DeadLetter:
    letter = await queues.dead_letter(entity_type, command_id)
    if letter is None:
        raise NoSuchLetter(entity_type, command_id)
    return letter


def _letters(count: int) -> str:
    return "1 dead letter" if count == 1 else f"{count:,} dead letters"
