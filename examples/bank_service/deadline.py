"""A deadline for each request, which travels with what it calls: nobody works on for a client that has its answer."""

import attrs
import trio
from starlette.types import ASGIApp, Receive, Scope, Send


@attrs.frozen
class Deadline:
    """Lets a request take so many seconds, then raises `trio.TooSlowError` out of it."""

    app: ASGIApp
    seconds: float

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with trio.fail_after(self.seconds):
            await self.app(scope, receive, send)
