"""What leaves a nursery: the one error in it, as itself."""

from collections.abc import Generator
from contextlib import contextmanager

import trio


@contextmanager
def unwrapped() -> Generator[None]:
    """Raises the one error of a nursery as itself, where Trio raises a group.

    Several errors stay a group, and so does a group that a task raised itself.  Beside an error, `Cancelled` is let
    go: the scope that caused it is still cancelled, and the error is what the caller needs.
    """
    try:
        yield
        return
    except BaseExceptionGroup as group:
        errors = [error for error in group.exceptions if not isinstance(error, trio.Cancelled)]
        if len(errors) != 1:
            raise
        (single,) = errors
    # Raising would set a context, and so hide the one that the error came with.
    context = single.__context__
    try:
        raise single
    finally:
        single.__context__ = context
        del single, context
