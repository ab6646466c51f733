"""What the contract suite needs of a store under test, and the harness of the store in memory."""

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from trioqueue.protocol.lifecycle import Mode
from trioqueue.stores.contract import Store
from trioqueue.stores.memory.server import MemoryServer
from trioqueue.stores.memory.store import open_memory_store, trio_now_us
from trioqueue.testing._world import Snapshot, World


class StoreHarness(Protocol):
    """One server of the store under test, and power over its clock and its life."""

    async def clear(self) -> None:
        """Goes over to an empty server; no client of the former one is open."""
        ...

    def open_store(self) -> AbstractAsyncContextManager[Store]:
        """Opens a new client of the server."""
        ...

    async def advance(self, seconds: float) -> None:
        """Moves the *server's* clock; the clients' own clocks stay.  Below 0: the clock is set back."""
        ...

    async def new_generation(self) -> None:
        """Has the server end without a warning and start anew with all it had; clients are connected again soon."""
        ...

    async def world(self) -> World:
        """Reads everything the server holds.  Called while no operation is under way."""
        ...


class MemoryHarness:
    """The harness of the store in memory; it needs no clock of its own, but is quickest under Trio's autojump clock."""

    def __init__(self) -> None:
        self._ahead_us = EPOCH_US
        self._server: MemoryServer | None = (
            None  # made when it is first asked for, since it reads Trio's clock
        )

    def __repr__(self) -> str:
        return "<MemoryHarness>"

    def _now_us(self) -> int:
        return trio_now_us() + self._ahead_us

    @property
    def server(self) -> MemoryServer:
        """The server as it is now; `clear` replaces it."""
        if self._server is None:
            self._server = MemoryServer(self._now_us)
        return self._server

    async def clear(self) -> None:
        self._server = None

    @asynccontextmanager
    async def open_store(self) -> AsyncGenerator[Store, None]:
        async with open_memory_store(self.server) as store:
            yield store

    async def advance(self, seconds: float) -> None:
        self._ahead_us += round(seconds * 1e6)

    async def new_generation(self) -> None:
        self.server.restart()

    async def world(self) -> World:
        server = self.server
        return World(
            entities={
                entity: Snapshot(
                    mode=box.mode,
                    owner=box.owner,
                    epoch=box.epoch,
                    done=box.done,
                    queued=tuple(queued.data for queued in box.queue),
                    due_us=box.due_us,
                    attempts=box.attempts,
                    crashes=box.crashes,
                )
                for entity, box in server.mailboxes.items()
            },
            pods={incarnation: pod.info.types for incarnation, pod in server.pods.items()},
            owned={entity: name for name, pod in server.pods.items() for entity in pod.owns},
            # The indices below are not stored here but found, so they can't differ from the entities.
            wake={entity: box.owner for entity, box in server.mailboxes.items() if box.owner and box.queue},
            marked={},
            loads={(kind, name): n for name, pod in server.pods.items() for kind, n in pod.loads.items()},
            ready=frozenset(e for e, box in server.mailboxes.items() if box.mode is Mode.READY),
            ready_counts=Counter(e.type for e, box in server.mailboxes.items() if box.mode is Mode.READY),
            paused=frozenset(e for e, box in server.mailboxes.items() if box.mode is Mode.PAUSED),
            leftovers=(*server.listeners, *server.producers),
        )


EPOCH_US = 1_700_000_000_000_000
"""Where the server's clock begins: a number as large as a real one, so that none is too small to be one."""
