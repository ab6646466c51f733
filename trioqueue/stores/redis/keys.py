"""The names of all keys and channels of one partition; nothing else makes one."""

from trioqueue._names import Entity


class Keys:
    """Names keys under one prefix and partition number.

    Every key carries the hash tag `{prefix:partition}`, so that one script may touch all keys of a partition.  Type
    names and prefixes hold no braces, colons or slashes and ids no control characters, so no two things share a key.
    """

    def __init__(self, prefix: str, partition: int = 0) -> None:
        tag = f"{{{prefix}:{partition}}}:"
        self.tag = tag
        self.meta, self.pods, self.fleet = f"{tag}meta", f"{tag}pods", f"{tag}fleet"
        self.owned, self.wake, self.marked = f"{tag}owned", f"{tag}wake", f"{tag}marked"
        self.later = (f"{tag}later", f"{tag}delayed")
        """Commands that are put off: their order, and their envelopes."""
        self.schedule = f"{tag}schedule"
        self.paused = f"{tag}paused"
        self.watchers = f"{tag}watchers"
        self.common = (self.meta, self.pods, self.fleet, self.owned, self.wake, self.marked)
        self.channel = f"{tag}to:"
        self.pattern = f"{{{prefix}:*"
        """Matches all keys and channels of the prefix, and nothing else, in the rules of an ACL."""

    def entity(self, entity: Entity) -> tuple[str, str, str]:
        """Names an entity's hash, its mailbox and its state."""
        name = f"{entity.type}:{entity.id}"
        return f"{self.tag}e:{name}", f"{self.tag}q:{name}", f"{self.tag}s:{name}"

    def state(self, entity: Entity) -> str:
        """Names an entity's state."""
        return f"{self.tag}s:{entity.type}:{entity.id}"

    def placement(self, entity_type: str) -> tuple[str, str]:
        """Names a type's loads and its ready entities."""
        return f"{self.tag}load:{entity_type}", f"{self.tag}ready:{entity_type}"

    def dead(self, entity_type: str) -> tuple[str, str]:
        """Names a type's dead letters: their order, and their records."""
        return f"{self.tag}dead:{entity_type}", f"{self.tag}letters:{entity_type}"

    def result(self, command_id: str) -> str:
        """Names where a command's outcome is kept."""
        return f"{self.tag}result:{command_id}"

    def progress(self, command_id: str) -> str:
        """Names where the newest word on a command's progress is kept."""
        return f"{self.tag}progress:{command_id}"

    def idempotency(self, entity: Entity, key: str) -> str:
        """Names what an idempotency key of an entity stands for; the id's length keeps ids and keys apart."""
        return f"{self.tag}key:{entity.type}:{len(entity.id)}:{entity.id}:{key}"

    def sequences(self, producer: str) -> tuple[str, str]:
        """Names what is known of a sender's sequence numbers, and the gaps between them."""
        return f"{self.tag}producer:{producer}", f"{self.tag}gaps:{producer}"

    def one_of_each(self) -> tuple[str, ...]:
        """Names a key to try things on, and one of each kind that `common` does not name, of nobody's."""
        nobody = Entity("nobody", "nobody")
        kinds = (*self.entity(nobody), *self.placement(nobody.type), *self.dead(nobody.type))
        alone = (self.result(nobody.id), self.progress(nobody.id), self.idempotency(nobody, "nothing"))
        return (
            f"{self.tag}probe",
            *kinds,
            *self.later,
            self.paused,
            self.schedule,
            self.watchers,
            *alone,
            *self.sequences(nobody.id),
        )
