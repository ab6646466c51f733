"""Between Python values and bytes: the only module that knows cattrs and orjson.

A value becomes builtins (dict, list, str, int, float, bool, None), and those become JSON, so that what lies in the
store can be read there.  Going back, the declared type alone decides what is built: nothing in the data can name a
class, there is no pickle.

What the types become:

* `Decimal` and `UUID` a string; `date`, `time` and aware `datetime` ISO 8601 (the offset stays, the name of the zone
  does not); `timedelta` a string of seconds, as `"-90.000001"`, because a float would lose microseconds;
* `bytes` base64; enums their value; sets a sorted list, so that equal values are equal bytes;
* attrs classes a dict by attribute name; in a union of several, with a member `"$type"` that holds the class name;
* dict keys strings; int keys are written in decimal and come back as ints if the type says so.

Going back is strict: `"3"` is no int, `1` is no bool; only an int is taken for a float, as other JSON writers drop
the `.0`.  Unknown fields are ignored: new senders and old pods live side by side, and missing ones take their
default.  Refused with a sentence: naive datetimes, NaN and infinities (JSON has none), ints beyond 64 bits
(orjson would read them back as floats).
"""

import re
from collections.abc import Callable
from typing import Any, TypeVar

import orjson
from cattrs import transform_error
from cattrs.v import format_exception

from .._errors import BadDeclaration, DecodeError, EncodeError
from .scalars import WrongValue
from .wire_types import new_converter

T = TypeVar("T")

_KEY = re.compile(r"\[(?![0-9]+\]).*", re.DOTALL)

# The second keeps orjson from writing datetimes in its own way, where naive ones would slip through.
_OPTIONS = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME

_SHOWN_REASONS = 3
"""A value of the wrong class altogether has one reason a field; the first few say it."""


class Codec:
    """Turns values into builtins and bytes, and back into what a declared type says.

    One codec serves a process: it generates a function for each class at its first use, and remembers it.
    """

    def __init__(self) -> None:
        self._converter = new_converter()
        # Invariant: each was made by `_converter` after the last `register`.
        self._encoders: dict[Any, Callable[[Any], Any]] = {}
        self._decoders: dict[Any, Callable[[Any, Any], Any]] = {}

    def __repr__(self) -> str:
        return f"<Codec for {len(self._encoders)} types so far>"

    def register(
        self, cls: type[T], to_builtins: Callable[[T], Any], from_builtins: Callable[[Any], T]
    ) -> None:
        """Lets values of one more class travel, and of its subclasses unless they are registered themselves.

        Args:
            cls: The class.
            to_builtins: Turns a value into dicts, lists, strings, numbers.
            from_builtins: Builds it back; whatever it raises becomes a `DecodeError`.
        """
        self._converter.register_unstructure_hook(cls, to_builtins)
        self._converter.register_structure_hook(cls, lambda value, _: from_builtins(value))
        self._encoders.clear()
        self._decoders.clear()

    def encoder(self, declared: Any) -> Callable[[Any], Any]:
        """Returns the generated function that turns values of a type into builtins.

        It raises whatever it raises: `unstructure` translates.

        Raises:
            BadDeclaration: Values of this type cannot travel.
        """
        try:
            return self._encoders[declared]
        except KeyError:
            made: Callable[[Any], Any] = _made(self._converter.get_unstructure_hook, declared)
            self._encoders[declared] = made
            return made

    def decoder(self, declared: Any) -> Callable[[Any, Any], Any]:
        """Returns the generated function that builds values of a type from builtins; `(builtins, type)`.

        Raises:
            BadDeclaration: Values of this type cannot travel.
        """
        try:
            return self._decoders[declared]
        except KeyError:
            made: Callable[[Any, Any], Any] = _made(self._converter.get_structure_hook, declared)
            self._decoders[declared] = made
            return made

    def unstructure(self, value: object, declared: Any = None) -> Any:
        """Turns a value into builtins.

        Args:
            value: What to turn.
            declared: The type that will be asked for when it is read; default is the value's class.  Give it where
                it is more than a class: unions need it for their tag.

        Raises:
            EncodeError: The value cannot travel.
        """
        try:
            return self.encoder(type(value) if declared is None else declared)(value)
        except EncodeError:
            raise
        except Exception as error:
            raise EncodeError(_reason(error)) from error

    def structure(self, builtins: Any, declared: Any) -> Any:
        """Builds a value of the declared type.

        Raises:
            DecodeError: The builtins do not fit the type, or the class refused them; it says where.
            BadDeclaration: No value of this type can travel.
        """
        decode = self.decoder(declared)
        try:
            return decode(builtins, declared)
        except Exception as error:
            # Not `from error`: what a class says of a value it refuses is payload, and this ends up in logs.
            raise DecodeError(self._reasons(builtins, declared, error), _shown(builtins)) from None

    def dumps(self, builtins: Any) -> bytes:
        """Turns builtins into bytes.

        Raises:
            EncodeError: There is something else in them, an int beyond 64 bits, or a string that is not text.
        """
        try:
            return orjson.dumps(builtins, option=_OPTIONS)
        except (TypeError, ValueError, RecursionError) as error:
            raise EncodeError(_reason(error)) from error

    def loads(self, data: bytes) -> Any:
        """Turns bytes into builtins.

        Raises:
            DecodeError: They are not JSON.
        """
        try:
            return orjson.loads(data)
        except (ValueError, RecursionError) as error:
            raise DecodeError(f"it is not JSON ({error})", data) from error

    def _reasons(self, builtins: Any, declared: Any, error: Exception) -> str:
        """Says what is wrong and where; by doing it again with a converter that keeps account.

        Errors are rare, and keeping account doubles the cost of every value.
        """
        try:
            self._converter.copy(detailed_validation=True).structure(builtins, declared)
        except Exception as detailed:
            reasons = transform_error(detailed, "it", format_exception=_format)
            more = f" and {len(reasons) - _SHOWN_REASONS} more" if len(reasons) > _SHOWN_REASONS else ""
            return "; ".join(map(_without_keys, reasons[:_SHOWN_REASONS])) + more
        return type(error).__name__


def _made(factory: Callable[[Any], Any], declared: Any) -> Any:
    try:
        return factory(declared)
    except BadDeclaration:
        raise
    except Exception as error:
        name = getattr(declared, "__qualname__", None) or repr(declared)
        raise BadDeclaration(
            f"Values of the type {name} cannot travel ({_reason(error)}): "
            "change the type, or register it with the codec."
        ) from error


def _format(error: BaseException, declared: type | None) -> str:
    if isinstance(error, WrongValue):
        return str(error)
    told, tells, _ = format_exception(error, declared).partition(" (")
    # In parentheses stands what the error says, and that may be the value.
    return f"{told} ({type(error).__name__})" if tells else told


def _without_keys(reason: str) -> str:
    """Ends the path of a reason at the first key of a dict: fields are declared, but keys are payload."""
    told, at, path = reason.partition(" @ it")
    return told + at + _KEY.sub("[…]", path)


def _reason(error: Exception) -> str:
    text = str(error).strip().rstrip(".")
    return text.splitlines()[0] if text else type(error).__name__


def _shown(builtins: Any) -> bytes:
    try:
        return orjson.dumps(builtins)
    except (TypeError, ValueError, RecursionError):
        return b""
