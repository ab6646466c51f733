"""The commands that are measured, and the pods that handle them."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import trio

from trioqueue import (
    AtomicQueues,
    Command,
    Context,
    EntityPolicy,
    Limits,
    Registry,
    command,
    entity_id,
    open_atomic_queues,
    state,
)


@command("item")
class Touch(Command):
    item_id: str = entity_id()
    product: str = "product-0012"
    quantity: int = 3


@command("tally")
class Count(Command):
    """As Touch, committed in groups."""

    tally_id: str = entity_id()
    product: str = "product-0012"
    quantity: int = 3


@command("item")
class Ask(Command[int]):
    item_id: str = entity_id()
    quantity: int = 3


@state("stock")
class Stock:
    left: int = 0


@command("stock")
class Reserve(Command[int]):
    stock_id: str = entity_id()
    quantity: int = 3


@command("spinner")
class Spin(Command):
    """Endless work: each sends the next one to its own entity, until it is told to stop."""

    spinner_id: str = entity_id()


@command("sleeper")
class Sleep(Command):
    """Work that never ends by itself."""

    sleeper_id: str = entity_id()


Plain: TypeAlias = type[Touch] | type[Count]


class Handled:
    """Counts what the handlers of this process have done.

    Whoever waits for the end of the work waits here and not in Redis, which would have to be asked again and again,
    and would tell late.
    """

    def __init__(self) -> None:
        self.count = 0
        self.spinning = True  # False: work that is endless ends
        self._target = -1  # no target: never reached
        self._reached: Callable[[], object] = _nothing

    def one(self) -> None:
        self.count += 1
        if self.count == self._target:
            self._reached()

    def after(self, commands: int, do: Callable[[], object]) -> None:
        """Does something in the turn of the n-th command from now on."""
        self._target, self._reached = self.count + commands, do

    def expect(self, commands: int) -> trio.Event:
        """Gives the event of so many commands from now on."""
        reached = trio.Event()
        self.after(commands, reached.set)
        return reached


def _nothing() -> None:
    pass


def make_registry(handled: Handled) -> Registry:
    """Makes the handlers, which do next to nothing, so that what is left is trioqueue."""
    registry = Registry()

    @registry.handles(Touch)
    async def touch(command: Touch) -> None:
        handled.one()

    @registry.handles(Count)
    async def count(command: Count) -> None:
        handled.one()

    @registry.handles(Ask)
    async def ask(command: Ask) -> int:
        return command.quantity

    @registry.handles(Reserve)
    async def reserve(command: Reserve, stock: Stock) -> int:
        handled.one()
        stock.left -= command.quantity
        return stock.left

    @registry.handles(Spin)
    async def spin(command: Spin, context: Context) -> None:
        if handled.spinning:
            context.send(command)

    @registry.handles(Sleep)
    async def sleep(command: Sleep) -> None:
        await trio.sleep_forever()

    return registry


def policies(idle_timeout: float = 600.0) -> dict[str, EntityPolicy]:
    """Nobody falls asleep by itself while something is measured."""
    types = ("item", "stock", "tally", "spinner", "sleeper")
    commits = {"tally": "group"}
    return {
        name: EntityPolicy(idle_timeout=idle_timeout, commit=commits.get(name, "each"))  # type: ignore[arg-type]
        for name in types
    }


@asynccontextmanager
async def open_pod(url: str, handled: Handled, **options: Any) -> AsyncGenerator[AtomicQueues]:
    """Opens a pod in this process, with room for as many entities as are measured."""
    options = {"entities": policies(), "limits": Limits(owned=200_000), **options}
    async with open_atomic_queues(url, registry=make_registry(handled), **options) as queues:
        yield queues


@asynccontextmanager
async def spinning(
    queues: AtomicQueues, handled: Handled, entities: int, *, deep: int = 16
) -> AsyncGenerator[None]:
    """Keeps some entities of this process busy, each with as many commands waiting."""
    await queues.send_many([Spin(f"spinner-{n}") for n in range(entities) for _ in range(deep)])
    try:
        yield
    finally:
        handled.spinning = False


# -------------------------------------------------------------------------------- work, until it is committed
async def hot(
    queues: AtomicQueues, handled: Handled, cls: Plain = Touch, *, commands: int = 5000, wave: int = 200
) -> None:
    """One entity, commands in waves."""
    await spread(queues, handled, lambda _: cls("hot"), commands=commands, wave=wave)


async def seed(
    queues: AtomicQueues, handled: Handled, cls: Plain = Touch, *, commands: int = 10_000, wave: int = 200
) -> None:
    """Twenty entities, waves over all of them."""
    await spread(queues, handled, lambda n: cls(f"seed-{n % 20}"), commands=commands, wave=wave)


async def wide(queues: AtomicQueues, handled: Handled, *, entities: int, name: str = "wide") -> None:
    """One command for each of many entities, all cold."""
    await spread(queues, handled, lambda n: Touch(f"{name}-{n}"), commands=entities)


async def stocked(
    queues: AtomicQueues, handled: Handled, *, entities: int, first: int = 0, name: str = "stock"
) -> None:
    """As `wide`, with a state that each command changes."""
    await spread(queues, handled, lambda n: Reserve(f"{name}-{first + n}"), commands=entities)


async def in_turn(
    queues: AtomicQueues, handled: Handled, make: Callable[[int], Command[Any]], *, commands: int, wave: int
) -> None:
    """Sends in waves, each when the one before is handled: an entity that gets more has at most a commit under way."""
    for start in range(0, commands, wave):
        done = handled.expect(wave)
        await queues.send_many([make(n) for n in range(start, start + wave)])
        await done.wait()
    await queues.wait_settled()


async def spread(
    queues: AtomicQueues,
    handled: Handled,
    make: Callable[[int], Command[Any]],
    *,
    commands: int,
    wave: int = 200,
) -> None:
    """Sends in waves, each when the one before is accepted, and waits until all is committed."""
    done = handled.expect(commands)
    await fill(queues, make, commands=commands, wave=wave)
    await done.wait()
    await queues.wait_settled()  # the last handlers have ended, and their commits are on the way


async def fill(
    queues: AtomicQueues, make: Callable[[int], Command[Any]], *, commands: int, wave: int = 200
) -> None:
    """Sends in waves and waits for nothing else."""
    for start in range(0, commands, wave):
        await queues.send_many([make(n) for n in range(start, min(start + wave, commands))])
