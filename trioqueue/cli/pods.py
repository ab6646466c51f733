"""`trioqueue pods`: which pods there are."""

import click

from trioqueue import Pod
from trioqueue.cli.options import Connection, as_json, connects, print_json, run
from trioqueue.cli.tables import Table, span


@click.command()
@connects
@as_json
def pods(connection: Connection, *, as_json: bool) -> None:
    """Lists the pods that are registered, the oldest first."""

    async def look() -> tuple[Pod, ...]:
        async with connection.open() as queues:
            return await queues.pods()

    found = run(look)
    if as_json:
        print_json(found)
        return
    table = Table("pod", "state", "types", "owned", "with work", "room", "heard")
    for pod in found:
        heard = "" if pod.heard is None else f"{span(pod.heard)} ago"
        table.row(pod.name, pod.state, " ".join(pod.types), pod.owned, pod.with_work, pod.room, heard)
    table.show(empty="No pod is registered: nothing is handled until one serves.")
