"""Whether a history kept the promises.  Linear in its length: each entity is looked at once, in the order of time."""

from bisect import bisect_right
from collections import Counter, defaultdict
from itertools import pairwise
from math import inf

import attrs
from faults.history import Freeze, History, Turn

from trioqueue import Lease

SLACK = 0.5
"""Seconds for noticing, connecting and starting, beyond what is promised."""

BEGINNING = 0.05
"""Seconds, on a busy machine, between the last look at the lease and the first line that a handler writes: a pod may be
frozen there too."""


@attrs.define
class Verdict:
    """What a checker found.  Lists hold one sentence for each violation."""

    confirmed: int = 0
    turns: int = 0
    lost: list[str] = attrs.field(factory=list)
    doubled: list[str] = attrs.field(factory=list)
    unexpected: list[str] = attrs.field(factory=list)
    disordered: list[str] = attrs.field(factory=list)
    children: list[str] = attrs.field(factory=list)
    overlaps: list[str] = attrs.field(factory=list)
    fences: list[str] = attrs.field(factory=list)
    late: list[str] = attrs.field(factory=list)
    stuck: list[str] = attrs.field(factory=list)
    left: list[str] = attrs.field(factory=list)
    # No violations:
    overlaps_after_freezes: int = 0
    effects_refused_after_freezes: int = 0
    standstills: int = 0
    """Times that no pod at all was seen to beat for two heartbeats: so slow was the machine."""
    forgotten: int = 0
    """Confirmed, and lost with the data that Redis lost."""
    slowest_healing: float = 0.0

    def problems(self) -> dict[str, list[str]]:
        """Names what was violated, and up to five cases of each."""
        return {
            name: value[:5] for name, value in attrs.asdict(self).items() if isinstance(value, list) and value
        }

    def numbers(self) -> dict[str, float]:
        """Counts everything."""
        return {
            name: len(value) if isinstance(value, list) else round(value, 3)
            for name, value in attrs.asdict(self).items()
        }

    def assert_clean(self, *, confirmed: int = 1, but: tuple[str, ...] = ()) -> None:
        """Raises if anything was violated, or so little was sent that it means nothing."""
        problems = {name: found for name, found in self.problems().items() if name not in but}
        assert not problems, problems
        assert self.confirmed >= confirmed, f"only {self.confirmed} sends were confirmed: that shows nothing"


def check(
    history: History,
    lease: Lease,
    *,
    excused: frozenset[str] = frozenset(),
    heals_within: float | None = None,
) -> Verdict:
    """Checks everything.

    Args:
        history: A run that has ended.
        lease: What the pods had.
        excused: Entities whose handlers do not react to cancellation, so that two of them may overlap.
        heals_within: Seconds; None: what is promised for the death of a pod.
    """
    if heals_within is None:
        heals_within = lease.ttl + lease.grace + lease.heartbeat + SLACK
    verdict = Verdict(
        confirmed=sum(map(len, history.confirmed.values())),
        turns=len(history.turns),
        stuck=list(history.stuck),
        left=list(history.left),
        standstills=history.standstills,
    )
    freezes = _past_the_lease(history.freezes, lease)
    turns: dict[str, list[Turn]] = defaultdict(list)
    for turn in sorted(history.turns, key=lambda turn: turn.start):
        turns[turn.entity].append(turn)
    for entity in {*history.confirmed, *history.doubtful, *history.applied}:
        _check_outcome(history, entity, verdict)
    for entity, of_entity in turns.items():
        if entity not in excused:
            _check_overlap(history, of_entity, freezes, verdict)
            _check_fences(of_entity, freezes, lease, verdict)
            _check_healing(history, entity, of_entity, freezes, heals_within, verdict)
    _check_effects(history, freezes, lease, excused, verdict)
    return verdict


def _past_the_lease(freezes: list[Freeze], lease: Lease) -> dict[str, list[Freeze]]:
    """Lists by pod the freezes that outlasted its lease; those with no time for a heartbeat in between are one."""
    whole: dict[str, list[Freeze]] = defaultdict(list)
    for freeze in sorted(freezes, key=lambda freeze: freeze.start):
        before = whole[freeze.pod]
        if before and freeze.start - before[-1].end < lease.heartbeat:
            before[-1] = Freeze(freeze.pod, before[-1].start, freeze.end)
        else:
            before.append(freeze)
    longest = lease.ttl - lease.margin
    return defaultdict(
        list, {pod: [one for one in of_pod if one.end - one.start > longest] for pod, of_pod in whole.items()}
    )


def _check_outcome(history: History, entity: str, verdict: Verdict) -> None:
    """Compares what an entity's state holds with what was sent to it."""
    confirmed, applied = history.confirmed.get(entity, []), history.applied.get(entity, [])
    dead = history.dead.get(entity, set())
    times = Counter(applied)
    for number in confirmed:
        if not times[number] and number not in dead:
            at = history.confirmed_at[entity, number]
            if history.forgotten_from <= at <= history.forgotten_until:
                verdict.forgotten += 1
            else:
                verdict.lost.append(f"{entity} {number}")
        if times[number] and number in dead:
            verdict.doubled.append(f"{entity} {number} stands, and is a dead letter")
    verdict.doubled += [f"{entity} {number} stands {n} times" for number, n in times.items() if n > 1]
    known = {*confirmed, *history.doubtful.get(entity, ())}
    verdict.unexpected += [f"{entity} {number}" for number in times if number not in known]
    place = {number: at for at, number in enumerate(confirmed)}
    in_order = [number for number in applied if number in place]
    verdict.disordered += [
        f"{entity} {later} before {earlier}"
        for later, earlier in pairwise(in_order)
        if place[later] > place[earlier]
    ]
    echoes = [number for number in applied if number % 2 == 0]
    if history.echoed.get(entity, echoes) != echoes:
        verdict.children.append(f"{entity} has echoes {history.echoed[entity]}, not {echoes}")


def _check_overlap(
    history: History, turns: list[Turn], freezes: dict[str, list[Freeze]], verdict: Verdict
) -> None:
    """Finds handlers of one entity at the same time; a pod that was frozen past its lease is excused."""
    latest = turns[0]
    for turn in turns[1:]:
        if turn.start < latest.end:
            if _frozen(latest, freezes) or _frozen(turn, freezes):
                verdict.overlaps_after_freezes += 1
            else:
                verdict.overlaps.append(
                    f"{turn.entity}: {turn.number} on {turn.pod} began {latest.end - turn.start:.3f} s before "
                    f"{latest.number} on {latest.pod} ended; " + _tale(history, turn, latest)
                )
        if turn.end >= latest.end:
            latest = turn


def _tale(history: History, turn: Turn, latest: Turn) -> str:
    """Tells what became of two pods before their handlers overlapped, in seconds from the start of the later one."""
    pods = (turn.pod, latest.pod)
    told = [(latest.start, f"{latest.number} began on {latest.pod}")]
    told += [(one.start, f"{one.pod} froze") for one in history.freezes if one.pod in pods]
    told += [(one.end, f"{one.pod} thawed") for one in history.freezes if one.pod in pods]
    told += [(at, f"{pod} gave its lease up") for pod in pods for at in history.lapses.get(pod, ())]
    near = sorted((at - turn.start, what) for at, what in told if abs(at - turn.start) < 5.0)
    return ", ".join(f"{at:+.3f} s: {what}" for at, what in near)


def _frozen(turn: Turn, freezes: dict[str, list[Freeze]]) -> bool:
    return any(one.start < turn.end and turn.start < one.end + BEGINNING for one in freezes[turn.pod])


def _thawed(pod: str, at: float, freezes: dict[str, list[Freeze]], lease: Lease) -> bool:
    """Says whether a pod may still act on what it knew before a freeze."""
    return any(one.start < at < one.end + lease.ttl for one in freezes[pod])


def _check_fences(
    turns: list[Turn], freezes: dict[str, list[Freeze]], lease: Lease, verdict: Verdict
) -> None:
    """Fences rise with the starts, and none is two pods'."""
    pods: dict[int, str] = {}
    for turn in turns:
        if pods.setdefault(turn.fence, turn.pod) != turn.pod:
            verdict.fences.append(f"{turn.entity}: {turn.pod} and {pods[turn.fence]} had fence {turn.fence}")
    highest = 0
    for turn in turns:
        if turn.fence < highest and not _thawed(turn.pod, turn.start, freezes, lease):
            verdict.fences.append(f"{turn.entity}: {turn.number} began with a lower fence than one before it")
        highest = max(highest, turn.fence)


def _check_effects(
    history: History,
    freezes: dict[str, list[Freeze]],
    lease: Lease,
    excused: frozenset[str],
    verdict: Verdict,
) -> None:
    """No effect was refused, but of pods that were frozen; each command that stands had its effect, in order."""
    done: dict[str, list[int]] = defaultdict(list)
    for effect in history.effects:
        if effect.accepted:
            done[effect.entity].append(effect.number)
        elif _thawed(effect.pod, effect.at, freezes, lease):
            verdict.effects_refused_after_freezes += 1
        elif effect.entity not in excused:
            verdict.fences.append(
                f"{effect.entity}: an effect of {effect.number} on {effect.pod} was refused"
            )
    if not history.effects:
        return
    for entity, applied in history.applied.items():
        first = list(dict.fromkeys(done[entity]))
        missing = set(applied) - set(first)
        verdict.lost += [f"the effect of {entity} {number}" for number in sorted(missing)]
        standing = set(applied)
        if [number for number in first if number in standing] != applied and not missing:
            verdict.disordered.append(f"the effects of {entity}")


def _check_healing(
    history: History,
    entity: str,
    turns: list[Turn],
    freezes: dict[str, list[Freeze]],
    allowed: float,
    verdict: Verdict,
) -> None:
    """Measures how long an entity had work and no live handler, since the last fault that concerned it."""
    idle_since = -inf
    for turn in turns:
        # Commands start in the order of their sending, so this one was the head since the handler before it ended.
        since = max(idle_since, history.confirmed_at.get((entity, turn.number), turn.start))
        gap = turn.start - since
        if gap > 0:
            gap = turn.start - max(since, _last_fault(history, entity, since, turn.start, allowed))
        verdict.slowest_healing = max(verdict.slowest_healing, gap)
        if gap > allowed:
            verdict.late.append(
                f"{entity} {turn.number} began on {turn.pod} {gap:.2f} s after the last fault; "
                + _story(history, entity, turn.start - gap - allowed, turn.start)
            )
        frozen = [one.start for one in freezes[turn.pod] if turn.start <= one.start < turn.end]
        idle_since = max(idle_since, min([turn.end, *frozen]))


def _story(history: History, entity: str, since: float, until: float) -> str:
    """Tells who owned an entity before it began late, and what faults there were, in seconds before."""
    owners = [(at, f"owned by {pod}") for at, pod in history.owners.get(entity, ()) if since <= at <= until]
    changes = [now for before, now in pairwise([(0.0, ""), *owners]) if before[1] != now[1]]
    faults = [(at, f"fault of {pod or 'all'}") for at, pod in history.faults if since <= at <= until]
    return ", ".join(f"{until - at:.2f} s before: {what}" for at, what in sorted(changes + faults))


def _last_fault(history: History, entity: str, since: float, until: float, allowed: float) -> float:
    """Says when the last fault between two moments was that hit the entity's owner, as far as that was looked at."""
    first = bisect_right(history.faults, (since, ""))
    faults = history.faults[first : bisect_right(history.faults, (until, "~"))]
    owners = history.owners.get(entity)
    for at, pod in reversed(faults):
        if owners is None or not pod:
            return at
        seen = owners[bisect_right(owners, (at - SLACK, "")) : bisect_right(owners, (at + allowed, "~"))]
        if any(owner == pod for _, owner in seen):
            return at
    return -inf
