"""What a fleet looks like to the live screen, for tests of what it makes of it."""

from typing import Literal

from trioqueue import CommandHandled, Lane, Lanes, Pod, Statistics


def handled(entity_id: str, pod: str = "red", entity_type: str = "lamp") -> CommandHandled:
    return CommandHandled(pod, entity_type, entity_id, "switch", "c-1", "done", 0.01, 0.002)


def lane(
    entity_id: str,
    pending: int = 1,
    waited: float = 0.1,
    mode: Literal["owned", "ready", "paused"] = "owned",
    pod: str | None = "red",
) -> Lane:
    return Lane("lamp", entity_id, mode, pod, pending, "switch", waited)


def pod(name: str, state: Literal["serving", "leaving", "silent"] = "serving", owned: int = 3) -> Pod:
    heard = None if state == "leaving" else 0.4
    return Pod(name, f"{name}.1", state, ("lamp", "fan"), owned, 1, 20_000, heard)


def lanes(*found: Lane, whole: bool = True) -> Lanes:
    return Lanes(found, whole)


def statistics(**counts: int) -> Statistics:
    named = dict.fromkeys(("pods", "owned", "with_work", "ready", "held", "dead", "put_off"), 0)
    return Statistics(**(named | counts), awake=0, activated=0, passivated=0, handled=0, failed=0, buried=0)
