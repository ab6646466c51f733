"""One process of the demo: a pod with `--pods`, or one of several that race with `--naive`.

Its parent writes questions to its stdin, a line each, and reads a line of JSON for each answer:

    report      {"done": [...], "ended": [...], "created": 20, "passivated": 0}
    race 2      no answer: it begins with its share of phase 2; see `report`

Its first line is {"ready": true}, or {"error": "..."} and the process ends.  It ends as well at SIGTERM, and when its
stdin does: then its parent is gone, however that came about.
"""

import json
import logging
import os
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable

import attrs
import trio

from trioqueue import open_atomic_queues
from trioqueue.cli.demo_orders import POLICIES, Tally, all_orders, registry
from trioqueue.cli.demo_runs import Ask, Report, ask_here, race, report_of
from trioqueue.cli.demo_stock import plain_shelves
from trioqueue.cli.errors import FAILED, INTERRUPTED, told_of
from trioqueue.stores.redis.address import parse_address
from trioqueue.stores.redis.transport import open_transport

URL_VARIABLE = "TRIOQUEUE_URL"
"""Where the URL comes from: not from the command line, which every user of the machine may read."""


@attrs.frozen
class Share:
    """Which process this is, as its command line says.

    Attributes:
        prefix: Of the run's keys.
        number: Of this process, from 0.
        of: How many there are.
        scale: Of the run.
        naive: Whether it races instead of serving.
    """

    prefix: str
    number: int
    of: int
    scale: float
    naive: bool

    def argv(self) -> list[str]:
        """Writes it as a command line."""
        return [self.prefix, str(self.number), str(self.of), str(self.scale), str(int(self.naive))]

    @classmethod
    def from_argv(cls, argv: list[str]) -> "Share":
        """Reads it from a command line."""
        prefix, number, of, scale, naive = argv
        return cls(prefix, int(number), int(of), float(scale), naive == "1")


async def serve_orders(share: Share, url: str) -> None:
    """Serves products until it is told to end."""
    tally = Tally()
    async with (
        open_atomic_queues(
            url,
            registry=registry,
            prefix=share.prefix,
            name=f"{share.prefix}-{share.number}",
            entities=POLICIES,
            provide={Tally: tally},
        ) as queues,
        trio.open_nursery() as nursery,
    ):

        async def answer() -> None:
            await _answer(ask_here(tally, queues), _refuse_race)
            nursery.cancel_scope.cancel()

        nursery.start_soon(answer)
        await queues.serve()
        nursery.cancel_scope.cancel()


async def race_orders(share: Share, url: str) -> None:
    """Carries out its share of the orders without queues until it is told to end; SIGTERM just ends it."""
    tally = Tally()
    orders = all_orders(share.scale)

    async def ask() -> Report:
        await trio.lowlevel.checkpoint()
        return report_of(tally)

    async with open_transport(parse_address(url)) as transport, trio.open_nursery() as nursery:
        shelves = plain_shelves(transport, share.prefix)

        async def begin(phase: int) -> None:
            await trio.lowlevel.checkpoint()
            nursery.start_soon(race, orders[phase][share.number :: share.of], shelves, tally)

        await _answer(ask, begin)
        nursery.cancel_scope.cancel()


async def _refuse_race(phase: int) -> None:
    raise AssertionError(f"asked to race phase {phase}, and this process serves")


async def _answer(ask: Ask, begin: Callable[[int], Awaitable[None]]) -> None:
    """Answers the parent until its end of stdin closes."""
    _say({"ready": True})
    async for line in read_lines(trio.lowlevel.FdStream(os.dup(sys.stdin.fileno()))):
        word, _, phase = line.partition(" ")
        if word == "report":
            _say(attrs.asdict(await ask()))
        else:
            await begin(int(phase))


async def read_lines(stream: trio.abc.ReceiveStream) -> AsyncGenerator[str, None]:
    """Yields each line of a stream, without its end, until the stream ends."""
    kept = b""
    async for chunk in stream:
        *lines, kept = (kept + bytes(chunk)).split(b"\n")
        for line in lines:
            yield line.decode()


def _say(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Runs one process of the demo and returns its exit code."""
    # The parent warns of what is wrong with the store, once.
    logging.getLogger("trioqueue").setLevel(logging.ERROR)
    share = Share.from_argv(sys.argv[1:])
    try:
        trio.run(race_orders if share.naive else serve_orders, share, os.environ[URL_VARIABLE])
    except BaseException as error:
        told = told_of(error)
        if told is None:
            raise
        if told[1] != INTERRUPTED:
            _say({"error": told[0]})
            return FAILED
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
