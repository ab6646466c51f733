"""The values that become one string, number or bool, each with its way there and back."""

import base64
import math
import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple
from uuid import UUID

_INT_KEY = re.compile(r"-?[0-9]{1,4000}")
_SECONDS = re.compile(r"(-?)([0-9]{1,15})(?:\.([0-9]{1,6}))?")


class WrongValue(ValueError):
    """Says that a value is not what its declared type expects; becomes part of an Encode- or DecodeError."""


class IntKey:
    """Stands for int as the key of a dict, which JSON writes as a string."""


class Scalar(NamedTuple):
    """Is one class with its way to builtins and back; both raise `WrongValue` for what does not fit."""

    kind: type[Any]
    to_builtins: Callable[[Any], Any]
    from_builtins: Callable[[Any], Any]


def seen(value: object) -> str:
    """Describes a value for an error, which goes into logs: what it is, and nothing of what it says."""
    return "null" if value is None else f"a value of type {type(value).__name__}"


def exactly(kind: type[Any]) -> Callable[[Any, Any], Any]:
    """Returns the hook of a builtin that takes its own values and not those of a subclass: a bool is no int.

    For a subclass, an IntEnum for instance, it builds one of the value.
    """

    def structure(value: Any, declared: Any) -> Any:
        if value.__class__ is kind:
            return value if declared is kind else declared(value)
        raise WrongValue(f"{seen(value)} is not {'None' if kind is NoneType else f'of type {kind.__name__}'}")

    return structure


def _parsed(parse: Callable[[str], Any]) -> Callable[[Any], Any]:
    def structure(value: Any) -> Any:
        if type(value) is not str:
            raise WrongValue(f"{seen(value)} is not a string")
        try:
            return parse(value)
        except (ValueError, OverflowError, InvalidOperation):
            kind = getattr(parse, "__qualname__", "value").removesuffix(".fromisoformat").lstrip("_")
            raise WrongValue(f"{seen(value)} is not a {kind}") from None

    return structure


def _finite(value: float) -> float:
    if math.isfinite(value):
        return value
    raise WrongValue(f"{value} is no JSON number: send None or a string for it")


def _float(value: Any) -> float:
    if type(value) is float:
        return value
    if type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise WrongValue("the int is too large for a float") from None
    raise WrongValue(f"{seen(value)} is not of type float")


def _decimal_text(value: Decimal) -> str:
    if value.is_finite():
        return str(value)
    raise WrongValue(f"{value} is not a finite Decimal: send None or a string for it")


def _datetime_text(value: datetime) -> str:
    if value.utcoffset() is None:
        raise WrongValue("a datetime without an offset is naive: give it a tzinfo, as datetime.now(UTC) does")
    return value.isoformat()


def _datetime(value: Any) -> datetime:
    parsed: datetime = _parsed(datetime.fromisoformat)(value)
    if parsed.utcoffset() is None:
        raise WrongValue(
            "a datetime without an offset is naive: it has to have one, as 2030-01-31T12:00:00+00:00"
        )
    return parsed


def _date_text(value: date) -> str:
    if isinstance(value, datetime):
        raise WrongValue("it is a datetime where a date is declared: send value.date()")
    return value.isoformat()


def _time_text(value: time) -> str:
    if value.tzinfo is not None and value.utcoffset() is None:
        raise WrongValue("the offset of the time depends on the day: send a datetime")
    return value.isoformat()


def _seconds_text(value: timedelta) -> str:
    sign, value = ("-", -value) if value < timedelta() else ("", value)
    fraction = f".{value.microseconds:06d}" if value.microseconds else ""
    return f"{sign}{value.days * 86_400 + value.seconds}{fraction}"


def _timedelta(text: str) -> timedelta:
    found = _SECONDS.fullmatch(text)
    if not found:
        raise ValueError(text)
    sign, seconds, fraction = found.groups()
    value = timedelta(seconds=int(seconds), microseconds=int((fraction or "").ljust(6, "0")))
    return -value if sign else value


def _base64_text(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _base64(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def int_from_key(value: Any) -> int:
    """Reads the key of a dict that was an int."""
    if type(value) is str and _INT_KEY.fullmatch(value):
        return int(value)
    raise WrongValue(f"{seen(value)} is not the decimal text of an int")


def int_key_text(key: Any) -> str:
    """Writes the key of a dict that is an int."""
    if type(key) is int:
        return str(key)
    raise WrongValue(f"the key {seen(key)} is not an int")


SCALARS = (
    Scalar(float, _finite, _float),
    Scalar(Decimal, _decimal_text, _parsed(Decimal)),
    Scalar(UUID, str, _parsed(UUID)),
    Scalar(datetime, _datetime_text, _datetime),
    Scalar(date, _date_text, _parsed(date.fromisoformat)),
    Scalar(time, _time_text, _parsed(time.fromisoformat)),
    Scalar(timedelta, _seconds_text, _parsed(_timedelta)),
    Scalar(bytes, _base64_text, _parsed(_base64)),
    Scalar(Path, str, _parsed(Path)),
)
"""Those that need a rule on the way there."""

UNCHANGED = (str, int, bool, NoneType)
"""Those that are builtins already, and are only checked on the way back."""
