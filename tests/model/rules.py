"""The protocol's rules, each a switch: a mutant of the protocol is one of them switched off."""

from types import SimpleNamespace

RULES = {
    # ---------------------------------------------------------------- sending
    "a group is taken once": "A group whose number was seen is a duplicate, and not taken again.",
    "gaps are remembered": "A number that was skipped counts as new, also below the highest one: sends overtake.",
    "low is told": "Below the lowest unsettled number everything is a duplicate: what was given up comes no more.",
    "gaps end at low": "Numbers below the lowest unsettled one are forgotten, or gaps would grow without bound.",
    "void before a refusal": "A refused group's number is voided before its sender is told: a copy may be on its way.",
    "void spends the number": "A voided number is not taken any more.",
    "void remembers": "A repeated void answers what the first one did: its answer may have been lost.",
    # ---------------------------------------------------------------- placing
    "placed with the registered": "A preferred pod is preferred only if it is registered and not leaving.",
    "placed where room is": "A pod gets no more entities than it has room for.",
    "room is over all types": "Room is what a pod owns in all, not of one type.",
    "retiring ends placement": "A pod that drains is given nothing more.",
    "assign looks again": "An entity is assigned only if it is still ready: the report that named it may be old.",
    # ---------------------------------------------------------------- waking
    "wake is kept": "What has work is kept in the store and told with each heartbeat, as a hint may be lost.",
    "wake until empty": "An owned entity is in wake while it has work; a claim, which may be late, leaves it there.",
    "handover wakes": "Handing an entity on puts it into wake for its new owner.",
    # ---------------------------------------------------------------- claiming
    "only the owner claims": "A claim is for the pod that the entity is assigned to.",
    "an epoch for each claim": "Every claim takes a new epoch, also one by the same owner.",
    "epochs follow the clock": "An epoch is never below the store's time: it rises through a lost tail of the data.",
    "the floor of epochs": "The highest epoch is remembered: it rises through a clock set back and a deleted entity.",
    "claim minds the due time": "A claim does not start a head that waits out a backoff.",
    "send minds the due time": "A send leaves the due time of a waiting head alone.",
    "a far due time has passed": "A due time beyond the longest wait counts as passed: the clock was set back.",
    "claim tells the cancelled": "A claim names the cancelled commands, and their handlers are not started.",
    # ---------------------------------------------------------------- committing
    "commit names done": "A commit names what was settled before it: behind the stored number it ran already.",
    "retries count as done": "A retry moves `done` as a pop does, or its repetition would be counted twice.",
    "commit wants a claim": "A commit is applied to an active entity only: one that is parked was not claimed since.",
    "already by mode": "A repeated commit is answered by the mode now: a batch only where the entity is active.",
    "commit is fenced": "A commit is heard from the owner under its newest epoch only.",
    "a put-off is no attempt": "A head that is put off, as its activation failed, has spent no attempt.",
    "children go with the commit": "What a handler sends becomes visible with its commit, or not at all.",
    "children once": "A repeated commit does not send its children again.",
    "children before emptiness": "Whether a mailbox is empty is judged after its own children were put into it.",
    "marks go with the last": "The marks of cancelled commands go when the mailbox is empty.",
    # ---------------------------------------------------------------- crashes
    "a suspect comes alone": "A head that was in two crashes, or in one as the suspect, is handed out alone.",
    "a crash is proven": "Crashes count against a head once one of them happened while it was the suspect.",
    "one suspect a pod": "A pod has one suspect in hand at most; if it dies, the crash counts for that one alone.",
    "a settled suspect is let go": "The suspect in hand is forgotten with its commit or release.",
    "only by its own commit": "... and not with the commit of another entity that was in a crash too.",
    "giving up is no crash": "An incarnation that its own process gives up leaves no crash marks.",
    "a restart is no crash": "An incarnation from before a restart lost its lease by that: no crash marks either.",
    # ---------------------------------------------------------------- letting go
    "idle is checked": "An idle entity is let go of only if nothing is queued.",
    "release is fenced": "A release names the owner and the epoch of its claim.",
    "idle ones make room": "A pod without room lets go of idle entities while others are ready.",
    # ---------------------------------------------------------------- membership
    "a pod leaves last": "A pod stays registered until its last entity was handed on.",
    "leaving is marked": "The first chunk of a reap ends placement with the pod, and the pod's own requests.",
    "the active are reaped too": "A reap takes active entities as well as parked ones.",
    "renew the existing only": "A heartbeat renews a registration and never makes one.",
    "join names a ticket": "A join names the counter it saw: a copy that runs when its caller has gone on is refused.",
    "a differing count is looked into": "A pod that owns more than it knows reads what it owns and claims it.",
    # ---------------------------------------------------------------- generations
    "quarantine": "After a restart nothing is claimed or committed before every older lease has surely ended.",
    "a wish keeps to its server": "A send may go to another server than its pod's, but then it claims nothing there.",
    "requests keep to their server": "A pod's request never goes to another server than the one it registered with.",
    # ---------------------------------------------------------------- the lease
    "trust from the sending": "A lease is trusted from when its heartbeat was sent, not from when the answer came.",
    "grace covers a step": "Silence is the ttl and a grace, above what a clock may step without being noticed.",
    "silence by its own ttl": "A pod is silent by the ttl it told, not by its reaper's.",
    "a stall shifts": "If nobody ticked, or the clock jumped, renewals are shifted by the gap.",
    "less one heartbeat": "They are shifted by the gap less one heartbeat: slow heartbeats must still reap.",
    "a join ticks": "A join makes the test for a jump too, before it writes a time of its own.",
    "quarantine of the layout": "The quarantine lasts for the longest ttl allowed, also of pods that this copy lost.",
    "a stall shifts the quarantine": "A jump of the clock moves the quarantine's end as it moves the renewals.",
    "a beat ends the quarantine": "Only a heartbeat ends the quarantine, as it has made up for a jump of the clock.",
}


class Violation(Exception):
    """A promise is broken; the text begins with the number of its invariant."""


def rules(*without: str) -> SimpleNamespace:
    """Makes the switches, read by attribute: all on but those named."""
    assert not set(without) - RULES.keys(), without
    return SimpleNamespace(**{attribute(name): name not in without for name in RULES})


def attribute(name: str) -> str:
    """Turns a rule's name into the attribute that says whether it stands."""
    return name.replace(" ", "_").replace("-", "_")
