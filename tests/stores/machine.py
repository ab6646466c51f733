"""A Hypothesis machine that asks both stores whatever a fleet may ask, in any order: right, late, repeated and wrong.

Arguments of the rules are small numbers and words, which pick from what there is at that moment (modulo its length), so
that a sequence stays meaningful while Hypothesis shortens it.  None, as who asks, is the one who may.
"""

from collections.abc import Callable
from typing import Any

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from stores.machine_fleet import SILENCE, clients, entities, numbers, one_in_three, some_entities, whoever
from stores.machine_sends import SendMachine, Token
from stores.pictures import CLIENTS, ENTITIES
from stores.script_link import run

from trioqueue._names import Entity
from trioqueue.protocol.lifecycle import Mode
from trioqueue.stores.contract import ClaimWish, Commit, DeadLetter, Fenced, Member, Outgoing, Reply, Terms
from trioqueue.stores.memory.mailboxes import client_of
from trioqueue.stores.redis.batch import ClaimSection, CommitSection
from trioqueue.stores.redis.replies import check_word, claim_answer, commit_answer


@attrs.frozen
class Shape:
    """What a turn does."""

    pops: int = 1
    retry_ms: int | None = None
    failed: bool = True
    state: bool = False
    children: tuple[
        tuple[Entity, int | None], ...
    ] = ()  # and the seconds by which each is put off; None: no terms
    reply: str | None = None  # to which client; "": to nobody; None: no reply
    keep_ms: int = 60_000
    dead: bool = False
    settles: bool = False
    want: int = 0


SHAPES = st.builds(
    Shape,
    pops=st.sampled_from([1, 1, 1, 2, 0, 3]),
    retry_ms=st.sampled_from([None, None, 0, 700, 30_000, 3_000_000]),
    failed=st.sampled_from([True, True, False]),
    state=st.booleans(),
    children=st.lists(st.tuples(entities, st.sampled_from([None, None, 0, 1, 8, 40])), max_size=2).map(tuple),
    reply=st.sampled_from([None, "", *CLIENTS]),
    keep_ms=st.sampled_from([60_000, 600_000, 0]),
    dead=one_in_three,
    settles=one_in_three,
    want=st.integers(0, 3),
)


class StoreMachine(SendMachine):
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
            lambda: [self.memory.claim(member, *wish) for wish in wishes],
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

    @rule(entity=entities, shapes=st.lists(SHAPES, min_size=1, max_size=3), leave=one_in_three)
    def work(self, entity: Entity, shapes: list[Shape], leave: bool) -> None:
        """An owner at its best: it claims and commits, and may let go then."""
        member = self.owner(entity)
        self.claim(member, [entity])
        for shape in shapes:
            box = self.memory.mailboxes.get(entity)
            if box and box.mode is Mode.ACTIVE and self.tokens and self.tokens[-1].entity == entity:
                self.commit(member, [(self.tokens[-1], shape)])
        if leave:
            self.release(member, entity, "right", "idle")

    @rule(
        some=st.lists(entities, min_size=1, max_size=3, unique=True),
        heirs=st.lists(st.integers(0, 3), min_size=1, max_size=3),
        how=st.sampled_from(["reaped", "reaped", "in chunks"]),
    )
    def crash(self, some: list[Entity], heirs: list[int], how: str) -> None:
        """A pod dies with entities in hand, another one hands them on, maybe the next of its client; and again."""
        for entity in some:
            if entity not in self.memory.mailboxes:
                self.send_some(entity, 2, False)
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

    def take_on(self, some: list[Entity]) -> None:
        """The owner of the first one claims of them what it owns."""
        boxes, member = self.memory.mailboxes, self.owner(some[0])
        self.claim(member, [one for one in some if one in boxes and boxes[one].owner == member.incarnation])

    def commit(self, member: Member, turns: list[tuple[Token, Shape]], shift: int = 0) -> None:
        commits = [self.turn(token, shape, shift) for token, shape in turns]

        def add(batcher: Any, part: Any) -> None:
            batcher.commit(CommitSection(member, *part))

        answers = self.ask(
            f"{self.name(member)} commits {', '.join(map(_shown, commits))}",
            lambda: self.sections(member, add, commit_answer, commits),
            lambda: [self.memory.commit(member, one) for one in commits],
            sound=lambda: all(self.is_sound(member, one) for one in commits),
        )
        if isinstance(answers, list):
            for (token, _), one, answer in zip(turns, commits, answers, strict=True):
                if not isinstance(answer, Fenced):
                    token.done = max(token.done, one.done + one.pops + (one.retry_ms is not None))

    def turn(self, token: Token, shape: Shape, shift: int) -> Commit:
        entity = token.entity
        box = self.memory.mailboxes.get(entity)
        queue = [one.data.decode() for one in box.queue] if box else []
        pops = min(shape.pops, len(queue))
        settled = queue[:pops]
        cancels = list(box.cancels)[:1] if box else []
        replies = [Reply(one, shape.reply, b"done " + one.encode(), shape.keep_ms) for one in settled]
        self.results += [one for one in settled if one not in self.results]
        return Commit(
            entity,
            token.epoch,
            token.done + shift,
            pops,
            retry_ms=shape.retry_ms if pops < len(queue) else None,
            failed=shape.failed,
            state=self.command() if shape.state else None,
            children=[self.child(e, seconds) for e, seconds in shape.children],
            replies=replies if shape.reply is not None else [],
            dead=[DeadLetter(one, b"why") for one in settled] if shape.dead else [],
            settled_cancels=cancels if shape.settles else [],
            want=shape.want,
        )

    def child(self, entity: Entity, seconds: int | None) -> Outgoing:
        name = self.command()
        terms = None if seconds is None else Terms(name.decode(), seconds * 1_000_000)
        return Outgoing(entity, name, terms)

    def is_sound(self, member: Member, commit: Commit) -> bool:
        """Says whether a commit, if it is applied now, settles no more than there is."""
        box = self.memory.mailboxes.get(commit.entity)
        if box is None or (box.owner, box.epoch, box.done) != (member.incarnation, commit.epoch, commit.done):
            return True
        return commit.pops <= len(box.queue) - (commit.retry_ms is not None)

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

    @rule(
        client=clients,
        entity=entities,
        place=st.integers(0, 3),
        where=st.sampled_from(["put off", "put off", "queued", "queued", "settled", "nowhere"]),
        keep_ms=st.sampled_from([0, 90_000]),
        withdraws=st.booleans(),
    )
    def find(
        self, client: str, entity: Entity, place: int, where: str, keep_ms: int, withdraws: bool
    ) -> None:
        """Somebody asks for a command, or cancels it, wherever it is."""
        memory, store = self.memory, self.both.stores[client]
        found: list[tuple[Entity, str]] = [(entity, "none")]
        box = memory.mailboxes.get(entity)
        if where == "put off":
            found = [(one.entity, name) for name, one in memory.later.commands.items()] or found
        elif where == "queued" and box:
            found = [(entity, one.data.decode()) for one in box.queue] or found
        elif where == "settled":
            found = [(entity, name) for name in self.results] or found
        of, name = found[place % len(found)]
        begins, outcome = name.encode(), b"withdrawn"
        if withdraws:
            if name in memory.later.commands and name not in self.results:
                self.results.append(name)
            said = self.ask(
                f"{client} withdraws {name} of {of}",
                lambda: (run(store.withdraw(of, name, begins, outcome, keep_ms)), run(store.result(name))),
                lambda: (memory.withdraw(of, name, begins, outcome, keep_ms), memory.result(name)),
            )
            self.both.answers.update([said[0]])
            return
        self.ask(
            f"{client} looks for {name} of {of}",
            lambda: run(store.is_queued(of, name, begins)),
            lambda: name in memory.later.commands or memory.place_of(of, begins) is not None,
        )

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


def _shown(commit: Commit) -> str:
    """Tells a commit by what is not its default."""
    fields = attrs.fields(Commit)
    told = [
        f"{field.name}={getattr(commit, field.name)}"
        for field in fields
        if field.name != "entity" and getattr(commit, field.name) != field.default
    ]
    return f"{commit.entity}({', '.join(told)})"
