"""Text that fits: cells of a fixed width, so that nothing jumps, and nothing in them that a terminal would obey."""

import io
import sys

from rich.cells import cell_len, set_cell_size


def flat(text: str) -> str:
    """Replaces what a terminal would obey, line ends included: names and errors come from elsewhere."""
    return text if text.isprintable() else "".join(one if one.isprintable() else " " for one in text)


def fit(text: str, width: int, *, right: bool = False, middle: bool = False) -> str:
    """Makes text as wide as a cell.

    Args:
        text: Any.
        width: Columns of the terminal.
        right: Whether it stands to the right, as numbers do.
        middle: Whether what is too long loses its middle, as ids often differ at their ends; else its end.
    """
    text = flat(text)
    used = cell_len(text)
    if used > width:
        kept = max(width - 1, 0)
        tail = _end(text, kept * 2 // 5) if middle else ""
        text = set_cell_size(text, kept - cell_len(tail)).rstrip() + "…" * (width > 0) + tail
        used = cell_len(text)
    space = " " * (width - used)
    return space + text if right else text + space


def _end(text: str, width: int) -> str:
    """Gives the end of a text, at most so wide."""
    end = ""
    for one in reversed(text):
        if cell_len(one + end) > width:
            break
        end = one + end
    return end


def whole(number: int) -> str:
    """Writes a count in at most six characters."""
    if number >= 1_000_000:
        return _large(number)
    return f"{number // 1000} k" if number >= 100_000 else f"{number:,}"


def rate(per_second: float) -> str:
    """Writes a rate in at most seven characters."""
    if per_second >= 1_000_000:
        return _large(per_second)
    return f"{per_second:,.0f}" if per_second >= 100 or not per_second else f"{per_second:.1f}"


def _large(number: float) -> str:
    size, unit = (1e9, "G") if number >= 1e9 else (1e6, "M")
    return f"{number / size:.{0 if number >= 100 * size else 1}f} {unit}"


def replace_unencodable() -> None:
    """Has standard output write a question mark for what its encoding lacks, where it would fail."""
    output: object = sys.stdout
    if isinstance(output, io.TextIOWrapper):
        output.reconfigure(errors="replace")
