"""Keys as they are pressed, read without a thread, and the terminal as it was before, however the reading ends."""

import os
import re
import termios
import tty
from typing import Any

import trio

_KEY = re.compile(rb"\x1b[\[O][A-Z]|.", re.DOTALL)

_NAMES = {
    b"\t": "next",
    b"\x1b[C": "next",
    b"\x1bOC": "next",
    b"\x1b[B": "next",
    b"\x1bOB": "next",
    b"\x1b[Z": "previous",
    b"\x1b[D": "previous",
    b"\x1bOD": "previous",
    b"\x1b[A": "previous",
    b"\x1bOA": "previous",
}
"""Tab, shift and tab, and the arrows, in both ways that terminals write them."""

READ = 256
"""Bytes that are read at once; a person types fewer."""


class Keyboard:
    """A terminal's keys, each at once and unseen while they are taken; Ctrl-C and Ctrl-Z stay what they are."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        # How the terminal was; not None exactly while keys are taken.
        self._before: list[Any] | None = None

    def take(self) -> None:
        """Has the terminal give each key."""
        self._before = termios.tcgetattr(self._descriptor)
        tty.setcbreak(self._descriptor, termios.TCSADRAIN)

    def give_back(self) -> None:
        """Has the terminal be as it was; nothing if nobody took it."""
        if self._before is not None:
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)
            self._before = None

    async def wait(self) -> list[str]:
        """Waits for keys: "next" and "previous", and all others as they are; none: the terminal is gone."""
        await trio.lowlevel.wait_readable(self._descriptor)
        try:
            data = os.read(self._descriptor, READ)
        except OSError:  # Linux's way of saying that the other side has closed it
            return []
        pressed: list[bytes] = _KEY.findall(data)
        return [_NAMES.get(key) or key.decode(errors="replace") for key in pressed]
