"""What a store holds, laid open for tests: one picture of all of it, and the invariants that every picture keeps."""

from collections import Counter
from collections.abc import Mapping

import attrs

from trioqueue._names import Entity
from trioqueue.protocol.lifecycle import Mode


@attrs.frozen
class Snapshot:
    """One entity as the store holds it; `due_us` is by the server's clock."""

    mode: Mode = Mode.IDLE
    owner: str | None = None
    epoch: int = 0
    done: int = 0
    queued: tuple[bytes, ...] = ()
    due_us: int | None = None
    attempts: int = 0
    crashes: int = 0


@attrs.frozen
class World:
    """Everything a store holds, at one moment at which nobody changes it.

    Attributes:
        entities: Those that the store has something about, besides their state.
        pods: Registered incarnations, and the types each takes.
        owned: Whom the index of owned entities names as owner.
        wake: Whom the index of owned entities with work names.
        marked: Whom the index of entities with cancelled commands names.
        loads: (type, incarnation) -> how many entities of it placement believes that pod to own.
        ready: What the index of ready entities names.
        ready_counts: Type -> how many ready entities the statistics believe in.
        paused: What the index of paused entities names.
        leftovers: Names of what must be gone when all is drained and all have left: anything that would stay for ever.
    """

    entities: Mapping[Entity, Snapshot]
    pods: Mapping[str, frozenset[str]]
    owned: Mapping[Entity, str]
    wake: Mapping[Entity, str]
    marked: Mapping[Entity, str]
    loads: Mapping[tuple[str, str], int]
    ready: frozenset[Entity]
    ready_counts: Mapping[str, int]
    leftovers: tuple[str, ...]
    paused: frozenset[Entity] = frozenset()

    def snapshot(self, entity: Entity) -> Snapshot:
        """Gives one entity; one that the store knows nothing of is idle."""
        return self.entities.get(entity, Snapshot())


def audit(world: World) -> None:
    """Asserts what holds at any moment: each entity is in one mode, with the index entries of it and no others.

    That is I5 and I6 of the protocol.
    """
    for entity, one in world.entities.items():
        assert one.mode is not Mode.IDLE, f"{entity} is idle and still kept: {one}"
        if one.mode in (Mode.READY, Mode.PAUSED):
            assert one.owner is None, f"{entity} is {one.mode} and owned: {one}"
        else:
            assert one.owner is not None, f"{entity} is {one.mode} without an owner: {one}"
            assert one.owner in world.pods, f"{entity} is owned by {one.owner}, which nobody will reap"
        if one.mode not in (Mode.PARKED, Mode.PAUSED):
            assert one.queued, f"{entity} is {one.mode} without work: {one}"
    found = world.entities.items()
    _same("owned", world.owned, {entity: one.owner for entity, one in found if one.owner})
    _same("wake", world.wake, {entity: one.owner for entity, one in found if one.owner and one.queued})
    _same("ready", world.ready, {entity for entity, one in found if one.mode is Mode.READY})
    _same("paused", world.paused, {entity for entity, one in found if one.mode is Mode.PAUSED})
    for entity, owner in world.marked.items():
        assert world.owned.get(entity) == owner, f"{entity} is marked for {owner}, which is not its owner"
    ready = Counter(entity.type for entity in world.ready)
    _same("ready_counts", Counter(dict(world.ready_counts)), ready)  # a Counter's zeros count as absent
    owns = Counter((entity.type, owner) for entity, owner in world.owned.items())
    _same("loads", Counter(dict(world.loads)), owns)


def audit_drained(world: World) -> None:
    """Asserts that nothing is left once everything is handled and every pod and sender has left (I15)."""
    audit(world)
    assert not world.entities, f"entities are left: {dict(world.entities)}"
    assert not world.pods, f"pods are left: {dict(world.pods)}"
    assert not world.leftovers, f"left: {world.leftovers}"


def _same(name: str, found: object, meant: object) -> None:
    assert found == meant, f"{name} is {found}, and by the entities it should be {meant}"
