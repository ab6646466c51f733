"""The contract of a store: where mailboxes live, and the only thing that pods share.

Each operation is atomic: it happens as a whole or not at all, and no other operation is seen in between.  Each is
safe to repeat, as every store must repeat it after a lost answer, and each refuses whoever is not the owner under the
epoch it names.  The runtime never asks which store it has; `trioqueue.testing.check_store` checks all that is
said here.

Three refusals concern the pod as a whole and are raised as `LeaseLost`: the pod is not registered any more, it is
being handed on, or the server is not the one it registered with.  After it, no request of this incarnation will ever be
taken, so its workers end and the pod joins anew.  While a store that was restarted is in quarantine
(PROTOCOL: no claim or commit before every older lease has surely ended), operations wait inside the store.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Literal, NamedTuple, Protocol

import attrs

from trioqueue._errors import PayloadTooLarge, StateTooLarge
from trioqueue._names import Entity
from trioqueue.messages.policy import MAX_COMMAND_BYTES, MAX_STATE_BYTES, Lease
from trioqueue.stores.looking import Looking
from trioqueue.stores.reports import (
    Hint,
    LinkState,
    Queued,
    Report,
    Silent,
    Tick,
    Withdrawal,
    size_of,
)

MAX_BATCH_BYTES = 1_048_576
"""Bytes of envelopes in one batch, so that a worker's memory is bounded; the first one always comes."""

KEEP_CANCELLED_MS = 60_000
"""How long the outcome of a command that was cancelled before it was due is kept at least, for who waits for it."""

KEEP_PROGRESS_MS = 600_000
"""How long the newest word on a command's progress is kept for those who follow it."""

PAGE = 500
"""Entities in one page of a report or a roster: keeps every script call below a millisecond."""

CHUNK = 100
"""Entities that one reap or assign call takes, each with three keys to declare."""


class LeaseLost(Exception):
    """This incarnation's requests are refused from now on; not an error of a user, so it never reaches one."""


# ------------------------------------------------------------------------------------ who asks
@attrs.frozen
class PodInfo:
    """What a pod tells the fleet when it joins.

    `room` bounds how many entities it will own; ttl and grace (seconds) are the ones by which others
    judge its silence.
    """

    name: str
    types: frozenset[str]
    room: int
    lease: Lease


class Member(NamedTuple):
    """One registration of a pod, as `join` answered it: every request of a worker carries it."""

    incarnation: str
    generation: str


# ------------------------------------------------------------------------------------ sending
@attrs.frozen
class Terms:
    """What is asked for one command beside its place in the line.

    With `delay_us` it is put off: accepted now, and put into the mailbox so much later.  With a `key`, the first
    command of its entity with that key is the only one for `key_ms`.  If it is `urgent`, it goes into the lane that
    overtakes whatever no worker has fetched.
    """

    command_id: str
    delay_us: int = 0
    key: str = ""
    key_ms: int = 0
    urgent: bool = False


class Outgoing(NamedTuple):
    """A command on its way into a mailbox: its entity, its envelope, and terms if there are any."""

    entity: Entity
    data: bytes
    terms: Terms | None = None

    def __repr__(self) -> str:
        return f"Outgoing({self.entity}, {size_of(self.data)})"


class ClaimWish(NamedTuple):
    """What a claim names, carried by a send: if this entity is free, I begin with it at once.

    `eager`: the worker handles several commands at once, so it is told of each that comes while it is awake.
    """

    entity: Entity
    have: str
    fetch: int
    eager: bool = False


@attrs.define(eq=False)
class Group:
    """One `send` or `send_many`: taken whole or not at all, in this order.

    The store gives it a sequence number when it is first written; sending the same group again repeats it
    and is answered as a duplicate where the first copy was taken.  `limits` says of entity types how many commands a
    mailbox may hold before it is full for this sender.
    """

    commands: Sequence[Outgoing]
    sequence: int = 0  # 0 until the store has written it once; never changes afterwards
    limits: Mapping[str, int] = attrs.field(factory=dict[str, int])
    # Where its one command has a key: the id of the first command with it, once it was sent.
    first_id: str = ""


# ------------------------------------------------------------------------------------ claiming
NOT_MODIFIED = "not modified"
"""In place of a state's bytes: the worker's copy is the committed one."""


@attrs.frozen
class Claimed:
    """The entity is ours under `epoch`; its mailbox begins with `batch`, which is still in the store.

    `state_version` names the committed state, to be given back as `have` with the next claim.  `attempts`,
    `crashes`, `proven` and `unknown_us` concern the first command only: failures so far, pods that died while they
    had it, whether one of those had nothing else in hand to die of, and how long no pod knew it.  `cancels`
    are commands whose callers have gone.
    """

    epoch: int
    done: int
    now_us: int
    batch: tuple[Queued, ...]
    state: bytes | str | None = attrs.field(default=None, repr=size_of)
    state_version: str = ""
    attempts: int = 0
    crashes: int = 0
    proven: bool = False
    unknown_us: int = 0
    cancels: tuple[str, ...] = ()

    def is_suspect(self) -> bool:
        """Says whether the head may kill its pod: it is handed out alone, and no other such one to the same pod."""
        return self.crashes > 1 or self.proven


@attrs.frozen
class Empty:
    """The entity is ours and parked: nothing is queued."""

    epoch: int


@attrs.frozen
class Backoff:
    """The head may not start for `seconds` yet; the entity stays ours, parked."""

    seconds: float


@attrs.frozen
class Later:
    """The head once killed its pod, and this pod has another such head in hand: ask again soon."""


@attrs.frozen
class NotYours:
    """The entity belongs to another pod or to none: drop it."""


@attrs.frozen
class NotClaimed:
    """The send went through, or failed, without a claim: somebody has the entity, or the store says so by a hint."""


@attrs.frozen
class Paused:
    """An operator holds the entity or its type back, or its head waits for one: let go of it."""


ClaimAnswer = Claimed | Empty | Backoff | Later | NotYours | Paused
SendClaimAnswer = Claimed | Empty | Backoff | Later | NotYours | Paused | NotClaimed


# ------------------------------------------------------------------------------------ committing
class Reply(NamedTuple):
    """The outcome for whoever waits for a command.

    `to` is the client to tell, or "" where the waiting caller is in the committing process and is told there.
    The outcome is kept for `keep_ms` either way, as a hint may be lost.
    """

    command_id: str
    to: str
    outcome: bytes
    keep_ms: int

    def __repr__(self) -> str:
        return f"Reply({self.command_id}, to={self.to!r}, {size_of(self.outcome)}, keep_ms={self.keep_ms})"


class DeadLetter(NamedTuple):
    """A command that is given up: kept with its type's dead letters."""

    command_id: str
    record: bytes

    def __repr__(self) -> str:
        return f"DeadLetter({self.command_id}, {size_of(self.record)})"


class Purged(NamedTuple):
    """A command that is taken out unhandled: the client to tell, or "", and how long its outcome is kept; 0: not."""

    command_id: str
    to: str = ""
    keep_ms: int = 0


class Withdrawn(NamedTuple):
    """A command that a turn cancels: its entity, its id, and the outcome to keep where it is put off."""

    entity: Entity
    command_id: str
    outcome: bytes
    keep_ms: int


@attrs.define
class Commit:
    """What a turn made, to stand together or not at all.

    `done` is the number the worker was told with its batch, plus what it has committed since.  `pops` commands
    leave the head of the mailbox; with `retry_ms` the next one (the failed head) stays and may start after
    that time, or with `pause` (why) waits for an operator; `failed` says whether that is counted.  `want` > 0 asks for
    the next batch.
    """

    entity: Entity
    epoch: int
    done: int
    pops: int = 0
    retry_ms: int | None = None
    pause: str = ""
    failed: bool = True
    state: bytes | None = attrs.field(default=None, repr=size_of)
    children: Sequence[Outgoing] = ()
    replies: Sequence[Reply] = ()
    dead: Sequence[DeadLetter] = ()
    settled_cancels: Sequence[str] = ()
    withdrawn: Sequence[Withdrawn] = ()
    want: int = 0


def check_commands(commands: Sequence[Outgoing]) -> None:
    """Raises `PayloadTooLarge` for what no store takes, whatever the policies of its senders say."""
    size = max((len(one.data) for one in commands), default=0)
    if size > MAX_COMMAND_BYTES:
        raise PayloadTooLarge(size, MAX_COMMAND_BYTES)


def check_commit(commit: Commit) -> None:
    """Raises `StateTooLarge` or `PayloadTooLarge` for a state or child that no store commits."""
    if commit.state is not None and len(commit.state) > MAX_STATE_BYTES:
        raise StateTooLarge(len(commit.state), MAX_STATE_BYTES)
    check_commands(commit.children)


@attrs.frozen
class Next:
    """Committed, and there is work left: the next batch, or () where the worker has some in hand.

    `now_us` is the time of the batch; 0 where there is none.
    """

    now_us: int
    batch: tuple[Queued, ...]
    cancels: tuple[str, ...] = ()


@attrs.frozen
class Parked:
    """Committed, and the mailbox is empty."""


@attrs.frozen
class Fenced:
    """Refused: the entity has another owner or a newer epoch.

    Nothing of this request was or will be done; an earlier copy of it, whose answer was lost, may stand.
    """


CommitAnswer = Next | Parked | Backoff | Fenced | Paused


class HeldLease(Protocol):
    """A lease that is being kept."""

    def left(self) -> float:
        """Says for how many seconds more our lease can be trusted; not above 0: not any more.  Never waits."""
        ...

    def peek(self) -> float:
        """Says the same to any thread, also while the event loop stands still, and changes nothing.

        For who watches the pod; whether a handler may start, `left` decides.
        """
        ...

    def tick(self) -> None:
        """Tells that the event loop is alive.

        Without ticks for longer than `Lease.stall_limit` the lease is not kept any longer.
        """
        ...


class Store(Looking, Protocol):
    """One client's way into the store.  Made by an `open_…` function of the store's module."""

    client: str
    """This client's id, unique for ever: answers and hints are addressed to it."""

    def listen(self, hints: Callable[[Hint], None], connected: Callable[[], None]) -> None:
        """Says who is told of hints, and of each (re)connection, after which earlier hints may be missing.

        Both are called synchronously and must return at once.
        """
        ...

    def link(self) -> LinkState:
        """Says, to any thread and without waiting, how the link to the store is."""
        ...

    async def send(
        self,
        group: Group,
        *,
        member: Member | None = None,
        wishes: Sequence[ClaimWish] = (),
        on_claim: Callable[[Entity, SendClaimAnswer], None] | None = None,
    ) -> bool:
        """Puts the commands into their mailboxes, and wakes or places their entities; True: it was a duplicate.

        An idle entity goes to `member`'s pod if it takes the type and has room, else to the least loaded pod that does,
        else it is ready.  For each wish, `on_claim` is called exactly once, from the store's own task, before the send
        returns, and even when the sender was cancelled meanwhile.

        Cancelled: unknown whether it was taken; if it was, it is in the mailbox once.

        Raises:
            StoreFull: nothing of the group was taken, nor will be.
            MailboxFull: likewise, for a mailbox that holds as many as `Group.limits` allows.
            PayloadTooLarge: a command is above `MAX_COMMAND_BYTES`, which no policy allows; nothing was taken.
            StoreUnavailable: the store could not be reached; nothing was taken.
            OutcomeUnknown: no answer came; send the same group again to find out.
        """
        ...

    async def secure(self) -> None:
        """Returns once all that this client was answered survives the loss of the server, as far as was asked for.

        Without `durability="replica"`, that is at once.  Cancelled: it may survive or not.

        Raises:
            NotReplicated: It is not known to.
        """
        ...

    def abandon(self, group: Group) -> None:
        """Forgets a group that got `OutcomeUnknown` and will not be sent again."""
        ...

    async def claim(
        self, member: Member, entity: Entity, *, have: str = "", fetch: int = 64, eager: bool = False
    ) -> ClaimAnswer:
        """Begins with an entity that was assigned to us, under a new epoch; takes nothing out of the mailbox.

        `have` is the version of the state that the worker holds; `eager` as `ClaimWish` has it.
        Repeated: a newer epoch, the older one is
        worth nothing. Cancelled: unknown; the entity is still ours, and the next claim settles it.
        """
        ...

    async def commit(
        self, member: Member, commit: Commit, meanwhile: Callable[[], None] | None = None
    ) -> CommitAnswer:
        """Makes a turn stand: pops, state, children, replies, dead letters, retry, all together.

        `meanwhile` is called once, before the answer is there, and must not raise: what can be done while the store
        works.

        Repeated or late, it stands once: the same answer comes again, by what the entity is now.  Only the owner
        under its newest epoch and with the right `done` is heard, all others get `Fenced`.
        Cancelled: unknown; the next claim's `done` and batch tell.

        Raises:
            StateTooLarge, PayloadTooLarge: the state or a child is above what any policy allows; nothing stands, and
                the head is as it was.  Never for a worker that has checked by its policy.
        """
        ...

    async def release(self, member: Member, entity: Entity, epoch: int | None, why: str) -> bool:
        """Lets go of an entity.

        Args:
            why: "idle" (only if nothing is queued, else False and it stays ours), "handoff" (to another pod, or ready),
                "decline" (this pod can't handle its head: as handoff, and the head's start is put off a little).
            epoch: the one of our claim; None: assigned to us and never claimed.

        Returns False where nothing was let go of: work has come, or it was not ours (any more).
        """
        ...

    async def join(self, info: PodInfo) -> Member:
        """Registers a new incarnation of this client's pod.

        Raises:
            Incompatible: the layout, the partition count or the lease does not fit what is stored.
        """
        ...

    async def retire(self, member: Member) -> None:
        """No entity is placed with this pod any more; what it has, it keeps."""
        ...

    async def reap(self, member: Member, silent: Silent, *, gave_up: bool = False) -> bool:
        """Hands all entities of a silent pod on and takes it out of the registry; False: it is not silent.

        With `gave_up`, the pod is an older incarnation of this very process, or `member` itself which leaves: then
        it need not be silent, and its active entities get no crash mark.
        """
        ...

    async def assign(self, member: Member, entities: Sequence[Entity]) -> None:
        """Gives entities that are ready to pods with room."""
        ...

    async def move(self, member: Member) -> float | None:
        """Puts all commands that are due into their mailboxes, in the order of their times.

        Returns:
            Seconds until the next one is due; None: none is put off.
        """
        ...

    async def owned(self, member: Member, offset: int) -> tuple[Entity, ...]:
        """Reads a page (of at most `PAGE`) of the entities that are ours by the store."""
        ...

    async def wakes(self, member: Member, offset: int) -> tuple[Entity, ...]:
        """Reads a page (of at most `PAGE`) of the entities of ours that have work."""
        ...

    async def cancel(self, entity: Entity, command_id: str) -> bool:
        """Marks a queued command as cancelled and tells the entity's owner; False: nothing is queued there."""
        ...

    async def withdraw(
        self, entity: Entity, command_id: str, beginning: bytes, outcome: bytes, keep_ms: int
    ) -> Withdrawal:
        """Cancels the command whose envelope begins with these bytes, after a look at where it is.

        One that is put off is taken out, and `outcome` kept for `keep_ms`, or a minute if longer.  Else its mark
        is seen like that of `cancel`.  The look takes time in proportion to the mailbox.  Repeated, it answers alike.
        """
        ...

    async def is_queued(self, entity: Entity, command_id: str, beginning: bytes) -> bool:
        """Says whether a command whose envelope begins with these bytes is in the mailbox or put off."""
        ...

    async def tell_progress(self, command_id: str, client: str, word: bytes) -> None:
        """Keeps the newest word on how far a command is, for `KEEP_PROGRESS_MS`, and tells a client; "": nobody."""
        ...

    async def progress(self, command_id: str) -> bytes | None:
        """Reads the newest word on how far a command is."""
        ...

    async def tick(
        self,
        schedule: str,
        expected_ms: int | None,
        following_ms: int | None,
        command: Outgoing | None = None,
    ) -> Tick:
        """Moves a schedule on from the tick that is expected to be its next, and sends a command if there is one.

        Whoever of the fleet comes first moves it, and all others, and repetitions, find it moved.  With no
        `following_ms` it is only looked at.
        """
        ...

    async def keep(self, member: Member, entities: Sequence[Entity], keep_ms: int) -> int:
        """Has entities, at most `CHUNK`, kept awake for so long, though they may have no work.

        An idle one is given to the least loaded pod with room, and parked without work; but not while others of its
        type wait for a pod.  Who owns one is told to keep it awake; that hint may be lost, so it is asked for again
        and again.  Those that are paused or wait for a pod are left alone.

        Returns:
            How many are idle still, as there is no room for them.
        """
        ...

    async def watch(self, entity_type: str, keep_ms: int) -> None:
        """Has this client told by `Told` what happens to entities of a type, or of all with "*", for so long.

        With 0 it is not told any more.  Pods learn of the types from each report, and at once when they change.
        """
        ...

    async def tell_events(self, data: bytes) -> bool:
        """Tells all clients that watch, whatever their types; False: there is none."""
        ...

    async def pause(self, entity: Entity, why: str) -> bool:
        """Holds an entity back once the turn in hand is committed, or with `why` "" lets it go on.

        False: it was so already.
        """
        ...

    async def hold(self, entity_type: str, why: str) -> bool:
        """Holds all entities of a type back likewise, or with `why` "" lets them go on; False: it was so already."""
        ...

    async def purge(
        self, entity: Entity, commands: Sequence[Queued], tell: Sequence[Purged], outcome: bytes
    ) -> bool:
        """Takes commands out unhandled, if the mailbox begins with them: at most `CHUNK`; False: it doesn't.

        `tell` says of each who is told.  What a worker makes of them meanwhile will not stand.
        """
        ...

    async def redeliver(
        self, entity: Entity, command_id: str, where: Literal["head", "tail", "nowhere"], data: bytes = b""
    ) -> bool:
        """Takes a command off the dead letters, and puts it into its mailbox or nowhere; False: it was not there.

        In its mailbox it is as unsettled as any other: its outcome is kept no longer.
        At the head it comes before what a worker has fetched, whose commit will not stand.
        """
        ...

    async def state(self, entity: Entity) -> bytes | None:
        """Reads the state that was committed last, in one round trip."""
        ...

    async def result(self, command_id: str) -> bytes | None:
        """Reads the outcome of a command, if it is settled and still kept."""
        ...

    def hold_lease(
        self, member: Member, lease: Lease, report: Callable[[Report], None]
    ) -> AbstractAsyncContextManager[HeldLease]:
        """Keeps the lease of an incarnation by heartbeats, until the block is left.

        `report` is called in the Trio thread for each confirmed heartbeat.  How it is kept is the store's
        matter; it does not depend on the event loop for up to `Lease.stall_limit` seconds.
        """
        ...

    async def aclose(self) -> None:
        """Gives up what the client holds; outstanding requests raise `Closed`."""
        ...
