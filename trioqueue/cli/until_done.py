"""Serving only until there is nothing to do, as in CI or by cron."""

from collections.abc import Collection

import trio

from trioqueue import AtomicQueues, Pod
from trioqueue.cli.pod_end import Ending

LANES = 1000
"""Lanes that are looked at first; where these are not all, ten times as many."""

LOOKS = (0.05, 1.0)
"""Seconds between two looks: the first, and the longest."""


async def until_done(queues: AtomicQueues, pod: Pod) -> Ending:
    """Waits until no mailbox of a pod's types has a command that anybody may handle.

    What an operator holds back is not waited for, nor what is put off.
    """
    pause, longest = LOOKS
    empty = 0
    # Twice: lanes are read in pieces, and one that goes from waiting to a pod meanwhile is seen in neither.
    while empty < 2:
        empty = 0 if await _has_work(queues, pod.types) else empty + 1
        await trio.sleep(pause)
        pause = min(pause * 1.5, longest)
    return Ending(f"no command for {', '.join(pod.types)} is left")


async def _has_work(queues: AtomicQueues, types: Collection[str]) -> bool:
    counted = await queues.statistics()
    if counted.with_work == counted.held:
        return False
    count = LANES
    while True:
        found = await queues.lanes(count=count)
        waiting = {
            lane.entity_type: lane
            for lane in found.lanes
            if lane.entity_type in types and lane.mode != "paused"
        }
        for entity_type, lane in waiting.items():
            # Entities of a type that is paused are owned or ready, as they were before.
            if not (await queues.inspect(entity_type, lane.entity_id)).type_paused:
                return True
        if found.whole:
            return False
        count *= 10
