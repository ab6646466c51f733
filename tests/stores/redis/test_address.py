import ssl

import pytest
from redis_servers import RedisServer

from trioqueue._errors import BadUrl
from trioqueue.stores.redis.address import parse_address


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://", "redis://localhost:6379/0"),
        ("redis://cache", "redis://cache:6379/0"),
        ("redis://cache:7000/", "redis://cache:7000/0"),
        ("redis://cache:7000/3", "redis://cache:7000/3"),
        ("redis://cache/3?db=4", "redis://cache:6379/4"),
        ("redis://[::1]:7000/1", "redis://[::1]:7000/1"),
        ("rediss://cache", "rediss://cache:6379/0"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock?db=0"),
        ("unix:///run/redis.sock?db=2", "unix:///run/redis.sock?db=2"),
        ("unix://user:secret@/run/redis.sock", "unix:///run/redis.sock?db=0"),
    ],
)
def test_names_the_place(url: str, place: str) -> None:
    assert str(parse_address(url)) == place


@pytest.mark.parametrize(
    ("url", "username", "password"),
    [
        ("redis://cache", None, None),
        ("redis://:secret@cache", None, "secret"),
        ("redis://alice:secret@cache", "alice", "secret"),
        ("redis://alice:s%40%2F%3A%23@cache", "alice", "s@/:#"),
        ("redis://cache?username=alice&password=secret", "alice", "secret"),
        ("unix://alice:secret@/run/redis.sock", "alice", "secret"),
        ("unix:///run/redis.sock?password=secret", None, "secret"),
    ],
)
def test_reads_who_we_are(url: str, username: str | None, password: str | None) -> None:
    address = parse_address(url)

    assert (address.username, address.password) == (username, password)


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("", "scheme"),
        ("localhost:6379", "scheme"),
        ("http://cache", "'http'"),
        ("REDIS://cache", "'REDIS'"),
        ("redis+sentinel://cache", "sentinel' is not one of Redis"),
        ("redis://cache:port", "port"),
        ("redis://cache:70000", "port"),
        ("redis://cache:0", "port"),
        ("redis://[::1", "port"),
        ("redis://cache/zero", "database"),
        ("redis://cache/1/2", "database"),
        ("redis://cache?db=one", "'db'"),
        ("redis://cache?db=-1", "negative"),
        ("redis://cache?db=1&db=2", "twice"),
        ("redis://cache?nonsense", "options"),
        ("redis://cache?dbs=1", "'dbs'"),
        ("redis://cache?dbs=", "'dbs'"),
        ("redis://cache?protocol=2", "'protocol'"),
        ("redis://cache?ssl_ca_certs=ca.pem", "rediss://"),
        ("rediss://cache?ssl_cert_reqs=perhaps", "none, optional or required"),
        ("rediss://cache?ssl_min_version=1", "771"),
        ("rediss://cache?ssl_min_version=new", "ssl_min_version"),
        ("redis://cache#1", "fragment"),
        ("unix://run/redis.sock", "three slashes"),
        ("unix://", "three slashes"),
        ("unix:///", "three slashes"),
    ],
)
def test_refuses_what_redis_py_would_refuse_or_ignore(url: str, hint: str) -> None:
    with pytest.raises(BadUrl, match=hint):
        parse_address(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:pa#hunter2@cache",
        "redis://:pa/hunter2@cache",
        "redis://:pa?hunter2@cache",
        "redis://:1?hunter2=hunter2@cache",
        "redis://:pa[hunter2@cache",
        "redis://:hunter2@cache:port",
        "redis://:hunter2@cache/zero",
        "redis://:hunter2@cache?no=1",
        "redis://cache?password=hunter2&db=x",
        "unix://:hunter2@cache/redis.sock",
        ":hunter2@cache",
    ],
)
def test_no_error_repeats_a_password(url: str) -> None:
    with pytest.raises(BadUrl) as caught:
        parse_address(url)

    error: BaseException | None = caught.value
    while error is not None:
        assert "hunter2" not in str(error) + repr(error)
        error = error.__cause__ if error.__suppress_context__ else error.__context__


def test_neither_str_nor_repr_shows_a_secret() -> None:
    address = parse_address("rediss://alice:hunter2@cache?ssl_password=hunter3")

    assert address.tls is not None
    for text in (str(address), repr(address), repr(address.tls)):
        assert "hunter" not in text


def test_equal_urls_are_equal_addresses() -> None:
    assert parse_address("redis://cache") == parse_address("redis://cache:6379/0")
    assert len({parse_address("redis://cache"), parse_address("redis://cache:6379/0")}) == 1


def test_tls_checks_certificate_and_host_unless_told_otherwise() -> None:
    tls = parse_address("rediss://cache").tls
    assert tls is not None
    assert tls.context().verify_mode is ssl.CERT_REQUIRED
    assert tls.context().check_hostname

    tls = parse_address("rediss://cache?ssl_check_hostname=no").tls
    assert tls is not None
    assert tls.context().verify_mode is ssl.CERT_REQUIRED
    assert not tls.context().check_hostname

    tls = parse_address("rediss://cache?ssl_cert_reqs=none&ssl_min_version=772").tls
    assert tls is not None
    assert tls.context().verify_mode is ssl.CERT_NONE
    assert tls.context().minimum_version is ssl.TLSVersion.TLSv1_3


def test_the_plain_client_goes_to_the_same_place(clean_redis: RedisServer) -> None:
    for url in (clean_redis.url, clean_redis.unix_url):
        with parse_address(f"{url}?db=2").sync_client(socket_timeout=5.0) as client:
            info = client.client_info()
            assert client.info("server")["process_id"] == clean_redis.pid
        assert info["db"] == 2


def test_the_plain_client_knows_user_and_tls() -> None:
    address = parse_address("rediss://alice:secret@cache:7000/1?ssl_ca_certs=ca.pem&ssl_check_hostname=0")

    with address.sync_client(client_name="beat") as client:
        known = client.get_connection_kwargs()

    expected = {
        "host": "cache",
        "port": 7000,
        "db": 1,
        "username": "alice",
        "password": "secret",
        "ssl_ca_certs": "ca.pem",
        "ssl_check_hostname": False,
        "client_name": "beat",
    }
    assert {name: known[name] for name in expected} == expected
