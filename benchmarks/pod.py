"""A pod of the benchmarks in a process of its own: `python -m benchmarks.pod URL`."""

import logging
import sys

import trio

from benchmarks.processes import say, serve_parent
from benchmarks.workloads import Handled, open_pod


async def main(url: str) -> None:
    logging.getLogger("trioqueue").setLevel(logging.ERROR)  # our parent knows of this server
    async with open_pod(url, Handled()) as queues:
        say("ready")
        await queues.serve()


if __name__ == "__main__":
    serve_parent()
    trio.run(main, sys.argv[1])
