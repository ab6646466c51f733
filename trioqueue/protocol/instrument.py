"""What can be observed of a process: one method for each thing that happens."""

from trioqueue._names import Entity


class Instrument:
    """Is told what happens in this process; override what you want to know.

    Hand it to `open_atomic_queues(instruments=[...])`.  Methods are called in the event loop, in the order in which
    things happen to an entity, and must return at once.  One that raises is logged, the first time, and changes nothing
    else.

    What concerns an outcome is told once it is committed.  Where the answer to a commit was lost and the entity handed
    on, a turn that stands may be told by nobody.
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
        accepted until this turn, `duration` those of the turn itself.  The name is "" where the command can't be read.
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
