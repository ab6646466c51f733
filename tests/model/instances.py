"""Which fleets are searched, and in which of them each missing rule shows."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from .lease import Lease
from .mailbox import Mailbox
from .rules import rules
from .search import Model
from .state import Program

Build = Callable[[SimpleNamespace], Model]


def fleet(groups: Any, faults: dict[str, int] | None = None, **program: Any) -> Build:
    """Makes an instance of `Mailbox`."""
    return lambda rule: Mailbox(rule, Program(groups, **program), **(faults or {}))


def leases(**what: Any) -> Build:
    """Makes an instance of `Lease`."""
    return lambda rule: Lease(rule, **what)


ONE = (((0, 0),),)  # one command
TWO = (((0, 0),), ((1, 0),))  # two sends to one entity
BOTH = (((0, 0), (1, 0)),)  # two commands in one send
THREE = (*TWO, ((2, 0),))
PAIR = (((0, 0),), ((1, 1),))  # two entities
TOGETHER = (((0, 0), (1, 1)),)  # one send to two entities
MIXED = (((0, 0), (1, 1)), ((2, 0),))

TO_ITSELF = ((0, ((1, 0),)),)  # command 0 sends command 1 to its own entity
TO_ANOTHER = ((0, ((1, 1),)),)
TO_BOTH = ((0, ((2, 0), (3, 1))),)
POISON = frozenset({0})

SMALL: dict[str, Build] = {
    "no fault": fleet(ONE),
    "one cut": fleet(ONE, {"cut": 1}),
    "two cuts": fleet(ONE, {"cut": 2}),
    "one dies": fleet(ONE, {"kill": 1}),
    "one fails": fleet(ONE, {"fail": 1}),
    "one loses its lease": fleet(ONE, {"expire": 1}),
    "one request is forgotten": fleet(ONE, {"forget": 1}),
    "one handoff": fleet(ONE, {"handoff": 1}),
    "one drains": fleet(ONE, {"drain": 1}),
    "one freezes": fleet(ONE, {"freeze": 1}),
    "one failover": fleet(ONE, {"failover": 1}),
    "one is cancelled": fleet(ONE, {"cancel": 1}),
    "one joins again": fleet(ONE, {"expire": 1, "cut": 1}, late_joins=True),
    "a child": fleet(ONE, {"cut": 1}, children=TO_ITSELF),
    "a pod alone": fleet(ONE, {"kill": 1, "restart": 1}, pods=1),
    "a wish": fleet(ONE, {"cut": 1}, wisher=0, pods=1),
    "two sends": fleet(TWO),
    "two sends to one pod": fleet(TWO, {"cut": 1}, pods=1),
    "two entities without room": fleet(PAIR, pods=1, room=1),
    "lease: no delay": leases(late=()),
    "lease: no delay, a small jump": leases(step=1, jumps=(4,), late=()),
}
"""Searched as a whole: every state that there is."""

LARGER: dict[str, Build] = {
    "two sends overtake": fleet(TWO, {"cut": 2}),
    "awaited sends": fleet(TWO, {"cut": 1, "give_up": 1}, awaited=True),
    "three sends": fleet(THREE, {"give_up": 1}, pods=1),
    "one command, three cuts": fleet(ONE, {"cut": 3}),
    "a full store": fleet(TWO, {"cut": 2, "full": 1}, pods=1),
    "a full store, void repeated": fleet(ONE, {"cut": 1, "full": 1, "void_lost": 1}, pods=1),
    "wishes": fleet(TWO, {"cut": 1, "kill": 1}, wisher=0),
    "wishes, no room": fleet(PAIR, {"cut": 1}, room=1, wisher=0),
    "a group dies": fleet(BOTH, {"cut": 1, "kill": 1}, group=True),
    "a group fails": fleet(BOTH, {"cut": 2, "fail": 1}, group=True, count=True),
    "fails to the dead letters": fleet(TWO, {"fail": 2, "cut": 1}, count=True),
    "put off": fleet(ONE, {"put_off": 2, "cut": 1, "fail": 1}, count=True),
    "kill, lease loss, cut": fleet(ONE, {"kill": 1, "expire": 1, "cut": 1}, count=True),
    "gives up its lease": fleet(ONE, {"expire": 2, "forget": 1}, count=True),
    "joins repeated": fleet(ONE, {"expire": 1, "cut": 2, "kill": 1}, late_joins=True),
    "handoff, cut, kill": fleet(ONE, {"handoff": 2, "cut": 1, "kill": 1}, pods=3),
    "drains": fleet(PAIR, {"drain": 1, "cut": 1}),
    "drains and dies": fleet(TWO, {"drain": 1, "kill": 1}),
    "forgotten request": fleet(TWO, {"forget": 2}),
    "forgotten, two entities": fleet(PAIR, {"forget": 1, "handoff": 1}),
    "forgotten, fails": fleet(ONE, {"forget": 1, "cut": 1, "fail": 1, "handoff": 1}),
    "fails, dies": fleet(TWO, {"fail": 1, "kill": 1}),
    "cancelled": fleet(TWO, {"cancel": 1, "cut": 1}),
    "cancelled and handed on": fleet(TWO, {"cancel": 2, "handoff": 1}),
    "children": fleet(ONE, {"cut": 1, "kill": 1}, children=TO_ITSELF),
    "children elsewhere": fleet(ONE, {"cut": 1, "fail": 1}, children=TO_ANOTHER),
    "frozen pod": fleet(BOTH, {"freeze": 1, "cut": 1}, group=True),
    "frozen pod, two entities": fleet(PAIR, {"freeze": 1, "cut": 1}),
    "frozen pod, the other dies": fleet(TOGETHER, {"freeze": 1, "kill": 1, "restart": 1}, spare=1),
    "failover, cut": fleet(ONE, {"failover": 1, "cut": 1}),
    "failover, counted": fleet(ONE, {"failover": 1}, count=True),
    "failover, wishes": fleet(TWO, {"failover": 1}, wisher=1),
    "failover, frozen pod": fleet(ONE, {"failover": 1, "freeze": 1}),
    "failover, two sends": fleet(TWO, {"failover": 1, "kill": 1}),
    "clock set back": fleet(TWO, {"back": 1, "kill": 1}),
    "clock set back in a backoff": fleet(ONE, {"back": 1, "fail": 1, "cut": 1}),
    "two entities, one place": fleet(PAIR, {"kill": 1, "cut": 1}, room=1),
    "two types, one place": fleet(PAIR, {"handoff": 1}, room=1, types=(0, 1)),
    "no pod at first": fleet(PAIR, {"restart": 2}, spare=2),
    "no pod at first, one dies": fleet(PAIR, {"restart": 3, "kill": 1}, spare=2),
    "a command kills pods": fleet(
        BOTH, {"kill": 5, "restart": 5}, poison=frozenset({1}), group=True, count=True
    ),
    "beside one that kills pods": fleet(
        PAIR, {"kill": 3, "restart": 4}, spare=1, poison=POISON, max_crashes=1, awaited=True
    ),
    "two that kill pods": fleet(PAIR, {"kill": 2, "restart": 2}, poison=frozenset({0, 1}), max_crashes=1),
    "two suspects, one pod": fleet(PAIR, {"kill": 2, "restart": 2}, pods=1),
    "a suspect and another": fleet(PAIR, {"kill": 2, "restart": 2}, pods=1, poison=POISON),
    "mixed": fleet(MIXED, {"cut": 1, "kill": 1}),
    "lease: a small jump": leases(step=1, jumps=(4,)),
    "lease: lost answer, jump": leases(lost=1, step=1),
    "lease: restart": leases(restart=1),
    "lease: restart, other ttls": leases(restart=1, ttl=(10, 4), newcomer=True, late=(), old_copy=True),
    "lease: other ttls": leases(ttl=(10, 4), lost=1),
    "lease: other ttls, prompt": leases(ttl=(10, 4), late=()),
    "lease: restart, jump": leases(restart=1, step=1, late=()),
    "lease: restart of an old copy, set back": leases(restart=1, step=1, late=(), jumps=(-4,), old_copy=True),
}
"""Searched as far as there is time, nearest states first."""

MANY = (((0, 0), (1, 1)), ((2, 0),), ((3, 0), (4, 1)))

WALKS: dict[str, Build] = {
    "walk: all but failover": fleet(
        MANY, {"cut": 4, "kill": 1, "expire": 1, "fail": 2, "handoff": 2, "restart": 1, "cancel": 1}, pods=3
    ),
    "walk: frozen pods": fleet(MANY, {"cut": 4, "freeze": 2, "kill": 1, "fail": 1, "handoff": 1}, pods=3),
    "walk: failover": fleet(
        (*BOTH, ((2, 0),)), {"cut": 3, "failover": 2, "kill": 1, "fail": 1, "expire": 1}, pods=3
    ),
    "walk: wishes, no room": fleet(
        (((0, 0),), ((1, 1),), ((2, 0),), ((3, 1),)),
        {"cut": 3, "kill": 1, "handoff": 1, "restart": 1, "drain": 1},
        room=1,
        wisher=0,
        types=(0, 1),
    ),
    "walk: children, groups": fleet(
        (((0, 0), (1, 0)),),
        {"cut": 3, "kill": 1, "fail": 1, "forget": 1, "put_off": 1, "cancel": 1},
        children=TO_BOTH,
        group=True,
        count=True,
    ),
    "walk: drains, joins": fleet(
        (*PAIR, ((2, 0),)),
        {"cut": 3, "expire": 2, "drain": 1, "kill": 1, "restart": 2},
        late_joins=True,
        count=True,
    ),
}
"""Too large for that: random ways."""

INSTANCES = {**SMALL, **LARGER, **WALKS}

MUTANTS: dict[str, str] = {
    "a group is taken once": "one command, three cuts",
    "gaps are remembered": "two sends overtake",
    "low is told": "awaited sends",
    "gaps end at low": "three sends",
    "void before a refusal": "a full store",
    "void spends the number": "a full store",
    "void remembers": "a full store, void repeated",
    "placed with the registered": "wishes",
    "placed where room is": "wishes, no room",
    "room is over all types": "two types, one place",
    "retiring ends placement": "drains",
    "assign looks again": "no pod at first",
    "wake is kept": "awaited sends",
    "wake until empty": "two sends overtake",
    "handover wakes": "a group dies",
    "only the owner claims": "handoff, cut, kill",
    "an epoch for each claim": "forgotten, fails",
    "epochs follow the clock": "failover, cut",
    "the floor of epochs": "clock set back",
    "claim minds the due time": "fails, dies",
    "send minds the due time": "fails to the dead letters",
    "a far due time has passed": "clock set back in a backoff",
    "claim tells the cancelled": "cancelled",
    "commit names done": "a group fails",
    "retries count as done": "fails to the dead letters",
    "commit wants a claim": "fails to the dead letters",
    "already by mode": "two sends overtake",
    "commit is fenced": "forgotten request",
    "a put-off is no attempt": "put off",
    "children go with the commit": "children elsewhere",
    "children once": "children elsewhere",
    "children before emptiness": "children",
    "marks go with the last": "cancelled",
    "a suspect comes alone": "a command kills pods",
    "a crash is proven": "beside one that kills pods",
    "one suspect a pod": "two suspects, one pod",
    "a settled suspect is let go": "two suspects, one pod",
    "only by its own commit": "a suspect and another",
    "a restart is no crash": "failover, counted",
    "giving up is no crash": "gives up its lease",
    "idle is checked": "two sends overtake",
    "release is fenced": "handoff, cut, kill",
    "idle ones make room": "two entities, one place",
    "a pod leaves last": "a group dies",
    "leaving is marked": "frozen pod, the other dies",
    "the active are reaped too": "a group dies",
    "renew the existing only": "frozen pod, two entities",
    "join names a ticket": "joins repeated",
    "a differing count is looked into": "forgotten request",
    "quarantine": "failover, wishes",
    "a wish keeps to its server": "failover, wishes",
    "requests keep to their server": "failover, cut",
    "trust from the sending": "lease: a small jump",
    "grace covers a step": "lease: a small jump",
    "silence by its own ttl": "lease: other ttls, prompt",
    "a stall shifts": "lease: lost answer, jump",
    "less one heartbeat": "lease: lost answer, jump",
    "a join ticks": "lease: restart of an old copy, set back",
    "quarantine of the layout": "lease: restart, other ttls",
    "a stall shifts the quarantine": "lease: restart, jump",
    "a beat ends the quarantine": "lease: restart, jump",
}
"""Rule -> the instance in which the protocol without it breaks a promise."""

TOGETHER_OFF: dict[str, tuple[str, ...]] = {
    "retries count as done": ("commit wants a claim",),
    "commit wants a claim": ("retries count as done",),
}
"""Rules that stand in for each other: what breaks shows only without both."""


def broken(rule: str) -> Model:
    """Makes the instance that shows what a rule is for, without it."""
    return INSTANCES[MUTANTS[rule]](rules(rule, *TOGETHER_OFF.get(rule, ())))
