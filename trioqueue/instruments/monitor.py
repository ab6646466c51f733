"""A small HTTP server that says of a process whether it is alive and ready, and serves its metrics.

It answers from threads of its own.  That the event loop stands still, because a handler blocks it, must be told by
somebody outside of it; the loop only leaves a note, a few times a second, of when it was there.
"""

import logging
import socket
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import TYPE_CHECKING, Any

import attrs
import trio

from trioqueue import AtomicQueues, Closed, Health, TrioqueueError
from trioqueue.stores.service_nursery import open_service_nursery

if TYPE_CHECKING:
    from trioqueue.instruments.prometheus import Prometheus

logger = logging.getLogger("trioqueue.monitor")

PULSE = 0.25
"""Seconds between two notes of the loop: far below any threshold, and too few to cost anything."""

LANES = 1000
"""Entities with work whose depth is sampled at most, as `AtomicQueues.lanes` counts them."""

SAMPLES_MISSED = 3
"""Intervals after which a sample of the fleet is told no more."""

CLIENT_PATIENCE = 5.0
"""Seconds that a client may take for a request: it has a thread of ours meanwhile."""

POLL = 0.1
"""Seconds that the accepting thread takes to notice its end."""

LONGEST_END = 2.0
"""Seconds that its end may take; it is a daemon, and holds up no process that ends."""

PLAIN = "text/plain; charset=utf-8"


@attrs.define
class CannotListen(TrioqueueError):
    """Tells that the monitor can't listen where it was told to.

    Raised by `open_monitor`, at once; nothing was started.  Give another port, or 0 for any that is free.
    """

    host: str
    port: int
    reason: str

    def __str__(self) -> str:
        return (
            f"The monitor can't listen on {self.host}:{self.port} ({self.reason}): "
            "end what listens there, or give another host or port."
        )


class Pulse:
    """When the event loop was last seen.  The loop writes it, any thread reads it."""

    def __init__(self, stuck_after: float) -> None:
        self._stuck_after = stuck_after
        self._seen_at = time.monotonic()

    def beat(self) -> float:
        """Notes that the loop is here; says for how long it was not."""
        now = time.monotonic()
        away, self._seen_at = now - self._seen_at, now
        return away

    def trouble(self) -> str:
        """Says that the loop stands still; "": it doesn't."""
        away = time.monotonic() - self._seen_at
        if away < self._stuck_after:
            return ""
        return f"The event loop has stood still for {away:.0f} s: a handler blocks it, or the machine is overloaded."


def why_unready(health: Health) -> str:
    """Says why a process can't do its work at this moment; "": it can."""
    if health.state == "closed":
        return "The queues are closed."
    if health.state == "draining":
        return "This pod drains: it begins nothing new."
    if not health.connected:
        return "The link to Redis is down: it is opened anew as soon as Redis is there."
    if health.lease_left is not None and health.lease_left <= 0:
        return "This pod has no lease that can be trusted: it handles nothing until it has joined anew."
    return ""


class _Server(ThreadingHTTPServer):
    """Listens from when it is made; answers from when it is started."""

    daemon_threads = True

    def __init__(
        self, host: str, port: int, queues: AtomicQueues, pulse: Pulse, prometheus: "Prometheus | None"
    ) -> None:
        self.queues, self.pulse, self.prometheus = queues, pulse, prometheus
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # and not HTTPServer's, which asks the DNS for a name that nobody needs

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of clients that hang up or dawdle."""
        logger.debug(
            "a request of %s failed",
            client_address,
            exc_info=True,  # noqa: LOG014 - called in one
            extra={"event": "request_failed"},
        )

    def live(self) -> str:
        """Says why the process should be ended; "": it should not."""
        return self.pulse.trouble()

    def ready(self) -> str:
        """Says why it should be given nothing to do; "": it may."""
        return self.pulse.trouble() or why_unready(self.queues.health())


class _Handler(BaseHTTPRequestHandler):
    timeout = CLIENT_PATIENCE

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, _Server)
        match self.path.partition("?")[0]:
            case "/live":
                self._answer_trouble(server.live())
            case "/ready":
                self._answer_trouble(server.ready())
            case "/metrics" if server.prometheus is not None:
                try:
                    body, content_type = server.prometheus.exposition(self.headers.get("Accept", ""))
                except Exception as error:  # of a collector of the user's, say, in the same registry
                    logger.error(  # noqa: TRY400 - at a level that the reference names
                        "could not write the metrics", exc_info=error, extra={"event": "metrics_failed"}
                    )
                    self._answer(500, b"The metrics can't be written: the log of this process says why.\n")
                else:
                    self._answer(200, body, content_type)
            case _:
                metrics = ", /metrics" if server.prometheus is not None else ""
                self._answer(404, f"There is /live, /ready{metrics} here.\n".encode())

    do_HEAD = do_GET  # noqa: N815 - named so there

    def _answer_trouble(self, trouble: str) -> None:
        self._answer(503 if trouble else 200, f"{trouble or 'ok'}\n".encode())

    def _answer(self, status: int, body: bytes, content_type: str = PLAIN) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def version_string(self) -> str:
        return "trioqueue"  # which Python it runs on is nobody's business

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - named so there
        """Says nothing of each request."""


@asynccontextmanager
async def open_monitor(
    queues: AtomicQueues,
    *,
    host: str = "127.0.0.1",
    port: int = 9464,
    prometheus: "Prometheus | None" = None,
    every: float = 5.0,
    stuck_after: float = 10.0,
) -> AsyncGenerator[tuple[str, int], None]:
    """Serves `/live`, `/ready` and, with a `Prometheus`, `/metrics` over HTTP, until the block is left.

    `/live` answers 503 while the event loop stands still: the process is to be ended.  `/ready` answers 503 then too,
    and while the pod drains, has no link to Redis, or no lease that can be trusted: it is to be given nothing to do.
    Both say why in one sentence, or `ok` with 200.  They are answered by a thread, so also while the loop stands still.

    With a `Prometheus` it also watches the loop, and samples the whole fleet in a few requests to Redis.

    Args:
        queues: What is watched.
        host: Where to listen; by default only this machine is answered.  There is no password.
        port: 0: any that is free.
        prometheus: What it serves and fills; the same as in `open_atomic_queues(instruments=[...])`.
        every: Seconds between two samples of the fleet.
        stuck_after: Seconds without a sign of the event loop after which it counts as standing still.

    Returns:
        Host and port.

    Raises:
        CannotListen: At once.
        ValueError: `every` or `stuck_after` is not above 0.
    """
    if not every > 0 or not stuck_after > 0:
        raise ValueError(f"every and stuck_after are above 0, not {every} and {stuck_after}")
    pulse = Pulse(stuck_after)
    try:
        server = _Server(host, port, queues, pulse, prometheus)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise CannotListen(host, port, reason.rstrip(".")) from error
    with server:
        async with _answering(server), open_service_nursery() as nursery:
            nursery.start_soon(_beat, pulse, prometheus, name="pulse")
            bound: tuple[Any, ...] = server.socket.getsockname()
            if prometheus is None:
                yield bound[0], bound[1]
                return
            nursery.start_soon(_sample, queues, prometheus, every, name="fleet samples")
            with prometheus.watching(queues.health):
                yield bound[0], bound[1]


@asynccontextmanager
async def _answering(server: _Server) -> AsyncGenerator[None]:
    """Has a thread answer until the block is left."""
    thread = threading.Thread(
        target=partial(server.serve_forever, POLL), name=f"monitor {server.server_address[1]}", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        # Without the shield a monitor that is cancelled would leave its thread to whoever comes next.
        with trio.CancelScope(shield=True, deadline=trio.current_time() + LONGEST_END):
            # A limiter of its own: handlers may have all the threads that there are.
            await trio.to_thread.run_sync(
                server.shutdown, limiter=trio.CapacityLimiter(1), abandon_on_cancel=True
            )


async def _beat(pulse: Pulse, prometheus: "Prometheus | None") -> None:
    """Notes, for ever, that the loop is there, and how late it was."""
    pulse.beat()
    while True:
        await trio.sleep(PULSE)
        away = pulse.beat()
        if prometheus is not None:
            prometheus.lagged(max(0.0, away - PULSE))


async def _sample(queues: AtomicQueues, prometheus: "Prometheus", every: float) -> None:
    """Looks, until the queues are closed, at what there is in the fleet."""
    while True:
        try:
            statistics = await queues.statistics()
            lanes = await queues.lanes(count=LANES)
        except Closed:
            return
        except TrioqueueError as error:
            logger.warning("could not sample the fleet: %s", error, extra={"event": "sample_failed"})
        else:
            prometheus.take(statistics, lanes.lanes, good_for=SAMPLES_MISSED * every)
        await trio.sleep(every)
