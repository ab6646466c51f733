"""What pods do: with hints, heartbeats' reports and answers, and what can happen to them.

`steps` are generators of (label, state or Violation): everything that may happen next to one pod.
"""

from collections.abc import Callable, Iterator
from typing import Any

from .rules import Violation
from .scripts import CANCELLED, DEAD, DONE, PUT_OFF, RETRY, Answer, Scripts
from .state import (
    BACKOFF,
    FAULTS,
    FLYING,
    FUTURE,
    LATER,
    PARKED,
    REFUSED,
    RUN,
    TAKEN,
    TODO,
    UNKNOWN,
    WAIT,
    Inc,
    Pod,
    State,
    Turn,
    put,
)

Label = tuple[Any, ...]
Step = tuple[Label, "State | Violation"]

REJOIN = ("GENERATION", "UNREGISTERED")


class Pods(Scripts):
    """The pods of one instance."""

    # -------------------------------------------------------------------------------- small steps
    @staticmethod
    def spend(s: State, fault: str) -> State | None:
        """Takes a fault out of the budget; None: none is left."""
        k = FAULTS.index(fault)
        return s._replace(faults=put(s.faults, k, s.faults[k] - 1)) if s.faults[k] else None

    @staticmethod
    def orphan(s: State, *requests: Answer) -> State:
        """Leaves requests behind that nobody waits for."""
        return s._replace(late=tuple(sorted(s.late + requests, key=repr)))

    @staticmethod
    def pod(s: State, i: int, **what: Any) -> State:
        return s._replace(pods=put(s.pods, i, s.pods[i]._replace(**what)))

    def slot(self, s: State, i: int, e: int, w: Any) -> State:
        return self.pod(s, i, desk=put(s.pods[i].desk, e, w))

    def ask(self, s: State, i: int, e: int, back: Any, kind: str, *args: Any) -> State:
        p = s.pods[i]
        return self.slot(s, i, e, (WAIT, (kind, p.inc, p.gen, e, *args), back))

    def call(self, s: State, request: Answer) -> tuple[State, Answer]:
        if request[0] == "send":
            _, k, low, member = request
            wishes = (self.program.groups[k][0][1],) if member else ()
            return self.send(s, k, low, member, wishes)
        script: Callable[..., tuple[State, Answer]] = getattr(self, request[0])
        return script(s, *request[1:])

    def attempt(self, step: Callable[..., Any], *args: Any) -> Any:
        try:
            return step(*args)
        except Violation as broken:
            return broken

    def counted(self, s: State, field: str, *commands: int) -> State:
        """Counts what happened to commands, where the instance asks to count."""
        if not self.program.count:
            return s
        row = getattr(s.g, field)
        for m in commands:
            row = put(row, m, row[m] + 1)
        return s._replace(g=s.g._replace(**{field: row}))

    def unfinished(self, s: State, *slots: Any) -> State:
        """Counts the starts that slots had made in vain."""
        for w in slots:
            if w and w[0] == RUN:
                s = self.counted(s, "lets", *w[1].hand[: w[1].k + 1])
            elif w and w[0] == WAIT and w[1][0] == "commit":
                s = self.counted(s, "lets", *w[1][6], *w[2].hand[:1])
        return s

    # -------------------------------------------------------------------------------- a worker
    def begin(self, s: State, i: int, e: int, turn: Turn) -> State:
        """Takes the next command in hand: starts its handler, or settles it without a start."""
        m = turn.hand[turn.k]
        if not turn.k and s.pods[i].draining:
            return self.ask(s, i, e, (PARKED, turn.epoch), "release", turn.epoch, "handoff")
        if not turn.k and turn.crash > self.program.max_crashes:
            return self.finish(s, i, e, turn, DEAD)
        if m in turn.marks:
            return self.finish(s, i, e, turn, CANCELLED)
        return self.slot(self.counted(s, "starts", m), i, e, (RUN, turn))

    def finish(self, s: State, i: int, e: int, turn: Turn, how: str) -> State:
        """Commits hand[k] as it ended, and what was finished before it."""
        again = how in (RETRY, PUT_OFF)
        msgs = turn.hand[: turn.k + (not again)]
        rest = turn.hand[len(msgs) :]
        back = turn._replace(hand=rest, k=0, done=turn.done + len(msgs) + again, tries=0, crash=0)
        return self.ask(s, i, e, back, "commit", turn.epoch, turn.done, msgs, how, not rest)

    def got(self, s: State, i: int, e: int, request: Answer, back: Any, answer: Answer) -> State:
        """Takes the answer to the request that slot e of pod i waits for."""
        kind, word = request[0], answer[0]
        if kind == "send":
            s = self.confirm(s, request[1])
            kind, answer = "claim", answer[1]
            word = "NOT_CLAIMED" if answer[0] in (*REJOIN, "WAIT") else answer[0]
        if word in REJOIN:
            return self.rejoin(s, i)
        known = back[1] if kind == "claim" and back else request[4] if kind == "commit" else None
        if word == "CLAIMED":
            _, epoch, done, hand, tries, crash, proven, marks = answer
            crash = crash if proven or not self.rule.a_crash_is_proven else 0
            return self.started(self.begin(s, i, e, Turn(epoch, done, hand, 0, marks, tries, crash)), i, e)
        if word == "NEXT":
            hand = answer[1] or back.hand
            turn = back._replace(hand=hand, marks=(back.marks | answer[2]) & frozenset(s.r.mails[e].q))
            return self.begin(s, i, e, turn)
        if word == "KEPT":
            return self.ask(s, i, e, back, "claim")
        w = {
            "EMPTY": (PARKED, answer[-1]),
            "PARKED": (PARKED, known),
            "BACKOFF": (BACKOFF, known),
            "LATER": (LATER, known),
            "NOT_CLAIMED": back,
        }.get(word)
        return self.slot(s if word != "FENCED" else self.unfinished(s, s.pods[i].desk[e]), i, e, w)

    @staticmethod
    def started(s: State, i: int, e: int) -> State:
        w = s.pods[i].desk[e]
        if w[0] == RUN and w[1].hand[0] in s.r.mails[e].cancels:
            raise Violation(f"P3 command {w[1].hand[0]} is started after its caller has gone")
        return s

    def effect(self, s: State, i: int, e: int, epoch: int) -> State:
        """The handler writes to a store outside, which keeps the highest fence it has seen."""
        top, who = s.g.outside[e]
        inc = s.pods[i].inc
        if epoch == top and who != inc:
            raise Violation(f"I8 the fence {epoch} is used by {who} and by {inc}")
        if epoch < top:
            return s  # refused there
        return s._replace(g=s.g._replace(outside=put(s.g.outside, e, (epoch, inc))))

    def attend(self, s: State, i: int) -> State:
        """Looks at a heartbeat's report, which may be old by now."""
        p = s.pods[i]
        report, s = p.report, self.pod(s, i, report=None)
        assert report is not None
        if p.draining:
            return s
        differs = len(report.owned) != sum(w is not None for w in p.desk)
        cancels = dict(report.cancels)
        for e, w in enumerate(p.desk):
            if e in cancels and w and w[0] == RUN:
                s = self.slot(s, i, e, (RUN, w[1]._replace(marks=w[1].marks | cancels[e])))
            elif e in cancels and w and w[0] == WAIT and isinstance(w[2], Turn):
                s = self.slot(s, i, e, (WAIT, w[1], w[2]._replace(marks=w[2].marks | cancels[e])))
            elif w is None and e in report.owned and self.rule.a_differing_count_is_looked_into and differs:
                s = self.ask(s, i, e, None, "claim")
            elif e in report.wakes and (w is None or w[0] == PARKED):
                s = self.ask(s, i, e, w, "claim")
        if report.ready:
            s, _ = self.assign(s, p.inc, p.gen, report.ready)
        return s

    # -------------------------------------------------------------------------------- a process
    def confirm(self, s: State, k: int) -> State:
        commands = {m for m, _ in self.program.groups[k]}
        return s._replace(sends=put(s.sends, k, TAKEN), g=s.g._replace(confirmed=s.g.confirmed | commands))

    def waiting(self, s: State, i: int, sends: str) -> State:
        """Leaves the requests of a pod behind; what it was about to send stands as `sends`."""
        requests = [w[1] for w in s.pods[i].desk if w and w[0] == WAIT]
        for request in requests:
            if request[0] == "send":
                s = s._replace(sends=put(s.sends, request[1], sends))
        return self.orphan(s, *requests)

    def die(self, s: State, i: int) -> State:
        suspect = [e for inc, e in s.r.suspects if inc == s.pods[i].inc]
        if suspect:  # the crash will count for that one alone
            s = self.unfinished(s, *(w for e, w in enumerate(s.pods[i].desk) if e not in suspect))
        s = self.waiting(s, i, UNKNOWN)
        empty = (None,) * self.entities
        return self.pod(s, i, alive=False, desk=empty, hints=frozenset(), report=None, draining=False)

    def rejoin(self, s: State, i: int) -> State:
        """Cancels all workers, waits for their end, and joins as a new incarnation."""
        former = s.pods[i].inc
        s = self.waiting(self.unfinished(s, *s.pods[i].desk), i, FLYING)
        return self.joined(s, i, self.join(s, i, s.r.counter), former)

    def joined(self, s: State, i: int, joined: tuple[State, Answer], former: Inc) -> State:
        s, (_, inc) = joined
        before = former if former in s.r.pods and former != inc else None
        pod = Pod(True, inc, s.r.run, (None,) * self.entities, before=before)
        return s._replace(pods=put(s.pods, i, pod), g=s.g._replace(known=s.g.known | {inc}))

    def rejoins(self, s: State, i: int, label: Label) -> Iterator[Step]:
        """Joins anew; where the instance asks for it, also with an answer or a request that is lost on the way."""
        yield label, self.rejoin(s, i)
        cut = self.spend(s, "cut") if self.program.late_joins else None
        if cut:
            former, ticket = s.pods[i].inc, s.r.counter
            u = self.waiting(self.unfinished(cut, *s.pods[i].desk), i, FLYING)
            again = self.join(self.join(u, i, ticket)[0], i, ticket)
            if again[1][0] == "OK":
                yield (
                    (*label, "ANSWER LOST, joins again"),
                    self.joined(u._replace(r=again[0].r, g=again[0].g), i, again, former),
                )
            u = self.orphan(u, ("join", i, ticket))
            yield (*label, "TIMES OUT, joins again"), self.joined(u, i, self.join(u, i, ticket), former)

    # -------------------------------------------------------------------------------- all that may happen to a pod
    def pod_steps(self, s: State, i: int) -> Iterator[Step]:
        p, r, rule = s.pods[i], s.r, self.rule
        same = p.gen == r.run  # else its connection has ended, and it will see another server
        if not same:
            yield from self.rejoins(s, i, ("pod", i, "sees another server, cancels all, joins"))
        for e, w in enumerate(p.desk):
            if w and w[0] == WAIT and (same or w[1][0] == "send" or not rule.requests_keep_to_their_server):
                yield from self.request_steps(s, i, e, w)
        if same:
            t, answer = self.beat(s, p.inc, p.gen)
            if answer[0] != "OK":
                yield from self.rejoins(s, i, ("pod", i, "beats,", answer[0], "cancels all, joins"))
            elif (t := self.pod(t, i, report=answer[1])) != s:
                yield ("pod", i, "beats"), t
            if p.before and p.before in r.pods and not r.quarantine:
                u = self.attempt(lambda: self.reap(s, p.inc, p.gen, p.before, gave_up=True)[0])
                yield ("pod", i, "gives up", p.before), u
        if p.report is not None:
            yield ("pod", i, "attends to its report"), self.attempt(self.attend, s, i)
        for e, w in enumerate(p.desk):
            yield from self.worker_steps(s, i, e, w)
        yield from self.drain_steps(s, i, same=same)
        t = self.spend(s, "kill")
        if t and not self.program.poison:
            yield ("pod", i, "KILLED"), self.die(t, i)
        t = self.spend(s, "expire")
        if t and not p.draining:
            yield from self.rejoins(t, i, ("pod", i, "loses its lease, cancels all, joins"))

    def request_steps(self, s: State, i: int, e: int, w: Any) -> Iterator[Step]:
        """What may become of the request that a slot waits for."""
        _, request, back = w
        cut = self.spend(s, "cut")
        out = self.attempt(self.call, s, request)
        if isinstance(out, Violation):
            yield ("store runs", request), out
        elif out[1][0] != "WAIT":
            t, answer = out
            yield (
                ("store runs", request, "answers", answer),
                self.attempt(self.got, t, i, e, request, back, answer),
            )
            if cut and t != s:
                yield ("store runs", request, "ANSWER LOST, asked again"), t._replace(faults=cut.faults)
        if cut:
            yield (request, "TIMES OUT, asked again"), self.orphan(cut, request)
        t = self.spend(s, "forget")
        if t and request[0] != "send":
            yield (
                (request, "IS FORGOTTEN"),
                self.slot(self.orphan(self.unfinished(t, w), request), i, e, None),
            )

    def worker_steps(self, s: State, i: int, e: int, w: Any) -> Iterator[Step]:
        p, r = s.pods[i], s.r
        if (w is None or w[0] == PARKED) and e in p.hints and not p.draining:
            t = self.pod(s, i, hints=p.hints - {e})
            yield ("pod", i, "gets the hint for", e), self.ask(t, i, e, w, "claim")
        if w is None or w[0] == WAIT:
            return
        if w[0] == RUN:
            yield from self.run_steps(s, i, e, w[1])
            return
        if w[0] == LATER or w[0] == BACKOFF and r.mails[e].due != FUTURE:
            yield ("pod", i, "has waited, claims", e), self.ask(s, i, e, w, "claim")
        if w[0] == PARKED:
            yield ("pod", i, "is idle, releases", e), self.ask(s, i, e, w, "release", w[1], "idle")
        t = s if p.draining else self.spend(s, "handoff")
        if t:
            yield ("pod", i, "hands off", e), self.ask(t, i, e, w, "release", w[1], "handoff")

    def run_steps(self, s: State, i: int, e: int, turn: Turn) -> Iterator[Step]:
        """How a handler may end."""
        m, program = turn.hand[turn.k], self.program
        if m in program.poison:
            t = self.spend(s, "kill")
            if t:
                yield ("pod", i, "KILLED by command", m), self.die(t, i)
            return
        t = self.attempt(self.ended, s, i, e, turn)
        if isinstance(t, Violation):
            yield ("pod", i, "finishes", m), t
            return
        yield ("pod", i, "finishes", m), self.finish(t, i, e, turn, DONE)
        if program.group and turn.k + 1 < len(turn.hand):
            yield ("pod", i, "finishes", m, "goes on"), self.begin(t, i, e, turn._replace(k=turn.k + 1))
        u = self.spend(s, "fail")
        if u:
            last = (0 if turn.k else turn.tries) + 1 >= program.max_attempts
            u = self.counted(u, "fails", m)
            yield ("pod", i, "handler of", m, "FAILS"), self.finish(u, i, e, turn, DEAD if last else RETRY)
        u = self.spend(s, "put_off")
        if u and not turn.k:
            u = self.finish(self.unfinished(u, (RUN, turn)), i, e, turn, PUT_OFF)
            yield ("pod", i, "activation of", e, "FAILS"), u
        if m in turn.marks:
            yield ("pod", i, "cancels", m), self.finish(s, i, e, turn, CANCELLED)
        u = self.spend(s, "handoff")
        if u and not turn.k:
            u = self.ask(
                self.unfinished(u, (RUN, turn)), i, e, (PARKED, turn.epoch), "release", turn.epoch, "decline"
            )
            yield ("pod", i, "can't handle", m, "declines", e), u

    def ended(self, s: State, i: int, e: int, turn: Turn) -> State:
        """A handler has ended well: what it did outside stands."""
        s = self.effect(s, i, e, turn.epoch)
        if not self.rule.children_go_with_the_commit:
            for child, to in self.children.get(turn.hand[turn.k], ()):
                s = self.push(s, child, to, s.pods[i].inc)
        return s

    def drain_steps(self, s: State, i: int, *, same: bool) -> Iterator[Step]:
        """A graceful end: no placement any more, handlers end, everything is handed on, the pod leaves."""
        p = s.pods[i]
        t = self.spend(s, "drain")
        if t and same and not p.draining and not s.r.quarantine:
            u, answer = self.retire(t, p.inc, p.gen)
            if answer[0] == "OK":
                yield ("pod", i, "begins to drain"), self.pod(u, i, draining=True)
        if p.draining and same and not any(p.desk) and not s.r.quarantine:
            u = self.attempt(lambda: self.reap(s, p.inc, p.gen, p.inc, gave_up=True))
            if isinstance(u, Violation):
                yield ("pod", i, "hands the rest on"), u
            elif u[1][0] == "MORE":
                yield ("pod", i, "hands the rest on"), u[0]
            else:
                yield ("pod", i, "has handed all on, leaves"), self.die(u[0], i)

    def settled(self, s: State, k: int) -> bool:
        """Says whether the producer needs nothing more of a group's number."""
        return s.sends[k] in (TAKEN, REFUSED, UNKNOWN)

    def low(self, s: State) -> int:
        """Names the lowest number that the producer has given out and not settled."""
        given = [k + 1 for k, how in enumerate(s.sends) if how != TODO]
        return min((n for n in given if not self.settled(s, n - 1)), default=len(given) + 1)
