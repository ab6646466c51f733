"""The command line as a person has it: a process, what it printed, and how it ended."""

import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

import attrs
import trio

PATIENCE = 60
"""Seconds for one command; the demo takes 5 of them where nothing else runs."""

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


@attrs.frozen
class Ran:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[str]:
        return self.stdout.splitlines()


def trioqueue(*args: str, cwd: Path, module: str = "trioqueue.cli", **env: str) -> Ran:
    """Runs `trioqueue` to its end, with neither a terminal nor a `$TRIOQUEUE_URL` of the surroundings."""
    ran = subprocess.run(
        [sys.executable, "-m", module, *args],
        cwd=cwd,
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return Ran(ran.returncode, ran.stdout, ran.stderr)


def environment(**more: str) -> dict[str, str]:
    """Gives a process the packages of this one, and nothing that would change how the command line looks."""
    unwanted = {"TRIOQUEUE_URL", "FORCE_COLOR", "NO_COLOR", "COLUMNS", "LINES"}
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TERM": "xterm", **more}


def processes(text: str) -> list[int]:
    """Finds the processes that have this text in their command lines."""
    # -ww: whole lines; ps may cut them at 80 columns, and where Python lies deep, the text is behind that.
    listed = subprocess.run(["ps", "-ewwo", "pid=,args="], capture_output=True, text=True, check=True).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if text in line and " ps " not in line]


async def verb(*args: str, url: str, cwd: Path, **env: str) -> Ran:
    """Runs a verb on this Redis to its end, while the test's own pods go on."""
    run = partial(trioqueue, *args, cwd=cwd, TRIOQUEUE_URL=url, **env)
    return await trio.to_thread.run_sync(run, abandon_on_cancel=True)


async def verb_on_terminal(*args: str, url: str, cwd: Path, typed: str = "", **env: str) -> Ran:
    """Runs a verb as a person at a terminal has it, who types something; what it prints is all in `stdout`."""
    return await trio.to_thread.run_sync(
        partial(_on_terminal, args, cwd, typed, environment(TRIOQUEUE_URL=url, **env)), abandon_on_cancel=True
    )


def _on_terminal(args: tuple[str, ...], cwd: Path, typed: str, env: dict[str, str]) -> Ran:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "trioqueue.cli", *args]
    shown = b""
    try:
        with subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=cwd, env=env
        ) as process:
            os.close(theirs)
            os.write(ours, typed.encode())
            # Linux says by an error that nobody holds the other side any more.
            with suppress(OSError):
                while chunk := os.read(ours, 65536):
                    shown += chunk
    finally:
        os.close(ours)
    return Ran(process.returncode, CONTROL.sub("", shown.decode()), "")
