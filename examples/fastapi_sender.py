"""A web service on asyncio, with FastAPI, in front of entities that a pod on Trio serves in another process.

python examples/fastapi_sender.py pod redis://localhost:6379          # in one terminal, as often as you like
python examples/fastapi_sender.py redis://localhost:6379 8000         # in another one

curl -X POST 'localhost:8000/concerts/opera/seats?seats=2'
"""

import asyncio
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import attrs
import trio
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from trioqueue import (
    BadEntityId,
    Command,
    DeadlineExceeded,
    OutcomeUnknown,
    Registry,
    Rejection,
    StoreFull,
    StoreUnavailable,
    command,
    entity_id,
    open_atomic_queues,
    state,
)
from trioqueue.blocking import Sender, open_sender

registry = Registry()

# The prefix keeps these concerts apart from whatever else is on the same Redis.
PREFIX = "example-fastapi"

PATIENCE = 5.0
"""Seconds that a request may take."""

STATUS: dict[type[Exception], tuple[int, str]] = {
    BadEntityId: (404, "no concert can have this name"),
    StoreFull: (503, "nothing was done: ask again"),
    StoreUnavailable: (503, "nothing was done: ask again"),
    DeadlineExceeded: (504, "perhaps it was done: look before you ask again"),
    OutcomeUnknown: (504, "perhaps it was done: look before you ask again"),
}


@state("concert")
class Concert:
    seats: int = 100


@attrs.define
class SoldOut(Rejection):
    left: int


@command("concert", rejects=[SoldOut])
class Reserve(Command[int]):
    concert_id: str = entity_id()
    seats: int


@registry.handles(Reserve)
async def reserve(command: Reserve, concert: Concert) -> int:
    if concert.seats < command.seats:
        raise SoldOut(concert.seats)
    concert.seats -= command.seats
    return concert.seats


def make_app(url: str) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[dict[str, Sender]]:
        # Opened in the process that serves: also with several workers each has one of its own.
        sender = await asyncio.to_thread(open_sender, url, prefix=PREFIX)
        try:
            yield {"sender": sender}
        finally:
            await asyncio.to_thread(sender.close)

    app = FastAPI(lifespan=lifespan)

    # A plain `def`: FastAPI runs it in a thread, so the event loop goes on while it waits.
    @app.post("/concerts/{concert}/seats")
    def reserve_seats(concert: str, seats: int, request: Request) -> dict[str, int]:
        sender: Sender = request.state.sender
        return {"left": sender.call(Reserve(concert, seats), timeout=PATIENCE)}

    # In an `async def`, a thread has to be asked for.
    @app.post("/concerts/{concert}/wishes", status_code=202)
    async def wish_for_seats(concert: str, seats: int, request: Request) -> dict[str, str]:
        sender: Sender = request.state.sender
        receipt = await asyncio.to_thread(sender.send, Reserve(concert, seats))
        return {"command_id": receipt.command_id}

    @app.exception_handler(SoldOut)
    def sold_out(request: Request, no: SoldOut) -> JSONResponse:
        return JSONResponse({"error": "sold out", "left": no.left}, 409)

    def explain(request: Request, error: Exception) -> JSONResponse:
        status, reason = STATUS[type(error)]
        return JSONResponse({"error": reason}, status)

    for kind in STATUS:
        app.add_exception_handler(kind, explain)
    return app


async def pod(url: str) -> None:
    async with open_atomic_queues(url, registry=registry, prefix=PREFIX) as queues:
        await queues.serve()  # until SIGTERM or Ctrl-C


def web(url: str, port: int) -> None:
    listening = socket.create_server(("127.0.0.1", port))
    print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    config = uvicorn.Config(make_app(url), log_level="warning")
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    if sys.argv[1] == "pod":
        trio.run(pod, sys.argv[2])
    else:
        web(sys.argv[1], int(sys.argv[2]))
