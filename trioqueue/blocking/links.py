"""Connections to one Redis for plain threads: redis-py's, each lent to one thread at a time.

They greet as the connection of the Trio side does, with the same bytes and the same judgement of the answers, so what
is refused here is refused there, in the same words.
"""

import contextlib
import os
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol, cast

import attrs
import hiredis
import redis.exceptions
from redis.backoff import NoBackoff
from redis.connection import DefaultParser
from redis.retry import Retry

from trioqueue._errors import Closed, StoreUnavailable
from trioqueue.stores.redis.address import Address
from trioqueue.stores.redis.greeting import Greeting, broken_off, judge, no_answer, no_redis
from trioqueue.stores.redis.scripts import Script
from trioqueue.stores.redis.wire import advice, reason

REPLY_TIMEOUT = 5.0
"""Seconds without an answer after which a connection is given up, as in the transport."""

SHORTEST = 0.001
"""Seconds that any wait for the server lasts at least: a socket takes 0 for "do not wait at all"."""

CLOSED = "This sender is closed: use it inside its `with open_sender()` block"
FORKED = "This sender was opened before its process forked: open one in each process, after the fork"


class NoAnswer(Exception):
    """A request was written and its answer did not come: it was carried out, or will be, or never."""


class _Parser(DefaultParser):  # type: ignore[misc, valid-type]
    """redis-py's parser, which would write to its log what is pushed: outcomes are not for logs."""

    def handle_pubsub_push_response(self, response: Any) -> Any:
        return response


class Connection(Protocol):
    """What is used of redis-py's connections."""

    protocol: int
    socket_connect_timeout: float
    redis_connect_func: "Callable[[Connection], None]"

    def connect(self) -> None: ...

    def on_connect(self) -> None: ...

    def disconnect(self) -> None: ...

    def send_packed_command(self, command: Sequence[bytes]) -> None: ...

    def can_read(self, timeout: float) -> bool: ...

    def read_response(
        self, *, timeout: float, push_request: bool = ..., disconnect_on_error: bool = ...
    ) -> Any: ...


class Links:
    """The connections of one sender: as many as threads ever asked at the same time."""

    def __init__(self, address: Address, client_name: str) -> None:
        self.address = address
        self.ended = threading.Event()
        """Set once nothing will be asked any more; a thread that pauses wakes up by it."""
        self._client_name = client_name
        # With protocol 2, and without credentials and a database, redis-py says nothing when it has connected: the
        # greeting says it all.
        pool = address.sync_client(
            protocol=2,
            username=None,
            password=None,
            db=0,
            driver_info=None,
            socket_timeout=REPLY_TIMEOUT,
            retry=Retry(NoBackoff(), 0),
        ).connection_pool
        self._make = cast(
            "Callable[[], Connection]",
            partial(pool.connection_class, **pool.connection_kwargs, parser_class=_Parser),
        )
        self._pid = os.getpid()
        # Each is greeted, and nobody waits for anything on it.  Its `append` and `pop` are atomic.
        self._idle: list[Connection] = []

    def is_ours(self) -> bool:
        """Says whether this process opened it; one that was forked has no threads of it, and maybe locked locks."""
        return os.getpid() == self._pid

    def check_open(self) -> None:
        """Raises Closed once `close` was called, and in a process that was forked from the one that opened it."""
        if not self.is_ours():
            raise Closed(FORKED)
        if self.ended.is_set():
            raise Closed(CLOSED)

    # ------------------------------------------------------------------ asking
    def call(self, what: Script, packed: bytes, give_up_at: float) -> Any:
        """Calls a script once, as `ask` does; a server that has forgotten its scripts is told this one."""
        try:
            return self.ask(packed, give_up_at)
        except redis.exceptions.NoScriptError:
            self.ask(what.load(), give_up_at)
            return self.ask(packed, give_up_at)

    def ask(self, packed: bytes, give_up_at: float) -> Any:
        """Asks once, and waits for the answer.

        Args:
            packed: One command that is answered by one reply.
            give_up_at: On `time.monotonic`; it waits no longer, nor longer than REPLY_TIMEOUT.

        Raises:
            TrioqueueError: There is no connection, or the server can't serve now; it was not carried out.
            NoAnswer: Perhaps it was.
            redis.exceptions.ResponseError: The server refused it.
        """
        connection = self._take(give_up_at)
        in_step = False  # whether the next reply on it answers the next request
        try:
            connection.send_packed_command([packed])
            reply = connection.read_response(timeout=_seconds(give_up_at))
            in_step = True
            return reply
        except redis.exceptions.ResponseError:
            in_step = True
            raise
        except redis.exceptions.RedisError as error:
            if said_by_server(error):
                raise StoreUnavailable(str(self.address), str(error)) from error
            raise NoAnswer(str(error)) from error
        finally:
            if in_step:
                self._give_back(connection)
            else:
                connection.disconnect()

    # ------------------------------------------------------------------ connecting
    def greeting(self, channels: Sequence[str] = (), preload: Sequence[bytes] = ()) -> Greeting:
        """Makes what a new connection says first; see `Greeting`."""
        return Greeting(self.address, channels, preload, self._client_name)

    def open(self, greeting: Greeting, give_up_at: float) -> Connection:
        """Connects and greets, once; whoever asks for it disconnects it.

        Raises:
            StoreUnavailable, AccessDenied, Incompatible, BadUrl: As at the opening of queues.
        """
        greeting = attrs.evolve(greeting, timeout=_seconds(give_up_at))
        connection = self._make()
        connection.socket_connect_timeout = greeting.timeout
        connection.redis_connect_func = partial(_greet, greeting, time.monotonic() + greeting.timeout)
        try:
            connection.connect()
        except redis.exceptions.TimeoutError as error:
            raise no_answer(greeting) from error
        except redis.exceptions.ConnectionError as error:
            cause = error.__context__ or error
            why = reason(cause)
            if isinstance(cause, ssl.SSLError):
                why = f"no TLS: {why}; {advice(cause)}"
            raise StoreUnavailable(str(self.address), why) from error
        return connection

    def _take(self, give_up_at: float) -> Connection:
        while True:
            self.check_open()
            try:
                connection = self._idle.pop()
            except IndexError:
                return self.open(self.greeting(), give_up_at)
            # Something to read is no answer to anything: the server has hung up, most likely while it restarted.
            with contextlib.suppress(redis.exceptions.RedisError):
                if not connection.can_read(0):
                    return connection
            connection.disconnect()

    def _give_back(self, connection: Connection) -> None:
        self._idle.append(connection)
        if self.ended.is_set():
            self._disconnect()

    def close(self) -> None:
        """Ends all connections; one that a thread still waits on ends with that wait.

        In a process that was forked, only its copies of the sockets.
        """
        if self.is_ours():
            self.ended.set()
        self._disconnect()

    def _disconnect(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().disconnect()


def said_by_server(error: redis.exceptions.RedisError) -> bool:
    """Tells an error that the server answered from one of the connection; redis-py has one class for some of both."""
    return isinstance(error, redis.exceptions.ResponseError) or error.status_code is not None


def _greet(greeting: Greeting, give_up_at: float, connection: Connection) -> None:
    """Says the greeting on a connection that redis-py has just made, and judges the answers."""
    connection.on_connect()  # only makes its parser ready: see above
    connection.protocol = 3  # so that it hands over what is pushed
    try:
        replies, confirmed = _exchange(greeting, give_up_at, connection)
        judge(greeting, replies, confirmed)
    except redis.exceptions.TimeoutError as error:
        raise no_answer(greeting) from error
    except redis.exceptions.InvalidResponse as error:
        raise no_redis(greeting, error) from error
    except redis.exceptions.RedisError as error:
        cause = error.__context__
        why = reason(cause) if isinstance(cause, OSError) else "the server closed the connection"
        raise broken_off(greeting, why) from error
    except BaseException:
        connection.disconnect()
        raise


def _exchange(greeting: Greeting, give_up_at: float, connection: Connection) -> tuple[list[object], int]:
    """Reads replies to the last one, or to the first that is a refusal, and counts the channels that are confirmed."""
    connection.send_packed_command([greeting.packed()])
    replies: list[object] = []
    confirmed = 0
    while len(replies) <= len(greeting.steps()):
        try:
            reply: object = connection.read_response(timeout=_seconds(give_up_at), push_request=True)
        except redis.exceptions.RedisError as error:
            if not said_by_server(error):
                raise
            return [*replies, error], confirmed
        if isinstance(reply, hiredis.PushNotification):
            push = cast("list[object]", reply)
            confirmed += int(push[0] == b"subscribe")  # an outcome that is pushed so early will be looked for
        else:
            replies.append(reply)
    return replies, confirmed


def _seconds(give_up_at: float) -> float:
    return max(SHORTEST, min(REPLY_TIMEOUT, give_up_at - time.monotonic()))
