"""Which strings may name things: entity types, entity ids, commands, key prefixes, pods.

Entity types, command names, prefixes and pod names are the programmer's: a small alphabet that needs no quoting in
keys, logs or a shell.  Entity ids are the world's: anything printable, because they come from other systems.
"""

import re
from typing import NamedTuple, NewType
from uuid import UUID

from ._errors import BadDeclaration, BadEntityId

EntityType = NewType("EntityType", str)
EntityId = NewType("EntityId", str)
CommandName = NewType("CommandName", str)
Prefix = NewType("Prefix", str)
PodName = NewType("PodName", str)

MAX_NAME = 64
"""Characters of an entity type, prefix or pod name; they are repeated in every key and line of log."""

MAX_COMMAND_NAME = 128
"""Characters of a command's wire name: room for a class name in snake_case with its module's before it."""

MAX_ENTITY_ID = 512
"""Bytes of an entity id in UTF-8; it is part of keys, where length costs memory for each entity."""

_ENTITY_TYPE = re.compile(r"[a-z][a-z0-9_.-]*", re.ASCII)
_COMMAND_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]*", re.ASCII)
_PLAIN = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)
# C0, DEL and C1, and the two Unicode line ends that some tools take for a new line.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class Entity(NamedTuple):
    """Names the thing that commands are addressed to: its type and its id, both legal.

    It is a tuple because it is a dictionary key several times a command: making, hashing and comparing one happen
    in C.  `str()` gives `account/42`; a type has no slash in it, so no two entities have the same text.
    """

    type: str
    id: str

    def __str__(self) -> str:
        return f"{self.type}/{self.id}"


def legal_entity_type(text: object) -> EntityType:
    """Returns an entity type, or raises `BadDeclaration` with what is legal."""
    return EntityType(_legal(text, "entity type", _ENTITY_TYPE, MAX_NAME, "a-z first, then a-z 0-9 _ . -"))


def legal_command_name(text: object) -> CommandName:
    """Returns the wire name of a command, or raises `BadDeclaration` with what is legal."""
    allowed = "a letter first, then A-Z a-z 0-9 _ . : -"
    return CommandName(_legal(text, "command name", _COMMAND_NAME, MAX_COMMAND_NAME, allowed))


def legal_prefix(text: object) -> Prefix:
    """Returns a prefix of store keys, or raises `BadDeclaration` with what is legal.

    Braces are excluded because Redis Cluster would take what is between them for the hash tag.
    """
    return Prefix(_legal(text, "prefix", _PLAIN, MAX_NAME, "A-Z a-z 0-9 _ . -"))


def legal_pod_name(text: object) -> PodName:
    """Returns the name of a pod, or raises `BadDeclaration` with what is legal; host names are."""
    return PodName(_legal(text, "pod name", _PLAIN, MAX_NAME, "A-Z a-z 0-9 _ . -"))


def _legal(text: object, kind: str, pattern: re.Pattern[str], longest: int, allowed: str) -> str:
    if isinstance(text, str) and len(text) <= longest and pattern.fullmatch(text):
        return str(text)
    shown = repr(text) if len(repr(text)) <= 2 * MAX_NAME else repr(text)[: 2 * MAX_NAME] + "..."
    raise BadDeclaration(f"{shown} is no legal {kind}: use 1 to {longest} characters, {allowed}.")


def entity_id_text(value: object) -> EntityId:
    """Returns the canonical text of an entity id: 42 and "42" are the same entity.

    Args:
        value: A str of 1 to 512 bytes in UTF-8, an int, or a UUID (its text is lower case with hyphens).

    Raises:
        BadEntityId: Of another type, empty, too long, or with characters that a log or key would not survive.
    """
    if type(value) is str:
        text = value
    elif isinstance(value, bool):
        raise BadEntityId(value, "is a bool, which is nobody's name: use a str, int or UUID")
    elif isinstance(value, int):
        # A digit is less than 4 bits.  Python itself refuses to write ints of more than 4300 digits.
        if value.bit_length() > 4 * MAX_ENTITY_ID:
            raise BadEntityId(
                f"int of {value.bit_length()} bits", f"has more than {MAX_ENTITY_ID} digits: shorten it"
            )
        text = int.__repr__(value)
    elif isinstance(value, UUID):
        return EntityId(str(value))
    elif isinstance(value, str):
        text = str.__str__(value)
    else:
        raise BadEntityId(value, f"is of type {type(value).__name__}: use a str, int or UUID")
    # The common case without encoding or regular expression: printable ASCII is one byte a character.
    if text.isascii() and text.isprintable() and 0 < len(text) <= MAX_ENTITY_ID:
        return EntityId(text)
    return _checked_text(text)


def _checked_text(text: str) -> EntityId:
    if not text:
        raise BadEntityId(text, "is empty: give the entity a name")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise BadEntityId(text, "has a lone surrogate, which is not text: decode it properly first") from None
    if size > MAX_ENTITY_ID:
        raise BadEntityId(
            text, f"takes {size} bytes of UTF-8, at most {MAX_ENTITY_ID} are legal: use a hash of it"
        )
    if found := _CONTROL.search(text):
        raise BadEntityId(text, f"has the control character U+{ord(found[0]):04X}: remove or replace it")
    return EntityId(text)
