"""Runs the benchmarks on a redis-server of their own and prints the table.

Every figure is a ratio to something measured in the same run, several times, in turn: on a shared machine absolute
figures don't hold.  `--json FILE` keeps everything; `--rounds N` says how often.
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import redis as redis_py
import trio

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from redis_servers import RedisServer

from benchmarks import workloads
from benchmarks.floor import floor
from benchmarks.workloads import POLICIES, Count, registry
from trioqueue import open_atomic_queues

BARS = {
    "hot, commit each / B1": (0.50, ">="),
    "hot, commit group / B16": (0.50, ">="),
    "seed, commit each / B16": (0.20, ">="),
    "seed, commit group / B16": (0.35, ">="),
    "wide / B16": (0.10, ">="),
    "call own pod warm p50, trips": (5, "<="),
    "call other pod warm p50, trips": (8, "<="),
    "call other pod cold p50, trips": (10, "<="),
    "call own pod warm p99 / p50": (4, "<="),
    "Redis us a command, hot": (14, "<="),
    "Redis us a command, hot group": (4, "<="),
    "Redis us a command, cold with state": (28, "<="),
    "KiB an awake entity": (8, "<="),
}
"""The design's bars: what is measured, the bar, and on which side of it is good."""


def redis_cpu(client: "redis_py.Redis") -> float:
    """Reads the seconds of processor time that the server has used."""
    cpu = client.info("cpu")
    return float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])


async def measure(server: RedisServer, rounds: int) -> dict[str, list[float]]:
    """Measures everything `rounds` times, in turn."""
    found: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        found.setdefault(name, []).append(value)

    client = server.client()

    async def cpu_of(work: Callable[[], Awaitable[float]], commands: int) -> tuple[float, float]:
        before = redis_cpu(client)
        rate = await work()
        return rate, (redis_cpu(client) - before) / commands * 1e6

    for turn in range(rounds):
        before = redis_cpu(client)
        b1 = await floor("127.0.0.1", server.port, batch=1)
        floor_us = (redis_cpu(client) - before) / 5000 * 1e6
        note("Redis us a command, floor B1", floor_us)
        b16 = await floor("127.0.0.1", server.port, batch=16)
        note("B1, commands/s", b1)
        note("B16, commands/s", b16)
        client.flushall()
        async with open_atomic_queues(server.url, registry=registry, entities=POLICIES) as queues:
            trip = (await workloads.trips(queues)).p50
            note("trip, us", trip)
            await workloads.hot(queues, commands=1000)
            rate, cpu = await cpu_of(lambda: workloads.hot(queues), 5000)
            note("hot, commands/s", rate)
            note("hot, commit each / B1", rate / b1)
            note("Redis us a command, hot", cpu)
            note("Redis us a command, hot / floor B1", cpu / floor_us)
            group, cpu = await cpu_of(lambda: workloads.hot(queues, Count), 5000)
            note("hot, commit group / B16", group / b16)
            note("Redis us a command, hot group", cpu)
            note("seed, commit group / B16", await workloads.seed(queues, Count) / b16)
            rate = await workloads.seed(queues)
            note("seed, commands/s", rate)
            note("seed, commit each / B16", rate / b16)
            memory = _resident()
            rate, cpu = await cpu_of(lambda turn=turn: workloads.wide(queues, name=f"w{turn}"), 10_000)
            note("wide, commands/s", rate)
            note("wide / B16", rate / b16)
            note("Redis us a command, wide", cpu)
            note("KiB an awake entity", (_resident() - memory) / 10_000 / 1024)
            rate, cpu = await cpu_of(
                lambda turn=turn: workloads.stocked(queues, entities=2000, name=f"s{turn}"), 2000
            )
            note("Redis us a command, cold with state", cpu)
        async with open_atomic_queues(server.url, registry=registry, entities=POLICIES) as queues:
            warm = await workloads.warm_calls(queues)
            cold = await workloads.cold_calls(queues, name=f"c{turn}")
            trip = (await workloads.trips(queues)).p50
            note("call own pod warm p50, trips", warm.p50 / trip)
            note("call own pod warm p50, us", warm.p50)
            note("call own pod warm p99 / p50", warm.p99 / warm.p50)
            note("call own pod cold p50, trips", cold.p50 / trip)
        await other_pod(server.url, note, turn)
    return found


async def other_pod(url: str, note: Callable[[str, float], None], turn: int) -> None:
    """Calls to a pod in another process."""
    process = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-m", "benchmarks.pod", url], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        await trio.to_thread.run_sync(process.stdout.readline)
        async with open_atomic_queues(url) as queues:
            warm = await workloads.warm_calls(queues)
            cold = await workloads.cold_calls(queues, name=f"o{turn}")
            trip = (await workloads.trips(queues)).p50
            note("call other pod warm p50, trips", warm.p50 / trip)
            note("call other pod warm p50, us", warm.p50)
            note("call other pod warm p99 / p50", warm.p99 / warm.p50)
            note("call other pod cold p50, trips", cold.p50 / trip)
    finally:
        process.terminate()
        await trio.to_thread.run_sync(process.wait)


def _resident() -> int:
    with Path("/proc/self/statm").open() as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def table(found: dict[str, list[float]]) -> str:
    """Lays the medians out beside their bars."""
    lines = [f"{'':<40}{'median':>12}{'low':>12}{'high':>12}{'bar':>10}"]
    for name, values in found.items():
        bar = ""
        if name in BARS:
            limit, side = BARS[name]
            middle = statistics.median(values)
            good = middle >= limit if side == ">=" else middle <= limit
            bar = f"{side} {limit:g}{' ok' if good else ''}"
        shown = [statistics.median(values), min(values), max(values)]
        cells = "".join(f"{v:>12,.0f}" if v >= 1000 else f"{v:>12.3g}" for v in shown)
        lines.append(f"{name:<40}{cells}{bar:>10}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with RedisServer() as server:
        version = str(server.client().info("server")["redis_version"])
        print(
            f"Python {platform.python_version()}, trio {trio.__version__}, Redis {version}, {platform.machine()}"
        )
        found = trio.run(measure, server, options.rounds)
    print(table(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
