"""How errors reach a person at a terminal: one line that says what to do, and an exit code."""

import os
import sys
from collections.abc import Callable
from typing import cast

import attrs
import click

from trioqueue._errors import TrioqueueError

FAILED = 1
"""Exit code for every error of trioqueue's."""

REJECTED = 3
"""Exit code where a handler answered no."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells count it: 128 and the number of SIGINT."""

TERMINATED = 143
"""Exit code after SIGTERM: 128 and its number."""

UNFINISHED = "Told to end by SIGTERM: what was begun is not finished."


@attrs.define
class PodEnded(TrioqueueError):
    """Tells that a process of ours ended although nobody had told it to.

    Raised by commands that start pods; all the others have been ended when it is seen.  `reason` is the pod's own
    error where it had one to tell.
    """

    reason: str

    def __str__(self) -> str:
        return self.reason


@attrs.define
class Terminated(TrioqueueError):
    """Tells that this process got SIGTERM; what it had started has been ended when it is seen.

    `said` is what a person is told; "": nothing, as there was nothing to finish.
    """

    said: str = UNFINISHED

    def __str__(self) -> str:
        return self.said


def run_reporting(work: Callable[[], object]) -> int:
    """Runs a command and returns its exit code; errors of trioqueue become one line on stderr.

    An error that isn't trioqueue's is a bug: it keeps its traceback.
    """
    try:
        code = work()
    except BaseException as error:
        told = told_of(error)
        if told is None:
            raise
        line, code = told
        if line:
            sys.stderr.write(f"error: {line}\n")
        return code
    return code if isinstance(code, int) else 0


def told_of(error: BaseException) -> tuple[str, int] | None:
    """Says what a person is told of an error, and the exit code; None: it is none that a person can act on.

    An interrupt in a group wins over what it brought about; of several errors of ours the first is told.
    """
    leaves = _leaves(error)
    if any(isinstance(leaf, (KeyboardInterrupt, click.Abort)) for leaf in leaves):
        return "", INTERRUPTED
    for leaf in leaves:
        match leaf:
            case Terminated():
                return one_line(leaf), TERMINATED
            case TrioqueueError():
                pass
            case click.ClickException():
                return " ".join(leaf.format_message().split()), leaf.exit_code
            case BrokenPipeError():
                # Who read our output has left, as `| head` does: nobody is there to be told, nor at the final flush.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return "", FAILED
            case _:
                return None
    return one_line(leaves[0]), FAILED


def how_ended(code: int) -> str:
    """Says how a process ended, by its exit code as Python gives it."""
    return f"by signal {-code}" if code < 0 else f"with exit code {code}"


def one_line(error: BaseException | str) -> str:
    """Gives an error's sentence without line ends."""
    return " ".join(str(error).split())


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return [leaf for inner in group.exceptions for leaf in _leaves(inner)]
    return [error]
