"""Beginning anew when the source of what is served has changed, for whoever is writing it."""

import os
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import trio

LOOK_EVERY = 0.5
"""Seconds between two looks at the files: some hundred of them take a millisecond."""

INSTALLED = ("site-packages", "dist-packages")
"""Folders that the working directory may have below it, in an environment, and nobody edits."""


class Sources:
    """The source files of a program: those of its modules that are below the working directory.

    A library that watches folders would be told at once instead of within half a second.  It would be one more
    dependency, is not told on some network and container file systems, and does not know which files matter.

    Args:
        here: Where the program was started.
        error: What ended the program's import: the files where it came about are among them, and so are their folders,
            because a module that is missing may yet be made.
    """

    def __init__(self, here: Path, error: BaseException | None = None) -> None:
        self._here = here
        self._seen = {file: _stamp(file) for file in self._modules()}
        if error is not None:
            for file in set(_files_of(error)):
                if self._is_ours(file):
                    self._seen |= {one: _stamp(one) for one in (file, str(Path(file).parent))}

    def __bool__(self) -> bool:
        return bool(self._seen)

    async def wait_changed(self) -> str:
        """Waits until one has changed, and names it."""
        while True:
            await trio.sleep(LOOK_EVERY)
            for file, stamp in self._seen.items():
                if _stamp(file) != stamp:
                    return str(Path(file).relative_to(self._here))
            for file in self._modules():  # some are imported only when they are needed
                self._seen.setdefault(file, _stamp(file))

    def _modules(self) -> Iterator[str]:
        for module in list(sys.modules.values()):
            file: object = getattr(module, "__file__", None)
            if isinstance(file, str) and self._is_ours(file):
                yield file

    def _is_ours(self, file: str) -> bool:
        path = Path(file)
        return (
            file.endswith(".py")
            and path.is_relative_to(self._here)
            and not any(part in INSTALLED for part in path.parts)
        )


def begin_anew(here: Path) -> NoReturn:
    """Puts the same program in the place of this one, in the same process: whoever has started it notices nothing.

    An interrupt waits until that one hears it (`hear_interrupts`): it would end in a traceback of its imports.
    """
    os.chdir(here)
    sys.stdout.flush()
    sys.stderr.flush()
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - it is our own command line


def hear_interrupts() -> None:
    """Lets an interrupt come that `begin_anew` has kept back; whoever calls this takes it."""
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _stamp(file: str) -> tuple[int, int] | None:
    try:
        found = Path(file).stat()
    except OSError:  # an editor may be about to put it back
        return None
    return found.st_mtime_ns, found.st_size


def _files_of(error: BaseException | None) -> Iterator[str]:
    """Names the files that an error came about in, and those of the errors behind it."""
    while error is not None:
        if isinstance(error, SyntaxError) and error.filename:
            yield error.filename
        yield from (frame.filename for frame in traceback.extract_tb(error.__traceback__))
        error = error.__cause__ or error.__context__
