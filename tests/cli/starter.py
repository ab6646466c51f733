"""Starts the command line often at the price of one start: a process imports it, and is forked for each command.

A command so started is a process like any other, with arguments, environment, folder and files of its own, and ends as
Python ends.  What it is spared are the imports, which are nine tenths of what most verbs do.
"""

import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from threading import Lock

MOST = 1 << 17
"""Bytes of a command's arguments and environment."""


class Starter:
    """The process that is forked: begun when it is needed first, ended with this one."""

    def __init__(self) -> None:
        self._beginning = Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._asks: socket.socket

    def start(
        self, args: Sequence[str], cwd: Path, env: Mapping[str, str], files: Sequence[int]
    ) -> "Started":
        """Starts `trioqueue` with these three files as its input, output and errors."""
        with self._beginning:
            if self._process is None:
                self._begin(env)
        ours, theirs = socket.socketpair()
        with theirs:
            asked = json.dumps({"args": args, "cwd": str(cwd), "env": dict(env)}).encode()
            socket.send_fds(self._asks, [asked], [*files, theirs.fileno()])
        return Started(ours)

    def _begin(self, env: Mapping[str, str]) -> None:
        self._asks, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())], env=env, pass_fds=[theirs.fileno()]
            )


class Started:
    """A command that runs, or has ended."""

    def __init__(self, keeper: socket.socket) -> None:
        self._told = keeper.makefile()
        keeper.close()
        self.pid = int(self._told.readline())

    def wait(self) -> int:
        """Waits for its end and gives its exit code, below zero for a signal."""
        with self._told:
            return int(self._told.readline())


def keep_starting(asked: socket.socket) -> None:
    """Forks whenever that is asked, until nobody can ask any more."""
    while True:
        what, files, _, _ = socket.recv_fds(asked, MOST, 4)
        if not what:
            return
        if os.fork() == 0:
            asked.close()
            keep(json.loads(what), files)
        for file in files:
            os.close(file)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def keep(what: dict[str, object], files: Sequence[int]) -> None:
    """Has a process of its own be the command, and tells which one it is and how it ended."""
    *standard, teller = files
    pid = os.fork()
    if pid == 0:
        os.close(teller)
        become(standard, **what)
    for file in standard:
        os.close(file)
    os.write(teller, b"%d\n" % pid)
    _, status = os.waitpid(pid, 0)
    with suppress(BrokenPipeError):
        os.write(teller, b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def become(standard: Sequence[int], args: Sequence[str], cwd: str, env: Mapping[str, str]) -> None:
    """Goes on as if this process had been started for the command."""
    for number, file in enumerate(standard):
        os.dup2(file, number)
        os.close(file)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    time.tzset()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.path[0] = cwd
    sys.argv[1:] = args
    runpy.run_module("trioqueue.cli.__main__", run_name="__main__", alter_sys=True)
    sys.exit()


if __name__ == "__main__":
    from trioqueue.cli import errors, group  # noqa: F401 - for those that are forked

    for module in group.VERBS.values():
        import_module(f"trioqueue.cli.{module}")
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests, and for commands that run
    with socket.socket(fileno=int(sys.argv[1])) as asked:
        keep_starting(asked)
