"""The first exchange on a connection: who we are, which server this is, what it must know before the first request.

Everything is written at once and answered in order:

    HELLO 3 [AUTH user password] [SETNAME name], [SELECT db], INFO server, preload…, [SUBSCRIBE channel…], PING

HELLO turns on push messages (RESP3), so that hints come over the connection that carries the requests.  A SUBSCRIBE
that succeeds is answered by one push for each channel and not by a reply.  PING marks the end whichever way it went,
and a server that is still loading refuses it.
"""

import time
from collections.abc import Sequence
from contextlib import suppress

import attrs
import hiredis
import redis.exceptions
import trio

from trioqueue._errors import AccessDenied, BadUrl, Incompatible, StoreUnavailable, TrioqueueError
from trioqueue.stores.redis.address import Address
from trioqueue.stores.redis.resp import NOT_ENOUGH, open_parser, pack
from trioqueue.stores.redis.wire import Wire, WireBroken, dial

OLDEST = (6, 2, 0)
"""The oldest server that has all that the scripts use."""

LOADING_WAIT = 10.0
"""Seconds to wait at opening for a server that reads its data: a big one needs minutes, which its owner should know."""

LOADING_PAUSE = 0.1
"""Seconds between two looks at a server that reads its data."""


class StillLoading(StoreUnavailable):
    """The server reads its data from disk; asking again soon is all there is to do."""


@attrs.define(eq=False)
class Link:
    """A connection that has been greeted: requests may be written to it."""

    wire: Wire
    parser: hiredis.Reader
    """It may hold bytes already that came after the greeting."""
    server_id: str
    """The server's run id: another process has another one, even at the same address with the same data."""
    server_version: tuple[int, int, int]
    pushes: list[list[object]]
    """What was pushed before the greeting ended, oldest first."""


@attrs.frozen
class Greeting:
    """What every connection of one client says first; see the head of this module."""

    address: Address
    channels: Sequence[str] = ()
    preload: Sequence[bytes] = ()
    """Commands, packed, whose replies are of no interest unless they are errors: SCRIPT LOAD."""
    client_name: str | None = None
    timeout: float = 5.0
    """Seconds for connecting and greeting together."""

    def packed(self) -> bytes:
        """The whole greeting in one piece."""
        hello: list[str] = ["HELLO", "3"]
        if self.address.username is not None or self.address.password is not None:
            hello += ["AUTH", self.address.username or "default", self.address.password or ""]
        if self.client_name is not None:
            hello += ["SETNAME", self.client_name]
        select = [pack(("SELECT", self.address.db))] if self.address.db else []
        subscribe = [pack(("SUBSCRIBE", *self.channels))] if self.channels else []
        return b"".join(
            [
                pack(tuple(hello)),
                *select,
                pack(("INFO", "server")),
                *self.preload,
                *subscribe,
                pack(("PING",)),
            ]
        )

    def steps(self) -> list[str]:
        """The commands that are answered by exactly one reply each, in order, but for the PING at the end."""
        select = ["SELECT"] if self.address.db else []
        return ["HELLO", *select, "INFO", *("SCRIPT LOAD" for _ in self.preload)]


async def open_first_link(greeting: Greeting) -> Link:
    """Like `open_link`, but waits up to LOADING_WAIT seconds for a server that is still loading."""
    give_up_at = time.monotonic() + LOADING_WAIT
    while True:
        try:
            return await open_link(greeting)
        except StillLoading:
            if time.monotonic() >= give_up_at:
                raise
        await trio.sleep(LOADING_PAUSE)


async def open_link(greeting: Greeting) -> Link:
    """Connects and greets, once.  Cancelled or failed, the connection is closed.

    Raises:
        StoreUnavailable: there is no server, it doesn't answer in time, or it can't serve now.
        AccessDenied: user name, password or the user's rights.
        Incompatible: it isn't a Redis, it is too old, or it refuses a script.
        BadUrl: the server has no database of this number.
    """
    with trio.move_on_after(greeting.timeout):
        wire = await dial(greeting.address)
        try:
            replies, link = await _exchange(greeting, wire)
            confirmed = sum(push[0] == b"subscribe" for push in link.pushes)
            link.pushes = [push for push in link.pushes if push[0] != b"subscribe"]
            link.server_id, link.server_version = judge(greeting, replies, confirmed)
        except BaseException:
            wire.close()
            raise
        return link
    raise no_answer(greeting)


async def _exchange(greeting: Greeting, wire: Wire) -> tuple[list[object], Link]:
    """Says the greeting and waits for its last reply, or for the first that is a refusal."""
    expected = len(greeting.steps()) + 1
    link = Link(wire, open_parser(), "", (0, 0, 0), [])
    replies: list[object] = []
    # A send may fail because the server has said no and closed: what it said is worth reading first.
    with suppress(WireBroken):
        await wire.send(greeting.packed())
    try:
        while len(replies) < expected:
            reply: object = link.parser.gets()
            if reply is NOT_ENOUGH:
                link.parser.feed(await wire.receive())
            elif isinstance(reply, hiredis.PushNotification):
                link.pushes.append(reply)
            else:
                replies.append(reply)
                if isinstance(reply, redis.exceptions.RedisError):
                    break
    except WireBroken as error:
        raise broken_off(greeting, error) from error
    except hiredis.ProtocolError as error:
        raise no_redis(greeting, error) from error
    return replies, link


# ------------------------------------------------------------------------------------ without I/O
def no_answer(greeting: Greeting) -> StoreUnavailable:
    """Says that the time for a greeting was over."""
    doubt = "; check that this port speaks TLS" if greeting.address.tls else ""
    return StoreUnavailable(str(greeting.address), f"no answer within {greeting.timeout:g} s{doubt}")


def broken_off(greeting: Greeting, why: object) -> StoreUnavailable:
    """Says that the connection ended before the greeting did."""
    return StoreUnavailable(
        str(greeting.address), f"{why} during the greeting; if it expects TLS, the URL begins with rediss://"
    )


def no_redis(greeting: Greeting, error: Exception) -> Incompatible:
    """Says that what was answered is not Redis' protocol."""
    return Incompatible(f"what answers at {greeting.address} is not a Redis ({error}), so correct the URL")


def judge(greeting: Greeting, replies: Sequence[object], confirmed: int) -> tuple[str, tuple[int, int, int]]:
    """Raises what the answers mean for the user, or says which server they come from, and of which version.

    Args:
        greeting: What was said.
        replies: One for each of its steps and for the PING at its end, or up to the first that is a refusal.
        confirmed: How many of its channels were confirmed by a push.
    """
    address, steps = greeting.address, greeting.steps()
    last = replies[-1]
    if isinstance(last, redis.exceptions.RedisError):
        step = [*steps, "PING" if confirmed == len(greeting.channels) else "SUBSCRIBE"][len(replies) - 1]
        # A user without PING may have every right that is needed.
        if step != "PING" or not isinstance(last, redis.exceptions.NoPermissionError):
            raise _refusal(address, step, last) from last
    if not isinstance(replies[0], dict):
        raise Incompatible(f"what answers at {address} does not greet as a Redis does, so correct the URL")
    server_id, version = _identity(address, replies[steps.index("INFO")])
    if version < OLDEST:
        ours, oldest = ".".join(map(str, version)), ".".join(map(str, OLDEST[:2]))
        raise Incompatible(f"{address} is Redis {ours}, and {oldest} or newer is needed, so update it")
    return server_id, version


def _identity(address: Address, info: object) -> tuple[str, tuple[int, int, int]]:
    try:
        assert isinstance(info, bytes)
        fields = dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)
        numbers = [int(number) for number in fields["redis_version"].split("-")[0].split(".")]
        major, minor, patch = (*numbers, 0, 0)[:3]
        return fields["run_id"], (major, minor, patch)
    except (AssertionError, ValueError, KeyError) as error:
        raise Incompatible(
            f"what answers at {address} does not name its version and run id as a Redis does, so correct the URL"
        ) from error


def _refusal(address: Address, step: str, error: redis.exceptions.RedisError) -> TrioqueueError:
    said = str(error)
    if isinstance(error, redis.exceptions.BusyLoadingError):
        return StillLoading(str(address), "it is still loading its data, wait until that is done")
    if isinstance(error, redis.exceptions.NoPermissionError):
        return AccessDenied(
            f"{address} does not let this user call {step} ({said}), so grant it with ACL SETUSER"
        )
    if isinstance(error, redis.exceptions.AuthenticationError):
        if address.username is None and address.password is None:
            return AccessDenied(
                f"{address} wants a password, so put one into the URL, as in redis://user:password@host"
            )
        return AccessDenied(
            f"{address} knows no such user and password, so correct them in the URL or its ACL"
        )
    if said.startswith("DENIED"):
        return AccessDenied(f"{address} takes local clients only (protected mode), so give it a password")
    if step == "SELECT":
        return BadUrl(f"{address} has no such database ({said}), so correct its number")
    if "unknown command" in said.lower() or said.startswith("NOPROTO"):
        return Incompatible(
            f"what answers at {address} does not know {step} ({said}), so use Redis 6.2 or newer"
        )
    if "Error compiling" in said:
        return Incompatible(f"{address} can't compile a script ({said}), so use another version of Redis")
    return StoreUnavailable(str(address), f"it does not take {step} now: {said}")
