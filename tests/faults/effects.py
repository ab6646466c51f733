"""A store outside Redis that handlers write to, guarded by their fence: an SQLite file, behind a socket.

It keeps the highest fence of each entity and refuses lower ones.  It is a process's own and not opened by each pod,
since a pod that is frozen inside a transaction would lock all others out, which no database server lets happen.
"""

import json
import sqlite3
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import trio


class Effect(NamedTuple):
    at: float
    entity: str
    number: int
    fence: int
    pod: str
    accepted: bool


class EffectStore:
    """The file and who may write to it."""

    def __init__(self, path: Path) -> None:
        self._file = sqlite3.connect(path, isolation_level=None)
        self._file.executescript("""
            PRAGMA journal_mode = WAL;
            PRAGMA synchronous = OFF;
            CREATE TABLE highest (entity TEXT PRIMARY KEY, fence INTEGER);
            CREATE TABLE effects (at REAL, entity TEXT, number INTEGER, fence INTEGER, pod TEXT, accepted INTEGER);
        """)
        self.socket = str(path.with_suffix(".sock"))

    def apply(self, pod: str, entity: str, number: int, fence: int) -> bool:
        """Notes an effect; False: it was refused, as a higher fence was seen."""
        execute = self._file.execute
        execute("BEGIN IMMEDIATE")
        (highest,) = execute("SELECT max(fence) FROM highest WHERE entity = ?", (entity,)).fetchone()
        accepted = highest is None or fence >= highest
        if accepted:
            execute("INSERT OR REPLACE INTO highest VALUES (?, ?)", (entity, fence))
        execute(
            "INSERT INTO effects VALUES (?, ?, ?, ?, ?, ?)",
            (time.monotonic(), entity, number, fence, pod, accepted),
        )
        execute("COMMIT")
        return accepted

    def all(self) -> list[Effect]:
        """Lists all effects, the refused ones too, as they came."""
        rows = self._file.execute("SELECT * FROM effects ORDER BY rowid").fetchall()
        return [Effect(*row[:5], bool(row[5])) for row in rows]

    async def _serve(self, stream: trio.SocketStream) -> None:
        async with stream:
            try:
                asked = await stream.receive_some(4096)
                if asked.endswith(b"\n"):  # else its pod died while it wrote
                    accepted = self.apply(*json.loads(asked))
                    await stream.send_all(b"1" if accepted else b"0")
            except trio.BrokenResourceError:
                return

    async def listen(self, task_status: trio.TaskStatus[None]) -> None:
        with trio.socket.socket(trio.socket.AF_UNIX) as listening:
            await listening.bind(self.socket)
            listening.listen(512)
            task_status.started()
            await trio.serve_listeners(self._serve, [trio.SocketListener(listening)])

    def close(self) -> None:
        self._file.close()


@asynccontextmanager
async def open_effects(path: Path) -> AsyncGenerator[EffectStore]:
    """Keeps effects in a file until the block is left."""
    store = EffectStore(path)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(store.listen)
            yield store
            nursery.cancel_scope.cancel()
    finally:
        store.close()


class EffectsOfPod:
    """A pod's way to the effect store; no address: its effects are noted nowhere."""

    def __init__(self, pod: str, socket: str) -> None:
        self.pod, self._socket = pod, socket

    async def apply(self, entity: str, number: int, fence: int) -> bool:
        """Writes one effect; False: it was refused."""
        if not self._socket:
            return True
        # A connection for each: a handler that is cancelled in between leaves no half question behind.
        async with await trio.open_unix_socket(self._socket) as stream:
            await stream.send_all(json.dumps([self.pod, entity, number, fence]).encode() + b"\n")
            return bool(await stream.receive_some(1) == b"1")
