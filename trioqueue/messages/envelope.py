"""What travels for a command: its payload, and what must be known to handle and answer it.

The entity is not in it: the mailbox an envelope lies in says which it is.  Members that are empty are left out, and
unknown ones ignored, so that pods of neighbouring releases read each other's envelopes.

| member | is |
|---|---|
| `i` | command id |
| `n`, `v` | wire name and version of the command; version 1 is left out |
| `p` | payload: its fields, as builtins |
| `r` | where the reply is awaited |
| `d` | milliseconds from acceptance to the deadline |
| `c` | entities whose calls wait for this one |
| `h` | headers of the user |
| `s` | name of the pod or sender it came from |
| `k` | milliseconds that its outcome is kept |
"""

import math
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from .._errors import DecodeError, EncodeError
from .._names import Entity
from .codec import Codec

NOTHING: Mapping[str, Any] = MappingProxyType({})
"""Is what a command without fields or headers has of them."""

LONGEST_KEPT_MS = 2**53
"""No release writes a longer `k`.  The store would refuse it in the middle of a commit, which then stood by halves."""


class Envelope(NamedTuple):
    """Is one command on its way.

    Attributes:
        command_id: Names the command for good, also through its retries.
        entity: Whom it is for.
        name: The wire name of the command.
        version: Of the payload's fields.
        payload: The fields as builtins.
        reply_to: Where the reply is awaited; None: nobody waits.
        deadline: Seconds from the acceptance to the deadline; None: no hurry.  It travels as a duration, because
            clocks of two pods are not to be compared, in whole milliseconds, rounded up.
        chain: The entities, as `account/42`, whose handlers wait for this command; first caller first.
        headers: Of the user, for tracing and the like.
        sent_by: Name of the pod or sender.
        keep_ms: How long its outcome is kept for whoever asks, beside the caller who waits; in milliseconds.
    """

    command_id: str
    entity: Entity
    name: str
    version: int = 1
    payload: Mapping[str, Any] = NOTHING
    reply_to: str | None = None
    deadline: float | None = None
    chain: tuple[str, ...] = ()
    headers: Mapping[str, str] = NOTHING
    sent_by: str = ""
    keep_ms: int = 0

    def __repr__(self) -> str:
        return f"<Envelope {self.command_id}, {self.name} for {self.entity}>"  # the rest is not for logs


def plain_envelope(
    codec: Codec, command_id: str, name: str, version: int, payload: Mapping[str, Any]
) -> bytes:
    """Writes an envelope that has nothing else, as most have nothing else: the same bytes as `encode_envelope`.

    Raises:
        EncodeError: A value in the payload cannot travel.
    """
    members: dict[str, Any] = {"i": command_id, "n": name}
    if version != 1:
        members["v"] = version
    if payload:
        members["p"] = payload
    return codec.dumps(members)


def encode_envelope(codec: Codec, envelope: Envelope) -> bytes:
    """Writes an envelope, without its entity.

    Raises:
        EncodeError: A value in the payload or the headers cannot travel.
    """
    members: dict[str, Any] = {"i": envelope.command_id, "n": envelope.name}
    if envelope.version != 1:
        members["v"] = envelope.version
    if envelope.payload:
        members["p"] = envelope.payload
    if envelope.reply_to is not None:
        members["r"] = envelope.reply_to
    if envelope.deadline is not None:
        if not math.isfinite(envelope.deadline):
            raise EncodeError(f"the deadline {envelope.deadline} is not a finite number of seconds")
        members["d"] = max(0, math.ceil(round(envelope.deadline * 1000, 3)))
    if envelope.chain:
        members["c"] = envelope.chain
    if envelope.headers:
        members["h"] = dict(envelope.headers)
    if envelope.sent_by:
        members["s"] = envelope.sent_by
    if envelope.keep_ms:
        members["k"] = envelope.keep_ms
    return codec.dumps(members)


def beginning_of(codec: Codec, command_id: str) -> bytes:
    """Gives the bytes that the envelope of this command begins with, and no other's."""
    return codec.dumps({"i": command_id})[:-1]


_BEGINNING = re.compile(rb'\{"i":"(?:[^"\\]|\\.)*","n":("(?:[^"\\]|\\.)*")')


def name_in(codec: Codec, beginning: bytes) -> str:
    """Reads the command's name from what an envelope begins with.

    Raises:
        DecodeError: It is not there.
    """
    found = _BEGINNING.match(beginning)
    if found is None:
        raise DecodeError("the envelope does not begin with the command's id and name", beginning)
    return str(codec.loads(found[1]))


def decode_envelope(codec: Codec, entity: Entity, data: bytes) -> Envelope:
    """Reads the envelope that lay in an entity's mailbox.

    Raises:
        DecodeError: The bytes are not an envelope; nothing else, whatever they are.
    """
    members: Any = codec.loads(data)
    if members.__class__ is not dict:
        raise DecodeError("the envelope is not a JSON object", data)
    # Read as Any and checked by __class__: this is done for every command, and each cast() is a call.
    get = members.get
    command_id: Any = get("i")
    name: Any = get("n")
    payload: Any = get("p", {})
    if command_id.__class__ is not str or not command_id:
        wrong = "i, the command id, is not a string"
    elif name.__class__ is not str or not name:
        wrong = "n, the command's name, is not a string"
    elif payload.__class__ is not dict:
        wrong = "p, the payload, is not an object"
    elif len(members) == 3 and "p" in members:  # there is nothing else, as in most
        return Envelope(command_id, entity, name, 1, payload)
    else:
        version: Any = get("v", 1)
        reply_to: Any = get("r")
        deadline_ms: Any = get("d")
        chain: Any = get("c", [])
        headers: Any = get("h", {})
        sent_by: Any = get("s", "")
        keep_ms: Any = get("k", 0)
        if version.__class__ is not int or version < 1:
            wrong = "v, the version, is not a positive int"
        elif reply_to is not None and reply_to.__class__ is not str:
            wrong = "r, where the reply is awaited, is not a string"
        elif deadline_ms is not None and (deadline_ms.__class__ is not int or deadline_ms < 0):
            wrong = "d, the milliseconds to the deadline, is not a non-negative int"
        elif chain.__class__ is not list or (chain and not _all_strings(chain)):
            wrong = "c, the waiting callers, is not a list of strings"
        elif headers.__class__ is not dict or (headers and not _all_strings(headers.values())):
            wrong = "h, the headers, is not an object of strings"
        elif sent_by.__class__ is not str:
            wrong = "s, the sender, is not a string"
        elif keep_ms.__class__ is not int or not 0 <= keep_ms <= LONGEST_KEPT_MS:
            wrong = "k, the milliseconds its outcome is kept, is not an int of 0 to 2**53"
        else:
            deadline = None if deadline_ms is None else deadline_ms / 1000
            return Envelope(
                command_id,
                entity,
                name,
                version,
                payload,
                reply_to,
                deadline,
                tuple(chain),
                headers,
                sent_by,
                keep_ms,
            )
    raise DecodeError(f"of the envelope, {wrong}", data)


def _all_strings(values: Iterable[Any]) -> bool:
    return all(value.__class__ is str for value in values)
