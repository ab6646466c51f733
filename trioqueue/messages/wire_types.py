"""How each kind of type becomes builtins and comes back; the rules are listed at the head of `codec`.

cattrs generates the functions; here stand the types it has no hooks for, and a strict hook wherever its own would
convert: by default it takes `"3"` for an int, and a string for a list of letters.
"""

from collections.abc import Callable, Mapping, MutableMapping, MutableSequence, Sequence, Set
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from cattrs import Converter
from cattrs.cols import (
    homogenous_tuple_structure_factory,
    is_any_set,  # pyright: ignore[reportUnknownVariableType]
    is_namedtuple,
    list_structure_factory,
    mapping_structure_factory,  # pyright: ignore[reportUnknownVariableType]
    namedtuple_structure_factory,  # pyright: ignore[reportUnknownVariableType]
    namedtuple_unstructure_factory,  # pyright: ignore[reportUnknownVariableType]
)
from cattrs.fns import identity
from cattrs.strategies import configure_union_passthrough

from .._errors import BadDeclaration
from .annotations import is_record
from .scalars import SCALARS, UNCHANGED, IntKey, WrongValue, exactly, int_from_key, int_key_text, seen

TAG = "$type"
"""The member that names the class in a union; no attribute can be called so."""

_JSON_SCALARS = (str, int, float, bool, NoneType)

Structure = Callable[[Any, Any], Any]


def new_converter() -> Converter:
    """Returns a converter that knows every type the codec promises."""
    converter = Converter(
        detailed_validation=False,
        unstruct_collection_overrides={tuple: list},
        unstructure_fallback_factory=_cannot_travel,
        structure_fallback_factory=_cannot_travel,
    )
    configure_union_passthrough(Union[str, int, float, bool, None], converter)  # noqa: UP007 - cattrs wants __args__
    _add_scalars(converter)
    _add_collections(converter)
    converter.register_unstructure_hook_func(_is_plain_literal, identity)
    converter.register_structure_hook_factory(_is_plain_literal, _literal)
    converter.register_unstructure_hook_factory(_is_enum, _enum_to_builtins)
    converter.register_structure_hook_factory(_is_enum, _enum_from_builtins)
    converter.register_structure_hook_factory(_is_record, _record)
    converter.register_unstructure_hook_factory(_is_tagged_union, _union_to_builtins)
    converter.register_structure_hook_factory(_is_tagged_union, _union_from_builtins)
    return converter


def _cannot_travel(declared: Any) -> Any:
    name = getattr(declared, "__qualname__", None) or repr(declared)
    raise WrongValue(f"there is no rule for {name}")


def _add_scalars(converter: Converter) -> None:
    for kind in UNCHANGED:
        converter.register_structure_hook(kind, exactly(kind))
        # By identity, because an IntEnum is an int too; for str cattrs has one of its own, asked before predicates.
        if kind is not str:
            converter.register_unstructure_hook_func(lambda t, kind=kind: t is kind, identity)  # type: ignore[misc]
    for scalar in SCALARS:
        converter.register_structure_hook(scalar.kind, _strict(scalar.kind, scalar.from_builtins))
        converter.register_unstructure_hook(scalar.kind, scalar.to_builtins)
    converter.register_structure_hook(IntKey, _strict(IntKey, int_from_key))


def _strict(kind: type[Any], from_builtins: Callable[[Any], Any]) -> Structure:
    """Makes a hook for a class and for its subclasses, which cattrs gives to the same hook."""

    def structure(value: Any, declared: Any) -> Any:
        built = from_builtins(value)
        return built if declared is kind else declared(built)

    return structure


def _add_collections(converter: Converter) -> None:
    def add(predicate: Callable[[Any], bool], factory: Callable[[Any, Converter], Structure]) -> None:
        def checked(declared: Any, current: Converter) -> Structure:
            return _only_for((list, tuple), "a list", factory(declared, current))

        converter.register_structure_hook_factory(predicate, checked)

    add(lambda t: _origin(t) in (list, MutableSequence), list_structure_factory)
    add(
        lambda t: _origin(t) in (tuple, Sequence) and not _is_mixed_tuple(t),
        homogenous_tuple_structure_factory,
    )
    add(_is_mixed_tuple, lambda declared, current: current.gen_structure_hetero_tuple(declared))
    add(is_namedtuple, namedtuple_structure_factory)  # pyright: ignore[reportUnknownArgumentType]
    converter.register_unstructure_hook_factory(is_namedtuple, _named_tuple_to_builtins)
    add(_is_set, _set_from_builtins)
    converter.register_unstructure_hook_factory(_is_set, _set_to_builtins)
    converter.register_structure_hook_factory(_is_dict, _dict_from_builtins)
    converter.register_unstructure_hook_factory(_is_dict, _dict_to_builtins)


def _named_tuple_to_builtins(declared: Any, converter: Converter) -> Callable[[Any], Any]:
    return namedtuple_unstructure_factory(declared, converter, unstructure_to=list)


def _only_for(kinds: tuple[type, ...], word: str, inner: Structure) -> Structure:
    def structure(value: Any, declared: Any) -> Any:
        if type(value) in kinds:
            return inner(value, declared)
        raise WrongValue(f"{seen(value)} is not {word}")

    return structure


def _origin(declared: Any) -> Any:
    return get_origin(declared) or declared


def _is_mixed_tuple(declared: Any) -> bool:
    return get_origin(declared) is tuple and ... not in get_args(declared)


def _is_set(declared: Any) -> bool:
    return is_any_set(declared) or _origin(declared) is Set


def _element(declared: Any) -> Any:
    return next(iter(get_args(declared)), Any)


def _set_to_builtins(declared: Any, converter: Converter) -> Callable[[Any], list[Any]]:
    encode = converter.get_unstructure_hook(_element(declared))

    def unstructure(values: Set[Any]) -> list[Any]:
        builtins = [encode(value) for value in values]
        try:
            return sorted(builtins)
        except TypeError:
            return sorted(builtins, key=repr)

    return unstructure


def _set_from_builtins(declared: Any, converter: Converter) -> Structure:
    element = _element(declared)
    decode = converter.get_structure_hook(element)
    build: Any = set if _origin(declared) is set else frozenset
    return lambda values, _: build([decode(value, element) for value in values])


def _is_dict(declared: Any) -> bool:
    return _origin(declared) in (dict, Mapping, MutableMapping)


def _key_type(declared: Any) -> Any:
    key = next(iter(get_args(declared)), Any)
    return getattr(key, "__supertype__", key)


def _dict_to_builtins(declared: Any, converter: Converter) -> Any:
    key = _key_type(declared)
    write: Callable[..., Any] | None = None
    if key is int:
        write = int_key_text
    elif _is_enum(key):
        write = converter.get_unstructure_hook(key) if not issubclass(key, str) else _enum_value
    return converter.gen_unstructure_mapping(declared, unstructure_to=dict, key_handler=write)


def _dict_from_builtins(declared: Any, converter: Converter) -> Structure:
    if _key_type(declared) is int:
        inner = mapping_structure_factory(declared, converter, key_type=IntKey)
    else:
        inner = mapping_structure_factory(declared, converter)
    return _only_for((dict,), "a dict", inner)


def _is_plain_literal(declared: Any) -> bool:
    return get_origin(declared) is Literal and all(type(arg) in UNCHANGED for arg in get_args(declared))


def _literal(declared: Any, _: Converter) -> Structure:
    legal = get_args(declared)

    def structure(value: Any, _: Any) -> Any:
        # The type too, because 1 == True.
        if any(type(value) is type(arg) and value == arg for arg in legal):
            return value
        raise WrongValue(f"{seen(value)} is none of {', '.join(map(repr, legal))}")

    return structure


def _is_enum(declared: Any) -> bool:
    return isinstance(declared, type) and issubclass(declared, Enum)


def _travels_by_name(enum: type[Enum]) -> bool:
    return not all(isinstance(member.value, _JSON_SCALARS) for member in enum)


def _enum_value(member: Any, _: Any = None) -> Any:
    return member.value


def _enum_to_builtins(declared: type[Enum], _: Converter) -> Callable[[Any], Any]:
    if _travels_by_name(declared):
        return lambda member: member.name
    return _enum_value


def _enum_from_builtins(declared: type[Enum], _: Converter) -> Structure:
    by_name = _travels_by_name(declared)
    kinds: set[type[Any]] = {str} if by_name else {type(member.value) for member in declared}

    def structure(value: Any, _: Any) -> Any:
        try:
            if type(value) in kinds:
                return declared[value] if by_name else declared(value)
        except (KeyError, ValueError):
            pass
        raise WrongValue(f"{seen(value)} is not a {declared.__name__}")

    return structure


def _is_record(declared: Any) -> bool:
    return is_record(_origin(declared))


def _record(declared: Any, converter: Converter) -> Structure:
    return _only_for((dict,), "a dict", converter.gen_structure_attrs_fromdict(declared))


def _members(union: Any) -> list[Any]:
    return [member for member in get_args(union) if member is not NoneType]


def _is_tagged_union(declared: Any) -> bool:
    if get_origin(declared) not in (Union, UnionType):
        return False
    members = _members(declared)
    # A class or None needs no tag; cattrs does it.
    return len(members) > 1 and any(_is_record(member) for member in members)


def _tagged(union: Any) -> tuple[dict[str, Any], list[Any]]:
    """Parts the members of a union into classes by tag, and the others."""
    classes: dict[str, Any] = {}
    others: list[Any] = []
    for member in get_args(union):
        if not _is_record(member):
            others.append(member)
        elif (tag := _origin(member).__name__) in classes:
            raise BadDeclaration(f"Two classes of the union {union} are called {tag}: rename one.")
        else:
            classes[tag] = member
    return classes, others


def _union_to_builtins(declared: Any, converter: Converter) -> Callable[[Any], Any]:
    classes, _ = _tagged(declared)
    tags = {_origin(member): (tag, member) for tag, member in classes.items()}

    # Hooks are looked up when a value comes: a union may be part of its own members.
    def unstructure(value: Any) -> Any:
        found = tags.get(type(value))
        if found is None:
            if _is_record(type(value)):
                raise WrongValue(f"{type(value).__name__} is not in the union {declared}")
            return converter.unstructure(value)
        tag, member = found
        return {TAG: tag, **converter.get_unstructure_hook(member)(value)}

    return unstructure


def _union_from_builtins(declared: Any, converter: Converter) -> Structure:
    classes, others = _tagged(declared)
    rest: Any = Union[tuple(others)] if others else None  # noqa: UP007 - built at run time

    def structure(value: Any, _: Any) -> Any:
        tag: Any = value.get(TAG) if value.__class__ is dict else None
        member = classes.get(tag) if tag.__class__ is str else None
        if member is not None:
            return converter.get_structure_hook(member)(value, member)
        if not others or tag is not None:
            raise WrongValue(f"{seen(value)} has no {TAG!r} of {', '.join(classes)}")
        return converter.get_structure_hook(rest)(value, rest)

    return structure
