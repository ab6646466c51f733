"""Entities, pods, a producer, and everything that can go wrong between them.

Leases are abstract here: a pod is reaped when it is dead, when it has joined anew, or when it was frozen
past its lease.  That nobody else is reaped is what the model in `lease` shows.
"""

from collections.abc import Iterator
from types import SimpleNamespace

from . import promises
from .pods import Label, Pods, Step
from .rules import Violation
from .state import (
    BACKOFF,
    EARLY,
    FAR,
    FAULTS,
    FLYING,
    FUTURE,
    LATER,
    PARKED,
    PAST,
    READY,
    REFUSED,
    RUN,
    TODO,
    UNKNOWN,
    WAIT,
    WISHING,
    Ghost,
    Inc,
    Mail,
    Pod,
    Program,
    State,
    Store,
    put,
)

BEATS = 14
"""Heartbeats within which every mailbox must be drained once the faults have stopped."""


class Mailbox(Pods):
    """One instance: a program, and how often each fault may happen."""

    def __init__(self, rule: SimpleNamespace, program: Program, **faults: int) -> None:
        super().__init__(rule, program)
        assert not faults.keys() - set(FAULTS), faults
        self.faults = tuple(faults.get(fault, 0) for fault in FAULTS)
        self.freezes = "freeze" in faults
        self.sent = {m for group in program.groups for m, _ in group}

    def start(self) -> State:
        n, program = self.entities, self.program
        first = {i: (i, i + 1) for i in range(program.pods)}
        up = frozenset(first[i] for i in range(program.pods - program.spare))
        zero = (0,) * self.commands if program.count else ()
        r = Store((Mail(),) * n, up, joined=(None,) * program.pods, counter=program.pods)
        pods = tuple(Pod(first[i] in up, first[i], 0, (None,) * n) for i in first)
        nothing = ((),) * n
        g = Ghost(nothing, nothing, outside=((0, None),) * n, used=(0,) * n, known=up, seen=up)
        g = g._replace(crashes=(0,) * n, starts=zero, fails=zero, lets=zero)
        return State(r, pods, (), (TODO,) * len(program.groups), None, g, self.faults)

    def check(self, s: State) -> None:
        promises.check(self, s, freezes=self.freezes)

    # -------------------------------------------------------------------------------- all that may happen
    def steps(self, s: State) -> Iterator[Step]:
        for k, how in enumerate(s.sends):
            yield from self.sender_steps(s, k, how)
        yield from self.late_steps(s)
        for i, p in enumerate(s.pods):
            if p.alive:
                yield from self.pod_steps(s, i)
            elif t := self.spend(s, "restart"):
                yield ("pod", i, "STARTS"), self.joined(t, i, self.join(t, i, t.r.counter), (-1, 0))
        for inc in sorted(s.r.pods):
            yield from self.reap_steps(s, inc)
        yield from self.server_steps(s)

    def sender_steps(self, s: State, k: int, how: str) -> Iterator[Step]:
        """The producer sends group after group; with `awaited`, each after the answer to the one before."""
        program = self.program
        before = all(self.settled(s, j) if program.awaited else s.sends[j] != TODO for j in range(k))
        if how == TODO and before:
            yield ("producer sends", k), s._replace(sends=put(s.sends, k, FLYING))
            i, e = program.wisher, program.groups[k][0][1]
            if i is not None and s.pods[i].alive and s.pods[i].gen == s.r.run and not s.pods[i].draining:
                p, t = s.pods[i], s._replace(sends=put(s.sends, k, WISHING))
                w = p.desk[e]
                if w is None or w[0] == PARKED:
                    t = self.slot(t, i, e, (WAIT, ("send", k, self.low(t), (p.inc, p.gen)), w))
                    yield ("pod", i, "sends", k, "with a wish"), t
        if how != FLYING:
            return
        low, cut = self.low(s), self.spend(s, "cut")
        out = self.attempt(self.send, s, k, low)
        if isinstance(out, Violation):
            yield ("store runs send", k), out
        else:
            yield ("store runs send", k, "answers", out[1]), self.confirm(out[0], k)
            if cut and out[0] != s:
                yield ("store runs send", k, "ANSWER LOST, sent again"), out[0]._replace(faults=cut.faults)
        if cut:
            yield ("send", k, "TIMES OUT, sent again"), self.orphan(cut, ("send", k, low, None))
        t = self.spend(s, "give_up")
        if t:
            t = t._replace(sends=put(s.sends, k, UNKNOWN))
            yield ("send", k, "has no answer, its sender GIVES UP"), self.orphan(t, ("send", k, low, None))
        t = self.spend(s, "full")
        if t:
            yield from self.refusal_steps(t, k, low)

    def refusal_steps(self, s: State, k: int, low: int) -> Iterator[Step]:
        """The store is full: the sender voids the number, as an older copy may have been taken or be on its way."""
        if not self.rule.void_before_a_refusal:
            yield ("store is FULL, refuses send", k), self.refuse(s, k)
            return
        t, answer = self.void(s, k, low)
        label: Label = ("store is FULL, runs void of send", k)
        yield (*label, "answers", answer), self.voided(t, k, answer[0])
        lost = self.spend(t, "void_lost")
        if lost:
            t, answer = self.void(lost, k, low)
            yield (*label, "ANSWER LOST, asked again, answers", answer), self.voided(t, k, answer[0])

    def voided(self, s: State, k: int, word: str) -> State:
        return self.confirm(s, k) if word == "ACCEPTED" else self.refuse(s, k)

    def refuse(self, s: State, k: int) -> State:
        commands = {m for m, _ in self.program.groups[k]}
        return s._replace(sends=put(s.sends, k, REFUSED), g=s.g._replace(refused=s.g.refused | commands))

    def late_steps(self, s: State) -> Iterator[Step]:
        """Requests that nobody waits for run after all, as long as their connection's server is the same."""
        for n, request in enumerate(s.late):
            if n and s.late[n - 1] == request or not self.reaches(s, request):
                continue
            out = self.attempt(self.call, s._replace(late=s.late[:n] + s.late[n + 1 :]), request)
            if isinstance(out, Violation):
                yield ("store runs LATE", request), out
            elif out[0]._replace(late=s.late) != s:
                yield ("store runs LATE", request, out[1]), out[0]

    def reaches(self, s: State, request: tuple) -> bool:
        bound = request[0] not in ("send", "join") and self.rule.requests_keep_to_their_server
        return not bound or request[2] == s.r.run

    def reaper(self, s: State, target: Inc) -> Pod | None:
        """Finds a pod that may reap; all do it alike."""
        able = (p for p in s.pods if p.alive and p.inc != target and p.gen == s.r.run)
        return next((p for p in able if self.refused(s, p.inc, p.gen) is None and not p.draining), None)

    def reap_steps(self, s: State, target: Inc) -> Iterator[Step]:
        p = s.pods[target[0]]
        silent = not p.alive or p.inc != target
        t = s if silent or target in s.r.leaving else self.spend(s, "freeze")
        reaper = self.reaper(s, target)
        if t and reaper:
            yield (
                (f"{'silent' if silent else 'FROZEN'} {target} is reaped",),
                self.attempt(self.reaped, t, reaper, target),
            )

    def reaped(self, s: State, reaper: Pod, target: Inc) -> State:
        """One chunk of a reap for silence, with the crashes that it stands for counted."""
        t, _ = self.reap(s, reaper.inc, reaper.gen, target, gave_up=False)
        for e, x in enumerate(t.r.mails):
            if x.mark and not s.r.mails[e].mark and target[1] >= s.r.since:
                t = t._replace(g=t.g._replace(crashes=put(t.g.crashes, e, t.g.crashes[e] + 1)))
        return t

    def server_steps(self, s: State) -> Iterator[Step]:
        """What time, callers and failovers do."""
        for e, x in enumerate(s.r.mails):
            if x.due in (FUTURE, EARLY):
                yield ("due time of entity", e, "passes"), self.mail(s, e, x._replace(due=PAST))
        t = self.spend(s, "cancel")
        if t:
            for m in sorted(self.sent - s.g.asked):
                u, answer = self.cancel(t, m)
                yield (
                    ("caller of", m, "goes away,", answer),
                    u._replace(g=u.g._replace(asked=u.g.asked | {m})),
                )
        old = [p for p in s.pods if p.alive and p.gen != s.r.gen and any(w and w[0] == RUN for w in p.desk)]
        if s.r.quarantine and s.r.gen == s.r.run and (self.freezes or not old):
            yield ("quarantine ends",), s._replace(r=s.r._replace(quarantine=False))
        t = self.spend(s, "back")
        if t and not s.back:
            far = tuple(x._replace(due=FAR) if x.due == FUTURE else x for x in s.r.mails)
            yield ("clock of the server SET BACK",), t._replace(back=True, r=t.r._replace(mails=far))
        if t := self.spend(s, "failover"):
            if s.snap is None:
                yield ("a replica holds this",), s._replace(snap=(s.r, s.g))
            else:
                yield ("FAILOVER to what the replica held",), self.failover(t)

    def failover(self, s: State) -> State:
        assert s.snap is not None
        r, g = s.snap
        taken = {m for row in g.acc for m in row}
        kept = s.g._replace(
            acc=g.acc, com=g.com, dead=g.dead, cancelled=g.cancelled, confirmed=s.g.confirmed & taken
        )
        return s._replace(r=r._replace(run=s.r.run + 1), g=kept, snap=None)

    # -------------------------------------------------------------------------------- liveness
    def drain(self, s: State) -> None:
        """The faults stop, all hints are lost: everything must be done after so many heartbeats."""
        s = s._replace(faults=(0,) * len(FAULTS), snap=None)
        if not any(p.alive and not p.draining for p in s.pods):
            i = next((i for i, p in enumerate(s.pods) if not p.alive), None)
            if i is None:
                return  # all of them are to leave
            s = self.joined(s, i, self.join(s, i, s.r.counter), (-1, 0))
        quiet = 0
        for _ in range(BEATS):
            s = self.settle_sends(self.run_late(s))
            mails = tuple(x._replace(due=PAST) if x.due in (FUTURE, EARLY) else x for x in s.r.mails)
            s = s._replace(r=s.r._replace(mails=mails))
            for i, p in enumerate(s.pods):
                if p.alive and p.gen != s.r.run:
                    s = self.rejoin(s, i)
            if s.r.gen == s.r.run:
                s = self.reap_all(s._replace(r=s.r._replace(quarantine=False)))
            for i in range(len(s.pods)):
                if s.pods[i].alive:
                    s = self.heartbeat(s, i, idle=bool(quiet))
            if quiet == 3:
                break
            quiet += not any(x.q for x in s.r.mails)
        self.healed(s)

    def healed(self, s: State) -> None:
        if stuck := [x for x in s.r.mails if x.q]:
            desks = [p.desk for p in s.pods if p.alive]
            raise Violation(f"I12 stuck: {stuck}, registered {sorted(s.r.pods)}, desks {desks}")
        for e, x in enumerate(s.r.mails):
            if x.owner and s.pods[x.owner[0]].desk[e] is None:
                raise Violation(f"I15 {x.owner} owns entity {e} and does not know it: it is never released")
        alive = {p.inc for p in s.pods if p.alive}
        if s.r.pods != alive:
            raise Violation(f"I15 registered are {sorted(s.r.pods)}, alive are {sorted(alive)}")

    def run_late(self, s: State) -> State:
        while s.late:
            request, s = s.late[0], s._replace(late=s.late[1:])
            if self.reaches(s, request):
                s = self.call(s, request)[0]
        return s

    def settle_sends(self, s: State) -> State:
        for k, how in enumerate(s.sends):
            if how == FLYING:
                s = self.confirm(self.send(s, k, self.low(s))[0], k)
        return s

    def reap_all(self, s: State) -> State:
        for inc in sorted(s.r.pods):
            p = s.pods[inc[0]]
            if not p.alive or p.inc != inc:
                for _ in range(self.entities + 1):
                    reaper = self.reaper(s, inc)
                    if inc in s.r.pods and reaper:
                        s = self.reaped(s, reaper, inc)
        return s

    def heartbeat(self, s: State, i: int, *, idle: bool) -> State:
        """Pod i beats, attends to the report, and works until it has nothing to do before its next heartbeat."""
        p = s.pods[i]
        s, answer = self.beat(self.pod(s, i, hints=frozenset()), p.inc, p.gen)
        if answer[0] != "OK":
            return self.rejoin(s, i)
        s = self.attend(self.pod(s, i, report=answer[1]), i)
        if idle or self.rule.idle_ones_make_room and any(x.mode == READY for x in s.r.mails):
            for e, w in enumerate(s.pods[i].desk):
                if w and w[0] == PARKED:
                    s = self.ask(s, i, e, w, "release", w[1], "idle")
        for _ in range(30):
            t = self.go_on(s, i)
            if t == s or not t.pods[i].alive or t.pods[i].inc != p.inc:
                return t
            s = t
            self.check(s)
        return s

    def go_on(self, s: State, i: int) -> State:
        """Each worker of pod i takes one step, without a fault."""
        for e in range(self.entities):
            p = s.pods[i]
            if not p.alive:
                return s
            w = p.desk[e]
            if not w:
                continue
            if w[0] == WAIT:
                t, answer = self.call(s, w[1])
                s = s if answer[0] == "WAIT" else self.got(t, i, e, w[1], w[2], answer)
            elif w[0] == RUN:
                m = w[1].hand[w[1].k]
                if m in self.program.poison:
                    t = self.die(s, i)
                    return self.joined(t, i, self.join(t, i, t.r.counter), (-1, 0))
                s = self.finish(self.ended(s, i, e, w[1]), i, e, w[1], "done")
            elif p.draining:
                s = self.ask(s, i, e, w, "release", w[1], "handoff")
            elif w[0] == LATER or w[0] == BACKOFF and s.r.mails[e].due != FUTURE:
                s = self.ask(s, i, e, w, "claim")
        p = s.pods[i]
        if p.alive and p.draining and not any(p.desk) and self.refused(s, p.inc, p.gen) != "WAIT":
            s, answer = self.reap(s, p.inc, p.gen, p.inc, gave_up=True)
            if answer[0] != "MORE":
                s = self.die(s, i)
        return s
