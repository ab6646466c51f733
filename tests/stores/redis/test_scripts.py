"""The Lua scripts: headers that tell the truth, keys that are declared, and what only shows inside a script."""

import re
from collections.abc import AsyncIterator, Iterator
from importlib.resources import files
from typing import Any

import pytest
from redis_harness import RedisHarness
from redis_servers import RedisServer

from trioqueue._errors import Incompatible
from trioqueue._names import Entity
from trioqueue.messages.policy import Lease
from trioqueue.stores.contract import Claimed, Group, Outgoing, PodInfo
from trioqueue.stores.redis import scripts
from trioqueue.stores.redis.store import RedisStore, open_redis_store

LUA = files("trioqueue.stores.redis") / "lua"
FILES = {one.name.removesuffix(".lua"): one.read_text("utf-8") for one in LUA.iterdir() if one.is_file()}
LIBRARY = {one.name.removesuffix(".lua"): one.read_text("utf-8") for one in (LUA / "lib").iterdir()}

CALL = re.compile(r"redis\.p?call\('(\w+)'(?:,\s*([^,()]+(?:\[[^\]]*\])?))?")
READS = {"EXISTS", "HEXISTS", "HMGET", "HGET", "HGETALL", "HKEYS", "HLEN", "GET", "LLEN", "LRANGE", "TIME",
         "INFO", "ZCARD", "ZCOUNT", "ZRANGE", "ZRANGEBYSCORE", "ZSCORE"}  # fmt: skip
WITHOUT_KEY = {"TIME", "INFO", "PUBLISH"}
OPTIONS = {"LIMIT", "WITHSCORES", "NX", "XX", "PX", "INCR"}
ALLOWED_WHEN_FULL = (
    "'HDEL', ",
    "'LTRIM', ",
    "'ZREM', ",
)
"""How a first write may begin that a full server allows."""
WRITING_HELPERS = re.compile(
    r"\b(tick|give|park|own|queue|let_go|tell_marks|begin|hint|mark|put_off|take_out)\("
)

parametrize = pytest.mark.parametrize("name", sorted(FILES))


def split(text: str) -> tuple[str, str]:
    """Gives a script's header and the rest of it."""
    lines = text.splitlines()
    end = next(i for i, line in enumerate(lines) if not line.startswith("--"))
    return "\n".join(lines[:end]), "\n".join(re.sub(r"--.*", "", line) for line in lines[end:])


def included(name: str) -> list[str]:
    return " ".join(re.findall(r"^ *-- include: (.+)$", FILES[name], re.MULTILINE)).split()


def numbers(text: str, array: str) -> set[int]:
    return {int(n) for n in re.findall(rf"{array}\[(\d+)", text)}


def test_every_file_is_a_script_and_every_script_a_file() -> None:
    assert set(scripts.NAMES) == set(FILES)
    assert len(scripts.NAMES) == len(FILES)
    used = {part for name in FILES for part in included(name)}
    assert used == set(LIBRARY)


@parametrize
def test_includes_stand_once_where_they_are_named_and_common_is_the_first(name: str) -> None:
    assert included(name)[0] == "common"
    assert len(set(included(name))) == len(included(name))
    source = scripts.script(name).source
    pieces = re.split(r"^ *-- include: .+$", FILES[name], flags=re.MULTILINE)
    places = [source.index(piece) for piece in pieces]
    assert places == sorted(places)
    assert source.startswith(pieces[0])
    assert source.endswith(pieces[-1])
    assert "-- include:" not in source
    for part in included(name):
        assert source.count(LIBRARY[part].splitlines()[0]) == 1


@parametrize
def test_a_script_has_the_shared_functions_that_it_calls_and_no_other(name: str) -> None:
    """Redis makes each function anew for each call of the script."""
    defines = re.compile(r"^local function (\w+)", re.MULTILINE)
    shared = {one for part in included(name) for one in defines.findall(LIBRARY[part])}
    source = re.sub(r"--.*", "", scripts.script(name).source)
    for one in shared:
        used = len(re.findall(rf"\b{one}\b", source))
        assert (f"local function {one}(" in source) == (used > 0)
        assert used != 1, f"{one} is defined and never called"


@parametrize
@pytest.mark.parametrize("array", ["KEYS", "ARGV"])
def test_headers_name_the_keys_and_arguments(name: str, array: str) -> None:
    header, body = split(FILES[name])
    shared = numbers(split(LIBRARY["common"])[0], array)
    named = numbers(header, array) | shared
    open_end = re.findall(rf"{array}\[(\d*)…\]", header)
    first_open = min((int(n) for n in open_end if n), default=None)
    for number in numbers(body, array):
        assert number in named or (first_open is not None and number > first_open) or "" in open_end, number
    used = numbers(body, array) | {int(n) for n in re.findall(r"\bat = (\d+)", body) if array == "ARGV"}
    for number in numbers(header, array):
        assert number in used or f"{array}[{number}…]" in header, f"{array}[{number}] is not used"


def words_of(text: str) -> set[str]:
    """Finds what a script may reply: words in capitals that are neither commands nor their options."""
    commands = {command for command, _ in CALL.findall(text)}
    return set(re.findall(r"'([A-Z_]{2,})'", text)) - commands - OPTIONS


@parametrize
def test_headers_name_the_replies(name: str) -> None:
    header, body = split(FILES[name])
    returns = header[header.index("Returns") : header.index("-- Keeps")]
    told = set(re.findall(r"\b[A-Z_]{2,}\b", returns))
    replied = words_of(body)
    if "return no\n" in body + "\n":
        replied |= words_of(split(LIBRARY["common"])[1])
    if "begin(" in body:
        claims = words_of(split(LIBRARY["begin"])[1])
        replied |= claims if name == "claim" else set()  # others say "what claim answers"
        assert claims <= told or "what claim answers" in returns
    assert told == replied


@parametrize
def test_headers_name_what_is_kept(name: str) -> None:
    kept = re.search(r"^-- Keeps ((?:[IP]\d+ ?)+)$", FILES[name], re.MULTILINE)
    assert kept
    assert all(1 <= int(one[1:]) <= {"I": 16, "P": 7}[one[0]] for one in kept[1].split())


@parametrize
def test_the_first_write_is_one_that_a_full_server_allows(name: str) -> None:
    """Otherwise a full Redis could not be drained, nor a pod rejoin; send is what has to fail there."""
    _, body = split(FILES[name])
    body = re.sub(r"^( *)(local )?function .*?^\1end\n", "", body, flags=re.MULTILINE | re.DOTALL)
    writes = [found for found in CALL.finditer(body) if found[1] not in READS]
    if name == "send":
        assert not any(f"redis.call({allowed}" in body for allowed in ALLOWED_WHEN_FULL if allowed[1] != "Z")
        return
    if not writes:
        return
    first = writes[0]
    assert body[first.start() :].startswith(tuple(f"redis.call({allowed}" for allowed in ALLOWED_WHEN_FULL))
    assert not WRITING_HELPERS.search(body[: first.start()])


def test_an_entity_is_let_go_of_though_the_server_is_full() -> None:
    callers = [name for name, text in FILES.items() if "let_go(" in split(text)[1]]
    assert sorted(callers) == ["pause", "reap", "release"]
    for name in callers:
        body = split(FILES[name])[1]
        assert body.index("redis.call('HDEL', META, '_')") < body.index("let_go(")


def test_an_entity_is_let_go_of_by_the_write_that_may_raise_first() -> None:
    """Nothing is rolled back: it would be in no index, and its owner still in its hash."""
    first = CALL.search(LIBRARY["place"], LIBRARY["place"].index("local function let_go("))
    assert first
    assert first[1] == "ZADD"


def test_a_section_of_commit_is_applied_from_the_mailbox_on() -> None:
    """It has two first writes, and this is the second one: all others of a section come behind it."""
    _, body = split(FILES["commit"])
    applied = body[body.index("answer = 'TOO_LARGE'") :]
    first = next(found for found in CALL.finditer(applied) if found[1] not in READS)
    assert applied[first.start() :].startswith("redis.call('LTRIM', Q, pops,")


@pytest.mark.parametrize(
    ("name", "text"), [*FILES.items(), *((f"lib/{name}", text) for name, text in LIBRARY.items())]
)
def test_keys_are_never_built(name: str, text: str) -> None:
    for command, key in CALL.findall(split(text)[1]):
        if command in WITHOUT_KEY:
            continue
        assert re.fullmatch(
            r"[A-Z]+|[a-z_]+|(x|child)\.(e|q|s|load|ready|paused)|KEYS\[[a-z0-9 +]+\]", key.strip()
        ), key


@pytest.mark.parametrize(("name", "text"), [*FILES.items(), *LIBRARY.items()])
def test_scripts_leak_no_globals(name: str, text: str) -> None:
    """Redis refuses them, but only where the line is reached."""
    for line in split(text)[1].splitlines():
        if re.match(r"function\b", line):
            raise AssertionError(f"a global function: {line}")


# -------------------------------------------------------------------------------- on a server
A, B = Entity("account", "a"), Entity("account", "b")
INFO = PodInfo("test", frozenset({"account"}), 1000, Lease(ttl=30, heartbeat=10, grace=15))


@pytest.fixture
async def store(each_redis: RedisServer) -> AsyncIterator[RedisStore]:
    async with open_redis_store(each_redis.url, prefix="scripts", unanswered=5.0) as opened:
        yield opened


@pytest.fixture
def client(each_redis: RedisServer) -> Iterator[Any]:
    with each_redis.client() as plain:
        yield plain


@parametrize
def test_scripts_compile(name: str, client: Any) -> None:
    one = scripts.script(name)
    assert client.script_load(one.source) == one.sha


async def test_a_pod_stays_registered_until_it_owns_nothing(store: RedisStore, client: Any) -> None:
    """An owner that is not in the registry would be one that nobody reaps."""
    old = await store.join(INFO)
    await store.send(Group([Outgoing(Entity("account", str(n)), b"1") for n in range(3)]))
    new = await store.join(INFO)
    keys, load = store._keys, store._keys.placement("account")[0]

    def reap(*names: bytes) -> list[bytes]:
        whole: list[str] = []
        arguments: list[str] = []
        for name in names:
            entity = Entity(*name.decode().split("/"))
            whole += (*keys.entity(entity)[:2], *keys.placement("account"))
            arguments += (str(entity), "account")
        used = [*keys.common, load, *whole, keys.paused]
        answer: list[bytes] = client.eval(
            scripts.script("reap").source, len(used), *used,
            keys.channel, *new, old.incarnation, 1, 1, 1, *arguments,
        )  # fmt: skip
        return answer

    word, *rest = reap()
    for _ in range(3):
        assert (word, len(rest)) == (b"MORE", 1)
        assert client.zscore(keys.pods, old.incarnation) == 0, "registered, and leaving"
        assert client.zscore(load, old.incarnation) is None, "nothing is placed with it"
        word, *rest = reap(*rest)
    assert (word, rest) == (b"GONE", [])
    assert client.zscore(keys.pods, old.incarnation) is None
    assert len(await store.owned(new, 0)) == 3


@pytest.mark.parametrize("field", ["layout", "partitions"])
async def test_join_refuses_another_layout(store: RedisStore, client: Any, field: str) -> None:
    await store.join(INFO)
    before = client.hgetall(store._keys.meta)
    client.hset(store._keys.meta, field, 99)
    with pytest.raises(Incompatible, match="99"):
        await store.join(INFO)
    assert client.zcard(store._keys.pods) == 1
    client.hset(store._keys.meta, field, before[field.encode()])
    await store.join(INFO)


async def test_opening_refuses_another_layout(
    each_redis: RedisServer, store: RedisStore, client: Any
) -> None:
    await store.join(INFO)
    client.hset(store._keys.meta, "layout", 99)
    with pytest.raises(Incompatible, match="99"):
        async with open_redis_store(each_redis.url, prefix="scripts", unanswered=5.0):
            pass


async def test_a_join_whose_answer_was_lost_is_found_again(store: RedisStore, client: Any) -> None:
    """The same call once more, as the transport repeats it: one registration, not two."""
    keys = store._keys
    used = [*keys.common, keys.placement("account")[0]]
    arguments = [
        keys.channel,
        "client",
        "0",
        "",
        1,
        1,
        10_000_000,
        30_000_000,
        15_000_000,
        10,
        "test",
        "account",
    ]
    source = scripts.script("join").source
    first = client.eval(source, len(used), *used, *arguments)
    assert first[0] == b"OK"
    assert client.eval(source, len(used), *used, *arguments) == first
    assert client.zcard(keys.pods) == 1
    client.eval(source, len(used), *used, keys.channel, "other", first[1].split(b".")[1], *arguments[3:])
    late = client.eval(source, len(used), *used, keys.channel, "late", "0", *arguments[3:])
    assert late[0] == b"TICKET", "a copy that runs after its caller has left"


async def test_harness_sees_what_the_scripts_wrote(each_redis: RedisServer) -> None:
    """A harness that reads nothing would find every audit green."""
    harness = RedisHarness(each_redis)
    async with harness.open_store() as one:
        member = await one.join(INFO)
        await one.send(Group([Outgoing(A, b"1"), Outgoing(B, b"2")]))
        world = await harness.world()
        assert set(world.entities) == set(world.owned) == set(world.wake) == {A, B}
        assert world.pods == {member.incarnation: frozenset({"account"})}
        assert world.loads == {("account", member.incarnation): 2}
        assert world.leftovers


@pytest.mark.parametrize("kept_in", ["floor", "entity"])
async def test_epochs_rise_though_the_clock_was_set_back(
    store: RedisStore, client: Any, kept_in: str
) -> None:
    """The floor outlives idle entities, and an entity's own epoch a lost floor; TIME alone would fall behind both."""
    member = await store.join(INFO)
    await store.send(Group([Outgoing(A, b"1"), Outgoing(B, b"1")]))
    first = await store.claim(member, A)
    assert isinstance(first, Claimed)
    ahead = first.epoch + 3_600_000_000
    if kept_in == "floor":
        client.hset(store._keys.meta, "epoch_floor", ahead)
    else:
        client.hset(store._keys.entity(A)[0], "epoch", ahead)
    epochs = [ahead]
    for entity in (A, B, A):
        claimed = await store.claim(member, entity)
        assert isinstance(claimed, Claimed)
        epochs.append(claimed.epoch)
    assert epochs == sorted(set(epochs))
