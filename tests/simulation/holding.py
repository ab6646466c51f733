"""What an operator holds back, as a checker must know it: nothing of it starts but what had begun before."""

import attrs


@attrs.define(eq=False)
class Holding:
    """Counts what the server did, as many things happen at one moment."""

    steps: int = 0
    held: dict[str, int] = attrs.field(factory=dict)  # entity or type -> since which step
    claimed: dict[tuple[str, int], int] = attrs.field(factory=dict)  # entity and epoch -> at which step
    committed: dict[str, int] = attrs.field(factory=dict)  # entity -> at which step last
    copies: dict[int, frozenset[str]] = attrs.field(factory=dict)

    def hold(self, what: str, *, held: bool) -> None:
        self.steps += 1
        if held:
            self.held[what] = self.steps
        else:
            self.held.pop(what, None)

    def claim(self, entity: str, epoch: int) -> None:
        self.steps += 1
        self.claimed[entity, epoch] = self.steps

    def commit(self, entity: str) -> None:
        self.steps += 1
        self.committed[entity] = self.steps

    def copy(self, number: int) -> None:
        self.copies[number] = frozenset(self.held)

    def fall_back(self, number: int) -> None:
        """Goes back to a copy; what began in between is done by those who do not know of it yet."""
        self.steps += 1
        self.held = dict.fromkeys(sorted(self.copies[number]), self.steps)

    def forbids(self, entity: str, fence: int) -> bool:
        """Says whether a start is one that the server should have prevented, by its claim or its last commit."""
        began = max(self.claimed.get((entity, fence), 0), self.committed.get(entity, 0))
        since = [self.held[what] for what in (entity, entity.partition("/")[0]) if what in self.held]
        return any(began > step for step in since)
