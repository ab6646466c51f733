"""What a handler gets that knows its commands by name and has no class for them."""

from collections.abc import Mapping
from typing import Any

import attrs

from .._names import CommandName, legal_command_name, legal_entity_type
from .annotations import LateType, Scope
from .command import CommandInfo

WILDCARD = "*"
"""Stands for every name without a handler of its own; no command can be called so."""


@attrs.frozen
class RawCommand:
    """Is a command as it travelled, for handlers that were registered with `Registry.on`.

    It is no `Command`: it is only handled, and can't be sent.

    Attributes:
        entity: The type of the entity that the command is for.
        entity_id: The entity's id, as text.
        name: The wire name of the command.
        payload: The fields as builtins, so `bytes` are base64, for instance; see the types that can travel.
        version: Of the fields, as the sender's class declares it; nothing is lifted to another one.
    """

    entity: str
    entity_id: str
    name: str
    payload: Mapping[str, Any] = attrs.field(repr=False)  # a payload is not for logs
    version: int = 1


def raw_info(entity_type: str, name: str) -> CommandInfo:
    """Returns what stands for the declaration of commands that have none here.

    Raises:
        BadDeclaration: The type, or a name other than the wildcard, is not legal.
    """
    return CommandInfo(
        cls=RawCommand,
        entity=legal_entity_type(entity_type),
        name=CommandName(name) if name == WILDCARD else legal_command_name(name),
        version=1,
        id_field="entity_id",
        rejects=(),
        is_query=False,
        reply=LateType(Any, Scope({}, ()), "The reply to a raw command"),
    )
