"""The front door: what an application does with its queues once they are open."""

import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Literal, TypeVar

import attrs
import trio

from trioqueue._encoding import Encoder
from trioqueue._errors import (
    Closed,
    DeadlineExceeded,
    NotRegistered,
    OutcomeUnknown,
    PayloadTooLarge,
    ReentrantCall,
    ResultNotKept,
    SendInsideTurn,
    TrioqueueError,
)
from trioqueue._health import Health, health_of
from trioqueue._names import Entity, entity_id_text
from trioqueue._operating import Operating
from trioqueue._outcomes import answer_of, read_outcome
from trioqueue._signals import wait_for_end
from trioqueue._statistics import Statistics
from trioqueue._watching import Watching
from trioqueue.messages.codec import Codec
from trioqueue.messages.command import Command, CommandInfo, info_of
from trioqueue.messages.envelope import beginning_of
from trioqueue.messages.options import PLAIN, Options, options_of
from trioqueue.messages.policy import MAX_GROUP_BYTES, EntityPolicy
from trioqueue.messages.registry import Registry
from trioqueue.messages.state import read_state, state_info_of
from trioqueue.protocol.outcome import Kind, Outcome
from trioqueue.runtime.context import CALL_PATIENCE, Context, Receipt
from trioqueue.runtime.counts import Counts
from trioqueue.runtime.following import Follower, Followers
from trioqueue.runtime.incarnation import Incarnation
from trioqueue.runtime.instruments import NOBODY, UNANSWERED, Instruments
from trioqueue.runtime.listening import Listeners
from trioqueue.runtime.receiver import Receiver, Waiting
from trioqueue.runtime.running import turn_of_this_task
from trioqueue.runtime.supervisor import Supervisor
from trioqueue.stores.contract import ClaimWish, Group, Outgoing, Store
from trioqueue.stores.reports import Withdrawal
from trioqueue.stores.service_nursery import ServiceNursery

R = TypeVar("R")
S = TypeVar("S")

MAX_WISHES = 512
"""Entities of one send that are claimed with it; others are claimed when they are woken."""

MAX_PROGRESS = 4096
"""Bytes of one word on a command's progress: it travels in a hint."""

FOLLOW_EVERY = 0.5
"""Seconds between two looks of one who follows a command, where no hint comes."""

LOST_AFTER = 10.0
"""Seconds between two looks of `result` whether the command is still there."""

SETTLED_POLL = (0.002, 0.1)
"""Seconds between two looks of `wait_settled`: the first, and the longest."""


class Following:
    """The values that a command's handler says; see `AtomicQueues.open_follow`."""

    def __init__(
        self,
        queues: "AtomicQueues",
        read: Callable[[str], Awaitable[bytes | None]],
        codec: Codec,
        receipt: Receipt[Any],
        follower: Follower,
    ) -> None:
        self._queues, self._read, self._codec = queues, read, codec
        self._receipt, self._follower = receipt, follower

    def __aiter__(self) -> "Following":
        return self

    async def __anext__(self) -> Any:
        """Waits for a value that is newer than the last one."""
        over = False
        while True:
            kept = await self._read(self._receipt.command_id)
            if kept is not None:
                self._follower.tell(kept)
            word = self._follower.take()
            if word is not None:
                return self._codec.loads(word)
            if over:
                raise StopAsyncIteration
            over = (await self._queues.status(self._receipt)).state != "pending"
            if not over:
                await self._follower.wait(FOLLOW_EVERY)


@attrs.frozen
class Status:
    """How far a command is.

    Attributes:
        state: "pending": it waits, is handled, or is put off.  "finished": it is settled, and its outcome is kept.
            "unknown": it was never accepted, or its outcome is not kept.
        outcome: Of one that is finished: "done", "rejected", "dead" (a dead letter), "cancelled" or "expired".
    """

    state: Literal["pending", "finished", "unknown"]
    outcome: str | None = None


class AtomicQueues(Operating, Watching):
    """The open queues.  Made by `open_atomic_queues`; belongs to the Trio run that opened it."""

    def __init__(
        self,
        store: Store,
        codec: Codec,
        registry: Registry | None,
        policies: dict[str, EntityPolicy],
        instruments: Instruments,
    ) -> None:
        self._store = store
        self._codec = codec
        self._registry = registry
        self._encoder = Encoder(codec, policies, store.client)
        self._counts = Counts()
        self._receiver = Receiver(store.result)
        self._followers = Followers()
        self._listeners = Listeners(codec)
        self._instruments = instruments
        self._supervisor: Supervisor | None = None
        self._services: ServiceNursery | None = None  # None before and after the block
        self._served = trio.Event()

    def __repr__(self) -> str:
        state = "open" if self._services else "closed"
        return f"<AtomicQueues {state} on {self._store!r}>"

    # -------------------------------------------------------------------------------- sending
    async def send(
        self,
        command: Command[R],
        /,
        *,
        delay: float | None = None,
        at: datetime | None = None,
        urgent: bool = False,
        key: str | None = None,
        expires: float | None = None,
        headers: Mapping[str, str] | None = None,
        outside_commit: bool = False,
    ) -> Receipt[R]:
        """Puts a command into its entity's mailbox; returns once it is accepted.

        Accepted means that it survives the death of any pod and will be handled, after everything that was
        accepted for the entity before.  Sends that are awaited one after another are accepted in that order.

        Cancelled: It is accepted once or not at all; which one, is not known.

        Args:
            command: An instance of a class declared with `@command`.
            delay: Seconds until it is put into the mailbox, by the store's clock: it takes its place in the line then.
            at: When that shall be, as an aware datetime; how far away that is, this machine's clock says now.
            urgent: Puts it into a lane of its own, in its order there: it overtakes what the entity's worker has not
                fetched yet (`EntityPolicy.fetch`), and never a command that was begun or waits to be tried again.
            key: Idempotency key: of all commands of this entity that are sent with it within `EntityPolicy.key_window`,
                only the first one counts, and the others get its receipt.
            expires: Seconds from now after which it is not worth starting: it leaves unhandled, and a handler that
                runs is cancelled.  Not to be given with a `key`, as others may wait for that one.
            headers: Text that travels along, for tracing and the like; see `Context.headers`.
            outside_commit: Allows sending from within a handler, at once and once more with each retry.

        Raises:
            NotRegistered, BadEntityId, EncodeError, PayloadTooLarge: Nothing was sent.
            SendInsideTurn: Inside a handler; use `context.send`.
            StoreFull, MailboxFull: Nothing was accepted.
            StoreUnavailable: The link was down the whole time; nothing was accepted.
            OutcomeUnknown: The link was down for longer than `Limits.unanswered`.
            NotReplicated: It is accepted, and with `durability="replica"` no replica is known to have it.
            Closed: The block has ended.
        """
        self._check_open()
        if not outside_commit:
            self._check_outside_turn()
        options = options_of(delay, at, key, expires, headers, urgent=urgent)
        command_id = self._encoder.next_id()
        told = self._instruments
        with told.sending_these([(command, command_id)], "send") if told.active else NOBODY as added:
            outgoing = self._encoder.encode(command, command_id, options, added=added)
            group = await self._send([outgoing])
            if told.active:
                told.sent(outgoing.entity.type, info_of(command).name, 1)
            await self._store.secure()
        return self.receipt(command, outgoing, group.first_id or command_id)

    async def send_many(
        self, commands: Iterable[Command[Any]], *, outside_commit: bool = False
    ) -> list[Receipt[Any]]:
        """Sends several commands in one request, all or nothing, in their order; else as `send`.

        Returns:
            A receipt for each command, in their order.
        """
        self._check_open()
        if not outside_commit:
            self._check_outside_turn()
        outgoing: list[Outgoing] = []
        receipts: list[Receipt[Any]] = []
        named = [(command, self._encoder.next_id()) for command in commands]
        told = self._instruments
        with told.sending_these(named, "send") if told.active else NOBODY as added:
            for command, command_id in named:
                one = self._encoder.encode(command, command_id, added=added)
                outgoing.append(one)
                receipts.append(self.receipt(command, one, command_id))
            size = sum(len(one.data) for one in outgoing)
            if size > MAX_GROUP_BYTES:
                raise PayloadTooLarge(size, MAX_GROUP_BYTES, together=True)
            if outgoing:
                await self._send(outgoing)
                if told.active:
                    told.sent_these([command for command, _ in named])
                await self._store.secure()
            else:
                await trio.lowlevel.checkpoint()
        return receipts

    async def call(
        self,
        command: Command[R],
        /,
        *,
        urgent: bool = False,
        key: str | None = None,
        expires: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> R:
        """Sends a command and waits for its answer, through retries until the final outcome.

        The caller's deadline, that of its cancel scopes, travels with the command: a command whose time is
        over is dropped unstarted, and a handler that runs is cancelled.

        Cancelled: The command is cancelled too, on whatever pod, unless it is done, or has a `key`: then others may
        wait for it, and neither the caller's end nor its deadline concerns it.

        Args:
            command: As for `send`, like the other ones.
            urgent: Puts it into the urgent lane.
            key: Idempotency key: answers the outcome of the first command that was sent with it, once it is there.
            expires: Seconds from now after which it is not worth starting.
            headers: Text that travels along.

        Returns:
            What the handler returned, as the `R` of `Command[R]`.

        Raises:
            Rejection: The one that the handler raised, if the command declares it, else `Rejected`.
            CallFailed: It failed for good and is a dead letter now.
            UnknownCommand: No pod had a handler for it for `EntityPolicy.unknown_grace`.
            CallCancelled: Somebody else cancelled it.
            DeadlineExceeded: The deadline that travelled with it passed.
            NotReplicated: It is accepted and may have been handled, and with `durability="replica"` no replica is
                known to have that.
            ReentrantCall: Inside a handler: the call leads back to an entity that waits for it.
        """
        self._check_open()
        options = options_of(None, None, key, expires, headers, urgent=urgent)
        turn = turn_of_this_task()
        if turn is not None:
            return await self.call_from(turn, command, options)
        return await self._call(command, trio.current_effective_deadline(), (), options)

    async def call_from(self, context: Context, command: Command[R], options: Options = PLAIN) -> R:
        """Calls from within a turn: with its path, its deadline, and without its running slot meanwhile."""
        self._check_open()
        info = info_of(command)
        path = context.path()
        target = str(Entity(info.entity, entity_id_text(getattr(command, info.id_field))))
        if target in path:
            raise ReentrantCall((*path, target))
        now = trio.current_time()
        deadline = min(trio.current_effective_deadline(), context.deadline)
        if deadline == math.inf:
            deadline = now + CALL_PATIENCE
        await context.settle()
        slot = context.slot()
        slot.lend()
        try:
            with trio.CancelScope(deadline=deadline):
                answer: R = await self._call(command, deadline, path, options)
                return answer
        finally:
            await slot.take_back()
        raise DeadlineExceeded(info.name, target, path)

    async def _call(self, command: Command[R], deadline: float, path: tuple[str, ...], options: Options) -> R:
        command_id = self._encoder.next_id()
        told = self._instruments
        with told.sending_these([(command, command_id)], "call") if told.active else NOBODY as added:
            patience = deadline - trio.current_time()
            outgoing = self._encoder.encode(
                command, command_id, options, answered=True, deadline=patience, chain=path, added=added
            )
            outcome = await self._outcome(command, command_id, outgoing, keyed=bool(options.key))
            answer: R = answer_of(self._codec, info_of(command), str(outgoing.entity), outcome, path)
        return answer

    async def _outcome(
        self, command: Command[Any], command_id: str, outgoing: Outgoing, *, keyed: bool
    ) -> bytes:
        """Sends a command and waits for its outcome; cancelled, it has the command cancelled."""
        info = info_of(command)
        waiting = self._receiver.expect(command_id)
        began = trio.current_time() if self._instruments.active else None
        try:
            group = await self._send([outgoing])
            if began is not None:
                self._instruments.sent(info.entity, info.name, 1)
            await self._store.secure()  # else a command that is gone would be waited for
            if keyed:
                self._receiver.forget(waiting)
                waiting = self._receiver.expect(group.first_id or command_id, at_once=True)
                outcome = await self._wait_for_another(waiting, outgoing.entity)
            else:
                outcome = await waiting.wait()
            await self._store.secure()  # of the commit
        except trio.Cancelled:
            if self._services is not None and not keyed:
                self._services.start_soon(self._cancel_quietly, outgoing.entity, command_id)
            if began is not None:
                self._instruments.called(info.entity, info.name, UNANSWERED, trio.current_time() - began)
            raise
        finally:
            self._receiver.forget(waiting)
        if began is not None:
            kind = read_outcome(self._codec, info.name, outcome).kind.value
            self._instruments.called(info.entity, info.name, kind, trio.current_time() - began)
        return outcome

    async def _cancel_quietly(self, entity: Entity, command_id: str) -> None:
        """Tells the entity's owner that a caller has gone; if that fails, the handler only runs for nobody."""
        try:
            await self._store.cancel(entity, command_id)
        except TrioqueueError:
            return

    # -------------------------------------------------------------------------------- receipts
    async def result(self, receipt: Receipt[R], /) -> R:
        """Waits for the outcome of a command that was sent, and answers it as `call` does.

        Cancelled: The command goes on; unlike a call, it never ends with who waits for it.

        Raises:
            ResultNotKept: At once, where it was sent with `EntityPolicy.keep_results=0` and without a `key`; or it was
                settled so long ago that the outcome is gone.
            NotRegistered: The receipt came from another process, and the registry here doesn't know its command.
            Rejection, CallFailed, UnknownCommand, CallCancelled, DeadlineExceeded: As for `call`.
        """
        self._check_open()
        info = self._info(receipt)
        if not receipt.kept:
            raise ResultNotKept(receipt.command_id, ever=False)
        waiting = self._receiver.expect(receipt.command_id, at_once=True)
        try:
            entity = Entity(receipt.entity_type, receipt.entity_id)
            outcome = await self._wait_for_another(waiting, entity)
        finally:
            self._receiver.forget(waiting)
        answer: R = answer_of(self._codec, info, str(entity), outcome)
        return answer

    async def _wait_for_another(self, waiting: Waiting, entity: Entity) -> bytes:
        """Waits for a command that need not be ours, and may be gone."""
        while True:
            with trio.move_on_after(LOST_AFTER):
                return await waiting.wait()
            beginning = beginning_of(self._codec, waiting.command_id)
            if not await self._store.is_queued(entity, waiting.command_id, beginning):
                kept = await self._store.result(waiting.command_id)  # it may have been settled in between
                if kept is None:
                    raise ResultNotKept(waiting.command_id, ever=True)
                return kept

    @asynccontextmanager
    async def open_follow(self, receipt: Receipt[Any], /) -> AsyncGenerator[Following, None]:
        """Follows a command: gives what its handler says with `Context.progress`, always the newest value alone.

        The iteration ends once the command is settled; ask `result` for its outcome.  News come at once where the
        command was sent from here and its outcome is kept, else within half a second.

        Example:
            async with queues.open_follow(receipt) as progress:
                async for value in progress:
                    print(value)
        """
        self._check_open()
        follower = self._followers.add(receipt.command_id)
        try:
            yield Following(self, self._store.progress, self._codec, receipt, follower)
        finally:
            self._followers.remove(follower)

    async def tell_progress(self, command_id: str, client: str, word: object) -> None:
        """Tells how far a command is; see `Context.progress`."""
        data = self._codec.dumps(self._codec.unstructure(word))
        if len(data) > MAX_PROGRESS:
            raise PayloadTooLarge(len(data), MAX_PROGRESS)
        await self._store.tell_progress(command_id, client, data)

    async def status(self, receipt: Receipt[Any], /) -> Status:
        """Says how far a command is.

        It looks through the entity's mailbox, which takes the store a millisecond for some thousand commands in it.
        """
        self._check_open()
        entity = Entity(receipt.entity_type, receipt.entity_id)
        beginning = beginning_of(self._codec, receipt.command_id)
        data = await self._store.result(receipt.command_id)
        if data is None:
            if await self._store.is_queued(entity, receipt.command_id, beginning):
                return Status("pending")
            data = await self._store.result(receipt.command_id)  # it may have been settled in between
        if data is None:
            return Status("unknown")
        return Status("finished", read_outcome(self._codec, receipt.command, data).kind.value)

    async def cancel(self, receipt: Receipt[Any], /) -> Withdrawal:
        """Cancels a command that was sent; whoever waits for it gets `CallCancelled`.

        Returns:
            `"dropped"`: it does not run and never will (again, if it waited out a backoff).  `"told"`: its handler may
            run; its scope is cancelled, on whatever pod, unless it ends first.  `"late"`: it is settled, or was never
            accepted.
        """
        self._check_open()
        cancelled = self._codec.dumps(Outcome(Kind.CANCELLED).to_wire())
        return await self._store.withdraw(
            Entity(receipt.entity_type, receipt.entity_id),
            receipt.command_id,
            beginning_of(self._codec, receipt.command_id),
            cancelled,
            math.ceil(receipt.kept * 1000),
        )

    def _info(self, receipt: Receipt[Any]) -> CommandInfo:
        """Finds what the class of a receipt's command declares."""
        if (info := receipt.declared()) is not None:
            return info
        handler = self._registry.handler(receipt.entity_type, receipt.command) if self._registry else None
        if handler is None:
            raise NotRegistered(
                f"The command {receipt.command!r} of {receipt.entity_type!r}",
                "open with a registry that handles it, or ask where it was sent",
            )
        return handler.info

    def encode(self, command: Command[Any], command_id: str, options: Options = PLAIN) -> Outgoing:
        """Makes what the store takes of a command that goes out with a commit; see `Encoder.encode`."""
        told = self._instruments
        with told.sending_these([(command, command_id)], "child") if told.active else NOBODY as added:
            return self._encoder.encode(command, command_id, options, added=added)

    def encode_anew(self, command: Command[Any]) -> Outgoing:
        """Makes what the store takes, under a new id."""
        return self._encoder.encode(command, self._encoder.next_id())

    def receipt(self, command: Command[R], outgoing: Outgoing, command_id: str) -> Receipt[R]:
        """Makes a command's receipt."""
        return self._encoder.receipt(command, outgoing, command_id)

    async def _send(self, outgoing: Sequence[Outgoing]) -> Group:
        """Sends one group, and begins with those of its entities that are free and ours to serve."""
        incarnation = self._supervisor.incarnation if self._supervisor else None
        group = Group(outgoing, limits=self._encoder.limits)
        try:
            if incarnation is None:
                await self._store.send(group)
                return group
            wishes = self._wishes(incarnation, outgoing)
            await self._store.send(
                group, member=incarnation.member, wishes=wishes, on_claim=incarnation.take_claim
            )
        except OutcomeUnknown:
            self._store.abandon(group)
            raise
        return group

    @staticmethod
    def _wishes(incarnation: Incarnation, outgoing: Sequence[Outgoing]) -> list[ClaimWish]:
        wishes: list[ClaimWish] = []
        at_once = [one.entity for one in outgoing if one.terms is None or not one.terms.delay_us]
        for entity in dict.fromkeys(at_once):
            wish = incarnation.wish(entity)
            if wish is not None:
                wishes.append(wish)
                if len(wishes) >= MAX_WISHES:
                    break
        return wishes

    # -------------------------------------------------------------------------------- looking
    async def state(self, state: type[S], entity_id: object) -> S:
        """Reads the state of an entity as it was committed last, in one round trip and without waking it.

        Commands that are pending or being handled are not in it.  An entity that has none yet has the defaults.

        Args:
            state: A class declared with `@state`.
            entity_id: Whose: a str, int or UUID.

        Raises:
            NewerVersion: It was written by a newer release than this one.
            DecodeError: It is older, and the registry here has no upcast for it; to read with the upcasts and serve
                nothing, open with the registry and `serves=()`.
        """
        self._check_open()
        info = state_info_of(state)
        data = await self._store.state(Entity(info.entity, entity_id_text(entity_id)))
        if data is None:
            return state()
        version, fields = read_state(self._codec, data)
        # One without upcasts refuses a state of another version, which else would be read as something that it is not.
        registry = Registry() if self._registry is None else self._registry
        fields = registry.upcasted(state, fields, version)
        result: S = self._codec.structure(fields, state)
        return result

    async def wait_settled(self) -> None:
        """Waits until no mailbox of the whole fleet has a command in it.

        Others may send meanwhile: it returns at a moment when nothing was pending.
        """
        self._check_open()
        pause, longest = SETTLED_POLL
        while (await self._store.statistics()).with_work:
            await trio.sleep(pause)
            pause = min(pause * 1.5, longest)

    async def statistics(self) -> Statistics:
        """Counts what there is in the fleet, and what this process did."""
        self._check_open()
        fleet = await self._store.statistics()
        counts = self._counts
        return Statistics(
            pods=fleet.pods,
            owned=fleet.owned,
            with_work=fleet.with_work,
            ready=fleet.ready,
            held=fleet.held,
            dead=fleet.dead,
            put_off=fleet.put_off,
            awake=self._supervisor.incarnation.awake()
            if self._supervisor and self._supervisor.incarnation
            else 0,
            activated=counts.created,
            passivated=counts.passivated,
            handled=counts.handled,
            failed=counts.failed,
            buried=counts.dead,
        )

    def health(self) -> Health:
        """Says how this process stands, without asking anybody.

        It may be called from any thread, also while the event loop stands still, and when the block has ended.
        """
        return health_of(self._store, self._supervisor, is_open=self._services is not None)

    async def serve(self) -> None:
        """Waits, while the workers work, until the process is told to end: the whole body of a worker process.

        Returns at SIGTERM or SIGINT (in the main thread; else it waits for cancellation), so that leaving the block
        drains.  A second signal has its usual effect.
        """
        self._check_open()
        await wait_for_end()

    # -------------------------------------------------------------------------------- open or not
    def _check_open(self) -> None:
        if self._services is None:
            raise Closed

    def _check_outside_turn(self) -> None:
        turn = turn_of_this_task()
        if turn is not None:
            raise SendInsideTurn(f"{turn.entity}/{turn.entity_id}")
