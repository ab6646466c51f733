"""The user's own code, as the command line names it: `module:name`."""

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, cast

import attrs
import click

from trioqueue import AtomicQueues, Registry, TrioqueueError, open_atomic_queues

Opener = Callable[..., AbstractAsyncContextManager[AtomicQueues]]
"""What opens the queues of an app: called with the URL and the options of `open_atomic_queues` that the command line
decides, it passes them on, with what the app adds: `entities`, `provide`, a pool that is open meanwhile.
"""


@attrs.define
class BadApp(TrioqueueError):
    """Tells that `module:name` names nothing that can be served.

    `target` is what was given, `reason` what is wrong with it and what to do.
    """

    target: str
    reason: str

    def __str__(self) -> str:
        return f"{self.target}: {self.reason}"


@attrs.frozen
class App:
    """What `module:name` names: a `Registry`, or a function that opens the queues.

    Attributes:
        target: As it was given.
        registry: The registry; None where there is an opener.
        opener: The function; None where there is a registry.
    """

    target: str
    registry: Registry | None
    opener: Opener | None

    def open(self, url: str, **options: Any) -> AbstractAsyncContextManager[AtomicQueues]:
        """Opens the queues, and serves.

        Raises:
            BadApp: The opener doesn't take that, or gives something else.
        """
        if self.opener is None:
            return open_atomic_queues(url, registry=self.registry, **options)
        try:
            inspect.signature(self.opener).bind(url, **options)
        except TypeError as error:
            raise BadApp(
                self.target,
                f"it can't be called with the URL and options ({error}): let it take `url, **options`, and pass both "
                "to open_atomic_queues",
            ) from None
        opened: Any = self.opener(url, **options)
        if isinstance(opened, AbstractAsyncContextManager):
            return cast("AbstractAsyncContextManager[AtomicQueues]", opened)
        if inspect.iscoroutine(opened):
            opened.close()
        raise BadApp(
            self.target,
            f"it gives a {type(opened).__name__} and no async context manager: is an @asynccontextmanager missing?",
        )


def load(target: str) -> App:
    """Imports what a target names, with the working directory on the path, as `python -m` has it.

    Raises:
        BadApp: There is no such module or name, its import failed, or it can't be served.
    """
    module_name, colon, name = target.partition(":")
    if not (module_name and colon and name):
        raise BadApp(target, "name a module and a registry in it, as shop.commands:registry")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name + ".").startswith(error.name + "."):
            raise BadApp(
                target, f"there is no module {error.name!r} in {here} or among what is installed"
            ) from None
        raise BadApp(target, f"its import failed at {_place(error)}: {error}") from error
    except SyntaxError as error:
        raise BadApp(target, f"its import failed at {_place(error)}: {error.msg}") from error
    except Exception as error:
        raise BadApp(target, f"its import failed at {_place(error)}: {error!r}") from error
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if isinstance(found, Registry):
        return App(target, found, None)
    if found is None:
        raise BadApp(target, f"the module {module_name} has no {name!r}")
    if callable(found):
        return App(target, None, cast("Opener", found))
    raise BadApp(
        target, f"that is a {type(found).__name__}, neither a Registry nor a function that opens the queues"
    )


def _place(error: BaseException) -> str:
    """Names the line of the app where an error came about, and not that of a library which it called."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    here = [frame for frame in frames if Path(frame.filename).is_relative_to(Path.cwd())]
    last = (here or frames)[-1]
    return f"{Path(last.filename).name}:{last.lineno}"


app_option = click.option(
    "--app",
    envvar="TRIOQUEUE_APP",
    metavar="MODULE:REGISTRY",
    help="Where the commands are declared: then fields are checked and converted before anything is sent.",
)
