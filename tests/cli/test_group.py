"""What is true of each command of the command line: its options, its help, and how careful it is."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import trioqueue as trioqueue_package
from trioqueue.cli import group
from trioqueue.cli.group import trioqueue

SHARED = {"url", "prefix", "app", "json", "yes"}
"""Options that mean the same everywhere, and have one variable for all commands."""

DANGEROUS = {("dead", "discard"), ("dead", "redeliver"), ("purge",)}
"""What destroys something, or sets much in motion."""


def members(group: click.Group) -> dict[str, click.Command]:
    """Gives what a group has, by name."""
    context = click.Context(group)
    found = {name: group.get_command(context, name) for name in group.list_commands(context)}
    return {name: command for name, command in found.items() if command is not None and command.name == name}


def verbs(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in members(group).items():
        if isinstance(command, click.Group):
            yield from verbs(command, *path, name)
        else:
            yield (*path, name), command


def context_of(path: tuple[str, ...], command: click.Command) -> click.Context:
    context = click.Context(trioqueue, info_name="trioqueue", **trioqueue.context_settings)
    for name in path[:-1]:
        group = context.command
        assert isinstance(group, click.Group)
        context = click.Context(members(group)[name], info_name=name, parent=context)
    return click.Context(command, info_name=path[-1], parent=context)


def options_of(command: click.Command) -> dict[str, click.Option]:
    """Gives the options by their long names."""
    options = [option for option in command.params if isinstance(option, click.Option)]
    return {max(option.opts, key=len).removeprefix("--"): option for option in options}


VERBS = [pytest.param(path, command, id=" ".join(path)) for path, command in verbs(trioqueue)]


@pytest.mark.parametrize(("path", "command"), VERBS)
def test_each_option_is_an_environment_variable(path: tuple[str, ...], command: click.Command) -> None:
    """Of its own name, behind the command's unless it is shared."""
    context = context_of(path, command)

    for name, option in options_of(command).items():
        assert isinstance(option.envvar, str | None)
        variable = option.envvar or f"{context.auto_envvar_prefix}_{str(option.name).upper()}"
        parts = ["trioqueue", *([] if name in SHARED else path), name]
        assert variable == "_".join(parts).replace("-", "_").upper()


@pytest.mark.parametrize(("path", "command"), VERBS)
def test_what_prints_prints_json(path: tuple[str, ...], command: click.Command) -> None:
    assert "json" in options_of(command), path


@pytest.mark.parametrize(("path", "command"), VERBS)
def test_what_is_dangerous_asks(path: tuple[str, ...], command: click.Command) -> None:
    assert ("yes" in options_of(command)) is (path in DANGEROUS)


@pytest.mark.parametrize(("path", "command"), VERBS)
def test_each_command_says_what_it_does(path: tuple[str, ...], command: click.Command) -> None:
    """In a first sentence that the list of commands shows whole; and each option says what it is for."""
    first, *_ = (command.help or "").partition("\n")

    assert first.endswith(".")
    assert not command.get_short_help_str(limit=64).endswith("...")
    for name, option in options_of(command).items():
        assert option.help or option.hidden, name


def test_commands_are_listed_in_their_order() -> None:
    names = list(members(trioqueue))

    assert names == sorted(names) == list(group.VERBS)


def test_commands_that_are_recommended_exist() -> None:
    """In backticks, as errors and help name them."""
    named = {
        name
        for file in Path(trioqueue_package.__file__).parent.rglob("*.py")
        for name in re.findall(r"`trioqueue (\w+)", file.read_text())
    }

    assert {"why", "dead"} <= named
    assert named <= set(members(trioqueue))
