"""What an entity takes while it is there: memory in its pod and in Redis, and no requests."""

import gc
import time
import tracemalloc
from collections import Counter
from pathlib import Path

import redis as redis_py
import trio

from benchmarks.measuring import Measuring
from benchmarks.workloads import Handled, open_pod, stocked, wide


async def awake(measuring: Measuring) -> None:
    """Memory of a pod's process, at its highest, while it handles a first command for each of many entities.

    It is what the operating system counts (VmHWM), with all that allocators keep.  The process is a fresh one, as
    memory that earlier work has left would be used again and not be seen; a few entities first bring in what is needed
    once.  Linux only.
    """
    entities = measuring.size(10_000, 200)
    handled = Handled()
    async with open_pod(measuring.url, handled) as queues:
        await wide(queues, handled, entities=300, name="first")
        gc.collect()
        before = _status("VmRSS")
        await wide(queues, handled, entities=entities)
        measuring.note("entity, awake", "KiB", max(_status("VmHWM") - before, 0) / entities)


async def parked(measuring: Measuring, *, stateful: bool) -> None:
    """Memory of an entity that is owned and has nothing to do: in its pod, by what Python has allocated, and in Redis.

    tracemalloc sees neither what allocators keep nor what the system has put aside, so the figure is what an entity
    holds.  Once entities are let go, Redis keeps their states, and nothing else of them.
    """
    first, entities = 300, measuring.size(10_000, 1000)
    kind, what = (stocked, "entity with state") if stateful else (wide, "entity")
    handled = Handled()
    async with open_pod(measuring.url, handled):
        pass  # what a deployment has in Redis, whatever its entities
    nobody = _redis_bytes(measuring)
    async with open_pod(measuring.url, handled) as queues:
        one_pod = _redis_bytes(measuring)
        await kind(queues, handled, entities=first, name="first")
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        await kind(queues, handled, entities=entities)
        gc.collect()
        held = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        measuring.note(f"{what}, parked", "KiB", held / entities / 1024)
        in_redis = (_redis_bytes(measuring) - one_pod) / (first + entities)
        measuring.note(f"{what}, parked", "bytes in Redis", in_redis)
    if stateful:
        in_redis = (_redis_bytes(measuring) - nobody) / (first + entities)
        measuring.note(f"{what}, released", "bytes in Redis", in_redis)


async def idle(measuring: Measuring) -> None:
    """Requests of a pod whose entities rest, seen by MONITOR: none but the heartbeat's, which has its own connection.

    What speaks while the pod has no entity yet is the heartbeat; what others say later, is said for the entities.
    """
    entities, seconds = measuring.size(10_000, 200), measuring.size(5, 1)
    handled = Handled()
    async with open_pod(measuring.url, handled) as queues:
        heartbeat = set((await _requests(measuring.url, seconds))[0])
        await wide(queues, handled, entities=entities)
        await _requests(
            measuring.url, 1
        )  # a heartbeat that began among the work may find something to look at
        requests, listened = await _requests(measuring.url, seconds)
        beats = sum(count for connection, count in requests.items() if connection in heartbeat)
        others = sum(requests.values()) - beats
        measuring.note("parked entities", "heartbeat requests/s", beats / listened)
        measuring.note("parked entities", "other requests/s", others / listened)


async def _requests(url: str, seconds: float) -> tuple[Counter[str], float]:
    """Counts what each connection asks for some seconds, and for how many it was; what scripts do is not asked."""

    def listen() -> tuple[Counter[str], float]:
        found: Counter[str] = Counter()
        began = time.monotonic()
        with redis_py.Redis.from_url(url) as client, client.monitor() as monitor:
            # The end is noticed when somebody asks something: at the next heartbeat.
            while time.monotonic() < began + seconds:
                said = monitor.next_command()
                if said["client_type"] != "lua":
                    found[f"{said['client_address']}:{said['client_port']}"] += 1
        return found, time.monotonic() - began

    return await trio.to_thread.run_sync(listen)


def _redis_bytes(measuring: Measuring) -> int:
    return int(measuring.redis.info("memory")["used_memory"])


def _status(name: str) -> int:
    """Reads a line of this process's status, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
