"""Opening a sender: what is refused, in one sentence, before anything is written; and what a fork does to it."""

import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from blocking.office import Note, in_thread, notes, open_pod, opened
from cli.command_line import environment
from redis_connections import GOOD_INFO, HELLO, info, scripted
from redis_servers import RedisServer, ServerFailed, find_servers, make_certificates
from security.test_rights import PASSWORD, RULE, user

from trioqueue import AccessDenied, BadDeclaration, BadUrl, Incompatible, StoreUnavailable, TrioqueueError
from trioqueue.blocking import open_sender
from trioqueue.stores.redis.scripts import script


async def refused(url: str, error: type[TrioqueueError], says: str, **options: object) -> None:
    with pytest.raises(error, match=says) as caught:
        await in_thread(open_sender, url, **options)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert "secret" not in sentence
    assert PASSWORD not in sentence


# ------------------------------------------------------------------------------------ refusals
@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("memory://", "ends at the Trio run that opened it"),
        ("redis://:secret@localhost/x", "database number"),
        ("http://localhost", "not one of Redis"),
        ("localhost", "without a scheme"),
    ],
)
async def test_a_url_that_leads_nowhere(url: str, says: str) -> None:
    await refused(url, BadUrl, says)


async def test_a_prefix_that_is_none(clean_redis: RedisServer) -> None:
    with pytest.raises(BadDeclaration):
        await in_thread(open_sender, clean_redis.url, prefix="a b")


async def test_nobody_there() -> None:
    await refused("redis://:secret@127.0.0.1:1", StoreUnavailable, r"127\.0\.0\.1:1/0 \(Connection refused\)")
    await refused("unix:///nowhere/redis.sock", StoreUnavailable, "No such file")


async def test_a_wrong_password() -> None:
    with RedisServer(requirepass=PASSWORD) as server:
        right = server.url
        async with opened(right):
            pass
        await refused(right.replace(PASSWORD, "secret"), AccessDenied, "knows no such user and password")
        await refused(right.replace(f":{PASSWORD}@", ""), AccessDenied, "wants a password")


async def test_a_database_that_is_not_there(clean_redis: RedisServer) -> None:
    await refused(f"{clean_redis.url}/99", BadUrl, "no such database")


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", Incompatible, "is not a Redis"),
        (b"", StoreUnavailable, "during the greeting"),
        (b"-LOADING it reads\r\n", StoreUnavailable, "still loading"),
        (
            HELLO + info("redis_version:5.0.14\r\nrun_id:cafe\r\n") + b"+sha\r\n+PONG\r\n",
            Incompatible,
            r"is Redis 5\.0",
        ),
        (HELLO + GOOD_INFO + b"-ERR Error compiling script\r\n", Incompatible, "compile a script"),
    ],
)
async def test_what_is_no_fit_redis(
    answer: bytes, error: type[TrioqueueError], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trioqueue.blocking.opening.LOADING_WAIT", 0.2)
    # So that one packet holds all that is said: a server that leaves some of it unread takes back what it has answered.
    monkeypatch.setattr("trioqueue.blocking.opening.all_scripts", lambda: [script("void")])
    async with scripted(answer) as url:
        await refused(url, error, says)


async def test_one_that_evicts_is_refused_unless_that_is_wanted() -> None:
    with RedisServer(maxmemory=50_000_000, maxmemory_policy="allkeys-lru") as server:
        await refused(server.url, Incompatible, "maxmemory-policy allkeys-lru")
        async with opened(server.url, allow_eviction=True) as sender:
            await in_thread(sender.send, Note("a", "x"))


async def test_keys_that_are_laid_out_otherwise(clean_redis: RedisServer) -> None:
    with clean_redis.client() as client:
        client.hset("{tq:0}:meta", "layout", 99)
    await refused(clean_redis.url, Incompatible, "have layout 99")


# ------------------------------------------------------------------------------------ rights
async def test_the_rights_of_a_pod_are_enough(each_redis: RedisServer) -> None:
    with user(each_redis, *RULE) as url:
        async with open_pod(url), opened(url) as sender:
            assert await in_thread(sender.call, Note("a", "x"), timeout=20) == 1
            receipt = await in_thread(sender.send, Note("a", "y"), key="k")
            assert await in_thread(sender.result, receipt, timeout=20) == 2


@pytest.mark.parametrize("right", ["+subscribe", "+evalsha", "+script|load", "+info", "+rpush", "+get"])
async def test_one_that_is_missing_is_named(clean_redis: RedisServer, right: str) -> None:
    with user(clean_redis, *(one for one in RULE if one != right)) as url:
        await refused(url, AccessDenied, f"(?i){right[1:].replace('|', ' ')}")
    with clean_redis.client() as client:
        assert client.dbsize() == 0


# ------------------------------------------------------------------------------------ other ways there
async def test_a_socket_and_a_database(clean_redis: RedisServer) -> None:
    url = clean_redis.unix_url + "?db=3"
    async with open_pod(url) as queues, opened(url) as sender:
        await in_thread(sender.send, Note("a", "x"))
        assert await in_thread(sender.call, Note("a", "y"), timeout=20) == 2
        assert await notes(queues) == ["x", "y"]


async def test_tls(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    for binary in find_servers().values():
        try:
            with RedisServer(binary, tls=certificates, requirepass=PASSWORD) as server:
                trusting = f"{server.tls_url}?ssl_ca_certs={quote(str(certificates.authority))}"
                async with open_pod(server.url), opened(trusting) as sender:
                    assert await in_thread(sender.call, Note("a", "x"), timeout=20) == 1
                await refused(server.tls_url, StoreUnavailable, "no TLS: .*check ssl_ca_certs")
                return
        except ServerFailed:
            continue
    pytest.skip("no redis-server here speaks TLS")


# ------------------------------------------------------------------------------------ threads and processes
FORKS = """
import os, sys
from blocking.office import Note
from trioqueue import Closed
from trioqueue.blocking import open_sender

with open_sender(sys.argv[1]) as sender:
    sender.send(Note("a", "before"))
    child = os.fork()
    try:
        sender.send(Note("a", "after"))
    except Closed as error:
        print(error)
if child == 0:
    with open_sender(sys.argv[1]) as sender:
        sender.send(Note("a", "of the child"))
else:
    os.waitpid(child, 0)
"""


async def test_a_forked_process_needs_a_sender_of_its_own(clean_redis: RedisServer) -> None:
    ran = await in_thread(
        subprocess.run,
        [sys.executable, "-W", "error", "-c", FORKS, clean_redis.url],
        env=environment(PYTHONUNBUFFERED="1"),
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == (
        "This sender was opened before its process forked: open one in each process, after the fork.\n"
    )
    async with open_pod(clean_redis.url) as queues:
        assert sorted(await notes(queues)) == ["after", "before", "of the child"]
