"""Commands that are put off in the in-process store, in the order in which they are due."""

from heapq import heappop, heappush

import attrs

from trioqueue._names import Entity
from trioqueue.stores.contract import Outgoing
from trioqueue.stores.reports import Queued

Due = tuple[int, int, str]
"""When (us) a command is due, a number that keeps the order of what is due at one moment, and its id."""


@attrs.frozen(eq=False)
class Delayed:
    """One command that is put off."""

    due: Due
    entity: Entity
    queued: Queued


class Later:
    """All of them."""

    def __init__(self) -> None:
        self.commands: dict[str, Delayed] = {}  # by command id
        self._heap: list[Due] = []  # of these, and of at most about as many that were taken out
        self._count = 0

    def put_off(self, command: Outgoing, now_us: int) -> bool:
        """Keeps a command; True: it is due before all others."""
        assert command.terms is not None
        self._count += 1
        due = (now_us + command.terms.delay_us, self._count, command.terms.command_id)
        self.commands[due[2]] = Delayed(
            due, command.entity, Queued(now_us, command.data, command.terms.urgent)
        )
        heappush(self._heap, due)
        return self._first() == due

    def _first(self) -> Due | None:
        while self._heap and self._heap[0][2] not in self.commands:
            heappop(self._heap)
        return self._heap[0] if self._heap else None

    def left_us(self, now_us: int) -> int | None:
        """Says how long it is until something is due, below 0 if it is overdue; None: there is nothing."""
        first = self._first()
        return first[0] - now_us if first else None

    def take_due(self, now_us: int) -> Delayed | None:
        """Takes the first one that is due."""
        first = self._first()
        return self.commands.pop(first[2]) if first and first[0] <= now_us else None

    def take_out(self, command_id: str) -> bool:
        """Takes one out that is not to wait any longer; False: it isn't there."""
        if self.commands.pop(command_id, None) is None:
            return False
        if len(self._heap) > 2 * len(self.commands) + 100:
            # Timers that are cancelled again would else stay until they are due.
            self._heap = sorted(one.due for one in self.commands.values())
        return True
