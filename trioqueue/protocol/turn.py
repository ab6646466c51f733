"""What follows from the way a handler ended: commit, try again, give up, or let go.

The worker runs the handler.  If it returned, what it did is committed; any other ending goes to `decide`, which answers
what to commit instead.  Nothing here waits: the same facts always give the same verdict.
"""

from collections.abc import Callable
from typing import Any, cast

import attrs

from trioqueue.messages.policy import Retry
from trioqueue.messages.rejection import Rejection


def _kind(error: BaseException) -> str:
    """Shows an error in a repr, which may end up in a log: a rejection's fields are payload."""
    return type(error).__name__


@attrs.frozen
class Returned:
    """The handler returned this value."""

    value: Any = attrs.field(repr=False)  # a payload is not for logs


@attrs.frozen
class Raised:
    """The handler raised; `error` is the one leaf where it raised a group of one."""

    error: BaseException = attrs.field(repr=_kind)


@attrs.frozen
class Expired:
    """The caller's deadline passed, before the start or during the handler."""


@attrs.frozen
class Cancelled:
    """The caller cancelled the command, before the start or during the handler."""


Failing = Raised | Expired | Cancelled
Ending = Returned | Failing


@attrs.frozen
class Rejected:
    """Commit this answer "no"; state and children are thrown away."""

    rejection: Rejection = attrs.field(repr=_kind)


@attrs.frozen
class TryAgain:
    """Leave the command at the head and start it no earlier than in `wait` seconds."""

    wait: float
    error: BaseException = attrs.field(repr=_kind)


@attrs.frozen
class GiveUp:
    """Move the command to the dead letters and go on with the next."""

    error: BaseException = attrs.field(repr=_kind)


@attrs.frozen
class Drop:
    """Settle the command without an effect: its caller has gone."""

    expired: bool


Verdict = Rejected | TryAgain | GiveUp | Drop


def single_leaf(error: BaseException) -> BaseException:
    """Unwraps groups that hold one error only, so that a nursery in a handler doesn't hide it."""
    while isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        if len(group.exceptions) != 1:
            return group
        error = group.exceptions[0]
    return error


def decide(
    ending: Failing, *, retry: Retry, failures: int, is_query: bool, random: Callable[[], float]
) -> Verdict:
    """Says what to do with a command whose handler ended otherwise than by returning.

    Args:
        ending: what the worker saw.
        retry: the policy of this handler.
        failures: how often this command failed before; this ending not counted.
        is_query: a query is not tried again.
        random: gives a number in [0, 1) for the jitter.
    """
    match ending:
        case Expired():
            return Drop(expired=True)
        case Cancelled():
            return Drop(expired=False)
        case Raised(error):
            leaf = single_leaf(error)
            if isinstance(leaf, Rejection):
                return Rejected(leaf)
            if is_query or retry.gives_up(leaf, failures + 1):
                return GiveUp(error)
            return TryAgain(retry.wait_before(failures + 1, random()), error)
