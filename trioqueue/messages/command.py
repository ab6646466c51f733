"""What users declare to be sent: commands, queries, and which field names the entity."""

import re
from collections.abc import Callable, Sequence
from types import NoneType
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar, cast, get_args, get_origin, overload

import attrs
from typing_extensions import TypeVar as DefaultTypeVar
from typing_extensions import dataclass_transform

from .._errors import BadDeclaration, NotRegistered
from .._names import CommandName, Entity, EntityType, entity_id_text, legal_command_name, legal_entity_type
from .annotations import LateType, Scope, caller_scope, refuse_mutable_defaults, resolve_fields
from .rejection import Rejection

# The name is what users read in errors and completions: Command[R].
R = DefaultTypeVar("R", default=None, covariant=True)  # noqa: PLC0105
C = TypeVar("C", bound="Command[Any]")
Q = TypeVar("Q", bound="Query[Any]")
C_co = TypeVar("C_co", covariant=True)
R_co = TypeVar("R_co", covariant=True)

_ENTITY_ID = "trioqueue.entity_id"


class Command(Generic[R]):
    """Is the base of every command; `Command[int]` is answered with an int, bare `Command` with None.

    Commands are values: frozen, compared by their fields.  Declare them with `@command`.
    """

    __slots__ = ()

    __trioqueue__: ClassVar["CommandInfo"]

    # These two exist for type checkers alone: they tie a handler to its command and its reply (see CommandType).
    @classmethod
    def __itself__(cls) -> Self:
        raise NotImplementedError

    @classmethod
    def __reply__(cls) -> R:
        raise NotImplementedError


class Query(Command[R]):
    """Is the base of commands that only read; they keep their place in the line.

    The handler of a query may neither change the state nor send.  A failed query is answered with its error at
    once: it is not retried and leaves no dead letter.
    """

    __slots__ = ()


class CommandType(Protocol[C_co, R_co]):
    """Describes, to type checkers, the class of a command together with the type of its reply."""

    def __itself__(self) -> C_co: ...
    def __reply__(self) -> R_co: ...


@attrs.frozen(eq=False)
class CommandInfo:
    """Is what a declaration says about a class of commands; one a class.

    Attributes:
        cls: The class itself; for raw handlers, the class of what they get.
        entity: The entity type that the command is for.
        name: Its name in envelopes; a rename of the class changes it unless `name=` was given.
        version: Of the fields; travels with each command.
        id_field: Which attribute names the entity.
        rejects: The rejections that callers get as themselves.
        is_query: Whether it only reads.
    """

    cls: type[Any]
    entity: EntityType
    name: CommandName
    version: int
    id_field: str
    rejects: tuple[type[Rejection], ...]
    is_query: bool
    _reply: LateType = attrs.field(repr=False, alias="reply")

    def reply_type(self) -> Any:
        """Returns the type that answers the command, `NoneType` for a bare `Command`.

        Resolved at the first use, because `Command["Later"]` may name a class that is defined further down.

        Raises:
            BadDeclaration: The name is not to be found.
        """
        return self._reply.get()

    def __str__(self) -> str:
        return f"{self.cls.__module__}.{self.cls.__qualname__}"


def entity_id(*, alias: str | None = None, kw_only: bool = False) -> Any:
    """Marks the field that names the entity: a str, int or UUID.

    Args:
        alias: Its name in the constructor, if it shall have another one.
        kw_only: Whether it is given by keyword only.
    """
    return attrs.field(alias=alias, kw_only=kw_only, metadata={_ENTITY_ID: True})


@dataclass_transform(frozen_default=True, field_specifiers=(attrs.field, entity_id))
def command(
    entity: str,
    *,
    name: str | None = None,
    version: int = 1,
    entity_id: str | None = None,
    rejects: Sequence[type[Rejection]] = (),
) -> Callable[[type[C]], type[C]]:
    """Declares a class of commands for entities of one type.

    The class becomes attrs-frozen with slots, or is taken as it is if it is attrs-frozen already.

    Args:
        entity: The type of the entities, as `"account"`.
        name: The wire name; default is the name of the class in snake_case.
        version: Of the fields, from 1; raise it when old data needs an upcast.
        entity_id: The field that names the entity, instead of marking it with `entity_id()`.
        rejects: The rejections that callers shall get as themselves.

    Raises:
        BadDeclaration: What is wrong, and what to write instead.

    Example:
        @command("account")
        class Deposit(Command[int]):
            account_id: str = entity_id()
            amount: int
    """
    scope = caller_scope()

    def declare(cls: type[C]) -> type[C]:
        return _declare(
            cls,
            Command,
            scope,
            entity=entity,
            name=name,
            version=version,
            id_field=entity_id,
            rejects=rejects,
        )

    return declare


@dataclass_transform(frozen_default=True, field_specifiers=(attrs.field, entity_id))
def query(
    entity: str,
    *,
    name: str | None = None,
    version: int = 1,
    entity_id: str | None = None,
    rejects: Sequence[type[Rejection]] = (),
) -> Callable[[type[Q]], type[Q]]:
    """Declares a class of queries: like `command`, over `Query[R]`."""
    scope = caller_scope()

    def declare(cls: type[Q]) -> type[Q]:
        return _declare(
            cls, Query, scope, entity=entity, name=name, version=version, id_field=entity_id, rejects=rejects
        )

    return declare


@overload
def info_of(subject: type[Command[Any]]) -> CommandInfo: ...
@overload
def info_of(subject: Command[Any]) -> CommandInfo: ...
def info_of(subject: object) -> CommandInfo:
    """Returns what the declaration of a command or its class says.

    Raises:
        NotRegistered: The class has no `@command` or `@query` of its own.
    """
    cls: type[Any] = subject if isinstance(subject, type) else type(subject)
    info: CommandInfo | None = getattr(cls, "__trioqueue__", None)
    if info is None or info.cls is not cls:
        raise NotRegistered(f"The class {cls.__qualname__}", "decorate it with @command or @query")
    return info


def entity_of(command: Command[Any]) -> Entity:
    """Returns the entity a command is for.

    Raises:
        NotRegistered: Its class has no declaration.
        BadEntityId: The value of its id field cannot be one.
    """
    info = info_of(command)
    return Entity(info.entity, entity_id_text(getattr(command, info.id_field)))


def _declare(
    cls: type[C],
    base: type[Command[Any]],
    scope: Scope,
    *,
    entity: str,
    name: str | None,
    version: int,
    id_field: str | None,
    rejects: Sequence[type[Rejection]],
) -> type[C]:
    _refuse_wrong_base(cls, base)
    entity_type = legal_entity_type(entity)
    wire_name = legal_command_name(_snake_case(cls.__name__) if name is None else name)
    if type(version) is not int or version < 1:
        raise BadDeclaration(
            f"{cls.__qualname__} has version={version!r}: versions are whole numbers from 1 on."
        )
    refused = tuple(rejects)
    for rejection in refused:
        if not (isinstance(rejection, type) and issubclass(rejection, Rejection)):  # type: ignore[redundant-expr]  # pyright: ignore[reportUnnecessaryIsInstance]
            raise BadDeclaration(f"{cls.__qualname__} rejects {rejection!r}: list classes over Rejection.")
    frozen = _frozen(cls)
    refuse_mutable_defaults(frozen)
    for declared in (frozen, *refused):
        resolve_fields(declared, scope)
    frozen.__trioqueue__ = CommandInfo(
        cls=frozen,
        entity=entity_type,
        name=wire_name,
        version=version,
        id_field=_id_field(frozen, id_field),
        rejects=refused,
        is_query=base is Query,
        reply=LateType(_reply_of(frozen), scope, f"The reply type of {cls.__qualname__}"),
    )
    return frozen


def _refuse_wrong_base(cls: object, base: type[Command[Any]]) -> None:
    decorator = "query" if base is Query else "command"
    if not (isinstance(cls, type) and issubclass(cls, Command)):
        shown = str(getattr(cls, "__qualname__", cls))  # pyright: ignore[reportUnknownArgumentType]
        raise BadDeclaration(
            f"{shown} is not a {base.__name__}: write `class {shown}({base.__name__}[Reply])`."
        )
    if issubclass(cls, Query) and base is not Query:
        raise BadDeclaration(f"{cls.__qualname__} is a Query: use @query, or the base Command.")
    if not issubclass(cls, base):
        raise BadDeclaration(
            f"{cls.__qualname__} is a Command and has @{decorator}: use @command, or the base Query."
        )


def _frozen(cls: type[C]) -> type[C]:
    if "__attrs_attrs__" not in cls.__dict__:
        return attrs.frozen(cls)
    if not attrs.inspect(cls).is_frozen:
        raise BadDeclaration(f"{cls.__qualname__} is mutable: use @attrs.frozen, or leave attrs to @command.")
    return cls


def _id_field(cls: type[Any], named: str | None) -> str:
    fields = attrs.fields_dict(cls)
    marked = [name for name, field in fields.items() if _ENTITY_ID in field.metadata]
    if named is not None:
        if named not in fields:
            raise BadDeclaration(
                f"{cls.__qualname__} has no field {named!r}: name one of its fields in entity_id=."
            )
        marked = list(dict.fromkeys([*marked, named]))
    if not marked:
        raise BadDeclaration(
            f"{cls.__qualname__} does not say which entity it is for: "
            "give one field `= entity_id()`, or name it in entity_id=."
        )
    if len(marked) > 1:
        raise BadDeclaration(
            f"{cls.__qualname__} has the entity ids {', '.join(marked)}: a command is for one entity."
        )
    return marked[0]


def _snake_case(name: str) -> str:
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return parted.strip("_").lower()


def _reply_of(cls: type[Any]) -> Any:
    """Finds R in the bases, through generic classes in between, with their parameters put in."""
    bases: tuple[Any, ...] = cls.__dict__.get("__orig_bases__", cls.__bases__)
    for base in bases:
        origin: Any = get_origin(base) or base
        args = get_args(base)
        if origin in (Command, Query):
            reply: Any = args[0] if args else NoneType
        elif isinstance(origin, type) and issubclass(origin, Command):
            inner = cast("type[Any]", origin)
            reply = _reply_of(inner)
            parameters: tuple[Any, ...] = getattr(reply, "__parameters__", ())
            given: dict[Any, Any] = dict(zip(getattr(inner, "__parameters__", ()), args, strict=False))
            if isinstance(reply, (TypeVar, DefaultTypeVar)):
                reply = given.get(reply, reply)
            elif parameters and given:
                reply = reply[tuple(given.get(parameter, parameter) for parameter in parameters)]
        else:
            continue
        return NoneType if reply is None or reply is R else reply
    return NoneType
