"""A pod of the fault tests: the shelves it serves, and the program that does so in a process of its own.

    python shelf_pod.py SETTINGS

It writes one line for everything that a checker wants to know: handlers' starts and ends with their fence, lost leases,
and what it sent itself.
"""

import json
import logging
import os
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from random import uniform
from typing import Any

import attrs
import trio
from faults.effects import EffectsOfPod
from faults.history import EventLog, Log
from faults.mutants import mutate

from trioqueue import (
    AtomicQueues,
    Command,
    Context,
    Drain,
    EntityPolicy,
    Lease,
    Registry,
    Retry,
    command,
    entity_id,
    open_atomic_queues,
    state,
)

LEASE = Lease(ttl=1.0, heartbeat=0.25, grace=0.5, stall_limit=3.0)
RETRY = Retry(attempts=4, wait_first=0.02, factor=1.5, jitter=False)
registry = Registry()


@state("shelf")
class Shelf:
    stock: int = 100_000
    applied: list[int] = attrs.field(factory=list)


@command("shelf")
class Take(Command[int]):
    """`deed` is what its handler does beside its work; see `misbehave`."""

    shelf_id: str = entity_id()
    number: int
    quantity: int = 1
    seconds: float = 0.0
    deed: str = ""


@state("echo")
class Echoes:
    applied: list[int] = attrs.field(factory=list)


@command("echo")
class Echo(Command):
    shelf_id: str = entity_id()
    number: int


@command("shelf")
class Odd(Command[int]):
    """Its handler answers what can't be encoded."""

    shelf_id: str = entity_id()
    number: int


class StaleFence(Exception):
    """The effect store has seen a higher fence: this handler should not run any more."""


@registry.handles(Take, retry=RETRY)
async def take(command: Take, shelf: Shelf, context: Context, log: Log, effects: EffectsOfPod) -> int:
    turn: dict[str, Any] = {
        "shelf": command.shelf_id,
        "number": command.number,
        "fence": context.fence,
        "attempt": context.attempt,
    }
    log.write(what="start", **turn)
    try:
        if command.deed:
            await misbehave(command, context.attempt, effects.pod)
        else:
            await trio.sleep(command.seconds or uniform(0.0005, 0.002))
        if not await effects.apply(command.shelf_id, command.number, context.fence):
            raise StaleFence
        shelf.stock -= command.quantity
        shelf.applied.append(command.number)
        if command.number % 2 == 0:
            context.send(Echo(command.shelf_id, command.number))
        return shelf.stock
    finally:
        log.write(what="end", **turn)


async def misbehave(command: Take, attempt: int, pod: str) -> None:
    """Does what handlers should not do; what only takes long is done on the pod that is called so, and not again."""
    seconds = command.seconds if pod == "victim" else 0.0
    match command.deed:
        case "slow":
            await trio.sleep(seconds)
        case "block":
            time.sleep(seconds)  # noqa: ASYNC251 - that is the deed
        case "shield":
            with trio.CancelScope(shield=True):
                await trio.sleep(seconds)
        case "swallow":
            ends_at = trio.current_time() + seconds
            while trio.current_time() < ends_at:
                try:
                    await trio.sleep_until(ends_at)
                except trio.Cancelled:
                    time.sleep(0.01)  # noqa: ASYNC251 - else it would burn the processor
        case "thread":
            await trio.to_thread.run_sync(time.sleep, seconds)
        case "fail once":
            if attempt == 1:
                raise OSError("the first attempt fails")
        case "fail":
            raise OSError("every attempt fails")
        case "exit":
            os._exit(7)
        case deed:
            raise AssertionError(deed)


@registry.handles(Odd, retry=RETRY)
async def odd(command: Odd, shelf: Shelf) -> int:
    return object()  # type: ignore[return-value]


@registry.handles(Echo)
async def echo(command: Echo, echoes: Echoes) -> None:
    echoes.applied.append(command.number)


@asynccontextmanager
async def open_pod(
    url: str,
    log: Log,
    effects: EffectsOfPod,
    *,
    name: str,
    prefix: str = "tq",
    idle: float = 2.0,
    stall_limit: float = LEASE.stall_limit,
    max_crashes: int = 3,
) -> AsyncGenerator[AtomicQueues]:
    """Opens a pod that serves shelves, in this process."""
    async with open_atomic_queues(
        url,
        registry=registry,
        provide={Log: log, EffectsOfPod: effects},
        prefix=prefix,
        name=name,
        lease=attrs.evolve(LEASE, stall_limit=stall_limit),
        drain=Drain(soft=3.0, hard=1.0),
        entities={
            "shelf": EntityPolicy(idle_timeout=idle, retry=RETRY, max_crashes=max_crashes),
            "echo": EntityPolicy(idle_timeout=idle),
        },
    ) as queues:
        yield queues


async def send_itself(queues: AtomicQueues, log: Log, shelf: str, count: int) -> None:
    """Sends to a shelf from here, each confirmed before the next."""
    for number in range(count):
        log.write(what="sending", shelf=shelf, number=number)
        await queues.send(Take(shelf, number))
        log.write(what="sent", shelf=shelf, number=number)


async def say_ready() -> None:
    """Tells that this pod may be told to end: its other tasks begin when `serve` waits, which hears of signals then."""
    print("ready", flush=True)


async def main(settings: dict[str, Any]) -> None:
    name = settings["name"]
    log = Log(settings["log"])
    logger = logging.getLogger("trioqueue")
    logger.setLevel(logging.INFO)
    logger.addHandler(EventLog(log))
    effects = EffectsOfPod(name, settings["effects"])
    async with (
        open_pod(settings["url"], log, effects, name=name, **settings["options"]) as queues,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(say_ready)
        if settings["sends"]:
            nursery.start_soon(send_itself, queues, log, f"own-{name}", settings["sends"])
        if settings["does"]:
            from faults.operations import OPERATIONS  # it needs the commands of this module

            nursery.start_soon(OPERATIONS[settings["does"]], queues, log)
        await queues.serve()


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    with mutate(given["mutant"]):
        trio.run(main, given)
