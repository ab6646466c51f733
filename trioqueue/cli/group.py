"""The command group, which knows where each command is."""

from importlib import import_module

import click

VERBS = {
    "call": "sending",
    "cancel": "steering",
    "check": "check",
    "dead": "dead",
    "demo": "demo",
    "dev": "dev",
    "ls": "ls",
    "pause": "steering",
    "pods": "pods",
    "purge": "steering",
    "resume": "steering",
    "send": "sending",
    "serve": "serve",
    "show": "show",
    "stats": "stats",
    "tail": "tail",
    "top": "top",
    "why": "why",
}
"""Each command, in the order of the list that `--help` shows, and its module, in which it has the same name."""


class Verbs(click.Group):
    """Imports a command when it is asked for: all of them would add a tenth to the start of each."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click calls it
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - likewise
        if cmd_name not in VERBS:
            return None
        command: click.Command = getattr(import_module(f"trioqueue.cli.{VERBS[cmd_name]}"), cmd_name)
        return command


def _print_version(context: click.Context, _option: click.Parameter, asked: bool) -> None:  # noqa: FBT001 - click calls it
    if not asked or context.resilient_parsing:
        return
    # Only now, as it is much to load and seldom asked for.
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

    try:
        found = version("trioqueue")
    except PackageNotFoundError:
        found = "from a source tree, not installed"
    click.echo(f"trioqueue {found}")
    context.exit()


@click.group(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "TRIOQUEUE"},
    invoke_without_command=True,
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Show the version and exit.",
)
@click.pass_context
def trioqueue(context: click.Context) -> None:
    """Runs the commands of each entity one after another, on Trio and Redis."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
