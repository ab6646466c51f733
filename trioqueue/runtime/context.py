"""What a handler sees of its turn."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar

import attrs
import trio

from trioqueue._errors import Closed, PayloadTooLarge
from trioqueue._names import Entity
from trioqueue.messages.command import Command, CommandInfo
from trioqueue.messages.options import Options, options_of
from trioqueue.messages.policy import MAX_GROUP_BYTES
from trioqueue.stores.contract import Outgoing

R = TypeVar("R")

CALL_PATIENCE = 30.0
"""Seconds that a call inside a handler waits at most, if nothing else bounds it: so crossing calls end."""


@attrs.frozen
class Receipt(Generic[R]):
    """Tells one accepted command, whose answer is an `R`, from all others.

    Attributes:
        entity_type: The type of the entity it is for.
        entity_id: The entity's id, as canonical text.
        command_id: Names the command for good.
        command: Its wire name.
        kept: Seconds that its outcome is kept once it is settled; 0: it is not.
    """

    entity_type: str
    entity_id: str
    command_id: str
    command: str = ""
    kept: float = 0.0
    # What its class declares, where it was sent here; doesn't travel.
    _info: CommandInfo | None = attrs.field(default=None, init=False, eq=False, repr=False)

    def __str__(self) -> str:
        return f"{self.entity_type}/{self.entity_id} {self.command_id}"

    def declare(self, info: CommandInfo) -> None:
        """Notes what the command's class declares, for who makes a receipt."""
        object.__setattr__(self, "_info", info)

    def declared(self) -> CommandInfo | None:
        """Gives what the command's class declares, where that is known."""
        return self._info


class Sender(Protocol):
    """What a context needs of the front door."""

    def encode(self, command: Command[Any], command_id: str, options: Options = ...) -> Outgoing: ...

    def receipt(self, command: Command[R], outgoing: Outgoing, command_id: str) -> Receipt[R]: ...

    async def tell_progress(self, command_id: str, client: str, word: object) -> None: ...

    async def call_from(self, context: "Context", command: Command[R], options: Options = ...) -> R: ...


@attrs.define(eq=False, repr=False)
class Context:
    """One turn, as its handler sees it.  Ask for it by annotation.

    Attributes:
        entity: The type of the entity whose command is handled.
        entity_id: The entity's id, as text.
        command_id: Names the command for good, also when it is handled once more: an idempotency key for others.
        attempt: 1 for the first start, one more for each failure before.
        fence: Rises with every activation of the entity.  Give it to stores outside: who keeps the highest one
            it has seen, and refuses lower ones, is safe from a pod that was frozen and goes on.
        sent_at: When the command was accepted, in seconds of the store's clock since the epoch.
        headers: What the sender gave along, and what the instruments of its process added, as `traceparent`.
    """

    entity: str
    entity_id: str
    command_id: str
    attempt: int
    fence: int
    sent_at: float
    headers: Mapping[str, str]
    _deadline: float = attrs.field(alias="deadline")
    # None only for a turn whose handler does not see it.
    _nursery: trio.Nursery | None = attrs.field(alias="nursery")
    _sender: Sender = attrs.field(alias="sender")
    _slot: "TurnSlot" = attrs.field(alias="slot")
    _reply_to: str = attrs.field(alias="reply_to")
    # Entities whose handlers wait for this one, first caller first.
    _waiting: tuple[str, ...] = attrs.field(alias="waiting")
    _child_id: str = attrs.field(alias="child_id")
    # Makes what was handled before this turn stand; nothing else may, while it runs.
    _settle: Callable[[], Awaitable[bool]] = attrs.field(alias="settle")
    # What goes out with the commit, in this order; None once the turn is over.
    _children: list[Outgoing] | None = attrs.field(factory=list[Outgoing])
    _children_bytes: int = 0
    _withdrawn: list[Receipt[Any]] = attrs.field(factory=list[Receipt[Any]])

    def __repr__(self) -> str:
        return f"<Context {self.entity}/{self.entity_id} {self.command_id} attempt {self.attempt}>"

    @property
    def deadline(self) -> float:
        """When the handler is cancelled, on Trio's clock; `inf`: never."""
        return self._deadline

    @property
    def nursery(self) -> trio.Nursery:
        """A nursery whose tasks live as long as the entity is awake here: they are cancelled when it is let go.

        Ask each turn for it: without tasks, it may be another one in the next.

        An error in one of them ends the activation: the command in hand, if there is one, is tried again later.
        """
        assert self._nursery is not None
        return self._nursery

    def send(
        self,
        command: Command[R],
        *,
        delay: float | None = None,
        at: datetime | None = None,
        urgent: bool = False,
        expires: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Receipt[R]:
        """Sends a command with the commit of this turn, or never; the options are those of `AtomicQueues.send`.

        It is accepted exactly once if the handler returns and the turn is committed, and not at all if the handler
        raises, is rejected, or runs again elsewhere.  Children keep their order.  It returns at once: nothing is sent
        before the handler has ended.

        Raises:
            Closed: The turn is over.
            NotRegistered, BadEntityId, EncodeError, PayloadTooLarge: As for `AtomicQueues.send`.
        """
        if self._children is None:
            raise Closed
        command_id = f"{self._child_id}.{len(self._children)}"
        options = options_of(delay, at, None, expires, headers, urgent=urgent)
        outgoing = self._sender.encode(command, command_id, options)
        size = self._children_bytes + len(outgoing.data)
        if size > MAX_GROUP_BYTES:
            raise PayloadTooLarge(size, MAX_GROUP_BYTES, together=True)
        self._children_bytes = size
        self._children.append(outgoing)
        return self._sender.receipt(command, outgoing, command_id)

    def cancel(self, receipt: Receipt[Any]) -> None:
        """Cancels a command with the commit of this turn, or never; else as `AtomicQueues.cancel`.

        Also one that this very turn has sent.  Nobody is told what becomes of it: a command that may have begun must do
        no harm when it comes late.

        Raises:
            Closed: The turn is over.
        """
        if self._children is None:
            raise Closed
        self._withdrawn.append(receipt)

    async def call(
        self,
        command: Command[R],
        *,
        urgent: bool = False,
        key: str | None = None,
        expires: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> R:
        """Sends a command to another entity at once and waits for its answer.

        The call is not part of this turn: if the handler runs again, it calls again.  It waits no longer than this
        turn's deadline, else 30 seconds.  While it waits, another handler of this pod may run.  The options are those
        of `AtomicQueues.call`; headers do not travel along by themselves.

        Cancelled: The called command is cancelled too, unless it is done.

        Raises:
            Closed: The turn is over, or was broken off.
            ReentrantCall: The entity, or one that waits for this turn, is called: it could never answer.
            DeadlineExceeded: The time was over.
        """
        if self._children is None:
            raise Closed
        options = options_of(None, None, key, expires, headers, urgent=urgent)
        return await self._sender.call_from(self, command, options)

    async def progress(self, value: object) -> None:
        """Tells how far this command is, to all who follow its receipt; see `AtomicQueues.open_follow`.

        It is told at once, and is not part of the turn: a retry tells it again.  Only the newest value counts.

        Args:
            value: Anything that can travel.

        Raises:
            Closed: The turn is over.
            EncodeError, PayloadTooLarge: It can't travel, or takes more than 4 KiB.
        """
        if self._children is None:
            raise Closed
        await self._sender.tell_progress(self.command_id, self._reply_to, value)

    # ------------------------------------------------------------------ for the runtime
    async def settle(self) -> None:
        """Makes the turns before this one stand, on which what it calls may build.

        Raises:
            Closed: They don't, so nothing of this turn will: who comes so far does not react to its cancellation.
        """
        if not await self._settle():
            raise Closed

    def path(self) -> tuple[str, ...]:
        """Says who waits for what this turn calls, first caller first."""
        return (*self._waiting, f"{self.entity}/{self.entity_id}")

    def slot(self) -> "TurnSlot":
        """Gives this turn's running slot."""
        return self._slot

    def close(self) -> tuple[list[Outgoing], list[Receipt[Any]]]:
        """Ends the turn and takes what it sent and cancelled."""
        children = self._children or []
        self._children = None
        return children, self._withdrawn


class Slots:
    """How many handlers of a pod may run at once; taken in the order of asking.

    Invariant: `free` is above 0 only while nobody waits; below 0 by the slots that were taken over the limit.
    """

    __slots__ = ("_waiting", "free")

    def __init__(self, limit: int) -> None:
        self.free = limit
        self._waiting = trio.lowlevel.ParkingLot()

    async def take(self) -> None:
        """Waits for a slot; cancelled: none is taken.  Does not pass a checkpoint while one is free."""
        if not self.take_nowait():
            await self._waiting.park()

    def take_nowait(self) -> bool:
        """Takes a slot if one is free."""
        if self.free <= 0:
            return False
        self.free -= 1
        return True

    def overdraw(self) -> None:
        """Takes a slot over the limit."""
        self.free -= 1

    def give_back(self) -> None:
        """Passes the slot to whoever waited longest, unless one was taken over the limit."""
        if self.free < 0 or not self._waiting or not self._waiting.unpark():
            self.free += 1


class TurnSlot:
    """The running slot of one turn, which it lends to others while it waits for an answer."""

    __slots__ = ("_held", "_over", "_slots", "_taking")

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._held = False
        self._over = False  # the turn has ended: nothing is taken for it any more
        # Set when a call of the turn that takes the slot back has it; None while none does.
        self._taking: trio.Event | None = None

    def take_nowait(self) -> bool:
        """Takes a slot if one is free."""
        self._held = self._slots.take_nowait()
        return self._held

    async def take(self) -> None:
        """Waits for a slot; cancelled: none is taken."""
        await self._slots.take()
        self._held = True

    def lend(self) -> None:
        """Gives the slot to another turn, while this one waits; one that waits for several answers has none to give."""
        if self._held:
            self._held = False
            self._slots.give_back()

    async def take_back(self) -> None:
        """Waits for a slot again.

        Cancelled: it takes one over the limit, as the clean-up of a cancelled handler must not wait for others.
        """
        while self._taking is not None:  # another call of the turn does it for both
            await self._taking.wait()
        if self._held or self._ended():
            return
        self._taking = trio.Event()
        try:
            await self._slots.take()
        except trio.Cancelled:
            self._slots.overdraw()
            raise
        finally:
            self._held = True
            self._taking.set()
            self._taking = None
            if self._ended():
                self.lend()

    def _ended(self) -> bool:
        return self._over

    def end(self) -> None:
        """Gives the slot back for good."""
        self.lend()
        self._over = True


def entity_of_context(context: Context) -> Entity:
    """Names the entity of a turn."""
    return Entity(context.entity, context.entity_id)
