"""Everything a user of trioqueue can catch.

Each error says in one sentence what is the matter and what to do about it; the values it speaks of are attributes.
There is a class of its own only where a caller would act differently.
"""

from collections.abc import Mapping

import attrs

SHOWN_DATA = 120
"""Bytes of undecodable data kept in an error: enough to recognise it, too few to fill a log."""


class TrioqueueError(Exception):
    """Is the base of all errors of trioqueue.

    A handler's own exception never is one, nor is a `Rejection`: catch those by their own class.  A caller whose
    cancel scope ended gets Trio's `Cancelled` or `TooSlowError`, as everywhere in Trio.
    """


@attrs.define
class BadDeclaration(TrioqueueError):
    """Tells of a mistake in declaring a command, state, handler or policy.

    Raised where the declaration stands (at import), or by `open_atomic_queues` for what can only be seen when all
    is declared.  Nothing was registered by the declaration in question, nothing was written to any store.  Correct
    the source; there is nothing to catch.  Mistakes in values that travel are not reported by this error.
    """

    message: str

    def __str__(self) -> str:
        return self.message


@attrs.define
class DuplicateRegistration(BadDeclaration):
    """Tells that a registry has a handler, activation or upcast for this already.

    Raised by the registering decorator; the first registration stays as it is.  Remove one of the two, or use two
    registries.  Not raised for the same command in different registries.
    """


@attrs.define
class NotRegistered(TrioqueueError):
    """Tells that something is used that nobody has declared or registered.

    Raised by sending an object whose class has no `@command`, and at opening for an entity type to be served for
    which the registry has no handler.  Nothing was sent.  Decorate the class, or register the handler before
    opening.  Not raised for commands that other pods handle: a sender needs no handlers.
    """

    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what} is not registered: {self.remedy}."


@attrs.define
class BadEntityId(TrioqueueError):
    """Tells that a value cannot be the id of an entity.

    Raised by sending, before anything is written.  Choose another id: text of 1 to 512 bytes without control
    characters, an int or a UUID.  Spaces, slashes, colons, braces and any script of the world are legal.
    """

    entity_id: object
    reason: str

    def __str__(self) -> str:
        return f"The entity id {_short(repr(self.entity_id))} {self.reason}."


@attrs.define
class PayloadTooLarge(TrioqueueError):
    """Tells that an encoded command is larger than its entity type allows, or `together` too many are sent at once.

    Raised by sending, before anything is written; raised in a handler, the turn fails like by any error.  Send a
    reference to the data, or raise `EntityPolicy.max_payload`; of many commands, send fewer in one `send_many` or
    turn.  Not raised for state: see `StateTooLarge`.
    """

    size: int
    limit: int
    together: bool = False

    def __str__(self) -> str:
        if self.together:
            return (
                f"The commands take {self.size} bytes together and {self.limit} are allowed in one go: "
                "send fewer at once."
            )
        return (
            f"The command takes {self.size} bytes and {self.limit} are allowed: "
            "send a reference to the data, or raise EntityPolicy.max_payload."
        )


@attrs.define
class StateTooLarge(TrioqueueError):
    """Tells that a handler made its entity's state larger than the entity type allows.

    Raised after the handler returned, as its failure: the state is the one from before, and the policy's retries
    apply.  Keep less in the state, or raise `EntityPolicy.max_state`.  Not raised when reading a state.
    """

    size: int
    limit: int

    def __str__(self) -> str:
        return (
            f"The state takes {self.size} bytes and {self.limit} are allowed: "
            "keep less in it, or raise EntityPolicy.max_state."
        )


@attrs.define
class EncodeError(TrioqueueError):
    """Tells that a value cannot be written as bytes.

    Raised by sending, before anything is written, and for a reply or state as the failure of its handler.  Change
    the value or its declared type, or register the type with the codec.
    """

    reason: str

    def __str__(self) -> str:
        return f"This cannot be encoded: {self.reason}."


def _short_data(data: bytes | str) -> bytes:
    raw = data.encode("utf-8", "replace") if isinstance(data, str) else bytes(data)
    return raw if len(raw) <= SHOWN_DATA else raw[:SHOWN_DATA] + b"..."


@attrs.define
class DecodeError(TrioqueueError):
    """Tells that bytes or builtins are not what the declared type expects.

    Raised by reading a state or result; for a command it is what the dead letter says, which keeps the raw bytes
    whole, while `data` here is only their beginning.  Bring sender and reader to the same declaration, register an
    upcast, then redeliver.  Unknown fields are no error: old pods and new senders live side by side.
    """

    reason: str
    data: bytes = attrs.field(default=b"", converter=_short_data, repr=False)  # a payload is not for logs

    def __str__(self) -> str:
        return f"This cannot be decoded: {self.reason}."


@attrs.define
class NewerVersion(DecodeError):
    """Tells that data was written by a newer version of its class than this process has.

    Raised by reading it; the data is untouched.  A pod that meets it hands the entity on to one that knows the
    version.  Deploy the newer class here too.  Not raised for older data: upcasts are for that.
    """

    name: str = attrs.field(kw_only=True)
    version: int = attrs.field(kw_only=True)
    known: int = attrs.field(kw_only=True)


@attrs.define
class BadUrl(TrioqueueError):
    """Tells that the URL of the store cannot be understood.

    Raised by `open_atomic_queues` before it connects.  Correct the URL.  Secrets in it are not repeated here.  Not
    raised for a URL that is legal but leads nowhere: that is `StoreUnavailable`.
    """

    reason: str

    def __str__(self) -> str:
        return f"The URL of the store cannot be used: {self.reason}."


@attrs.define
class StoreUnavailable(TrioqueueError):
    """Tells that no store answers at its address, or that it serves nobody there; nothing was done.

    Raised by `open_atomic_queues` at once when it cannot connect.  Once the queues are open, the connection is made
    again in the background and callers wait: it is raised then by whatever the link was down for `Limits.unanswered`
    seconds for, so that nothing of it was sent, and where the server refuses, as a read-only replica does.  Start the
    store or correct the address, and ask again.  Not raised for what was sent and has no answer: that is
    `OutcomeUnknown`.
    """

    address: str
    reason: str

    def __str__(self) -> str:
        return f"No store answers at {self.address} ({self.reason}): start it, or correct the URL."


@attrs.define
class AccessDenied(TrioqueueError):
    """Tells that the store answers but refuses us: a wrong password, or a right that its user lacks.

    Raised by `open_atomic_queues`; nothing was written.  Correct the credentials or grant the right that the
    message names.  Passwords never appear in it.
    """

    reason: str

    def __str__(self) -> str:
        return f"The store refuses access: {self.reason}."


@attrs.define
class Incompatible(TrioqueueError):
    """Tells that this store cannot be used as it is: its version, its settings, or what another layout left there.

    Raised by `open_atomic_queues`, or later where it has changed; nothing was written.  The message names what differs
    and how to change it.
    """

    reason: str

    def __str__(self) -> str:
        return f"This store cannot be used: {self.reason}."


@attrs.define
class StoreFull(TrioqueueError):
    """Tells that the store has no memory left for more commands.

    Raised by sending; this send was refused as a whole and all that was accepted before still drains.  Send later,
    or give the store more memory.  Commits of finished handlers never get it.
    """

    address: str

    def __str__(self) -> str:
        return f"The store at {self.address} is full and refused the command: send later, or give it more memory."


@attrs.define
class MailboxFull(TrioqueueError):
    """Tells that an entity's mailbox holds as many commands as its sender's policy allows.

    Raised by sending; this send was refused as a whole, all that was accepted before is handled.  Send later, or raise
    `EntityPolicy.max_pending`.  Not raised for what a handler sends with its commit, nor for what is put off.
    """

    entity: str
    limit: int

    def __str__(self) -> str:
        return (
            f"The mailbox of {_short(self.entity)} holds {self.limit} commands, which is all it may: "
            "send later, or raise EntityPolicy.max_pending."
        )


@attrs.define
class ResultNotKept(TrioqueueError):
    """Tells that the outcome of a command is not to be had.

    Raised by `result`, at once for a command that was sent with a policy that keeps none, and for one whose outcome is
    kept no more.  The command is handled all the same.  Use `call`, or set `EntityPolicy.keep_results` where it is
    sent.
    """

    command_id: str
    ever: bool

    def __str__(self) -> str:
        if self.ever:
            return (
                f"The outcome of {self.command_id} is not kept any more: "
                "ask sooner, or raise EntityPolicy.keep_results where it is sent."
            )
        return (
            f"The outcome of {self.command_id} is not kept: "
            "use call, or set EntityPolicy.keep_results where it is sent."
        )


@attrs.define
class OutcomeUnknown(TrioqueueError):
    """Tells that the link to the store was down for too long while something was under way.

    Raised by whatever was waiting for the store's answer, after `Limits.unanswered` seconds.  It was done or it
    was not; it may still be done when the link is back.  Look at the entity before you repeat it.  Not raised when
    the caller's own cancel scope ends first, nor before anything was handed to the link.
    """

    what: str
    seconds: float

    def __str__(self) -> str:
        return (
            f"The store has not answered for {self.seconds:g} s, so whether {self.what} was done is unknown: "
            "look at the entity before you repeat it."
        )


@attrs.define
class NotReplicated(TrioqueueError):
    """Tells that something was done, and that no replica is known to have it.

    Raised by `send`, `send_many` and `call` with `durability="replica"`, after `Limits.unanswered` seconds, or at once
    where waiting is in vain.  The store took what was sent, once; it is gone only if that server loses its data
    before a replica follows.
    """

    seconds: float
    reason: str

    def __str__(self) -> str:
        return (
            f"The store took it, but no replica was seen to have it within {self.seconds:g} s ({self.reason}): "
            "see that a replica is attached, and look at the entity before you repeat it."
        )


@attrs.define
class Closed(TrioqueueError):
    """Tells that the queues, or a blocking sender, were left already.

    Raised by every use after the `async with open_atomic_queues()` block ended, after `Sender.close`, and of a sender
    that another process has opened before it forked; nothing was done, but for what a thread waited for when another
    one closed the sender.  Move the use into the block, and open a sender in each process.
    """

    reason: str = "These queues are closed: use them inside their `async with open_atomic_queues()` block"

    def __str__(self) -> str:
        return f"{self.reason}."


@attrs.define
class UnknownCommand(TrioqueueError):
    """Tells a caller that no pod has a handler for the command.

    Raised by `call` and `result` once the command has waited for `EntityPolicy.unknown_grace` and became a dead
    letter, unhandled.  Deploy a pod that handles it and redeliver.  Not raised by sending: a pod may come.
    """

    entity: str
    name: str

    def __str__(self) -> str:
        return (
            f"No pod has a handler for {self.name!r} of {_short(self.entity)}: "
            "deploy one that has, then redeliver the dead letter."
        )


@attrs.define
class DeadlineExceeded(TrioqueueError):
    """Tells that a command's deadline passed before it was done.

    Raised by `call` inside a handler, where every call has a deadline, and by `result` of a command that left
    unstarted.  A handler that had begun was cancelled; its changes are not committed.  Allow more time.  A caller
    whose own cancel scope ends gets Trio's `TooSlowError` or `Cancelled` instead.
    """

    command: str
    entity: str
    waiting: tuple[str, ...] = ()

    def __str__(self) -> str:
        path = f" (called by {' → '.join(self.waiting)})" if self.waiting else ""
        return f"{self.command!r} of {_short(self.entity)} was not done by its deadline{path}: allow it more time."


@attrs.define
class CallFailed(TrioqueueError):
    """Tells a caller that the handler failed for good.

    Raised by `call` and `result` once the retries are exhausted; the command is a dead letter and none of its
    changes were committed.  `error` is the last error as text and `traceback` the remote traceback.  Repair the
    cause and redeliver.  Not raised for a `Rejection`, nor while retries are left.
    """

    command: str
    entity: str
    error: str
    traceback: str = attrs.field(default="", repr=False)

    def __str__(self) -> str:
        return (
            f"{self.command!r} of {_short(self.entity)} failed for good with {self.error.rstrip('.')}: "
            "see .traceback, repair the cause, redeliver the dead letter."
        )


@attrs.define
class CallCancelled(TrioqueueError):
    """Tells a caller that somebody cancelled the command.

    Raised by `call` and `result`; nothing of it was committed and it will not run again.  Send it anew if it is
    still wanted.  Not raised when a pod drains or loses its lease: the command then runs elsewhere.
    """

    command: str
    entity: str

    def __str__(self) -> str:
        return f"{self.command!r} of {_short(self.entity)} was cancelled before it was done: send it anew if wanted."


@attrs.define
class ReentrantCall(TrioqueueError):
    """Tells that a call leads back to an entity that waits for its answer, so it could never be answered.

    Raised at once by `call` inside a handler; nothing was sent.  Use `context.send` for the way back, or ask
    before.  `path` are the entities from the first caller to the one called again.
    """

    path: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"This call would wait for itself ({' → '.join(self.path)}): use context.send for the way back."
        )


@attrs.define
class SendInsideTurn(TrioqueueError):
    """Tells that a handler sent past its turn, where a retry would send once more.

    Raised by `queues.send` in a task that handles a command; nothing was sent.  Use `context.send`, which goes out
    with the commit or never.  Not raised in tasks of `Context.nursery`.
    """

    entity: str

    def __str__(self) -> str:
        return (
            f"A handler of {_short(self.entity)} used queues.send, which a retry would repeat: "
            "use context.send, which goes out with the commit or never."
        )


@attrs.define
class Rejected(TrioqueueError):
    """Tells a caller that the handler answered no with a rejection that the command does not declare.

    Raised by `call` and `result`; state and children of the command were discarded, it is not retried.  Add the
    class to `@command(rejects=[...])` and it arrives as itself.  `fields` are its values as they travelled.
    """

    name: str
    fields: Mapping[str, object]

    def __str__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self.fields.items())
        return f"The command was rejected with {self.name}({fields}): declare it in rejects= to catch it as itself."


def _short(text: str) -> str:
    return text if len(text) <= SHOWN_DATA else text[:SHOWN_DATA] + "..."
