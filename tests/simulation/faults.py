"""What goes wrong when: drawn from a seed before the fleet starts.

A seed first draws which kinds of faults its run has: runs in which everything happens all the time hide what only
shows while the rest is quiet.
"""

from collections.abc import Callable
from random import Random

import attrs

from trioqueue import EntityPolicy, Lease, Limits, Retry

from .checker import ATTEMPTS, MAX_CRASHES
from .network import Odds

SHORT = Lease(ttl=1.5, heartbeat=0.5, grace=0.75, stall_limit=3.0)
"""The default one twice as fast: as much happens in half the time."""

QUICK = (0.0, 0.0, 0.0, 0.01, 0.05, 0.1, 0.1, 0.5)
"""Seconds that a handler may take."""

SLOW = (0.1, 0.5, 1.0, 2.0)
"""The same, where handlers take longer than it takes a fleet to come back: what overlaps, shows."""

KINDS = ("kill", "freeze", "block", "cut", "unreachable", "stall", "clock", "restart", "fallback", "drain")


@attrs.frozen
class Blow:
    """One thing that goes wrong: at which second, what, for how long, and to whom (by number)."""

    at: float
    what: str
    seconds: float
    whom: int


@attrs.frozen
class Plan:
    """How a fleet looks, and what happens to it."""

    pods: int
    senders: int
    entities: int
    pause: float  # between two things a sender does
    handling: tuple[float, ...]  # what a handler may take
    # None: entities have no activation.  Else how likely one fails to begin, and fails while it lasts.
    activation: tuple[float, float] | None
    lease: Lease
    limits: Limits
    policy: EntityPolicy
    odds: Odds
    seconds: float  # while things go wrong
    blows: tuple[Blow, ...]
    operates: float  # seconds between two things that an operator asks; 0: there is none
    ticks: float  # seconds between two ticks of a schedule; 0: there is none


def _draw_odds(dice: Random) -> Odds:
    odds = Odds()
    for name in ("lost_request", "lost_reply", "late_reply", "late_run"):
        if dice.random() < 0.5:
            setattr(odds, name, dice.choice([0.02, 0.1, 0.25]))
    for name in ("lost_hint", "doubled_hint", "late_hint"):
        if dice.random() < 0.5:
            setattr(odds, name, dice.choice([0.05, 0.2, 0.5]))
    if dice.random() < 0.1:
        odds.lost_hint = 1.0
    odds.longest = dice.choice([1.0, 3.0, 6.0])
    return odds


def _draw_blows(dice: Random, seconds: float, lease: Lease) -> list[Blow]:
    kinds = dice.sample(KINDS, dice.randint(1, 5))
    durations: dict[str, Callable[[], float]] = {
        "freeze": lambda: dice.choice(
            [0.2, lease.ttl * dice.random(), lease.ttl * (0.8 + 1.2 * dice.random()), 3 * lease.ttl]
        ),
        "block": lambda: dice.choice([0.3, lease.ttl, lease.ttl + lease.grace + 1, lease.stall_limit + 3]),
        "unreachable": lambda: dice.choice([0.5, lease.ttl, 3 * lease.ttl]),
        "stall": lambda: dice.choice([0.5, lease.ttl, lease.ttl + lease.grace + 2]),
        "clock": lambda: _draw_jump(dice, back="fallback" not in kinds),
        "fallback": lambda: dice.choice([0.01, 0.2, 1.0, 3.0]),
        "kill": lambda: dice.choice([0.0, 0.5, 4.0]),
        "drain": lambda: dice.choice([0.0, 0.5, 4.0]),
    }
    blows: list[Blow] = []
    at = 1.0 + dice.random()
    while at < seconds:
        kind = dice.choice(kinds)
        blows.append(Blow(at, kind, durations.get(kind, float)(), dice.randrange(1000)))
        at += dice.expovariate(1 / dice.choice([0.7, 2.0, 4.0]))
    return blows


def _draw_jump(dice: Random, *, back: bool) -> float:
    """Draws by how much a clock is set: by more than the leases notice, or by nothing much.

    Set back by an hour and fallen back to a copy, a server could give an epoch twice: that is not promised.
    """
    if back and dice.random() < 0.5:
        return -dice.choice(
            [0.3, 10.0, 20_000.0]
        )  # a head in a backoff waits that much longer, up to an hour
    return dice.choice([0.3, 10.0, 1800.0])


def draw(seed: int) -> Plan:
    """Makes the plan of a seed."""
    dice = Random(seed)
    lease = dice.choice([Lease(), SHORT, SHORT, SHORT])
    pods = dice.choice([2, 2, 3, 3, 4, 5])
    slow = dice.random() < 0.3
    entities = dice.choice([15, 30] if slow else [5, 5, 8, 15, 25])
    seconds = dice.choice([4.0, 6.0, 8.0])
    plan = Plan(
        pods=pods,
        senders=dice.choice([1, 1, 2, 3]),
        entities=entities,
        pause=dice.choice([0.15, 0.25, 0.4]) * (2 if slow else 1),
        handling=SLOW if slow else QUICK,
        activation=dice.choice([None, None, (0.1, 0.1), (0.3, 0.3)]),
        lease=lease,
        limits=Limits(
            running=100 if slow else dice.choice([1, 2, 100, 100]),
            owned=dice.choice([entities // pods + 2, 20_000, 20_000]),
        ),
        policy=EntityPolicy(
            idle_timeout=dice.choice([0.1, 0.1, 0.5, 15.0]),
            retry=Retry(attempts=ATTEMPTS, wait_first=dice.choice([0.05, 0.3]), wait_max=1.0),
            max_crashes=MAX_CRASHES,
            fetch=dice.choice([1, 3, 64]),
        ),
        odds=_draw_odds(dice),
        seconds=seconds,
        blows=tuple(_draw_blows(dice, seconds, lease)),
        operates=dice.choice([0.0, 0.3, 0.8]),
        ticks=dice.choice([0.0, 0.0, 0.3, 1.0]),
    )
    if dice.random() < 0.4:  # drawn last, so that the plans of old seeds stay what they were
        plan = attrs.evolve(plan, policy=attrs.evolve(plan.policy, commit="group"))
    return plan
