"""What a sender may ask for one command beside its place in the line."""

import math
import time
from collections.abc import Mapping
from datetime import datetime

import attrs

from .._errors import EncodeError

MAX_KEY_BYTES = 512
"""Bytes of an idempotency key, as of an entity's id."""

MAX_DELAY = 366 * 86_400.0
"""Seconds that a command may be put off."""


@attrs.frozen
class Options:
    """What a sender may ask for one command; see `AtomicQueues.send`."""

    delay: float | None = None
    at: datetime | None = None
    key: str | None = None
    expires: float | None = None
    headers: Mapping[str, str] | None = None
    urgent: bool = False

    def delay_us(self) -> int:
        """Says by how many microseconds the command is put off."""
        if self.at is None:
            seconds = 0.0 if self.delay is None else self.delay
        elif self.delay is not None:
            raise EncodeError("delay and at are both given, give one of them")
        elif self.at.tzinfo is None:
            raise EncodeError("at is a naive datetime, give it a time zone")
        else:
            seconds = max(0.0, self.at.timestamp() - time.time())
        if not 0 <= seconds <= MAX_DELAY:
            raise EncodeError(f"delay is {seconds}, give seconds from 0 to {MAX_DELAY:.0f}")
        return round(seconds * 1e6)

    def legal_key(self) -> str:
        """Gives the idempotency key; "": there is none."""
        key = self.key
        if key is None:
            return ""
        if not 0 < len(key.encode("utf-8", "replace")) <= MAX_KEY_BYTES:
            raise EncodeError(f"the key {key!r} is not text of 1 to {MAX_KEY_BYTES} bytes")
        if not key.isprintable():
            raise EncodeError(f"the key {key!r} has characters that can't be printed, choose another one")
        return key

    def legal_headers(self) -> Mapping[str, str]:
        """Gives the headers, none of which is anything but text."""
        headers = self.headers or {}
        if not all(isinstance(part, str) for pair in headers.items() for part in pair):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise EncodeError("headers has names or values that are not text, make them text")
        return headers

    def legal_expiry(self) -> float:
        """Says for how many seconds the command is worth starting."""
        expires = math.inf if self.expires is None else self.expires
        if self.key is not None and self.expires is not None:
            raise EncodeError(
                "expires and key are both given, but others may wait for a command with a key: give one"
            )
        if not expires >= 0:
            raise EncodeError(f"expires is {expires}, give seconds, 0 or more")
        return expires


PLAIN = Options()
"""Nothing beside its place in the line."""


def options_of(
    delay: float | None,
    at: datetime | None,
    key: str | None,
    expires: float | None,
    headers: Mapping[str, str] | None,
    *,
    urgent: bool,
) -> Options:
    """Gathers what was asked; `PLAIN` itself, if that is nothing."""
    if delay is None and at is None and key is None and expires is None and headers is None and not urgent:
        return PLAIN
    return Options(delay, at, key, expires, headers, urgent)
