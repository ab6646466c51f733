"""What the fleet is given to do: ledgers that append numbers, in every way a command can go."""

import itertools
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import attrs
import trio

from trioqueue import (
    AtomicQueues,
    CallCancelled,
    CallFailed,
    Closed,
    Command,
    Context,
    DeadlineExceeded,
    OutcomeUnknown,
    ReentrantCall,
    Registry,
    Rejected,
    Rejection,
    ResultNotKept,
    StoreUnavailable,
    command,
    entity_id,
    state,
)
from trioqueue.messages.schedule import MISSED

from . import history
from .checker import ATTEMPTS
from .history import Event
from .network import QUIET, Network
from .process import current_process

FATES = ("done",) * 10 + ("flaky", "flaky", "refuse", "poison", "hang", "call", "call")
"""What the handler of a command does; "done" may come in time as well."""

GIVES_UP = (OutcomeUnknown, StoreUnavailable, Closed)
"""What a send may raise without anybody's mistake."""

NO_ANSWER = (DeadlineExceeded, CallFailed, CallCancelled, ReentrantCall, Rejected)
"""With a key, also the rejection of a first command of another class."""

DELAYS = (0.02, 0.3, 1.0, 1.0, 3.0, 6.0)
"""Seconds by which a command is put off."""

KEYS = ("a", "b", "c")
"""Of each ledger: few, so that several commands have one."""


@attrs.define
class Refused(Rejection):
    number: int


@state("ledger")
class Ledger:
    numbers: list[int] = attrs.field(factory=list)


@command("ledger", rejects=[Refused])
class Work(Command[int]):
    ledger_id: str = entity_id()
    number: int
    fate: str = "done"
    seconds: float = 0.0
    children: list[str] = attrs.field(factory=list)  # "ledger:number:seconds" by which it is put off, or "0"
    calls: str = ""  # a ledger


@command("ledger")
class Hang(Command[int]):
    """Never ends by itself; its handler has a timeout."""

    ledger_id: str = entity_id()
    number: int


@command("ledger")
class Ring(Command):
    """Sent by a schedule, so all have one number; each is known by its id."""

    ledger_id: str = entity_id()
    number: int = 0


class Workload:
    """Makes commands, and handles them."""

    def __init__(
        self,
        network: Network,
        dice: Random,
        entities: int,
        handling: Sequence[float],
        activation: tuple[float, float] | None,
        ticks: float,
        write: Callable[[Event], None],
    ) -> None:
        self.handling = handling
        self.network = network
        self.dice = dice
        self.entities = entities
        self.write = write
        self.sending = True
        self.confirmed = 0
        self._numbers = itertools.count(1)
        self._keys: dict[int, str] = {}  # of commands that are about to be sent
        self.registry = Registry()
        self.registry.handles(Work)(self.work)
        self.registry.handles(Hang, timeout=0.3)(self.hang)
        if ticks:
            self.registry.handles(Ring)(self.ring)
            self.registry.every(ticks, Ring("0"), name="rings", missed=dice.choice(MISSED))
        self._activation = activation
        if activation is not None:
            self.registry.activation("ledger")(self.opened)

    def ledger(self) -> str:
        # A few are hot.
        return str(min(self.dice.randrange(self.entities), self.dice.randrange(self.entities)))

    # -------------------------------------------------------------------------------- handlers
    @asynccontextmanager
    async def _turn(self, number: int, context: Context) -> AsyncGenerator[None, None]:
        process, entity = current_process(), f"ledger/{context.entity_id}"
        if process.dead:
            yield
            return
        self.write(
            history.Started(trio.current_time(), process.name, entity, number, context.fence, context.attempt)
        )
        how = "raised"
        try:
            yield
            how = "returned"
        except trio.Cancelled:
            how = "cancelled"
            raise
        finally:
            if not process.dead:
                self.write(
                    history.Ended(trio.current_time(), process.name, entity, number, context.fence, how)
                )

    async def _effect(self, number: int, context: Context, *, slow: bool) -> None:
        """Writes to the store outside, which is somewhere in the network if it is slow."""
        process = current_process()
        if process.dead:
            return

        def arrive() -> None:
            self.write(
                history.Effect(
                    trio.current_time(), process.name, f"ledger/{context.entity_id}", number, context.fence
                )
            )

        if not slow:
            arrive()
            return
        seconds = self.network.dice.expovariate(20)
        self.network.after(seconds, arrive)
        await trio.sleep(2 * seconds + 0.001)

    async def work(self, command: Work, ledger: Ledger, context: Context) -> int:
        number = command.number
        async with self._turn(number, context):
            await self._effect(number, context, slow=False)
            ledger.numbers.append(number)
            for child in command.children:
                to, child_number, seconds = child.split(":")
                context.send(Work(to, int(child_number)), delay=float(seconds) or None)
            if command.calls:
                with trio.move_on_after(1.0):
                    await self._call(context.call, command.calls)
            await trio.sleep(command.seconds)
            if number % 4 == 0:
                await self._effect(number, context, slow=True)
            if command.fate == "refuse":
                raise Refused(number)
            if command.fate == "poison" or (command.fate == "flaky" and context.attempt < ATTEMPTS):
                raise OSError(f"{number} fails")
            return len(ledger.numbers)

    async def hang(self, command: Hang, ledger: Ledger, context: Context) -> int:
        async with self._turn(command.number, context):
            ledger.numbers.append(command.number)
            await trio.sleep_forever()

    async def ring(self, command: Ring, ledger: Ledger, context: Context) -> None:
        number = self.network.server.rings[context.command_id]
        async with self._turn(number, context):
            await self._effect(number, context, slow=False)
            ledger.numbers.append(number)

    @asynccontextmanager
    async def opened(self, nursery: trio.Nursery) -> AsyncGenerator[None, None]:
        """Is one stay of a ledger in a worker; it may fail to begin, and as long as it lasts."""
        assert self._activation is not None
        begins_badly, ends_badly = self._activation if self.network.odds is not QUIET else (0.0, 0.0)
        await trio.sleep(self.dice.choice([0.0, 0.02]))
        if self.dice.random() < begins_badly:
            raise ConnectionError("the device is not there")

        async def crash() -> None:
            await trio.sleep(self.dice.expovariate(2))
            # It interrupts the handler that runs meanwhile, whose command is started once more.
            self.write(history.Fault(trio.current_time(), "activation crashed"))
            raise ConnectionError("the device has gone")

        if self.dice.random() < ends_badly:
            nursery.start_soon(crash)
        yield
        await trio.lowlevel.checkpoint()

    # -------------------------------------------------------------------------------- senders
    async def send(self, queues: AtomicQueues, line: str, dice: Random, pause: float) -> None:
        """Sends all kinds of commands until the end; children: calls and sends that go on meanwhile."""
        async with trio.open_nursery() as calls:
            while self.sending:
                await trio.sleep(dice.expovariate(1 / pause))
                if not self.sending:
                    break
                kind = dice.random()
                if kind < 0.4:
                    await self._send(queues, [self._command(dice, line)])
                elif kind < 0.48:
                    await self._send(queues, [self._command(dice, "")], delay=dice.choice(DELAYS))
                elif kind < 0.55:
                    delay = dice.choice((None, None, *DELAYS))
                    one = self._command(dice, "" if delay else line, key=dice.choice(KEYS))
                    await self._send(queues, [one], delay=delay)
                elif kind < 0.7:
                    many = [self._command(dice, line) for _ in range(dice.randint(2, 8))]
                    await self._send(queues, many)
                elif kind < 0.75:
                    with trio.move_on_after(dice.expovariate(100)):
                        await self._send(queues, [self._command(dice, line)])
                elif kind < 0.8:
                    for _ in range(4):  # at once: any may overtake any
                        calls.start_soon(self._send, queues, [self._command(dice, "")])
                else:
                    key = dice.choice(KEYS) if dice.random() < 0.2 else ""
                    calls.start_soon(self._call_patiently, queues, dice.choice([0.02, 0.5, 3.0, 30.0]), key)
            calls.cancel_scope.deadline = trio.current_time() + 2.0

    def _command(self, dice: Random, line: str, *, key: str = "", bounded: bool = False) -> Work | Hang:
        number, ledger, fate = next(self._numbers), self.ledger(), dice.choice(FATES)
        children: tuple[int, ...] = ()
        made: Work | Hang
        if fate == "hang":
            made = Hang(ledger, number)
        else:
            if dice.random() < 0.3:
                children = tuple(next(self._numbers) for _ in range(dice.randint(1, 3)))
            to = [self.ledger() for _ in children]
            delays = [dice.choice((0, 0, 0, *DELAYS)) for _ in children]
            made = Work(
                ledger,
                number,
                fate,
                seconds=dice.choice(self.handling),
                children=[
                    f"{ledger_id}:{child}:{delay}"
                    for ledger_id, child, delay in zip(to, children, delays, strict=True)
                ],
                calls=self.ledger() if fate == "call" else "",
            )
            for ledger_id, child in zip(to, children, strict=True):
                self._asked(child, ledger_id, "", "done")
        self._asked(number, ledger, line, fate, bounded=bounded, children=children, key=key)
        if key:
            self._keys[number] = key
        return made

    def _asked(
        self,
        number: int,
        ledger: str,
        line: str,
        fate: str,
        *,
        bounded: bool = False,
        children: tuple[int, ...] = (),
        key: str = "",
    ) -> None:
        now = trio.current_time()
        self.write(history.Asked(now, number, f"ledger/{ledger}", line, fate, bounded, children, key))

    async def send_and_cancel(self, queues: AtomicQueues, dice: Random) -> None:
        """Sends one command, put off or not, and takes it back a little later."""
        process, one = current_process(), self._command(dice, "", bounded=True)
        receipt = await queues.send(one, delay=dice.choice((None, None, *DELAYS)))
        await trio.sleep(dice.expovariate(5))
        if await queues.cancel(receipt) == "dropped" and not process.dead:
            self.write(history.Dropped(trio.current_time(), one.number))

    async def _send(
        self, queues: AtomicQueues, commands: list[Work | Hang], delay: float | None = None
    ) -> None:
        process = current_process()
        try:
            if len(commands) == 1:
                await queues.send(commands[0], delay=delay, key=self._keys.pop(commands[0].number, None))
            else:
                await queues.send_many(commands)
        except GIVES_UP:
            return
        except trio.Cancelled:
            for one in commands:
                self.write(history.Cancelled(trio.current_time(), one.number))
            raise
        if not process.dead:
            for one in commands:
                self.confirmed += 1
                self.write(history.Confirmed(trio.current_time(), one.number))

    async def _call_patiently(self, queues: AtomicQueues, patience: float, key: str) -> None:
        with trio.move_on_after(patience):
            await self._call(queues.call, self.ledger(), key)

    async def _call(self, call: Callable[..., Any], ledger: str, key: str = "") -> None:
        number = next(self._numbers)
        fate = self.dice.choice(FATES)
        fate = "done" if fate == "call" else fate
        self._asked(number, ledger, "", fate, bounded=not key, key=key)
        process = current_process()
        try:
            made = Hang(ledger, number) if fate == "hang" else Work(ledger, number, fate)
            answer = await call(made, key=key or None)
        except (*GIVES_UP, *NO_ANSWER):
            return
        except ResultNotKept:
            if not process.dead:
                self.write(history.Gone(trio.current_time(), number))
            return
        except Refused as refused:
            if refused.number != number and not key and not process.dead:
                self.write(
                    history.Wrong(trio.current_time(), f"{number} got the refusal of {refused.number}")
                )
            return
        if not process.dead:
            self.write(history.Answered(trio.current_time(), number, answer))
