"""Commands that are sent again and again: when, and what becomes of ticks that nobody was there for."""

import math
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import attrs
from cronsim import CronSim, CronSimError

from .._errors import BadDeclaration
from .command import Command, entity_of, info_of

Missed = Literal["skip", "once", "all"]
"""What becomes of ticks that passed while no pod was there to send: none is sent late, one is, or all are."""

MISSED: tuple[Missed, ...] = ("skip", "once", "all")

SHORTEST = 0.1
"""Seconds between two ticks at least."""


@attrs.frozen(eq=False)
class Schedule:
    """One command, and when it is sent.

    Attributes:
        name: Tells the fleet one schedule from another.
        command: What is sent.
        after: Gives the first tick after a moment; both are milliseconds since the epoch.
        missed: What becomes of ticks that nobody was there for.
    """

    name: str
    command: Command[Any]
    after: Callable[[int], int]
    missed: Missed


def every(seconds: float, command: Command[Any], name: str | None, missed: Missed) -> Schedule:
    """Makes a schedule whose ticks are the multiples of an interval since the epoch.

    Raises:
        BadDeclaration: It can't be one; the message says why.
    """
    interval = legal_interval(seconds)

    def after(moment: int) -> int:
        return next_multiple(interval, moment)

    return _schedule(name, f"every {seconds:g} s", command, after, missed)


def legal_interval(seconds: float) -> int:
    """Returns an interval in milliseconds, or raises `BadDeclaration` with what is legal."""
    if not SHORTEST <= seconds < math.inf:
        raise BadDeclaration(f"every {seconds!r} is not legal: give seconds, {SHORTEST:g} or more.")
    return round(seconds * 1000)


def next_multiple(interval: int, moment: int) -> int:
    """Returns the first multiple of an interval after a moment, both in milliseconds."""
    return (moment // interval + 1) * interval


def cron(
    expression: str, command: Command[Any], tz: str | tzinfo, name: str | None, missed: Missed
) -> Schedule:
    """Makes a schedule of a cron expression in a time zone.

    Raises:
        BadDeclaration: It can't be one; the message says why.
    """
    zone: tzinfo
    if isinstance(tz, str):
        try:
            zone = ZoneInfo(tz)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise BadDeclaration(
                f"the time zone {tz!r} is not known here: name one like 'Europe/Berlin', or install tzdata."
            ) from None
    else:
        zone = tz

    def after(moment: int) -> int:
        at = datetime.fromtimestamp(moment / 1000, UTC).astimezone(zone)
        return round(next(CronSim(expression, at)).timestamp() * 1000)

    try:
        after(0)
    except (CronSimError, StopIteration) as error:
        raise BadDeclaration(
            f"cron({expression!r}) is not legal ({str(error) or 'it never comes'}): write it as '0 3 * * *'."
        ) from None
    return _schedule(name, f"cron {expression} {tz}", command, after, missed)


def _schedule(
    name: str | None, when: str, command: Command[Any], after: Callable[[int], int], missed: Missed
) -> Schedule:
    if missed not in MISSED:
        raise BadDeclaration(f"missed={missed!r} is not legal: give one of {', '.join(map(repr, MISSED))}.")
    own = f"{entity_of(command)} {info_of(command).name} {when}"
    return Schedule(own if name is None else name, command, after, missed)
