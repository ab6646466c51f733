"""Handling one command: from its envelope to what is to be committed.

`Turns` belongs to one worker.  It holds the entity's state as it was committed last, runs the handler on a
live copy, and turns the way it ended into a commit.  It writes nothing itself: what it made stands when
`committed` is called.

Turns may be gathered into one commit (`commit="group"`): each is handled on the state as the one before has left it,
whose encoded form is the copy to go back to, and all stand or fall together.  See `settling.py` for what ends a group.
"""

import math
from collections.abc import Awaitable, Callable, Iterable, Sequence, Set
from functools import partial
from random import random
from typing import Any

import trio

from trioqueue._errors import (
    BadDeclaration,
    DecodeError,
    NewerVersion,
    StateTooLarge,
    TrioqueueError,
    UnknownCommand,
)
from trioqueue._names import Entity
from trioqueue.messages.codec import Codec
from trioqueue.messages.envelope import Envelope, decode_envelope
from trioqueue.messages.rejection import rejection_fields, rejection_name
from trioqueue.messages.state import StateInfo
from trioqueue.protocol.outcome import DONE, Kind, Outcome
from trioqueue.protocol.turn import (
    Cancelled,
    Drop,
    Ending,
    Failing,
    GiveUp,
    Raised,
    Rejected,
    Returned,
    TryAgain,
    Verdict,
    decide,
    single_leaf,
)
from trioqueue.runtime.context import Context, Receipt, Sender, Slots, TurnSlot
from trioqueue.runtime.counts import Counts
from trioqueue.runtime.finished import (
    Finished,
    Hold,
    Stopped,
    Unhandled,
    failed_outcome,
    is_wanted,
    letter_of,
    log_dead,
    log_failed_query,
    log_paused,
    log_retry,
    why_paused,
    withdrawn_of,
)
from trioqueue.runtime.instruments import Instruments
from trioqueue.runtime.receiver import KEEP_MS
from trioqueue.runtime.running import PodsDied, Running, TurnScope
from trioqueue.runtime.service import BoundHandler, Service
from trioqueue.runtime.settling import Settling
from trioqueue.runtime.task_tree import task_tree
from trioqueue.stores.contract import (
    NOT_MODIFIED,
    Claimed,
    Commit,
    LeaseLost,
    Outgoing,
    Reply,
)
from trioqueue.stores.reports import Queued

NO_CANCELS: frozenset[str] = frozenset()
"""Of an entity none of whose callers has gone; one for all of them, as a pod may hold tens of thousands."""


class Turns:
    """The turns of one entity in one worker."""

    # A pod may hold tens of thousands of them.
    __slots__ = (
        "_ahead",
        "_attempts",
        "_base",
        "_client",
        "_codec",
        "_counts",
        "_crashes",
        "_dirty",
        "_done",
        "_entity",
        "_fetched_at",
        "_gathered",
        "_gathered_at",
        "_instruments",
        "_live",
        "_now_us",
        "_proven",
        "_read",
        "_running",
        "_sender",
        "_size",
        "_state",
        "_times",
        "_unknown_us",
        "cancels",
        "epoch",
        "paused_why",
        "service",
        "slots",
        "state_version",
    )

    def __init__(
        self,
        entity: Entity,
        service: Service,
        codec: Codec,
        sender: Sender,
        slots: Slots,
        client: str,
        counts: Counts,
        instruments: Instruments,
    ) -> None:
        self.service = service
        self._instruments = instruments
        # Of the command that is looked at, on Trio's clock: when it was accepted, and its handler began and had ended.
        self._times: tuple[float, float | None, float | None] = (0.0, None, None)
        self.paused_why = ""  # why a head of it waits for an operator, as it failed for good
        self._entity = entity
        self._codec = codec
        self._sender, self._client = sender, client
        self.slots, self._counts = slots, counts
        self.epoch: int | None = None  # None: never claimed
        self._done = 0
        self.state_version = ""  # names `_state`, the state that was committed last; "" with None
        self._state: bytes | None = None
        # What handlers begin with: `_state`, or what the last of the gathered turns made of it.
        self._base: bytes | None = None
        # The object that handlers change.  None, or equal to `_base` unless a handler runs.
        self._live: Any = None
        self._read: tuple[Queued, Envelope, Any] | None = None  # what was decoded before its turn
        self._dirty = False  # a handler has started on `_live`, and its turn does not stand (yet)
        # Turns that were handled and do not stand yet, how many commands they settle, and since when there are any.
        self._gathered: Finished | None = None
        self._ahead, self._gathered_at, self._size = 0, 0.0, 0
        # What is known of the head alone; zeros once the head of the last claim was settled.
        self._attempts, self._crashes, self._unknown_us, self._proven = 0, 0, 0, False
        self._now_us, self._fetched_at = 0, 0.0  # store time of the last batch, and our time when it came
        self._running: tuple[Running, ...] = ()  # whose handlers run
        self.cancels: Set[str] = NO_CANCELS  # commands whose callers have gone, as far as we were told

    # -------------------------------------------------------------------------------- what the worker tells
    def begin(self, claimed: Claimed) -> None:
        """Takes over a claim."""
        self.epoch, self._done = claimed.epoch, claimed.done
        self._attempts, self._crashes, self._unknown_us = (
            claimed.attempts,
            claimed.crashes,
            claimed.unknown_us,
        )
        self._proven = claimed.proven
        self.fetched(claimed.now_us)
        if claimed.state is not NOT_MODIFIED:
            assert not isinstance(claimed.state, str)
            self._state, self._live = claimed.state, None
        if self._dirty:
            # The worker was interrupted between a start and its commit, so the live copy may never have been.
            self._live, self._dirty = None, False
        self._base, self._gathered, self._ahead, self._size = self._state, None, 0, 0
        self.state_version = claimed.state_version

    def fetched(self, now_us: int) -> None:
        """Notes the store's time with a new batch."""
        self._now_us, self._fetched_at = now_us, trio.current_time()

    def cancel(self, command_id: str) -> None:
        """Takes note that a command's caller has gone, and cancels its handler if that runs."""
        self.note_cancels((command_id,))
        for one in self._running:
            if one.envelope.command_id == command_id:
                one.cancel()

    def note_cancels(self, command_ids: Iterable[str]) -> None:
        """Takes note that the callers of these commands have gone."""
        if not isinstance(self.cancels, set):
            self.cancels = set[str]()
        self.cancels.update(command_ids)

    def forget_cancels(self, command_ids: Iterable[str] | None = None) -> None:
        """Forgets those of these commands, which are settled; None: of all."""
        if command_ids is None:
            self.cancels = NO_CANCELS
        elif isinstance(self.cancels, set):
            self.cancels.difference_update(command_ids)

    def let_go(self) -> None:
        """Cancels all handlers that run, as nothing of theirs would stand."""
        for one in self._running:
            one.let_go()

    def committed(self, finished: Finished) -> None:
        """Takes note that a turn stands, or several that were gathered."""
        commit = finished.commit
        if commit.state is not None:
            self.state_version, self._state = f"{commit.epoch}.{commit.done}", commit.state
        self._dirty = bool(self._running)
        self._done += commit.pops + finished.ends_group()
        self._ahead = max(0, self._ahead - commit.pops)
        if not self._ahead:
            self._base = self._state
        if commit.pops or finished.ends_group():
            self._forget_head()
        if finished.facts:
            self._instruments.tell(self._entity, finished.facts)

    def _forget_head(self) -> None:
        self._attempts, self._crashes, self._unknown_us, self._proven = 0, 0, 0, False

    # -------------------------------------------------------------------------------- a group
    def ahead(self) -> int:
        """Counts the commands that were handled, and whose turns do not stand yet."""
        return self._ahead

    def join(self, finished: Finished) -> None:
        """Takes a turn to those before it."""
        if self._gathered is None:
            self._gathered, self._gathered_at = finished, trio.current_time() if finished.group else 0.0
        else:
            self._gathered.join(finished)
        self._ahead += finished.commit.pops
        if finished.commit.pops:
            self._forget_head()

    def gather(self, finished: Finished) -> Finished | None:
        """Takes a turn to those before it; answers what is to be committed now, if anything is."""
        self.join(finished)
        self._size += finished.size() if finished.group else 0
        return None if finished.may_wait(self._size, self._gathered_at) else self.take_gathered()

    def take_gathered(self) -> Finished | None:
        """Gives what was gathered, to be committed now; None: nothing was."""
        gathered, self._gathered, self._size = self._gathered, None, 0
        return gathered

    def look(self) -> Finished:
        """Makes the commit that only asks what is in the mailbox now."""
        return Finished(self._commit(want=self.service.policy.fetch))

    def put_off(self, seconds: float) -> Commit:
        """Makes the commit that lets the head wait without counting a failure."""
        return self._commit(retry_ms=math.ceil(seconds * 1000), failed=False)

    def _commit(self, **what: Any) -> Commit:
        assert self.epoch is not None
        return Commit(self._entity, self.epoch, self._done, **what)

    # -------------------------------------------------------------------------------- one turn
    async def take(
        self,
        queued: Queued,
        nursery: trio.Nursery | None,
        provided: Any,
        slot: TurnSlot,
        scope: TurnScope,
        *,
        last: bool,
        trusted: Callable[[], bool],
        settling: Settling,
    ) -> Finished | Hold | Stopped:
        """Handles the head of the mailbox, or the first command behind those whose turns were gathered.

        Cancelled: the handler is cancelled and nothing of it will stand; the command is still the head.

        Args:
            queued: the head.
            nursery: the entity's, for `Context.nursery`.
            provided: what the activation yielded.
            slot: the running slot that the worker has taken for it.
            scope: the one round the handlers of the worker's task.
            last: nothing else is in hand, so the commit asks for more.
            trusted: whether a handler may start now.
            settling: commits what was gathered, for who must not run, or go on, before that stands.

        Raises:
            LeaseLost: it may not.
        """
        want = self.service.policy.fetch if last else 0
        # A task of the nursery may still wait for it.
        if settling.concerns_turns() and not await settling.wait():
            return Stopped()
        running = self.prepare(queued, nursery, slot, settling.settle, self._ahead, want)
        if not isinstance(running, Running):
            return running()
        if self._ahead and not running.bound.group and not await settling.settle():
            return Stopped()
        # Asked at the last moment: decoding takes time, and the process may have stood still since.
        if not trusted():
            raise LeaseLost("the lease can no longer be trusted")
        ending = await self.run(running, provided, scope)
        if ending is None or (settling.concerns_turns() and not await settling.wait()):
            return Stopped()
        return self.judge(running, ending, want)

    def prepare(
        self,
        queued: Queued,
        nursery: trio.Nursery | None,
        slot: TurnSlot,
        settle: Callable[[], Awaitable[bool]],
        ahead: int,
        want: int,
    ) -> Running | Callable[[], Finished | Hold]:
        """Gets ready for a command's handler, or says how it is settled without one, which is to be called then.

        Args:
            ahead: how many commands in hand are before it.
            want: commands to ask for with its commit.
            queued, nursery, slot: as `take` has them.
            settle: makes what was handled before stand; False: it does not, and nothing of this turn will.
        """
        accepted = self._accepted_at(queued)
        self._times = accepted, None, None
        service, command = self.service, None
        if self._read is not None and self._read[0] is queued:
            _, envelope, command = self._read
        else:
            try:
                envelope = decode_envelope(self._codec, self._entity, queued.data)
            except DecodeError as error:
                return partial(self._bury, queued, None, error, want)
        self._read = None
        bound = service.bound_of(envelope.name)
        if not ahead and self._proven and self._crashes > service.policy.max_crashes:
            died = PodsDied(f"{self._crashes} pods died while they handled it")
            return partial(self._give_up, queued, envelope, died, want)
        if bound is None:
            unknown = UnknownCommand(str(self._entity), envelope.name)
            return Unhandled(self._hold_or_bury, queued, envelope, unknown, want)
        try:
            if command is None:
                command = service.command_in(envelope, bound)
            if self._live is None and service.state is not None:
                self._live = service.thawed(service.state, self._base)
        except NewerVersion as error:
            return Unhandled(self._hold_or_bury, queued, envelope, error, want)
        except DecodeError as error:
            return partial(self._bury, queued, envelope, error, want)
        until, expired = math.inf, False
        if envelope.deadline is not None:
            until = accepted + envelope.deadline
            expired = until <= trio.current_time()
        if expired or envelope.command_id in self.cancels:
            return partial(self._settle, envelope, bound, Drop(expired=expired), want)
        # What it will be known by, noted now: another claim may come before it begins, and counts anew.
        assert self.epoch is not None
        known_by = (self.epoch, self._done + ahead, 1 if ahead else self._attempts + 1)
        make = partial(self._context, settle)
        return Running(queued, envelope, bound, command, until, known_by, nursery, slot, make)

    @trio.lowlevel.disable_ki_protection  # as users' validators may run for ever
    def read_ahead(self, queued: Queued) -> None:
        """Decodes a command before its turn, while there is time for it; what is wrong with it is said in its turn."""
        service = self.service
        try:
            envelope = decode_envelope(self._codec, self._entity, queued.data)
            if (bound := service.bound_of(envelope.name)) is not None:
                self._read = queued, envelope, service.command_in(envelope, bound)
        except TrioqueueError:
            self._read = None

    async def run(self, running: Running, provided: Any, scope: TurnScope) -> Ending | None:
        """Runs a handler, unless its caller has gone meanwhile; None: it was let go of."""
        if running.envelope.command_id in self.cancels:
            return Cancelled()
        self._running = (*self._running, running) if self._running else (running,)
        self._dirty = True
        run: Awaitable[Ending | None] = running.run(self._live, provided, scope)
        if (instruments := self._instruments).want_handled:
            running.began = instruments.now()
        if instruments.want_handling:
            run = instruments.observe(self._entity, running.envelope, running.known_by[2], run)
        try:
            return await run
        finally:
            if running.began is not None:
                running.ended = instruments.now()
            others = self._running
            self._running = () if len(others) == 1 else tuple(one for one in others if one is not running)

    def _accepted_at(self, queued: Queued) -> float:
        """Says when a command was accepted, on Trio's clock: by the store's, and the time since it told it."""
        return self._fetched_at - (self._now_us - queued.accepted_us) / 1e6

    def _hold_or_bury(
        self, queued: Queued, envelope: Envelope, error: TrioqueueError, want: int
    ) -> Finished | Hold:
        """Leaves a command that this pod does not know to others, and gives it up once all had their time."""
        if self._unknown_us / 1e6 < self.service.policy.unknown_grace:
            return Hold()
        return self._bury(queued, envelope, error, want)

    def _frozen(self, state: StateInfo) -> bytes | None:
        """Encodes the live state; None: it has not changed."""
        encoded = self.service.frozen(state, self._live)
        if len(encoded) > self.service.policy.max_state:
            raise StateTooLarge(len(encoded), self.service.policy.max_state)
        return None if encoded == self._base else encoded

    def _has_changed(self, frozen: bytes | None) -> bool:
        """Says whether the handler did that to the state, and not only its class: a default, a field, an upcast."""
        state = self.service.state
        return (
            frozen is not None
            and state is not None
            and frozen != self.service.frozen(state, self.service.thawed(state, self._base))
        )

    def _context(self, settle: Callable[[], Awaitable[bool]], running: Running) -> Context:
        envelope = running.envelope
        epoch, number, attempt = running.known_by
        return Context(
            entity=self._entity.type,
            entity_id=self._entity.id,
            command_id=envelope.command_id,
            attempt=attempt,
            fence=epoch,
            sent_at=running.queued.accepted_us / 1e6,
            headers=envelope.headers,
            deadline=running.deadline,
            nursery=running.nursery,
            sender=self._sender,
            slot=running.slot,
            reply_to=envelope.reply_to or "",
            waiting=envelope.chain,
            child_id=f"{epoch:x}-{number}",
            settle=settle,
        )

    def judge(self, running: Running, ending: Ending, want: int) -> Finished:
        """Turns the way a handler ended into a commit."""
        envelope, bound = running.envelope, running.bound
        self._times = self._accepted_at(running.queued), running.began, running.ended
        children, withdrawn = running.close()
        self._counts.handled += 1
        try:
            if isinstance(ending, Returned):
                return self._returned(envelope, bound, ending.value, children, withdrawn, want)
            self._live = None  # what the handler did to it never was
            finished = self._settle(
                envelope, bound, self._verdict(bound, ending), want, queued=running.queued
            )
            finished.group = bound.group
            return finished
        except TrioqueueError as error:  # the answer cannot travel, or the state cannot be kept
            self._live = None
            verdict = self._verdict(bound, Raised(error))
            return self._settle(envelope, bound, verdict, want, queued=running.queued)

    def _verdict(self, bound: BoundHandler, ending: Failing) -> Verdict:
        is_query = bound.handler.info.is_query
        return decide(ending, retry=bound.retry, failures=self._attempts, is_query=is_query, random=random)

    def _returned(
        self,
        envelope: Envelope,
        bound: BoundHandler,
        value: Any,
        children: list[Outgoing],
        withdrawn: list[Receipt[Any]],
        want: int,
    ) -> Finished:
        """Settles a command whose handler returned, with all that it did.

        Raises:
            TrioqueueError: It can't be settled so, and nothing is.
        """
        info = bound.handler.info
        state = self._frozen(self.service.state) if self.service.state is not None else None
        if info.is_query:
            if children or withdrawn or self._has_changed(state):
                raise BadDeclaration(
                    f"{bound.handler.qualname} handles a query, but changed the state, sent or cancelled"
                )
            state = None
        outcome = DONE
        if is_wanted(envelope):
            outcome = Outcome(Kind.DONE, self._codec.unstructure(value, info.reply_type()))
        finished = self._finish(envelope, outcome, want, children)
        if state is not None:
            finished.commit.state = self._base = state
        if withdrawn:
            finished.commit.withdrawn = [withdrawn_of(self._codec, receipt) for receipt in withdrawn]
        # What it cancels may be the next one in hand, which must be told so.
        finished.group = bound.group and not withdrawn
        return finished

    def _settle(
        self,
        envelope: Envelope,
        bound: BoundHandler,
        verdict: Verdict,
        want: int,
        *,
        queued: Queued | None = None,
    ) -> Finished:
        """Settles a command otherwise; `queued`: what lay in the mailbox, if it may become a dead letter."""
        match verdict:
            case TryAgain(wait, error):
                self._counts.failed += 1
                attempt, leaf = self._attempts + 1, single_leaf(error)
                log_retry(self._entity, envelope, attempt, wait, leaf)
                facts = self._instruments.facts_of_retry(self._entity, envelope, attempt, wait, leaf)
                return Finished(self._commit(retry_ms=math.ceil(wait * 1000)), facts=facts)
            case GiveUp(error):
                self._counts.failed += 1
                if not bound.handler.info.is_query:
                    assert queued is not None
                    return self._give_up(queued, envelope, error, want, ran=True)
                log_failed_query(self._entity, envelope, single_leaf(error))
                outcome = failed_outcome(error)
            case Rejected(rejection):
                fields = rejection_fields(self._codec, rejection) if is_wanted(envelope) else None
                outcome = Outcome(Kind.REJECTED, fields, rejection_name(rejection))
            case Drop(expired):
                outcome = Outcome(Kind.EXPIRED if expired else Kind.CANCELLED)
        return self._finish(envelope, outcome, want)

    def _give_up(
        self, queued: Queued, envelope: Envelope, error: BaseException, want: int, *, ran: bool = False
    ) -> Finished:
        """Ends a command that failed for good: among the dead letters, or by having its entity wait for an operator."""
        if self.service.policy.on_exhausted == "dead_letter":
            return self._bury(queued, envelope, error, want, ran=ran)
        self.paused_why = why_paused(envelope, error)
        log_paused(self._entity, envelope, self.paused_why, error)
        return Finished(self._commit(pause=self.paused_why, failed=self._crashes == 0))

    def _bury(
        self, queued: Queued, envelope: Envelope | None, error: BaseException, want: int, *, ran: bool = False
    ) -> Finished:
        """Gives a command up: to the dead letters, and the error to whoever waits; `ran`: its handler did, just now."""
        self._counts.dead += 1
        outcome, attempts = failed_outcome(error), self._attempts + ran
        command_id = (
            envelope.command_id if envelope else f"{self.epoch:x}-{self._done + self._ahead}.undecodable"
        )
        log_dead(self._entity, envelope, command_id, attempts, outcome, error)
        letter = letter_of(
            self._codec,
            self._entity,
            command_id,
            queued,
            outcome,
            attempts=attempts,
            crashes=self._crashes,
            tasks=task_tree(trio.lowlevel.current_task()) if ran else "",
        )
        finished = self._finish(envelope, outcome, want)
        finished.commit.dead = (letter,)
        what = (self._entity, envelope, command_id, self._attempts + 1, single_leaf(error))
        finished.facts = [*(finished.facts or ()), *self._instruments.facts_of_death(*what)]
        return finished

    def _finish(
        self, envelope: Envelope | None, outcome: Outcome, want: int, children: Sequence[Outgoing] = ()
    ) -> Finished:
        assert self.epoch is not None
        commit = Commit(self._entity, self.epoch, self._done, 1)
        commit.want, commit.children = want, children
        finished = Finished(commit)
        if envelope is not None:
            if is_wanted(envelope):
                self._answer(finished, envelope, outcome)
            if envelope.command_id in self.cancels:
                commit.settled_cancels = (envelope.command_id,)
        if (told := self._instruments).want_handled:
            accepted, began, ended = self._times
            finished.ended_at = ended = ended or told.now()
            finished.facts = [(envelope, outcome, accepted, began, ended)]
        if children and told.wanting("sent"):
            finished.facts = [told.fact_of_children(self._codec, children), *(finished.facts or ())]
        return finished

    def _answer(self, finished: Finished, envelope: Envelope, outcome: Outcome) -> None:
        """Has the outcome kept, and told to who waits for it."""
        wire = self._codec.dumps(outcome.to_wire())
        here = envelope.reply_to == self._client
        tell = "" if here or envelope.reply_to is None else envelope.reply_to
        reply = Reply(envelope.command_id, tell, wire, max(KEEP_MS, envelope.keep_ms))
        finished.commit.replies = (reply,)
        if here:
            finished.local_replies = ((envelope.command_id, wire),)
