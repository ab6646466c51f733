"""The model and the store in memory, side by side: the same requests, the same answers, the same state after each.

So the model can't drift from the code: what the search shows holds for what the store does.
"""

import contextlib
import copy
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from trioqueue._names import Entity
from trioqueue.messages.policy import Lease
from trioqueue.protocol.lifecycle import Mode
from trioqueue.stores import contract
from trioqueue.stores.memory.mailboxes import Quarantined, client_of
from trioqueue.stores.memory.server import MemoryServer

from .mailbox import Mailbox
from .rules import rules
from .scripts import CANCELLED, DEAD, DONE, PUT_OFF, RETRY
from .state import FUTURE, PAST, Inc, Mail, Program, put

PODS, ROOM, FETCH, GROUPS = 3, 2, 3, 400
KINDS = (0, 0, 1, 1)  # the types of the entities
ENTITIES = [Entity("ab"[kind], str(e)) for e, kind in enumerate(KINDS)]
PRODUCER = "producer"
LEASE = Lease()
SECOND = 1_000_000


def program(rnd: random.Random) -> Program:
    """Makes sends of up to three commands, some of which have children."""
    groups, children, m = [], [], 0
    for _ in range(GROUPS):
        group = [(m + n, rnd.randrange(len(KINDS))) for n in range(rnd.choice((1, 1, 2, 3)))]
        m += len(group)
        groups.append(tuple(group))
    for parent in range(0, m, 4):
        born = tuple((m + n, rnd.randrange(len(KINDS))) for n in range(rnd.choice((1, 2))))
        children.append((parent, born))
        m += len(born)
    return Program(tuple(groups), tuple(children), KINDS, pods=PODS, spare=PODS, room=ROOM, fetch=FETCH)


class Pair:
    """A server and a model that are asked the same."""

    def __init__(self, seed: int) -> None:
        self.rnd = random.Random(seed)
        self.now = 1_000_000_000
        clock: Callable[[], int] = lambda: self.now  # noqa: E731 - a function is not copied with the server
        self.server = MemoryServer(clock)
        self.model = Mailbox(rules(), program(self.rnd))
        s = self.model.start()
        self.s = s._replace(r=s.r._replace(counter=0), g=s.g._replace(seen=frozenset()))
        self.members: dict[Inc, contract.Member] = {}  # all that ever were
        self.generations = {0: self.server.generation}
        self.epochs = {0: 0}  # the model's -> the server's
        self.tokens: list[tuple[Inc, int, int, int, tuple[int, ...]]] = []  # inc, entity, epoch, done, hand
        self.sent = 0
        self.saved: tuple[MemoryServer, Any] | None = None
        self.words: Counter[str] = Counter()
        self.log: list[str] = []

    # -------------------------------------------------------------------------------- asking both
    def ask(self, request: tuple[Any, ...], theirs: Callable[[], Any]) -> tuple[Any, ...]:
        """Asks the model, and the server by `theirs`; answers what the model does, and leaves the comparison to do."""
        self.now += 1
        if request[0] not in ("send", "void", "join", "cancel") and request[2] != self.s.r.run:
            ours: tuple[Any, ...] = ("LOST",)  # its connection has ended with its server
        else:
            script = getattr(self.model, request[0])
            self.s, ours = script(self.s, *request[1:])
        try:
            answer = theirs()
        except contract.LeaseLost:
            answer = "LOST"
        except Quarantined:
            answer = "WAIT"
        word = "LOST" if ours[0] in ("GENERATION", "UNREGISTERED") else str(ours[0])
        self.words[f"{request[0]} {word}"] += 1
        self.log.append(f"{request} -> {ours} | {answer}")
        if word in ("LOST", "WAIT") or answer in ("LOST", "WAIT"):
            assert answer == word
            return ("REFUSED",)
        return (answer, *ours)

    def member(self) -> Inc:
        """Picks an incarnation: mostly one that is registered."""
        registered = sorted(self.s.r.pods)
        return self.rnd.choice(registered if registered and self.rnd.random() < 0.9 else sorted(self.members))

    def of(self, inc: Inc) -> tuple[Inc, int]:
        generation = self.members[inc].generation
        return inc, next(n for n, name in self.generations.items() if name == generation)

    # -------------------------------------------------------------------------------- the operations
    def join(self) -> None:
        i = self.rnd.randrange(PODS)
        info = contract.PodInfo(f"pod {i}", frozenset("ab"), ROOM, LEASE)
        theirs, _, inc = self.ask(("join", i, self.s.r.counter), lambda: self.server.join(f"p{i}", info))
        self.members[inc] = theirs
        self.generations[self.s.r.run] = self.server.generation

    def send(self) -> None:
        again = self.sent and self.rnd.random() < 0.3
        if not again:
            self.sent += self.rnd.choice((1, 1, 1, 2))
        k = max(0, self.sent - self.rnd.randrange(1, 5)) if again else self.sent - 1
        low = max(1, k + 1 - self.rnd.randrange(4))
        group = self.model.program.groups[k]
        commands = [contract.Outgoing(ENTITIES[e], b"%d" % m) for m, e in group]
        member, wishes = None, ()
        if self.members and self.rnd.random() < 0.6:
            member = self.of(self.member())
            touched = sorted({e for _, e in group})
            wishes = tuple(self.rnd.sample(touched, self.rnd.randint(0, len(touched))))
        asked = [contract.ClaimWish(ENTITIES[e], "", FETCH) for e in wishes]
        who = self.members[member[0]] if member else None
        answer, word, *claims = self.ask(
            ("send", k, low, member, wishes),
            lambda: self.server.send(PRODUCER, low, k + 1, commands, who, asked),
        )
        assert answer[0] == (word == "DUPLICATE")
        for (entity, theirs), e, ours in zip(answer[1], wishes, claims, strict=True):
            assert entity == ENTITIES[e]
            self.compare_claim(theirs, ours)
            if ours[0] == "CLAIMED" and member:
                self.tokens.append((member[0], e, ours[1], ours[2], ours[3]))

    def void(self) -> None:
        k = max(0, self.sent - self.rnd.randrange(-1, 3))
        answer, word = self.ask(("void", k, self.s.r.low), lambda: self.server.void(PRODUCER, k + 1))
        assert answer == (word == "ACCEPTED")
        self.sent = max(self.sent, k + 1)

    def claim(self) -> None:
        inc, e = self.member(), self.rnd.randrange(len(KINDS))
        if self.rnd.random() < 0.7:
            mine = [e for e, x in enumerate(self.s.r.mails) if x.owner == inc]
            e = self.rnd.choice(mine) if mine else e
        self.claim_one(inc, e)

    def claim_one(self, inc: Inc, e: int) -> None:
        member = self.members[inc]
        theirs, *ours = self.ask(
            ("claim", *self.of(inc), e), lambda: self.server.claim(member, ENTITIES[e], fetch=FETCH)
        )
        if theirs != "REFUSED":
            self.compare_claim(theirs, ours)
            if ours[0] == "CLAIMED":
                self.tokens.append((inc, e, ours[1], ours[2], ours[3]))

    def compare_claim(self, theirs: contract.SendClaimAnswer, ours: Any) -> None:
        expected = {
            "CLAIMED": contract.Claimed,
            "EMPTY": contract.Empty,
            "BACKOFF": contract.Backoff,
            "LATER": contract.Later,
            "NOT_YOURS": contract.NotYours,
            "NOT_CLAIMED": contract.NotClaimed,
        }
        self.words[f"claim {ours[0]}"] += 1
        assert type(theirs) is expected[ours[0]]
        if isinstance(theirs, contract.Claimed | contract.Empty):
            self.epochs[ours[1]] = theirs.epoch
        if isinstance(theirs, contract.Claimed):
            _, _, done, batch, tries, crash, proven, marks = ours
            assert (theirs.done, theirs.attempts, theirs.crashes, theirs.proven) == (
                done,
                tries,
                crash,
                proven,
            )
            assert (numbers(theirs.batch), {int(m) for m in theirs.cancels}) == (batch, marks)

    def commit(self) -> None:
        if not self.tokens:
            return
        at = self.rnd.randrange(max(0, len(self.tokens) - 4), len(self.tokens))
        inc, e, epoch, done, hand = self.tokens[at]
        how = self.rnd.choice((DONE, DONE, DONE, DEAD, CANCELLED, RETRY, PUT_OFF))
        again = how in (RETRY, PUT_OFF)
        msgs = hand[: self.rnd.randint(0, len(hand) - 1)] if again else hand[: self.rnd.randint(1, len(hand))]
        want = len(msgs) == len(hand)
        finished = msgs if again or how == DONE else msgs[:-1]
        born = [pair for m in finished for pair in self.model.children.get(m, ())]
        commit = contract.Commit(
            ENTITIES[e],
            self.epochs[epoch],
            done,
            pops=len(msgs),
            retry_ms=self.rnd.choice((500, 3000)) if again else None,
            failed=how != PUT_OFF,
            children=[contract.Outgoing(ENTITIES[to], b"%d" % m) for m, to in born],
            dead=[contract.DeadLetter(str(msgs[-1]), b"")] if how == DEAD else (),
            settled_cancels=[str(msgs[-1])] if how == CANCELLED else (),
            want=FETCH if want else 0,
        )
        member = self.members[inc]
        theirs, *ours = self.ask(
            ("commit", *self.of(inc), e, epoch, done, msgs, how, want),
            lambda: self.server.commit(member, commit),
        )
        if theirs == "REFUSED":
            return
        expected = {
            "NEXT": contract.Next,
            "PARKED": contract.Parked,
            "BACKOFF": contract.Backoff,
            "FENCED": contract.Fenced,
        }
        assert type(theirs) is expected[ours[0]]
        if isinstance(theirs, contract.Next):
            assert (numbers(theirs.batch), {int(m) for m in theirs.cancels}) == (ours[1], ours[2])
            rest = ours[1] if want else hand[len(msgs) :]
            if rest and self.s.r.mails[e].done == done + len(msgs):
                self.tokens.append((inc, e, epoch, done + len(msgs), rest))

    def release(self) -> None:
        inc, e, why = (
            self.member(),
            self.rnd.randrange(len(KINDS)),
            self.rnd.choice(("idle", "handoff", "decline")),
        )
        x = self.s.r.mails[e]
        epoch = self.rnd.choice((None, x.epoch, x.epoch, max(0, x.epoch - 1)))
        if x.owner and self.rnd.random() < 0.7:
            inc = x.owner
        theirs_epoch = None if epoch is None else self.epochs.get(epoch, 0)
        member = self.members[inc]
        theirs, *ours = self.ask(
            ("release", *self.of(inc), e, epoch, why),
            lambda: self.server.release(member, ENTITIES[e], theirs_epoch, why),
        )
        if theirs != "REFUSED":
            assert theirs == (ours[0] == "OK")

    def retire(self) -> None:
        inc = self.member()
        self.ask(("retire", *self.of(inc)), lambda: self.server.retire(self.members[inc]))

    def assign(self) -> None:
        inc, entities = self.member(), self.rnd.sample(range(len(KINDS)), 2)
        named = [ENTITIES[e] for e in entities]
        self.ask(("assign", *self.of(inc), entities), lambda: self.server.assign(self.members[inc], named))

    def cancel(self) -> None:
        queued = [m for x in self.s.r.mails for m in x.q]
        to_come = [m for m, _ in self.model.program.groups[-1]]
        m = self.rnd.choice(queued if queued and self.rnd.random() < 0.7 else to_come)
        theirs, word = self.ask(
            ("cancel", m), lambda: self.server.cancel(ENTITIES[self.model.place[m]], str(m))
        )
        assert theirs == (word == "TOLD")

    def beat(self) -> None:
        inc = self.member()
        report, *ours = self.ask(("beat", *self.of(inc)), lambda: self.server.beat(self.members[inc], 0))
        self.end_quarantine()
        if report == "REFUSED":
            return
        seen = ours[1]
        wakes = frozenset(map(number_of, report.wakes))
        assert (report.owned, wakes, report.pressed) == (len(seen.owned), seen.wakes, seen.pressed)
        assert set(map(number_of, report.cancels)) == dict(seen.cancels).keys()
        room = max(0, self.model.room_left(self.s.r, inc))
        assert set(map(number_of, report.ready)) <= set(seen.ready)
        assert len(report.ready) == min(len(seen.ready), room)

    def end_quarantine(self) -> None:
        if self.s.r.quarantine and self.server.quarantine_until_us is None:
            self.s = self.s._replace(r=self.s.r._replace(quarantine=False))

    def reap(self) -> None:
        """A pod reaps a silent one, or one of its own process; sometimes one that is neither."""
        inc, target = self.member(), self.member()
        if self.rnd.random() < 0.3:
            self.silence(target)
        self.reap_as(inc, target, gave_up=self.rnd.random() < 0.4)

    def reap_as(self, inc: Inc, target: Inc, *, gave_up: bool) -> None:
        pod = self.server.pods.get(self.members[target].incarnation)
        if pod and gave_up:
            may = client_of(self.members[inc].incarnation) == client_of(self.members[target].incarnation)
        else:
            may = not pod or pod.leaving or self.now + 1 > self.server._silent_from(pod)
        name, member = self.members[target].incarnation, self.members[inc]

        def theirs() -> bool:
            return self.server.reap(member, name, gave_up=gave_up)

        if may:
            self.reap_whole(inc, target, theirs, gave_up=gave_up)
            return
        with contextlib.suppress(contract.LeaseLost, Quarantined):
            assert theirs() is False

    def reap_whole(self, inc: Inc, target: Inc, theirs: Callable[[], bool], *, gave_up: bool) -> None:
        model = self.model.reap
        self.model.reap = lambda s, *who: model(s, *who, gave_up=gave_up, chunk=len(KINDS))  # type: ignore[method-assign]
        try:
            answer, *_ = self.ask(("reap", *self.of(inc), target), theirs)
        finally:
            self.model.reap = model  # type: ignore[method-assign]
        assert answer in (True, "REFUSED")

    def die(self) -> None:
        """A pod claims all that it has, is silent, and is reaped."""
        unlucky = [x.owner for x in self.s.r.mails if x.owner and (x.crash or x.mark)]
        target = self.rnd.choice(unlucky) if unlucky and self.rnd.random() < 0.8 else self.member()
        for e, x in enumerate(self.s.r.mails):
            if x.owner == target:
                self.claim_one(target, e)
                self.compare()
        self.silence(target)
        self.compare()
        others = sorted(self.s.r.pods - {target})
        if others and target in self.s.r.pods:
            self.reap_as(self.rnd.choice(others), target, gave_up=False)

    def silence(self, target: Inc) -> None:
        """Lets time pass in which all pods beat but one."""
        for _ in range(5):
            self.now += SECOND
            for inc in sorted(self.s.r.pods - {target}):
                try:
                    self.server.beat(self.members[inc], 0)
                except contract.LeaseLost:
                    continue
            self.end_quarantine()

    def pause(self) -> None:
        self.now += self.rnd.choice((SECOND // 3, SECOND, 4 * SECOND))

    def fail_over(self) -> None:
        """Puts a copy in the server's place; it is older, or as new as it can be."""
        if self.saved is None or self.rnd.random() < 0.5:
            self.saved = copy.deepcopy(self.server), (self.s.r, self.s.g)
            return
        self.server, snap = self.saved
        self.server.generation = f"memory-{self.s.r.run + 2}"
        self.s, self.saved = self.model.failover(self.s._replace(snap=snap)), None

    # -------------------------------------------------------------------------------- comparing
    def due_times(self) -> None:
        """Takes the passing of due times over from the server, whose clock it is."""
        for e, entity in enumerate(ENTITIES):
            box, x = self.server.mailboxes.get(entity), self.s.r.mails[e]
            assert (box is None or box.due_us is None) == (x.due is None)
            if box and box.due_us is not None:
                x = x._replace(due=FUTURE if box.due_us > self.now else PAST)
                self.s = self.s._replace(r=self.s.r._replace(mails=put(self.s.r.mails, e, x)))

    def compare(self) -> None:
        """Looks at everything that both keep."""
        self.due_times()
        r, names = self.s.r, {inc: member.incarnation for inc, member in self.members.items()}
        for entity, x in zip(ENTITIES, r.mails, strict=True):
            box = self.server.mailboxes.get(entity)
            if box is None:
                assert x == Mail()
                continue
            ours = (x.mode, names.get(x.owner) if x.owner else None, self.epochs.get(x.epoch), x.done, x.q)
            assert ours == (box.mode.value, box.owner, box.epoch, box.done, numbers(box.queue))
            assert (x.tries, x.crash, x.proven, x.mark) == (box.attempts, box.crashes, box.proven, box.marked)
            assert x.cancels == {int(m) for m in box.cancels}
            assert bool(x.wake) == (box.mode in (Mode.PARKED, Mode.ACTIVE) and bool(box.queue))
        pods = self.server.pods
        assert {names[inc] for inc in r.pods} == pods.keys()
        assert {names[inc] for inc in r.leaving} == {name for name, pod in pods.items() if pod.leaving}
        suspects = {(names[inc], ENTITIES[e]) for inc, e in r.suspects}
        assert suspects == {(name, pod.suspect) for name, pod in pods.items() if pod.suspect}
        for inc in r.pods:
            pod = pods[names[inc]]
            assert self.model.room_left(r, inc) == pod.room - len(pod.owns)
        if seen := self.server.producers.get(PRODUCER):
            assert (r.low, r.high, r.gaps) == (seen.low, seen.high, seen.gaps)
        assert r.quarantine == (self.server.quarantine_until_us is not None)

    def step(self) -> None:
        often = {
            self.send: 30,
            self.commit: 30,
            self.claim: 20,
            self.release: 8,
            self.beat: 6,
            self.assign: 5,
        }
        seldom = {self.cancel: 4, self.reap: 4, self.die: 4, self.void: 2, self.pause: 2, self.join: 2}
        operations = {**often, **seldom, self.retire: 1, self.fail_over: 1}
        if not self.s.r.pods or not any(
            member.generation == self.server.generation for member in self.members.values()
        ):
            self.join()
        else:
            self.rnd.choices(list(operations), list(operations.values()))[0]()
        self.compare()


def numbers(commands: Any) -> tuple[int, ...]:
    """Reads the commands' numbers, which is all that their envelopes hold."""
    return tuple(int(queued.data) for queued in commands)


def number_of(entity: Entity) -> int:
    return int(entity.id)


ANSWERS = """
    send OK, send DUPLICATE, void ACCEPTED, void VOIDED, cancel TOLD, cancel LATE, release OK, release KEPT, retire OK,
    claim CLAIMED, claim EMPTY, claim BACKOFF, claim LATER, claim NOT_YOURS, claim NOT_CLAIMED, claim LOST, claim WAIT,
    commit NEXT, commit PARKED, commit BACKOFF, commit FENCED, commit LOST, reap GONE, reap LOST, assign OK, beat OK,
    beat LOST
"""
"""A comparison in which some answers never come would show little."""


def test_the_store_in_memory_does_what_the_model_does() -> None:
    words: Counter[str] = Counter()
    for seed in range(8):
        pair = Pair(seed)
        try:
            while pair.sent < GROUPS - 3:
                pair.step()
        except BaseException:
            print(
                f"seed {seed}, the last of {len(pair.log)} requests, model | server:",
                *pair.log[-15:],
                sep="\n",
            )
            raise
        words += pair.words

    assert {word.strip() for word in ANSWERS.split(",")} - words.keys() == set()
