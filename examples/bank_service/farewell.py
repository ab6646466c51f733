"""Closing time: clients that keep their connection are told before it is closed.

A client may send its next request as soon as it has an answer.  If the server closes the connection at that moment, the
client does not know whether it was heard; and Hypercorn 0.18 then waits for that connection until its patience ends.
So first every answer says `Connection: close`, for as long as an answer without it may still be on its way.
"""

import attrs
import trio
from hypercorn.config import Config
from starlette.types import ASGIApp, Receive, Scope, Send


@attrs.frozen
class Farewell:
    """Passes requests on to the application, and knows which of them are under way."""

    app: ASGIApp
    config: Config
    # One for each request under way; set when its answer is written.
    _under_way: set[trio.Event] = attrs.field(factory=set[trio.Event], init=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answered = trio.Event()
        self._under_way.add(answered)
        try:
            await self.app(scope, receive, send)
        finally:
            self._under_way.discard(answered)
            answered.set()

    async def say(self) -> None:
        """Returns when every client that may still be waiting for an answer is going to be told."""
        self.config.keep_alive_max_requests = 0  # Hypercorn looks at it with each answer
        for answered in list(self._under_way):
            await answered.wait()
