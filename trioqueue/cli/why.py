"""`trioqueue why`: why nothing happens with an entity, or what will."""

import shlex

import click

from trioqueue import Entity, Mailbox
from trioqueue.cli.options import ENTITY, Connection, as_json, connects, print_json, run
from trioqueue.cli.tables import printable


@click.command()
@click.argument("entity", type=ENTITY)
@connects
@as_json
def why(connection: Connection, *, entity: Entity, as_json: bool) -> None:
    """Says why nothing happens with ENTITY, or what will.

    A few sentences say what it waits for, since when, which pod owns it, and what happens next and when.  It needs no
    pod, changes nothing and wakes nobody.  An entity that nobody has heard of is idle.

    With --json: why, which is the sentences, and mailbox, which is what the first of them is made of.  The words of the
    sentences may change with a release.
    """

    async def ask() -> tuple[str, Mailbox]:
        async with connection.open() as queues:
            return await queues.explain(*entity), await queues.inspect(*entity)

    said, box = run(ask)
    if as_json:
        print_json({"why": said, "mailbox": box})
        return
    click.echo(printable(said))
    for target in _paused(entity, box):
        click.echo(f"To let it go on: trioqueue resume {shlex.quote(target)}")


def _paused(entity: Entity, box: Mailbox) -> list[str]:
    """Names what is to be resumed, as the command line takes it."""
    paused = [str(entity)] * (box.mode == "paused" or bool(box.paused_why))
    return paused + [entity.type] * box.type_paused
