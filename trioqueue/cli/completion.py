"""What a shell completes: entity types, entities with work, names of commands; without an error, and in time."""

import contextlib
import io
import logging
from collections.abc import Awaitable, Callable, Generator, Iterable
from contextlib import contextmanager

import click
import trio
from click.shell_completion import CompletionItem

from trioqueue import AtomicQueues, Entity, open_atomic_queues
from trioqueue.cli.app import load
from trioqueue.messages.raw import WILDCARD

PATIENCE = 0.5
"""Seconds that who pressed Tab waits for the store at most."""

SHOWN = 200
"""Entities among whose ids is looked."""


def types(context: click.Context, incomplete: str, *, end: str = "") -> list[CompletionItem]:
    """Completes an entity type that some pod serves."""

    async def look(queues: AtomicQueues) -> Iterable[str]:
        return {kind + end for pod in await queues.pods() for kind in pod.types}

    return _items(_looked_up(context, look), incomplete)


def entities(context: click.Context, incomplete: str) -> list[CompletionItem]:
    """Completes an entity that has commands."""

    async def look(queues: AtomicQueues) -> Iterable[str]:
        found = await queues.lanes(count=SHOWN)
        return {f"{lane.entity_type}/{lane.entity_id}" for lane in found.lanes}

    return _items(_looked_up(context, look), incomplete)


def commands(context: click.Context, incomplete: str) -> list[CompletionItem]:
    """Completes a command of the entity that stands before it, where `--app` says what there is."""
    entity, target = context.params.get("entity"), context.params.get("app")
    found: list[str] = []
    with _in_silence():
        if isinstance(entity, Entity) and target and (registry := load(target).registry):
            registry.freeze()
            found = [info.name for info in registry.commands_of(entity.type) if info.name != WILDCARD]
    return _items(found, incomplete)


def _items(found: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(one) for one in sorted(found) if one.startswith(incomplete)]


def _looked_up(context: click.Context, look: Callable[[AtomicQueues], Awaitable[Iterable[str]]]) -> list[str]:
    found: list[str] = []
    url, prefix = context.params.get("url"), context.params.get("prefix")

    async def ask() -> None:
        with trio.move_on_after(PATIENCE):
            async with open_atomic_queues(url, prefix=str(prefix)) as queues:
                found.extend(await look(queues))

    if url:
        with _in_silence():
            trio.run(ask)
    return found


@contextmanager
def _in_silence() -> Generator[None]:
    """Keeps from the terminal, where a command is being typed, what goes wrong and what imported code prints."""
    nowhere, level = io.StringIO(), logging.root.manager.disable
    logging.disable()
    try:
        with (
            contextlib.suppress(Exception, SystemExit),
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
        ):
            yield
    finally:
        logging.disable(level)
