"""A pod in a process of its own, to be frozen, or to see Redis restart: `python -m cli.lamp_pod SETTINGS`."""

import json
import sys
from typing import Any

import trio
from lamps import Lamp, Switch

from trioqueue import Lease, Registry, open_atomic_queues

registry = Registry()


@registry.handles(Switch)
async def switch(command: Switch, lamp: Lamp) -> int:
    await trio.sleep(command.seconds)
    lamp.log.append(command.what)
    return len(lamp.log)


async def serve(settings: dict[str, Any]) -> None:
    lease = Lease(**settings["lease"])
    async with open_atomic_queues(
        settings["url"], registry=registry, name=settings["name"], lease=lease
    ) as queues:
        print("ready", flush=True)
        await queues.serve()


if __name__ == "__main__":
    trio.run(serve, json.loads(sys.argv[1]))
