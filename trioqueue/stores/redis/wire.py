"""Bytes to and from one server: a TCP or unix socket, or TLS over TCP.

Plain sockets are used without Trio's `SocketStream`, which adds a trip round the scheduler to every send and receive;
with one caller that is a quarter of a request's time.
"""

import contextlib
import os
import socket
import ssl
import time
from collections.abc import Generator
from typing import Protocol

import trio

from trioqueue._errors import StoreUnavailable
from trioqueue.stores.redis.address import Address

RECEIVE_BYTES = 65_536
"""Bytes read at once: several hundred short replies, and hiredis keeps less than this for long."""

SEND_BYTES = 65_536
"""Bytes given to TLS at once, so that `moved_at` follows a long upload; four of its records."""

KEEPALIVE_SECONDS = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
"""An idle connection that a firewall forgot is noticed after 30 s; hints that would come over it are lost till then."""

EXPIRED = 10
"""What OpenSSL calls X509_V_ERR_CERT_HAS_EXPIRED, of any certificate of the chain; `ssl` has no name for it."""


class WireBroken(Exception):
    """The connection is gone; its text says how, in a few words."""


class Wire(Protocol):
    """One connection.  One task may send while another receives; `close` only when neither does."""

    moved_at: float
    """`time.monotonic()` when bytes last moved: received, or sent after the socket's buffer had been full."""

    async def send(self, data: bytes) -> None:
        """Sends everything, or raises WireBroken; cancelled, it may have sent a part.  Not always a checkpoint."""
        ...

    def send_nowait(self, data: bytes) -> int:
        """Sends as much as goes out without waiting, and says how much; raises WireBroken.  0: not in this way."""
        ...

    async def receive(self) -> bytes:
        """Waits for at least one byte; raises WireBroken at the end of the stream.  Cancelled, it has read nothing."""
        ...

    def receive_nowait(self) -> bytes:
        """Gives what has come by now, while a task waits in `receive`; raises WireBroken.  b"": that task takes it."""
        ...

    def close(self) -> None:
        """Closes the connection at once, without a farewell."""
        ...


class SocketWire:
    """A `Wire` over a plain connected socket."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(0)
        self._socket = sock
        # All that had come when Trio looked last was taken without the task that waits for it.
        self._drained = False
        self.moved_at = time.monotonic()

    async def send(self, data: bytes) -> None:
        rest = memoryview(data)
        while True:
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:
                pass
            except OSError as error:
                raise WireBroken(reason(error)) from error
            if not rest:
                return
            await trio.lowlevel.wait_writable(self._socket)
            self.moved_at = time.monotonic()

    def send_nowait(self, data: bytes) -> int:
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise WireBroken(reason(error)) from error

    async def receive(self) -> bytes:
        while True:
            self._drained = False
            await trio.lowlevel.wait_readable(self._socket)
            if self._drained:
                continue
            try:
                data = self._socket.recv(RECEIVE_BYTES)
            except BlockingIOError:
                continue
            except OSError as error:
                raise WireBroken(reason(error)) from error
            if not data:
                raise WireBroken("the server closed the connection")
            self.moved_at = time.monotonic()
            return data

    def receive_nowait(self) -> bytes:
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise WireBroken(reason(error)) from error
        if data:
            self.moved_at = time.monotonic()
            self._drained = len(data) < RECEIVE_BYTES
        return data  # at the end of the stream b"": the task finds the same

    def close(self) -> None:
        self._socket.close()


class TlsWire:
    """A `Wire` over TLS."""

    def __init__(self, stream: trio.SSLStream[trio.SocketStream]) -> None:
        self._stream = stream
        self.moved_at = time.monotonic()

    async def send(self, data: bytes) -> None:
        with _broken_in_words():
            for start in range(0, len(data), SEND_BYTES):
                await self._stream.send_all(data[start : start + SEND_BYTES])
                self.moved_at = time.monotonic()

    def send_nowait(self, data: bytes) -> int:  # noqa: ARG002
        return 0  # a record may need several steps, which a task has to take

    async def receive(self) -> bytes:
        with _broken_in_words():
            data = await self._stream.receive_some(RECEIVE_BYTES)
        if not data:
            raise WireBroken("the server closed the connection")
        self.moved_at = time.monotonic()
        return bytes(data)

    def receive_nowait(self) -> bytes:
        return b""  # likewise

    def close(self) -> None:
        self._stream.transport_stream.socket.close()


@contextlib.contextmanager
def _broken_in_words() -> Generator[None]:
    try:
        yield
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise WireBroken(reason(error.__cause__ or error)) from error


async def dial(address: Address) -> Wire:
    """Connects to the address; TLS is agreed on when it returns.  Cancelled or failed, nothing stays open.

    Raises:
        StoreUnavailable: nobody answers there, or TLS can't be agreed on; the sentence says why and what to do.
    """
    try:
        if address.scheme == "unix":
            stream = await trio.open_unix_socket(address.path)
        else:
            stream = await trio.open_tcp_stream(address.host, address.port)
            _keep_alive(stream)
    except OSError as error:
        raise StoreUnavailable(str(address), reason(error)) from error
    if address.tls is None:
        return SocketWire(socket.socket(fileno=stream.socket.detach()))
    try:
        context = address.tls.context()
    except (OSError, ValueError) as error:
        stream.socket.close()
        raise StoreUnavailable(str(address), f"the ssl_ options can't be used: {reason(error)}") from error
    # https_compatible: Redis closes without TLS's farewell, which is no error where each reply tells its own length.
    secure = trio.SSLStream(stream, context, server_hostname=address.host, https_compatible=True)
    try:
        await secure.do_handshake()
    except BaseException as error:
        stream.socket.close()
        if isinstance(error, trio.BrokenResourceError):
            cause = error.__cause__ or error
            raise StoreUnavailable(str(address), f"no TLS: {reason(cause)}; {advice(cause)}") from error
        raise
    return TlsWire(secure)


def _keep_alive(stream: trio.SocketStream) -> None:
    # TCP_NODELAY is set by Trio.  What a platform doesn't have only delays the discovery.
    with contextlib.suppress(OSError):
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEPALIVE_SECONDS.items():
            if hasattr(socket, name):  # macOS has another name for the first
                stream.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def advice(error: BaseException) -> str:
    """Says what to do when TLS could not be agreed on."""
    if isinstance(error, ssl.SSLCertVerificationError) and error.verify_code == EXPIRED:
        return "renew the server's certificate or its authority's, and check this machine's clock"
    return "check ssl_ca_certs, and that this port speaks TLS"


def reason(error: BaseException) -> str:
    """Says in a few words why a connection failed, from the deepest cause that knows."""
    match error:
        case ssl.SSLCertVerificationError():
            return error.verify_message
        case ssl.SSLError():
            # One that Python itself raises has no reason.
            return str(getattr(error, "reason", None) or error).lower().replace("_", " ")
        case OSError(__cause__=BaseExceptionGroup() as group):
            # What Trio raises once no address of a host could be connected to.
            return ", ".join(dict.fromkeys(reason(one) for one in group.exceptions))
        case socket.gaierror(strerror=str() as text):
            return text
        case OSError(errno=int() as number):
            # Not its strerror, to which Trio adds the address once more.
            return os.strerror(number)
        case trio.BrokenResourceError():
            return "the connection broke"
        case _:
            return str(error)
