"""What a newcomer gets wrong first: one sentence with the remedy, from the command line and from the library."""

import re
import socket
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import click
import pytest
import trio
from cli.command_line import trioqueue as trioqueue_process
from cli.command_line import trioqueue_anew
from redis_servers import RedisServer

from trioqueue import (
    AccessDenied,
    AtomicQueues,
    BadEntityId,
    BadUrl,
    Command,
    DuplicateRegistration,
    EntityPolicy,
    Incompatible,
    NotRegistered,
    PayloadTooLarge,
    Registry,
    StoreUnavailable,
    TrioqueueError,
    cli,
    command,
    entity_id,
    open_atomic_queues,
)
from trioqueue.cli.errors import Terminated, run_reporting, told_of
from trioqueue.stores.redis.keys import Keys
from trioqueue.stores.redis.layout import LAYOUT


@command("note")
class Note(Command):
    note_id: str = entity_id()
    text: str = ""


def is_one_sentence(text: str) -> bool:
    """A sentence of one line, short enough to be read, whose second part is the remedy; it may begin with a name."""
    return re.fullmatch(r"[A-Z'][^\n]{20,300}[:,] [^\n]{10,200}\.", text) is not None


# ------------------------------------------------------------------------ stores that can't be used
@pytest.fixture
def nobody() -> str:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"redis://127.0.0.1:{one.getsockname()[1]}"


@pytest.fixture(scope="module")
def wrong_password() -> Iterator[str]:
    with RedisServer(requirepass="right-one") as server:
        yield f"redis://:not-this-one@127.0.0.1:{server.port}"


@pytest.fixture(scope="module")
def no_password() -> Iterator[str]:
    with RedisServer(requirepass="right-one") as server:
        yield f"redis://127.0.0.1:{server.port}"


class QuietHandler(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def no_redis() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), QuietHandler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"redis://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def evicting() -> Iterator[str]:
    with RedisServer(maxmemory=100_000_000, maxmemory_policy="allkeys-lru") as server:
        yield server.url


@pytest.fixture
def bad_scheme() -> str:
    return "rediz://127.0.0.1"


STORES = [
    ("nobody", StoreUnavailable, "start it, or correct the URL"),
    ("wrong_password", AccessDenied, "correct them in the URL"),
    ("no_password", AccessDenied, "put one into the URL"),
    ("no_redis", Incompatible, "correct the URL"),
    ("evicting", Incompatible, "set maxmemory-policy noeviction"),
    ("bad_scheme", BadUrl, "redis://"),
]


@pytest.mark.parametrize(("store", "error", "remedy"), STORES)
async def test_opening(
    store: str, error: type[TrioqueueError], remedy: str, request: pytest.FixtureRequest
) -> None:
    with pytest.raises(error) as caught, trio.fail_after(10):
        async with open_atomic_queues(request.getfixturevalue(store)):
            pytest.fail("it opened")

    assert is_one_sentence(str(caught.value)), caught.value
    assert remedy in str(caught.value)
    assert "not-this-one" not in repr(caught.value)


@pytest.mark.parametrize(
    ("store", "remedy", "naive"),
    [
        (store, remedy, naive)
        for store, _, remedy in STORES
        for naive in (False, True)
        # Without queues nothing is promised that eviction could break.
        if not (naive and store == "evicting")
    ],
)
def test_command_line(
    store: str, remedy: str, naive: bool, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = request.getfixturevalue(store)
    ran = trioqueue_process("demo", "--url", url, *(["--naive"] if naive else []), cwd=tmp_path)

    assert ran.code == 1
    assert ran.stdout == ""
    assert ran.stderr.startswith("error: ")
    assert ran.stderr.endswith(".\n")
    assert is_one_sentence(ran.stderr.removeprefix("error: ").removesuffix("\n")), ran.stderr
    assert remedy in ran.stderr
    assert "Traceback" not in ran.stderr
    assert "not-this-one" not in ran.stderr


def test_error_of_a_pod_process(nobody: str, tmp_path: Path) -> None:
    ran = trioqueue_anew(
        "demo-x", "0", "1", "0.1", "0", cwd=tmp_path, module="trioqueue.cli.demo_pod", TRIOQUEUE_URL=nobody
    )

    assert (ran.code, ran.stderr) == (1, "")
    assert re.fullmatch(r'\{"error": "No store answers at [^"]+"\}\n', ran.stdout)


@pytest.mark.parametrize(
    ("field", "value", "what"), [("partitions", 16, "partition count 16"), ("layout", 99, "layout 99")]
)
async def test_keys_that_are_laid_out_otherwise(
    field: str, value: int, what: str, clean_redis: RedisServer
) -> None:
    meta = {"layout": LAYOUT, "partitions": 1, field: value}
    with clean_redis.client() as client:
        client.hset(Keys("tq").meta, mapping=meta)

        with pytest.raises(Incompatible) as caught:
            async with open_atomic_queues(clean_redis.url):
                pytest.fail("it opened")

        assert client.hgetall(Keys("tq").meta) == {
            name.encode(): str(number).encode() for name, number in meta.items()
        }, "nothing was written"
    assert is_one_sentence(str(caught.value)), caught.value
    assert what in str(caught.value)
    assert "use another prefix" in str(caught.value)


# ------------------------------------------------------------------------ commands that can't be sent
@pytest.fixture(params=["memory", "redis"])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "memory":
        return "memory://"
    server: RedisServer = request.getfixturevalue("clean_redis")
    return server.url


@asynccontextmanager
async def refused(url: str, error: type[TrioqueueError], remedy: str) -> AsyncGenerator[AtomicQueues, None]:
    """Opens queues; what is sent in the block is refused with a sentence, and nothing of it is kept."""
    async with open_atomic_queues(url, entities={"note": EntityPolicy(max_payload=200)}) as queues:
        with pytest.raises(error) as caught:
            yield queues
        assert (await queues.statistics()).with_work == 0
    assert is_one_sentence(str(caught.value)), caught.value
    assert remedy in str(caught.value)


@pytest.mark.parametrize(
    ("bad", "remedy"),
    [
        ("", "give the entity a name"),
        ("x" * 513, "use a hash of it"),
        ("ä" * 257, "use a hash of it"),
        ("two\nlines", "remove or replace it"),
        ("a\x00b", "remove or replace it"),
        ("\x7f", "remove or replace it"),
        (None, "use a str, int or UUID"),
    ],
)
async def test_entity_id(bad: str, remedy: str, url: str) -> None:
    async with refused(url, BadEntityId, remedy) as queues:
        await queues.send(Note(bad))


async def test_payload_too_large(url: str) -> None:
    async with refused(url, PayloadTooLarge, "raise EntityPolicy.max_payload") as queues:
        await queues.send_many([Note("small"), Note("large", "x" * 200)])


async def test_command_that_nobody_declared(url: str) -> None:
    class Plain(Command):
        pass

    async with refused(url, NotRegistered, "decorate it with @command") as queues:
        await queues.send(Plain())


async def test_type_without_a_handler(url: str) -> None:
    with pytest.raises(NotRegistered) as caught:
        async with open_atomic_queues(url, registry=Registry(), serves={"note"}):
            pytest.fail("it opened")

    assert is_one_sentence(str(caught.value)), caught.value
    assert "register a handler for it" in str(caught.value)


def test_second_registration() -> None:
    registry = Registry()

    @registry.handles(Note)
    async def first(command: Note) -> None: ...

    with pytest.raises(DuplicateRegistration) as caught:

        @registry.handles(Note)
        async def second(command: Note) -> None: ...

    assert is_one_sentence(str(caught.value)), caught.value


# ------------------------------------------------------------------------ the command line itself
def test_more_pods_without_redis(tmp_path: Path) -> None:
    ran = trioqueue_process("demo", "--pods", "5", cwd=tmp_path)

    assert ran.code == 2
    assert ran.stdout == ""
    assert ran.stderr == (
        "error: --pods 5 needs a Redis that the processes share: add --url redis://localhost:6379.\n"
    )


def test_wrong_option(tmp_path: Path) -> None:
    ran = trioqueue_process("demo", "--pod", "x", cwd=tmp_path)

    assert ran.code == 2
    assert re.fullmatch(r"error: [^\n]*--pod[^\n]*\n", ran.stderr)


def test_help_and_version(tmp_path: Path) -> None:
    assert "demo" in trioqueue_anew(cwd=tmp_path).stdout
    assert "--pods" in trioqueue_process("demo", "--help", cwd=tmp_path).stdout
    assert re.fullmatch(r"trioqueue \S.*\n", trioqueue_process("--version", cwd=tmp_path).stdout)


def test_without_click(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cli, "find_spec", lambda name: None if name == "click" else name)

    with pytest.raises(SystemExit) as ended:
        cli.main()

    assert ended.value.code == 2
    assert capsys.readouterr().err == ('error: The command line needs click: pip install "trioqueue[cli]"\n')


def test_what_is_told() -> None:
    full = BadUrl("it is wrong")
    interrupt = BaseExceptionGroup("", [ExceptionGroup("", [full]), KeyboardInterrupt()])
    terminated = ExceptionGroup("", [full, Terminated()])
    mixed = ExceptionGroup("", [full, ValueError("a bug")])

    assert told_of(full) == told_of(ExceptionGroup("", [ExceptionGroup("", [full])])) == (str(full), 1)
    assert told_of(interrupt) == ("", 130)
    assert told_of(terminated) == (str(Terminated()), 143)
    assert told_of(click.UsageError("no\n  such option")) == ("no such option", 2)
    assert told_of(mixed) is None, "a bug is not hidden behind what we know"


def test_bugs_keep_their_tracebacks(capsys: pytest.CaptureFixture[str]) -> None:
    def bug() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_reporting(bug)
    assert capsys.readouterr().err == ""
