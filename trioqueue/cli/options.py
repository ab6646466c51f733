"""What many verbs take: where the store is, an entity, a person's yes; and how a verb runs and what it prints."""

import json
import math
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

import attrs
import click
import trio
from click.shell_completion import CompletionItem

from trioqueue import AtomicQueues, BadEntityId, Entity, Registry, TrioqueueError, open_atomic_queues
from trioqueue._looking import named
from trioqueue._names import legal_entity_type
from trioqueue.cli.completion import entities, types
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

    def run(self, verb: Callable[[AtomicQueues], Awaitable[T]]) -> T:
        """Runs a verb's async part, with queues that are open to look and to send."""

        async def opened() -> T:
            async with self.open() as queues:
                return await verb(queues)

        return run(opened)


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

    def shell_complete(
        self,
        ctx: click.Context,
        param: click.Parameter,  # noqa: ARG002 - click's
        incomplete: str,
    ) -> list[CompletionItem]:
        """Completes the type, and behind the slash an id that has work."""
        return entities(ctx, incomplete) if "/" in incomplete else types(ctx, incomplete, end="/")


@attrs.frozen
class Target:
    """An entity, or all of a type.

    Attributes:
        entity_type: The type.
        entity_id: Whose; None: all of the type.
    """

    entity_type: str
    entity_id: str | None

    def __str__(self) -> str:
        return self.entity_type if self.entity_id is None else f"{self.entity_type}/{self.entity_id}"


class TypeParameter(click.ParamType[str]):
    """An entity type: `account`."""

    name = "type"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Reads it."""
        try:
            return legal_entity_type(value)
        except TrioqueueError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(
        self,
        ctx: click.Context,
        param: click.Parameter,  # noqa: ARG002 - click's
        incomplete: str,
    ) -> list[CompletionItem]:
        """Completes it."""
        return types(ctx, incomplete)


class TargetParameter(click.ParamType[Target]):
    """An entity or a type: `account/42` or `account`."""

    name = "target"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Target:
        """Reads it."""
        if isinstance(value, Target):
            return value
        if "/" in str(value):
            return Target(*ENTITY.convert(value, param, ctx))
        return Target(TYPE.convert(value, param, ctx), None)

    def shell_complete(
        self,
        ctx: click.Context,
        param: click.Parameter,  # noqa: ARG002 - click's
        incomplete: str,
    ) -> list[CompletionItem]:
        """Completes the type, and behind the slash an id that has work."""
        return entities(ctx, incomplete) if "/" in incomplete else types(ctx, incomplete)


class SecondsParameter(click.FloatRange):
    """A duration: a number from 0 on."""

    name = "seconds"

    def __init__(self) -> None:
        super().__init__(min=0)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Reads it."""
        seconds: float = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value!r} is no number of seconds.", param, ctx)
        return seconds


ENTITY = EntityParameter()
TYPE = TypeParameter()
TARGET = TargetParameter()
SECONDS = SecondsParameter()


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


def print_json(value: object, *, indent: int | None = None) -> None:
    """Prints one JSON document, on one line unless it is indented."""
    click.echo(json.dumps(plain(value), ensure_ascii=False, default=str, indent=indent))
