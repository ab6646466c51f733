"""`trioqueue stats`: the counts of the fleet."""

import click

from trioqueue import Statistics
from trioqueue.cli.options import Connection, as_json, connects, print_json, run
from trioqueue.cli.tables import Table

FLEET = {
    "pods": "registered",
    "owned": "entities that a pod owns",
    "with_work": "entities with commands, unless paused themselves",
    "ready": "of these, wait for a pod that has room for their type",
    "held": "of these, wait for the resume of their type",
    "dead": "dead letters",
    "put_off": "commands that are not in a mailbox yet",
}
"""What is counted of the fleet, and what it means; the rest of `Statistics` is of one process."""


@click.command()
@connects
@as_json
def stats(connection: Connection, *, as_json: bool) -> None:
    """Counts pods, entities and commands of the whole fleet."""

    async def count() -> Statistics:
        async with connection.open() as queues:
            return await queues.statistics()

    found = run(count)
    if as_json:
        print_json({name: getattr(found, name) for name in FLEET})
        return
    table = Table("what", "how many", "means")
    for name, meaning in FLEET.items():
        table.row(name, getattr(found, name), meaning)
    table.show(empty="")
