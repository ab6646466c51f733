"""A command made of what was typed: `amount=80 note=thanks tags:='["a"]'`.

Where its class is known, each field becomes what the class declares.  Elsewhere a class is made for it, and the fields
are sent as they were given.
"""

import json
import keyword
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn, get_args, get_origin

import attrs
import click

from trioqueue import BadEntityId, Codec, Command, DecodeError, Entity, Registry, command
from trioqueue._names import entity_id_text
from trioqueue.messages.command import CommandInfo
from trioqueue.messages.raw import WILDCARD, RawCommand

NOTHING = object()
"""In place of what a text is as JSON, where it is none."""


@attrs.frozen
class Field:
    """A field as it was typed.

    Attributes:
        name: Its name.
        text: What stands behind the sign.
        as_json: Whether the sign was `:=`, so that the text must be JSON.
    """

    name: str
    text: str
    as_json: bool = False

    def __str__(self) -> str:
        return f"{self.name}{':' if self.as_json else ''}={self.text}"

    def json(self) -> Any:
        """Reads the text as JSON; `NOTHING`: it is none."""
        try:
            return json.loads(self.text, parse_constant=_refuse)
        except (ValueError, RecursionError):
            return NOTHING

    def guessed(self) -> Any:
        """Reads the text as JSON if it is that, else takes it as it is."""
        value = self.json()
        return self.text if value is NOTHING else value


class FieldParameter(click.ParamType[Field]):
    """A field of a command: `amount=80`, or `tags:=["a"]` for what must be JSON."""

    name = "field"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Field:
        """Parts it."""
        if isinstance(value, Field):
            return value
        name, sign, text = str(value).partition("=")
        as_json, name = name.endswith(":"), name.removesuffix(":")
        if not sign or not _legal(name):
            self.fail(
                f"{value!r} is no field: write its name, = and its value, as amount=80, "
                "or := before what must be JSON.",
                param,
                ctx,
            )
        field = Field(name, text, as_json)
        if as_json and field.json() is NOTHING:
            self.fail(
                f'what {field} gives is no JSON: a text is "…" in JSON, or follows a single =.', param, ctx
            )
        return field


FIELD = FieldParameter()


def command_of(
    entity: Entity,
    name: str,
    fields: Sequence[Field],
    *,
    registry: Registry | None,
    where: str,
    codec: Codec,
    id_field: str | None,
) -> Command[Any]:
    """Makes the command.

    Args:
        entity: Whom it is for.
        name: Its wire name.
        fields: As they were typed.
        registry: Where it is declared; None: nobody says.
        where: What that registry is called.
        codec: Knows how values travel.
        id_field: The field that holds the entity's id, where no class says it.

    Raises:
        click.UsageError: What there is, and what to write.
    """
    given = {field.name: field for field in fields}
    for field in fields:
        if given[field.name] is not field:
            raise click.UsageError(
                f"{field.name} is given twice, as {field} and {given[field.name]}: leave one out."
            )
    info = None if registry is None else _declared(registry, entity.type, name, where)
    if info is None:
        return _undeclared(entity, name, given, id_field)
    if id_field not in (None, info.id_field):
        raise click.UsageError(f"{_full(info)} says itself which field is the id: leave --id-field out.")
    return _built(info, _values(info, entity, given, codec))


def _declared(registry: Registry, entity_type: str, name: str, where: str) -> CommandInfo | None:
    """Finds the class of a command; None: it is handled, and has none."""
    registry.freeze()
    handler = registry.handler(entity_type, name)
    if handler is not None:
        return None if handler.info.cls is RawCommand else handler.info
    if registry.handler(entity_type, WILDCARD) is not None:
        return None
    if entity_type not in registry.types():
        there = ", ".join(sorted(registry.types())) or "nothing"
        raise click.UsageError(f"{where} handles nothing of {entity_type!r}: it handles {there}.")
    there = ", ".join(sorted(info.name for info in registry.commands_of(entity_type)))
    raise click.UsageError(f"{entity_type} has no command {name!r} in {where}: it has {there}.")


# ------------------------------------------------------------------------ with its class
def _values(info: CommandInfo, entity: Entity, given: dict[str, Field], codec: Codec) -> dict[str, Any]:
    """Turns the fields into values of the types that the class declares."""
    codec.decoder(info.cls)  # gives annotations that are text their meaning
    declared = {field.name: field for field in attrs.fields(info.cls) if field.init}
    for name, field in given.items():
        if name not in declared:
            raise click.UsageError(f"{_full(info)} has no field {name!r}: {_fields(info, declared)}.")
        if name == info.id_field and str(field.guessed()) != entity.id and field.text != entity.id:
            raise click.UsageError(f"{field} is not {entity}: leave it out, as the entity says it.")
    given[info.id_field] = Field(info.id_field, entity.id)
    missing = [
        name for name, field in declared.items() if field.default is attrs.NOTHING and name not in given
    ]
    if missing:
        raise click.UsageError(f"{_full(info)} needs {', '.join(missing)} too: {_fields(info, declared)}.")
    values = {
        declared[name].alias: _value(field, declared[name].type, codec) for name, field in given.items()
    }
    if (canonical := entity_id_text(values[declared[info.id_field].alias])) != entity.id:
        raise click.UsageError(f"{entity} is not how its id is written: write {entity.type}/{canonical}.")
    return values


def _value(field: Field, declared: Any, codec: Codec) -> Any:
    """Gives a field's value: text where text is declared, else JSON, or text that the type can read, as a date."""
    readings: list[Any] = [field.json()]
    if not field.as_json:
        readings = [field.text] if _bare(declared) is str else [*readings, field.text]
    refused: list[str] = []
    for reading in readings:
        if reading is NOTHING:
            continue
        try:
            return codec.structure(reading, declared)
        except DecodeError as error:
            refused.append(error.reason.removesuffix(" @ it"))
    why = refused[0]
    if readings[0] is NOTHING and field.text[:1] in ("[", "{", '"'):
        why = "it is no JSON"
    raise click.UsageError(f"{field} does not fit {field.name}: {_shown(declared)} ({why}).")


def _bare(declared: Any) -> Any:
    """Gives the type that is meant, without a NewType's name and what is annotated."""
    while True:
        if get_origin(declared) is Annotated:
            declared = get_args(declared)[0]
        elif (inner := getattr(declared, "__supertype__", None)) is not None:
            declared = inner
        else:
            return declared


def _built(info: CommandInfo, values: dict[str, Any]) -> Command[Any]:
    try:
        made: Command[Any] = info.cls(**values)
    except Exception as error:  # of its validators and converters, which are the user's
        raise click.UsageError(f"{_full(info)} refuses that: {error}.") from error
    return made


def _full(info: CommandInfo) -> str:
    return f"{info.name} of {info.entity}"


def _fields(info: CommandInfo, declared: dict[str, Any]) -> str:
    """Says what there is."""
    told = [
        f"{name}: {_shown(field.type)}{'' if field.default is attrs.NOTHING else ' (may be left out)'}"
        for name, field in declared.items()
        if name != info.id_field
    ]
    return f"it takes {', '.join(told)}" if told else f"it takes none, as {info.id_field} is the entity's id"


def _shown(declared: Any) -> str:
    declared = _bare(declared)
    if isinstance(declared, type) and get_origin(declared) is None:
        return declared.__name__
    return str(declared).replace("typing.", "")


# ------------------------------------------------------------------------ without
def _undeclared(entity: Entity, name: str, given: dict[str, Field], id_field: str | None) -> Command[Any]:
    """Makes a class for the fields, and of it the command."""
    id_field = id_field or _id_field(entity, given)
    if not _legal(id_field):
        raise click.UsageError(
            f"{id_field!r} is no name of a field: write one that Python allows, as account_id."
        )
    field = given.get(id_field) or Field(id_field, entity.id)
    if not _is_id(entity, field):
        raise click.UsageError(f"{field} is not {entity}: leave it out, as the entity says it.")
    values = {one: field.guessed() for one, field in given.items()}
    # Most ids are declared as text, also those that look like a number: one of another type is given with :=.
    values[id_field] = field.json() if field.as_json else entity.id
    anything: Any = Any
    names: dict[str, Any] = {
        one: attrs.field(type=anything, alias=f"field_{at}") for at, one in enumerate(values)
    }
    made: type[Any] = attrs.make_class("Sent", names, bases=(Command[Any],), frozen=True, slots=True)
    declared: type[Any] = command(entity.type, name=name, entity_id=id_field)(made)
    sent: Command[Any] = declared(**{f"field_{at}": value for at, value in enumerate(values.values())})
    return sent


def _id_field(entity: Entity, given: dict[str, Field]) -> str:
    found = [name for name, field in given.items() if _is_id(entity, field)]
    if len(found) == 1:
        return found[0]
    if found:
        raise click.UsageError(
            f"{' and '.join(found)} are both {entity.id}: say with --id-field which one is the id of {entity}, "
            "or give --app."
        )
    raise click.UsageError(
        f"No field says that this is for {entity}: give --app, where the command is declared, "
        f"or name the field of the id, as --id-field {_identifier(entity.type)}_id."
    )


def _is_id(entity: Entity, field: Field) -> bool:
    if not field.as_json and field.text == entity.id:
        return True
    try:
        return entity_id_text(field.guessed()) == entity.id
    except BadEntityId:
        return False


def _identifier(entity_type: str) -> str:
    return "".join(one if one.isalnum() else "_" for one in entity_type)


def _legal(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name) and not name.startswith("__")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
