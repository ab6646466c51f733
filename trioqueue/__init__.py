"""trioqueue: runs the commands of each entity one after another, on Trio and Redis."""

from trioqueue._errors import (
    AccessDenied,
    BadDeclaration,
    BadEntityId,
    BadUrl,
    CallCancelled,
    CallFailed,
    Closed,
    DeadlineExceeded,
    DecodeError,
    DuplicateRegistration,
    EncodeError,
    Incompatible,
    MailboxFull,
    NewerVersion,
    NotRegistered,
    NotReplicated,
    OutcomeUnknown,
    PayloadTooLarge,
    ReentrantCall,
    Rejected,
    ResultNotKept,
    SendInsideTurn,
    StateTooLarge,
    StoreFull,
    StoreUnavailable,
    TrioqueueError,
    UnknownCommand,
)
from trioqueue._health import Health
from trioqueue._looking import Lane, Lanes, Pod, QueuedCommand, RawState
from trioqueue._mailbox import Head, Mailbox
from trioqueue._names import Entity
from trioqueue._open import open_atomic_queues
from trioqueue._operating import DeadLetter
from trioqueue._queues import AtomicQueues, Following, Status
from trioqueue._statistics import Statistics
from trioqueue._watching import Events
from trioqueue.messages.codec import Codec
from trioqueue.messages.command import Command, Query, command, entity_id, query
from trioqueue.messages.event import (
    CommandDead,
    CommandFailed,
    CommandHandled,
    EntityAsleep,
    EntityAwake,
    EntityPaused,
    Event,
    EventsMissed,
    PodLostLease,
)
from trioqueue.messages.policy import Drain, EntityPolicy, Lease, Limits, Retry
from trioqueue.messages.raw import RawCommand
from trioqueue.messages.registry import Registry
from trioqueue.messages.rejection import Rejection
from trioqueue.messages.state import state
from trioqueue.protocol.instrument import HandlerCancelled, Instrument
from trioqueue.runtime.context import Context, Receipt
from trioqueue.runtime.running import HandlerTimeout, PodsDied

__all__ = [
    "AccessDenied",
    "AtomicQueues",
    "BadDeclaration",
    "BadEntityId",
    "BadUrl",
    "CallCancelled",
    "CallFailed",
    "Closed",
    "Codec",
    "Command",
    "CommandDead",
    "CommandFailed",
    "CommandHandled",
    "Context",
    "DeadLetter",
    "DeadlineExceeded",
    "DecodeError",
    "Drain",
    "DuplicateRegistration",
    "EncodeError",
    "Entity",
    "EntityAsleep",
    "EntityAwake",
    "EntityPaused",
    "EntityPolicy",
    "Event",
    "Events",
    "EventsMissed",
    "Following",
    "HandlerCancelled",
    "HandlerTimeout",
    "Head",
    "Health",
    "Incompatible",
    "Instrument",
    "Lane",
    "Lanes",
    "Lease",
    "Limits",
    "Mailbox",
    "MailboxFull",
    "NewerVersion",
    "NotRegistered",
    "NotReplicated",
    "OutcomeUnknown",
    "PayloadTooLarge",
    "Pod",
    "PodLostLease",
    "PodsDied",
    "Query",
    "QueuedCommand",
    "RawCommand",
    "RawState",
    "Receipt",
    "ReentrantCall",
    "Registry",
    "Rejected",
    "Rejection",
    "ResultNotKept",
    "Retry",
    "SendInsideTurn",
    "StateTooLarge",
    "Statistics",
    "Status",
    "StoreFull",
    "StoreUnavailable",
    "TrioqueueError",
    "UnknownCommand",
    "command",
    "entity_id",
    "open_atomic_queues",
    "query",
    "state",
]

for _name in __all__:
    # Users see the public names only: in tracebacks, reprs and the docs.
    globals()[_name].__module__ = __name__
del _name  # pyright: ignore[reportPossiblyUnboundVariable]
