"""A sender of the benchmarks in a process of its own: `python -m benchmarks.sender URL COMMANDS`.

It says that it is ready, begins when it is told a line, and says when all is accepted, with the processor time it took.
"""

import logging
import random
import sys
import time

import trio

from benchmarks.processes import say, serve_parent
from benchmarks.workloads import Touch, fill
from trioqueue import open_atomic_queues

ENTITIES = 200


async def main(url: str, commands: int) -> None:
    dice = random.Random()
    async with open_atomic_queues(url) as queues:
        say("ready")
        if not await trio.to_thread.run_sync(sys.stdin.readline):
            return  # the parent has gone
        serve_parent()
        began = time.process_time()
        await fill(queues, lambda _: Touch(f"any-{dice.randrange(ENTITIES)}"), commands=commands)
        say(f"done {time.process_time() - began}")
        await trio.sleep_forever()


if __name__ == "__main__":
    logging.getLogger("trioqueue").setLevel(logging.ERROR)
    trio.run(main, sys.argv[1], int(sys.argv[2]))
