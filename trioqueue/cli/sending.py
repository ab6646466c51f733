"""`trioqueue send` and `trioqueue call`: a command from the shell."""

import signal
import sys
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial, wraps
from typing import Any, TypeVar, cast

import attrs
import click
import trio
from click.shell_completion import CompletionItem

from trioqueue import (
    AtomicQueues,
    CallFailed,
    Codec,
    Command,
    DeadlineExceeded,
    Entity,
    Receipt,
    Registry,
    Rejected,
    Rejection,
    TrioqueueError,
)
from trioqueue._names import legal_command_name
from trioqueue.cli.app import App, app_option, load
from trioqueue.cli.completion import commands
from trioqueue.cli.errors import REJECTED
from trioqueue.cli.fields import FIELD, Field, command_of
from trioqueue.cli.options import ENTITY, SECONDS, Connection, as_json, connects, print_json, run
from trioqueue.cli.tables import printable
from trioqueue.messages.command import info_of
from trioqueue.messages.rejection import rejection_fields, rejection_name

F = TypeVar("F", bound=Callable[..., Any])

PATIENCE = 30.0
"""Seconds that a call waits unless it is told otherwise: as a call inside a handler does."""

CANCEL_PATIENCE = 2.0
"""Seconds that cancelling a command takes at most after Ctrl-C."""


@attrs.define
class Unanswered(TrioqueueError):
    """Tells that no answer came in time; the command is cancelled, unless it has a key."""

    command: str
    entity: str
    seconds: float
    keyed: bool

    def __str__(self) -> str:
        now = "goes on, as it has a key" if self.keyed else "is cancelled"
        return (
            f"{self.command!r} of {self.entity} was not answered within {self.seconds:g} s and {now}: "
            f"ask `trioqueue why {self.entity}`, or give it longer with --timeout."
        )


@attrs.define
class Failed(TrioqueueError):
    """Tells that the handler failed for good; see `CallFailed`, in words for a shell."""

    command: str
    entity: str
    error: str

    def __str__(self) -> str:
        return (
            f"{self.command!r} of {self.entity} failed for good with {printable(self.error)}: look with "
            f"`trioqueue dead ls {self.entity.partition('/')[0]}`, repair the cause, and redeliver it."
        )


class CommandParameter(click.ParamType[str]):
    """The wire name of a command: `withdraw`."""

    name = "command"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Reads it."""
        try:
            return legal_command_name(value)
        except TrioqueueError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(
        self,
        ctx: click.Context,
        param: click.Parameter,  # noqa: ARG002 - click's
        incomplete: str,
    ) -> list[CompletionItem]:
        """Completes what the app has for the entity."""
        return commands(ctx, incomplete)


class HeaderParameter(click.ParamType[tuple[str, str]]):
    """A header: `name=text`."""

    name = "header"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Parts it."""
        if isinstance(value, tuple):
            return cast("tuple[str, str]", value)
        name, sign, text = str(value).partition("=")
        if not (name and sign):
            self.fail(f"{value!r} is no header: write its name, = and its text.", param, ctx)
        return name, text


@attrs.frozen
class Wanted:
    """What is to be sent, as it was typed."""

    connection: Connection
    entity: Entity
    name: str
    fields: Sequence[Field]
    app: App | None
    id_field: str | None
    options: Mapping[str, Any]

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[tuple[AtomicQueues, Codec, Command[Any]], None]:
        """Opens the queues, never to serve, and makes the command.

        What only has a registry is opened without it: with it, this process would keep its recurring commands going.
        """
        if self.app is not None and self.app.opener is not None:
            opening = self.app.open(self.connection.url, prefix=self.connection.prefix, serves=())
            async with opening as queues:
                yield queues, queues._codec, self._command(queues._registry, queues._codec)
        else:
            codec = Codec()
            command = self._command(None if self.app is None else self.app.registry, codec)
            async with self.connection.open() as queues:
                yield queues, codec, command

    def _command(self, registry: Registry | None, codec: Codec) -> Command[Any]:
        where = "" if self.app is None else self.app.target
        return command_of(
            self.entity,
            self.name,
            self.fields,
            registry=registry,
            where=where,
            codec=codec,
            id_field=self.id_field,
        )


def addressed(function: F) -> F:
    """Gives a verb an entity, a command and its fields, and what may be asked for it: calls it with `wanted`."""

    @wraps(function)
    def called(connection: Connection, **given: Any) -> Any:
        take = given.pop
        options = {"urgent": take("urgent"), "key": take("key"), "expires": take("expires")}
        options["headers"] = dict(take("header")) or None
        app = take("app")
        wanted = Wanted(
            connection,
            take("entity"),
            take("command"),
            take("fields"),
            load(app) if app else None,
            take("id_field"),
            options,
        )
        return function(wanted=wanted, **given)

    for decorate in reversed(
        (
            click.argument("entity", type=ENTITY),
            click.argument("command", type=CommandParameter()),
            click.argument("fields", type=FIELD, nargs=-1, metavar="[FIELD=VALUE]..."),
            app_option,
            click.option(
                "--id-field", metavar="NAME", help="Without --app: the field that holds the entity's id."
            ),
            click.option("--urgent", is_flag=True, help="Put it into the urgent lane."),
            click.option("--key", help="Idempotency key: of all with the same one, only the first counts."),
            click.option(
                "--expires", type=SECONDS, help="Seconds after which it is not worth starting any more."
            ),
            click.option(
                "--header", type=HeaderParameter(), multiple=True, metavar="NAME=TEXT", help="Travels along."
            ),
        )
    ):
        called = decorate(called)
    return cast("F", called)


@click.command()
@connects
@addressed
@click.option("--delay", type=SECONDS, help="Seconds until it takes its place in the line.")
@as_json
def send(wanted: Wanted, delay: float | None, *, as_json: bool) -> None:
    """Sends a command to an entity, and prints its receipt.

    \b
    trioqueue send account/42 withdraw amount=80 --app bank:registry
    trioqueue send account/42 withdraw amount=80 account_id=42

    The receipt is whom it is for, and its id, as `trioqueue cancel` takes them.

    With --app, fields become what the command's class declares: text where that is text, elsewhere JSON, or what the
    type reads from text, as a date.  FIELD:=VALUE is always JSON.  The entity's id need not be given.

    Without, values are JSON where they can be read as such, else text, and are sent unchecked.  One of the fields must
    be the entity's id, or --id-field say which one that is; it is sent as text, and with := as the number it is.
    """  # noqa: D301 - click's mark for lines that stay as they are

    async def work() -> Receipt[Any]:
        async with wanted.open() as (queues, _, command):
            return await queues.send(command, delay=delay, **wanted.options)

    receipt = run(work)
    if as_json:
        print_json(receipt)
    else:
        click.echo(str(receipt))


@click.command()
@connects
@addressed
@click.option("--timeout", type=SECONDS, default=PATIENCE, show_default=True, help="Seconds to wait.")
@click.option("--traceback", is_flag=True, help="Where its handler failed for good, print where, on stderr.")
@as_json
def call(wanted: Wanted, timeout: float, *, traceback: bool, as_json: bool) -> None:
    """Sends a command to an entity, and prints the answer.

    \b
    trioqueue call account/42 withdraw amount=80 --app bank:registry

    Fields are given as for `trioqueue send`.  The answer is printed as JSON.  Where the handler answers no, that is
    printed with its name and fields, and the exit code is 3.  After the timeout, and with Ctrl-C, the command is
    cancelled, unless it has a key.

    It is indented on a terminal; --json keeps it on one line there too.
    """  # noqa: D301
    click.get_current_context().exit(
        run(partial(_call, wanted, timeout, traceback=traceback, as_json=as_json))
    )


async def _call(wanted: Wanted, patience: float, *, traceback: bool, as_json: bool) -> int:
    indent = None if as_json or not sys.stdout.isatty() else 2
    name, options = str(wanted.entity), wanted.options
    late = Unanswered(wanted.name, name, patience, keyed=options["key"] is not None)
    async with wanted.open() as (queues, codec, command), _until_interrupted(queues):
        try:
            with trio.move_on_after(patience):
                reply = await queues.call(command, **options)
                print_json(codec.unstructure(reply, info_of(command).reply_type()), indent=indent)
                return 0
        except (Rejection, Rejected) as no:
            print_json(_no(no, codec), indent=indent)
            return REJECTED
        except DeadlineExceeded:
            if options["expires"] is not None:
                raise
        except CallFailed as error:
            if traceback:
                click.echo(printable(error.traceback), err=True)
            raise Failed(wanted.name, name, error.error) from None
        raise late


@asynccontextmanager
async def _until_interrupted(queues: AtomicQueues) -> AsyncGenerator[None, None]:
    """Has Ctrl-C cancel the block, and with it the command that is waited for there, before it ends the process.

    Its nursery's child waits for the signal.
    """
    interrupted = False

    async def wait(task_status: trio.TaskStatus[None]) -> None:
        nonlocal interrupted
        with trio.open_signal_receiver(signal.SIGINT) as signals:
            task_status.started()
            async for _ in signals:
                interrupted = True
                nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        await nursery.start(wait)
        yield
        nursery.cancel_scope.cancel()
    if interrupted:
        # The word that cancels it goes out behind the block; whatever is asked after it is answered after it.
        with trio.move_on_after(CANCEL_PATIENCE):
            await queues.statistics()
        raise KeyboardInterrupt


def _no(no: Rejection | Rejected, codec: Codec) -> dict[str, object]:
    if isinstance(no, Rejected):
        return {"rejected": no.name, "fields": no.fields}
    return {"rejected": rejection_name(no), "fields": rejection_fields(codec, no)}
