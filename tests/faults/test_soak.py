"""Four pods, two senders, two hundred entities, and something breaks about twice a second.

TRIOQUEUE_SOAK_SECONDS says for how long, TRIOQUEUE_SOAK_SEED how.  All its numbers go to the report of the run.
"""

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import randrange

import trio
from faults.chaos import ENTITIES, PODS, SENDERS, Chaos, send_for
from faults.checker import SLACK
from faults.lab import open_lab
from faults.shelf_pod import LEASE
from redis_servers import RedisServer

SECONDS = float(os.environ.get("TRIOQUEUE_SOAK_SECONDS", "60"))
SETTLES_WITHIN = 30.0
"""Seconds for what the senders were ahead of the pods; how fast each entity healed is judged apart."""


async def test_a_fleet_keeps_its_promises_while_everything_breaks(
    redis_server: RedisServer, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    seed = int(os.environ.get("TRIOQUEUE_SOAK_SEED", randrange(10**6)))
    async with open_lab(redis_server, tmp_path) as lab:
        chaos, links = Chaos(lab, seed), Counter[str]()
        await chaos.start()
        async with trio.open_nursery() as watch:
            watch.start_soon(lab.look_at_owners)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(chaos.run, SECONDS)
                for number in range(SENDERS):
                    nursery.start_soon(send_for, lab, await lab.proxy(), number, SECONDS, links, seed)
            await lab.settle(SETTLES_WITHIN)
            watch.cancel_scope.cancel()
        dead = (await lab.sender.statistics()).dead
        verdict = await lab.verdict()
        with redis_server.client() as client:
            keys = Counter(
                key.decode().removeprefix(lab.harness.keys.tag).partition(":")[0]
                for key in client.scan_iter(match=f"{lab.harness.keys.tag}*", count=1000)
            )
        report = {
            "seconds": SECONDS,
            "seed": seed,
            "pods": PODS,
            "senders": SENDERS,
            "entities": ENTITIES,
            "faults": dict(sorted((chaos.fired + links).items())),
            "dead": dead,
            **verdict.numbers(),
            "heals_within": LEASE.ttl + LEASE.grace + LEASE.heartbeat + SLACK,
            "keys_left": dict(sorted(keys.items())),
            "problems": verdict.problems(),
        }
        print(json.dumps(report, indent=2))
        for name, value in report.items():
            record_property(name, value)
        verdict.assert_clean(confirmed=round(30 * SECONDS))
        assert dead == 0
        for kind in ("kill", "freeze", "freeze past the lease", "term", "restart"):
            assert chaos.fired[kind] >= SECONDS / 30, report["faults"]
        assert links["sender kill"] >= SECONDS / 30, report["faults"]
        assert links.total() - links["sender kill"] >= SECONDS / 10, report["faults"]
