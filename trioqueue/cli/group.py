"""The command group, to which each command adds itself."""

from importlib.metadata import PackageNotFoundError, version

import click

from trioqueue.cli.check import check
from trioqueue.cli.dead import dead
from trioqueue.cli.demo import demo
from trioqueue.cli.dev import dev
from trioqueue.cli.ls import ls
from trioqueue.cli.pods import pods
from trioqueue.cli.sending import call, send
from trioqueue.cli.serve import serve
from trioqueue.cli.show import show
from trioqueue.cli.stats import stats
from trioqueue.cli.steering import cancel, pause, purge, resume
from trioqueue.cli.tail import tail
from trioqueue.cli.top import top
from trioqueue.cli.why import why


def _version() -> str:
    try:
        return version("trioqueue")
    except PackageNotFoundError:
        return "from a source tree, not installed"


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "TRIOQUEUE"},
    invoke_without_command=True,
)
@click.version_option(_version(), message="%(prog)s %(version)s")
@click.pass_context
def trioqueue(context: click.Context) -> None:
    """Runs the commands of each entity one after another, on Trio and Redis."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for verb in (
    call,
    cancel,
    check,
    dead,
    demo,
    dev,
    ls,
    pause,
    pods,
    purge,
    resume,
    send,
    serve,
    show,
    stats,
    tail,
    top,
    why,
):
    trioqueue.add_command(verb)
