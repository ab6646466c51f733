"""A pod of the fault tests, in a process of its own.

    python shelf_pod.py URL LOG

It serves shelves, and writes one JSON line to LOG for everything a checker wants to know: handlers' starts and ends
with their fence, and lost leases.  The clock is CLOCK_MONOTONIC, one for all processes of a machine.
"""

import json
import logging
import os
import sys
import time
from random import uniform

import attrs
import trio

from trioqueue import (
    Command,
    Context,
    Drain,
    EntityPolicy,
    Lease,
    Registry,
    command,
    entity_id,
    open_atomic_queues,
    state,
)

LEASE = Lease(ttl=1.0, heartbeat=0.25, grace=0.5, stall_limit=3.0)
registry = Registry()


@state("shelf")
class Shelf:
    stock: int = 100_000
    applied: list[int] = attrs.field(factory=list)


@command("shelf")
class Take(Command[int]):
    shelf_id: str = entity_id()
    number: int
    quantity: int
    seconds: float = 0.0


class Log:
    """Lines that are whole whatever happens to the process: one write each, opened for appending."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(self, **line: object) -> None:
        os.write(self._file, json.dumps({"at": time.monotonic(), **line}).encode() + b"\n")


class LeaseEvents(logging.Handler):
    def __init__(self, log: Log) -> None:
        super().__init__(logging.INFO)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        event = getattr(record, "event", None)
        if event is not None:
            self._log.write(what=event, text=record.getMessage())


@registry.handles(Take)
async def take(command: Take, shelf: Shelf, context: Context, log: Log) -> int:
    log.write(
        what="start",
        shelf=command.shelf_id,
        number=command.number,
        fence=context.fence,
        attempt=context.attempt,
    )
    await trio.sleep(command.seconds or uniform(0.001, 0.004))
    shelf.stock -= command.quantity
    shelf.applied.append(command.number)
    log.write(what="end", shelf=command.shelf_id, number=command.number, fence=context.fence)
    return shelf.stock


async def main(url: str, path: str) -> None:
    log = Log(path)
    logger = logging.getLogger("trioqueue")
    logger.setLevel(logging.INFO)
    logger.addHandler(LeaseEvents(log))
    async with open_atomic_queues(
        url,
        registry=registry,
        provide={Log: log},
        lease=LEASE,
        drain=Drain(soft=3.0, hard=1.0),
        entities={"shelf": EntityPolicy(idle_timeout=2.0)},
    ) as queues:
        print("ready", flush=True)
        await queues.serve()


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
