"""One process of the bank: an HTTP server and a pod that serves accounts, in one Trio run."""

import argparse
import logging
from functools import partial
from typing import cast

import trio
from hypercorn.config import Config
from hypercorn.trio import serve  # pyright: ignore[reportUnknownVariableType]
from hypercorn.typing import ASGIFramework

from trioqueue import Limits, open_atomic_queues

from .app import make_app
from .commands import registry
from .farewell import Farewell


async def main(url: str, bind: str, patience: float) -> None:
    config = Config()
    config.bind = [bind]
    config.graceful_timeout = patience  # at the end: as long as a request may take
    config.errorlog = logging.getLogger("hypercorn.error")  # to where all else is logged
    # Below the patience of a request, so that it learns what the store's silence means for it.
    limits = Limits(unanswered=patience / 2)
    async with (
        open_atomic_queues(url, registry=registry, prefix="example-bank", limits=limits) as queues,
        trio.open_nursery() as nursery,
    ):
        app = Farewell(make_app(queues, patience), config)

        async def wait_for_end() -> None:
            await queues.serve()  # returns at SIGTERM or SIGINT
            await app.say()

        # At the end no connection is accepted any more, requests that are under way are answered, and the nursery ends;
        # then, with the block of the queues, their handlers end, and accounts are handed to the other processes.
        asgi = cast("ASGIFramework", app)  # Starlette and Hypercorn have types of their own for it
        server = partial(serve, asgi, config, shutdown_trigger=wait_for_end)
        print(*await nursery.start(server), flush=True)  # its addresses, once it listens


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="bank_service", description=__doc__)
    parser.add_argument("--url", default="memory://", help="of the store (default: %(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="to listen on (default: %(default)s)")
    parser.add_argument("--port", default=8000, type=int, help="to listen on; 0: any that is free")
    parser.add_argument("--patience", default=5.0, type=float, help="seconds that a request may take")
    options = parser.parse_args()
    trio.run(main, options.url, f"{options.host}:{options.port}", options.patience)
