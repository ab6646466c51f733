"""`trioqueue top`: a live screen of the fleet, and the same for programs."""

import logging
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager

import attrs
import click
import trio
from rich.console import Console
from rich.live import Live as RichLive
from rich.text import Text

from trioqueue import AtomicQueues, Events, OutcomeUnknown, StoreUnavailable
from trioqueue.cli.cells import replace_unencodable
from trioqueue.cli.ending import until_sigterm, until_unread
from trioqueue.cli.keyboard import Keyboard
from trioqueue.cli.live import Live, Snapshot
from trioqueue.cli.options import Connection, as_json, connects, print_json, run
from trioqueue.cli.top_screen import View, picture
from trioqueue.stores.redis.address import parse_address

EVERY = 1.0
"""Seconds between two looks: as often as pods renew their leases."""

LATE = 0.5
"""Seconds for which the picture waits for a look that is late, before it is drawn without."""

PRINTED_LINES = 60
"""Lines of a picture that goes to no terminal."""

LOOKS = "trioqueue"
"""The logger whose warnings come into the picture while there is one."""


@click.command()
@connects
@click.option(
    "--every",
    type=click.FloatRange(min=0.1),
    default=EVERY,
    show_default=True,
    metavar="SECONDS",
    help="How often to look.",
)
@click.option("--count", type=click.IntRange(min=1), help="Print so many pictures, and end.")
@as_json
def top(connection: Connection, *, every: float, count: int | None, as_json: bool) -> None:
    """Shows the fleet live, until q is pressed.

    Above stand the commands handled and the handlers failed a second, over the last ten seconds, the entities that
    fail now, and the counts of the fleet.  Below come three lists of entities: the busiest, of most commands handled a
    second; the deepest, of most commands in their mailbox; the oldest, whose first command waits longest, with those
    that are paused last.  What fails is red, what is paused is yellow, what waits for a pod is cyan.  Then come the
    pods, those that do not serve first, and the newest trouble: dead letters, pauses, lost leases, pods that are gone.

    Tab and the arrows choose which list has most room, p freezes the picture.  While the store does not answer, the
    last picture stays and says so.

    Rates and counts are made of events since the start; where some never came, the picture says how many, and the rates
    have a > before them.  The deepest and the oldest are looked for among a thousand entities that pods own, a thousand
    of each type that wait for one, and a thousand that are paused; if there are more, it says among how many.

    Without a terminal, it watches for --every seconds, prints one picture and ends.  With --json it prints an object on
    a line every so often, until it is ended; both print as many as --count says.
    """

    async def watch() -> None:
        address = f"{parse_address(connection.url)} {connection.prefix}"
        console = Console(highlight=False)
        async with until_sigterm(""), connection.open() as queues:
            if as_json:
                async with until_unread():
                    await print_snapshots(queues, print_json, every=every, count=count)
            elif count or not console.is_terminal or console.is_dumb_terminal:
                show = _Printed(console, View(address, keys=False))
                async with until_unread():
                    await print_snapshots(queues, show, every=every, count=count or 1)
            else:
                await show_top(queues, every=every, store=address)

    replace_unencodable()
    run(watch)


async def show_top(queues: AtomicQueues, *, every: float = EVERY, store: str = "") -> None:
    """Shows the fleet on this process's terminal until somebody presses q, or the terminal is gone.

    Nothing else may write to the terminal meanwhile; warnings of trioqueue come into the picture.  Cancelled, or left
    by an error: the terminal is as it was.

    Args:
        queues: Open; they need not serve.
        every: Seconds between two looks.
        store: What to call it above the picture.
    """
    async with _open_live(queues, every=every) as (live, news):
        screen = _Screen(live, View(store), news)
        with _warnings_to(live), screen.shown():
            async with trio.open_nursery() as drawing:  # its children wait for keys and signals
                drawing.start_soon(screen.obey_keys, drawing.cancel_scope)
                drawing.start_soon(screen.obey_signals)
                await screen.draw_on(every)


async def print_snapshots(
    queues: AtomicQueues, show: Callable[[Snapshot], None], *, every: float, count: int | None
) -> None:
    """Hands out a snapshot every so often, the first after that time; None: for ever."""
    async with _open_live(queues, every=every) as (live, news):
        shown = 0
        while count is None or shown < count:
            await trio.sleep(every)
            await news.wait_first()
            show(live.snapshot(time.monotonic(), time.time()))
            shown += 1


class _News:
    """Says that there is something new to draw."""

    def __init__(self) -> None:
        self._first, self._next = trio.Event(), trio.Event()

    def tell(self) -> None:
        self._next.set()

    def tell_looked(self) -> None:
        self._first.set()
        self._next.set()

    async def wait_first(self) -> None:
        """Waits until the fleet was looked at."""
        await self._first.wait()

    async def wait_next(self) -> None:
        """Waits until something is new since the last time."""
        await self._next.wait()
        self._next = trio.Event()


@asynccontextmanager
async def _open_live(queues: AtomicQueues, *, every: float) -> AsyncGenerator[tuple[Live, _News], None]:
    """Keeps up with the fleet while the block runs; its nursery's children look and take events."""
    live, news = Live(time.monotonic(), every=every), _News()
    async with queues.open_events() as events, trio.open_nursery() as nursery:
        nursery.start_soon(_take, live, events)
        nursery.start_soon(_look, live, news, queues, every)
        yield live, news
        nursery.cancel_scope.cancel()


async def _take(live: Live, events: Events) -> None:
    async for event in events:
        live.take(event, time.monotonic())


async def _look(live: Live, news: _News, queues: AtomicQueues, every: float) -> None:
    while True:
        try:
            statistics, pods, lanes = await queues.statistics(), await queues.pods(), await queues.lanes()
        except (StoreUnavailable, OutcomeUnknown):
            # The picture says for how long there was no answer.  The link is made again meanwhile.
            await trio.sleep(every)
            continue
        live.look(statistics, pods, lanes, time.monotonic())
        news.tell_looked()
        await trio.sleep(every)


# ------------------------------------------------------------------------------------ without a screen
class _Printed:
    """Prints pictures below one another, as wide as fits."""

    def __init__(self, console: Console, view: View) -> None:
        self._console, self._view = console, view
        self._begun = False

    def __call__(self, snapshot: Snapshot) -> None:
        drawn = picture(snapshot, self._view, self._console.width, PRINTED_LINES)
        drawn.rstrip()
        if self._begun:
            self._console.print()
        self._begun = True
        for line in drawn.split(allow_blank=True):
            line.rstrip()
            self._console.print(line, no_wrap=True, crop=False)


# ------------------------------------------------------------------------------------ on a terminal
class _Screen:
    """The picture on the terminal, and what keys do to it."""

    def __init__(self, live: Live, view: View, news: _News) -> None:
        self._live, self._news = live, news
        self._console = Console(highlight=False)
        # Not None while the picture stands still.
        self._frozen: Snapshot | None = None
        # None where nobody can press a key.
        self._keyboard = Keyboard(sys.stdin.fileno()) if sys.stdin.isatty() else None
        self._view = attrs.evolve(view, keys=self._keyboard is not None)
        self._rich = RichLive(
            get_renderable=self._draw,
            console=self._console,
            screen=True,
            auto_refresh=False,  # no thread beside Trio's
            redirect_stdout=False,
            redirect_stderr=False,
        )

    @contextmanager
    def shown(self) -> Generator[None]:
        """Takes the terminal, and leaves it as it was."""
        try:
            self._begin()
            yield
        finally:
            self._end()

    def _begin(self) -> None:
        if self._keyboard is not None:
            self._keyboard.take()
        self._rich.start()

    def _end(self) -> None:
        try:
            self._rich.stop()
        finally:
            if self._keyboard is not None:
                self._keyboard.give_back()

    async def draw_on(self, every: float) -> None:
        """Draws what is new, for ever; while no look comes, the time goes on."""
        while True:
            self._rich.refresh()
            with trio.move_on_after(every + LATE):
                await self._news.wait_next()

    async def obey_keys(self, drawing: trio.CancelScope) -> None:
        """Does what keys say; ends the drawing on q, and when the terminal is gone."""
        while self._keyboard is not None:
            for key in await self._keyboard.wait() or ["q"]:
                match key:
                    case "q" | "Q":
                        drawing.cancel()
                        return
                    case "p" | "P" | " ":
                        frozen = not self._view.frozen
                        self._frozen = self._snapshot() if frozen else None
                        self._view = attrs.evolve(self._view, frozen=frozen)
                    case "next":
                        self._view = self._view.moved(1)
                    case "previous":
                        self._view = self._view.moved(-1)
                    case _:
                        pass
            self._news.tell()

    async def obey_signals(self) -> None:
        """Draws anew when the terminal has another size, and gives it back while Ctrl-Z stops this process."""
        heard = [signal.SIGWINCH]
        if signal.getsignal(signal.SIGTSTP) is not signal.SIG_IGN:  # else no shell could have it go on
            heard.append(signal.SIGTSTP)
        with trio.open_signal_receiver(*heard) as signals:
            async for number in signals:
                if number == signal.SIGTSTP:
                    self._end()
                    os.kill(os.getpid(), signal.SIGSTOP)
                    self._begin()  # the shell has it go on
                self._news.tell()

    def _snapshot(self) -> Snapshot:
        # No list has more rows than the terminal has lines.
        return self._live.snapshot(time.monotonic(), time.time(), most=self._console.height)

    def _draw(self) -> Text:
        size = self._console.size
        return picture(self._frozen or self._snapshot(), self._view, size.width, size.height)


@contextmanager
def _warnings_to(live: Live) -> Generator[None]:
    """Has trioqueue's warnings come into the picture, and nowhere else, while the block runs."""

    class Told(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            live.warn(record.getMessage(), time.monotonic())

    logger = logging.getLogger(LOOKS)
    handlers, propagate = logger.handlers, logger.propagate
    logger.handlers, logger.propagate = [Told(logging.WARNING)], False
    try:
        yield
    finally:
        logger.handlers, logger.propagate = handlers, propagate
