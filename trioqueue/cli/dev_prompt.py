"""What may be typed while `trioqueue dev` serves: a store in its process has nobody else who could send to it."""

import json
import os
import shlex
import sys
from collections.abc import Callable
from typing import TypeAlias

import click
import trio

from trioqueue import AtomicQueues, Entity, Rejection, TrioqueueError
from trioqueue.cli.errors import one_line
from trioqueue.cli.fields import FIELD, command_of
from trioqueue.cli.options import ENTITY
from trioqueue.cli.pod_end import Ending
from trioqueue.messages.command import info_of

USAGE = "send ENTITY COMMAND [FIELD=VALUE]…, call ENTITY COMMAND [FIELD=VALUE]…, why ENTITY, or ls"

LINE = 4096
"""Bytes of a line at most, as a terminal has it."""

Say: TypeAlias = Callable[[str, str], None]
"""Takes a line that was typed, and what is said to it; "": nothing."""

NOT_OURS = 0.5
"""Seconds between two looks whether this process is in the foreground: else it would be stopped for reading."""


def can_be_typed() -> bool:
    """Says whether somebody sits there."""
    return sys.stdin.isatty()


async def take_lines(queues: AtomicQueues, target: str, say: Say) -> Ending:
    """Does what lines say, each in a task of its own, until the input ends; then it goes on without."""
    terminal = sys.stdin.fileno()
    async with trio.open_nursery() as nursery:  # its children are the lines
        while True:
            # And not in a thread, which could not be ended while it reads.
            await trio.lowlevel.wait_readable(terminal)
            if _is_behind(terminal):
                await trio.sleep(NOT_OURS)
                continue
            line = os.read(terminal, LINE)
            if not line:
                await trio.sleep_forever()
            if typed := line.decode(errors="replace").strip():
                nursery.start_soon(_obey, queues, target, say, typed)


def _is_behind(terminal: int) -> bool:
    """Says whether another program has the terminal, as with `trioqueue dev … &`."""
    try:
        return os.tcgetpgrp(terminal) != os.getpgrp()
    except OSError:  # it is not the one that we were started from
        return False


async def _obey(queues: AtomicQueues, target: str, say: Say, line: str) -> None:
    try:
        said = await answer(queues, target, shlex.split(line))
    except click.ClickException as error:
        said = one_line(error.format_message())
    except (TrioqueueError, Rejection, ValueError) as error:
        said = f"{type(error).__name__}: {one_line(error)}"
    say(line, said)


async def answer(queues: AtomicQueues, target: str, words: list[str]) -> str:
    """Does what a line says, and gives what is to be printed.

    Raises:
        click.UsageError: What is to be typed instead.
    """
    match words:
        case ["ls"]:
            lanes = (await queues.lanes()).lanes
            return "\n".join(
                f"{one.entity_type}/{one.entity_id}  {one.mode}, {one.pending} pending, first {one.command}"
                for one in lanes
            )
        case ["why", name]:
            entity = _entity(name)
            return await queues.explain(entity.type, entity.id)
        case ["send" | "call" as verb, name, command, *given]:
            made = command_of(
                _entity(name),
                command,
                [FIELD.convert(one, None, None) for one in given],
                registry=queues._registry,
                where=target,
                codec=queues._codec,
                id_field=None,
            )
            if verb == "send":
                return f"sent, as {(await queues.send(made)).command_id}"
            reply = queues._codec.unstructure(await queues.call(made), info_of(made).reply_type())
            return json.dumps(reply, ensure_ascii=False, default=str)
        case _:
            raise click.UsageError(f"Type {USAGE}.")


def _entity(name: str) -> Entity:
    return ENTITY.convert(name, None, None)
