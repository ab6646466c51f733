"""The invariants of one state: what is promised after every single step."""

from .rules import Violation
from .scripts import Scripts
from .state import ACTIVE, FAULTS, IDLE, PARKED, READY, RUN, State


def check(model: Scripts, s: State, *, freezes: bool) -> None:
    """Raises `Violation` where a promise is broken."""
    for e in range(model.entities):
        _one_at_a_time(s, e, freezes=freezes)
        _order(model, s, e)
        _indices(model, s, e)
    _each_in_one_place(model, s)
    _children(model, s)
    _registry(s)
    if model.program.count:
        _accounts(model, s)


def _one_at_a_time(s: State, e: int, *, freezes: bool) -> None:
    runs = [i for i, p in enumerate(s.pods) if p.alive and p.desk[e] and p.desk[e][0] == RUN]
    if len(runs) > 1 and not freezes:
        raise Violation(f"I9 two handlers of entity {e} run: in pods {runs}")
    x = s.r.mails[e]
    for i in runs if not s.r.run else ():
        p = s.pods[i]
        if (p.inc, p.desk[e][1].epoch) == (x.owner, x.epoch) and x.mode != ACTIVE:
            raise Violation(f"I5 {p.inc} runs entity {e} under its epoch, the store holds it {x.mode}")


def _order(model: Scripts, s: State, e: int) -> None:
    g = s.g
    kept = tuple(m for m in g.acc[e] if m not in g.dead and m not in g.cancelled)
    if kept[: len(g.com[e])] != g.com[e]:
        raise Violation(f"I2 committed {g.com[e]} of accepted {g.acc[e]}")
    sent = [m for m in g.acc[e] if m in model.sent]
    if model.program.awaited and not s.r.run and sent != sorted(sent):
        raise Violation(f"P1 sends that were awaited one after another are accepted as {sent}")


def _indices(model: Scripts, s: State, e: int) -> None:
    x, r = s.r.mails[e], s.r
    if x.mode == IDLE and (x.q or x.owner or x.wake):
        raise Violation(f"I5 idle entity {e} has work or entries: {x}")
    if x.mode == READY and (not x.q or x.owner or x.wake):
        raise Violation(f"I5 ready entity {e}: {x}")
    if x.mode == ACTIVE and not x.q:
        raise Violation(f"I5 active entity {e} has no work: {x}")
    if x.mode in (PARKED, ACTIVE):
        if x.owner not in r.pods:
            raise Violation(f"I6 entity {e} is owned by {x.owner}, which nobody will reap")
        if x.wake not in (None, x.owner):
            raise Violation(f"I5 wake of entity {e} names {x.wake}, its owner is {x.owner}")
        if bool(x.q) != bool(x.wake) and (
            model.rule.wake_until_empty or x.mode == PARKED and x.q and not x.due
        ):
            raise Violation(f"I5 owned entity {e} is not in wake exactly while it has work: {x}")
    if x.mode == ACTIVE and x.is_suspect() and (x.owner, e) not in r.suspects:
        raise Violation(
            f"I11 {x.owner} has the suspect of entity {e} in hand, and the store has not noted it"
        )
    if x.cancels and not x.q:
        raise Violation(f"I15 marks {sorted(x.cancels)} are left at entity {e}, which has no command")


def _each_in_one_place(model: Scripts, s: State) -> None:
    g = s.g
    for m in g.confirmed:
        e = model.place[m]
        places = s.r.mails[e].q.count(m) + g.com[e].count(m) + (m in g.dead) + (m in g.cancelled)
        if places != 1:
            raise Violation(f"I4 confirmed command {m} is in {places} places")
    if not g.cancelled <= g.asked:
        raise Violation(f"I1 {sorted(g.cancelled - g.asked)} are settled as cancelled, nobody cancelled them")
    innocent = g.dead - model.program.poison
    if (
        model.program.poison
        and innocent
        and not any(model.faults[FAULTS.index(f)] for f in ("fail", "freeze"))
    ):
        raise Violation(f"I11 commands {sorted(innocent)} never killed a pod, yet they are dead letters")
    if s.r.gaps and min(s.r.gaps) < s.r.low:
        raise Violation(f"I15 gaps {sorted(s.r.gaps)} are kept below the lowest unsettled number {s.r.low}")


def _children(model: Scripts, s: State) -> None:
    for m, born in model.children.items():
        committed = m in s.g.com[model.place[m]]
        for child, to in born:
            if (child in s.g.acc[to]) != committed:
                raise Violation(f"I14 of child {child} and its parent {m}, one stands without the other")


def _registry(s: State) -> None:
    g, r = s.g, s.r
    for i, p in enumerate(s.pods):
        behind = sorted(inc for inc in r.pods - g.known if inc[0] == i)
        if p.alive and behind:
            raise Violation(f"I6 {behind} was registered behind the back of its pod, which holds {p.inc}")
    if not r.run and r.pods & g.gone:
        raise Violation(f"I6 {sorted(r.pods & g.gone)} left and came back")


def _accounts(model: Scripts, s: State) -> None:
    g, program = s.g, model.program
    for e, x in enumerate(s.r.mails):
        crashes = x.crash + bool(x.mark)
        if crashes > g.crashes[e]:
            raise Violation(
                f"I11 {crashes} crashes count against entity {e}, it happened {g.crashes[e]} times"
            )
        if x.q and x.tries > g.fails[x.q[0]]:
            raise Violation(
                f"I11 {x.tries} failures count against {x.q[0]}, its handler failed {g.fails[x.q[0]]} times"
            )
    # The first two crashes of a head may have been anybody's.
    spare = program.max_attempts + max(program.max_crashes, 2) + (program.fetch - 1 if program.group else 0)
    for m, starts in enumerate(g.starts if not s.r.run else ()):
        if starts > spare + g.lets[m]:
            raise Violation(
                f"I11 command {m} was started {starts} times, {g.lets[m]} of them were let go of unfinished"
            )
