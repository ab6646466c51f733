"""Which pod takes an entity that has work and no owner."""

from collections.abc import Iterable

import attrs


@attrs.frozen
class Candidate:
    """A registered pod that takes the entity's type: what it owns of that type, and what more it may own of any."""

    incarnation: str
    load: int
    room: int


def choose(
    candidates: Iterable[Candidate], *, prefer: str | None = None, without: str | None = None
) -> str | None:
    """Picks the preferred pod if it has room, else the least loaded one with room, else none.

    Equal loads go to the smaller incarnation id, as the order of a Redis sorted set has it, so that all stores
    choose alike.  `without` is the pod that just gave the entity up.
    """
    with_room = [c for c in candidates if c.room > 0 and c.incarnation != without]
    for candidate in with_room:
        if candidate.incarnation == prefer:
            return prefer
    best = min(with_room, key=lambda c: (c.load, c.incarnation), default=None)
    return best.incarnation if best else None


def next_after(candidates: Iterable[Candidate], declined: str) -> str | None:
    """Picks the pod with room that joined next after the one that can't handle an entity's head, round and round.

    Whoever knows the command is asked so after all others at the latest.  By their loads, two pods of an old release
    would hand it to each other for as long as they have less to do than one of the new release.
    """
    here = _number(declined)
    with_room = [c for c in candidates if c.room > 0 and c.incarnation != declined]
    first = min(
        with_room, key=lambda c: (_number(c.incarnation) < here, _number(c.incarnation)), default=None
    )
    return first.incarnation if first else None


def _number(incarnation: str) -> int:
    """Reads the number of an incarnation, which rises with every join."""
    return int(incarnation.rpartition(".")[2])
