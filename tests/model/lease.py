"""Renewals, silence, the trust window and the quarantine, in time.

Two pods and one entity that always has work.  It shows what the model in `mailbox` takes for granted: no pod is
reaped and no quarantine ends while a pod still trusts its lease, whatever is delayed, and however the store's clock
jumps or its server stalls or restarts.  All times are kept as distances from now, so that equal situations are
equal states.
"""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

from .rules import Violation
from .state import put

HEARTBEAT = 2
"""In units of time: a unit is half a heartbeat."""

MARGIN = 1

FAULTS = ("lost", "step", "restart")
"""An answer is lost; the store's clock jumps, or the server stalls; the server restarts, with an older copy."""


class Entry(NamedTuple):
    """A registered incarnation."""

    n: int
    age: int  # of its last renewal


class Server(NamedTuple):
    """What the store holds."""

    pods: tuple[Entry | None, ...]
    owner: tuple[int, int] | None
    tick: int = 0  # age of the last tick
    run: int = 0
    gen: int = 0
    wait: int | None = None  # time left of the quarantine


class Holder(NamedTuple):
    """A pod: its incarnation, and how long it trusts its lease."""

    n: int
    gen: int
    left: int
    runs: bool = False
    beat: tuple[int, bool | None] | None = None  # a heartbeat under way: age of its sending, the answer


class LeaseState(NamedTuple):
    r: Server
    pods: tuple[Holder, ...]
    snap: tuple[Server, int] | None  # as an older file holds it, and its age
    faults: tuple[int, ...]


Step = tuple[tuple[Any, ...], "LeaseState | Violation"]


class Lease:
    """One instance.

    The heartbeats of the pods in `late` run late, and their answers come late or never; the others beat at once, when
    they like.  `newcomer`: pod 0 has not joined yet.  `old_copy`: what a restart restores is the very first state.
    """

    def __init__(
        self,
        rule: SimpleNamespace,
        *,
        ttl: tuple[int, int] = (6, 6),
        jumps: tuple[int, ...] = (-4, 4, 12),
        late: tuple[int, ...] = (0,),
        newcomer: bool = False,
        old_copy: bool = False,
        **faults: int,
    ) -> None:
        assert not faults.keys() - set(FAULTS), faults
        self.rule, self.ttl, self.jumps, self.late = rule, ttl, jumps, late
        self.newcomer, self.old_copy = newcomer, old_copy
        self.faults = tuple(faults.get(fault, 0) for fault in FAULTS)
        self.grace = 3 if rule.grace_covers_a_step else 1
        self.far = 2 * max(ttl) + 6  # beyond it, ages are all alike

    def start(self) -> LeaseState:
        r = Server((None if self.newcomer else Entry(0, 0), Entry(0, 0)), None)
        pods = tuple(Holder(0, 0, ttl - MARGIN) for ttl in self.ttl)
        if self.newcomer:
            pods = put(pods, 0, Holder(0, 0, 0))
        return LeaseState(r, pods, (r, 0) if self.old_copy else None, self.faults)

    # -------------------------------------------------------------------------------- scripts
    def tick(self, r: Server) -> Server:
        """Shifts what was written before a gap in which nobody ticked, or a jump of the clock."""
        gap = r.tick
        if self.rule.a_stall_shifts and (gap > 2 * HEARTBEAT or gap < 0):
            shift = gap - HEARTBEAT if self.rule.less_one_heartbeat else gap
            pods = tuple(x and x._replace(age=max(0, x.age - shift)) for x in r.pods)
            moved = shift if self.rule.a_stall_shifts_the_quarantine else 0
            r = r._replace(pods=pods, wait=None if r.wait is None else r.wait + moved)
        return r._replace(tick=0)

    def beat(self, s: LeaseState, i: int) -> tuple[LeaseState, bool]:
        """Renews, ends the quarantine, reaps the silent and hands the entity on; False: refused."""
        r, p = s.r, s.pods[i]
        if p.gen != r.gen:
            return s, False
        r = self.tick(r)
        wait = None if r.wait is None or r.wait <= 0 else r.wait
        pods, owner, me = list(r.pods), r.owner, r.pods[i]
        confirmed = me is not None and me.n == p.n
        if me and confirmed:
            pods[i] = me._replace(age=0)
        for j, x in enumerate(pods):
            ttl = self.ttl[j] if self.rule.silence_by_its_own_ttl else self.ttl[i]
            if x and wait is None and x.age > ttl + self.grace:
                pods[j] = None
                owner = None if owner == (j, x.n) else owner
        if owner is None:
            owner = next(((j, x.n) for j in (i, 1 - i) if (x := pods[j])), None)
        return s._replace(r=r._replace(pods=tuple(pods), owner=owner, wait=wait)), confirmed

    def join(self, s: LeaseState, i: int) -> LeaseState:
        r, p = self.tick(s.r) if self.rule.a_join_ticks else s.r, s.pods[i]
        if r.gen != r.run:
            known = [self.ttl[j] for j, x in enumerate(r.pods) if x or j == i]
            wait = max(self.ttl if self.rule.quarantine_of_the_layout else known) + self.grace
            r = r._replace(gen=r.run, wait=wait if self.rule.quarantine else None)
        r = r._replace(pods=put(r.pods, i, Entry(p.n + 1, 0)))
        if r.owner and r.owner[0] == i:  # the older incarnation is given up
            r = r._replace(owner=(i, p.n + 1))
        return s._replace(r=r, pods=put(s.pods, i, Holder(p.n + 1, r.gen, self.ttl[i] - MARGIN)))

    # -------------------------------------------------------------------------------- all that may happen
    @staticmethod
    def pod(s: LeaseState, i: int, **what: Any) -> LeaseState:
        return s._replace(pods=put(s.pods, i, s.pods[i]._replace(**what)))

    @staticmethod
    def spend(s: LeaseState, fault: str) -> LeaseState | None:
        k = FAULTS.index(fault)
        return s._replace(faults=put(s.faults, k, s.faults[k] - 1)) if s.faults[k] else None

    def aged(self, r: Server, by: int) -> Server:
        """Lets the store's clock go on, or jump."""
        pods = tuple(x and x._replace(age=min(x.age + by, self.far)) for x in r.pods)
        wait = None if r.wait is None else max(r.wait - by, -self.far)
        return r._replace(pods=pods, tick=min(r.tick + by, self.far), wait=wait)

    def time_passes(self, s: LeaseState) -> LeaseState:
        pods = []
        for p in s.pods:
            left = max(p.left - 1, 0)
            beat = p.beat and (min(p.beat[0] + 1, self.far), p.beat[1])
            pods.append(p._replace(left=left, runs=p.runs and left > 0, beat=beat))
        snap = s.snap and (s.snap[0], min(s.snap[1] + 1, self.far))
        return s._replace(r=self.aged(s.r, 1), pods=tuple(pods), snap=snap)

    def steps(self, s: LeaseState) -> Iterator[Step]:
        yield ("half a heartbeat passes",), self.time_passes(s)
        for i in range(2):
            yield from self.pod_steps(s, i)
        for jump in self.jumps:
            if t := self.spend(s, "step"):
                yield ("clock of the server JUMPS by", jump), t._replace(r=self.aged(t.r, jump))
        if t := self.spend(s, "restart"):
            if s.snap is None:
                yield ("a file holds this",), s._replace(snap=(s.r, 0))
            else:
                r, age = s.snap
                yield (
                    ("RESTART with what the file held",),
                    t._replace(r=self.aged(r, age)._replace(run=s.r.run + 1), snap=None),
                )

    def pod_steps(self, s: LeaseState, i: int) -> Iterator[Step]:
        r, p = s.r, s.pods[i]
        same, full = p.gen == r.run, self.ttl[i] - MARGIN
        if i not in self.late and p.left and same:
            t, ok = self.beat(s, i)
            yield (
                ("pod", i, "beats,", "ok" if ok else "refused"),
                self.pod(t, i, left=full) if ok else self.join(t, i),
            )
        if i in self.late and p.beat is None and p.left and same:
            yield ("pod", i, "sends a heartbeat"), self.pod(s, i, beat=(0, None))
        if p.beat and p.beat[1] is None and same:
            t, ok = self.beat(s, i)
            yield (
                ("store runs the heartbeat of pod", i, "ok" if ok else "refused"),
                self.pod(t, i, beat=(p.beat[0], ok)),
            )
            if u := self.spend(t, "lost"):
                yield ("store runs the heartbeat of pod", i, "ANSWER LOST"), self.pod(u, i, beat=None)
        if p.beat and p.beat[1] is True:
            left = full - (p.beat[0] if self.rule.trust_from_the_sending else 0)
            if left > 0 and p.left:
                yield ("pod", i, "trusts its lease"), self.pod(s, i, beat=None, left=max(left, p.left))
        if (not p.left or p.beat and p.beat[1] is False or not same) and p.n < 3:
            yield ("pod", i, "ends all, joins"), self.join(s, i)
        open_ = r.wait is None or not self.rule.a_beat_ends_the_quarantine and r.wait <= 0
        if not p.runs and p.left and same and r.owner == (i, p.n) and open_ and p.gen == r.gen:
            yield ("pod", i, "claims, runs"), self.pod(s, i, runs=True)

    # -------------------------------------------------------------------------------- promises
    def check(self, s: LeaseState) -> None:
        if all(p.runs for p in s.pods):
            raise Violation("I9 both pods run a handler of the entity, each within its lease")

    def drain(self, s: LeaseState) -> None:
        """Pod 0 dies, pod 1 beats slowly: the entity must come to it."""
        s = self.pod(s._replace(faults=(0,) * len(FAULTS)), 0, left=0, runs=False, beat=None)
        for _ in range(3 * max(self.ttl) // 2 + 14):
            for _ in range(2 * HEARTBEAT + 1):
                s = self.time_passes(s)
            p, mine = s.pods[1], s.r.pods[1]
            if p.gen != s.r.run or mine is None or mine.n != p.n:
                s = self.join(s, 1)
            s = self.beat(s, 1)[0]
            if s.r.owner == (1, s.pods[1].n) and s.r.wait is None:
                return
        raise Violation(f"I12 the dead pod 0 is never reaped: {s.r}")
