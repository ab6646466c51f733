"""The part `growth`: whether a command costs the same with much beside it.

What is compared is processor time, ours and Redis' together, in units of what the floor takes right before and after:
the machine's speed cancels out, and so does what another process takes from us.  The bar is that a command costs
within a tenth of what it costs at the smallest size.
"""

import random
from collections.abc import Sequence

import trio

from benchmarks.figures import Figures, Key
from benchmarks.measuring import Cost, Measuring
from benchmarks.processes import open_process
from benchmarks.rounds import Step
from benchmarks.workloads import (
    Handled,
    Reserve,
    Sleep,
    Touch,
    fill,
    open_pod,
    policies,
    seed,
    spread,
    stocked,
    wide,
)
from trioqueue import AtomicQueues, Drain, open_atomic_queues

ENTITIES = (1, 100, 10_000, 100_000)
PENDING = (0, 10_000, 100_000, 1_000_000)
DELAYED = (0, 100_000)
FEW = 20
"""Entities of one wave to those that exist: with fewer there would be less to do side by side."""

PODFUL = 10_000
"""Entities that one pod puts to sleep."""

PROCESSOR_TIME = "processor time, of B16's"
OF_SMALLEST = "processor time, of the smallest's"

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
        *(Step("growth.awake", {"others": size}, rounds=3) for size in ENTITIES),
        *(Step("growth.asleep", {"others": size}, rounds=3) for size in ENTITIES),
        *(
            Step("growth.pending", {"commands": size, "mailboxes": mailboxes}, rounds=3)
            for mailboxes in (1, 1000)
            for size in PENDING
        ),
        *(Step("growth.delayed", {"commands": size}, rounds=3) for size in DELAYED),
        Step("growth.start_and_leave", rounds=3),
        Step("growth.hand_on", rounds=3),
    ]


async def awake(measuring: Measuring, others: int) -> None:
    """Commands to some of the entities that are awake in a pod, drawn anew for each wave; then to new ones."""
    commands = measuring.size(10_000, 400)
    dice = random.Random(others)
    handled = Handled()
    async with open_pod(measuring.url, handled) as queues:
        await wide(queues, handled, entities=measuring.size(others, min(others, 200)), name="other")
        names = range(measuring.size(others, min(others, 200)))
        # With one entity there is nothing to do side by side: that is `hot`, and not to be compared with the others.
        chosen = [dice.sample(names, min(FEW, len(names))) for _ in range(commands // 200)]

        def make(n: int) -> Touch:
            few = chosen[n // 200]
            return Touch(f"other-{few[n % len(few)]}")

        await measuring.beside_floor(
            TO_AWAKE, 16, commands, lambda: spread(queues, handled, make, commands=commands), others
        )
        new = measuring.size(2000, 200)
        await measuring.beside_floor(
            NEW_BESIDE_AWAKE, 16, new, lambda: wide(queues, handled, entities=new, name="new"), others
        )
        measuring.end()


async def asleep(measuring: Measuring, others: int) -> None:
    """Commands to some of the entities that no pod has, which are a state in Redis; then to new ones."""
    exist = measuring.size(others, min(others, 200))
    commands = measuring.size(2000, 100)
    handled = Handled()
    # By pods of the usual size, one after another: one that leaves lets go of some thousand entities a second.
    for first in range(0, exist, PODFUL):
        last = min(first + PODFUL, exist)
        async with open_pod(measuring.url, handled) as queues:
            await spread(
                queues, handled, lambda n, first=first: Reserve(f"other-{first + n}"), commands=last - first
            )
    async with open_pod(measuring.url, handled) as queues:
        if exist >= commands:
            chosen = random.Random(others).sample(range(exist), commands)
            await measuring.beside_floor(
                TO_ASLEEP,
                16,
                commands,
                lambda: spread(queues, handled, lambda n: Reserve(f"other-{chosen[n]}"), commands=commands),
                others,
            )
        await measuring.beside_floor(
            NEW_BESIDE_ASLEEP,
            16,
            commands,
            lambda: stocked(queues, handled, entities=commands, name="new"),
            others,
        )
        measuring.end()


async def pending(measuring: Measuring, commands: int, mailboxes: int) -> None:
    """Sends to mailboxes that are full already, with no pod there; then has a pod handle the first of it all."""
    where = "one mailbox" if mailboxes == 1 else f"{mailboxes:,} mailboxes"
    waiting, work, skipped = (
        measuring.size(commands, min(commands, 400)),
        measuring.size(5000, 400),
        measuring.size(1000, 100),
    )
    empty = int(measuring.redis.info("memory")["used_memory"])

    def make(n: int) -> Touch:
        return Touch(f"full-{n % mailboxes}")

    async with open_atomic_queues(measuring.url) as queues:
        await fill(queues, make, commands=waiting, wave=1000)
        if waiting:
            filled = int(measuring.redis.info("memory")["used_memory"]) - empty
            measuring.note(f"pending in {where}", "bytes in Redis", filled / waiting, commands)
        await measuring.beside_floor(
            SENT.format(where), 16, work, lambda: fill(queues, make, commands=work), commands
        )
        await fill(queues, make, commands=skipped * 2)
    costs: list[Cost] = []
    handled, over = Handled(), trio.Event()

    def begin() -> None:
        costs.append(measuring.so_far())
        handled.after(work, end)

    def end() -> None:
        costs.append(measuring.so_far())
        over.set()

    before = await measuring.floor(16)
    handled.after(skipped, begin)  # not what a pod does when it starts
    async with open_pod(measuring.url, handled, drain=Drain(soft=0.0)):
        await over.wait()
    one = (costs[1] - costs[0]).of_one(work)
    measuring.note_beside(HANDLED.format(where), 16, one, (before, await measuring.floor(16)), commands)


async def delayed(measuring: Measuring, commands: int) -> None:
    """Commands beside others that are put off for an hour; then more of those."""
    waiting, work = measuring.size(commands, min(commands, 200)), measuring.size(10_000, 400)
    handled = Handled()
    async with open_pod(measuring.url, handled) as queues:
        await _put_off(queues, waiting)
        await measuring.beside_floor(
            BESIDE_DELAYED, 16, work, lambda: seed(queues, handled, commands=work), commands
        )
        more = measuring.size(5000, 200)
        await measuring.beside_floor(PUT_OFF, 16, more, lambda: _put_off(queues, more), commands)


async def _put_off(queues: AtomicQueues, commands: int) -> None:
    numbers = iter(range(commands))

    async def send() -> None:
        for n in numbers:
            await queues.send(Touch(f"later-{n % 1000}"), delay=3600)

    async with trio.open_nursery() as nursery:
        for _ in range(200):
            nursery.start_soon(send)


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


def derive(figures: Figures) -> None:
    """Compares each size with the smallest one at which the work is of the same kind, round by round."""
    for what in dict.fromkeys(key.what for key in figures if key.unit == PROCESSOR_TIME):
        sizes = [key.at for key in figures if (key.what, key.unit) == (what, PROCESSOR_TIME)]
        if what == TO_AWAKE:
            sizes = [size for size in sizes if size != 1]
        if len(sizes) > 1:
            _compare(figures, what, sizes)


def _compare(figures: Figures, what: str, sizes: Sequence[object]) -> None:
    first = figures.values(Key(what, PROCESSOR_TIME, sizes[0]))  # type: ignore[arg-type]
    for size in sizes[1:]:
        values = figures.values(Key(what, PROCESSOR_TIME, size))  # type: ignore[arg-type]
        for value, smallest in zip(values, first, strict=False):
            figures.add(Key(what, OF_SMALLEST, size), value / smallest)  # type: ignore[arg-type]
