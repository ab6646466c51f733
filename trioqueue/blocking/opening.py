"""Opening a sender: the same checks as the opening of queues makes, before anything is written."""

import secrets
import time
from collections.abc import Coroutine, Iterable, Mapping

from trioqueue._errors import BadUrl, StoreUnavailable
from trioqueue._names import legal_prefix
from trioqueue.blocking.links import REPLY_TIMEOUT, Links, NoAnswer
from trioqueue.blocking.sender import Sender
from trioqueue.messages.codec import Codec
from trioqueue.messages.policy import EntityPolicy, Limits
from trioqueue.protocol.instrument import Instrument
from trioqueue.runtime.instruments import Instruments
from trioqueue.stores.redis.address import parse_address
from trioqueue.stores.redis.greeting import LOADING_PAUSE, LOADING_WAIT, StillLoading
from trioqueue.stores.redis.keys import Keys
from trioqueue.stores.redis.layout import check_server
from trioqueue.stores.redis.resp import Packable, pack
from trioqueue.stores.redis.scripts import all_scripts


def open_sender(
    url: str,
    *,
    prefix: str = "tq",
    entities: Mapping[str, EntityPolicy] | None = None,
    limits: Limits | None = None,
    codec: Codec | None = None,
    allow_eviction: bool = False,
    instruments: Iterable[Instrument] = (),
) -> Sender:
    """Opens a sender for programs that are not on Trio; use it in a `with` block, or `close` it.

    One sender serves all threads of a process.  A process that forks opens it afterwards, in each child.

    Args:
        url: `redis://`, `rediss://`, `unix://`, as for `open_atomic_queues`.
        prefix: Of all keys; the same as that of the pods.
        entities: The policy of an entity type, where it is not the default.
        limits: Of these, `unanswered` concerns a sender.
        codec: How values travel; the same for all who share a prefix.
        allow_eviction: Accepts a Redis that loses keys when it is full, and with them accepted commands.
        instruments: Who is told what this sender does, in the thread that does it, and perhaps in several at once:
            `Instrument.sending`, `sent` and `called`.

    Raises:
        BadUrl, StoreUnavailable, AccessDenied, Incompatible: At once, before anything was written.

    Example:
        >>> with open_sender("redis://localhost:6379") as sender:
        ...     sender.call(Deposit("acc-1", 100), timeout=5)
    """
    if url.lower().startswith("memory:"):
        raise BadUrl(
            "memory:// ends at the Trio run that opened it, and a sender is outside, so open a Redis"
        )
    address = parse_address(url)
    keys, client = Keys(legal_prefix(prefix)), secrets.token_hex(6)
    links = Links(address, f"trioqueue-{client}")
    try:
        _greet(links, keys.channel + client)
        asked = _Asked(links, time.monotonic() + REPLY_TIMEOUT)
        _finish(check_server(asked, keys, str(address), allow_eviction=allow_eviction))
    except BaseException:
        links.close()
        raise
    unanswered = (limits or Limits()).unanswered
    told = Instruments(instruments)
    return Sender(links, keys, client, codec or Codec(), dict(entities or {}), unanswered, told)


def _greet(links: Links, channel: str) -> None:
    """Tries a connection that does all that one of this sender may have to, and waits while the server is loading."""
    greeting = links.greeting((channel,), [one.load() for one in all_scripts()])
    give_up_at = time.monotonic() + LOADING_WAIT
    while True:
        try:
            links.open(greeting, time.monotonic() + REPLY_TIMEOUT).disconnect()
            return
        except StillLoading:
            if time.monotonic() >= give_up_at:
                raise
        links.ended.wait(LOADING_PAUSE)


class _Asked:
    """Carries the questions of `check_server`, which is written for Trio, and never waits as a task does."""

    def __init__(self, links: Links, give_up_at: float) -> None:
        self._links, self._give_up_at = links, give_up_at

    async def call(self, *args: Packable) -> object:
        try:
            reply: object = self._links.ask(pack(args), self._give_up_at)
        except NoAnswer as error:
            raise StoreUnavailable(str(self._links.address), str(error)) from error
        return reply


def _finish(coroutine: Coroutine[object, None, None]) -> None:
    """Runs a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("it waited")
