"""Names from outside: whatever an entity is called, its keys are its own, and nothing is injected by it."""

import logging
import re
from typing import Any

import attrs
import hiredis
import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st
from redis_servers import RedisServer

from trioqueue import (
    BadDeclaration,
    BadEntityId,
    CallFailed,
    Command,
    Context,
    Entity,
    EntityPolicy,
    Registry,
    Retry,
    command,
    entity_id,
    open_atomic_queues,
    state,
)
from trioqueue._names import MAX_ENTITY_ID, entity_id_text, legal_entity_type
from trioqueue.stores.redis.keys import Keys
from trioqueue.stores.redis.layout import LAYOUT
from trioqueue.stores.redis.replies import entity_of
from trioqueue.stores.redis.resp import pack

LEGAL = [
    "0", "-1", "None", "null", " ", " a ", "a  b", "a/b", "/", "//", "a/", "../../meta", "a:b", ":", "::", "meta",
    "{", "}", "{}", "{tq:0}", "{tq:0}:meta", "}{", "{other:0}:e:account:1", "%", "%s", "%(x)s", "%n%n", "{0}", "{x!r}",
    "*", "?", "[a-z]", "a*b", "\\", "\\r\\n", "'", '"', "'; --", "$(id)", "`id`", "${x}", "<b>", "&amp;",
    "*1", "$3", "+OK", "-ERR no", ":1", ">2", "_", "*3$3SET", "nobody", "v1", "a b c {\"k\": \"done\"}",
    "é", "e\u0301", "ß", "日本語", "🦊", "🏳️‍🌈", "\u202eabc", "\u200b", "\ufeff", "\u00a0", "\ufffd", "\U0010ffff",
    "x" * MAX_ENTITY_ID, "é" * (MAX_ENTITY_ID // 2), "🦊" * (MAX_ENTITY_ID // 4),
]  # fmt: skip

ILLEGAL = [
    "", "\0", "a\0b", "\n", "a\nb", "a\r\nb", "\r\n", "*1\r\n$8\r\nFLUSHALL\r\n", "a\r\n+OK\r\n", "\t", "\x7f",
    "\x1b[31m", "\x85", "\x9b", "\u2028", "\u2029", "\ud800", "\udfff\ud800", "x" * (MAX_ENTITY_ID + 1),
    "é" * (MAX_ENTITY_ID // 2 + 1),
    b"bytes", 1.5, True, None, ("a",), 10**MAX_ENTITY_ID,
]  # fmt: skip

registry = Registry()


@state("thing")
class Thing:
    names: list[str] = attrs.field(factory=list)


@command("thing")
class Note(Command[str]):
    """Answers the name as the handler sees it, and sends it on to an entity of the same name."""

    name: Any = entity_id()


@command("thing")
class Break(Command[None]):
    name: str = entity_id()


@command("thing")
class Hang(Command[None]):
    name: str = entity_id()


@command("copy")
class Copy(Command[None]):
    name: str = entity_id()


@state("copy")
class Copied:
    name: str = ""


@registry.handles(Note)
async def note(command: Note, thing: Thing, context: Context) -> str:
    thing.names.append(context.entity_id)
    context.send(Copy(context.entity_id))
    return context.entity_id


@registry.handles(Break)
async def break_down(_: Break) -> None:
    raise ValueError("as ever")


running: dict[str, trio.Event] = {}


@registry.handles(Hang)
async def hang(command: Hang) -> None:
    try:
        await trio.sleep_forever()
    finally:
        running[command.name].set()


@registry.handles(Copy)
async def copy(command: Copy, copied: Copied) -> None:
    copied.name = command.name


# ------------------------------------------------------------------------------------ through a real server
async def test_every_legal_id_works_from_end_to_end(clean_redis: RedisServer) -> None:
    """From another process's view: with hints for waking and answering, children, and states of its own."""
    answers: dict[str, str] = {}

    async def call(name: str) -> None:
        answers[name] = await sender.call(Note(name))

    async with (
        open_atomic_queues(clean_redis.url, registry=registry) as queues,
        open_atomic_queues(clean_redis.url) as sender,
    ):
        async with trio.open_nursery() as nursery:
            for name in LEGAL:
                nursery.start_soon(call, name)
        assert answers == {name: name for name in LEGAL}
        await queues.wait_settled()
        for name in LEGAL:
            assert await sender.state(Thing, name) == Thing([name])
            assert await sender.state(Copied, name) == Copied(name)
    with clean_redis.client() as client:
        keys = [key.decode() for key in client.keys("*")]
        assert all(key.startswith("{tq:0}:") for key in keys)
        assert len([key for key in keys if key.startswith("{tq:0}:s:thing:")]) == len(LEGAL)
        assert client.hget("{tq:0}:meta", "layout") == b"%d" % LAYOUT, "nobody's id has touched it"


async def test_no_illegal_id_gets_anywhere(clean_redis: RedisServer) -> None:
    async with open_atomic_queues(clean_redis.url) as queues:
        with clean_redis.client() as client:
            before = client.keys("*")
            for name in ILLEGAL:
                for ask in (queues.send, queues.call):
                    with pytest.raises(BadEntityId) as caught:
                        await ask(Note(name))
                    assert str(caught.value).isprintable(), "no log line is broken by it"
                with pytest.raises(BadEntityId):
                    await queues.send_many([Note("fine"), Note(name)])
                with pytest.raises(BadEntityId):
                    await queues.state(Thing, name)
            assert client.keys("*") == before


@pytest.mark.parametrize("name", ["%s%n%(x)s", "{x!r}", "a\u202eb", "{tq:0}:meta", "'; --"])
async def test_what_fails_is_logged_and_buried_under_its_name(
    clean_redis: RedisServer, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    policy = EntityPolicy(retry=Retry(attempts=2, wait_first=0.0))
    async with open_atomic_queues(clean_redis.url, registry=registry, entities={"thing": policy}) as queues:
        with pytest.raises(CallFailed) as caught:
            await queues.call(Break(name))
        assert caught.value.entity == f"thing/{name}"
    told = [
        record
        for record in caplog.records
        if record.levelno >= logging.WARNING and name in record.getMessage()
    ]
    assert [getattr(record, "event", "") for record in told] == ["retry", "dead_letter"]


@pytest.mark.parametrize("name", ["a b", "a/b c", "🦊", "{tq:0}:to:x", "x" * MAX_ENTITY_ID])
async def test_a_cancelled_call_finds_its_handler(clean_redis: RedisServer, name: str) -> None:
    running[name] = trio.Event()
    async with (
        open_atomic_queues(clean_redis.url, registry=registry),
        open_atomic_queues(clean_redis.url) as sender,
    ):
        with trio.move_on_after(0.2):
            await sender.call(Hang(name))
        with trio.fail_after(5):
            await running[name].wait()


@pytest.mark.parametrize("prefix", ["", "a{b", "a}b", "a:b", "a b", "a/b", "a*", "é", "a\n", "x" * 65])
async def test_prefixes_that_could_be_read_otherwise_are_refused(
    clean_redis: RedisServer, prefix: str
) -> None:
    with pytest.raises(BadDeclaration):
        async with open_atomic_queues(clean_redis.url, prefix=prefix):
            pass
    with clean_redis.client() as client:
        assert client.dbsize() == 0


@pytest.mark.parametrize("name", ["", "A", "a:b", "a/b", "a b", "a{b}", "é", "a\n", "1a", "x" * 65])
def test_types_that_could_be_read_otherwise_are_refused(name: str) -> None:
    with pytest.raises(BadDeclaration):
        legal_entity_type(name)


# ------------------------------------------------------------------------------------ in theory
def legal(text: str) -> bool:
    try:
        entity_id_text(text)
    except BadEntityId:
        return False
    return True


TYPES = st.from_regex(re.compile(r"[a-z][a-z0-9_.-]{0,6}", re.ASCII), fullmatch=True)
CONFUSING = st.text(alphabet=" :/{}*?[]\\%e:q:s:0tqmeta$\u202e🦊", min_size=1, max_size=8)
IDS = st.one_of(CONFUSING, st.sampled_from(LEGAL), st.text(min_size=1, max_size=20).filter(legal))
ENTITIES = st.builds(Entity, TYPES, IDS)
KEYS = Keys("tq")


def keys_of(entity: Entity) -> set[str]:
    return {*KEYS.entity(entity)}


@given(ENTITIES, ENTITIES)
@example(Entity("a", "b:c"), Entity("a.b", "c"))
@example(Entity("a", "e:a:b"), Entity("a", "b"))
def test_no_two_entities_share_a_key_or_a_name(one: Entity, other: Entity) -> None:
    assert (one == other) == bool(keys_of(one) & keys_of(other)) == (str(one) == str(other))


@given(ENTITIES, TYPES, st.text(max_size=20))
def test_no_entity_has_a_key_of_another_kind(entity: Entity, kind: str, other: str) -> None:
    elsewhere = [
        *KEYS.common, *KEYS.placement(kind), *KEYS.dead(kind), KEYS.result(other), *KEYS.sequences(other),
        KEYS.channel + other, f"{KEYS.tag}probe",
    ]  # fmt: skip
    assert not keys_of(entity) & set(elsewhere)
    assert len(keys_of(entity)) == 3


@given(ENTITIES, st.sampled_from(["tq", "tq2", "t", "q", "tq.0", "0"]))
def test_every_key_has_the_hash_tag_of_its_prefix_alone(entity: Entity, prefix: str) -> None:
    """A cluster takes what is between the first braces; a script may only touch keys of one such tag."""
    for key in Keys(prefix).entity(entity):
        found = re.match(r"[^{]*\{([^}]+)\}", key)
        assert found
        assert found[1] == f"{prefix}:0"


@given(ENTITIES)
def test_a_name_is_read_back_as_it_was_written(entity: Entity) -> None:
    assert entity_of(str(entity).encode()) == entity
    assert entity_id_text(entity.id) == entity.id


@given(st.lists(st.one_of(IDS, st.sampled_from([text for text in ILLEGAL if isinstance(text, str)]))
                .filter(lambda text: text.isprintable() or "\ud800" not in text and "\udfff" not in text),
                min_size=1, max_size=5))  # fmt: skip
def test_no_argument_is_ever_read_as_two(arguments: list[str]) -> None:
    """Even what is refused long before could not break out of its place: lengths are told first."""
    reader = hiredis.Reader(encoding="utf-8")
    reader.feed(pack(tuple(arguments)))
    assert reader.gets() == arguments
    assert reader.gets() is False


@given(st.text(max_size=600))
@example("a\r\n")
@example("x" * 513)
def test_an_id_is_legal_or_refused_with_a_printable_sentence(text: str) -> None:
    try:
        assert entity_id_text(text) == text
    except BadEntityId as error:
        assert str(error).isprintable()  # noqa: PT017  what is legal raises nothing
    else:
        assert not re.search("[\x00-\x1f\x7f-\x9f]", text)
        assert 1 <= len(text.encode()) <= MAX_ENTITY_ID
