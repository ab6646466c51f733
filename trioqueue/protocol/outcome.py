"""What became of a command: the answer that travels back to whoever waits for it."""

import enum
from typing import Any

import attrs


class Kind(enum.StrEnum):
    """How a command left its mailbox."""

    DONE = "done"
    REJECTED = "rejected"
    DEAD = "dead"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


WORDS = {kind: kind.value for kind in Kind}
"""The plain text of each; to ask a member for its value takes as long as ten of these."""


@attrs.frozen
class Outcome:
    """The final outcome of one command.

    `value` is the encoded reply of a command that is done, the fields of a rejection, the error text of a dead
    one, else None.  `name` names the rejection's class; `traceback` is only there for a dead command.
    """

    kind: Kind
    value: Any = attrs.field(default=None, repr=False)  # a payload is not for logs
    name: str = ""
    traceback: str = attrs.field(default="", repr=False)

    def to_wire(self) -> dict[str, Any]:
        """Gives the outcome as builtins; empty parts are left out."""
        wire: dict[str, Any] = {"k": WORDS[self.kind]}
        if self.value is not None:
            wire["v"] = self.value
        if self.name:
            wire["n"] = self.name
        if self.traceback:
            wire["t"] = self.traceback
        return wire

    @classmethod
    def from_wire(cls, wire: Any) -> "Outcome":
        """Reads an outcome back; raises ValueError for what `to_wire` can't have made."""
        match wire:
            case {"k": str(kind), **rest}:
                return cls(Kind(kind), rest.get("v"), str(rest.get("n", "")), str(rest.get("t", "")))
            case _:
                raise ValueError("it is not an object with a kind")


DONE = Outcome(Kind.DONE)
"""Of a command whose reply nobody asks for, or that has none."""
