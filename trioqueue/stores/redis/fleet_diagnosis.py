"""What follows from what is stored under a prefix: whose it is, which pods there are, and what has work and waits."""

from collections.abc import Iterator

from trioqueue.stores.redis.findings import Finding, Seen, count, number
from trioqueue.stores.redis.layout import LAYOUT, PARTITIONS
from trioqueue.stores.reports import Registration


def judge_layout(seen: Seen) -> Iterator[Finding]:
    """Says whether another release, or another program, wrote what lies there."""
    if seen.foreign:
        yield Finding(
            "keys",
            "error",
            f"Under the prefix lies what another program wrote: {', '.join(seen.foreign)}.",
            "Use another prefix; or remove it, if nobody needs it.",
        )
    differs = [
        f"{what} {seen.stored[what]}, and this trioqueue writes {ours}"
        for what, ours in (("layout", LAYOUT), ("partitions", PARTITIONS))
        if what in seen.stored and seen.stored[what] != str(ours)
    ]
    if differs:
        yield Finding(
            "layout",
            "error",
            f"What is stored under the prefix has {', and '.join(differs)}.",
            "Use another prefix, or the release of trioqueue that wrote it.",
        )
    elif "layout" in seen.stored:
        beat, longest = (number(seen.stored.get(name)) / 1e6 for name in ("heartbeat_us", "max_ttl_us"))
        yield Finding(
            "layout",
            "well",
            f"What is stored has layout {LAYOUT}, which this trioqueue writes; "
            f"pods beat every {beat:g} s, with leases of {longest:g} s at most.",
        )
    elif seen.lacking == () and not seen.foreign and not seen.trouble:  # else it may not have been readable
        yield Finding("layout", "well", "No pod has ever been here.")


def judge_fleet(seen: Seen) -> Iterator[Finding]:
    """Says which pods are silent, and what nobody begins."""
    if seen.fleet is None or seen.stored.get("layout", str(LAYOUT)) != str(LAYOUT):
        return
    now = seen.fleet.now_us
    silent = [pod for pod in seen.fleet.pods if pod.renewed_us and now - pod.renewed_us > pod.silent_us]
    serving = [pod for pod in seen.fleet.pods if pod.renewed_us and pod not in silent]
    for pod in silent:
        yield Finding(
            "silent-pod",
            "warning",
            f"{pod.name} has been silent for {(now - pod.renewed_us) / 1e6:.0f} s with "
            f"{count(pod.owned, 'entity', 'entities')}, and nobody has taken over.",
            f"Start a pod that serves {' '.join(pod.types)}: it takes over within a heartbeat or two.",
        )
    if seen.fleet.quarantine_until_us and seen.fleet.quarantine_until_us > now:
        yield Finding(
            "quarantine",
            "hint",
            "Nothing starts for another "
            f"{(seen.fleet.quarantine_until_us - now) / 1e6:.1f} s: it was restarted or has taken over.",
            "Wait: pods that may not have noticed must have stopped before.",
        )
    yield from _waiting(seen, serving)
    if serving:
        types = sorted({entity_type for pod in serving for entity_type in pod.types})
        yield Finding("pods", "well", f"{count(len(serving), 'pod')} serving {', '.join(types)}.")
    elif not silent:
        yield Finding("pods", "well", "No pod is registered.")


def _waiting(seen: Seen, serving: list[Registration]) -> Iterator[Finding]:
    """Says what has work that nobody begins."""
    held = seen.stored.get("held", "").split()
    for field, value in sorted(seen.stored.items()):
        kind, _, entity_type = field.partition(":")
        waiting = count(number(value), "entity", "entities")
        if kind == "dead" and number(value):
            yield Finding(
                "dead-letters",
                "hint",
                f"{count(number(value), 'command')} of {entity_type} failed for good.",
                f"See why with trioqueue dead ls {entity_type}, then redeliver or discard them.",
            )
        if kind != "ready" or not number(value):
            continue
        able = [pod for pod in serving if entity_type in pod.types]
        if entity_type in held:
            yield Finding(
                "held",
                "hint",
                f"The type {entity_type} is paused, and {waiting} of it have work.",
                f"Resume it with trioqueue resume {entity_type} when it may go on.",
            )
        elif not able:
            yield Finding(
                "unserved",
                "warning",
                f"{waiting} of {entity_type} have work, and no pod serves the type.",
                f"Start a pod whose registry handles {entity_type}.",
            )
        elif all(pod.owned >= pod.room for pod in able):
            yield Finding(
                "room",
                "warning",
                f"{waiting} of {entity_type} have work, and each of {count(len(able), 'pod')} is full.",
                "Start more pods, or raise Limits.owned.",
            )
