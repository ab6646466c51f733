"""The part `growth`: whether a command costs the same with much beside it.

What is compared is processor time, ours and Redis' together, lap by lap with the smallest size, which is measured in
turns with each of the others.  The bar is that a command costs within a tenth of what it costs there.
"""

import random
import statistics
from collections.abc import Awaitable, Callable, Iterator

import trio

from benchmarks.figures import At
from benchmarks.measuring import Cost, Measuring
from benchmarks.processes import open_process
from benchmarks.rounds import Step
from benchmarks.workloads import (
    Handled,
    Reserve,
    Sleep,
    Touch,
    fill,
    in_turn,
    open_pod,
    policies,
    seed,
    spread,
    stocked,
    wide,
)
from trioqueue import AtomicQueues, Drain, open_atomic_queues

ENTITIES = (1, 100, 10_000, 100_000)
PENDING = (0, 100_000, 1_000_000)
DELAYED = (0, 100_000)
LAPS = 9
"""Laps of each size that are told."""

WAVE = 200
"""Commands that are sent together."""

FEW = 20
"""Entities of one wave to those that exist: with fewer there would be less to do side by side."""

PODFUL = 10_000
"""Entities that one pod puts to sleep."""

TO_AWAKE = "to some of the awake"
NEW_BESIDE_AWAKE = "to new ones, others awake"
TO_ASLEEP = "to some of the sleeping"
NEW_BESIDE_ASLEEP = "to new ones, others asleep"
SENT = "sent, pending in {}"
HANDLED = "handled, pending in {}"
BESIDE_DELAYED = "beside put-off commands"
PUT_OFF = "put off, beside others"


def steps() -> list[Step]:
    """Lists what one round measures."""
    return [
        # With one entity there is nothing to do side by side: that is `hot`, and not to be compared with the others.
        *_sizes("to_awake", "others", ENTITIES[1:]),
        *_sizes("beside_awake", "others", ENTITIES),
        *_sizes("to_asleep", "others", ENTITIES[2:]),
        *_sizes("beside_asleep", "others", ENTITIES),
        *(
            step
            for mailboxes in (1, 100)
            for function in ("sent", "handled_first")
            for step in _sizes(function, "pending", PENDING, mailboxes=mailboxes)
        ),
        *_sizes("beside_delayed", "others", DELAYED),
        *_sizes("put_off", "others", DELAYED),
        Step("growth.start_and_leave", rounds=3),
        Step("growth.hand_on", rounds=3),
    ]


def _sizes(function: str, name: str, sizes: tuple[int, ...], **options: int) -> Iterator[Step]:
    smallest = {name: sizes[0], **options}
    for size in sizes[1:]:
        # Once: its laps are what is repeated.
        yield Step(f"growth.{function}", {name: size, **options}, rounds=1, smallest=smallest)


async def to_awake(measuring: Measuring, others: int) -> None:
    """Commands to some of the entities that are awake in a pod, drawn anew for each wave.

    In turn, since some of a hundred would still be at work when they get more, and then need not begin.
    """
    commands = measuring.size(2000, 200)
    dice, handled = random.Random(others), Handled()
    async with open_pod(measuring.url, handled) as queues:
        exist = await _have_awake(measuring, queues, handled, others)
        chosen: list[int] = []

        async def one() -> None:
            chosen[:] = [n for _ in range(commands // WAVE) for n in dice.sample(range(exist), FEW)]
            await in_turn(queues, handled, make, commands=commands, wave=WAVE)

        def make(n: int) -> Touch:
            return Touch(f"other-{chosen[n // WAVE * FEW + n % FEW]}")

        await _laps(measuring, TO_AWAKE, commands, one, others)
        measuring.end()


async def beside_awake(measuring: Measuring, others: int) -> None:
    """A first command to new entities, beside those that are awake in their pod."""
    commands = measuring.size(500, 50)
    handled = Handled()
    async with open_pod(measuring.url, handled) as queues:
        await _have_awake(measuring, queues, handled, others)
        names = (f"new-{n}" for n in range(10**9))
        await _laps(
            measuring,
            NEW_BESIDE_AWAKE,
            commands,
            lambda: spread(queues, handled, lambda _: Touch(next(names)), commands=commands),
            others,
        )
        measuring.end()


async def _have_awake(measuring: Measuring, queues: AtomicQueues, handled: Handled, others: int) -> int:
    exist = measuring.size(others, min(others, WAVE))
    await wide(queues, handled, entities=exist, name="other")
    return exist


async def to_asleep(measuring: Measuring, others: int) -> None:
    """Commands to some of the entities that no pod has, which are a state in Redis; each is met once."""
    commands = measuring.size(500, 20)
    exist, handled = await _have_asleep(measuring, others), Handled()
    chosen = iter(random.Random(others).sample(range(exist), min(exist, commands * (1 + LAPS))))
    async with open_pod(measuring.url, handled) as queues:
        await _laps(
            measuring,
            TO_ASLEEP,
            commands,
            lambda: spread(queues, handled, lambda _: Reserve(f"other-{next(chosen)}"), commands=commands),
            others,
        )
        measuring.end()


async def beside_asleep(measuring: Measuring, others: int) -> None:
    """A first command to new entities, beside those that no pod has."""
    commands = measuring.size(500, 50)
    await _have_asleep(measuring, others)
    handled = Handled()
    async with open_pod(measuring.url, handled) as queues:
        names = (f"new-{n}" for n in range(10**9))
        await _laps(
            measuring,
            NEW_BESIDE_ASLEEP,
            commands,
            lambda: spread(queues, handled, lambda _: Reserve(next(names)), commands=commands),
            others,
        )
        measuring.end()


async def _have_asleep(measuring: Measuring, others: int) -> int:
    exist = measuring.size(others, min(others, WAVE))
    handled = Handled()
    # By pods of the usual size, one after another: one that leaves lets go of some thousand entities a second.
    for first in range(0, exist, PODFUL):
        some = min(PODFUL, exist - first)
        async with open_pod(measuring.url, handled) as queues:
            await stocked(queues, handled, entities=some, first=first, name="other")
    return exist


async def sent(measuring: Measuring, pending: int, mailboxes: int) -> None:
    """Sends to mailboxes in which much is waiting already, with no pod there.

    They grow with each lap, the smallest to 20,000.
    """
    commands = measuring.size(2000, 200)
    where = _where(mailboxes)
    before = int(measuring.redis.info("memory")["used_memory"])
    async with open_atomic_queues(measuring.url) as queues:
        waiting = await _have_pending(measuring, queues, pending, mailboxes)
        if waiting:
            filled = int(measuring.redis.info("memory")["used_memory"]) - before
            measuring.note(f"pending in {where}", "bytes in Redis", filled / waiting, pending)
        await _laps(
            measuring,
            SENT.format(where),
            commands,
            lambda: fill(queues, _to(mailboxes), commands=commands),
            pending,
        )


async def handled_first(measuring: Measuring, pending: int, mailboxes: int) -> None:
    """Has a pod handle the first of what waits in some mailboxes, a new pod each lap.

    As many more are sent before, at any size, so that the smallest has enough; some of them stay.
    """
    skipped, commands = measuring.size(500, 100), measuring.size(2000, 200)
    handled = Handled()
    costs: list[Cost] = []
    async with open_atomic_queues(measuring.url) as queues:
        await _have_pending(measuring, queues, pending, mailboxes)

        async def one() -> Cost:
            await fill(queues, _to(mailboxes), commands=skipped + 2 * commands)
            costs.clear()
            over = trio.Event()

            def begin() -> None:
                costs.append(measuring.from_here())
                handled.after(commands, end)

            def end() -> None:
                costs.append(measuring.so_far())
                over.set()

            handled.after(skipped, begin)  # not what a pod does when it starts
            async with open_pod(measuring.url, handled, drain=Drain(soft=0.0)):
                await over.wait()
            return (costs[1] - costs[0]).of_one(commands)

        await _laps_of_cost(measuring, HANDLED.format(_where(mailboxes)), one, pending)


async def _have_pending(measuring: Measuring, queues: AtomicQueues, pending: int, mailboxes: int) -> int:
    waiting = measuring.size(pending, min(pending, 400))
    # In waves of the usual size: after larger ones Redis' Lua has a larger heap to look after.
    await fill(queues, _to(mailboxes), commands=waiting)
    return waiting


def _where(mailboxes: int) -> str:
    return "one mailbox" if mailboxes == 1 else f"{mailboxes} mailboxes"


def _to(mailboxes: int) -> Callable[[int], Touch]:
    return lambda n: Touch(f"full-{n % mailboxes}")


async def beside_delayed(measuring: Measuring, others: int) -> None:
    """Commands beside others that are put off for an hour."""
    commands = measuring.size(2000, 200)
    handled = Handled()
    async with open_pod(measuring.url, handled) as queues:
        await _put_off(queues, measuring.size(others, min(others, 200)))
        await _laps(
            measuring, BESIDE_DELAYED, commands, lambda: seed(queues, handled, commands=commands), others
        )
        measuring.end()


async def put_off(measuring: Measuring, others: int) -> None:
    """Commands that are put off, beside others that are; these grow with each lap."""
    commands = measuring.size(2000, 200)
    async with open_pod(measuring.url, Handled()) as queues:
        await _put_off(queues, measuring.size(others, min(others, 200)))
        await _laps(measuring, PUT_OFF, commands, lambda: _put_off(queues, commands), others)
        measuring.end()


async def _put_off(queues: AtomicQueues, commands: int) -> None:
    numbers = iter(range(commands))

    async def send() -> None:
        for n in numbers:
            await queues.send(Touch(f"later-{n % 1000}"), delay=3600)

    async with trio.open_nursery() as nursery:
        for _ in range(200):
            nursery.start_soon(send)


async def _laps(
    measuring: Measuring, what: str, commands: int, work: Callable[[], Awaitable[object]], at: At
) -> None:
    async def one() -> Cost:
        return await measuring.cost_of(work(), commands)

    await _laps_of_cost(measuring, what, one, at)


async def _laps_of_cost(measuring: Measuring, what: str, one: Callable[[], Awaitable[Cost]], at: At) -> None:
    """Measures laps, and tells the speed of all as a share of the floor's, which is run before and after them.

    A lap before them is not told: what runs for the first time in a process costs something else, and the smallest
    size has run nothing yet.
    """
    count = measuring.size(LAPS, 2)
    floors: list[Cost] = []
    costs: list[Cost] = []
    async for lap in measuring.laps(1 + count):
        if lap == 0:
            await one()
            floors.append(await measuring.floor(16))
            continue
        costs.append(await one())
        measuring.note_cost(what, costs[-1], at)
        if lap == count:
            floors.append(await measuring.floor(16))
            seconds = statistics.median(cost.seconds for cost in costs)
            measuring.note(what, "of B16", statistics.mean(floor.seconds for floor in floors) / seconds, at)


async def start_and_leave(measuring: Measuring) -> None:
    """A pod that finds many entities with work when it starts, and has them all when it leaves."""
    entities = measuring.size(10_000, 200)
    async with open_atomic_queues(measuring.url) as queues:
        await fill(queues, lambda n: Touch(f"waiting-{n}"), commands=entities)
    handled = Handled()
    done = handled.expect(entities)
    began = trio.current_time()
    async with open_pod(measuring.url, handled) as queues:
        await done.wait()
        await queues.wait_settled()
        took = trio.current_time() - began
        measuring.note("a pod starts, entities have work", "s", took, entities)
        measuring.note("a pod starts, entities have work", "entities/s", entities / took, entities)
        began = trio.current_time()
    took = trio.current_time() - began
    measuring.note("a pod leaves, entities are parked", "s", took, entities)
    measuring.note("a pod leaves, entities are parked", "entities/s", entities / took, entities)


async def hand_on(measuring: Measuring) -> None:
    """A pod that leaves while its entities have work: all of them go to a pod in another process."""
    entities = measuring.size(10_000, 200)
    async with open_pod(
        measuring.url, Handled(), entities=policies(), drain=Drain(soft=0.0, hard=60.0)
    ) as queues:
        await fill(queues, lambda n: Sleep(f"busy-{n}"), commands=entities)
        while (await queues.statistics()).owned < entities:  # noqa: ASYNC110 - another pod might be asked
            await trio.sleep(0.01)
        other = open_process("pod", measuring.url)
        await other.__aenter__()
        began = trio.current_time()
    took = trio.current_time() - began
    try:
        async with open_atomic_queues(measuring.url) as queues:
            owned = (await queues.statistics()).owned
    finally:
        await other.__aexit__(None, None, None)
    measuring.note("a pod leaves, entities have work", "s", took, entities)
    measuring.note("a pod leaves, entities have work", "entities/s", entities / took, entities)
    measuring.note("a pod leaves, entities have work", "% have a pod again", owned / entities * 100, entities)
