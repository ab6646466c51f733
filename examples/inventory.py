"""A warehouse whose stock is in a database of its own: SQLite here, yours as well.

    python examples/inventory.py                           # in this process
    python examples/inventory.py redis://localhost:6379    # on Redis

What trioqueue commits, it commits once.  What a handler does elsewhere it can't take back, so two things may happen:

- A handler has written, and dies or fails before its command is committed.  The command runs again.
- A process freezes in the middle of a handler, for longer than its lease; another takes the entity over, and then the
  frozen one goes on, and writes on top of what happened since.

`Context` has an answer to each: `command_id` is the same when a command runs again, and `fence` rises with every owner
of an entity.  Both are checked in the transaction that writes.  Any database with transactions can do this.
"""

import sqlite3
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import attrs
import trio

from trioqueue import Command, Context, EntityPolicy, Registry, Retry, command, entity_id, open_atomic_queues

registry = Registry()

SCHEMA = """
create table stock (product text primary key, on_hand integer not null);
-- The highest fence that has written for each entity.
create table fences (entity text primary key, fence integer not null);
-- What each command came to; kept for as long as one may run again, so prune it after a day or so.
create table done (command_id text primary key, left_over integer not null);
"""


class StaleFence(Exception):
    """Somebody newer owns the entity: this process was frozen or cut off, and must not write."""


@attrs.frozen
class Guard:
    """What the database checks before it lets a handler write."""

    entity: str
    fence: int
    command_id: str

    @classmethod
    def of(cls, context: Context) -> "Guard":
        return cls(f"{context.entity}/{context.entity_id}", context.fence, context.command_id)


@attrs.frozen
class Warehouse:
    """The database.  Its methods block, so handlers call them in a thread."""

    path: Path

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection, None, None]:
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=10.0)
        try:
            # Immediate: nobody else writes between our checks and our writing.
            connection.execute("begin immediate")
            try:
                yield connection
            except BaseException:
                connection.execute("rollback")
                raise
            connection.execute("commit")
        finally:
            connection.close()

    def create(self, stock: dict[str, int]) -> None:
        with sqlite3.connect(self.path) as connection:
            connection.executescript(SCHEMA)
            connection.executemany("insert into stock values (?, ?)", stock.items())
        connection.close()

    def take(self, product: str, pieces: int, guard: Guard) -> int:
        """Takes pieces off the shelf, once for each command, and for the newest owner only."""
        with self._transaction() as connection:
            # 1. The fence.  The row keeps the highest one; a lower one changes nothing, which is how we notice.
            newest = connection.execute(
                "insert into fences values (?, ?) on conflict (entity) do update set fence = excluded.fence"
                " where excluded.fence >= fences.fence",
                (guard.entity, guard.fence),
            )
            if newest.rowcount == 0:
                raise StaleFence(f"{guard.entity}: fence {guard.fence} is not the newest")
            # 2. The command.  If it has run before, its effect is there already: give the same answer again.
            for (left,) in connection.execute(
                "select left_over from done where command_id = ?", (guard.command_id,)
            ):
                return int(left)
            # 3. The effect, and the note that it was had, in the same transaction.
            ((left,),) = connection.execute(
                "update stock set on_hand = on_hand - ? where product = ? returning on_hand",
                (pieces, product),
            ).fetchall()
            connection.execute("insert into done values (?, ?)", (guard.command_id, left))
            return int(left)

    def on_hand(self, product: str) -> int:
        with self._transaction() as connection:
            ((pieces,),) = connection.execute("select on_hand from stock where product = ?", (product,))
            return int(pieces)


@command("product")
class Take(Command[int]):
    product: str = entity_id()
    pieces: int


# Only for this example: the commands and fences that handlers saw, and whether the next one shall fail too late.
@attrs.define
class Trouble:
    expected: bool = False
    seen: list[tuple[str, int, int]] = attrs.field(factory=list[tuple[str, int, int]])


@registry.handles(Take)
async def take(command: Take, context: Context, warehouse: Warehouse, trouble: Trouble) -> int:
    guard = Guard.of(context)
    # In a thread, since SQLite blocks: other entities go on meanwhile.
    left = await trio.to_thread.run_sync(warehouse.take, command.product, command.pieces, guard)
    trouble.seen.append((context.command_id, context.attempt, context.fence))
    if trouble.expected:
        trouble.expected = False
        # The worst moment: the database has committed, trioqueue has not.
        raise ConnectionError("the cable was pulled after the commit")
    return left


async def main(url: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        warehouse, trouble = Warehouse(Path(folder, "warehouse.db")), Trouble()
        warehouse.create({"lamp": 1000})
        async with open_atomic_queues(
            url,
            registry=registry,
            prefix="example-inventory",
            provide={Warehouse: warehouse, Trouble: trouble},
            entities={"product": EntityPolicy(retry=Retry(wait_first=0.01))},
        ) as queues:
            async with trio.open_nursery() as nursery:
                for _ in range(50):
                    nursery.start_soon(queues.call, Take("lamp", 2))
            left = await trio.to_thread.run_sync(warehouse.on_hand, "lamp")
            assert left == 900
            print(f"50 orders of 2 at the same time: {left} of 1000 left")

            # A command that runs again because it failed after its effect: no second effect, and the first answer.
            trouble.expected = True
            left = await queues.call(Take("lamp", 100))
            (first, _, _), (again, attempt, fence) = trouble.seen[-2:]
            assert first == again
            assert attempt == 2
            assert left == await trio.to_thread.run_sync(warehouse.on_hand, "lamp") == 800
            print(f"an order of 100, handled {attempt} times: {left} left")

            # A process that was frozen, and goes on with the fence from before: the database refuses it.
            frozen = Guard("product/lamp", fence - 1, "a command that others have long since handled")
            try:
                await trio.to_thread.run_sync(warehouse.take, "lamp", 500, frozen)
            except StaleFence:
                print("a frozen process that goes on: refused")
            left = await trio.to_thread.run_sync(warehouse.on_hand, "lamp")
            assert left == 800
            print(f"at the end: {left} left")


if __name__ == "__main__":
    trio.run(main, sys.argv[1] if len(sys.argv) > 1 else "memory://")
