"""What a scaler keeps awake, while its pods are killed and told to end: real processes on one Redis."""

import signal
from itertools import pairwise
from pathlib import Path

import pytest
import trio
from faults.device_pod import EVERY
from faults.fleet_processes import FleetProcess, until
from faults.shelf_pod import LEASE
from redis_servers import RedisServer

DEVICES = [f"d{number}" for number in range(40)]
GONE_AFTER = LEASE.ttl + LEASE.grace + LEASE.heartbeat
"""Seconds in which a dead pod's entities are handed on."""


class DevicePod(FleetProcess):
    def __init__(self, url: str, folder: Path, name: str) -> None:
        settings = {"url": url, "name": name, "wanted": DEVICES}
        super().__init__("faults.device_pod", folder / f"{name}.jsonl", settings)

    def awake(self) -> set[str]:
        """Names the devices that are awake on it, or were when it died."""
        awake: set[str] = set()
        for line in self.lines():
            if line["what"] == "awake":
                awake.add(line["device"])
            elif line["what"] == "asleep":
                awake.remove(line["device"])
        return awake

    def runs(self) -> list[float]:
        return [line["at"] for line in self.lines() if line["what"] == "run"]


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
async def test_they_come_awake_elsewhere(
    end: signal.Signals, clean_redis: RedisServer, tmp_path: Path
) -> None:
    pods = [DevicePod(clean_redis.url, tmp_path, name) for name in "ab"]
    first, second = pods
    try:
        await until(lambda: first.awake() | second.awake() == set(DEVICES))
        for pod in pods:
            await pod.wait_ready()
        await trio.sleep(4 * EVERY)
        assert first.awake() | second.awake() == set(DEVICES)
        assert not first.awake() & second.awake()
        runs = sorted(first.runs() + second.runs())
        assert len(runs) >= 4
        assert all(later - former > EVERY / 2 for former, later in pairwise(runs[1:]))
        ends, stays = (first, second) if first.awake() else (second, first)
        ends.signal(end)
        await ends.wait_ended()
        began = trio.current_time()
        await until(lambda: stays.awake() == set(DEVICES))
        took = trio.current_time() - began
        assert took < (GONE_AFTER + 3 * EVERY if end is signal.SIGKILL else GONE_AFTER)
        if end is signal.SIGTERM:
            assert not ends.awake()
        await trio.sleep(3 * EVERY)
        assert stays.awake() == set(DEVICES)
    finally:
        for pod in pods:
            pod.end()
