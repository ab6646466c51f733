"""What the demo keeps in Redis beside its queues, and how all of it is removed."""

import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from trioqueue._errors import TrioqueueError
from trioqueue.cli.demo_orders import FIRST_STOCK, PRODUCTS
from trioqueue.stores.redis.address import parse_address
from trioqueue.stores.redis.transport import Transport, open_transport

logger = logging.getLogger("trioqueue.cli")

REMOVE_PATIENCE = 5.0
"""Seconds that removing the keys of a run may take, so that Ctrl-C ends also where Redis is gone."""

SCANNED = 1000
"""Keys that one SCAN looks at: a millisecond of the server's time."""


@attrs.frozen
class RedisShelf:
    """Stock of one product as a plain key: read with GET, written with SET."""

    transport: Transport
    key: str

    async def read(self) -> int:
        kept: Any = await self.transport.call("GET", self.key)
        return int(kept)

    async def write(self, on_hand: int) -> None:
        await self.transport.call("SET", self.key, on_hand)


@asynccontextmanager
async def open_run(url: str, prefix: str) -> AsyncGenerator[Transport, None]:
    """Opens a plain connection for one run, and removes all keys under its prefix when the block is left.

    If they can't be removed, because Redis is gone, a warning names them.
    """
    async with open_transport(parse_address(url), client_name=f"trioqueue-{prefix}") as transport:
        try:
            yield transport
        finally:
            # Without the shield Ctrl-C would leave the keys of the run on the server for good.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + REMOVE_PATIENCE):
                removed = False
                try:
                    removed = await _remove(transport, prefix)
                finally:
                    if not removed:
                        logger.warning("keys beginning with {%s: could not be removed", prefix)


async def stock_plainly(transport: Transport, prefix: str) -> None:
    """Sets the stock of all products to the first one."""
    for shelf in plain_shelves(transport, prefix).values():
        await shelf.write(FIRST_STOCK)


def plain_shelves(transport: Transport, prefix: str) -> Mapping[str, RedisShelf]:
    """Gives the shelf of each product."""
    return {product: RedisShelf(transport, f"{{{prefix}:plain}}:{product}") for product in PRODUCTS}


async def _remove(transport: Transport, prefix: str) -> bool:
    cursor: Any = b"0"
    try:
        while True:
            answer: Any = await transport.call("SCAN", cursor, "MATCH", f"{{{prefix}:*", "COUNT", SCANNED)
            cursor, keys = answer
            if keys:
                await transport.call("UNLINK", *keys)
            if cursor == b"0":
                return True
    except TrioqueueError:
        return False
