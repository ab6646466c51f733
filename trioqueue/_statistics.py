"""What the queues count."""

import attrs


@attrs.frozen
class Statistics:
    """A snapshot.

    Attributes:
        pods: Registered pods of the fleet.
        owned: Entities that some pod owns.
        with_work: Entities that have commands.
        ready: Of these, the ones that wait for a pod that takes their type and has room.
        held: Of those with commands, the ones that no pod has and whose type is paused.
        dead: Dead letters.
        put_off: Commands that are not in a mailbox yet, as they were sent with a delay.
        awake: Entities that are awake in this process.
        activated: Workers that were started here since the opening.
        passivated: Workers that ended here because their entity was idle.
        handled: Handlers that ended here.
        failed: Of these, the ones that failed.
        buried: Commands that became dead letters here.
    """

    pods: int
    owned: int
    with_work: int
    ready: int
    held: int
    dead: int
    put_off: int
    awake: int
    activated: int
    passivated: int
    handled: int
    failed: int
    buried: int
