"""What many verbs take: where the store is, an entity, a person's yes; and how a verb runs and what it prints."""

import json
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

import attrs
import click
import trio

from trioqueue import AtomicQueues, BadEntityId, Entity, Registry, TrioqueueError, open_atomic_queues
from trioqueue._looking import named
from trioqueue.cli.warnings import warn_on_stderr

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

PREFIX = "tq"

NO_STORE = "Nothing says where the store is: add --url redis://localhost:6379, or set TRIOQUEUE_URL."

prefix_option = click.option(
    "--prefix", envvar="TRIOQUEUE_PREFIX", default=PREFIX, show_default=True, help="Of all keys in the store."
)


@attrs.frozen
class Connection:
    """Where the store is.

    Attributes:
        url: Of the store.
        prefix: Of all keys.
    """

    url: str
    prefix: str

    @asynccontextmanager
    async def open(self, *, registry: Registry | None = None) -> AsyncGenerator[AtomicQueues, None]:
        """Opens the queues to look and to send, not to serve."""
        async with open_atomic_queues(self.url, prefix=self.prefix, registry=registry, serves=()) as queues:
            yield queues


def connects(function: F) -> F:
    """Gives a verb `--url` and `--prefix`, and calls it with a `connection`."""

    def make(_context: click.Context, _parameter: click.Parameter, url: str | None) -> str:
        if not url:
            raise click.UsageError(NO_STORE)
        if url.lower().startswith("memory:"):
            raise click.UsageError("memory:// is inside another process, and nobody else can look into it.")
        return url

    def called(**given: Any) -> Any:
        return function(connection=Connection(given.pop("url"), given.pop("prefix")), **given)

    called.__name__, called.__doc__ = function.__name__, function.__doc__
    called.__dict__.update(function.__dict__)
    with_url = click.option(
        "--url",
        envvar="TRIOQUEUE_URL",
        metavar="URL",
        callback=make,
        help="The Redis: redis://, rediss:// or unix://.",
    )
    return cast("F", with_url(prefix_option(called)))


as_json = click.option(
    "--json", "as_json", is_flag=True, envvar="TRIOQUEUE_JSON", help="Print JSON, for programs."
)
"""Gives a verb that prints `--json`, as `as_json`."""

confirmed = click.option(
    "--yes", "-y", is_flag=True, envvar="TRIOQUEUE_YES", help="Do not ask whether it is meant."
)
"""Gives a dangerous verb `--yes`; it then calls `ask`."""


def ask(question: str, *, yes: bool) -> None:
    """Asks a person whether it is meant, unless `--yes` was given; without a terminal, that is needed.

    Raises:
        click.Abort: It is not.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} Nobody is here to be asked: add --yes if it is meant.")
    click.confirm(question, abort=True, err=True)


class EntityParameter(click.ParamType[Entity]):
    """An entity as it is written everywhere: `account/42`."""

    name = "entity"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Entity:
        """Reads it."""
        if isinstance(value, Entity):
            return value
        entity_type, slash, entity_id = str(value).partition("/")
        if not slash:
            self.fail(
                f"{value!r} is no entity: write its type, a slash and its id, as account/42.", param, ctx
            )
        try:
            return named(entity_type, entity_id)
        except (BadEntityId, TrioqueueError) as error:
            self.fail(str(error), param, ctx)


ENTITY = EntityParameter()


def run(verb: Callable[[], Awaitable[T]]) -> T:
    """Runs a verb's async part."""
    warn_on_stderr()
    return trio.run(verb)


def plain(value: Any) -> Any:
    """Turns what the front door answers into what JSON can carry: attrs classes into objects, bytes into text."""
    fields: Any = getattr(value, "__attrs_attrs__", None)
    if fields is not None:
        return {one.name: plain(getattr(value, one.name)) for one in fields if not one.name.startswith("_")}
    if isinstance(value, Mapping):
        members = cast("Mapping[object, object]", value)
        return {str(key): plain(one) for key, one in members.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in cast("Sequence[object]", value)]
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return value


def print_json(value: object) -> None:
    """Prints one JSON document on one line."""
    click.echo(json.dumps(plain(value), ensure_ascii=False, default=str))
