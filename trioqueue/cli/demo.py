"""`trioqueue demo`: many orders, shared stock, no lock, and no drift."""

import secrets
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

import attrs
import click
import trio

from trioqueue import open_atomic_queues
from trioqueue.cli.demo_fleet import PodProcess, ask_pods, open_pods
from trioqueue.cli.demo_orders import (
    POLICIES,
    PRODUCTS,
    Shelf,
    Stock,
    StockShelf,
    Tally,
    all_orders,
    registry,
)
from trioqueue.cli.demo_result import Result
from trioqueue.cli.demo_runs import (
    Ask,
    Orders,
    Report,
    Row,
    ask_here,
    race,
    report_of,
    run_naively,
    run_with_queues,
    stock_of,
)
from trioqueue.cli.demo_screen import Screen
from trioqueue.cli.demo_stock import open_run, plain_shelves, stock_plainly
from trioqueue.cli.ending import until_sigterm
from trioqueue.cli.errors import FAILED
from trioqueue.cli.options import as_json, print_json
from trioqueue.cli.warnings import warn_on_stderr
from trioqueue.stores.redis.address import parse_address

BAR_EVERY = 0.1
"""Seconds between two movements of the progress bar."""

MEMORY = "memory://"


@attrs.frozen
class Setting:
    """How the demo is to run.

    Attributes:
        url: Of the store.
        chosen: Whether somebody chose that store.
        pods: Processes that work.
        naive: Whether they do so without queues.
        scale: Of the number of orders.
        prefix: Of the keys of this run, which no other run has.
    """

    url: str
    chosen: bool
    pods: int
    naive: bool
    scale: float
    prefix: str = attrs.field(factory=lambda: f"demo-{secrets.token_hex(4)}")

    @property
    def on_redis(self) -> bool:
        """Whether there is a server, and with it keys to remove and other processes to share it with."""
        return self.url.lower() != MEMORY

    @property
    def store(self) -> str:
        """Names the store, without a password."""
        return str(parse_address(self.url)) if self.on_redis else MEMORY

    def document(self) -> dict[str, Any]:
        """Gives what somebody chose of it to a program."""
        prefix = self.prefix if self.on_redis else None
        return {"store": self.store, "prefix": prefix, "pods": self.pods, "naive": self.naive}


@click.command()
@click.option("--url", envvar="TRIOQUEUE_URL", metavar="URL", help="A Redis: redis://, rediss:// or unix://.")
@click.option(
    "--pods", type=click.IntRange(1, 64), default=1, help="Worker processes; more than one need Redis."
)
@click.option("--naive", is_flag=True, help="The same work without queues: see it race.")
@click.option("--scale", type=click.FloatRange(0, 1, min_open=True), default=1.0, hidden=True)
@as_json
@click.pass_context
def demo(
    context: click.Context, *, url: str | None, pods: int, naive: bool, scale: float, as_json: bool
) -> None:
    """Runs 12,300 orders that deduct from the stock of 20 products.

    Each order reads its product's stock, computes, and writes, without a lock.  trioqueue runs the orders of a product
    one after another, so none is lost: the drift between the stock that must be left and the one that is left is 0.

    The exit code is 1 if there is drift, unless it was asked for with --naive.

    With --json: one document at the end.  It has the setting; the phases and their total, with orders, seconds,
    orders_per_second, workers_created and workers_passivated; the products, with the pieces that are expected to be
    left, those that are found, and the drift; the pieces of all, and whether it is "well", as there is no drift.
    """
    setting = Setting(url or MEMORY, url is not None, pods, naive, scale)
    if pods > 1 and not setting.on_redis:
        raise click.UsageError(
            f"--pods {pods} needs a Redis that the processes share: add --url redis://localhost:6379."
        )
    warn_on_stderr()
    context.exit(trio.run(partial(_demo, setting, as_json=as_json)))


async def _demo(setting: Setting, *, as_json: bool) -> int:
    orders = all_orders(setting.scale)
    screen = Screen([len(phase) for phase in orders], quiet=as_json)
    result = await (_naive if setting.naive else _queued)(setting, orders, screen)
    if as_json:
        print_json({"setting": setting.document(), **result.document()})
    else:
        _show(setting, result, screen)
    return FAILED if result.drift and not setting.naive else 0


def _show(setting: Setting, result: Result, screen: Screen) -> None:
    screen.show_table(result.rows, workers=not setting.naive)
    screen.say(
        f"{result.ordered:,} pieces ordered; {sum(result.expected.values()):,} must be left, "
        f"{sum(result.found.values()):,} are: drift {result.drift:,}.",
        "bold red" if result.drift else "bold green",
    )
    if setting.naive:
        screen.say("Orders that read the same stock overwrote each other; without --naive none does.")


def _introduce(setting: Setting, orders: Orders, screen: Screen) -> None:
    """Says what is going to happen; only once the store is there, since without it nothing is."""
    screen.say(
        f"{sum(map(len, orders)):,} orders for {len(PRODUCTS)} products; each reads the stock, computes, writes."
    )
    if not setting.chosen:
        screen.say("No --url and no $TRIOQUEUE_URL given: the store is in this process.")
    elif setting.on_redis:
        screen.say(f"Store: {setting.store}, keys under {setting.prefix}, removed at the end.")
    where = "in this process" if setting.pods == 1 else f"in {setting.pods} processes"
    if setting.naive:
        screen.say(f"No queues, {where}: orders for one product run at the same time.")
    else:
        screen.say(f"One worker a product, {where}: its orders run one after another.")


async def _queued(setting: Setting, orders: Orders, screen: Screen) -> Result:
    """Runs with queues: this process is the pod, or the sender of several."""
    tally = Tally()
    alone = setting.pods == 1
    async with (
        _open_keys(setting),
        open_atomic_queues(
            setting.url,
            registry=registry if alone else None,
            prefix=setting.prefix,
            entities=POLICIES,
            provide={Tally: tally} if alone else None,
        ) as queues,
        until_sigterm(),
    ):
        _introduce(setting, orders, screen)
        if alone:
            async with _moving_bar(screen, ask := ask_here(tally, queues)):
                rows = await run_with_queues(queues, orders, ask)
        else:
            async with (
                _open_pods(setting) as pods,
                _moving_bar(screen, ask := lambda: ask_pods(pods)),
            ):
                rows = await run_with_queues(queues, orders, ask)
        return Result(orders, rows, await stock_of(queues))


async def _naive(setting: Setting, orders: Orders, screen: Screen) -> Result:
    """Runs without queues, on the same kind of stock: in memory, or plain keys in Redis."""
    if not setting.on_redis:
        _introduce(setting, orders, screen)
        stocks = {product: Stock() for product in PRODUCTS}
        shelves = {product: StockShelf(stock) for product, stock in stocks.items()}
        rows = await _race_here(orders, shelves, screen)
        return Result(orders, rows, {product: stock.on_hand for product, stock in stocks.items()})
    async with open_run(setting.url, setting.prefix) as transport, until_sigterm():
        _introduce(setting, orders, screen)
        await stock_plainly(transport, setting.prefix)
        plain = plain_shelves(transport, setting.prefix)
        if setting.pods == 1:
            rows = await _race_here(orders, plain, screen)
        else:
            async with (
                _open_pods(setting) as pods,
                _moving_bar(screen, ask := lambda: ask_pods(pods)),
            ):

                async def race_there(phase: int) -> None:
                    for pod in pods:
                        await pod.race(phase)

                rows = await run_naively(orders, race_there, ask)
        return Result(orders, rows, {product: await shelf.read() for product, shelf in plain.items()})


async def _race_here(orders: Orders, shelves: Mapping[str, Shelf], screen: Screen) -> list[Row]:
    tally = Tally()

    async def ask() -> Report:
        await trio.lowlevel.checkpoint()
        return report_of(tally)

    async with _moving_bar(screen, ask):
        return await run_naively(orders, lambda phase: race(orders[phase], shelves, tally), ask)


def _open_pods(setting: Setting) -> AbstractAsyncContextManager[list[PodProcess]]:
    return open_pods(setting.url, setting.prefix, setting.pods, scale=setting.scale, naive=setting.naive)


@asynccontextmanager
async def _open_keys(setting: Setting) -> AsyncGenerator[None, None]:
    if setting.on_redis:
        async with open_run(setting.url, setting.prefix):
            yield
    else:
        yield


@asynccontextmanager
async def _moving_bar(screen: Screen, ask: Ask) -> AsyncGenerator[None, None]:
    """Moves the bar while the block runs.  Its nursery's child does; it notices as well when a pod has ended."""

    async def move() -> None:
        while True:
            screen.show_progress(await ask())
            await trio.sleep(BAR_EVERY)

    with screen:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(move)
            yield
            nursery.cancel_scope.cancel()
