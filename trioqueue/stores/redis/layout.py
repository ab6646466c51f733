"""What is checked of a server before anything is written: that it is fit to keep what is promised."""

import logging
import re
from typing import Any, Protocol, cast

import redis.exceptions

from trioqueue._errors import AccessDenied, Incompatible
from trioqueue.stores.redis.keys import Keys
from trioqueue.stores.redis.replies import user_error
from trioqueue.stores.redis.resp import Packable
from trioqueue.stores.redis.scripts import script

logger = logging.getLogger("trioqueue.store")

LAYOUT = 2
"""Version of the key layout; pods of two layouts refuse to share a prefix."""

PARTITIONS = 1
"""One Redis holds one partition; a prefix that was opened with another number is refused."""

DECLINE_US = 1_000_000
"""A declined head starts no earlier than in a second, so that two pods that both can't don't play ball with it."""


class Asked(Protocol):
    """What carries the questions to the server: a transport, say."""

    async def call(self, *args: Packable) -> object:
        """Asks one command, and returns its reply or raises redis-py's error."""
        ...


async def check_server(transport: Asked, keys: Keys, address: str, *, allow_eviction: bool) -> None:
    """Refuses a server that would lose accepted commands, too few rights, and a prefix that is laid out otherwise.

    Raises:
        AccessDenied: the user lacks a right; it is named.
        Incompatible: eviction, layout or partition count; one sentence with the remedy.
    """
    policy = await _eviction(transport)
    if policy not in (None, "noeviction") and not allow_eviction:
        raise Incompatible(
            f"it evicts keys when it is full (maxmemory-policy {policy}) and would lose accepted commands, "
            "set maxmemory-policy noeviction"
        )
    if await _setting(transport, "appendonly") == "no" and not await _setting(transport, "save"):
        logger.warning(
            "this Redis keeps nothing on disk: accepted commands are lost when its process ends",
            extra={"event": "not_durable"},
        )
    await check_rights(transport, keys, address)
    try:
        stored: Any = await transport.call("HMGET", keys.meta, "layout", "partitions")
    except redis.exceptions.RedisError as error:
        raise user_error(error, address) from None
    for what, found, ours in zip(("layout", "partition count"), stored, (LAYOUT, PARTITIONS), strict=True):
        if found is not None and int(found) != ours:
            raise Incompatible(
                f"its keys under this prefix have {what} {int(found)}, this trioqueue writes {ours}, "
                "use another prefix or the version that wrote them"
            )


async def check_rights(transport: Asked, keys: Keys, address: str) -> None:
    """Refuses a user who may not run all scripts on all keys, since a script that is stopped half-way undoes nothing.

    Raises:
        AccessDenied: naming what to grant, as ACL SETUSER takes it.
    """
    rights = script("rights")
    named = [*keys.common, *keys.one_of_each()]
    # The heartbeat's thread uses EVAL, all else EVALSHA.
    for command, what in (("EVAL", rights.source), ("EVALSHA", rights.sha)):
        try:
            answer: Any = await transport.call(command, what, len(named), *named, keys.channel)
        except redis.exceptions.NoPermissionError as error:
            denied = f"+{command.lower()}" if "run the" in str(error) else f"~{keys.pattern}"
            raise AccessDenied(_lacking([denied])) from None
        except redis.exceptions.RedisError as error:
            raise user_error(error, address) from None
        if answer:
            names = [name.decode() for name in answer]
            channels = [f"&{keys.pattern}"] if "publish" in names else []
            raise AccessDenied(_lacking([*(f"+{name}" for name in names), *channels]))


def _lacking(rights: list[str]) -> str:
    return f"this user lacks {' '.join(rights)}, so add that with ACL SETUSER"


async def _eviction(transport: Asked) -> str | None:
    """Reads what the server does when it is full; from INFO, as few users may call CONFIG."""
    answer: Any = await transport.call("INFO", "memory")
    found = re.search(rb"^maxmemory_policy:(\S+)", answer, re.MULTILINE)
    return found[1].decode() if found else None


async def _setting(transport: Asked, name: str) -> str | None:
    """Reads a setting; None where the user may not, or the provider hides it."""
    try:
        answer: Any = await transport.call("CONFIG", "GET", name)
    except redis.exceptions.RedisError:
        return None
    settings = cast("dict[bytes, bytes | None]", answer) if isinstance(answer, dict) else {}
    value = settings.get(name.encode())
    return value.decode() if value is not None else None
