"""What a client is told when it does not get what it asked for.

The one thing a client must know is whether it may ask again.  So the store's errors are told apart by that: 503,
nothing was done; 504, nobody knows.  An error that is not in `ANSWERS` is a mistake of ours: 500, and its traceback
is in the log.
"""

from collections.abc import Awaitable, Callable
from http import HTTPStatus

import attrs
import trio
from starlette.requests import Request
from starlette.responses import JSONResponse

from trioqueue import BadEntityId, DeadlineExceeded, OutcomeUnknown, StoreFull, StoreUnavailable

from .body import BadBody
from .commands import InsufficientFunds, NoSuchAccount

Answer = Callable[[Request, Exception], Awaitable[JSONResponse]]


def says(status: HTTPStatus, sentence: str = "") -> Answer:
    """Makes an answer in words: these, or the error's own, which must then be fit for strangers."""

    async def answer(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": type(error).__name__, "reason": sentence or str(error)}, status)

    return answer


async def refusal(request: Request, error: Exception) -> JSONResponse:
    """Answers with what an account said together with its "no"."""
    assert isinstance(error, InsufficientFunds)
    return JSONResponse({"error": type(error).__name__, **attrs.asdict(error)}, HTTPStatus.CONFLICT)


no_such_account = says(HTTPStatus.NOT_FOUND, "No account can have this id.")
not_done = says(HTTPStatus.SERVICE_UNAVAILABLE, "Nothing was done: ask again.")
in_doubt = says(HTTPStatus.GATEWAY_TIMEOUT, "Perhaps it was done: look at the account before you ask again.")

ANSWERS: dict[type[Exception], Answer] = {
    BadBody: says(HTTPStatus.BAD_REQUEST),
    BadEntityId: no_such_account,
    NoSuchAccount: no_such_account,
    InsufficientFunds: refusal,
    StoreUnavailable: not_done,
    StoreFull: not_done,
    OutcomeUnknown: in_doubt,
    DeadlineExceeded: in_doubt,
    trio.TooSlowError: in_doubt,
}
