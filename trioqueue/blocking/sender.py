"""The sender: what a program that is not on Trio does with the entities that pods serve."""

import math
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import redis.exceptions

from trioqueue._encoding import Encoder
from trioqueue._errors import (
    DeadlineExceeded,
    EncodeError,
    NotRegistered,
    OutcomeUnknown,
    PayloadTooLarge,
    ResultNotKept,
    TrioqueueError,
)
from trioqueue._names import Entity
from trioqueue._outcomes import answer_of, read_outcome
from trioqueue.blocking.answers import LAST_WORDS, Answers, Waiting
from trioqueue.blocking.delivery import Delivery
from trioqueue.blocking.links import Links, NoAnswer
from trioqueue.blocking.questions import Patience
from trioqueue.messages.codec import Codec
from trioqueue.messages.command import Command, info_of
from trioqueue.messages.envelope import beginning_of
from trioqueue.messages.options import PLAIN, Options, options_of
from trioqueue.messages.policy import MAX_GROUP_BYTES, EntityPolicy
from trioqueue.runtime.context import Receipt
from trioqueue.runtime.instruments import NOBODY, UNANSWERED, Instruments
from trioqueue.stores.contract import Group, Outgoing
from trioqueue.stores.redis.keys import Keys
from trioqueue.stores.redis.replies import user_error
from trioqueue.stores.redis.resp import pack
from trioqueue.stores.redis.scripts import script

R = TypeVar("R")

LOST_AFTER = 10.0
"""Seconds between two looks of `result` whether the command is still there, as for `AtomicQueues.result`."""


class Sender:
    """An open sender, for any number of threads.  Made by `open_sender`; its `with` block closes it."""

    def __init__(
        self,
        links: Links,
        keys: Keys,
        client: str,
        codec: Codec,
        policies: Mapping[str, EntityPolicy],
        unanswered: float,
        instruments: Instruments,
    ) -> None:
        self._links, self._keys = links, keys
        self._codec = codec
        self._unanswered = unanswered
        self._instruments = instruments
        self._delivery = Delivery(links, keys, client)
        self._answers = Answers(links, keys, client)
        # Makes ids, so it is used under the lock only.
        self._encoder = Encoder(codec, policies, client)
        self._encoding = threading.Lock()

    def __repr__(self) -> str:
        state = "closed" if self._links.ended.is_set() else "open"
        return f"<Sender {state} on {self._links.address}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the sender: its connections, its thread, and with `Closed` whatever another thread still waits for.

        Calling it again does nothing.
        """
        if self._links.is_ours():
            self._answers.close()
        self._links.close()

    # -------------------------------------------------------------------------------- sending
    def send(
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
    ) -> Receipt[R]:
        """Puts a command into its entity's mailbox; returns once it is accepted, as `AtomicQueues.send` does.

        What one thread sends is accepted in that order.  An answer that is lost is asked for again, for
        `Limits.unanswered` seconds; the command is accepted once or not at all, however often that is.

        Args:
            command: An instance of a class declared with `@command`.
            delay: Seconds until it is put into the mailbox, by the store's clock.
            at: When that shall be, as an aware datetime.
            urgent: Puts it into the urgent lane, which overtakes what the entity's worker has not fetched yet.
            key: Idempotency key; only the first command of its entity with it counts.
            expires: Seconds from now after which it is not worth starting; not to be given with a `key`.
            headers: Text that travels along.

        Raises:
            NotRegistered, BadEntityId, EncodeError, PayloadTooLarge: Nothing was sent.
            StoreFull, MailboxFull: Nothing was accepted.
            StoreUnavailable: There was no connection the whole time; nothing was accepted.
            OutcomeUnknown: There was no answer for `Limits.unanswered` seconds.
            Closed: The sender is closed, or was opened before this process forked.
        """
        self._links.check_open()
        options = options_of(delay, at, key, expires, headers, urgent=urgent)
        command_id, told = self._next_id(), self._instruments
        with told.sending_these([(command, command_id)], "send") if told.active else NOBODY as added:
            outgoing = self._encode(command, command_id, options, added=added)
            group = self._deliver([outgoing], Patience(self._unanswered))
        receipt = self._encoder.receipt(command, outgoing, group.first_id or command_id)
        self._tell_sent([receipt])
        return receipt

    def send_many(self, commands: Iterable[Command[Any]]) -> list[Receipt[Any]]:
        """Sends several commands in one request, all or nothing, in their order; else as `send`.

        Returns:
            A receipt for each command, in their order.
        """
        self._links.check_open()
        outgoing: list[Outgoing] = []
        receipts: list[Receipt[Any]] = []
        named = [(command, self._next_id()) for command in commands]
        told = self._instruments
        with told.sending_these(named, "send") if told.active else NOBODY as added:
            for command, command_id in named:
                one = self._encode(command, command_id, added=added)
                outgoing.append(one)
                receipts.append(self._encoder.receipt(command, one, command_id))
            size = sum(len(one.data) for one in outgoing)
            if size > MAX_GROUP_BYTES:
                raise PayloadTooLarge(size, MAX_GROUP_BYTES, together=True)
            if outgoing:
                self._deliver(outgoing, Patience(self._unanswered))
        self._tell_sent(receipts)
        return receipts

    def call(
        self,
        command: Command[R],
        /,
        *,
        timeout: float,
        urgent: bool = False,
        key: str | None = None,
        expires: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> R:
        """Sends a command and waits for its answer, through retries until the final outcome.

        The timeout travels with the command: once it has passed, the command is dropped unstarted, or its handler is
        cancelled on whatever pod it runs, and `DeadlineExceeded` is raised.  So it is if anything else ends the wait,
        a KeyboardInterrupt say.  With a `key`, others may wait for it, and it goes on.

        Args:
            command: As for `send`, like the other ones.
            timeout: Seconds to wait; `math.inf`: for ever.
            urgent: Puts it into the urgent lane.
            key: Idempotency key: answers the outcome of the first command that was sent with it, once it is there.
            expires: Seconds from now after which it is not worth starting; not to be given with a `key`.
            headers: Text that travels along.

        Returns:
            What the handler returned, as the `R` of `Command[R]`.

        Raises:
            Rejection: The one that the handler raised, if the command declares it, else `Rejected`.
            CallFailed: It failed for good and is a dead letter now.
            UnknownCommand: No pod had a handler for it for `EntityPolicy.unknown_grace`.
            CallCancelled: Somebody else cancelled it.
            DeadlineExceeded: The time is over; up to a second late where the store does not answer.
            ResultNotKept: With a `key`: the first command is gone, and so is its outcome.
            StoreUnavailable: There was no connection for that time, or for `Limits.unanswered`; nothing was sent.
            NotRegistered, BadEntityId, EncodeError, PayloadTooLarge, StoreFull, MailboxFull, OutcomeUnknown, Closed: As
                for `send`.
        """
        self._links.check_open()
        if not timeout > 0:
            raise EncodeError(f"timeout is {timeout}, give seconds, more than 0")
        patience = Patience(timeout)
        options = options_of(None, None, key, expires, headers, urgent=urgent)
        command_id, told = self._next_id(), self._instruments
        with told.sending_these([(command, command_id)], "call") if told.active else NOBODY as added:
            outgoing = self._encode(command, command_id, options, patience, added=added)
            outcome = self._outcome_or_cancel(command, outgoing, command_id, patience, keyed=bool(key))
            info = info_of(command)
            if told.active:
                kind = read_outcome(self._codec, info.name, outcome).kind.value if outcome else UNANSWERED
                told.called(info.entity, info.name, kind, time.monotonic() - patience.began)
            if outcome is None:
                raise DeadlineExceeded(info.name, str(outgoing.entity))
            answer: R = answer_of(self._codec, info, str(outgoing.entity), outcome)
        return answer

    def _outcome_or_cancel(
        self,
        command: Command[Any],
        outgoing: Outgoing,
        command_id: str,
        patience: Patience,
        *,
        keyed: bool,
    ) -> bytes | None:
        """Sends a command and waits for its outcome; None: the time is over, and it is cancelled unless it is keyed."""
        done = False
        try:
            outcome = self._outcome(command, outgoing, command_id, patience, keyed=keyed)
            done = outcome is not None
        except TrioqueueError:
            done = True  # or never begun, or nobody can know
            raise
        finally:
            if not (done or keyed):
                self._cancel_quietly(outgoing.entity, command_id)
        return outcome

    def _outcome(
        self,
        command: Command[Any],
        outgoing: Outgoing,
        command_id: str,
        patience: Patience,
        *,
        keyed: bool,
    ) -> bytes | None:
        """Sends a command and waits for its outcome; None: the time is over."""
        waiting = self._answers.expect(command_id)
        try:
            group = self._deliver([outgoing], Patience(min(patience.seconds, self._unanswered)))
            if self._instruments.active:
                self._instruments.sent(outgoing.entity.type, info_of(command).name, 1)
            if not keyed:
                return self._answers.wait(waiting, patience.give_up_at)
            self._answers.forget(waiting)
            waiting = self._answers.expect(group.first_id or command_id, at_once=True)
            return self._wait_for_another(waiting, outgoing.entity, patience)
        except OutcomeUnknown:
            if patience.left() > 0:
                raise
            return None
        finally:
            self._answers.forget(waiting)

    def _cancel_quietly(self, entity: Entity, command_id: str) -> None:
        """Tells the entity's owner that a caller has gone; if that fails, the handler only runs for nobody."""
        cancel = script("cancel")
        keys = [*self._keys.entity(entity)[:2], self._keys.result(command_id)]
        with suppress(TrioqueueError, NoAnswer, redis.exceptions.ResponseError):
            self._links.call(
                cancel,
                cancel.call(self._keys, keys, [str(entity), command_id]),
                time.monotonic() + LAST_WORDS,
            )

    # -------------------------------------------------------------------------------- receipts
    def result(self, receipt: Receipt[R], /, *, timeout: float = math.inf) -> R:
        """Waits for the outcome of a command that was sent, and answers it as `call` does.

        Unlike a call, the command never ends with who waits for it.

        Args:
            receipt: What `send` returned, of this sender or another one of this process.
            timeout: Seconds to wait.

        Raises:
            TimeoutError: It is not settled yet; it goes on, and may be asked for again.
            ResultNotKept: At once, where it was sent with `EntityPolicy.keep_results=0` and without a `key`; or it was
                settled so long ago that the outcome is gone.
            NotRegistered: The receipt came from another process, so what its class declares is not known here.
            Rejection, CallFailed, UnknownCommand, CallCancelled, DeadlineExceeded, Closed: As for `call`.
        """
        self._links.check_open()
        info = receipt.declared()
        if info is None:
            what = f"The command {receipt.command!r} of {receipt.entity_type!r}"
            raise NotRegistered(what, "ask where it was sent")
        if not receipt.kept:
            raise ResultNotKept(receipt.command_id, ever=False)
        entity = Entity(receipt.entity_type, receipt.entity_id)
        waiting = self._answers.expect(receipt.command_id, at_once=True)
        try:
            outcome = self._wait_for_another(waiting, entity, Patience(timeout))
        finally:
            self._answers.forget(waiting)
        if outcome is None:
            raise TimeoutError(f"{receipt} is not settled after {timeout:g} s: it goes on, ask again.")
        answer: R = answer_of(self._codec, info, str(entity), outcome)
        return answer

    def _wait_for_another(self, waiting: Waiting, entity: Entity, patience: Patience) -> bytes | None:
        """Waits for a command that need not be ours, and may be gone; None: the time is over."""
        while True:
            step = min(patience.give_up_at, time.monotonic() + LOST_AFTER)
            outcome = self._answers.wait(waiting, step)
            if outcome is not None or patience.left() <= 0:
                return outcome
            if self._is_gone(entity, waiting.command_id):
                raise ResultNotKept(waiting.command_id, ever=True)

    def _is_gone(self, entity: Entity, command_id: str) -> bool:
        """Says that there is neither a command nor its outcome; False also where the store does not answer."""
        find = script("find")
        keys = [self._keys.entity(entity)[1], self._keys.later[1]]
        beginning, give_up_at = beginning_of(self._codec, command_id), time.monotonic() + LAST_WORDS
        found: object = 0
        try:
            while isinstance(found, int):  # how far it has looked
                packed = find.call(self._keys, keys, [command_id, beginning, found])
                found = self._links.call(find, packed, give_up_at)
            if found == b"FOUND":
                return False
            # It may have been settled in between.
            return self._links.ask(pack(("GET", self._keys.result(command_id))), give_up_at) is None
        except redis.exceptions.ResponseError as error:
            raise user_error(error, str(self._links.address)) from error
        except (TrioqueueError, NoAnswer):
            return False

    # -------------------------------------------------------------------------------- what both do
    def _next_id(self) -> str:
        with self._encoding:
            return self._encoder.next_id()

    def _encode(
        self,
        command: Command[Any],
        command_id: str,
        options: Options = PLAIN,
        waits: Patience | None = None,
        *,
        added: Mapping[str, str] | None,
    ) -> Outgoing:
        """Makes what the store takes; `added`: headers of instruments."""
        deadline = waits.seconds if waits else math.inf
        with self._encoding:
            return self._encoder.encode(
                command, command_id, options, answered=waits is not None, deadline=deadline, added=added
            )

    def _tell_sent(self, receipts: Sequence[Receipt[Any]]) -> None:
        if self._instruments.active:
            self._instruments.sent_each((one.entity_type, one.command) for one in receipts)

    def _deliver(self, outgoing: Sequence[Outgoing], patience: Patience) -> Group:
        group = Group(outgoing, limits=self._encoder.limits)
        self._delivery.send(group, patience)
        return group
