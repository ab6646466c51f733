"""A pod of the benchmarks in a process of its own."""

import sys

import trio

from benchmarks.workloads import POLICIES, registry
from trioqueue import open_atomic_queues


async def main(url: str) -> None:
    async with open_atomic_queues(url, registry=registry, entities=POLICIES) as queues:
        print("ready", flush=True)
        await queues.serve()


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
