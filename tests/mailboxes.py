"""Mailboxes and pods as an operator sees them, for tests of what is said of them."""

from typing import Any

from trioqueue import Head, Mailbox, Pod
from trioqueue.protocol.lifecycle import Mode


def box(mode: Mode, pending: int = 0, **seen: Any) -> Mailbox:
    """Makes a mailbox of `lamp/a` with so many commands; those of `head` and `pod` are what stands here."""
    head = Head("switch", "c1", waited=240.0, attempts=0, crashes=0) if pending else None
    usual: dict[str, Any] = {
        "entity_type": "lamp",
        "entity_id": "a",
        "mode": mode.value,
        "pending": pending,
        "head": head,
        "owner": "red" if mode in (Mode.PARKED, Mode.ACTIVE) else None,
        "owner_silent": 0.4 if mode in (Mode.PARKED, Mode.ACTIVE) else None,
        "fence": 1,
        "due_in": None,
        "unknown_for": None,
        "ready_for": 180.0 if mode is Mode.READY else None,
        "paused_for": 300.0 if mode is Mode.PAUSED else None,
        "paused_why": "by an operator" if mode is Mode.PAUSED else "",
        "type_paused": False,
        "type_paused_for": 60.0 if seen.get("type_paused") else None,
        "type_paused_why": "maintenance" if seen.get("type_paused") else "",
        "state_bytes": 0,
    }
    return Mailbox(**{**usual, **seen})


def head(
    attempts: int = 0,
    crashes: int = 0,
    waited: float = 240.0,
    command: str = "switch",
    expires_in: float | None = None,
) -> Head:
    return Head(command, "c1", waited, attempts, crashes, expires_in)


def pod(name: str = "red", *types: str, state: Any = "serving", owned: int = 1, room: int = 100) -> Pod:
    return Pod(name, f"{name}.1", state, types or ("lamp",), owned, 0, room, 0.4)
