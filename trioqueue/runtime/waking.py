"""Telling, by the log and by instruments, that an entity is awake in this pod, or is no more."""

import logging

from trioqueue._names import Entity
from trioqueue.runtime.instruments import Instruments

logger = logging.getLogger("trioqueue.worker")


def tell_awake(instruments: Instruments, entity: Entity, pod: str) -> None:
    """Tells that a worker has begun with an entity."""
    if logger.isEnabledFor(logging.DEBUG):  # else what it says is not even made
        logger.debug("%s is awake", entity, extra={"event": "claimed", "entity": str(entity), "pod": pod})
    if instruments.active:
        instruments.claimed(entity)


def tell_asleep(instruments: Instruments, entity: Entity, pod: str, *, idle: bool) -> None:
    """Tells that a worker has let go of an entity; `idle`: as it had no work."""
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug(
            "%s is let go of%s",
            entity,
            ", as it was idle" if idle else "",
            extra={"event": "let_go", "entity": str(entity), "pod": pod, "idle": idle},
        )
    if instruments.active:
        (instruments.passivated if idle else instruments.handed_off)(entity)
