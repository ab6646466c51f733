"""`trioqueue cancel`, `pause`, `resume` and `purge`: an operator's hand on one entity, or on all of a type."""

import click

from trioqueue import AtomicQueues, Entity, Receipt
from trioqueue._operating import OPERATOR
from trioqueue.cli.errors import FAILED
from trioqueue.cli.options import (
    ENTITY,
    TARGET,
    Connection,
    Target,
    as_json,
    ask,
    confirmed,
    connects,
    print_json,
)

CANCELLED = {
    "dropped": "It is dropped: it does not run, or not again.",
    "told": "Its handler may run and is told: it is cancelled, unless it ends first.",
    "late": "It is too late: it is settled, or was never accepted.",
}
"""What became of a command that was to be cancelled, in words."""


@click.command()
@connects
@click.argument("entity", type=ENTITY)
@click.argument("command_id")
@as_json
def cancel(connection: Connection, entity: Entity, command_id: str, *, as_json: bool) -> None:
    """Cancels a command that was sent, by its id.

    Whoever waits for it is told so.  It says whether the command is dropped, or its handler may run and is told, or it
    is too late; then the exit code is 1.
    """
    receipt: Receipt[object] = Receipt(entity.type, entity.id, command_id)
    became = connection.run(lambda queues: queues.cancel(receipt))
    if as_json:
        print_json({"entity": str(entity), "command_id": command_id, "became": became})
    else:
        click.echo(CANCELLED[became])
    click.get_current_context().exit(FAILED if became == "late" else 0)


@click.command()
@connects
@click.argument("target", type=TARGET)
@click.option("--why", default=OPERATOR, show_default=True, help="Told to whoever asks why nothing happens.")
@as_json
def pause(connection: Connection, target: Target, why: str, *, as_json: bool) -> None:
    """Holds an entity back, or all of a type.

    Write account/42 or account: nothing of it starts any more.  What is sent is accepted, and queues.  A handler that
    runs goes on.  It holds through restarts, until `trioqueue resume`.  One that is paused already stays so for its
    first reason.
    """

    async def work(queues: AtomicQueues) -> tuple[bool, bool]:
        changed = await queues.pause(target.entity_type, target.entity_id, why=why)
        return changed, any(target.entity_type in pod.types for pod in await queues.pods())

    changed, served = connection.run(work)
    if as_json:
        print_json({"target": str(target), "changed": changed})
    elif changed:
        click.echo(f"{target} is paused: nothing of it starts before `trioqueue resume {target}`.")
    else:
        click.echo(f"{target} was paused already, and stays so.")
    if not served:
        click.echo(f"warning: no pod serves {target.entity_type} now: is it spelt so?", err=True)


@click.command()
@connects
@click.argument("target", type=TARGET)
@as_json
def resume(connection: Connection, target: Target, *, as_json: bool) -> None:
    """Lets an entity go on, or all of a type.

    Write account/42 or account, whichever was paused.  A first command that was given up begins anew, with all its
    attempts.  An entity that is paused itself stays so when its type is resumed.
    """
    changed = connection.run(lambda queues: queues.resume(target.entity_type, target.entity_id))
    if as_json:
        print_json({"target": str(target), "changed": changed})
    else:
        click.echo(f"{target} goes on." if changed else f"{target} was not paused.")


@click.command()
@connects
@click.argument("entity", type=ENTITY)
@confirmed
@as_json
def purge(connection: Connection, entity: Entity, *, yes: bool, as_json: bool) -> None:
    """Takes all commands out of an entity's mailbox.

    It asks before, and says how many they were.  Whoever waits for one of them is told that it was cancelled.  What a
    handler does meanwhile will not stand.  The state stays, and so do commands that are put off.  Pause the entity
    before, if none may start in between.
    """
    if not yes and (pending := connection.run(lambda queues: queues.inspect(*entity)).pending):
        what = "the one command" if pending == 1 else f"all {pending:,} commands"
        ask(f"Take {what} out of the mailbox of {entity}, unhandled?", yes=yes)
    purged = connection.run(lambda queues: queues.purge(*entity))
    if as_json:
        print_json({"entity": str(entity), "purged": purged})
    else:
        click.echo(
            f"{purged:,} taken out of the mailbox of {entity}."
            if purged
            else f"Nothing is queued for {entity}."
        )
