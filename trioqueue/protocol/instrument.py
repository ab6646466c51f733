"""What can be observed of a process: one method for each thing that happens."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Literal, TypeAlias

import attrs

from trioqueue._names import Entity

SentBy: TypeAlias = Literal["send", "call", "child"]
"""How commands are sent: by `send` or `send_many`, by `call`, or with the commit of the handler that sends them."""


@attrs.define
class HandlerCancelled(Exception):
    """A handler did not end by itself; nobody raises it, but `Instrument.handling` is told so.

    Attributes:
        why: "expired": its caller's deadline passed.  "cancelled": its caller has gone.  "let go": the entity is not
            this worker's any more, or an operator changed what it had; the command may be handled again.
    """

    why: Literal["expired", "cancelled", "let go"]


class Instrument:
    """Is told what happens in this process; override what you want to know.

    Hand it to `open_atomic_queues(instruments=[...])`.  Methods are called in the event loop, in the order in which
    things happen to an entity, and must return at once.  One that raises is logged, the first time, and changes nothing
    else.

    What concerns an outcome is told once it is committed.  Where the answer to a commit was lost and the entity handed
    on, a turn that stands may be told by nobody.

    Two methods are not told afterwards but asked before: `sending` and `handling` may return a context manager, which
    is entered and left round what follows, in its task.  What that one raises is logged and changes nothing either, and
    it can't suppress an error.
    """

    def sending(
        self, commands: Sequence[tuple[Entity, str, str]], how: SentBy
    ) -> AbstractContextManager[Mapping[str, str] | None] | None:
        """Commands are about to be sent; asks what to put round that, if anything.

        Of each command it has the entity, the name and the id; several are those of one `send_many`.  They are found as
        they are looked at, so only what is looked at costs anything, and one that can't be sent raises its sender's
        error there, which goes to the sender: let it pass.  What entering
        the manager returns travels with each of them, beside the headers that the sender gave and before these where
        the names are the same; `Context.headers` shows it.

        The manager is left once they are accepted (`how="send"`); once the call is answered, or its caller has gone
        (`"call"`); or at once, as they leave with the commit, or never (`"child"`): with the error, if there is one.
        Commands that a schedule sends, and dead letters that are redelivered, are not asked about.
        """

    def handling(
        self, entity: Entity, command: str, command_id: str, attempt: int, headers: Mapping[str, str]
    ) -> AbstractContextManager[object] | None:
        """A handler is about to run; asks what to put round it, if anything.

        The manager is entered and left in the handler's task, so that context variables which it sets are the
        handler's.  It is left as soon as the handler has ended, before anything of it stands: with the error that it
        raised, a `Rejection` say; with `HandlerTimeout` or `HandlerCancelled`; or with `trio.Cancelled`, where its pod
        ends or has lost its lease, and the command will be handled again.
        """

    def sent(self, entity_type: str, command: str, count: int) -> None:
        """Commands of one name were accepted that this process sent, calls and what handlers sent included."""

    def called(self, entity_type: str, command: str, outcome: str, seconds: float) -> None:
        """A call of this process is over.

        Its outcome is "done", "rejected", "dead", "cancelled", "expired", or "unanswered" if the caller has gone.
        """

    def claimed(self, entity: Entity) -> None:
        """A worker began with an entity: it is awake here until it is `passivated` or `handed_off`."""

    def passivated(self, entity: Entity) -> None:
        """A worker let go of an entity that was idle."""

    def handed_off(self, entity: Entity) -> None:
        """A worker ended otherwise: drained, cancelled with its lease, held back, or unable to handle its head."""

    def handled(
        self, entity: Entity, command: str, command_id: str, outcome: str, waited: float, duration: float
    ) -> None:
        """A command has left its mailbox.

        Its outcome is "done", "rejected", "dead", "cancelled" or "expired".  `waited` are the seconds from when it was
        accepted until this turn, `duration` those of its handler.  The name is "" where the command can't be read.
        """

    def failed(
        self, entity: Entity, command: str, command_id: str, attempt: int, again_in: float, error: str
    ) -> None:
        """A handler failed, and its command is tried again in so many seconds; `error` is the exception's class."""

    def dead(self, entity: Entity, command: str, command_id: str, attempts: int, error: str) -> None:
        """A command became a dead letter; it is told as `handled` too."""

    def paused(self, entity: Entity, why: str) -> None:
        """An entity is let go of and waits for an operator; `why` is "" where one has paused it, or its type."""

    def lease_lost(self, why: str) -> None:
        """This process lost its lease: all its workers are cancelled, and it joins anew."""

    def fenced(self, entity: Entity) -> None:
        """A commit was refused, as the entity has another owner, or an operator changed what its worker had."""
