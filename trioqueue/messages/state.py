"""The durable state of an entity: a class with a default for every field."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import attrs
from typing_extensions import dataclass_transform

from .._errors import BadDeclaration, DecodeError, NotRegistered
from .._names import EntityType, legal_entity_type
from .annotations import caller_scope, refuse_mutable_defaults, resolve_fields
from .codec import Codec

S = TypeVar("S")


@attrs.frozen(eq=False)
class StateInfo:
    """Is what a declaration says about a class of states; one a class.

    Attributes:
        cls: The class itself.
        entity: The type of the entities whose state it is.
        version: Of the fields; kept with each state.
    """

    cls: type[Any]
    entity: EntityType
    version: int


@dataclass_transform(field_specifiers=(attrs.field,))
def state(entity: str, *, version: int = 1) -> Callable[[type[S]], type[S]]:
    """Declares the state of entities of one type.

    Handlers change it in place; the changes are committed with the command or not at all.  The class becomes
    attrs-defined, mutable, with slots and equality by fields, or is taken as it is if it is attrs-defined already.
    Every field has a default, because an entity begins with `Account()`.

    Args:
        entity: The type of the entities, as `"account"`.
        version: Of the fields, from 1; raise it when old states need an upcast.

    Raises:
        BadDeclaration: What is wrong, and what to write instead.
    """
    scope = caller_scope()

    def declare(cls: type[S]) -> type[S]:
        entity_type = legal_entity_type(entity)
        if type(version) is not int or version < 1:
            raise BadDeclaration(
                f"{cls.__qualname__} has version={version!r}: versions are whole numbers from 1 on."
            )
        defined = _defined(cls)
        refuse_mutable_defaults(defined)
        resolve_fields(defined, scope)
        defined.__trioqueue_state__ = StateInfo(defined, entity_type, version)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
        return defined

    return declare


def state_info_of(subject: object) -> StateInfo:
    """Returns what the declaration of a state or its class says.

    Raises:
        NotRegistered: The class has no `@state` of its own.
    """
    cls = cast("type[Any]", subject if isinstance(subject, type) else type(subject))
    info: StateInfo | None = getattr(cls, "__trioqueue_state__", None)
    if info is None or info.cls is not cls:
        raise NotRegistered(f"The class {cls.__qualname__}", "decorate it with @state")
    return info


def is_state(subject: object) -> bool:
    """Says whether this is a class declared with `@state`."""
    return isinstance(subject, type) and "__trioqueue_state__" in subject.__dict__


def _defined(cls: type[S]) -> type[S]:
    defined = cls if "__attrs_attrs__" in cls.__dict__ else attrs.define(cls)
    if attrs.inspect(defined).is_frozen:
        raise BadDeclaration(f"{cls.__qualname__} is frozen and could never change: use @attrs.define.")
    for field in attrs.fields(cast("type[attrs.AttrsInstance]", defined)):
        if field.default is attrs.NOTHING:
            raise BadDeclaration(
                f"{cls.__qualname__}.{field.name} has no default, and an entity begins without a state: give it one."
            )
        if not field.init:
            raise BadDeclaration(
                f"{cls.__qualname__}.{field.name} has init=False, so it would be lost when the state is read back: "
                "make it an ordinary field or a property."
            )
    return defined


def read_state(codec: Codec, data: bytes) -> tuple[int, Mapping[str, Any]]:
    """Reads a stored state: the version of its class, and its fields as builtins.

    Raises:
        DecodeError: The bytes are no state; nothing else, whatever they are.
    """
    wire: Any = codec.loads(data)
    version: Any = wire.get("v") if wire.__class__ is dict else None
    fields: Any = wire.get("s") if wire.__class__ is dict else None
    if version.__class__ is not int or version < 1 or fields.__class__ is not dict:
        raise DecodeError("the state is not an object with version and fields", data)
    return version, fields
