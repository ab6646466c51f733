"""`trioqueue ls`: which entities have work."""

from collections.abc import Callable
from typing import Any

import attrs
import click

from trioqueue import Lane, Lanes, TrioqueueError
from trioqueue._names import legal_entity_type
from trioqueue.cli.options import Connection, as_json, connects, print_json, run
from trioqueue.cli.tables import Table, span

LOOKED_AT = 1000
"""Entities that are looked at, of each kind, where fewer are to be shown: the ones to show must be found among them."""

ORDERS: dict[str, Callable[[Lane], tuple[float, ...]]] = {
    "oldest": lambda lane: (-lane.waited, -lane.pending),
    "deepest": lambda lane: (-lane.pending, -lane.waited),
}


def _legal_type(_context: click.Context, _parameter: click.Parameter, value: Any) -> str | None:
    try:
        return None if value is None else legal_entity_type(value)
    except TrioqueueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.argument("entity_type", metavar="[TYPE]", required=False, callback=_legal_type)
@click.option(
    "--sort",
    type=click.Choice(list(ORDERS)),
    default="oldest",
    show_default=True,
    help="First the one whose first command waits longest, or the one with the most commands.",
)
@click.option(
    "--count", type=click.IntRange(1), default=50, show_default=True, help="How many to show at most."
)
@connects
@as_json
def ls(connection: Connection, *, entity_type: str | None, sort: str, count: int, as_json: bool) -> None:
    """Lists entities that have work, all or those of a type.

    \b
    mode     owned by a pod, ready (waits for one), or paused
    pod      the one that owns it
    pending  commands in its mailbox, the one that is being handled included
    first    name of the first of them
    waited   since that one was accepted

    It looks at a thousand entities that pods own, a thousand of each type that wait for a pod, and a thousand that are
    paused, or at as many as --count says if that is more.  Where that is not the whole, the last line says so.

    With --json: lanes, and whole, which says whether these are all there are.
    """  # noqa: D301 - it is click's mark, not a backslash
    looked_at = max(count, LOOKED_AT)

    async def look() -> Lanes:
        async with connection.open() as queues:
            return await queues.lanes(count=looked_at)

    found = run(look)
    lanes = sorted(
        (lane for lane in found.lanes if entity_type in (None, lane.entity_type)), key=ORDERS[sort]
    )
    shown = lanes[:count]
    if as_json:
        print_json(attrs.evolve(found, lanes=tuple(shown), whole=found.whole and len(shown) == len(lanes)))
        return
    table = Table("entity", "mode", "pod", "pending", "first", "waited")
    for lane in shown:
        entity = f"{lane.entity_type}/{lane.entity_id}"
        table.row(entity, lane.mode, lane.pod or "", lane.pending, lane.command, span(lane.waited))
    of = "" if entity_type is None else f" of the type {entity_type!r}"
    table.show(
        empty=f"No entity{of} that was looked at has work." * (not found.whole) or f"No entity{of} has work."
    )
    if len(shown) < len(lanes):
        click.echo(f"These are {len(shown):,} of {len(lanes):,}: --count {len(lanes)} shows all.")
    if not found.whole:
        click.echo(
            f"Not all were looked at, only {looked_at:,} of each kind: "
            f"others may be {'older' if sort == 'oldest' else 'deeper'}; --count {10 * looked_at} looks further."
        )
