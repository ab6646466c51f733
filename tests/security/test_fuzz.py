"""What a broken or hostile client writes straight into Redis: refused with our own errors, and never a pod's end.

Each piece is random, from a seed that a failing test names, and half of them begin as something real.
"""

import base64
import json
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import pytest
import redis
import trio
from hypothesis import example, given
from hypothesis import strategies as st
from redis_servers import RedisServer

from trioqueue import (
    AtomicQueues,
    CallFailed,
    Command,
    DecodeError,
    Entity,
    EntityPolicy,
    Lease,
    Registry,
    Rejected,
    Rejection,
    Retry,
    TrioqueueError,
    command,
    entity_id,
    open_atomic_queues,
    state,
)
from trioqueue.messages.codec import Codec
from trioqueue.messages.envelope import Envelope, decode_envelope, encode_envelope
from trioqueue.messages.state import read_state
from trioqueue.stores.contract import CHUNK, PAGE
from trioqueue.stores.redis.keys import Keys

KEYS = Keys("tq")
PIECES = 250
"""Pieces a test throws at the server: all kinds below come several times."""

registry = Registry()


@attrs.frozen
class Circle:
    radius: float = 1.0


@attrs.frozen
class Square:
    side: float = 1.0
    inner: "Square | Circle | None" = None


@attrs.frozen
class Unregistered:
    """Looks like the others, and no command has it."""

    side: float = 1.0

    def __attrs_post_init__(self) -> None:
        raise AssertionError("it was built")


@attrs.define
class Refused(Rejection):
    left: int


@state("shape")
class Drawn:
    count: int = 0
    last: Circle | Square | None = None


@command("shape", rejects=[Refused])
class Draw(Command[int]):
    shape_id: str = entity_id()
    shape: Circle | Square
    tags: list[str] = attrs.field(factory=list)
    sizes: dict[int, float] = attrs.field(factory=dict)


handled: list[Any] = []


@registry.handles(Draw)
async def draw(command: Draw, drawn: Drawn) -> int:
    handled.append(command)
    drawn.count += 1
    drawn.last = command.shape
    return drawn.count


POLICY = EntityPolicy(retry=Retry(attempts=1), unknown_grace=0.0)
LEASE = Lease(ttl=2.0, heartbeat=0.1, grace=1.0)


def opened(server: RedisServer) -> Any:
    return open_atomic_queues(
        server.url,
        registry=registry,
        entities={"shape": POLICY},
        lease=LEASE,
    )


# ------------------------------------------------------------------------------------ what is thrown
def valid(number: int) -> dict[str, Any]:
    return {
        "i": f"hostile-{number}",
        "n": "draw",
        "p": {
            "shape_id": "victim",
            "shape": {"$type": "Square", "side": 2.0},
            "tags": ["a"],
            "sizes": {"1": 2.0},
        },
    }


def anything(rnd: random.Random, depth: int = 3) -> Any:
    """Makes a random JSON value."""
    kinds: list[Callable[[], Any]] = [
        lambda: None, lambda: rnd.random() < 0.5, lambda: rnd.choice([0, -1, 1, 2**53, -(2**63), 10**30, 2**200]),
        lambda: rnd.choice([0.5, -1e308, 1e-320]), lambda: text(rnd),
    ]  # fmt: skip
    if depth:
        kinds.append(lambda: [anything(rnd, depth - 1) for _ in range(rnd.randrange(4))])
        kinds.append(lambda: {text(rnd): anything(rnd, depth - 1) for _ in range(rnd.randrange(4))})
    return rnd.choice(kinds)()


def text(rnd: random.Random) -> str:
    return rnd.choice(
        ["", "i", "n", "p", "v", "s", "k", "t", "draw", "$type", "Circle", "Unregistered", "os.system",
         "__class__", "__init__",
         "done", "dead", "rejected", "Refused", "UnknownCommand", "\0", "\r\n", "🦊", "x" * 5000, "%s%n", "{tq:0}:meta"]
    )  # fmt: skip


def mutated(rnd: random.Random, value: Any) -> Any:
    """Changes one place of a JSON value, drops it, or puts something beside it."""
    if isinstance(value, dict) and value and rnd.random() < 0.8:
        key = rnd.choice(list(value))
        what = rnd.randrange(4)
        if what == 0:
            return {k: v for k, v in value.items() if k != key}
        if what == 1:
            return {**value, text(rnd): anything(rnd)}
        return {**value, key: mutated(rnd, value[key])}
    if isinstance(value, list) and value and rnd.random() < 0.8:
        return [*value[1:], mutated(rnd, value[0])]
    return anything(rnd)


def bent(rnd: random.Random, data: bytes) -> bytes:
    """Flips, cuts or doubles some bytes."""
    at = rnd.randrange(len(data) + 1)
    return rnd.choice(
        [data[:at], data[at:], data[:at] + rnd.randbytes(rnd.randrange(1, 5)) + data[at + 1 :], data * 2, data[::-1]]
    )  # fmt: skip


def garbage(rnd: random.Random) -> bytes:
    return rnd.choice(
        [
            b"", b" ", b"\xff\xfe\0", b"\xff \xff", b"null", b"[]", b"{}", b'"text"', b"1", b"-1 {}", b"1e5 {}",
            b"NaN",
            b"\x80\x04\x95(c__builtin__\nexec\n", b"cos\nsystem\n(S'true'\ntR.", b"!!python/object:os.system",
            b"[" * 5000, b'{"a":' * 5000, b"[" * 900 + b"]" * 900, rnd.randbytes(rnd.randrange(200)),
            b"9" * 5000 + b" {}",
            b'{"i":"\\ud800"}', b"OK", b"*3\r\n$3\r\nSET\r\n", b"x" * 100_000,
        ]
    )  # fmt: skip


def thrown(rnd: random.Random, number: int, whole: Callable[[int], Any]) -> bytes:
    """Makes one piece: garbage, something real that was changed, or bent."""
    what = rnd.randrange(4)
    if what == 0:
        return garbage(rnd)
    value = whole(number)
    for _ in range(rnd.randrange(1, 4)):
        value = mutated(rnd, value)
    data = json.dumps(value).encode()
    return bent(rnd, data) if what == 1 else data


# ------------------------------------------------------------------------------------ nothing else is built
WATCHED = {"import", "exec", "pickle.find_class", "os.system", "subprocess.Popen", "marshal.loads"}
_seen: list[str] | None = None


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _seen is not None and event in WATCHED:
        by = str(sys._getframe(1).f_globals.get("__name__"))
        # These two make functions of the declared types, and read annotations that are strings.
        if by.partition(".")[0] not in {"cattrs", "typing"}:
            _seen.append(f"{event} by {by}: {arguments!r:.200}")


@contextmanager
def nothing_is_run() -> Iterator[None]:
    """Asserts that the block neither imports, compiles nor unpickles anything, and starts no process."""
    global _seen  # noqa: PLW0603  an audit hook can't be taken away again
    if not getattr(sys, "_fuzz_hook", False):
        sys.addaudithook(_audit)
        sys._fuzz_hook = True  # type: ignore[attr-defined]
    _seen = []
    try:
        yield
        assert _seen == []
    finally:
        _seen = None


# ------------------------------------------------------------------------------------ through a real server
def letters(client: redis.Redis) -> list[bytes]:
    """Reads the raw bytes of all dead letters."""
    raw: list[bytes] = []
    for record in client.hvals(KEYS.dead("shape")[1]):
        letter = json.loads(record)
        if "envelope" in letter:
            raw.append(letter["envelope"].encode())
        else:
            raw.append(base64.b64decode(letter["envelope_base64"], validate=True))
    return raw


async def good(queues: AtomicQueues, name: str) -> int:
    """Has a command handled by an entity that nobody attacks, or once the attack on it is over."""
    with trio.fail_after(20):
        return await queues.call(Draw(name, Circle(2.0)))


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("accepted", [b"1700000000000000 ", b""], ids=["with a time", "bare"])
async def test_envelopes(clean_redis: RedisServer, seed: int, accepted: bytes) -> None:
    """Each is handled or a dead letter with its bytes; what comes behind it, and every other entity, goes on."""
    rnd = random.Random(seed)
    handled.clear()
    pieces = [accepted + thrown(rnd, number, valid) for number in range(PIECES)]
    async with opened(clean_redis) as queues:
        await good(queues, "warm")
        with clean_redis.client() as client, nothing_is_run():
            for number, piece in enumerate(pieces):
                client.rpush(KEYS.entity(Entity("shape", f"victim-{number % 20}"))[1], piece)
            for number in range(20):
                await good(queues, f"victim-{number}")
                await good(queues, f"bystander-{number}")
            buried = letters(client)
        statistics = await queues.statistics()
        assert statistics.with_work == 0
        hostile = len(handled) - 1 - 2 * 20
        assert len(buried) + hostile == PIECES
        assert {type(one) for one in handled} == {Draw}
        assert {type(one.shape) for one in handled} <= {Circle, Square}
    assert len(buried) > PIECES / 2, "hardly anything was wrong"
    stripped = [piece.removeprefix(b"1700000000000000 ") for piece in pieces]
    assert set(buried) <= {*pieces, *stripped}


@pytest.mark.parametrize("seed", [3, 4])
async def test_states(clean_redis: RedisServer, seed: int) -> None:
    """Whoever reads one gets a typed error, and so does who calls; the entities beside it go on."""
    rnd = random.Random(seed)
    refused = 0
    async with opened(clean_redis) as queues:
        await good(queues, "warm")
        with clean_redis.client() as client, nothing_is_run():
            for number in range(PIECES):
                piece = thrown(rnd, number, lambda _: {"v": 1, "s": {"count": 1, "last": None}})
                if rnd.random() < 0.7:
                    piece = rnd.choice([b"1.1 ", b"\xff ", b"a.b ", b"1 ", b"  "]) + piece
                name = f"victim-{number}"
                client.set(KEYS.state(Entity("shape", name)), piece)
                try:
                    before = await queues.state(Drawn, name)
                    assert type(before) is Drawn
                except TrioqueueError:
                    pass
                try:
                    await good(queues, name)
                except CallFailed as error:
                    refused += 1
                    assert error.error.startswith(("DecodeError", "NewerVersion"))  # noqa: PT017  or it was a state
                    assert client.get(KEYS.state(Entity("shape", name))) == piece, "kept, to be repaired"
                if number % 20 == 0:
                    await good(queues, "bystander")
        assert (await queues.statistics()).with_work == 0
    assert refused > PIECES / 2


def outcomes(number: int) -> dict[str, Any]:
    return [
        {"k": "done", "v": 1},
        {"k": "rejected", "v": {"left": 1}, "n": "Refused"},
        {"k": "rejected", "v": {"why": 1}, "n": "Unregistered"},
        {"k": "dead", "v": "E: no", "n": "E", "t": "Traceback"},
        {"k": "cancelled"},
    ][number % 5]


@pytest.mark.parametrize("hinted", [True, False])
@pytest.mark.parametrize("seed", [5, 6])
async def test_outcomes(clean_redis: RedisServer, seed: int, hinted: bool) -> None:
    """In a hint, and where a caller looks when it was told of one: a typed error, or an answer of the right type."""
    rnd = random.Random(seed)
    typed = answers = 0
    async with opened(clean_redis) as queues, open_atomic_queues(clean_redis.url) as sender:
        await good(queues, "warm")
        await good(sender, "warm")
        channel = KEYS.channel + sender._store.client
        with clean_redis.client() as client, nothing_is_run():
            for number in range(PIECES):
                piece = thrown(rnd, number, outcomes)

                def answer(data: bytes = piece) -> None:
                    (command_id,) = sender._receiver._waiting
                    if hinted:
                        client.publish(channel, b"r" + command_id.encode() + b" " + data)
                    else:
                        client.set(KEYS.result(command_id), data, ex=60)
                        client.publish(channel, b"r" + command_id.encode())

                try:
                    with trio.fail_after(20):
                        async with trio.open_nursery() as nursery:
                            nursery.start_soon(_after_send, sender, answer)
                            # Nobody serves this type, so the only answer is the hostile one.
                            outcome = await sender.call(Ask("nobody"))
                except* (TrioqueueError, Refused) as errors:
                    typed += 1
                    (error,) = errors.exceptions
                    assert type(error) is not Rejected or type(error.fields) is dict
                else:
                    answers += 1
                    assert type(outcome) is int
        await good(queues, "bystander")
    assert typed > PIECES / 2
    assert answers


@command("nobodys", rejects=[Refused])
class Ask(Command[int]):
    name: str = entity_id()


async def _after_send(sender: AtomicQueues, answer: Callable[[], None]) -> None:
    while not sender._receiver._waiting:
        await trio.lowlevel.checkpoint()
    answer()


@pytest.mark.parametrize("seed", [7, 8])
async def test_hints(clean_redis: RedisServer, seed: int) -> None:
    rnd = random.Random(seed)
    names = [
        "shape/a",
        "shape/",
        "shape",
        "/",
        "",
        "other/a",
        "shape/a b",
        "shape/\n",
        "shape/🦊",
        "shape/" + "x" * 5000,
    ]
    async with opened(clean_redis) as queues:
        assert await good(queues, "a") == 1
        channel = KEYS.channel + queues._store.client
        with clean_redis.client() as client, nothing_is_run():
            for number in range(2 * PIECES):
                name = rnd.choice(names).encode()
                message = rnd.choice([
                    b"w" + name, b"c" + b"id " + name, b"c" + name, b"r" + name, b"r" + name + b" {}", garbage(rnd),
                    rnd.choice([b"w", b"r", b"c", b"e", b"p"]) + garbage(rnd),
                ])  # fmt: skip
                assert client.publish(channel, message) == 1
                if number % 50 == 0:
                    await good(queues, "bystander")
            assert await good(queues, "a") == 2
            assert (await queues.statistics()).awake <= 20


NO_NAMES = [b"", b"/", b"shape", b"shape/", b"/a", b"\xff\xfe/\0", b"shape/\xff", b"\x80"]
"""Of all three kinds: empty, without a type or an id, not UTF-8."""


def strays(count: int, score: int) -> dict[bytes, int]:
    """Makes members of an index; with a count, that many sort before every entity's name."""
    return dict.fromkeys([*NO_NAMES, *(b"!%d" % number for number in range(count))], score)


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(20):
        while not condition():  # noqa: ASYNC110 - the server sets no event
            await trio.sleep(0.05)


@pytest.mark.parametrize(
    "count", [0, PAGE - len(NO_NAMES) - 1, 2 * PAGE], ids=["few", "most of a page", "pages"]
)
async def test_names_in_the_indexes(
    clean_redis: RedisServer, caplog: pytest.LogCaptureFixture, count: int
) -> None:
    """They are taken out, with one warning a kind; the heartbeat goes on, and nothing they stand before is missed."""
    ready, victim = KEYS.placement("shape")[1], KEYS.entity(Entity("shape", "a"))[1]
    async with opened(clean_redis) as queues:
        assert await good(queues, "a") == 1
        supervisor = queues._supervisor
        assert supervisor is not None
        before = supervisor.incarnation
        assert before is not None
        number = int(before.member.incarnation.rpartition(".")[2])
        with clean_redis.client() as client:
            for index in (KEYS.owned, KEYS.wake, KEYS.marked):
                client.zadd(index, strays(count, number))
            client.zadd(ready, strays(count, 0))
            # Only the index tells of this one's command: no hint does.
            client.rpush(
                victim,
                json.dumps({**valid(0), "p": {"shape_id": "a", "shape": {"$type": "Circle"}}}).encode(),
            )
            client.zadd(KEYS.wake, {"shape/a": number})
            await until(lambda: client.llen(victim) == 0)
            await until(lambda: client.zcard(KEYS.owned) == 1)
            await until(lambda: not client.exists(KEYS.wake, KEYS.marked, ready))
            assert await good(queues, "a") == 3
            assert await good(queues, "b") == 1
            await trio.sleep(LEASE.ttl)
            assert supervisor.incarnation is before, "it lost its lease"
            # Whoever hands its entities on finds them among its own.
            client.zadd(KEYS.owned, strays(count, number))
    with clean_redis.client() as client:
        assert client.zcard(KEYS.owned) == client.zcard(KEYS.pods) == 0
    warned = [
        str(vars(record)["kind"]) for record in caplog.records if vars(record).get("event") == "stray_name"
    ]
    assert sorted(warned) == ["empty", "no type or no id", "not UTF-8"]


async def test_entities_in_the_indexes_that_are_nobody_s(clean_redis: RedisServer) -> None:
    """Well-formed names, which no script put there: a pod that leaves, and entities that wait, get past them."""
    ready = KEYS.placement("shape")[1]
    ghosts = [f"shape/ghost-{number}" for number in range(2 * CHUNK)]
    async with opened(clean_redis) as queues:
        assert await good(queues, "a") == 1
        supervisor = queues._supervisor
        assert supervisor is not None
        assert supervisor.incarnation is not None
        number = int(supervisor.incarnation.member.incarnation.rpartition(".")[2])
        with clean_redis.client() as client:
            client.zadd(ready, dict.fromkeys(ghosts, 0))
            await until(lambda: not client.exists(ready))
            client.zadd(KEYS.owned, dict.fromkeys(ghosts, number))
    with clean_redis.client() as client:
        assert client.zcard(KEYS.owned) == client.zcard(KEYS.pods) == 0


async def test_strangers_among_pods_and_loads(clean_redis: RedisServer) -> None:
    """Nothing is placed with who never joined, no heartbeat ends for one, and a dead pod behind them is reaped."""
    load, ready = KEYS.placement("shape")
    strangers = {b"foo": -1, b"foo.5": -1, b"\xff": -1, b"": -1}
    async with opened(clean_redis) as queues:
        assert queues._supervisor is not None
        before = queues._supervisor.incarnation
        with clean_redis.client() as client:
            client.zadd(load, strangers)
            client.zadd(KEYS.pods, strangers)
            client.zadd(ready, {f"other/{number}": 0 for number in range(2 * CHUNK)})
            async with open_atomic_queues(clean_redis.url) as sender:
                assert await good(sender, "a") == 1
            await until(lambda: client.zcard(KEYS.pods) == 1)
            await until(lambda: not client.exists(ready))
        await trio.sleep(LEASE.ttl)
        assert queues._supervisor.incarnation is before, "it lost its lease"


# ------------------------------------------------------------------------------------ in the functions themselves
CODEC = Codec()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from("incdhprsvkt") | st.text(max_size=3), inner)
    ),
    max_leaves=10,
)  # fmt: skip
DATA = st.one_of(st.binary(max_size=50), JSON.map(lambda value: json.dumps(value).encode()))


@given(DATA)
@example(b'{"i":"1","n":"draw","v":1e5}')
def test_an_envelope_or_our_own_error(data: bytes) -> None:
    try:
        found = decode_envelope(CODEC, Entity("shape", "a"), data)
    except DecodeError:
        return
    assert decode_envelope(CODEC, Entity("shape", "a"), encode_envelope(CODEC, found)) == found


@given(DATA)
@example(b'{"v":"1","s":{}}')
@example(b'{"v":true,"s":{}}')
@example(b'{"v":1,"s":[]}')
def test_a_state_or_our_own_error(data: bytes) -> None:
    try:
        version, fields = read_state(CODEC, data)
    except DecodeError:
        return
    assert type(version) is int
    assert version >= 1
    assert type(fields) is dict


@given(JSON)
@example({"shape_id": "a", "shape": {"$type": "Unregistered"}})
@example({"shape_id": "a", "shape": {"$type": "Square", "inner": {"$type": "Unregistered"}}})
@example({"shape_id": "a", "shape": {"$type": ["Square"]}})
@example({"shape_id": "a", "shape": {"$type": "Square", "__class__": "os.system"}})
def test_a_command_or_our_own_error(value: Any) -> None:
    try:
        built = CODEC.structure(value, Draw)
    except DecodeError:
        return
    assert type(built) is Draw
    assert type(built.shape) in (Circle, Square)


def test_the_deepest_json_there_is_is_our_own_error() -> None:
    """Deeper than Python's stack allows, inside of what JSON's reader takes."""
    value: Any = {"$type": "Circle"}
    for _ in range(1000):
        value = {"$type": "Square", "inner": value}
    with pytest.raises(DecodeError):
        CODEC.structure({"shape_id": "a", "shape": value}, Draw)


def test_an_envelope_holds_nothing_but_builtins() -> None:
    data = json.dumps({**valid(1), "p": {"$type": "Unregistered", "a": [{"$type": "os.system"}]}}).encode()
    found = decode_envelope(CODEC, Entity("shape", "a"), data)
    assert type(found) is Envelope
    assert found.payload == {"$type": "Unregistered", "a": [{"$type": "os.system"}]}
