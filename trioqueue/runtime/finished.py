"""What a turn made, until it stands: alone, or together with those before it."""

import base64
import logging
import math
import traceback
from functools import partial
from typing import Any

import attrs
import trio

from trioqueue._names import Entity
from trioqueue.messages.codec import Codec
from trioqueue.messages.envelope import Envelope
from trioqueue.protocol.outcome import Kind, Outcome
from trioqueue.protocol.turn import single_leaf
from trioqueue.runtime.context import Receipt
from trioqueue.runtime.instruments import Fact
from trioqueue.stores.contract import Commit, DeadLetter, Withdrawn
from trioqueue.stores.reports import Queued

logger = logging.getLogger("trioqueue.worker")

MAX_TRACEBACK = 16_384
"""Characters of a traceback that is kept with a dead letter and told to the caller; the end matters most."""

MAX_WHY = 1_000
"""Characters of what is said of a command that waits for an operator."""

GROUP_BYTES = 262_144
"""Bytes of replies and children after which a group is committed: what a call carries beside others stays small."""

GROUP_PATIENCE = 0.002
"""Seconds after which a group is committed before its next handler starts where somebody waits for what is in it: a
caller for its answer, or another entity for what was sent to it."""

LONGEST_GROUP = 0.02
"""Seconds after which it is committed all the same: so much is done again if the pod dies."""


@attrs.frozen
class Hold:
    """This pod can't handle the head, but another may: let go of the entity."""


@attrs.frozen
class Stopped:
    """The turn was broken off: nothing of it stands, as the entity is not ours to handle any more."""


@attrs.define
class Finished:
    """Turns that are over: what to commit, and who in this process waits for them."""

    commit: Commit
    local_replies: tuple[tuple[str, bytes], ...] = attrs.field(default=(), repr=False)
    group: bool = False  # it may wait for the next turns
    ended_at: float = 0.0  # when the turn did, on Trio's clock, if that is known: 0: it is not
    facts: list[Fact] | None = attrs.field(default=None, repr=False)  # to be told once it stands

    def ends_group(self) -> bool:
        """Says whether the head stays: nothing can be handled behind it."""
        return self.commit.retry_ms is not None or bool(self.commit.pause)

    def may_wait(self, size: int, since: float) -> bool:
        """Says whether it may stand with the next turn, where so many bytes were gathered since that time."""
        if not self.group or self.commit.want or self.ends_group():
            return False
        patience = GROUP_PATIENCE if size else LONGEST_GROUP
        return size < GROUP_BYTES and (self.ended_at or trio.current_time()) - since < patience

    def size(self) -> int:
        """Counts the bytes of replies and children."""
        commit = self.commit
        if not (commit.replies or commit.children):
            return 0
        return sum(len(reply.outcome) for reply in commit.replies) + sum(
            len(child.data) for child in commit.children
        )

    def join(self, later: "Finished") -> None:
        """Takes the next turn into the same commit; this one has not ended the group."""
        commit, more = self.commit, later.commit
        commit.pops += more.pops
        commit.retry_ms, commit.pause, commit.failed = more.retry_ms, more.pause, more.failed
        commit.want = more.want
        if more.state is not None:
            commit.state = more.state
        if more.replies:
            commit.replies = [*commit.replies, *more.replies]
        if more.children:
            commit.children = [*commit.children, *more.children]
        if more.dead:
            commit.dead = [*commit.dead, *more.dead]
        if more.withdrawn:
            commit.withdrawn = [*commit.withdrawn, *more.withdrawn]
        if more.settled_cancels:
            commit.settled_cancels = [*commit.settled_cancels, *more.settled_cancels]
        self.local_replies += later.local_replies
        if self.facts is None:
            self.facts = later.facts
        elif later.facts:
            self.facts += later.facts


class Unhandled(partial[Finished | Hold]):
    """Answers, called, what becomes of a command that this pod can't handle, but another may."""


def is_wanted(envelope: Envelope) -> bool:
    """Says whether anybody may ask for the outcome."""
    return envelope.reply_to is not None or envelope.keep_ms > 0


def failed_outcome(error: BaseException) -> Outcome:
    """Makes the outcome of a command that failed for good."""
    leaf = single_leaf(error)
    name = type(leaf).__name__
    try:
        text = f"{name}: {leaf}"
    except Exception:
        text = f"{name} (which has no text)"
    trace = "".join(traceback.format_exception(error))[-MAX_TRACEBACK:]
    return Outcome(Kind.DEAD, _as_text(text), name, _as_text(trace))


def log_retry(entity: Entity, envelope: Envelope, attempt: int, wait: float, error: BaseException) -> None:
    """Has the log say that a command is tried again in so many seconds."""
    logger.warning(
        "%s of %s failed (attempt %d), again in %.2f s: %r",
        envelope.name,
        entity,
        attempt,
        wait,
        error,
        extra={
            "event": "retry",
            "entity": str(entity),
            "command": envelope.name,
            "command_id": envelope.command_id,
            "attempt": attempt,
            "again_in_s": wait,
        },
    )


def log_failed_query(entity: Entity, envelope: Envelope, error: BaseException) -> None:
    """Has the log say that a query failed, which is not tried again."""
    logger.warning(
        "%s of %s failed: %r",
        envelope.name,
        entity,
        error,
        extra={
            "event": "query_failed",
            "entity": str(entity),
            "command": envelope.name,
            "command_id": envelope.command_id,
        },
    )


def log_paused(entity: Entity, envelope: Envelope, why: str, error: BaseException) -> None:
    """Has the log say that an entity waits for an operator."""
    logger.error(
        "%s waits for an operator: %s",
        entity,
        why,
        exc_info=error,
        extra={
            "event": "paused",
            "entity": str(entity),
            "command": envelope.name,
            "command_id": envelope.command_id,
        },
    )


def log_dead(
    entity: Entity,
    envelope: Envelope | None,
    command_id: str,
    attempts: int,
    outcome: Outcome,
    error: BaseException,
) -> None:
    """Has the log say that a command is given up."""
    logger.error(
        "%s of %s is a dead letter after %d attempts: %s",
        envelope.name if envelope else "a command that can't be decoded",
        entity,
        attempts,
        outcome.value,
        exc_info=error,
        extra={
            "event": "dead_letter",
            "entity": str(entity),
            "command": envelope.name if envelope else "",
            "command_id": command_id,
            "attempts": attempts,
        },
    )


def why_paused(envelope: Envelope, error: BaseException) -> str:
    """Says why an entity waits for an operator."""
    return f"{envelope.name} {envelope.command_id} failed for good: {failed_outcome(error).value}"[:MAX_WHY]


def _as_text(text: str) -> str:
    """Writes out lone surrogates, which may be in an error's text and can't travel."""
    return text.encode("utf-8", "backslashreplace").decode()


def withdrawn_of(codec: Codec, receipt: Receipt[Any]) -> Withdrawn:
    """Makes what cancels a command with a commit."""
    outcome = codec.dumps(Outcome(Kind.CANCELLED).to_wire())
    entity = Entity(receipt.entity_type, receipt.entity_id)
    return Withdrawn(entity, receipt.command_id, outcome, math.ceil(receipt.kept * 1000))


def letter_of(
    codec: Codec,
    entity: Entity,
    command_id: str,
    queued: Queued,
    outcome: Outcome,
    *,
    attempts: int,
    crashes: int,
    tasks: str,
) -> DeadLetter:
    """Makes the dead letter of a command that failed for good: what travelled, and all that is known of its end."""
    record = {
        "entity": str(entity),
        **_raw(queued.data),
        "error": outcome.value,
        "traceback": outcome.traceback,
        "tasks": _as_text(tasks),
        "attempts": attempts,
        "crashes": crashes,
        "accepted_us": queued.accepted_us,
    }
    return DeadLetter(command_id, codec.dumps(record))


def _raw(data: bytes) -> dict[str, str]:
    """Keeps an envelope byte by byte in what is JSON: as text if it is text."""
    try:
        return {"envelope": data.decode()}
    except UnicodeDecodeError:
        return {"envelope_base64": base64.b64encode(data).decode()}
