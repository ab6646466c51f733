"""A pod of one release of a bank, in a process of its own: `python -m rollout.old_bank SETTINGS`."""

import json
import logging
import sys
from typing import Any

import trio

from trioqueue import Drain, EntityPolicy, Lease, Registry, open_atomic_queues

LEASE = Lease(ttl=1.0, heartbeat=0.25, grace=0.5)


async def serve(registry: Registry, settings: dict[str, Any]) -> None:
    async with open_atomic_queues(
        settings["url"],
        registry=registry,
        name=settings["name"],
        lease=LEASE,
        drain=Drain(soft=3.0, hard=1.0),
        entities={"account": EntityPolicy(**settings["policy"])},
    ) as queues:
        print("ready", flush=True)
        await queues.serve()


def main(registry: Registry) -> None:
    logging.basicConfig(level=logging.WARNING)
    trio.run(serve, registry, json.loads(sys.argv[1]))
