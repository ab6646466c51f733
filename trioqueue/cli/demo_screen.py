"""What the demo shows: on a terminal with a progress bar, else plain lines."""

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from trioqueue.cli.demo_orders import PHASES
from trioqueue.cli.demo_runs import COLD, Report, Row, total_of


class Screen:
    """Shows one run; the progress bar is there while its block runs.

    Args:
        orders: How many each phase has.
        quiet: Whether it shows nothing, as a program reads what comes after it.
    """

    def __init__(self, orders: Sequence[int], *, quiet: bool) -> None:
        self._orders = orders
        self._console = Console(file=sys.stdout, highlight=False, quiet=quiet)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,  # the table takes its place
            auto_refresh=False,  # no thread beside Trio's
            disable=quiet or not self._console.is_terminal,
        )
        self._task = self._bar.add_task(PHASES[0].name, total=sum(orders), start=False)

    def __enter__(self) -> Self:
        self._bar.start()
        self._bar.start_task(self._task)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, line: str, style: str = "") -> None:
        """Writes one line, which wraps between words if it must."""
        self._console.print(line, style=style, markup=False)

    def show_progress(self, report: Report) -> None:
        """Moves the bar."""
        phase = next(
            (number for number, done in enumerate(report.done) if done < self._orders[number]), len(PHASES)
        )
        # Before the last phase and after it, the run waits until all workers are gone.
        waits = phase == len(PHASES) or (phase == COLD and not report.done[COLD])
        name = "waiting for idle workers" if waits else PHASES[phase].name
        self._bar.update(self._task, description=name, completed=sum(report.done))
        self._bar.refresh()

    def show_table(self, rows: Sequence[Row], *, workers: bool) -> None:
        """Writes the closing table.

        Args:
            rows: One a phase.
            workers: Whether there were any to count.
        """
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("Orders sent")
        for name in ("Orders", "Seconds", "Orders/s"):
            table.add_column(name, justify="right")
        if workers:
            table.add_column("Workers\ncreated", justify="right")
            table.add_column("Workers\npassivated", justify="right")
        for row in rows:
            _add(table, row, workers=workers)
        table.add_section()
        _add(table, total_of(rows), workers=workers)
        self._console.print(table)


def _add(table: Table, row: Row, *, workers: bool) -> None:
    cells = [row.name, f"{row.orders:,}", f"{row.seconds:.2f}", f"{row.rate:,.0f}"]
    if workers:
        cells += [str(row.created), str(row.passivated)]
    table.add_row(*cells)
