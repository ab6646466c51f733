"""A Hypothesis machine that asks both stores whatever a fleet may ask, in any order: right, late, repeated and wrong.

Arguments of the rules are small numbers and words, which pick from what there is at that moment (modulo its length), so
that a sequence stays meaningful while Hypothesis shortens it.  None, as who asks, is the one who may.
"""

from collections.abc import Callable
from itertools import islice
from typing import Any, NamedTuple

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from stores.machine_fleet import SILENCE, clients, entities, numbers, one_in_three, some_entities, whoever
from stores.machine_operator import DOES, OperatorMachine
from stores.machine_sends import Token
from stores.pictures import CLIENTS, ENTITIES, TYPES
from stores.script_link import run

from trioqueue._names import Entity
from trioqueue.protocol.lifecycle import Mode
from trioqueue.stores.contract import (
    ClaimWish,
    Commit,
    DeadLetter,
    Fenced,
    Member,
    Outgoing,
    Reply,
    Terms,
    Withdrawn,
)
from trioqueue.stores.memory.mailboxes import client_of
from trioqueue.stores.redis.batch import ClaimSection, CommitSection
from trioqueue.stores.redis.replies import check_word, claim_answer, commit_answer


class Where(NamedTuple):
    """Where to look for a command that is asked about or cancelled."""

    entity: Entity
    place: int
    where: str


WHERES = st.builds(
    Where,
    entities,
    st.integers(0, 3),
    st.sampled_from(["put off", "put off", "queued", "queued", "settled", "nowhere"]),
)


@attrs.frozen
class Shape:
    """What a turn does."""

    pops: int = 1
    retry_ms: int | None = None
    pause: str = ""  # the head waits for an operator rather than for its time
    failed: bool = True
    state: bool = False
    children: tuple[
        tuple[Entity, int | None], ...
    ] = ()  # and the seconds by which each is put off; None: no terms
    reply: str | None = None  # to which client; "": to nobody; None: no reply
    keep_ms: int = 60_000
    dead: bool = False
    settles: bool = False
    withdraws: tuple["Where", ...] = ()
    want: int = 0


SHAPES = st.builds(
    Shape,
    pops=st.sampled_from([1, 1, 1, 2, 0, 3]),
    retry_ms=st.sampled_from([None, None, 0, 700, 30_000, 3_000_000]),
    pause=st.sampled_from(["", "", "", "it failed"]),
    failed=st.sampled_from([True, True, False]),
    state=st.booleans(),
    children=st.lists(st.tuples(entities, st.sampled_from([None, None, 0, 1, 8, 40])), max_size=2).map(tuple),
    reply=st.sampled_from([None, "", *CLIENTS]),
    keep_ms=st.sampled_from([60_000, 600_000, 0]),
    dead=one_in_three,
    settles=one_in_three,
    withdraws=st.lists(WHERES, max_size=1).map(tuple),
    want=st.integers(0, 3),
)


class StoreMachine(OperatorMachine):
    """One fleet, two stores.  Subclasses set `both`."""

    def sections(
        self, member: Member, add: Callable[[Any, Any], None], read: Callable[[Any], Any], parts: Any
    ) -> Any:
        """Has the batcher pack sections of one call; gives their answers."""
        answers: list[Any] = []
        batcher = self.both.stores[client_of(member.incarnation)]._batcher
        for part in parts:
            add(batcher, (part, answers.append))
        batcher.flush()
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
            check_word(answer)
        return [read(answer) for answer in answers]

    # -------------------------------------------------------------------------------- the owner's requests
    @rule(who=whoever, some=some_entities, fetch=st.integers(1, 3), have=st.booleans())
    def one_claims(self, who: int | None, some: list[Entity], fetch: int, have: bool) -> None:
        self.claim(self.owner(some[0]) if who is None else self.pod(who), some, fetch, have)

    def claim(self, member: Member, some: list[Entity], fetch: int = 3, have: bool = False) -> None:
        wishes = [ClaimWish(e, self.version(e) if have else "", fetch) for e in some]

        def add(batcher: Any, part: Any) -> None:
            batcher.claim(ClaimSection(member, *part))

        answers = self.ask(
            f"{self.name(member)} claims {', '.join(map(str, some))} (fetch={fetch}, have={have})",
            lambda: self.sections(member, add, claim_answer, wishes),
            lambda: [self.memory.claim_wished(member, wish) for wish in wishes],
        )
        if isinstance(answers, list):
            for entity, answer in zip(some, answers, strict=True):
                self.keep(member, entity, answer)

    @precondition(lambda self: self.tokens)
    @rule(
        numbered=st.lists(st.tuples(numbers, SHAPES), min_size=1, max_size=2),
        who=whoever,
        shift=st.sampled_from([0, 0, 0, 0, 0, 0, -1, 1]),
    )
    def one_commits(self, numbered: list[tuple[int, Shape]], who: int | None, shift: int) -> None:
        """Turns under some claims of one pod, the newest first."""
        first = self.tokens[-1 - numbered[0][0] % len(self.tokens)]
        theirs = [one for one in self.tokens if one.member == first.member]
        tokens = [first, *(theirs[-1 - number % len(theirs)] for number, _ in numbered[1:])]
        member = first.member if who is None else self.pod(who)
        self.commit(member, [(one, shape) for one, (_, shape) in zip(tokens, numbered, strict=True)], shift)

    @rule(
        entity=entities,
        shapes=st.lists(SHAPES, min_size=1, max_size=3),
        then=st.sampled_from(["", "leave", "claim"]),
    )
    def work(self, entity: Entity, shapes: list[Shape], then: str) -> None:
        """An owner at its best: it claims and commits, and may let go then, or look again."""
        self.provide(entity)
        member = self.owner(entity)
        self.claim(member, [entity])
        for shape in shapes:
            box = self.memory.mailboxes.get(entity)
            if box and box.mode is Mode.ACTIVE and self.tokens and self.tokens[-1].entity == entity:
                self.commit(member, [(self.tokens[-1], shape)])
        if then == "leave":
            self.release(member, entity, "right", "idle")
        elif then == "claim":
            self.claim(member, [entity])

    @rule(
        some=st.lists(entities, min_size=1, max_size=3, unique=True),
        heirs=st.lists(st.integers(0, 3), min_size=1, max_size=3),
        how=st.sampled_from(["reaped", "reaped", "in chunks"]),
    )
    def crash(self, some: list[Entity], heirs: list[int], how: str) -> None:
        """A pod dies with entities in hand, another one hands them on, maybe the next of its client; and again."""
        for entity in some:
            self.provide(entity)
        for heir in heirs:
            self.take_on(some)
            member = self.owner(some[0])
            self.fall_silent(member)
            others = [one for one in self.members[::-1] if one != member and self.is_heard(one)]
            if heir == 0 or not others:
                self.join(client_of(member.incarnation), 3, "ab", "usual")
                others = [self.members[-1]]
            reaper = others[heir % len(others)]
            if how == "in chunks":
                self.reap_a_chunk(reaper, member, False, set(), 1)
                self.reap_a_chunk(reaper, member, False, {some[0]}, 1)
            else:
                self.reap(reaper, member)
        self.take_on(some)

    def provide(self, entity: Entity) -> None:
        """Sees to it that an entity has something to do, as else most of what is asked would be in vain."""
        if not self.memory.inspect(entity).queued:
            self.send_some(entity, 2, False)

    def take_on(self, some: list[Entity]) -> None:
        """The owner of the first one claims of them what it owns."""
        boxes, member = self.memory.mailboxes, self.owner(some[0])
        self.claim(member, [one for one in some if one in boxes and boxes[one].owner == member.incarnation])

    def commit(self, member: Member, turns: list[tuple[Token, Shape]], shift: int = 0) -> None:
        commits = [self.turn(token, shape, shift) for token, shape in turns]
        ends = [one.command_id for commit in commits for one in commit.withdrawn]
        for one in commits:
            box = self.memory.mailboxes.get(one.entity)
            ends += [queued.data.decode() for queued in islice(box.queue, one.pops)] if box else []

        def add(batcher: Any, part: Any) -> None:
            batcher.commit(CommitSection(member, *part))

        answers = self.ask(
            f"{self.name(member)} commits {', '.join(map(_shown, commits))}",
            lambda: self.sections(member, add, commit_answer, commits),
            lambda: [self.memory.commit(member, one) for one in commits],
            sound=lambda: all(self.is_sound(member, one) for one in commits),
            ends=ends,
        )
        if isinstance(answers, list):
            for (token, _), one, answer in zip(turns, commits, answers, strict=True):
                if not isinstance(answer, Fenced):
                    token.done = max(token.done, one.done + one.pops + _stays(one))

    def turn(self, token: Token, shape: Shape, shift: int) -> Commit:
        entity = token.entity
        box = self.memory.mailboxes.get(entity)
        queue = [one.data.decode() for one in box.queue] if box else []
        pops = min(shape.pops, len(queue))
        settled = queue[:pops]
        cancels = list(box.cancels)[:1] if box else []
        replies = [Reply(one, shape.reply, b"done " + one.encode(), shape.keep_ms) for one in settled]
        self.results += [one for one in settled if one not in self.results]
        self.died |= dict.fromkeys(settled if shape.dead else (), entity)
        pause = shape.pause if pops < len(queue) else ""
        retry_ms = shape.retry_ms if pops < len(queue) and not pause else None
        # No worker bears with a commit that settles nothing: no number would tell its repetition.
        settles = pops > 0 or retry_ms is not None or bool(pause)
        return Commit(
            entity,
            token.epoch,
            token.done + shift,
            pops,
            retry_ms=retry_ms,
            pause=pause,
            failed=shape.failed,
            state=self.command() if shape.state else None,
            children=[self.child(e, seconds) for e, seconds in shape.children if settles],
            replies=replies if shape.reply is not None else [],
            dead=[DeadLetter(one, b"why") for one in settled] if shape.dead else [],
            settled_cancels=cancels if shape.settles else [],
            withdrawn=[self.withdrawn(one) for one in shape.withdraws],
            want=shape.want,
        )

    def withdrawn(self, where: Where) -> Withdrawn:
        of, name = self.found(where)
        self.note_result(name)
        return Withdrawn(of, name, b"withdrawn", 90_000)

    def child(self, entity: Entity, seconds: int | None) -> Outgoing:
        name = self.command()
        urgent = seconds in (0, 8)
        terms = None if seconds is None else Terms(name.decode(), seconds * 1_000_000, urgent=urgent)
        return Outgoing(entity, name, terms)

    def is_sound(self, member: Member, commit: Commit) -> bool:
        """Says whether a commit, if it is applied now, settles no more than there is."""
        box = self.memory.mailboxes.get(commit.entity)
        if box is None or (box.owner, box.epoch, box.done) != (member.incarnation, commit.epoch, commit.done):
            return True
        return commit.pops <= len(box.queue) - _stays(commit)

    @rule(
        entity=entities,
        who=whoever,
        epoch=st.sampled_from(["right", "right", "right", "none", "old"]),
        why=st.sampled_from(["idle", "handoff", "decline"]),
    )
    def one_releases(self, entity: Entity, who: int | None, epoch: str, why: str) -> None:
        self.release(self.owner(entity) if who is None else self.pod(who), entity, epoch, why)

    def release(self, member: Member, entity: Entity, epoch: str, why: str) -> None:
        epochs = [one.epoch for one in self.tokens if one.entity == entity][::-1]
        named = {"right": epochs[0], "old": epochs[-1], "none": None}[epoch] if epochs else None
        self.ask(
            f"{self.name(member)} releases {entity} ({epoch} epoch, {why})",
            lambda: run(self.store(member).release(member, entity, named, why)),
            lambda: self.memory.release(member, entity, named, why),
        )

    @rule(
        what=st.sampled_from(["look", "abandon", "join again", "retire", "restart", "restart"]),
        client=clients,
        entity=entities,
        number=numbers,
    )
    def seldom(self, what: str, client: str, entity: Entity, number: int) -> None:
        match what:
            case "look":
                self.look(client, entity, self.pod(number))
                self.look_at_all(client, entity)
            case "abandon":
                self.abandon(client)
            case "join again":
                self.join_again(client)
            case "retire":
                self.retire(self.pod(number))
            case _:
                self.restart(client, joins=number > 0, waits=number > 2)

    @rule(client=clients, entity=entities, place=st.integers(0, 2), settled=one_in_three)
    def cancel(self, client: str, entity: Entity, place: int, settled: bool) -> None:
        """A caller has gone: its command is queued, or settled meanwhile."""
        box = self.memory.mailboxes.get(entity)
        ids = [one.data.decode() for one in box.queue] if box else []
        ids = self.results if settled or not ids else ids
        one = ids[place % len(ids)] if ids else "0"
        store = self.both.stores[client]
        self.ask(
            f"{client} cancels {one} of {entity}",
            lambda: run(store.cancel(entity, one)),
            lambda: self.memory.cancel(entity, one),
        )

    def found(self, where: Where) -> tuple[Entity, str]:
        """Picks a command and names its entity, if it has one."""
        memory, (entity, place, kind) = self.memory, where
        found: list[tuple[Entity, str]] = []
        box = memory.mailboxes.get(entity)
        if kind == "put off":
            found = [(one.entity, name) for name, one in memory.later.commands.items()]
        elif kind == "queued" and box:
            found = [(entity, one.data.decode()) for one in box.queue]
        elif kind == "settled":
            found = [(entity, name) for name in self.results]
        return found[place % len(found)] if found else (entity, "none")

    def note_result(self, name: str) -> None:
        """Has the outcome of a command looked at from now on, if it is one that can be taken out."""
        if name in self.memory.later.commands and name not in self.results:
            self.results.append(name)

    @rule(client=clients, where=WHERES, keep_ms=st.sampled_from([0, 90_000]), withdraws=st.booleans())
    def find(self, client: str, where: Where, keep_ms: int, withdraws: bool) -> None:
        """Somebody asks for a command, or cancels it, wherever it is."""
        memory, store = self.memory, self.both.stores[client]
        of, name = self.found(where)
        begins, outcome = name.encode(), b"withdrawn"
        if withdraws:
            self.note_result(name)
            said = self.ask(
                f"{client} withdraws {name} of {of}",
                lambda: (run(store.withdraw(of, name, begins, outcome, keep_ms)), run(store.result(name))),
                lambda: (memory.withdraw(of, name, begins, outcome, keep_ms), memory.result(name)),
                ends=[name] if name in memory.later.commands else [],
            )
            self.both.answers.update([said[0]])
            return
        self.ask(
            f"{client} looks for {name} of {of}",
            lambda: run(store.is_queued(of, name, begins)),
            lambda: name in memory.later.commands or memory.place_of(of, begins) is not None,
        )

    @rule(
        entity=entities,
        client=clients,
        what=st.sampled_from([*DOES, "withdraw"]),
        number=numbers,
        other=numbers,
        shape=SHAPES,
        ends=st.sampled_from(["", "resume", "claim", "claim", "pause"]),
    )
    def meddle(
        self, entity: Entity, client: str, what: str, number: int, other: int, shape: Shape, ends: str
    ) -> None:
        """An operator changes something while a worker has the entity in hand, which commits, and goes on."""
        if what == "redeliver" and not any(self.memory.dead.values()):
            self.work(entity, [Shape(dead=True)], "")
        self.provide(entity)
        member = self.owner(entity)
        self.claim(member, [entity])
        held = self.tokens[-1] if self.tokens and self.tokens[-1].entity == entity else None
        if what == "withdraw":
            self.find(client, Where(entity, number // 3, "queued"), 0, True)
        else:
            if what == "purge" and number < 2:
                self.cancel(client, entity, 0, settled=False)
            self.operate(what, client, entity, number, other)
        if ends == "pause":
            self.pause(client, entity, "as well")
        if held and ends != "claim":
            self.commit(member, [(held, shape)])
        if ends == "resume":
            self.pause(client, entity, "")
            self.hold(client, entity.type, held=False)
        self.claim(member, [entity])
        if self.memory.inspect(entity).mode is Mode.PARKED:
            self.release(member, entity, "none", "handoff")

    def look(self, client: str, entity: Entity, member: Member) -> None:
        """What anybody may read."""
        store, memory = self.both.stores[client], self.memory
        box = memory.mailboxes.get(entity)
        self.ask(
            f"{client} looks at {entity} and what {self.name(member)} owns",
            lambda: (
                sorted(run(store.cancelled(entity))),
                run(store.state(entity)),
                [run(store.result(one)) for one in self.results],
                run(store.statistics()),
                run(store.owned(member, 0)),
                run(store.wakes(member, 0)),
            ),
            lambda: (
                sorted(box.cancels if box else ()),
                memory.states.get(entity, ("", None))[1],
                [memory.result(one) for one in self.results],
                memory.statistics(),
                memory.owned(member, 0),
                memory.wakes(member, 0),
            ),
            again=False,
        )

    # -------------------------------------------------------------------------------- the end
    def teardown(self) -> None:
        """Everything is handled and everybody leaves: nothing may be left."""
        if not self.is_whole:
            return  # what failed is on its way up
        self.join("c0", 99, "ab", "usual")
        last = self.members[-1]
        for _ in range(4):
            self.pass_time(SILENCE / 3)
            self.beat(last)
        for other in self.members[:-1]:
            self.reap(last, other)
        put_off = [one.due[0] - self.both.now for one in self.memory.later.commands.values()]
        self.pass_time(
            9000 + max([0, *put_off]) / 1e6
        )  # beyond every due time, though the clock was set back
        self.beat(last)
        for kind in TYPES:
            self.hold("c0", kind, held=False)
        for entity in ENTITIES:
            self.pause("c0", entity, "")
        self.move(last)
        self.assign(last, list(ENTITIES))
        for entity in list(self.memory.mailboxes):
            self.claim(last, [entity])
            box = self.memory.mailboxes[entity]
            if box.queue:
                self.commit(last, [(self.tokens[-1], Shape(pops=len(box.queue)))])
            self.release(last, entity, "right", "idle")
        self.reap(last, last, gave_up=True)
        self.look("c1", ENTITIES[0], last)
        self.both.audit_drained()


def _stays(commit: Commit) -> bool:
    """Says whether the head stays, which counts as settling it."""
    return commit.retry_ms is not None or bool(commit.pause)


def _shown(commit: Commit) -> str:
    """Tells a commit by what is not its default."""
    fields = attrs.fields(Commit)
    told = [
        f"{field.name}={getattr(commit, field.name)}"
        for field in fields
        if field.name != "entity" and getattr(commit, field.name) != field.default
    ]
    return f"{commit.entity}({', '.join(told)})"
