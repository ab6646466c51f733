"""The run itself, with queues and without; how many processes there are, and where the stock is, are others' matter."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias

import attrs
import trio

from trioqueue import AtomicQueues
from trioqueue.cli.demo_orders import PHASES, PRODUCTS, WAVE, Order, Shelf, Stock, Tally, deduct

Orders: TypeAlias = Sequence[Sequence[Order]]
"""Those of each phase."""

WAVES, DRAIN, ONE_BY_ONE, COLD = range(len(PHASES))

POLL = 0.05
"""Seconds between two looks at what pods have done; it is in no result, since pods note times themselves."""


@attrs.frozen
class Report:
    """What was done since the run began.

    Attributes:
        done: Orders carried out, of each phase.
        ended: When the last one of each phase was, on the monotonic clock; 0: none was.
        created: Workers that were started.
        passivated: Workers that ended because their entity was idle.
    """

    done: tuple[int, ...] = (0,) * len(PHASES)
    ended: tuple[float, ...] = (0.0,) * len(PHASES)
    created: int = 0
    passivated: int = 0

    def __add__(self, other: "Report") -> "Report":
        return Report(
            tuple(mine + theirs for mine, theirs in zip(self.done, other.done, strict=True)),
            tuple(map(max, self.ended, other.ended)),
            self.created + other.created,
            self.passivated + other.passivated,
        )


Ask: TypeAlias = Callable[[], Awaitable[Report]]
"""Asks all who work for the sum of their reports."""


@attrs.frozen
class Row:
    """One phase, when it is over.

    Its seconds begin when its first order is sent, or where the work on the phase before it ends, if that is later: no
    time counts twice.
    """

    name: str
    orders: int
    seconds: float
    created: int
    passivated: int

    @property
    def rate(self) -> float:
        """Orders a second; 0 for a phase too short to be measured."""
        return self.orders / self.seconds if self.seconds > 0 else 0.0


def total_of(rows: Sequence[Row]) -> Row:
    """Adds the phases up; the time between them, waiting for workers to be idle, is in none."""
    return Row(
        "total",
        sum(row.orders for row in rows),
        sum(row.seconds for row in rows),
        sum(row.created for row in rows),
        sum(row.passivated for row in rows),
    )


def report_of(tally: Tally, created: int = 0, passivated: int = 0) -> Report:
    """Makes the report of one process."""
    return Report(tuple(tally.done), tuple(tally.ended), created, passivated)


def ask_here(tally: Tally, queues: AtomicQueues) -> Ask:
    """Makes the question to this process, where it is the pod."""

    async def ask() -> Report:
        counted = await queues.statistics()
        return report_of(tally, counted.activated, counted.passivated)

    return ask


async def run_with_queues(queues: AtomicQueues, orders: Orders, ask: Ask) -> list[Row]:
    """Sends the orders of all phases, and waits after each but the first until they are carried out."""
    began = [0.0] * len(PHASES)
    reports = [await ask()]

    began[WAVES] = time.monotonic()
    for wave in _waves(orders[WAVES]):
        await queues.send_many(wave)
    # No wait here: the workers still have most of the first phase before them.
    reports.append(await ask())
    began[DRAIN] = time.monotonic()
    await queues.send_many(orders[DRAIN])
    await queues.wait_settled()
    reports.append(await ask())

    began[ONE_BY_ONE] = time.monotonic()
    for order in orders[ONE_BY_ONE]:
        await queues.call(order)
    reports.append(await _all_passivated(queues, ask))

    began[COLD] = time.monotonic()
    await queues.send_many(orders[COLD])
    await queues.wait_settled()
    reports.append(await _all_passivated(queues, ask))
    return _rows([phase.name for phase in PHASES], began, reports)


async def run_naively(orders: Orders, race: Callable[[int], Awaitable[None]], ask: Ask) -> list[Row]:
    """Has the orders carried out as they come, phase by phase."""
    began = [0.0] * len(PHASES)
    reports = [await ask()]
    for number, phase in enumerate(orders):
        began[number] = time.monotonic()
        await race(number)
        while True:
            report = await ask()
            if report.done[number] >= len(phase):
                break
            await trio.sleep(POLL)
        reports.append(report)
    return _rows([phase.naive_name for phase in PHASES], began, reports)


async def race(orders: Sequence[Order], shelves: Mapping[str, Shelf], tally: Tally) -> None:
    """Carries out the orders of one phase without queues; those of one wave at the same time.

    The nursery's children are the orders of one wave: what a web server does with two hundred requests.
    """

    async def carry_out(order: Order) -> None:
        await deduct(shelves[order.product], order.pieces)
        tally.count(order.phase)

    for wave in _waves(orders):
        if wave[0].phase == ONE_BY_ONE:
            for order in wave:
                await carry_out(order)
            continue
        async with trio.open_nursery() as nursery:
            for order in wave:
                nursery.start_soon(carry_out, order)


async def stock_of(queues: AtomicQueues) -> dict[str, int]:
    """Reads what is left of each product, as it was committed."""
    return {product: (await queues.state(Stock, product)).on_hand for product in PRODUCTS}


def drift(expected: Mapping[str, int], found: Mapping[str, int]) -> int:
    """Counts the pieces by which the stock is wrong: too many of one product don't make up for too few of another."""
    return sum(abs(found[product] - pieces) for product, pieces in expected.items())


async def _all_passivated(queues: AtomicQueues, ask: Ask) -> Report:
    """Waits until no entity is awake anywhere, and until every pod has counted that."""
    report = await ask()
    while True:
        await trio.sleep(POLL)
        owned = (await queues.statistics()).owned
        before, report = report, await ask()
        if not owned and report == before:
            return report


def _waves(orders: Sequence[Order]) -> list[Sequence[Order]]:
    return [orders[start : start + WAVE] for start in range(0, len(orders), WAVE)]


def _rows(names: Sequence[str], began: Sequence[float], reports: Sequence[Report]) -> list[Row]:
    """Makes the table's rows of what was reported before the first phase and after each."""
    last = reports[-1]
    before = (0.0, *last.ended)
    return [
        Row(
            name,
            last.done[number],
            max(last.ended[number] - max(began[number], before[number]), 0.0),
            reports[number + 1].created - reports[number].created,
            reports[number + 1].passivated - reports[number].passivated,
        )
        for number, name in enumerate(names)
    ]
