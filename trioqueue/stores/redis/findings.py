"""What `trioqueue check` sees and says: values, and how they are written."""

from collections.abc import Mapping
from typing import Literal

import attrs

from trioqueue.stores.reports import Registrations

Level = Literal["error", "warning", "hint", "well"]

LEVELS: tuple[Level, ...] = ("error", "warning", "hint", "well")
"""The worst first."""


@attrs.frozen
class Finding:
    """Something that was looked at.

    Attributes:
        name: Of what was looked at, in a word; for programs.
        level: "error": trioqueue does not work with it, or loses what it has accepted.  "warning": it will, or work
            stands still.  "hint": worth a look.  "well": nothing is the matter.
        what: What was found, a sentence.
        remedy: What to do, a sentence; "" where it is well.
    """

    name: str
    level: Level
    what: str
    remedy: str = ""


@attrs.frozen
class Clock:
    """The server's clock (us since the epoch), its seconds ahead of ours, and the round trip it took to know."""

    now_us: int
    ahead: float
    trip: float


@attrs.frozen
class Seen:
    """What was seen; None or empty: it could not be looked at.

    `broken`: why there is no connection, or none any more.  `refused`: why the server does not let us in.  `stored`:
    what is stored of all together.  `foreign`: keys that are not of our kinds.  `lacking`: rights, as ACL SETUSER takes
    them.  `trouble`: what the server says to what it will not write, rights apart.
    """

    address: str
    broken: str | None = None
    refused: str | None = None
    info: Mapping[str, str] = attrs.field(factory=dict[str, str])
    clock: Clock | None = None
    settings: Mapping[str, str] | None = None
    stored: Mapping[str, str] = attrs.field(factory=dict[str, str])
    foreign: tuple[str, ...] = ()
    fleet: Registrations | None = None
    lacking: tuple[str, ...] | None = None
    trouble: str = ""


def number(text: str | None) -> int:
    """Reads a number; 0 where there is none."""
    return int(text) if text is not None and text.isdigit() else 0


def count(many: int, what: str, plural: str = "") -> str:
    """Writes how many there are of something."""
    return f"1 {what}" if many == 1 else f"{many:,} {plural or what + 's'}"


def size(amount: float) -> str:
    """Writes how much memory that is."""
    for unit in ("bytes", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"
