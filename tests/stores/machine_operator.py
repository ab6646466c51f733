"""The part of the machine that an operator asks: pauses, purges, dead letters, schedules, words on progress."""

from itertools import islice
from typing import Literal

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import rule
from stores.machine_fleet import clients, entities, numbers
from stores.machine_sends import SendMachine
from stores.pictures import CLIENTS, SCHEDULES, TYPES
from stores.script_link import run

from trioqueue._names import Entity
from trioqueue.stores.contract import Outgoing, Purged
from trioqueue.stores.reports import Lanes, Registrations

DOES = (
    "pause",
    "resume",
    "resume",
    "hold",
    "let go",
    "let go",
    "purge",
    "redeliver",
    "redeliver",
    "tick",
    "tell",
)
"""What an operator asks; what is held back is soon let go on again, as else nothing would happen any more."""

WHERE: tuple[Literal["head", "tail", "nowhere"], ...] = ("head", "head", "tail", "nowhere")


class OperatorMachine(SendMachine):
    """A fleet, its senders, and somebody who looks after them."""

    def __init__(self) -> None:
        super().__init__()
        self.died: dict[str, Entity] = {}  # commands of which dead letters were made -> whose they were

    @rule(what=st.sampled_from(DOES), client=clients, entity=entities, number=numbers, other=numbers)
    def operate(self, what: str, client: str, entity: Entity, number: int, other: int) -> None:
        match what:
            case "pause" | "resume":
                self.pause(client, entity, ("maintenance", "it failed")[number % 2] * (what == "pause"))
            case "hold" | "let go":
                self.hold(client, entity.type, held=what == "hold")
            case "purge":
                self.purge(client, entity, number + 1, other)
            case "redeliver":
                self.redeliver(client, entity, number, WHERE[other % len(WHERE)])
            case "tick":
                self.tick(client, SCHEDULES[number % 2], entity, other)
            case _:
                self.tell(client, entity, number)

    def pause(self, client: str, entity: Entity, why: str) -> None:
        store = self.both.stores[client]
        self.ask(
            f"{client} pauses {entity} ({why})" if why else f"{client} resumes {entity}",
            lambda: run(store.pause(entity, why)),
            lambda: self.memory.pause(entity, why),
        )

    def hold(self, client: str, kind: str, *, held: bool) -> None:
        store = self.both.stores[client]
        self.ask(
            f"{client} {'holds' if held else 'lets go of'} {kind}",
            lambda: run(store.hold(kind, "maintenance" * held)),
            lambda: self.memory.hold(kind, "maintenance" * held),
        )

    def purge(self, client: str, entity: Entity, count: int, waiting: int) -> None:
        """Takes out what the mailbox begins with, or what it doesn't; every second caller waits, from one on."""
        box, store = self.memory.mailboxes.get(entity), self.both.stores[client]
        commands = list(islice(box.queue, count)) if box else []
        if waiting > 2 and len(commands) > 2:
            del commands[1]  # it has changed since it was read
        names = [one.data.decode() for one in commands]
        if not names:
            return
        tell = [
            Purged(name, CLIENTS[waiting % len(CLIENTS)] if place % 2 else "", (0, 60_000, 90_000)[place % 3])
            for place, name in enumerate(names, waiting)
        ]
        self.results += [one.command_id for one in tell if one.keep_ms and one.command_id not in self.results]
        self.ask(
            f"{client} purges {', '.join(names)} of {entity}",
            lambda: run(store.purge(entity, commands, tell, b"purged")),
            lambda: self.memory.purge(entity, commands, tell, b"purged"),
            ends=names,
        )

    def redeliver(
        self, client: str, entity: Entity, number: int, where: Literal["head", "tail", "nowhere"]
    ) -> None:
        """Takes up a dead letter: first one of this entity, else any."""
        store = self.both.stores[client]
        dead = [one for kind in TYPES for one in self.memory.dead[kind]]
        dead.sort(key=lambda one: self.died[one] != entity)
        name = dead[number % len(dead)] if dead else "none"
        of = self.died.get(name, entity)
        self.ask(
            f"{client} redelivers {name} to {of} ({where})",
            lambda: run(store.redeliver(of, name, where, name.encode())),
            lambda: self.memory.redeliver(of, name, where, name.encode()),
            ends=[name] if where == "nowhere" else [],
        )

    def tick(self, client: str, schedule: str, entity: Entity, how: int) -> None:
        """Moves a schedule on, from the right tick or another one, or looks at it."""
        store, memory = self.both.stores[client], self.memory
        command = None if how in (1, 2) else Outgoing(entity, self.command())
        expected = memory.schedules.get(schedule)
        if how == 3:
            expected = 1 if expected is None else None if expected % 2 else expected + 1
        following = None if how == 4 else (expected or 0) + 1
        self.ask(
            f"{client} moves {schedule} from {expected} to {following}, "
            f"{entity} gets {command.data.decode() if command else 'nothing'}",
            lambda: run(store.tick(schedule, expected, following, command)),
            lambda: memory.tick(schedule, expected, following, command),
        )

    def tell(self, client: str, entity: Entity, number: int) -> None:
        """A handler says how far it is with a command."""
        box, store = self.memory.mailboxes.get(entity), self.both.stores[client]
        name = box.queue[0].data.decode() if box and box.queue else "none"
        to = (*CLIENTS, "", "")[number]
        self.ask(
            f"{client} tells {to or 'nobody'} of {name}",
            lambda: (run(store.tell_progress(name, to, b"half")), run(store.progress(name)))[1],
            lambda: (self.memory.tell_progress(name, to, b"half"), self.memory.words.kept(name))[1],
        )

    def look_at_all(self, client: str, entity: Entity) -> None:
        """What an operator may read."""
        store, memory = self.both.stores[client], self.memory

        self.ask(
            f"{client} looks into {entity}",
            lambda: (
                run(store.inspect(entity)),
                [run(store.letters(kind, 0, 9)) for kind in TYPES],
                [run(store.letters(kind, 1, 2, newest=True)) for kind in TYPES],
                run(store.queued(entity, 1, 2)),
                run(store.put_off(entity, 3)),
                _registered(run(store.registrations())),
                _glanced(run(store.lanes(9))),
            ),
            lambda: (
                memory.inspect(entity),
                [memory.letters(kind, 0, 9) for kind in TYPES],
                [memory.letters(kind, 1, 2, newest=True) for kind in TYPES],
                tuple(islice(memory.mailboxes[entity].queue, 1, 3)) if entity in memory.mailboxes else (),
                memory.put_off(entity, 3),
                _registered(memory.registrations()),
                _glanced(memory.lanes(9)),
            ),
            again=False,
        )


def _registered(seen: Registrations) -> Registrations:
    """Sorts what is in no order."""
    pods = tuple(attrs.evolve(pod, types=tuple(sorted(pod.types))) for pod in seen.pods)
    return attrs.evolve(seen, pods=tuple(sorted(pods, key=lambda pod: pod.incarnation)))


def _glanced(seen: Lanes) -> Lanes:
    return attrs.evolve(seen, lanes=tuple(sorted(seen.lanes, key=lambda lane: lane.entity)))
