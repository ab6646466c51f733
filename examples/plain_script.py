"""A plain script on threads, without Trio, that sells seats: the concerts are served by a pod in another process.

python examples/plain_script.py pod redis://localhost:6379    # in one terminal, as often as you like
python examples/plain_script.py redis://localhost:6379        # in another one
"""

import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import attrs
import trio

from trioqueue import Command, Registry, Rejection, command, entity_id, open_atomic_queues, state
from trioqueue.blocking import Sender, open_sender

registry = Registry()

# The prefix keeps these concerts apart from whatever else is on the same Redis.
PREFIX = "example-plain"

ORDER = f"order-{uuid.uuid4()}"


@state("concert")
class Concert:
    seats: int = 0


@attrs.define
class SoldOut(Rejection):
    left: int


@command("concert")
class Announce(Command):
    concert_id: str = entity_id()
    seats: int


@command("concert", rejects=[SoldOut])
class Reserve(Command[int]):
    concert_id: str = entity_id()
    seats: int


@registry.handles(Announce)
async def announce(command: Announce, concert: Concert) -> None:
    concert.seats = command.seats


@registry.handles(Reserve)
async def reserve(command: Reserve, concert: Concert) -> int:
    if concert.seats < command.seats:
        raise SoldOut(concert.seats)
    concert.seats -= command.seats
    return concert.seats


async def pod(url: str) -> None:
    async with open_atomic_queues(url, registry=registry, prefix=PREFIX) as queues:
        await queues.serve()  # until SIGTERM or Ctrl-C


def sell(sender: Sender, order: int) -> bool:
    """Is run in a thread: it waits for the answer of the concert, wherever that is served."""
    try:
        sender.call(Reserve("opera", 1), timeout=20)
    except SoldOut:
        return False
    return True


def script(url: str) -> None:
    # One sender for all threads.
    with open_sender(url, prefix=PREFIX) as sender:
        # Accepted both or none; the concerts need not be awake, and no pod need run yet.
        sender.send_many([Announce("opera", 100), Announce("jazz", 10)])

        with ThreadPoolExecutor(8) as threads:
            sold = list(threads.map(partial(sell, sender), range(120)))
        print(f"opera: {sum(sold)} sold, {len(sold) - sum(sold)} came too late")

        # Whoever is not sure whether a first try went through tries again with the same key.
        tries = [sender.call(Reserve("jazz", 4), timeout=20, key=ORDER) for _ in range(3)]
        print(f"jazz: one order, tried three times, leaves {tries}")

        # Nobody waits for this one.
        sender.send(Reserve("jazz", 6))
        try:
            sender.call(Reserve("jazz", 1), timeout=20)
        except SoldOut as no:
            print(f"jazz: {no.left} left")


if __name__ == "__main__":
    if sys.argv[1] == "pod":
        trio.run(pod, sys.argv[2])
    else:
        script(sys.argv[1])
