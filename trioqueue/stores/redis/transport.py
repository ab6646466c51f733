"""One connection to Redis, shared by all tasks of a process: requests of one moment share a write.

    submit, call ─▶ queue ─▶ writer ─▶ in flight ─▶ reader ─▶ deliver
                      ▲                    │
                      └── link lost: back to the front, in order

- The **writer** sends everything queued since its last write as one piece, so a busy process needs few writes.
- The **reader** hands each reply to the oldest request in flight: Redis answers in order, and nothing else ties the
  two together.
- Both have their work done for them where that needs no waiting: `before_io_wait` writes and `after_io_wait` reads
  between two rounds of Trio's tasks, so that a request costs one round and not three.
- The **watch** (`silence.py`) looks whether replies still come.
- The **keeper** opens a new link when one of the three doubts the old one: its end, an error, bytes that are no reply,
  a reply that nobody asked for, silence.  A stream in doubt is never used again, since with one reply too many or too
  few every later one would answer the wrong request.

What was unanswered is then sent again, in the old order and before anything newer.  So a request may be carried out
twice: everything sent here must be safe to repeat.  A request can be tied to one server by its run id; to another
server it is never sent.

A caller that is cancelled leaves its request where it is; the reply is read and dropped.  While there is no link,
requests older than `unanswered` seconds are given up, so nobody waits for ever.
"""

import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import attrs
import hiredis
import trio

from trioqueue._errors import Closed, OutcomeUnknown, StoreUnavailable, TrioqueueError
from trioqueue.stores.redis.address import Address
from trioqueue.stores.redis.backlog import Backlog, Deliver, Request
from trioqueue.stores.redis.greeting import Greeting, Link, open_first_link, open_link
from trioqueue.stores.redis.parking import Bench, Caller
from trioqueue.stores.redis.resp import NOT_ENOUGH, Packable, pack
from trioqueue.stores.redis.silence import SilenceWatch
from trioqueue.stores.redis.wire import Wire, WireBroken
from trioqueue.stores.service_nursery import open_service_nursery

FIRST_PAUSE = 0.02
"""Seconds before the first attempt to reconnect: a restarting Redis is back within 35 ms."""

LONGEST_PAUSE = 1.0
"""Seconds between attempts at most: as long as a heartbeat, so that a server that is back is soon noticed."""


class ServerChanged(Exception):
    """The request was for a server that this connection no longer goes to: it was not sent to the new one."""


@attrs.frozen
class TransportStatistics:
    """What one transport did since it was opened, and how it stands."""

    requests: int
    """Written, those written again included."""
    writes: int
    """Pieces they were written in."""
    bytes_out: int
    bytes_in: int
    pushes: int
    reconnects: int
    in_flight: int
    """Written and not yet answered."""
    waiting: int
    """Queued and not yet written."""
    connected: bool


class Transport(trio.abc.Instrument):
    """The shared connection.  Made by `open_transport` only; all of it belongs to one Trio thread.

    `server_id` is the run id of the server that it talks to, or talked to last, `server_version` that server's version.
    """

    def __init__(
        self,
        greeting: Greeting,
        link: Link,
        *,
        on_push: Callable[[bytes, bytes], None] | None,
        on_connect: Callable[[], None] | None,
        unanswered: float,
        reply_timeout: float,
    ) -> None:
        self.server_id, self.server_version = link.server_id, link.server_version
        self._greeting = greeting
        self._on_push = on_push
        self._on_connect = on_connect
        self._unanswered = unanswered
        self._hooks: list[Callable[[], None]] = []
        self._backlog = Backlog()
        # True while there is a link; while False, nothing is in flight.  Only the keeper writes it.
        self._connected = True
        # Once True, the backlog is empty for ever.
        self._closed = False
        self._writer = Bench()
        # The present link, while the writer sits: then what is queued may be written without it.
        self._idle_link: Link | None = None
        self._asked = False  # something is to be written before Trio waits; cleared by who writes
        self._rest = (
            b""  # of what was written without the writer and did not all go out; the writer sends it first
        )
        # The present link, while the reader waits for more: then what has come may be read without it.
        self._waiting_link: Link | None = None
        # What was met between two rounds; raised by the writer, or once the link has ended.
        self._crash: BaseException | None = None
        self._token = trio.lowlevel.current_trio_token()
        self._silence = SilenceWatch(self._backlog.in_flight, reply_timeout)
        # What serves the present link; None while there is none.
        self._serving: trio.CancelScope | None = None
        # Why the last link ended or could not be opened; None while none ever did.
        self._doubt: TrioqueueError | None = None
        # Seconds before the next attempt to reconnect.
        self._pause = FIRST_PAUSE
        self._requests = self._writes = self._bytes_out = self._bytes_in = self._pushes = self._reconnects = 0

    def __repr__(self) -> str:
        mode = (
            "closed" if self._closed else "connected" if self._connected else f"not connected ({self._doubt})"
        )
        in_flight, waiting = len(self._backlog.in_flight), len(self._backlog.queue)
        return f"<Transport {self._greeting.address} {mode}, {in_flight} in flight, {waiting} waiting>"

    # ------------------------------------------------------------------ asking
    @trio.lowlevel.enable_ki_protection
    def submit(
        self,
        packed: bytes,
        deliver: Deliver,
        *,
        server: str | None = None,
        elsewhere: Callable[[], bytes] | None = None,
        written: bool = False,
    ) -> None:
        """Queues one packed command; it is written with all others of this moment.

        `deliver` is called exactly once, later, from a task of this transport (from here only if it is closed already),
        with the reply, or redis-py's exception for the server's error, or `ServerChanged`, `OutcomeUnknown`,
        `StoreUnavailable` or `Closed`.  If it raises, the transport crashes.

        Args:
            packed: one command that is answered by exactly one reply and may be repeated.  One that blocks, holds up
                all that are asked behind it, and is not to block for `reply_timeout`.
            server: the run id of the only server it may be sent to; None for any.
            elsewhere: packs what is sent to any other server in its place, where something is.
            written: the same was sent before, and may have been carried out: it is never said to be unsent.
        """
        if self._closed:
            deliver(Closed())
            return
        if server is not None and server != self.server_id:
            self._backlog.strays = True
        self._backlog.queue.append(Request(packed, deliver, server, time.monotonic(), written, elsewhere))
        self._asked = True

    # Protected, since an interrupt between submit and wait would leave a wake-up for a task that sits elsewhere.
    @trio.lowlevel.enable_ki_protection
    async def call(self, *args: Packable, server: str | None = None) -> object:
        """Sends one command and returns its reply; nothing is decoded.  The command is one that `submit` would take.

        Cancelled, the outcome is unknown: the command may still be carried out, and its reply is dropped.

        Raises:
            TypeError: an argument that Redis can't take (bool, None), or none at all.
            redis.exceptions.RedisError: the server refused the command.
            ServerChanged, OutcomeUnknown, StoreUnavailable, Closed: as in `submit`.
        """
        if not args:
            raise TypeError(
                "a Redis command has at least a name"
            )  # Redis answers an empty one with nothing at all
        packed = pack(args)
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._closed:
            raise Closed
        caller = Caller()
        self.submit(packed, caller.deliver, server=server)
        reply = await caller.wait()
        if isinstance(reply, Exception):
            raise reply
        return reply

    def before_write(self, hook: Callable[[], None]) -> None:
        """Has `hook` called right before each write: what it submits goes with it.  If it raises, all ends.

        It is also called when there is no link to write to, so that what it submits is given up in time, or closed.
        """
        self._hooks.append(hook)

    def poke(self) -> None:
        """Makes a write happen soon although nothing was submitted, for the sake of the `before_write` hooks."""
        if self._connected:
            self._asked = True
        else:
            self._call_hooks()

    def write_early(self) -> None:
        """Writes what has been asked for so far, if the server has nothing to do: it works while we go on."""
        if self._idle_link is not None and not self._backlog.in_flight:
            self._write_now()

    def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002
        """Writes what this round of tasks has asked for; Trio calls it when they all have run.

        So no task has to be woken for a write, which would cost it a round of the scheduler.  What can't be done here
        at once is left to the writer.  It is not woken directly, as Trio has decided already how long it will wait.
        """
        if self._asked:
            self._write_now()

    def _write_now(self) -> None:
        self._asked = False
        link = self._idle_link
        if link is None:
            return  # the writer is at work, and looks before it sits down
        try:
            if self._write_at_once(link.wire):
                return
        except BaseException as error:
            self._crash = error  # an instrument that raises is only taken off, without a word to us
        self._call_writer()

    def _call_writer(self) -> None:
        self._idle_link = None  # until the writer sits again, nothing is written behind its back
        self._token.run_sync_soon(self._writer.wake)

    def after_io_wait(self, timeout: float) -> None:  # noqa: ARG002
        """Reads what has come; Trio calls it before a round of tasks, so who is answered has its turn in this one.

        By then Trio has dealt with its events, so what is delivered here may cancel tasks that waited for them.
        """
        link = self._waiting_link
        if link is None or not self._backlog.in_flight:
            return
        try:
            data = link.wire.receive_nowait()
            doubt = self._take_replies(link, data) if data else ""
        except WireBroken as error:
            doubt = str(error)  # the reader would only meet an end, as the kernel tells an error once
        except BaseException as error:
            self._crash = error
            self._call_writer()
            return
        if doubt:
            self._idle_link = self._waiting_link = None  # its tasks are still there, for a round or two
            self.renew(doubt)

    def _write_at_once(self, wire: Wire) -> bool:
        """Writes all that is queued, if that needs neither waiting nor waking; False: the writer is to see to it."""
        backlog = self._backlog
        self._call_hooks()
        self._asked = False  # what they have submitted is looked at right now
        if backlog.strays:
            return False
        if not backlog.queue:
            return True
        if not backlog.in_flight:
            if self._silence.is_parked():
                return False
            self._silence.begin()
        data = self._take()
        try:
            sent = wire.send_nowait(data)
        except WireBroken:
            sent = 0  # the writer meets the same
        self._rest = data[sent:] if sent else data
        return not self._rest

    def _take(self) -> bytes:
        """Takes all that is queued, which is in flight from now on."""
        batch = self._backlog.take()
        data = b"".join([request.packed for request in batch])
        self._requests += len(batch)
        self._writes += 1
        self._bytes_out += len(data)
        return data

    def renew(self, why: str) -> None:
        """Gives the present link up, for another one to the same address; nothing while there is none."""
        if self._serving is not None:
            self._doubt = StoreUnavailable(str(self._greeting.address), why)
            self._serving.cancel()

    def _call_hooks(self) -> None:
        for hook in self._hooks:
            hook()

    def statistics(self) -> TransportStatistics:
        """Returns a snapshot of the counts."""
        return TransportStatistics(
            requests=self._requests,
            writes=self._writes,
            bytes_out=self._bytes_out,
            bytes_in=self._bytes_in,
            pushes=self._pushes,
            reconnects=self._reconnects,
            in_flight=len(self._backlog.in_flight),
            waiting=len(self._backlog.queue),
            connected=self._connected,
        )

    # ------------------------------------------------------------------ one link: each part returns its doubt
    @trio.lowlevel.enable_ki_protection
    async def _write(self, link: Link) -> str:
        backlog = self._backlog
        self._rest = b""
        while True:
            if self._crash is not None:
                raise self._crash
            data, self._rest = self._rest, b""
            if not data:
                self._call_hooks()
                if backlog.strays:
                    self._turn_strays_away()
                if not backlog.queue:
                    self._idle_link = link
                    try:
                        await self._writer.sit()
                    finally:
                        self._idle_link = None
                    continue
                if not backlog.in_flight:
                    self._silence.begin()
                data = self._take()
            try:
                await link.wire.send(data)
            except WireBroken as error:
                return str(error)

    @trio.lowlevel.enable_ki_protection
    async def _read(self, link: Link) -> str:
        for push in link.pushes:
            self._take_push(push)
        data = b""  # the greeting may have left bytes in the parser
        while not (doubt := self._take_replies(link, data)):
            self._waiting_link = link
            try:
                data = await link.wire.receive()
            except WireBroken as error:
                return str(error)
            finally:
                self._waiting_link = None
            # It may have been doubted since this task was woken, and what comes now would answer the wrong request.
            await trio.lowlevel.checkpoint_if_cancelled()
        return doubt

    def _take_replies(self, link: Link, data: bytes) -> str:
        """Hands on all that has come whole by now, in order; says what makes the link doubtful, if anything does."""
        self._bytes_in += len(data)
        link.parser.feed(data)
        gets, in_flight = link.parser.gets, self._backlog.in_flight
        while True:
            try:
                reply: object = gets()
            except hiredis.ProtocolError as error:
                return f"it sent what is no reply: {error}"
            if reply is NOT_ENOUGH:
                return ""
            if isinstance(reply, hiredis.PushNotification):
                self._take_push(reply)
            elif in_flight:
                in_flight.popleft().deliver(reply)
            else:
                return "it sent a reply that nobody had asked for"

    async def _watch_silence(self, link: Link) -> str:
        return await self._silence.wait(link.wire)

    def _take_push(self, push: list[object]) -> None:
        if push[0] == b"message" and self._on_push is not None:
            self._pushes += 1
            _, channel, payload = push
            assert isinstance(channel, bytes)
            assert isinstance(payload, bytes)
            self._on_push(channel, payload)

    # ------------------------------------------------------------------ from link to link
    @trio.lowlevel.enable_ki_protection
    async def keep(self, link: Link) -> None:
        """Serves this link, and then others, for ever.  For `open_transport` alone; the link is closed when it ends."""
        while True:
            try:
                await self._serve(link)
            finally:
                link.wire.close()
            link = await self._reconnect()

    async def _serve(self, link: Link) -> None:
        """Lets requests flow until a part doubts the link; then takes back what is unanswered.

        The nursery's children are the writer, the reader and the watch of this link.
        """
        received = self._bytes_in
        self.server_id, self.server_version = link.server_id, link.server_version
        self._connected = True
        self._turn_strays_away()
        if self._on_connect is not None:
            self._on_connect()

        async def until_doubt(part: Callable[[Link], Awaitable[str]]) -> None:
            why = await part(link)
            if not nursery.cancel_scope.cancel_called:  # what the others meet then says less
                self.renew(why)

        async with trio.open_nursery() as nursery:
            self._serving = nursery.cancel_scope
            for part in (self._write, self._read, self._watch_silence):
                nursery.start_soon(until_doubt, part)
        if self._crash is not None:
            raise self._crash  # the link has ended before the writer had its turn
        self._serving = None
        self._connected = False
        self._backlog.take_back()
        self._call_hooks()
        if self._bytes_in > received:
            self._pause = FIRST_PAUSE

    async def _reconnect(self) -> Link:
        """Opens a new link, however long that takes.  The nursery's child gives up what waits too long meanwhile."""
        link: Link | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._give_up_the_old)
                while link is None:
                    await trio.sleep(self._pause * random.uniform(0.5, 1.0))
                    # Grows until a link has brought an answer: one that breaks at each use is no success.
                    self._pause = min(2 * self._pause, LONGEST_PAUSE)
                    try:
                        link = await open_link(self._greeting)
                    except TrioqueueError as error:
                        # A refused password too: passwords are changed, and the server may get its turn later.
                        self._doubt = error
                nursery.cancel_scope.cancel()
        except BaseException:
            if link is not None:
                link.wire.close()
            raise
        self._reconnects += 1
        return link

    @trio.lowlevel.enable_ki_protection
    async def _give_up_the_old(self) -> None:
        while True:
            now = time.monotonic()
            for request in self._backlog.give_up(now - self._unanswered):
                request.deliver(self._given_up(request))
            # What comes from now on can't be too old before `unanswered` seconds have passed.
            oldest = self._backlog.queue[0].since if self._backlog.queue else now
            await trio.sleep(max(oldest + self._unanswered - time.monotonic(), 0.0))

    def _given_up(self, request: Request) -> TrioqueueError:
        error: TrioqueueError
        if request.written:
            error = OutcomeUnknown("what was asked of it", self._unanswered)
        else:
            error = StoreUnavailable(
                str(self._greeting.address), f"not for {self._unanswered:g} s; nothing was sent"
            )
        error.__cause__ = self._doubt
        return error

    def _turn_strays_away(self) -> None:
        for request in self._backlog.turn_away(self.server_id):
            request.deliver(ServerChanged(f"meant for server {request.server}, and this is {self.server_id}"))

    @trio.lowlevel.enable_ki_protection
    def close(self) -> None:
        """Ends every outstanding request with `Closed`.  For `open_transport` alone, once no task runs any more."""
        self._closed = True
        self._connected = False
        for request in self._backlog.clear():
            request.deliver(Closed())
        self._call_hooks()


@asynccontextmanager
async def open_transport(
    address: Address,
    *,
    channels: Sequence[str] = (),
    on_push: Callable[[bytes, bytes], None] | None = None,
    preload: Sequence[bytes] = (),
    on_connect: Callable[[], None] | None = None,
    unanswered: float = 30.0,
    reply_timeout: float = 5.0,
    client_name: str | None = None,
) -> AsyncGenerator[Transport]:
    """Opens a shared connection, and keeps one open until the block is left.

    A first attempt that fails is reported at once; only an open transport reconnects.  It works until the block has
    ended, also when that is cancelled and still cleans up; then every outstanding request gets `Closed`.  An error of
    the block leaves it as itself, and so does an error of a callback, which crashes the transport.

    Args:
        channels: to listen on.
        on_push: called with channel and payload of each message.  Messages sent while there is no link are lost.
        preload: packed commands to send first on each connection, such as SCRIPT LOAD.
        on_connect: called for each new link before anything is written to it; for the first, once the block runs.
        unanswered: seconds after which a request is given up while there is no link.
        reply_timeout: seconds of silence with a request in flight until the link is given up, and for each connecting.
        client_name: as CLIENT LIST shows it; without spaces.

    Raises:
        StoreUnavailable, AccessDenied, Incompatible, BadUrl: by the first attempt; one sentence with a remedy.
    """
    greeting = Greeting(address, tuple(channels), tuple(preload), client_name, reply_timeout)
    # Before the nursery opens, so that the error of a first attempt is in no group.
    link = await open_first_link(greeting)
    transport = Transport(
        greeting,
        link,
        on_push=on_push,
        on_connect=on_connect,
        unanswered=unanswered,
        reply_timeout=reply_timeout,
    )
    trio.lowlevel.add_instrument(transport)
    try:
        async with open_service_nursery() as nursery:
            # The keeper, which owns the link from here on: it starts even if all is cancelled already.
            nursery.start_soon(transport.keep, link, name=f"transport {address}")
            yield transport
    finally:
        trio.lowlevel.remove_instrument(transport)
        transport.close()
