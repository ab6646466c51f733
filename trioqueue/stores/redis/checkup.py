"""Looks at a server and a fleet as they are, for `trioqueue check`: what is wrong, and what to do about it.

Opening refuses a server at the first thing that is wrong with it.  Here all of it is to be told at once, so this goes
below the front door: over a connection of its own it asks one thing after another, and a refusal is an answer like
any other.  What was answered is then judged by `diagnosis.py`, without I/O.

Nothing is changed: the rights are tried as at every opening, with one key that is gone again before anybody sees it.
"""

import time
from collections.abc import Mapping
from typing import Any, cast

import attrs
import hiredis
import redis.exceptions
import trio

from trioqueue._errors import BadUrl, StoreUnavailable
from trioqueue.stores.redis.address import Address, parse_address
from trioqueue.stores.redis.diagnosis import diagnose, first_refusal
from trioqueue.stores.redis.findings import Clock, Finding, Seen
from trioqueue.stores.redis.keys import Keys
from trioqueue.stores.redis.replies import registrations
from trioqueue.stores.redis.resp import NOT_ENOUGH, Packable, open_parser, pack
from trioqueue.stores.redis.scripts import script
from trioqueue.stores.redis.wire import Wire, WireBroken, dial
from trioqueue.stores.reports import Registrations

ANSWERS_WITHIN = 5.0
"""Seconds for each answer, as for a pod's: a server that takes longer is one that pods give up."""

PROBES = 20
"""Questions for the time: the quickest of so many met no other work on its way."""

SETTINGS = (
    "appendfsync",
    "save",
    "timeout",
    "min-replicas-to-write",
    "stop-writes-on-bgsave-error",
    "maxclients",
)
"""What INFO does not tell.  Asked one by one, as Redis 6.2 takes no more, and by no pattern, as some are secrets."""


async def check(url: str, prefix: str) -> list[Finding]:
    """Looks at the server and at what is stored under the prefix, and tells the worst first.

    Whatever goes wrong is a finding and no error.  Cancelled: nothing has changed.
    """
    try:
        address = parse_address(url)
    except BadUrl as error:
        return [Finding("url", "error", str(error), "Write it as the reference of URLs says.")]
    keys = Keys(prefix)
    seen = Seen(str(address))
    try:
        with trio.fail_after(ANSWERS_WITHIN):
            wire = await dial(address)
    except (StoreUnavailable, trio.TooSlowError) as error:
        why = error.reason if isinstance(error, StoreUnavailable) else f"no answer in {ANSWERS_WITHIN:g} s"
        return diagnose(attrs.evolve(seen, broken=why))
    try:
        return diagnose(await _look(_Line(wire), address, keys, seen))
    finally:
        wire.close()


class _Line:
    """A connection on which one thing is asked after another."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._parser = open_parser()

    async def ask(self, *words: Packable) -> Any:
        """Asks, and returns the answer, which may be the server's error.

        Raises:
            WireBroken: There is none.
        """
        with trio.move_on_after(ANSWERS_WITHIN):
            await self._wire.send(pack(words))
            while True:
                try:
                    reply = cast("object", self._parser.gets())
                except hiredis.ProtocolError as error:
                    raise WireBroken(f"what answers is no Redis ({error})") from error
                if reply is not NOT_ENOUGH:
                    return reply
                self._parser.feed(await self._wire.receive())
        raise WireBroken(f"no answer to {words[0]!s} in {ANSWERS_WITHIN:g} s")


async def _look(line: _Line, address: Address, keys: Keys, seen: Seen) -> Seen:
    """Asks for all that there is to see; what a connection that breaks has shown until then stays."""
    found: dict[str, Any] = {}
    try:
        found["refused"] = await _greet(line, address)
        if found["refused"] is not None:
            return attrs.evolve(seen, **found)
        info = await line.ask("INFO")
        if isinstance(info, bytes):
            found["info"] = _fields(info)
        elif (refusal := first_refusal(info)) is not None:  # nothing else would be answered either
            return attrs.evolve(seen, refused=refusal)
        found["clock"] = await _clock(line)
        found["settings"] = await _settings(line)
        found["stored"], found["foreign"] = await _stored(line, keys)
        if not found["foreign"]:
            found["fleet"] = await _fleet(line, keys)
        found["lacking"], found["trouble"] = await _rights(line, keys)
        if "info" not in found:
            found["lacking"] = ("+info", *found["lacking"])
    except WireBroken as error:
        found["broken"] = str(error)
    return attrs.evolve(seen, **found)


async def _greet(line: _Line, address: Address) -> str | None:
    """Says who we are; answers why we are not let in.  A server that is too old for HELLO is asked in the old way."""
    who: tuple[str, ...] = ()
    if address.username is not None or address.password is not None:
        who = ("AUTH", address.username or "default", address.password or "")
    said = await line.ask("HELLO", "3", *who)
    if _says(said, "unknown command", "NOPROTO") and who:
        said = await line.ask("AUTH", *(who[1:] if address.username else who[2:]))
    elif not isinstance(said, (dict, redis.exceptions.RedisError)):
        return "what answers there does not greet as a Redis does"
    if isinstance(said, redis.exceptions.RedisError) and not _says(said, "unknown command", "NOPROTO"):
        return f"{type(said).__name__}: {said}"
    if address.db:
        said = await line.ask("SELECT", address.db)
        if isinstance(said, redis.exceptions.RedisError):
            return f"database {address.db}: {said}"
    return None


def _says(answer: object, *words: str) -> bool:
    return isinstance(answer, redis.exceptions.RedisError) and any(
        word.lower() in str(answer).lower() for word in words
    )


def _fields(info: bytes) -> dict[str, str]:
    lines = info.decode(errors="replace").splitlines()
    return {name: value for name, colon, value in (line.partition(":") for line in lines) if colon}


async def _clock(line: _Line) -> Clock | None:
    """Compares the server's clock with ours, by the quickest of some answers: it was read about half-way."""
    best: Clock | None = None
    for _ in range(PROBES):
        before, begun = time.time(), time.monotonic()
        answer = await line.ask("TIME")
        trip = time.monotonic() - begun
        if not isinstance(answer, list):
            return None
        seconds, micros = (int(cast("bytes", part)) for part in cast("list[object]", answer))
        now_us = seconds * 1_000_000 + micros
        if best is None or trip < best.trip:
            best = Clock(now_us, now_us / 1e6 - (before + trip / 2), trip)
    return best


async def _settings(line: _Line) -> dict[str, str] | None:
    """Reads settings; None: this user may not, or the provider hides them."""
    found: dict[str, str] = {}
    for name in SETTINGS:
        answer = _pairs(await line.ask("CONFIG", "GET", name))
        if answer is None:
            return None
        found |= {_text(key): _text(value) for key, value in answer.items()}
    return found


async def _stored(line: _Line, keys: Keys) -> tuple[dict[str, str], tuple[str, ...]]:
    """Reads what is known of all together, and which keys are of a kind that is none of ours."""
    foreign: list[str] = []
    meta = await line.ask("HGETALL", keys.meta)
    if _says(meta, "WRONGTYPE"):
        foreign.append(keys.meta)
    stored = {_text(key): _text(value) for key, value in (_pairs(meta) or {}).items()}
    types = {field.partition(":")[2] for field in stored if field.startswith(("ready:", "dead:"))}
    sets = [keys.pods, keys.owned, keys.wake, keys.marked, keys.later[0], keys.paused, keys.watchers]
    hashes = [keys.fleet, keys.later[1], keys.schedule]
    for entity_type in sorted(types):
        sets += [*keys.placement(entity_type), keys.dead(entity_type)[0]]
        hashes.append(keys.dead(entity_type)[1])
    for command, name in (*(("ZCARD", one) for one in sets), *(("HLEN", one) for one in hashes)):
        if _says(await line.ask(command, name), "WRONGTYPE"):
            foreign.append(name)
    return stored, tuple(foreign)


async def _fleet(line: _Line, keys: Keys) -> Registrations | None:
    """Reads which pods are registered; None: it can't be."""
    answer = await line.ask("EVAL", script("pods").source, len(keys.common), *keys.common, keys.channel)
    return None if isinstance(answer, redis.exceptions.RedisError) else registrations(answer)


async def _rights(line: _Line, keys: Keys) -> tuple[tuple[str, ...], str]:
    """Tries all that is needed: what is denied, as ACL SETUSER takes it, and why else nothing can be written."""
    rights, lacking, trouble = script("rights"), list[str](), ""
    named = [*keys.common, *keys.one_of_each()]
    if _is_denial(await line.ask("SCRIPT", "LOAD", rights.source)):
        lacking.append("+script|load")
    for command, what in (("EVAL", rights.source), ("EVALSHA", rights.sha)):
        answer = await line.ask(command, what, len(named), *named, keys.channel)
        if _is_denial(answer):
            lacking.append(f"+{command.lower()}" if "run the" in str(answer) else f"~{keys.pattern}")
        elif isinstance(answer, list):
            names = [name.decode() for name in cast("list[bytes]", answer)]
            lacking += [f"+{name}" for name in names]
            lacking += [f"&{keys.pattern}"] * ("publish" in names)
        elif isinstance(answer, redis.exceptions.RedisError) and not _says(answer, "No matching script"):
            trouble = str(answer)
    # Last: from here on, the connection is one that listens.
    answer = await line.ask("SUBSCRIBE", f"{keys.channel}check")
    if _is_denial(answer):
        lacking.append("+subscribe" if "run the" in str(answer) else f"&{keys.pattern}")
    return tuple(dict.fromkeys(lacking)), trouble


def _is_denial(answer: object) -> bool:
    return isinstance(answer, redis.exceptions.NoPermissionError)


def _pairs(answer: Any) -> Mapping[Any, Any] | None:
    """Reads a map, which a server that is too old for maps gives as a list; None: it is an error."""
    if isinstance(answer, list):
        flat = cast("list[Any]", cast("object", answer))
        return dict(zip(flat[::2], flat[1::2], strict=True))
    return cast("Mapping[Any, Any]", answer) if isinstance(answer, dict) else None


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
