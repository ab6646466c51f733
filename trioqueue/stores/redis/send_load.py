"""What one call of the send script carries: its keys and arguments, as `send.lua` reads them."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, count, groupby
from operator import attrgetter

from trioqueue._names import Entity
from trioqueue.stores.contract import ClaimWish, Group, Member, Outgoing, Terms
from trioqueue.stores.redis.keys import Keys

Run = tuple[Entity, list[bytes]]
"""Commands of one entity that stand one behind the other."""

NO_TERMS = Terms("")
"""Stands for a command without terms in a group where another one has some."""


def lane(terms: Terms | None) -> str:
    """Says into which lane a command goes, as the scripts name it."""
    return "+" if terms is not None and terms.urgent else ""


def _gathered(commands: Sequence[Outgoing]) -> Iterable[Run]:
    """Brings the commands of each entity together: mailboxes keep the order of their own commands alone."""
    runs: dict[Entity, list[bytes]] = {}
    for entity, data, _ in commands:
        run = runs.get(entity)
        if run is None:
            runs[entity] = [data]
        else:
            run.append(data)
    return runs.items()


def _neighbours(commands: Sequence[Outgoing]) -> Iterable[Run]:
    """Brings neighbours together alone, so that the first mailbox that overflows is seen."""
    for entity, some in groupby(commands, attrgetter("entity")):
        yield entity, [one.data for one in some]


class SendLoad:
    """Gathers groups.

    `entities`: those of the commands, each with its number; `wished`: those of them with which somebody wants to begin,
    in the order of the answers.
    """

    def __init__(self, keys: Keys, producer: str, wishes: Mapping[Entity, ClaimWish]) -> None:
        self.entities: dict[Entity, int] = {}
        self.wished: list[Entity] = []
        self._names, self._producer, self._wishes = keys, producer, wishes
        self._types: dict[str, int] = {}
        self._limits: list[int] = []  # one for each type
        self._type_keys: list[str] = []
        self._entity_keys: list[str] = []
        self._wish_keys: list[str] = []
        self._id_keys: list[str] = []
        self._about: list[object] = []
        self._groups: list[object] = []
        self._wished: list[object] = []
        self._key_places: list[int] = []  # where in `_groups` the numbers of `_id_keys` belong
        self._count = 0
        self._puts_off = False

    def add(self, group: Group) -> None:
        """Adds a group, which has its sequence number."""
        self._count += 1
        commands = group.commands
        if [one for one in commands if one.terms is not None]:
            self._groups += (group.sequence, len(commands), 1)
            for entity, data, terms in commands:
                self._groups += (self._number(entity, group), 1, data)
                self._add_terms(entity, terms or NO_TERMS)
            return
        runs = list(_neighbours(commands) if group.limits else _gathered(commands))
        groups = self._groups
        groups += (group.sequence, len(runs), 0)
        for entity, run in runs:
            groups += (self._number(entity, group), len(run))
            groups += run

    def _number(self, entity: Entity, group: Group) -> int:
        number = self.entities.get(entity)
        return self._add_entity(entity, group) if number is None else number

    def _add_entity(self, entity: Entity, group: Group) -> int:
        number = self.entities[entity] = len(self.entities) + 1
        kind = self._types.get(entity.type)
        if kind is None:
            kind = self._types[entity.type] = len(self._types) + 1
            self._limits.append(group.limits.get(entity.type, 0))
            self._type_keys += self._names.placement(entity.type)
        e, q, s = self._names.entity(entity)
        self._entity_keys += (e, q)
        self._about += (f"{entity.type}/{entity.id}", kind)
        wish = self._wishes.get(entity)
        if wish is not None:
            self.wished.append(entity)
            self._wish_keys.append(s)
            self._wished += (number, wish.fetch, wish.have, int(wish.eager))
        return number

    def _add_terms(self, entity: Entity, terms: Terms) -> None:
        self._groups += (terms.command_id, terms.delay_us, 0, terms.key_ms, lane(terms))
        self._puts_off = self._puts_off or terms.delay_us > 0
        if terms.key:
            self._key_places.append(len(self._groups) - 3)
            self._id_keys.append(self._names.idempotency(entity, terms.key))

    def keys(self) -> list[str]:
        """Names the keys behind the common ones, and gives the idempotency keys their numbers."""
        names = self._names
        keys = [*names.sequences(self._producer), *self._type_keys, *self._entity_keys, *self._wish_keys]
        if self._id_keys:
            for place, number in zip(
                self._key_places, count(len(names.common) + len(keys) + 1), strict=False
            ):
                self._groups[place] = number
            keys += self._id_keys
        if self._puts_off:
            keys += names.later
        return keys

    def arguments(self, low: int, member: Member | None) -> list[object]:
        """Gives the arguments behind the channel; `keys` must have been asked before."""
        return [
            low,
            *(member or ("", "")),
            len(self._types),
            *chain.from_iterable(zip(self._types, self._limits, strict=True)),
            len(self.entities),
            *self._about,
            self._count,
            *self._groups,
            *self._wished,
        ]
