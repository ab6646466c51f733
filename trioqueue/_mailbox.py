"""What an operator sees of one entity, at one moment."""

import attrs

from trioqueue._errors import DecodeError
from trioqueue._names import Entity
from trioqueue.messages.codec import Codec
from trioqueue.messages.envelope import Envelope, decode_envelope
from trioqueue.stores.reports import Inspection

UNDECODABLE = "(undecodable)"
"""In place of the name and id of a command whose envelope can't be read."""


@attrs.frozen
class Head:
    """The first command of a mailbox.

    Attributes:
        command: Its wire name.
        command_id: Its id.
        waited: Seconds since it was accepted.
        attempts: Times that its handler failed.
        crashes: Pods that died while they had it.
        expires_in: Seconds until its caller's deadline, or the end of its `expires`; 0: that has passed; None: it has
            neither.
    """

    command: str
    command_id: str
    waited: float
    attempts: int
    crashes: int
    expires_in: float | None = None


@attrs.frozen
class Mailbox:
    """One entity at one moment, by the store's clock.

    Attributes:
        entity_type: Its type.
        entity_id: Its id.
        mode: "idle", "ready" (has work, and no pod takes it), "parked" (a pod owns it, nothing runs), "active" or
            "paused".
        pending: Commands in the mailbox, the one that is being handled included; those that are put off are not.
        head: The first of them.
        owner: Name of the pod that owns it.
        owner_silent: Seconds since that pod's last heartbeat.
        fence: Of its newest activation; 0: it has none since it was idle last.
        due_in: Seconds that the head still has to wait, after a failure, say.
        unknown_for: Seconds since the first pod declined the head, as it does not know the command.
        ready_for: Seconds since no pod takes it.
        paused_for: Seconds since it is paused.
        paused_why: Why that is.
        type_paused: Whether its whole type is paused.
        type_paused_for: Seconds since that is so.
        type_paused_why: Why.
        state_bytes: Size of its encoded state.
        owner_silent_for: Seconds without a heartbeat of its owner after which others take over.
        full_for: Seconds since a sender was refused last, as the mailbox held all that it allows; None: that was not
            since the mailbox was empty.
        full_limit: How many commands that sender allows.
        quarantine_left: Seconds for which nothing starts on any entity, as Redis was restarted or failed over.
        claimed_for: Seconds since its newest activation began, or it began anew after a backoff; None: it has none.
        at: The moment, in seconds of the store's clock since the epoch.
    """

    entity_type: str
    entity_id: str
    mode: str
    pending: int
    head: Head | None
    owner: str | None
    owner_silent: float | None
    fence: int
    due_in: float | None
    unknown_for: float | None
    ready_for: float | None
    paused_for: float | None
    paused_why: str
    type_paused: bool
    type_paused_for: float | None
    type_paused_why: str
    state_bytes: int
    owner_silent_for: float | None = None
    full_for: float | None = None
    full_limit: int = 0
    quarantine_left: float | None = None
    claimed_for: float | None = None
    at: float = 0.0


def mailbox_of(codec: Codec, entity: Entity, seen: Inspection) -> Mailbox:
    """Makes an operator's view of what the store knows."""

    def since(at_us: int | None) -> float | None:
        return None if at_us is None else max(0.0, (seen.now_us - at_us) / 1e6)

    def until(at_us: int | None) -> float | None:
        return None if at_us is None else max(0.0, (at_us - seen.now_us) / 1e6)

    head: Head | None = None
    if seen.head is not None:
        try:
            envelope = decode_envelope(codec, entity, seen.head.data)
        except DecodeError:
            envelope = Envelope(UNDECODABLE, entity, UNDECODABLE)
        waited = since(seen.head.accepted_us) or 0.0
        left = None if envelope.deadline is None else max(0.0, envelope.deadline - waited)
        head = Head(envelope.name, envelope.command_id, waited, seen.attempts, seen.crashes, left)
    return Mailbox(
        entity_type=entity.type,
        entity_id=entity.id,
        mode=seen.mode.value,
        pending=seen.queued,
        head=head,
        owner=seen.owner_name or seen.owner,
        owner_silent=since(seen.owner_renewed_us or None),  # 0: it is leaving
        fence=seen.epoch,
        due_in=until(seen.due_us),
        unknown_for=since(seen.unknown_since_us),
        ready_for=since(seen.ready_since_us),
        paused_for=since(seen.paused_since_us),
        paused_why=seen.paused_why,
        type_paused=seen.held,
        type_paused_for=since(seen.held_since_us),
        type_paused_why=seen.held_why,
        state_bytes=seen.state_bytes,
        owner_silent_for=None if seen.owner_silent_us is None else seen.owner_silent_us / 1e6,
        full_for=since(seen.full_since_us),
        full_limit=seen.full_limit,
        quarantine_left=until(seen.quarantine_until_us),
        claimed_for=since(seen.epoch or None),  # an epoch is the time at which it was given, or a little more
        at=seen.now_us / 1e6,
    )
