"""What the scripts answer, turned into words of the contract and into errors: the only place that knows both."""

import logging
import re
from collections.abc import Sequence
from typing import Any

import redis.exceptions

from trioqueue._errors import (
    AccessDenied,
    Incompatible,
    MailboxFull,
    PayloadTooLarge,
    StoreFull,
    StoreUnavailable,
)
from trioqueue._names import Entity
from trioqueue.protocol.lifecycle import Mode
from trioqueue.stores.contract import (
    NOT_MODIFIED,
    Backoff,
    ClaimAnswer,
    Claimed,
    CommitAnswer,
    Empty,
    Fenced,
    Group,
    Later,
    LeaseLost,
    Next,
    NotClaimed,
    NotYours,
    Parked,
    Paused,
    SendClaimAnswer,
    check_commands,
)
from trioqueue.stores.redis.transport import ServerChanged
from trioqueue.stores.reports import (
    Answered,
    CancelAsked,
    Changed,
    Due,
    Hint,
    Inspection,
    KeepAwake,
    Progress,
    PutOff,
    Queued,
    Registration,
    Registrations,
    Report,
    Silent,
    Told,
    Wake,
    Watched,
    Withdrawal,
)

logger = logging.getLogger("trioqueue.store")


class Wait(Exception):
    """The server is in quarantine: the same request may be taken later."""


LOST = frozenset({b"GENERATION", b"UNREGISTERED"})
"""Words that refuse an incarnation for ever."""

REFUSALS = LOST | {b"WAIT"}
"""Words that refuse a whole call."""

FOREIGN_KEY = "a key with trioqueue's prefix holds something else, choose another prefix"
"""Says that somebody else writes to our keys."""

_PUT_OFF = re.compile(rb"\d+ (\+?\d+) (\d+) ")
"""What stands before the name and the envelope of a command that is put off."""

GOES_ON, PARKED = Next(0, ()), Parked()
"""Say that there is work left, or none, and nothing else, as most answers to a commit do: one object for all."""

WITHDRAWALS: dict[bytes, Withdrawal] = {b"DROPPED": "dropped", b"TOLD": "told", b"LATE": "late"}


def check_word(answer: object) -> None:
    """Raises for the words that refuse a whole call; anything else is let through."""
    if isinstance(answer, bytes):
        if answer in LOST:
            raise LeaseLost(answer.decode().lower())
        if answer == b"WAIT":
            raise Wait


def entity_of(name: bytes) -> Entity:
    """Reads an entity's name as the scripts write it."""
    entity_type, _, entity_id = name.decode().partition("/")
    return Entity(entity_type, entity_id)


class Sieve:
    """Keeps what is no entity's name out of what is read from the indexes.

    No script writes such a name, so something else writes to our keys.  It is not enough to skip it: it would fill the
    pages in which entities are named.  What only looks like a name passes: a claim says that it is nobody's.
    """

    def __init__(self) -> None:
        # Which kinds were warned of.  The loop and the heartbeat's thread both add: at worst one is warned of twice.
        self._told: set[str] = set()

    def sift(self, names: list[bytes]) -> list[bytes]:
        """Removes from the list, and returns, what is no entity's name; warns of each kind once."""
        kinds = {name: kind for name in names if (kind := _wrong(name))}
        if kinds:
            names[:] = [name for name in names if name not in kinds]
        for kind in set(kinds.values()) - self._told:
            self._told.add(kind)
            logger.warning(
                "an index holds what is no entity's name (%s), it is taken out: find out what else writes to our keys",
                kind,
                extra={"event": "stray_name", "kind": kind},
            )
        return list(kinds)


def _wrong(name: bytes) -> str:
    """Says what `entity_of` can't make an entity's name of; "": it can."""
    entity_type, _, entity_id = name.partition(b"/")
    if not (entity_type and entity_id):
        return "no type or no id" if name else "empty"
    try:
        name.decode()
    except UnicodeDecodeError:
        return "not UTF-8"
    return ""


def queued_of(element: bytes) -> Queued:
    """Reads an element of a mailbox; what no script has put there is all envelope, and of no time."""
    accepted, _, data = element.partition(b" ")
    if accepted.isdigit() and len(accepted) <= 16:
        return Queued(int(accepted), data)
    if accepted[:1] == b"+":
        return queued_of(element[1:])._replace(urgent=True)
    return Queued(0, element)


def element_of(queued: Queued) -> bytes:
    """Writes an element of a mailbox as the scripts do."""
    accepted_us, data, urgent = queued
    return b"%s%d %s" % (b"+" if urgent else b"", accepted_us, data) if accepted_us else data


def scored(answer: Any) -> list[tuple[bytes, float]]:
    """Reads members with their scores, which come in pairs by RESP3."""
    return [(member, float(score)) for member, score in answer]


def _texts(ids: Sequence[bytes]) -> tuple[str, ...]:
    return tuple(i.decode() for i in ids) if ids else ()


def hint_of(payload: bytes) -> Hint | None:
    """Reads a hint as the scripts publish it; None: it is none of theirs, and dropped, as any hint may be lost."""
    kind, rest = payload[:1], payload[1:]
    try:
        match kind:
            case b"w":
                return Wake(entity_of(rest))
            case b"r":
                command_id, space, outcome = rest.partition(b" ")
                return Answered(command_id.decode(), outcome if space else None)
            case b"p":
                command_id, _, word = rest.partition(b" ")
                return Progress(command_id.decode(), word)
            case b"t":
                return Due()
            case b"e":
                return Told(rest)
            case b"l":
                return Watched(tuple(rest.decode().split()))
            case b"u":
                return Changed(entity_of(rest))
            case b"k":
                keep_ms, *names = rest.split(b"\n")
                return KeepAwake(tuple(map(entity_of, names)), int(keep_ms) / 1000)
            case b"c":
                command_id, _, name = rest.partition(b" ")
                return CancelAsked(entity_of(name), command_id.decode())
            case _:
                return None
    except ValueError:  # a number that is none, or what is not UTF-8
        return None


def words_of(answer: Any) -> list[Any]:
    """Gives what a send says in order; a single word comes without a list."""
    return [answer] if isinstance(answer, bytes) else answer


def send_answer(group: Group, word: bytes) -> bool | Exception:
    """Reads what a send says of one group: whether it was a duplicate, or why it was refused."""
    if word == b"OK":
        return False
    kind, _, rest = word.partition(b" ")
    match kind:
        case b"TOO_LARGE":
            try:
                check_commands(group.commands)
            except PayloadTooLarge as error:
                return error
            raise AssertionError("the script has another limit")
        case b"FULL":
            name = rest.decode()
            return MailboxFull(name, group.limits[name.partition("/")[0]])
        case b"KNOWN":
            group.first_id = rest.decode(errors="replace")  # a stranger may have written it
        case _:
            assert kind == b"DUPLICATE", word
    return True


_LAYOUTS = {b"CLAIMED": (10, 2), b"EMPTY": (2, 0), b"BACKOFF": (2, 0), b"NEXT": (2, 2)}
"""Words with which more belongs, as the scripts say: how many parts, the word among them, and how many lists behind."""


def answers_of(flat: list[Any]) -> list[Any]:
    """Takes apart what a script says of several sections in one list: a word of each, or a list that begins with it."""
    answers: list[Any] = []
    at, end = 0, len(flat)
    while at < end:
        layout = _LAYOUTS.get(flat[at])
        if layout is None:
            answers.append(flat[at])
            at += 1
            continue
        parts, lists = layout
        answer = flat[at : at + parts]
        at += parts
        for _ in range(lists):
            first = at + 1
            at = first + flat[at]
            answer.append(flat[first:at])
        answers.append(answer)
    assert at == end, flat[:1]
    return answers


def claim_answer(answer: Any) -> ClaimAnswer:
    """Reads what claim says of one entity."""
    if answer == b"PAUSED":
        return Paused()
    if answer == b"LATER":
        return Later()
    if answer == b"NOT_YOURS":
        return NotYours()
    match answer[0]:
        case b"CLAIMED":
            _, epoch, done, now, version, state, attempts, crashes, proven, unknown, cancels, batch = answer
            return Claimed(
                epoch=int(epoch),
                done=int(done),
                now_us=now,
                batch=tuple(map(queued_of, batch)),
                state=NOT_MODIFIED if state == 1 else state,
                state_version=version.decode(),
                attempts=int(attempts),
                crashes=crashes,
                proven=proven == 1,
                unknown_us=unknown,
                cancels=_texts(cancels),
            )
        case b"EMPTY":
            return Empty(int(answer[1]))
        case _:
            assert answer[0] == b"BACKOFF", answer
            return Backoff(answer[1] / 1e6)


def inspection(answer: Any) -> Inspection:
    """Reads what inspect found."""
    now, flat, queued, head, state, name, renewed, ready, held, quarantine, silent = answer
    fields = dict(zip(flat[::2], flat[1::2], strict=True))

    def number(field: bytes) -> int | None:
        return int(fields[field]) if field in fields else None

    since, _, why = fields.get(b"paused", b"").partition(b" ")
    held_since, _, held_why = (held or b"").partition(b" ")
    full_since, _, full_limit = fields.get(b"full", b"").partition(b" ")
    return Inspection(
        now_us=now,
        mode=Mode(fields.get(b"mode", b"idle").decode()),
        owner=fields[b"owner"].decode() if b"owner" in fields else None,
        owner_name=name.decode() if name else None,
        owner_renewed_us=round(float(renewed)) if renewed else None,
        epoch=number(b"epoch") or 0,
        queued=queued,
        head=queued_of(head) if head else None,
        attempts=number(b"attempts") or 0,
        crashes=number(b"crashes") or 0,
        due_us=number(b"due"),
        unknown_since_us=number(b"unknown"),
        ready_since_us=round(float(ready)) if ready else None,
        paused_since_us=int(since) if since else None,
        paused_why=why.decode(),
        held=held is not None,
        held_since_us=int(held_since) if held_since.isdigit() else None,
        held_why=held_why.decode(),
        state_bytes=state,
        full_since_us=int(full_since) if full_since else None,
        full_limit=int(full_limit or 0),
        quarantine_until_us=int(quarantine) if quarantine else None,
        owner_silent_us=int(silent) if silent else None,
    )


def registrations(answer: Any) -> Registrations:
    """Reads what pods found."""
    now, quarantine, *pods = answer
    return Registrations(
        now,
        tuple(
            Registration(
                incarnation=incarnation.decode(errors="replace"),  # a stranger may have put anything there
                name=name.decode(),
                types=tuple(types.decode().split()),
                room=int(room),
                renewed_us=int(renewed),
                silent_us=int(silent),
                owned=owned,
                with_work=with_work,
            )
            for incarnation, name, types, room, renewed, silent, owned, with_work in pods
        ),
        int(quarantine) if quarantine else None,
    )


def put_off_of(due_us: int, command_id: bytes, kept: bytes) -> tuple[bytes, PutOff] | None:
    """Reads what is kept of a command that is put off, with its entity's name; None: no script has put it there."""
    found = _PUT_OFF.match(kept)
    if found is None:
        return None
    size = int(found[2])
    name, data = kept[found.end() : found.end() + size], kept[found.end() + size :]
    return name, PutOff(due_us, command_id.decode(), queued_of(found[1] + b" " + data))


def counters(meta: dict[bytes, bytes]) -> tuple[int, int, int]:
    """Reads from `meta` how many entities are ready, likewise of types that are held back, and the dead letters."""
    held_types = meta.get(b"held", b"").split()
    ready = held = dead = 0
    for field, value in meta.items():
        kind, _, entity_type = field.partition(b":")
        if kind == b"ready" and entity_type in held_types:
            held += int(value)
        elif kind == b"ready":
            ready += int(value)
        elif kind == b"dead":
            dead += int(value)
    return ready, held, dead


def send_claim_answer(answer: Any) -> SendClaimAnswer:
    """Reads what a send says of one wish."""
    return NotClaimed() if answer == b"NOT_CLAIMED" else claim_answer(answer)


def commit_answer(answer: Any) -> CommitAnswer:
    """Reads what commit says of one section."""
    if answer == b"ON":
        return GOES_ON
    if answer == b"PARKED":
        return PARKED
    if answer == b"FENCED":
        return Fenced()
    if answer == b"PAUSED":
        return Paused()
    if answer[0] == b"BACKOFF":
        return Backoff(answer[1] / 1e6)
    _, now, cancels, batch = answer
    return Next(now, tuple(map(queued_of, batch)), _texts(cancels))


def report(answer: Any, types: frozenset[str], asked_at: float) -> Report:
    """Reads what beat found."""
    owned, wakes, marked, ready, room, silent, wait, watched = answer
    waiting = tuple(entity for entity in map(entity_of, ready) if entity.type in types)
    return Report(
        owned=owned,
        wakes=tuple(map(entity_of, wakes)),
        cancels=tuple(map(entity_of, marked)),
        ready=waiting[: max(room, 0)],
        pressed=bool(waiting) and room <= 0,
        silent=tuple(
            Silent(incarnation.decode(), tuple(pod_types.decode().split()))
            for incarnation, pod_types in zip(silent[::2], silent[1::2], strict=True)
        ),
        due_in=None if wait < 0 else wait / 1e6,
        watched=_texts(watched),
        asked_at=asked_at,
    )


def user_error(error: Exception, address: str) -> Exception:
    """Turns an error of the server or the link into one that a user can act on."""
    if isinstance(error, ServerChanged):
        return LeaseLost("the server is another one")
    if not isinstance(error, redis.exceptions.RedisError):
        return error
    text = str(error)
    # An error of a command in a script begins with the command's own word from Redis 7 on; 6.2 has it in the middle.
    if isinstance(error, redis.exceptions.OutOfMemoryError) or text.startswith("OOM") or "-OOM " in text:
        return StoreFull(address)
    # In a script, only some versions give this error its word; the last sentence is that of 6.2.
    denied = ("ACL failure in script", "user executing the script can't")
    if isinstance(error, redis.exceptions.NoPermissionError) or any(words in text for words in denied):
        return AccessDenied(f"this user lacks a right it needs ({text}), grant it in the ACL rules")
    if isinstance(error, redis.exceptions.ReadOnlyError) or "-READONLY " in text:
        return StoreUnavailable(address, "it is a read-only replica")
    if "NOREPLICAS" in text:
        return Incompatible("it takes nothing without the replicas of its min-replicas-to-write, attach them")
    if "WRONGTYPE" in text:
        return Incompatible(FOREIGN_KEY)
    return StoreUnavailable(address, text)
