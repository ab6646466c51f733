"""A nursery whose children serve its body, and so outlive it.

Borrowed from tricycle's `open_service_nursery`: when the surroundings are cancelled, the body is, and the children
go on until it has cleaned up: a connection must still be there when a pod hands its entities on.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import trio

from trioqueue.protocol.turn import single_leaf


class ServiceNursery:
    """Runs tasks that are cancelled only when the body has ended."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._scopes: set[trio.CancelScope] = set()
        self._ended = False

    def start_soon(self, service: Callable[..., Awaitable[object]], *args: Any, name: object = None) -> None:
        """Starts a service; its crash cancels the body."""
        self._nursery.start_soon(self._serve, service, args, name=name or service)

    async def _serve(self, service: Callable[..., Awaitable[object]], args: tuple[Any, ...]) -> None:
        # Without the shield, what the body needs for its clean-up would be gone.  Its deadline is the body's end.
        with trio.CancelScope(shield=True) as scope:
            self._scopes.add(scope)
            if self._ended:
                scope.cancel()
            try:
                await service(*args)
            finally:
                self._scopes.discard(scope)

    def end(self) -> None:
        """Cancels all services."""
        self._ended = True
        for scope in list(self._scopes):
            scope.cancel()


@asynccontextmanager
async def open_service_nursery() -> AsyncGenerator[ServiceNursery, None]:
    """Opens a nursery for services.

    An error of the body comes out as itself, not in a group, and so does the only crash of a service; a body
    that ends because of a crash does not hide it.
    """
    body_error: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            services = ServiceNursery(nursery)
            try:
                yield services
            except BaseException as error:
                body_error = error  # raised below, outside of the nursery, which would wrap it
            finally:
                services.end()
    except BaseExceptionGroup as group:
        # The body was cancelled because of the crash: what it says of that is no news.
        if isinstance(body_error, trio.Cancelled):
            body_error = None
        elif isinstance(body_error, BaseExceptionGroup):
            of_body = cast("BaseExceptionGroup[BaseException]", body_error)
            _, body_error = of_body.split(trio.Cancelled)
        if body_error is None:
            leaf = single_leaf(group)
            raise leaf from leaf.__cause__
        raise BaseExceptionGroup(group.message, [body_error, *group.exceptions]) from None
    if body_error is not None:
        raise body_error
