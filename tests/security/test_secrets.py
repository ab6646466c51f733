"""Nothing that is secret is told: no password, and nothing of what users send, keep or answer.

Everything goes wrong once, on a server with a password, with a marker in every value.  What a user's own exception
says, its author has decided; all else is ours, and is searched.
"""

import gc
import io
import logging
import traceback
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import Any
from urllib.parse import quote

import attrs
import pytest
import trio
from redis_connections import cut, until
from redis_servers import RedisServer

import trioqueue
from trioqueue import (
    AtomicQueues,
    CallFailed,
    Command,
    Context,
    Entity,
    EntityPolicy,
    Lease,
    Registry,
    Rejection,
    Retry,
    TrioqueueError,
    command,
    entity_id,
    open_atomic_queues,
    state,
)
from trioqueue.messages.codec import Codec
from trioqueue.messages.envelope import Envelope
from trioqueue.stores.contract import Claimed, Commit, DeadLetter, Group, Next, Outgoing, Reply
from trioqueue.stores.redis.address import parse_address
from trioqueue.stores.redis.keys import Keys
from trioqueue.stores.reports import Answered, Queued

PASSWORD = "p@ss/w:rd-7c1d9e"
MARKER = "MARKER-5e0c"
"""In every payload, state, reply, rejection and header; a datetime field has a year of its own instead."""

MARKED_YEAR = 1871
SECRETS = (PASSWORD, quote(PASSWORD, safe=""), "rd-7c1d9e", MARKER, f"{MARKED_YEAR}-0")
KEYS = Keys("tq")

registry = Registry()


@attrs.define
class No(Rejection):
    why: str


@state("vault")
class Vault:
    text: str = ""


@command("vault", rejects=[No])
class Put(Command[str]):
    vault_id: str = entity_id()
    text: str
    what: str = "keep"
    number: int = 0
    when: datetime | None = None
    parts: dict[str, list[int]] = attrs.field(factory=dict)


@command("vault")
class Later(Command[None]):
    """Known to no pod."""

    vault_id: str = entity_id()
    text: str


@registry.handles(Put)
async def put(command: Put, vault: Vault, context: Context) -> str:
    vault.text = command.text
    match command.what:
        case "fail":
            raise ValueError("the handler's own words")
        case "reject":
            raise No(command.text)
        case "grow":
            vault.text = command.text * 1000
        case "wrong reply":
            return {command.text: command.text}  # type: ignore[return-value]
        case "slow":
            await trio.sleep_forever()
        case "child":
            context.send(Put(command.vault_id, command.text * 10_000))
        case "block":
            import time

            time.sleep(1.6)  # noqa: ASYNC251  what the lease's thread warns of
        case _:
            pass
    return command.text


# ------------------------------------------------------------------------------------ what is searched
class Search(logging.Handler):
    """Takes all records of all loggers, and looks through every part of them at once."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.found: list[str] = []
        self.ours: list[str] = []
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith("trioqueue"):
            self.ours.append(getattr(record, "event", record.getMessage()))
        parts = [self.format(record), repr(record.args), *map(str, record.args or ()), repr(vars(record))]
        if record.exc_info and record.exc_info[1]:
            parts += everything_said(record.exc_info[1])
        self.found += [f"{record.name}: {part}" for part in parts if secret(part)]


def secret(text: str) -> bool:
    return any(one in text for one in SECRETS)


def everything_said(error: BaseException) -> list[str]:
    """Gives all texts of an error and of those behind it: what a log, a console or a reporter of errors shows."""
    told = [str(error), repr(error), *map(str, getattr(error, "__notes__", ()))]
    told += traceback.format_exception(error)
    behind = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if behind is not None:
        told += everything_said(behind)
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            told += everything_said(one)
    return told


@pytest.fixture
def search() -> Iterator[Search]:
    """Listens to every logger, also redis-py's and asyncio's, and asserts that no secret came by."""
    handler, root = Search(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)
    assert handler.found == []


@contextmanager
def says_nothing(*kinds: type[BaseException]) -> Iterator[None]:
    """Expects an error, and that none of its texts has a secret in it."""
    with pytest.raises(kinds or TrioqueueError) as caught:
        yield
    assert [one for one in everything_said(caught.value) if secret(one)] == []


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer(requirepass=PASSWORD) as one:
        yield one


@pytest.fixture
def guarded(server: RedisServer) -> RedisServer:
    with server.client() as client:
        client.flushall()
    return server


def url_of(server: RedisServer, password: str = PASSWORD) -> str:
    return f"redis://:{quote(password, safe='')}@127.0.0.1:{server.port}/0"


@asynccontextmanager
async def opened(server: RedisServer, **options: Any) -> AsyncGenerator[AtomicQueues]:
    policy = EntityPolicy(
        retry=Retry(attempts=2, wait_first=0.0), max_state=5000, max_payload=100_000, unknown_grace=0.0
    )
    options = {"registry": registry, "lease": Lease(ttl=2.0, heartbeat=0.1, grace=1.0), **options}
    async with open_atomic_queues(url_of(server), entities={"vault": policy}, **options) as queues:
        yield queues


def texts_of_ours() -> list[str]:
    """Gives the repr of every living object whose class is of trioqueue, but for what users declare."""
    shown: list[str] = []
    for one in gc.get_objects():
        module = getattr(type(one), "__module__", None)
        if isinstance(module, str) and module.startswith("trioqueue"):  # some types of C have no text there
            try:
                shown.append(repr(one))
            except Exception:
                continue
    return shown


# ------------------------------------------------------------------------------------ what goes wrong
async def test_what_works_tells_nothing(guarded: RedisServer, search: Search) -> None:
    async with opened(guarded) as queues:
        assert await queues.call(Put("a", MARKER)) == MARKER
        await queues.send_many([Put(str(n), MARKER) for n in range(20)])
        await queues.wait_settled()
        assert (await queues.state(Vault, "a")).text == MARKER
        assert [text for text in texts_of_ours() if secret(text)] == []


async def test_failures_retries_and_dead_letters_tell_nothing(guarded: RedisServer, search: Search) -> None:
    async with opened(guarded) as queues:
        for what in ("fail", "grow", "wrong reply", "child"):
            with says_nothing(CallFailed, trioqueue.DecodeError):  # the latter by whom a wrong reply reaches
                await queues.call(Put("a", MARKER, what))
        with pytest.raises(No):  # an answer: it is the caller's
            await queues.call(Put("a", MARKER, "reject"))
        with says_nothing(trioqueue.UnknownCommand):
            await queues.call(Later("a", MARKER))
        with trio.move_on_after(0.05):
            await queues.call(Put("a", MARKER, "slow"))
        await queues.call(Put("a", MARKER, "block"))
        await queues.wait_settled()
        assert [text for text in texts_of_ours() if secret(text)] == []
    assert {"retry", "dead_letter", "loop_stalled"} <= set(search.ours), "nothing went wrong"


BROKEN: list[dict[str, Any]] = [
    {"text": 7, MARKER: MARKER},
    {"text": [MARKER]},
    {"text": MARKER, "number": MARKER},
    {"text": MARKER, "when": MARKER},
    {"text": MARKER, "when": f"{MARKED_YEAR}-01-01T00:00:00"},
    {"text": MARKER, "parts": MARKER},
    {"text": MARKER, "parts": {MARKER: MARKER}},
    {"text": MARKER, "parts": {MARKER: [1, MARKER]}},
    {MARKER: 1},
]


@pytest.mark.parametrize("payload", [*BROKEN, None], ids=str)
async def test_what_cannot_be_decoded_tells_nothing(
    guarded: RedisServer, search: Search, payload: dict[str, Any] | None
) -> None:
    codec = Codec()
    wire = {"i": "1", "n": "put", "p": {"vault_id": "a", **(payload or {})}}
    data = codec.dumps(wire) if payload is not None else f'{{"i": "{MARKER}", {MARKER}'.encode()
    async with opened(guarded) as queues:
        with guarded.client() as client:
            client.rpush(KEYS.entity(Entity("vault", "a"))[1], b"1700000000000000 " + data)
        await queues.call(Put("a", MARKER))
        assert (await queues.statistics()).dead == 1
    assert "dead_letter" in search.ours


@pytest.mark.parametrize(
    "kept",
    [MARKER, f'{{"v":1,"s":"{MARKER}"}}', f'{{"v":1,"s":{{"text":["{MARKER}"]}}}}',
     f'{{"v":9,"s":{{"text":"{MARKER}"}}}}'],
)  # fmt: skip
async def test_states_that_cannot_be_read_tell_nothing(
    guarded: RedisServer, search: Search, kept: str
) -> None:
    async with opened(guarded) as queues:
        with guarded.client() as client:
            client.set(KEYS.state(Entity("vault", "a")), f"1.1 {kept}")
        with says_nothing():
            await queues.state(Vault, "a")
        with says_nothing(CallFailed):
            await queues.call(Put("a", MARKER))


@pytest.mark.parametrize(
    "outcome",
    [MARKER, f'{{"k":"{MARKER}"}}', f'{{"k":"done","v":["{MARKER}"]}}',
     f'{{"k":"rejected","v":"{MARKER}","n":"No"}}', f'["{MARKER}"]'],
)  # fmt: skip
async def test_answers_that_cannot_be_read_tell_nothing(
    guarded: RedisServer, search: Search, outcome: str
) -> None:
    async with opened(guarded, registry=None) as queues:

        async def answer() -> None:
            await until(lambda: queues._receiver._waiting)
            (command_id,) = queues._receiver._waiting
            with guarded.client() as client:
                client.publish(KEYS.channel + queues._store.client, f"r{command_id} {outcome}")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer)
            with says_nothing():
                await queues.call(Put("a", MARKER))


async def test_what_cannot_be_sent_tells_nothing(guarded: RedisServer, search: Search) -> None:
    wrong: list[Command[Any]] = [
        Put("a", MARKER * 100_000),
        Put("a", MARKER, number=2**80),
        Put("a", MARKER, when=datetime(MARKED_YEAR, 1, 1)),  # noqa: DTZ001  naive is what is wrong with it
        Put("a", MARKER + "\ud800"),
        Put("a", MARKER, parts={MARKER: [object()]}),  # type: ignore[list-item]
    ]
    async with opened(guarded) as queues:
        for one in wrong:
            for ask in (queues.send, queues.call):
                with says_nothing():
                    await ask(one)


async def test_lost_leases_and_links_tell_nothing(guarded: RedisServer, search: Search) -> None:
    async with opened(guarded) as queues:
        await queues.call(Put("a", MARKER))
        supervisor = queues._supervisor
        assert supervisor is not None
        before = supervisor.incarnation
        assert before is not None
        assert cut(guarded, f"trioqueue-{queues._store.client}") == 1
        await queues.call(Put("a", MARKER))
        with guarded.client() as client:
            client.zrem(KEYS.pods, before.member.incarnation)
        await until(lambda: supervisor.incarnation not in {None, before})
        await queues.call(Put("b", MARKER))
        with guarded.client() as client:
            client.config_set("maxmemory", 1)
            try:
                with says_nothing(trioqueue.StoreFull):
                    await queues.send(Put("a", MARKER))
            finally:
                client.config_set("maxmemory", 0)
        assert [text for text in texts_of_ours() if secret(text)] == []
    assert "lease_lost" in search.ours


async def test_a_server_that_has_gone_tells_nothing(search: Search) -> None:
    with RedisServer(requirepass=PASSWORD) as server:
        async with opened(
            server, limits=trioqueue.Limits(unanswered=0.3), drain=trioqueue.Drain(0.1, 0.1)
        ) as queues:
            await queues.call(Put("a", MARKER))
            server.kill()
            with says_nothing(trioqueue.OutcomeUnknown, trioqueue.StoreUnavailable):
                await queues.send(Put("a", MARKER))
            assert [text for text in texts_of_ours() if secret(text)] == []
    with says_nothing(trioqueue.StoreUnavailable):
        async with opened(server):
            pass


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{PASSWORD}@127.0.0.1:1",
        f"redis://user:{quote(PASSWORD, safe='')}@127.0.0.1:PORT",
        f"redis://:{quote(PASSWORD + 'x', safe='')}@127.0.0.1:PORT",
        f"redis://127.0.0.1:PORT?password={quote(PASSWORD + 'x', safe='')}",
        f"redis://:{quote(PASSWORD, safe='')}@127.0.0.1:PORT/{PASSWORD}",
        f"redis://:{quote(PASSWORD, safe='')}@127.0.0.1:PORT?pasword={PASSWORD}",
        f"rediss://:{quote(PASSWORD, safe='')}@127.0.0.1:PORT?ssl_password={PASSWORD}&ssl_keyfile=/nowhere",
        f"unix://:{quote(PASSWORD, safe='')}@/nowhere/redis.sock",
        f"redis+sentinel://:{PASSWORD}@127.0.0.1",
        f"{PASSWORD}",
        f"redis:/{PASSWORD}@127.0.0.1",
        f"memory://{PASSWORD}",
    ],
)
async def test_wrong_urls_and_passwords_tell_nothing(
    guarded: RedisServer, search: Search, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = url.replace("PORT", str(guarded.port))
    with says_nothing():
        async with open_atomic_queues(url, registry=registry):
            pass
    monkeypatch.setenv("TRIOQUEUE_URL", url)
    with says_nothing():
        async with open_atomic_queues(registry=registry):
            pass


# ------------------------------------------------------------------------------------ reprs
def test_values_do_not_show_what_travels() -> None:
    entity, data = Entity("vault", "a"), MARKER.encode()
    queued = Queued(1, data)
    values: list[object] = [
        Outgoing(entity, data), queued, Group([Outgoing(entity, data)]), Reply("1", "me", data, 1),
        DeadLetter("1", data),
        Claimed(1, 0, 1, (queued,), state=data), Next(1, (queued,)), Answered("1", data),
        Commit(entity, 1, 0, state=data, children=[Outgoing(entity, data)], replies=[Reply("1", "", data, 1)]),
        Envelope("1", entity, "put", payload={"text": MARKER}, headers={"h": MARKER}),
        parse_address(f"redis://user:{quote(PASSWORD, safe='')}@localhost"),
        parse_address(f"rediss://localhost?ssl_password={quote(PASSWORD, safe='')}"),
    ]  # fmt: skip
    assert [repr(one) for one in values if secret(repr(one)) or secret(str(one))] == []
    assert "bytes" in repr(queued), "what it is, it still says"


def test_the_heartbeats_client_does_not_show_the_password() -> None:
    client = parse_address(f"redis://user:{quote(PASSWORD, safe='')}@localhost").sync_client()
    out = io.StringIO()
    out.write(f"{client} {client!r} {client.connection_pool!r}")
    assert not secret(out.getvalue())
    client.close()
