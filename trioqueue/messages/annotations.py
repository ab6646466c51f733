"""What an annotation means, in the place where it was written.

`typing.get_type_hints` resolves all annotations of an object or none, with module globals only: it fails for classes
that are declared inside a function under `from __future__ import annotations`, as in most tests, and for names that
are imported for type checkers alone.  Here each annotation is resolved by itself, with the locals of the functions
that were running when it was declared.
"""

import contextlib
import dataclasses
import sys
import typing
from collections import ChainMap
from collections.abc import Mapping
from types import FrameType, SimpleNamespace
from typing import Any, cast

import attrs

from .._errors import BadDeclaration

_MUTABLE = (list, dict, set, bytearray)


@attrs.frozen(eq=False)
class Scope:
    """Is where names of annotations are looked up: locals of the declaring functions, then the module's globals.

    It holds frames, so it is made for the duration of a declaration and kept by no object that lives on (but see
    `LateType`).
    """

    names: Mapping[str, Any]
    # Innermost first; functions and class bodies of the declaring module that are running, never the module itself.
    frames: tuple[FrameType, ...]

    def local_names(self) -> ChainMap[str, Any]:
        """Returns what is defined by now in the declaring functions; the innermost definition wins."""
        return ChainMap(*(frame.f_locals for frame in self.frames))

    def resolve(self, annotation: Any) -> Any:
        """Returns what an annotation means.

        Raises:
            NameError: A name in it is unknown.
            TypeError, SyntaxError, AttributeError: It is no type.
        """
        holder = SimpleNamespace(__annotations__={"it": annotation})
        # get_type_hints hands both to eval(), which takes any mapping for the locals but only a dict for globals.
        local_names = cast("dict[str, Any]", self.local_names())
        return typing.get_type_hints(holder, dict(self.names), local_names, include_extras=True)["it"]


def caller_scope(names: Mapping[str, Any] | None = None) -> Scope:
    """Returns the scope of the code that called our caller.

    Args:
        names: The globals of the declaration, if it may stand in another module than the calling code.  Functions
            of other modules are passed over: their locals cannot be meant.
    """
    frame: FrameType | None = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]
    if names is None:
        names = sys._getframe(2).f_globals  # pyright: ignore[reportPrivateUsage]
    frames: list[FrameType] = []
    while frame is not None:
        if frame.f_globals is names and frame.f_locals is not frame.f_globals:
            frames.append(frame)
        frame = frame.f_back
    return Scope(names, tuple(frames))


class LateType:
    """Is a type that may name classes which are defined only further down.

    It is resolved at once if that is possible.  Otherwise it holds the scope, and with it the variables of the
    declaring functions, until `get` succeeds.
    """

    def __init__(self, annotation: Any, scope: Scope, what: str) -> None:
        self._annotation = annotation
        self._what = what
        # Invariant: None once resolved, and then `_annotation` is the meaning.
        self._scope: Scope | None = scope
        # If it cannot be told yet, `get` will say so to whoever needs the type.
        with contextlib.suppress(BadDeclaration):
            self.get()

    def __repr__(self) -> str:
        return f"<LateType {self._annotation!r}{'' if self._scope is None else ' unresolved'}>"

    def get(self) -> Any:
        """Returns the type.

        Raises:
            BadDeclaration: A name in it is still unknown, or it is no type at all.
        """
        if self._scope is None:
            return self._annotation
        try:
            meaning = self._scope.resolve(self._annotation)
        except NameError as error:
            raise BadDeclaration(
                f"{self._what} names {error.name or self._annotation!r}, which is unknown: "
                "import it for run time too, or define it before the queues are opened."
            ) from error
        except Exception as error:
            raise BadDeclaration(
                f"{self._what} is {self._annotation!r}, which is not a type ({error}): correct it."
            ) from error
        resolve_fields(meaning, self._scope)
        self._annotation, self._scope = meaning, None
        return meaning

    def get_or_none(self) -> Any:
        """Returns the type, or None and lets go of the scope for good: for those who can do without."""
        try:
            return self.get()
        except BadDeclaration:
            self._annotation, self._scope = None, None
            return None


def resolve_fields(annotation: Any, scope: Scope) -> None:
    """Gives the attrs classes in a type the meaning of their string annotations, as far as it is known.

    Only where functions are running: for declarations of a module the codec does it at the first use, with the
    module's globals.
    """
    if not scope.frames:
        return
    pending, seen = [annotation], set[Any]()
    while pending:
        item = pending.pop()
        pending.extend(typing.get_args(item))
        if not (isinstance(item, type) and attrs.has(item)) or item in seen:
            continue
        seen.add(item)
        try:
            attrs.resolve_types(item, localns=cast("dict[str, Any]", scope.local_names()))
        except NameError:
            continue  # Defined further down: the codec tries again, and tells.
        pending.extend(field.type for field in attrs.fields(item))


def is_record(subject: object) -> bool:
    """Says whether this is a class of named fields: of attrs, or a dataclass."""
    return isinstance(subject, type) and (attrs.has(subject) or dataclasses.is_dataclass(subject))


def refuse_mutable_defaults(cls: type[Any]) -> None:
    """Raises `BadDeclaration` for a default that all instances would share and change."""
    for field in attrs.fields(cls):
        default: Any = field.default
        if default.__class__ in _MUTABLE:
            kind: str = default.__class__.__name__
            raise BadDeclaration(
                f"{cls.__qualname__}.{field.name} = {default!r} would be one {kind} shared by all instances: "
                f"write attrs.field(factory={kind})."
            )
