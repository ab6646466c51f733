"""Sending recurring commands: every pod that knows a schedule waits for its ticks, and the store lets one send."""

import logging
from collections.abc import Callable

import trio

from trioqueue._errors import TrioqueueError
from trioqueue.messages.command import entity_of, info_of
from trioqueue.messages.schedule import Schedule
from trioqueue.stores.contract import Outgoing, Store
from trioqueue.stores.reports import Tick

logger = logging.getLogger("trioqueue.pod")

PUNCTUAL_MS = 60_000
"""A tick that is late by no more than this was not missed: pods were restarting, or the store was."""

LOOK_AFTER = 60.0
"""Seconds after which the store's clock is looked at again, however far away the next tick is."""

AGAIN_AFTER = 1.0
"""Seconds until a tick is tried once more, where that failed."""


async def keep(store: Store, schedule: Schedule, encode: Callable[[], Outgoing]) -> None:
    """Sends a schedule's command at its ticks, for ever; times are those of the store's clock."""
    while True:
        try:
            tick = await _move_on(store, schedule, encode)
        except TrioqueueError as error:
            logger.warning(
                "could not send %s: %s",
                schedule.name,
                error,
                extra={
                    "event": "tick_failed",
                    "entity": str(entity_of(schedule.command)),
                    "command": info_of(schedule.command).name,
                    "schedule": schedule.name,
                },
            )
            await trio.sleep(AGAIN_AFTER)
            continue
        if tick.next_ms is not None:
            await trio.sleep(max(0.0, min((tick.next_ms - tick.now_ms) / 1000, LOOK_AFTER)))


async def _move_on(store: Store, schedule: Schedule, encode: Callable[[], Outgoing]) -> Tick:
    """Looks at the schedule, and makes its tick if that is due."""
    outgoing = encode()
    seen = await store.tick(schedule.name, None, None)
    now, due = seen.now_ms, seen.next_ms
    if due is None:  # nobody has heard of this schedule: it begins with the first tick from now on
        return await store.tick(schedule.name, None, schedule.after(now))
    if due > now:
        return seen
    following = schedule.after(due)
    late = following <= now or now - due > PUNCTUAL_MS
    silent = late and schedule.missed == "skip"
    if late and schedule.missed != "all":
        following = schedule.after(now)
    return await store.tick(schedule.name, due, following, None if silent else outgoing)
