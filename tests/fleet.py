"""A fleet in one process: pods that share a server, virtual time, what may go wrong, and what must hold afterwards.

The pods keep ledgers.  `Note` appends a number to its ledger and sends a `Copy` of it to another one, so state and
children tell whether each command stood exactly once, and in which order.
"""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from random import Random
from typing import Any, NamedTuple

import attrs
import trio

from trioqueue import (
    AtomicQueues,
    Command,
    Context,
    Registry,
    Retry,
    StoreUnavailable,
    command,
    entity_id,
    open_atomic_queues,
    state,
)
from trioqueue.protocol.lifecycle import Mode
from trioqueue.stores.contract import (
    ClaimAnswer,
    ClaimWish,
    Commit,
    CommitAnswer,
    LeaseLost,
    Member,
    Outgoing,
    PodInfo,
    SendClaimAnswer,
)
from trioqueue.stores.memory.mailboxes import Quarantined
from trioqueue.stores.memory.server import NO_LIMITS, MemoryServer
from trioqueue.stores.memory.store import trio_now_us
from trioqueue.stores.reports import Hint, Report

SETTLES_WITHIN = 120.0
"""Seconds of virtual time: several leases and backoffs."""


@state("ledger")
class Ledger:
    numbers: list[int] = attrs.field(factory=list)


@command("ledger")
class Note(Command[int]):
    ledger_id: str = entity_id()
    number: int
    seconds: float = 0


@state("copy")
class Copies:
    numbers: list[int] = attrs.field(factory=list)


@command("copy")
class Copy(Command):
    ledger_id: str = entity_id()
    number: int


class FaultyServer(MemoryServer):
    """A server that can be unreachable, forgetful and repetitive.

    Attributes:
        unreachable: Clients whose heartbeats and requests, but for sending, get no answer.
        forgotten: Clients whose heartbeats are confirmed and not noted, as if the pod's clock were frozen.
        deaf: No hint arrives.
        repeats: Every request is heard twice, as after a lost answer.
        loses: How likely a request is done, but its pod told that its lease is lost.
        lost: How often that was.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__(trio_now_us)
        self.unreachable: set[str] = set()
        self.forgotten: set[str] = set()
        self.deaf = False
        self.repeats = False
        self.loses = 0.0
        self.lost = 0
        self.dice = Random(seed)
        self.commits = 0

    def _reach(self, member: Member) -> None:
        if member.incarnation.rpartition(".")[0] in self.unreachable:
            raise Quarantined

    def _twice(self, operation: Callable[[], Any]) -> Any:
        if self.repeats:
            operation()
        answer = operation()
        if self.loses and self.dice.random() < self.loses:
            self.lost += 1
            raise LeaseLost("the answer was lost")
        return answer

    def _hint(self, client: str, hint: Hint) -> None:
        if not self.deaf:
            super()._hint(client, hint)

    def join(self, client: str, info: PodInfo) -> Member:
        if client in self.unreachable:
            raise StoreUnavailable("memory", "unreachable")
        return super().join(client, info)

    def beat(self, member: Member, offset: int) -> Report:
        self._reach(member)
        pod = self.pods.get(member.incarnation)
        renewed_us = pod.renewed_us if pod else 0
        report = super().beat(member, offset)
        if pod is not None and member.incarnation.rpartition(".")[0] in self.forgotten:
            pod.renewed_us = renewed_us
        return report

    def send(
        self,
        producer: str,
        low: int,
        sequence: int,
        commands: Sequence[Outgoing],
        member: Member | None = None,
        wishes: Sequence[ClaimWish] = (),
        limits: Mapping[str, int] = NO_LIMITS,
    ) -> tuple[bool, list[tuple[Any, SendClaimAnswer]]]:
        if self.repeats:
            super().send(producer, low, sequence, commands, member, wishes, limits)
        return super().send(producer, low, sequence, commands, member, wishes, limits)

    def claim(
        self, member: Member, entity: Any, have: str = "", fetch: int = 64, *, eager: bool = False
    ) -> ClaimAnswer:
        self._reach(member)
        own = super().claim
        return self._twice(lambda: own(member, entity, have, fetch, eager=eager))  # type: ignore[no-any-return]

    def commit(self, member: Member, commit: Commit) -> CommitAnswer:
        self._reach(member)
        self.commits += 1
        own = super().commit
        return self._twice(lambda: own(member, commit))  # type: ignore[no-any-return]

    def release(self, member: Member, entity: Any, epoch: int | None, why: str) -> bool:
        self._reach(member)
        own = super().release
        return self._twice(lambda: own(member, entity, epoch, why))  # type: ignore[no-any-return]

    def reap(self, member: Member, incarnation: str, *, gave_up: bool) -> bool:
        self._reach(member)
        own = super().reap
        return self._twice(lambda: own(member, incarnation, gave_up=gave_up))  # type: ignore[no-any-return]


class Handled(NamedTuple):
    """What a handler of `Note` notes of its turn."""

    pod: str
    ledger: str
    number: int
    fence: int


class Fleet:
    """Opens pods and senders on one server; notes what their handlers did."""

    def __init__(self, seed: int = 0) -> None:
        self.server = FaultyServer(seed)
        # Each start of a handler, and each end that was not a cancellation.
        self.starts: list[Handled] = []
        self.ends: list[Handled] = []

    def pod(self, name: str = "pod", **options: Any) -> AbstractAsyncContextManager[AtomicQueues]:
        return open_atomic_queues(self.server, registry=self._registry(name), name=name, **options)

    def sender(self) -> AbstractAsyncContextManager[AtomicQueues]:
        return open_atomic_queues(self.server)

    def _registry(self, pod: str) -> Registry:
        registry = Registry()

        @registry.handles(Note, retry=Retry(wait_first=0.2, jitter=False))
        async def note(command: Note, ledger: Ledger, context: Context) -> int:
            turn = Handled(pod, command.ledger_id, command.number, context.fence)
            self.starts.append(turn)
            context.send(Copy(command.ledger_id, command.number))
            ledger.numbers.append(command.number)
            await trio.sleep(command.seconds)
            self.ends.append(turn)
            if command.number < 0 and context.attempt == 1:
                raise OSError("the first attempt fails")
            return len(ledger.numbers)

        @registry.handles(Copy)
        async def copy(command: Copy, copies: Copies) -> None:
            copies.numbers.append(command.number)

        return registry

    def audit(self) -> None:
        """Checks what holds at any moment: nothing is owned by nobody who could be reaped, nothing is lost sight of."""
        server = self.server
        for entity, box in server.mailboxes.items():
            shown = f"{entity}: {box}"
            assert box.mode is not Mode.IDLE, shown
            assert (box.owner is None) is (box.mode is Mode.READY), shown
            assert box.queue or box.mode is Mode.PARKED, shown
            assert box.owner is None or entity in server.pods[box.owner].owns, shown
            assert box.queue or (box.due_us is None and not box.attempts and not box.cancels), shown
        for incarnation, pod in server.pods.items():
            for entity in pod.owns:
                assert server.mailboxes[entity].owner == incarnation, entity

    @asynccontextmanager
    async def rescued(self) -> AsyncGenerator[AtomicQueues]:
        """Has a fresh pod do whatever is left, then looks at it all."""
        self.audit()
        self.server.unreachable.clear()
        self.server.forgotten.clear()
        with trio.fail_after(SETTLES_WITHIN):
            async with self.pod("rescue") as rescue:
                await rescue.wait_settled()
                self.audit()
                yield rescue
        self.audit()
        assert not self.server.pods

    async def check_ledger(self, queues: AtomicQueues, ledger_id: str, sent: Sequence[int]) -> None:
        """Checks that each number stood exactly once, in order, with its child; fences never fell."""
        assert (await queues.state(Ledger, ledger_id)).numbers == list(sent)
        assert (await queues.state(Copies, ledger_id)).numbers == list(sent)
        fences = [turn.fence for turn in self.ends if turn.ledger == ledger_id]
        assert fences == sorted(fences)


class AtStep(trio.abc.Instrument):
    """Does something when the tasks of a name have come to their n-th checkpoint together."""

    def __init__(self, task_name: str, step: int, action: Callable[[], object]) -> None:
        self._task_name = task_name
        self._left = step
        self._action = action

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._task_name in task.name and self._left > 0:
            self._left -= 1
            if not self._left:
                self._action()

    @property
    def fired(self) -> bool:
        return not self._left

    def __enter__(self) -> "AtStep":
        trio.lowlevel.add_instrument(self)
        return self

    def __exit__(self, *_: object) -> None:
        trio.lowlevel.remove_instrument(self)
