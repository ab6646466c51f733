"""The orders of the demo: which ones there are, and how one is carried out, with queues and without."""

import random
import time
from collections.abc import Sequence
from typing import Protocol

import attrs
import trio

from trioqueue import Command, EntityPolicy, Registry, command, entity_id, state

PRODUCTS = tuple(f"product-{number:02}" for number in range(1, 21))
"""The entities; twenty, so that two of them are as rarely alone as in a shop with a few best sellers."""

FIRST_STOCK = 10_000
"""Pieces of each product at first: more than are ordered, so that every order counts."""

MOST_PIECES = 16
"""Pieces of one order at most."""

WAVE = 200
"""Orders that come at once in the first phase."""

IDLE = 1.0
"""Seconds after which a worker ends: short, since the demo waits for all of them before its last phase."""

POLICIES = {"product": EntityPolicy(idle_timeout=IDLE)}


@attrs.frozen
class Phase:
    """A part of the run.

    Attributes:
        name: How its orders come, for the table.
        naive_name: The same without queues, where nothing drains and no worker is ever cold.
        orders: How many, at full scale.
    """

    name: str
    naive_name: str
    orders: int


PHASES = (
    Phase(f"in waves of {WAVE}", f"in waves of {WAVE}", 10_000),
    Phase("while those still drain", "some more waves", 1_000),
    Phase("one by one, each answered", "one by one", 300),
    Phase("at once, all workers gone", "some more waves", 1_000),
)
"""The run; the numbers are those of the run that this kind of framework is known by."""


@state("product")
class Stock:
    """What is there of one product."""

    on_hand: int = FIRST_STOCK


@command("product")
class Order(Command[int]):
    """Asks for some pieces of one product; answered with what is left of it."""

    product: str = entity_id()
    pieces: int
    phase: int


class Shelf(Protocol):
    """Where the stock of one product is: anything that can be read and written."""

    async def read(self) -> int: ...
    async def write(self, on_hand: int) -> None: ...


async def deduct(shelf: Shelf, pieces: int) -> int:
    """Reads, computes, writes: right if nobody else does so to this shelf at the same time, and only then."""
    on_hand = await shelf.read()
    left = on_hand - pieces
    await shelf.write(left)
    return left


@attrs.frozen
class StockShelf:
    """Stock in memory.  Others may run between reading and writing, as they may with any store."""

    stock: Stock

    async def read(self) -> int:
        on_hand = self.stock.on_hand
        await trio.lowlevel.checkpoint()
        return on_hand

    async def write(self, on_hand: int) -> None:
        await trio.lowlevel.checkpoint()
        self.stock.on_hand = on_hand


@attrs.define
class Tally:
    """What was done in this process: how many orders of each phase, and when the last of each.

    Times are those of the machine's monotonic clock, which all its processes share.
    """

    done: list[int] = attrs.field(factory=lambda: [0] * len(PHASES))
    ended: list[float] = attrs.field(factory=lambda: [0.0] * len(PHASES))

    def count(self, phase: int) -> None:
        """Counts an order that was carried out now."""
        self.done[phase] += 1
        self.ended[phase] = time.monotonic()


registry = Registry()


@registry.handles(Order)
async def carry_out(order: Order, stock: Stock, tally: Tally) -> int:
    """Is all that the demo needs of trioqueue: no lock, no transaction, and the stock is exact."""
    left = await deduct(StockShelf(stock), order.pieces)
    tally.count(order.phase)
    return left


def all_orders(scale: float = 1.0) -> tuple[tuple[Order, ...], ...]:
    """Makes the orders of each phase: the same ones every time, so that two runs can be compared."""
    dice = random.Random(12_300)
    return tuple(
        tuple(
            Order(dice.choice(PRODUCTS), dice.randint(1, MOST_PIECES), number)
            for _ in range(max(1, round(phase.orders * scale)))
        )
        for number, phase in enumerate(PHASES)
    )


def expected_stock(orders: Sequence[Sequence[Order]]) -> dict[str, int]:
    """Says what must be left of each product once all orders have been carried out."""
    left = dict.fromkeys(PRODUCTS, FIRST_STOCK)
    for phase in orders:
        for order in phase:
            left[order.product] -= order.pieces
    return left
