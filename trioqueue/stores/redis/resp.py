"""Redis' wire format: hiredis packs and parses, redis-py names the errors."""

from collections.abc import Callable
from typing import Final, TypeAlias, cast

import hiredis
import redis.exceptions
from redis.connection import DefaultParser

NOT_ENOUGH: Final = object()
"""What a parser answers when the next reply isn't complete; False and None are replies."""

Packable: TypeAlias = bytes | str | int | float | memoryview

pack = cast("Callable[[tuple[Packable, ...]], bytes]", hiredis.pack_command)  # pyright: ignore[reportUnknownMemberType]
"""Packs one command; TypeError for what Redis can't take (bool, None).  Never an empty one, which has no reply."""

_parse_error = cast(
    "Callable[[str], Exception]",
    DefaultParser.parse_error,  # pyright: ignore[reportUnknownMemberType]
)


def open_parser() -> hiredis.Reader:
    """Makes the parser for one connection: bytes stay bytes, and errors are redis-py's exceptions."""
    return hiredis.Reader(replyError=translated, notEnoughData=NOT_ENOUGH)


def translated(text: str) -> Exception:
    """Turns a server's error into redis-py's exception."""
    try:
        return _parse_error(text)
    except (ValueError, IndexError):  # a MOVED without an address, say
        return redis.exceptions.ResponseError(text)
