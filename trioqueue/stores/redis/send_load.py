"""What one call of the send script carries: its keys and arguments, as `send.lua` reads them."""

from collections.abc import Mapping
from itertools import chain, count

from trioqueue._names import Entity
from trioqueue.stores.contract import ClaimWish, Group, Member, Terms
from trioqueue.stores.redis.keys import Keys

NO_TERMS = Terms("")
"""Stands for a command without terms in a group where another one has some."""

WIDTHS = {True: 2, False: 7}
"""Arguments of a command in a group that is plain, and in one that is not."""


def lane(terms: Terms | None) -> str:
    """Says into which lane a command goes, as the scripts name it."""
    return "+" if terms is not None and terms.urgent else ""


class SendLoad:
    """Gathers groups.

    `entities`: those of the commands, each with its number.
    """

    def __init__(self, keys: Keys, producer: str, wishes: Mapping[Entity, ClaimWish]) -> None:
        self.entities: dict[Entity, int] = {}
        self._names, self._producer, self._wishes = keys, producer, wishes
        self._types: dict[str, int] = {}
        self._limits: list[int] = []  # one for each type
        self._type_keys: list[str] = []
        self._entity_keys: list[str] = []
        self._id_keys: list[str] = []
        self._about: list[object] = []
        self._groups: list[object] = []
        self._key_places: list[int] = []  # where in `_groups` the numbers of `_id_keys` belong
        self._count = 0

    def add(self, group: Group) -> None:
        """Adds a group, which has its sequence number."""
        commands = group.commands
        plain = not [one for one in commands if one.terms is not None]
        groups, entities = self._groups, self.entities
        groups += (group.sequence, len(commands), WIDTHS[plain])
        self._count += 1
        for entity, data, terms in commands:
            number = entities.get(entity)
            if number is None:
                number = self._add_entity(entity, group)
            groups += (number, data)
            if not plain:
                self._add_terms(entity, terms or NO_TERMS)

    def _add_entity(self, entity: Entity, group: Group) -> int:
        number = self.entities[entity] = len(self.entities) + 1
        kind = self._types.get(entity.type)
        if kind is None:
            kind = self._types[entity.type] = len(self._types) + 1
            self._limits.append(group.limits.get(entity.type, 0))
            self._type_keys += self._names.placement(entity.type)
        self._entity_keys += self._names.entity(entity)
        wish = self._wishes.get(entity)
        self._about += (
            f"{entity.type}/{entity.id}",
            kind,
            wish.fetch if wish else 0,
            wish.have if wish else "",
            int(wish.eager) if wish else 0,
        )
        return number

    def _add_terms(self, entity: Entity, terms: Terms) -> None:
        self._groups += (terms.command_id, terms.delay_us, 0, terms.key_ms, lane(terms))
        if terms.key:
            self._key_places.append(len(self._groups) - 3)
            self._id_keys.append(self._names.idempotency(entity, terms.key))

    def keys(self) -> list[str]:
        """Names the keys behind the common ones, and gives the idempotency keys their numbers."""
        names = self._names
        fixed = [*names.sequences(self._producer), *names.later, *self._type_keys, *self._entity_keys]
        for place, number in zip(self._key_places, count(len(names.common) + len(fixed) + 1), strict=False):
            self._groups[place] = number
        return [*fixed, *self._id_keys]

    def arguments(self, low: int, member: Member | None) -> list[object]:
        """Gives the arguments behind the channel; `keys` must have been asked before."""
        return [
            low,
            *((member.incarnation, member.generation) if member else ("", "")),
            len(self._types),
            *chain.from_iterable(zip(self._types, self._limits, strict=True)),
            len(self.entities),
            *self._about,
            self._count,
            *self._groups,
        ]
