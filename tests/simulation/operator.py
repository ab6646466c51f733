"""Somebody who looks after a fleet: pauses, purges, takes up dead letters, and cancels what was sent."""

import contextlib
from random import Random

import trio

from trioqueue import AtomicQueues

from .workload import GIVES_UP, Workload

DOES = (
    "pause",
    "pause",
    "hold",
    "purge",
    "redeliver",
    "redeliver",
    "redeliver",
    "cancel",
    "cancel",
    "cancel",
)


class Operator:
    """One of them; `run` does one thing after another until it is cancelled."""

    def __init__(self, workload: Workload, queues: AtomicQueues, dice: Random, pause: float) -> None:
        self._workload, self._queues, self._dice, self._pause = workload, queues, dice, pause

    async def run(self) -> None:
        """Children: what goes on beside the next thing."""
        async with trio.open_nursery() as nursery:
            while True:
                await trio.sleep(self._dice.expovariate(1 / self._pause))
                nursery.start_soon(self._do, self._dice.choice(DOES))

    async def _do(self, what: str) -> None:
        with contextlib.suppress(GIVES_UP):  # then what it asked may have been done or not
            await self._ask(what)

    async def _ask(self, what: str) -> None:
        queues, dice, ledger = self._queues, self._dice, self._workload.ledger()
        match what:
            case "pause":
                await queues.pause("ledger", ledger)
                await trio.sleep(dice.expovariate(1))
                await queues.resume("ledger", ledger)
            case "hold":
                await queues.pause("ledger")
                await trio.sleep(dice.expovariate(2))
                await queues.resume("ledger")
            case "purge":
                await queues.purge("ledger", ledger)
            case "redeliver":
                letters = await queues.dead_letters("ledger")
                for letter in dice.sample(letters, min(len(letters), 2)):
                    if dice.random() < 0.2:
                        await queues.discard(letter)
                    else:
                        await queues.redeliver(letter, to=dice.choice(["head", "tail"]))
            case _:
                await self._workload.send_and_cancel(queues, dice)
