"""The command line as a person has it: a process, what it printed, and how it ended."""

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from threading import Timer

import attrs
import trio
from cli.starter import Started, Starter

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


starter = Starter()


def trioqueue(*args: str, cwd: Path, **env: str) -> Ran:
    """Runs `trioqueue` to its end, with neither a terminal nor a `$TRIOQUEUE_URL` of the surroundings."""
    if any(
        name.startswith("PYTHON") for name in env
    ):  # what is said to Python itself, it hears when it starts
        return trioqueue_anew(*args, cwd=cwd, **env)
    with Path(os.devnull).open() as nothing, TemporaryFile("w+") as stdout, TemporaryFile("w+") as stderr:
        files = [file.fileno() for file in (nothing, stdout, stderr)]
        code = wait(starter.start(args, cwd, environment(**env), files))
        stdout.seek(0)
        stderr.seek(0)
        return Ran(code, stdout.read(), stderr.read())


def wait(started: Started) -> int:
    """Waits for the end of a command and gives its exit code."""
    overdue = Timer(PATIENCE, os.kill, (started.pid, signal.SIGKILL))
    overdue.start()
    try:
        return started.wait()
    finally:
        overdue.cancel()


def trioqueue_anew(*args: str, cwd: Path, module: str = "trioqueue.cli", **env: str) -> Ran:
    """Does the same with a Python of its own, to see that all is imported that has to be."""
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


def _on_terminal(args: Sequence[str], cwd: Path, typed: str, env: Mapping[str, str]) -> Ran:
    ours, theirs = pty.openpty()
    shown = b""
    try:
        try:
            started = starter.start(args, cwd, env, [theirs] * 3)
        finally:
            os.close(theirs)
        os.write(ours, typed.encode())
        # Linux says by an error that nobody holds the other side any more.
        with suppress(OSError):
            while chunk := os.read(ours, 65536):
                shown += chunk
        code = wait(started)
    finally:
        os.close(ours)
    return Ran(code, CONTROL.sub("", shown.decode()), "")
