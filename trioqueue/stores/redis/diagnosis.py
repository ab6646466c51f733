"""What follows from what `checkup.py` has seen of a server: findings, each with its remedy.

Each judgement is a function of its own over what was seen, without I/O; what was not seen it leaves alone.
"""

import re
from collections.abc import Callable, Iterator

import redis.exceptions

from trioqueue.stores.redis.findings import LEVELS, Finding, Seen, count, number, size
from trioqueue.stores.redis.fleet_diagnosis import judge_fleet, judge_layout
from trioqueue.stores.redis.greeting import OLDEST

NEARLY_FULL = 0.85
"""Share of `maxmemory`, or of `maxclients`, from which on there is little time left to act."""

SLOW_TRIP = 0.005
"""Seconds for a request: a network between two zones needs a third of it, and a call needs several."""

TOO_SLOW_TRIP = 0.1
"""Seconds for a request beyond which a heartbeat of each second has little room."""

CLOCK_APART = 1.0
"""Seconds: below it, nobody who sends something `at` a time sees a difference."""

LONGEST_BEAT = 3
"""Seconds: connections that a `timeout` of so few may cut are those that beat each second."""

LATE_REPLICA = 10
"""Seconds since a replica's last word; it says one each second."""


Judgement = Callable[[Seen], Iterator[Finding]]


def diagnose(seen: Seen) -> list[Finding]:
    """Judges all that was seen, the worst first."""
    found = [finding for judge in JUDGEMENTS for finding in judge(seen)]
    if seen.trouble and not any(one.level == "error" for one in found if one.name != "rights"):
        found.append(
            Finding(
                "writing",
                "error",
                f"It refuses to write: {seen.trouble}.",
                "Repair what it says; until then sends and commits are refused too.",
            )
        )
    return sorted(found, key=lambda one: LEVELS.index(one.level))


def first_refusal(answer: object) -> str | None:
    """Says why a server answers nothing now; None: it is only that this user may not ask this."""
    if isinstance(answer, redis.exceptions.NoPermissionError):
        return None
    return f"{type(answer).__name__}: {answer}" if isinstance(answer, redis.exceptions.RedisError) else None


# ------------------------------------------------------------------------------------ the server
def _judge_connection(seen: Seen) -> Iterator[Finding]:
    if seen.broken is not None and not seen.info:
        between = "check what lies between"
        if seen.address.startswith("redis") and "refused" not in seen.broken:
            between += ", and the scheme: rediss:// where it speaks TLS, redis:// where it does not"
        yield Finding(
            "connection",
            "error",
            f"No Redis answers at {seen.address}: {seen.broken}.",
            f"Start it, or correct the URL; {between}.",
        )
    elif seen.broken is not None:
        yield Finding(
            "connection",
            "error",
            f"The connection broke before all was looked at: {seen.broken}.",
            "Look into the log of the server and at what lies between, and check again.",
        )
    if seen.refused is not None:
        yield _refusal(seen.address, seen.refused)


def _refusal(address: str, said: str) -> Finding:
    kind, _, text = said.partition(": ")
    if kind.startswith(("Authentication", "NoPermission")) or "WRONGPASS" in text or "NOAUTH" in text:
        return Finding(
            "password",
            "error",
            f"{address} knows no such user and password: {text}.",
            "Correct them in the URL, where an @ in them is written as %40, or the user with ACL SETUSER.",
        )
    if "protected mode" in text:
        return Finding(
            "password",
            "error",
            f"{address} takes local clients only, as it is in protected mode.",
            "Give it a password or users, and put them into the URL.",
        )
    if "max number of clients" in text:
        return Finding(
            "clients",
            "error",
            f"{address} has no room for another client.",
            "Raise maxclients, and the limit of open files of its process; see with CLIENT LIST who has them.",
        )
    if text.startswith("BUSY") or "busy running a script" in text.lower():
        return Finding(
            "busy",
            "error",
            f"{address} runs a script that does not end, and serves nobody meanwhile.",
            "End it with SCRIPT KILL, and find whose it is with SLOWLOG GET: none of trioqueue's takes that long.",
        )
    if kind.startswith("database"):
        return Finding(
            "database", "error", f"{address}: {said}.", "Correct the database's number in the URL."
        )
    if not text:
        return Finding("version", "error", f"At {address}, {said}.", "Correct the URL.")
    return Finding("connection", "error", f"{address} does not serve us now: {text}.", "Repair what it says.")


def _judge_version(seen: Seen) -> Iterator[Finding]:
    if not seen.info:
        return
    version, oldest = seen.info.get("redis_version", ""), ".".join(map(str, OLDEST[:2]))
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:3])
    if not numbers:
        yield Finding(
            "version",
            "error",
            "What answers does not name its version, as a Redis does.",
            f"Correct the URL, or use Redis {oldest} or newer.",
        )
    elif numbers < OLDEST:
        yield Finding(
            "version",
            "error",
            f"It is Redis {version}, and {oldest} or newer is needed.",
            "Update it: its data can be taken along.",
        )
    else:
        yield Finding("version", "well", f"It is Redis {version}.")


def _judge_role(seen: Seen) -> Iterator[Finding]:
    if seen.info.get("loading", "0") != "0":
        yield Finding(
            "loading",
            "error",
            f"It still reads its data from disk ({seen.info.get('loading_loaded_perc', '?')} %).",
            "Wait until that is done.",
        )
    if seen.info.get("role") == "slave":
        primary = f"{seen.info.get('master_host')}:{seen.info.get('master_port')}"
        yield Finding(
            "role",
            "error",
            f"It is a replica of {primary}, and only its primary takes writes.",
            f"Use the URL of the primary, which it says is {primary}, or a name that moves with it.",
        )
    elif "role" in seen.info:
        yield from _replicas(seen)
    if seen.info.get("cluster_enabled") == "1":
        yield Finding(
            "cluster",
            "error",
            "It is in cluster mode, where a prefix can move to another server while pods run.",
            "Use a Redis without cluster-enabled.",
        )


def _replicas(seen: Seen) -> Iterator[Finding]:
    fields = [value for name, value in seen.info.items() if re.fullmatch(r"slave\d+", name)]
    replicas = [dict(re.findall(r"(\w+)=([^,]*)", value)) for value in fields]
    wanted = int((seen.settings or {}).get("min-replicas-to-write", "0"))
    good = int(seen.info.get("min_slaves_good_slaves", len(replicas)))
    if wanted > good:
        yield Finding(
            "replicas",
            "error",
            f"It takes nothing: min-replicas-to-write is {wanted}, and {good} are near enough.",
            "Attach replicas, or lower min-replicas-to-write.",
        )
        return
    late = [
        f"{one['ip']}:{one['port']}"
        for one in replicas
        if one.get("state") != "online" or int(one.get("lag", "0")) > LATE_REPLICA
    ]
    if late:
        yield Finding(
            "replicas",
            "warning",
            f"{count(len(late), 'replica')} ({', '.join(late)}) {_is(late)} behind: what is accepted now would be "
            "lost with this server.",
            "Look at the network and the log of the replica.",
        )
    if replicas and not wanted and seen.settings is not None:
        yield Finding(
            "replicas",
            "hint",
            "Cut off from its replicas, it would go on taking what a failover then loses: min-replicas-to-write is 0.",
            'Set min-replicas-to-write 1, or open with durability="replica" where it matters.',
        )
    elif not late:
        attached = f"{count(len(replicas), 'replica')} attached." if replicas else "No replica is attached."
        yield Finding("replicas", "well", attached)


def _judge_memory(seen: Seen) -> Iterator[Finding]:
    policy = seen.info.get("maxmemory_policy")
    if policy not in (None, "noeviction"):
        yield Finding(
            "eviction",
            "error",
            f"It evicts keys when it is full (maxmemory-policy {policy}), and with them accepted commands.",
            "Set maxmemory-policy noeviction, with CONFIG SET and in its configuration file.",
        )
    elif policy is not None:
        yield Finding("eviction", "well", "When it is full, it refuses and forgets nothing (noeviction).")
    if "maxmemory" not in seen.info:
        return
    limit, used = int(seen.info["maxmemory"]), int(seen.info.get("used_memory", "0"))
    if not limit:
        yield Finding(
            "memory",
            "hint",
            f"It has no maxmemory, and uses {size(used)}: it would grow until the system ends it.",
            "Set maxmemory to about half of what the machine gives it, as it may need twice that while it saves.",
        )
    elif used >= limit * NEARLY_FULL:
        full = used >= limit
        yield Finding(
            "memory",
            "error" if full else "warning",
            f"It {'is full' if full else 'is nearly full'}: {size(used)} of {size(limit)} are used"
            f"{', and sends get StoreFull' * full}.",
            "Raise maxmemory, or find what fills it: trioqueue ls, trioqueue dead ls, and redis-cli --bigkeys.",
        )
    else:
        yield Finding("memory", "well", f"{size(used)} of {size(limit)} are used.")


def _judge_persistence(seen: Seen) -> Iterator[Finding]:
    if "aof_enabled" not in seen.info:
        return
    appends, known = seen.info["aof_enabled"] == "1", seen.settings
    fsync, save = (known or {}).get("appendfsync"), (known or {}).get("save")
    if not appends and known is not None and not save:
        yield Finding(
            "persistence",
            "error",
            "It keeps nothing on disk: all that was accepted is lost when its process ends.",
            "Set appendonly yes and appendfsync everysec, with CONFIG SET and in its configuration file.",
        )
    elif not appends:
        how = f"snapshots (save {save})" if save else "snapshots at most"
        yield Finding(
            "persistence",
            "warning",
            f"It keeps {how}: what was accepted since the last one is lost when its process ends.",
            "Set appendonly yes and appendfsync everysec, with CONFIG SET and in its configuration file.",
        )
    elif fsync == "no":
        yield Finding(
            "persistence",
            "warning",
            "Its append-only file reaches the disk when the system likes (appendfsync no): a power cut loses the last "
            "half minute or so.",
            "Set appendfsync everysec.",
        )
    else:
        yield Finding("persistence", "well", f"It keeps an append-only file{f' ({fsync})' if fsync else ''}.")
    yield from _disk(seen)


def _disk(seen: Seen) -> Iterator[Finding]:
    if seen.info.get("aof_last_write_status") == "err":
        yield Finding(
            "disk",
            "error",
            "It cannot write its append-only file, and takes nothing until it can.",
            "Make room on its disk, and look into its log.",
        )
    if seen.info.get("rdb_last_bgsave_status") == "err":
        stops = (
            (seen.settings or {}).get("stop-writes-on-bgsave-error") == "yes"
            and bool((seen.settings or {}).get("save"))
        )  # fmt: skip
        yield Finding(
            "disk",
            "error" if stops else "warning",
            f"Its last snapshot failed{', and it takes nothing until one succeeds' * stops}.",
            "Make room on its disk and in its memory, and look into its log.",
        )


def _judge_clients(seen: Seen) -> Iterator[Finding]:
    known, connected = seen.settings or {}, int(seen.info.get("connected_clients", "0"))
    most = int(known.get("maxclients", "0"))
    if most and connected >= most * NEARLY_FULL:
        yield Finding(
            "clients",
            "warning",
            f"It has {count(connected, 'client')}, and takes {most}; a pod is two.",
            "Raise maxclients, and the limit of open files of its process; see with CLIENT LIST who has them.",
        )
    timeout = int(known.get("timeout", "0"))
    if timeout:
        cuts = timeout <= LONGEST_BEAT
        yield Finding(
            "timeout",
            "warning" if cuts else "hint",
            f"It cuts connections that are idle for {timeout} s"
            f"{', heartbeats among them' * cuts}: each is opened again, at the cost of time.",
            "Set timeout 0: tcp-keepalive finds connections that are dead.",
        )


def _judge_clock(seen: Seen) -> Iterator[Finding]:
    if seen.clock is None:
        return
    ahead, doubt = seen.clock.ahead, seen.clock.trip / 2
    if abs(ahead) - doubt > CLOCK_APART:
        yield Finding(
            "clock",
            "warning",
            f"Its clock is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} this machine's: "
            "recurring commands come by its clock, and what is sent `at` a time by that of the machine that sends.",
            "Have both kept by NTP, and see with `timedatectl` which of them is wrong.",
        )
    back = max(number(seen.stored.get("last_tick")), number(seen.stored.get("incarnations")))
    back -= seen.clock.now_us
    if back > CLOCK_APART * 1e6:
        yield Finding(
            "clock-set-back",
            "warning",
            f"Its clock was set back by {back / 1e6:.0f} s or more since a pod was last heard: what was put off comes "
            "later by as much.",
            "Have it kept by NTP, which slews it; leases and fences are not harmed.",
        )
    if not (abs(ahead) - doubt > CLOCK_APART or back > CLOCK_APART * 1e6):
        yield Finding("clock", "well", f"Its clock and this machine's are {abs(ahead) * 1e3:.1f} ms apart.")
    yield _trip(seen.clock.trip)


def _trip(trip: float) -> Finding:
    took = f"{trip * 1e3:.1f} ms"
    if trip < SLOW_TRIP:
        return Finding("round-trip", "well", f"A request takes {took}.")
    return Finding(
        "round-trip",
        "warning" if trip >= TOO_SLOW_TRIP else "hint",
        f"A request takes {took} at best, and a command needs two or more, one after another.",
        "Run pods near the server, in its zone; where they are, see with SLOWLOG GET and redis-cli --latency.",
    )


# ------------------------------------------------------------------------------------ who we are
def _judge_rights(seen: Seen) -> Iterator[Finding]:
    if seen.lacking:
        first = {"+hdel", "+del", "+eval", "+evalsha"}
        few = any(one in first or one.startswith("~") for one in seen.lacking)
        more = " Check again then: without these, not all could be tried." if few else ""
        yield Finding(
            "rights",
            "error",
            f"This user lacks {' '.join(seen.lacking)}.",
            f"Add that with ACL SETUSER, and keep it with ACL SAVE or in its file.{more}",
        )
    elif seen.lacking is not None and not seen.trouble:
        yield Finding("rights", "well", "This user may do all that is needed.")
    if seen.settings is None and seen.lacking is not None:
        yield Finding(
            "settings",
            "hint",
            "This user may not read settings, so appendfsync, save, timeout, maxclients and min-replicas-to-write were "
            "not looked at.",
            "Grant +config|get to a user for operators, and check as that one; or look with redis-cli.",
        )


JUDGEMENTS: tuple[Judgement, ...] = (
    _judge_connection,
    _judge_version,
    _judge_role,
    _judge_rights,
    judge_layout,
    _judge_memory,
    _judge_persistence,
    _judge_clients,
    _judge_clock,
    judge_fleet,
)
"""In the order in which findings of one level are told."""


def _is(several: list[str]) -> str:
    return "is" if len(several) == 1 else "are"
