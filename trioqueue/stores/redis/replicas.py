"""Waits until a replica has what was written: what `durability="replica"` adds to a send.

WAIT blocks its connection, so it has one of its own.  There it counts only for what that connection wrote itself;
hence a small write goes before it, which stands behind everything that was answered earlier on any connection.

    confirm, confirm, confirm ─▶ round ─▶ write, WAIT ─▶ all of them return
                  confirm ─▶ next round …

All who ask while a round is under way share the next one, so the cost does not grow with the number of senders.
"""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import attrs
import redis.exceptions
import trio

from trioqueue._errors import AccessDenied, Closed, NotReplicated, TrioqueueError
from trioqueue.stores.redis.address import Address
from trioqueue.stores.redis.keys import Keys
from trioqueue.stores.redis.replies import user_error
from trioqueue.stores.redis.resp import pack
from trioqueue.stores.redis.scripts import script
from trioqueue.stores.redis.transport import ServerChanged, Transport, open_transport
from trioqueue.stores.service_nursery import open_service_nursery

ROUND_MS = 1000
"""How long one WAIT blocks; shorter than the patience with a silent connection."""

PAUSE = 0.05
"""Seconds before asking again where the server, or the way to it, is about to change."""

FINAL = ("READONLY", "UNBLOCKED", "NOPERM")
"""How errors begin that time does not heal: the server is no master any more, or we may not ask it."""


@attrs.define(eq=False)
class _Round:
    """Those who wait for the same answer."""

    server: str
    """The run id of the server that has answered all of them."""
    gives_up_at: float
    ended: trio.Event = attrs.field(factory=trio.Event)
    error: NotReplicated | Closed | None = None


class Replicas:
    """The waiting connection.  Made by `open_replicas`.

    Args:
        main: The connection whose answers are to be confirmed.
        patience: Seconds.
    """

    def __init__(self, main: Transport, keys: Keys, patience: float) -> None:
        self._main = main
        self._common, self._channel = keys.common, keys.channel
        self._patience = patience
        self._transport: Transport
        self._links = 0
        self._asked = trio.Event()
        self._waiting: list[_Round] = []  # one a server; more than one only around a failover
        # Once True, nobody serves, and nobody waits, for ever.
        self._closed = False

    def take_connection(self) -> None:
        """Counts connections: a write of an earlier one means nothing to a WAIT of this one."""
        self._links += 1

    async def confirm(self, server: str) -> None:
        """Returns once a replica has everything that this server has answered before.

        Cancelled: it may have it or not.

        Args:
            server: The run id of the server.

        Raises:
            NotReplicated: The server is another one now, or no replica confirmed within the patience.
            Closed: The store was closed meanwhile.
        """
        if self._closed:
            raise Closed
        mine = next((one for one in self._waiting if one.server == server), None)
        if mine is None:
            mine = _Round(server, time.monotonic() + self._patience)
            self._waiting.append(mine)
            self._asked.set()
        await mine.ended.wait()
        if mine.error is not None:
            raise attrs.evolve(mine.error)  # one each: tracebacks gather in an error

    async def run(self) -> None:
        """Serves those who wait, for ever."""
        while True:
            await self._asked.wait()
            self._asked = trio.Event()
            rounds, self._waiting = self._waiting, []
            try:
                for one in rounds:
                    one.error = await self._serve(one)
                    one.ended.set()
            finally:
                _close(rounds)

    def close(self) -> None:
        """Ends those who still wait, once nobody serves them any more."""
        self._closed = True
        _close(self._waiting)

    async def _serve(self, round_: _Round) -> NotReplicated | Closed | None:
        """Waits for a replica, and says what came instead."""
        why = "no replica answered"
        while (left := round_.gives_up_at - time.monotonic()) > 0:
            links = self._links
            try:
                if (
                    await self._ask(round_.server, min(ROUND_MS, round(left * 1000) + 1))
                    and links == self._links
                ):
                    return None
            except ServerChanged:
                if self._main.server_id != round_.server:
                    return NotReplicated(self._patience, "another server has taken its place")
                self._transport.renew("the other connection is on another server")
                await trio.sleep(PAUSE)
            except Closed:
                return Closed()
            except redis.exceptions.RedisError as error:
                why = str(error)
                if isinstance(error, redis.exceptions.NoPermissionError) or any(
                    word in why for word in FINAL
                ):
                    break
                await trio.sleep(PAUSE)
            except TrioqueueError:
                why = "the connection that waits for it was lost"
        return NotReplicated(self._patience, why)

    async def _ask(self, server: str, milliseconds: int) -> bool:
        """Writes, and waits until a replica has that: both go in one piece, in this order."""
        written: list[object] = []
        what = script("waited")
        call = ("EVAL", what.source, len(self._common), *self._common, self._channel)
        self._transport.submit(pack(call), written.append, server=server)
        confirmed = await self._transport.call("WAIT", 1, milliseconds, server=server)
        if isinstance(written[0], Exception):
            raise written[0]
        return confirmed != 0 and written[0] != 0


def _close(rounds: Sequence[_Round]) -> None:
    for one in rounds:
        if not one.ended.is_set():
            one.error = Closed()
            one.ended.set()


@asynccontextmanager
async def open_replicas(
    main: Transport, address: Address, keys: Keys, client: str, patience: float
) -> AsyncGenerator[Replicas]:
    """Opens the waiting connection, and keeps it until the block is left.

    Raises:
        StoreUnavailable, AccessDenied: At once.
    """
    replicas = Replicas(main, keys, patience)
    try:
        async with (
            open_transport(
                address,
                on_connect=replicas.take_connection,
                unanswered=patience,
                client_name=f"trioqueue-{client}-replicas",
            ) as replicas._transport,
            open_service_nursery() as nursery,
        ):
            await _check_right(replicas._transport, str(address))
            nursery.start_soon(replicas.run, name="replicas")
            yield replicas
    finally:
        replicas.close()


async def _check_right(transport: Transport, address: str) -> None:
    try:
        await transport.call("WAIT", 0, 1)
    except redis.exceptions.NoPermissionError:
        raise AccessDenied(
            "this user lacks +wait, which durability='replica' needs, so add that with ACL SETUSER"
        ) from None
    except redis.exceptions.RedisError as error:
        raise user_error(error, address) from None
