"""A pod whose devices a scaler keeps awake, in a process of its own.

    python device_pod.py SETTINGS

It writes a line for each device that comes awake or falls asleep, and for each run of the scaler.
"""

import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import trio
from faults.history import Log
from faults.shelf_pod import LEASE, say_ready

from trioqueue import Command, Context, Entity, EntityPolicy, Registry, command, entity_id, open_atomic_queues

EVERY = 0.5
registry = Registry()


@command("device")
class Ask(Command):
    device_id: str = entity_id()


class Wanted(list[str]):
    """Ids of the devices that are to be awake."""


@registry.activation("device")
@asynccontextmanager
async def awake(entity: Entity, log: Log) -> AsyncGenerator[None]:
    log.write(what="awake", device=entity.id)
    try:
        yield
    finally:
        log.write(what="asleep", device=entity.id)


@registry.handles(Ask)
async def ask(command: Ask, context: Context) -> None:
    pass


@registry.scaler("device", every=EVERY)
async def wanted(ids: Wanted, log: Log) -> AsyncGenerator[str]:
    log.write(what="run")
    for one in ids:
        yield one


async def main(settings: dict[str, Any]) -> None:
    log = Log(settings["log"])
    async with (
        open_atomic_queues(
            settings["url"],
            registry=registry,
            provide={Log: log, Wanted: Wanted(settings["wanted"])},
            name=settings["name"],
            lease=LEASE,
            entities={"device": EntityPolicy(idle_timeout=1.0)},
        ) as queues,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(say_ready)
        await queues.serve()


if __name__ == "__main__":
    trio.run(main, json.loads(sys.argv[1]))
