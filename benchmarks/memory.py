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


async def parked(measuring: Measuring) -> None:
    """Memory of an entity that is owned and has nothing to do: in its pod, by what Python has allocated, and in Redis.

    tracemalloc sees neither what allocators keep nor what the system has put aside, so the figure is what an entity
    holds.  The entities have a state; once they are let go, Redis keeps that, and nothing else of them.
    """
    first, entities = 300, measuring.size(10_000, 1000)
    handled = Handled()
    async with open_pod(measuring.url, handled):
        pass  # what a deployment has in Redis, whatever its entities
    nobody = _redis_bytes(measuring)
    async with open_pod(measuring.url, handled) as queues:
        one_pod = _redis_bytes(measuring)
        await stocked(queues, handled, entities=first, name="first")
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        await stocked(queues, handled, entities=entities)
        gc.collect()
        held = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        measuring.note("entity, parked", "KiB", held / entities / 1024)
        in_redis = (_redis_bytes(measuring) - one_pod) / (first + entities)
        measuring.note("entity, parked, with state", "bytes in Redis", in_redis)
    in_redis = (_redis_bytes(measuring) - nobody) / (first + entities)
    measuring.note("entity, released, with state", "bytes in Redis", in_redis)


async def idle(measuring: Measuring) -> None:
    """Requests of a pod whose entities rest, seen by MONITOR: none but the heartbeat's, which has its own connection.

    What speaks while the pod has no entity yet is the heartbeat; what others say later, is said for the entities.
    """
    entities, seconds = measuring.size(10_000, 200), measuring.size(5, 2)
    handled = Handled()
    async with open_pod(measuring.url, handled) as queues:
        heartbeat = set(await _requests(measuring.url, seconds))
        await wide(queues, handled, entities=entities)
        requests = await _requests(measuring.url, seconds)
        beats = sum(count for connection, count in requests.items() if connection in heartbeat)
        others = sum(requests.values()) - beats
        assert heartbeat, "no heartbeat was seen"
        measuring.note("parked entities", "heartbeat requests/s", beats / seconds)
        measuring.note("parked entities", "other requests/s", others / seconds)


async def _requests(url: str, seconds: float) -> Counter[str]:
    """Counts what each connection asks for some seconds; what scripts do inside is not asked."""

    def listen() -> Counter[str]:
        found: Counter[str] = Counter()
        ends = time.monotonic() + seconds
        with redis_py.Redis.from_url(url) as client, client.monitor() as monitor:
            # A heartbeat comes each second, so the end is noticed.
            while (said := monitor.next_command()) and time.monotonic() < ends:
                if said["client_type"] != "lua":
                    found[f"{said['client_address']}:{said['client_port']}"] += 1
        return found

    return await trio.to_thread.run_sync(listen)


def _redis_bytes(measuring: Measuring) -> int:
    return int(measuring.redis.info("memory")["used_memory"])


def _status(name: str) -> int:
    """Reads a line of this process's status, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
