"""Tables and durations as they are printed."""

import os
from collections.abc import Sequence

import click
from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

WIDE = 1000
"""Columns of a line where nothing says how many there are."""


class Table:
    """Rows under headings: numbers to the right, aligned; to a pipe as to a terminal, without colours there."""

    def __init__(self, *headings: str) -> None:
        self._headings = headings
        self._rows: list[Sequence[object]] = []

    def row(self, *cells: object) -> None:
        """Adds a row."""
        self._rows.append(cells)

    def show(self, *, empty: str) -> None:
        """Prints it, or one sentence where there is nothing to show."""
        if not self._rows:
            click.echo(empty)
            return
        table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for at, heading in enumerate(self._headings):
            numbers = all(isinstance(row[at], int) for row in self._rows)
            last = at == len(self._headings) - 1
            # What is too long is folded in the last column: names and ids stay whole, to be copied.
            table.add_column(
                heading, justify="right" if numbers else "left", overflow="fold", no_wrap=not last
            )
        for row in self._rows:
            table.add_row(
                *(Text(f"{cell:,}" if isinstance(cell, int) else printable(str(cell))) for cell in row)
            )
        Console(highlight=False, width=width()).print(table)


def width() -> int:
    """Says how wide a line may be: as the terminal, or in a pipe as wide as it has to, so that a row is a line."""
    console = Console()
    return console.width if console.is_terminal or "COLUMNS" in os.environ else WIDE


def printable(text: str) -> str:
    """Escapes what a terminal would take for an order: others may have chosen the text, as that of an error."""
    return "".join(one if one.isprintable() or one in " \n" else ascii(one)[1:-1] for one in text)


def span(seconds: float) -> str:
    """Writes a duration in few characters: `0.4 s`, `12 s`, `3 min`, `2.5 h`, `4 d`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
