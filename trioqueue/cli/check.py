"""`trioqueue check`: what is wrong with a server and a fleet, and what to do about it."""

import textwrap

import click

from trioqueue._names import legal_prefix
from trioqueue.cli.errors import FAILED
from trioqueue.cli.options import Connection, as_json, connects, print_json, run
from trioqueue.stores.redis.checkup import check as look
from trioqueue.stores.redis.findings import LEVELS, Finding

COLOURS = {"error": "red", "warning": "yellow", "hint": "cyan"}

WIDTH = 100
"""Columns of a finding's text: terminals are wider, eyes are not."""


@click.command()
@connects
@as_json
def check(connection: Connection, *, as_json: bool) -> int:
    """Says what is wrong with the Redis and the fleet on it.

    Each finding has its remedy, and the worst comes first.

    An error is what trioqueue does not work with, or what loses accepted commands; a warning is what will, or where
    work stands still; a hint is worth a look.  The exit code is 0 if there is nothing worse than a hint, else 1.

    Looked at are: whether it answers and lets this user in, its version, role, replicas and cluster mode, the rights
    of the user, what it does when it is full and how full it is, how it keeps its data and whether its disk takes it,
    its connections and their timeout, its clock and how long a request takes, by whom and in which layout the keys
    under the prefix were written, silent pods, work that no pod serves or has room for, paused types, dead letters,
    and what else refuses writes.

    Run it where the pods run, with their URL: rights, clock and network are theirs then.  What a user may not see is
    a hint.  Not seen is which release each pod runs.  Nothing is changed, but for one key that is written and removed
    in the same moment, as at every opening, to try the rights.

    With --json: whether it is "well", "findings", the worst first, and what was "looked_at" and is well; each has a
    name, which stays as it is, a level, what was found, and the remedy.
    """
    prefix = legal_prefix(connection.prefix)

    async def ask() -> list[Finding]:
        return await look(connection.url, prefix)

    found = run(ask)
    bad = any(one.level in {"error", "warning"} for one in found)
    if as_json:
        print_json(
            {"well": not bad, "findings": [one for one in found if one.level != "well"], "looked_at": found}
        )
    else:
        _show(found)
    return FAILED if bad else 0


def _show(found: list[Finding]) -> None:
    for one in found:
        if one.level == "well":
            continue
        click.echo(f"{click.style(one.level, fg=COLOURS[one.level], bold=True)}: {one.name}")
        for text in (one.what, one.remedy):
            click.echo(textwrap.indent(textwrap.fill(text, WIDTH - 2, break_on_hyphens=False), "  "))
        click.echo()
    well = [one for one in found if one.level == "well"]
    if well:
        click.echo("Looked at, and well:")
        for one in well:
            click.echo(f"  {one.what}")
        click.echo()
    counts = [
        f"{n} {level}{'s' * (n != 1)}"
        for level in LEVELS[:-1]
        if (n := sum(one.level == level for one in found))
    ]
    click.echo(f"{', '.join(counts)}." if counts else "It is well.")
