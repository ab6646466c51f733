"""The answer "no": an exception that travels to the caller as itself."""

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from .._errors import DecodeError, Rejected
from .codec import Codec


class Rejection(Exception):
    """Is the base of what a handler raises to refuse a command.

    A rejection is an answer, not a failure: it is not retried, and the caller gets it as itself if the command
    declares it with `rejects=[...]`, else as `Rejected`.  The handler's changes to the state and what it sent are
    discarded.  Subclasses are defined with attrs; their fields travel under the name of the class.

    Example:
        @attrs.define
        class InsufficientFunds(Rejection):
            balance: int
    """

    def __str__(self) -> str:
        cls: type[Any] = type(self)
        if attrs.has(cls):
            return ", ".join(f"{field.name}={getattr(self, field.name)!r}" for field in attrs.fields(cls))
        return super().__str__()


def rejection_name(rejection: Rejection | type[Rejection]) -> str:
    """Returns the name under which a rejection travels: that of its class."""
    return (rejection if isinstance(rejection, type) else type(rejection)).__name__


def rejection_fields(codec: Codec, rejection: Rejection) -> dict[str, object]:
    """Takes the fields out of a rejection, as builtins.

    Raises:
        EncodeError: A field's value cannot be encoded.
    """
    if not attrs.has(type(rejection)):
        return {}
    fields = codec.unstructure(rejection)
    assert isinstance(fields, dict)
    return fields  # pyright: ignore[reportUnknownVariableType]


def rejection_from(
    codec: Codec, declared: Iterable[type[Rejection]], name: str, fields: Mapping[str, object]
) -> Rejection | Rejected:
    """Builds back the declared rejection of this name.

    Never fails: an undeclared one, or one whose fields do not fit the declaration here, becomes `Rejected`, so that
    the caller learns of the answer even if sender and handler are of different versions.
    """
    for cls in declared:
        if rejection_name(cls) != name:
            continue
        if not attrs.has(cls):
            return cls()
        try:
            built = codec.structure(dict(fields), cls)
        except DecodeError:
            break
        assert isinstance(built, Rejection)
        return built
    return Rejected(name, dict(fields))
