"""TLS from the front door: a server that can't prove who it is gets nothing, and the heartbeat speaks TLS as well."""

from collections.abc import Iterator
from urllib.parse import quote

import pytest
import redis.exceptions
import trio
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis_servers import Certificates, RedisServer, ServerFailed, find_servers, make_certificates

from trioqueue import (
    Command,
    Lease,
    Registry,
    StoreUnavailable,
    command,
    entity_id,
    open_atomic_queues,
)
from trioqueue.stores.redis.address import parse_address

registry = Registry()
PASSWORD = "never-over-the-wrong-wire"
SHORT = Lease(ttl=0.6, heartbeat=0.2, grace=0.4)


@command("account")
class Look(Command[int]):
    account_id: str = entity_id()


@registry.handles(Look)
async def look(_: Look) -> int:
    return 1


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("right"))


@pytest.fixture(scope="module")
def other_host(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("host"), hosts=["DNS:elsewhere.example"])


@pytest.fixture(scope="module")
def expired(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A certificate of yesterday, of an authority that is still trusted."""
    return make_certificates(tmp_path_factory.mktemp("expired"), days=-1)


def serving(certificates: Certificates) -> RedisServer:
    """Makes a server that speaks TLS; the first of those found that can."""
    for binary in find_servers().values():
        server = RedisServer(binary, tls=certificates, requirepass=PASSWORD)
        try:
            with server:
                pass
        except ServerFailed:
            continue
        return server
    pytest.skip("no redis-server that was found speaks TLS")


@pytest.fixture(scope="module")
def tls_server(certificates: Certificates) -> Iterator[RedisServer]:
    with serving(certificates) as server:
        yield server


async def refused(url: str, reason: str) -> None:
    with trio.fail_after(10), pytest.raises(StoreUnavailable, match=reason) as caught:
        async with open_atomic_queues(url, registry=registry):
            pass
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert PASSWORD not in sentence


def trusting(server: RedisServer, certificates: Certificates, more: str = "") -> str:
    return f"{server.tls_url}?ssl_ca_certs={quote(str(certificates.authority))}{more}"


# ------------------------------------------------------------------------------------ refused
async def test_a_certificate_of_another_authority(tls_server: RedisServer, other_host: Certificates) -> None:
    await refused(trusting(tls_server, other_host), "certificate")


async def test_an_authority_that_nobody_named(tls_server: RedisServer) -> None:
    await refused(tls_server.tls_url, "certificate")


async def test_a_certificate_of_another_host(other_host: Certificates) -> None:
    with serving(other_host) as server:
        await refused(trusting(server, other_host), "mismatch")


async def test_an_expired_certificate(expired: Certificates) -> None:
    with serving(expired) as server:
        await refused(trusting(server, expired), "certificate has expired; renew .* clock")


async def test_tls_at_a_plain_port(tls_server: RedisServer, certificates: Certificates) -> None:
    plain = tls_server.url.replace("redis://", "rediss://")
    await refused(f"{plain}?ssl_ca_certs={quote(str(certificates.authority))}", "TLS|SSL")


async def test_plain_at_a_tls_port(tls_server: RedisServer) -> None:
    await refused(tls_server.tls_url.replace("rediss://", "redis://"), "rediss://")


# ------------------------------------------------------------------------------------ taken
@pytest.mark.parametrize("more", ["", "&ssl_cert_reqs=none", "&ssl_check_hostname=false"])
async def test_the_lease_is_kept_over_tls(
    tls_server: RedisServer, certificates: Certificates, more: str
) -> None:
    """The heartbeat's thread has a connection and a client of its own; a handler needs a lease that it renewed."""
    url = trusting(tls_server, certificates, more)
    async with open_atomic_queues(url, registry=registry, lease=SHORT, prefix="tls") as queues:
        supervisor = queues._supervisor
        assert supervisor is not None
        before = supervisor.incarnation
        await trio.sleep(SHORT.ttl + SHORT.grace + 2 * SHORT.heartbeat)
        assert await queues.call(Look("a")) == 1
        assert supervisor.incarnation is before, "it lost its lease and joined anew"
    with tls_server.client() as client:
        client.flushall()


async def test_a_wrong_host_is_taken_where_the_url_says_so(other_host: Certificates) -> None:
    with serving(other_host) as server:
        url = trusting(server, other_host, "&ssl_check_hostname=false")
        async with open_atomic_queues(url, registry=registry, lease=SHORT) as queues:
            await trio.sleep(SHORT.ttl + SHORT.heartbeat)
            assert await queues.call(Look("a")) == 1


def test_the_heartbeats_client_checks_as_much(certificates: Certificates, other_host: Certificates) -> None:
    """It never speaks to whoever took the server's place."""
    with serving(other_host) as server:
        for trusted, reason in ((certificates, "certificate"), (other_host, "mismatch")):
            client = parse_address(trusting(server, trusted)).sync_client(retry=Retry(NoBackoff(), 0))
            with client, pytest.raises(redis.exceptions.ConnectionError, match=reason):
                client.ping()
