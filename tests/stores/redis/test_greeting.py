import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import trio
from redis_connections import GOOD_INFO, HELLO, info, scripted
from redis_servers import Certificates, RedisServer, ServerFailed, find_servers, make_certificates

from trioqueue._errors import AccessDenied, BadUrl, Incompatible, StoreUnavailable, TrioqueueError
from trioqueue.stores.redis import greeting as greeting_module
from trioqueue.stores.redis.address import parse_address
from trioqueue.stores.redis.greeting import Greeting, Link, open_first_link, open_link
from trioqueue.stores.redis.resp import pack

LOADING = b"-LOADING Redis is loading the dataset in memory\r\n"


async def greet(
    url: str, *, patience: float = 5.0, channels: tuple[str, ...] = (), preload: tuple[bytes, ...] = ()
) -> Link:
    """Opens a link and closes it: what was said of it stays."""
    link = await open_first_link(Greeting(parse_address(url), channels, preload, "tests", patience))
    link.wire.close()
    return link


async def refused(url: str, kind: type[TrioqueueError], hint: str, **options: float) -> None:
    with trio.fail_after(10), pytest.raises(kind, match=hint) as caught:
        await greet(url, **options)  # type: ignore[arg-type]
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert "secret" not in sentence


# ------------------------------------------------------------------------------------ it works
async def test_learns_which_server_it_is(each_redis: RedisServer) -> None:
    link = await greet(each_redis.url)

    with each_redis.client() as client:
        known = client.info("server")
    assert link.server_id == known["run_id"]
    assert ".".join(map(str, link.server_version)) == known["redis_version"]


async def test_a_restarted_server_is_another_one() -> None:
    with RedisServer() as server:
        before = await greet(server.url)
        server.restart()
        after = await greet(server.url)

    assert before.server_id != after.server_id


async def test_database_name_scripts_and_channels_are_there_with_the_first_request(
    each_redis: RedisServer,
) -> None:
    address = parse_address(each_redis.unix_url + "?db=3")
    load = pack(("SCRIPT", "LOAD", "return 1"))
    link = await open_link(Greeting(address, ("one", "two"), (load,), "tests"))

    with each_redis.client() as client:
        (seen,) = [one for one in client.client_list() if one["name"] == "tests"]
        assert (seen["db"], seen["sub"]) == ("3", "2")
        assert client.script_exists("e0e1f9fabfc9d4800c877a703b823ac0578ff8db") == [True]
    assert link.pushes == []
    link.wire.close()


async def test_a_message_between_greeting_and_first_request_is_kept() -> None:
    subscribed = b">3\r\n+subscribe\r\n+one\r\n:1\r\n"
    message = b">3\r\n$7\r\nmessage\r\n$3\r\none\r\n$2\r\nhi\r\n"
    async with scripted(HELLO + GOOD_INFO + subscribed + message + b"+PONG\r\n" + message) as url:
        link = await greet(url, channels=("one",))

    assert link.pushes == [[b"message", b"one", b"hi"]]
    assert link.parser.gets() == [b"message", b"one", b"hi"]


async def test_waits_for_a_server_that_is_loading() -> None:
    good = HELLO + GOOD_INFO + b"+PONG\r\n"
    async with scripted(HELLO + GOOD_INFO + LOADING, HELLO + LOADING, good) as url:
        link = await greet(url)

    assert link.server_id == "cafe"


async def test_does_not_wait_for_ever_for_a_server_that_is_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(greeting_module, "LOADING_WAIT", 0.0)
    async with scripted(HELLO + GOOD_INFO + LOADING) as url:
        await refused(url, StoreUnavailable, "still loading")


# ------------------------------------------------------------------------------------ nobody there
async def test_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        await refused(
            f"redis://:secret@127.0.0.1:{unused.getsockname()[1]}", StoreUnavailable, "Connection refused"
        )


async def test_no_such_socket(tmp_path: Path) -> None:
    await refused(f"unix://:secret@{tmp_path}/redis.sock", StoreUnavailable, "No such file or directory")


async def test_no_such_host() -> None:
    class Nowhere(trio.abc.HostnameResolver):
        async def getaddrinfo(self, *_: object) -> list[object]:  # type: ignore[override]
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        async def getnameinfo(self, *_: object) -> tuple[str, str]:  # type: ignore[override]
            raise NotImplementedError

    trio.socket.set_custom_hostname_resolver(Nowhere())

    await refused(
        "redis://:secret@nowhere.invalid", StoreUnavailable, "nowhere.invalid.*Name or service not known"
    )


async def test_nobody_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://:secret@127.0.0.1:{silent.getsockname()[1]}"
        await refused(url, StoreUnavailable, "no answer within 0.05 s", patience=0.05)


async def test_the_server_hangs_up() -> None:
    async with scripted(b"") as url:
        await refused(url, StoreUnavailable, "during the greeting")


async def test_no_room_for_more_clients() -> None:
    async with scripted(b"-ERR max number of clients reached\r\n") as url:
        await refused(url, StoreUnavailable, "max number of clients")


# ------------------------------------------------------------------------------------ not a Redis, or an old one
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"+OK\r\n" * 3,
        HELLO + b"+OK\r\n+PONG\r\n",
        HELLO + info("redis_version:seven\r\nrun_id:cafe\r\n") + b"+PONG\r\n",
        HELLO + info("redis_version:7.0.15\r\n") + b"+PONG\r\n",
    ],
)
async def test_it_is_no_redis(answer: bytes) -> None:
    async with scripted(answer) as url:
        await refused(url, Incompatible, "what answers at redis://127.0.0.1.*correct the URL")


@pytest.mark.parametrize(
    "answer",
    [
        b"-ERR unknown command `HELLO`, with args beginning with: `3`\r\n" * 3,
        b"-NOPROTO unsupported protocol version\r\n" * 3,
        HELLO + info("redis_version:6.0.16\r\nrun_id:cafe\r\n") + b"+PONG\r\n",
    ],
)
async def test_it_is_too_old(answer: bytes) -> None:
    async with scripted(answer) as url:
        await refused(url, Incompatible, "6.2 or newer")


async def test_a_version_may_have_a_suffix() -> None:
    async with scripted(HELLO + info("redis_version:8.0-rc1\r\nrun_id:cafe\r\n") + b"+PONG\r\n") as url:
        assert (await greet(url)).server_version == (8, 0, 0)


async def test_a_script_that_does_not_compile(each_redis: RedisServer) -> None:
    with pytest.raises(Incompatible, match="compile"):
        await greet(each_redis.url, preload=(pack(("SCRIPT", "LOAD", "return return")),))


async def test_no_such_database(each_redis: RedisServer) -> None:
    await refused(f"{each_redis.url}/99", BadUrl, "no such database")


# ------------------------------------------------------------------------------------ who we are
@pytest.fixture(scope="module", params=sorted(find_servers()))
def guarded(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    users = [
        "all on >secret ~* &* +@all",
        "enough on >secret ~tq* resetchannels &tq* +hello +select +info +script|load +subscribe +evalsha",
        "blind on >secret ~* &* +@all -info",
        "deaf on >secret ~* resetchannels +@all",
        "off off >secret ~* &* +@all",
    ]
    with RedisServer(find_servers()[request.param], requirepass="secret", users=users) as server:
        yield server


def as_user(server: RedisServer, who: str) -> str:
    return f"redis://{who}@127.0.0.1:{server.port}"


@pytest.mark.parametrize("who", [":secret", "default:secret", "all:secret", "enough:secret"])
async def test_lets_in(guarded: RedisServer, who: str) -> None:
    await greet(as_user(guarded, who), channels=("tq",), preload=(pack(("SCRIPT", "LOAD", "return 1")),))


@pytest.mark.parametrize(
    ("who", "hint"),
    [
        ("", "wants a password"),
        (":wrong", "no such user and password"),
        ("all:wrong", "no such user and password"),
        ("all", "no such user and password"),
        ("nobody:secret", "no such user and password"),
        ("off:secret", "no such user and password"),
        ("blind:secret", "call INFO"),
        ("deaf:secret", "call SUBSCRIBE"),
    ],
)
async def test_keeps_out(guarded: RedisServer, who: str, hint: str) -> None:
    with pytest.raises(AccessDenied, match=hint) as caught:
        await greet(as_user(guarded, who), channels=("tq",))
    assert "secret" not in str(caught.value)


async def test_protected_mode() -> None:
    async with scripted(
        b"-DENIED Redis is running in protected mode because protected mode is enabled\r\n"
    ) as url:
        await refused(url, AccessDenied, "protected mode")


# ------------------------------------------------------------------------------------ TLS
@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def tls_server(certificates: Certificates) -> Iterator[RedisServer]:
    with ExitStack() as stack:
        for binary in find_servers().values():
            with suppress(ServerFailed):
                yield stack.enter_context(RedisServer(binary, requirepass="secret", tls=certificates))
                return
    pytest.skip("no redis-server here was built with TLS")


async def test_tls(tls_server: RedisServer, certificates: Certificates) -> None:
    link = await greet(f"{tls_server.tls_url}?ssl_ca_certs={certificates.authority}")

    with tls_server.client() as client:
        assert link.server_id == client.info("server")["run_id"]


@pytest.mark.parametrize("option", ["ssl_cert_reqs=none", "ssl_cert_reqs=none&ssl_check_hostname=yes"])
async def test_tls_without_a_check(tls_server: RedisServer, option: str) -> None:
    await greet(f"{tls_server.tls_url}?{option}")


async def test_tls_of_an_unknown_authority(tls_server: RedisServer, tmp_path: Path) -> None:
    other = make_certificates(tmp_path)

    for option in ("", f"?ssl_ca_certs={other.authority}"):
        await refused(
            tls_server.tls_url + option,
            StoreUnavailable,
            "(local issuer|self.signed|signature).*ssl_ca_certs",
        )


async def test_tls_of_another_host(tls_server: RedisServer, certificates: Certificates) -> None:
    url = tls_server.tls_url.replace("127.0.0.1", "127.0.0.2") + f"?ssl_ca_certs={certificates.authority}"

    with tls_server.client() as client:
        client.config_set("bind", "127.0.0.1 127.0.0.2")
    await refused(url, StoreUnavailable, "mismatch")
    await greet(f"{url}&ssl_check_hostname=no")


async def test_tls_files_that_are_not_there(tls_server: RedisServer) -> None:
    await refused(f"{tls_server.tls_url}?ssl_ca_certs=/nowhere.pem", StoreUnavailable, "No such file")
    await refused(f"{tls_server.tls_url}?ssl_ciphers=nonsense", StoreUnavailable, "ssl_ options")


async def test_tls_where_nobody_speaks_it(each_redis: RedisServer) -> None:
    url = each_redis.url.replace("redis://", "rediss://:secret@")

    await refused(url, StoreUnavailable, "TLS", patience=0.2)


async def test_no_tls_where_it_is_needed(tls_server: RedisServer) -> None:
    await refused(tls_server.tls_url.replace("rediss://", "redis://"), StoreUnavailable, "rediss://")


# ------------------------------------------------------------------------------------ what is left
def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
@pytest.mark.parametrize("secure", [False, True])
async def test_cancelled_anywhere_it_leaves_no_connection(
    tls_server: RedisServer, certificates: Certificates, secure: bool
) -> None:
    url = f"{tls_server.tls_url}?ssl_ca_certs={certificates.authority}" if secure else tls_server.url
    await greet(url)
    before, finished, cancelled = open_files(), 0, 0

    async def cancel_after(ticks: int, scope: trio.CancelScope) -> None:
        for _ in range(ticks):
            await trio.lowlevel.checkpoint()
        scope.cancel()

    ticks = 0
    while finished < 5:
        ticks += 1 + ticks // 20
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:
                nursery.start_soon(cancel_after, ticks, scope)
                await greet(url)
            cancelled += scope.cancelled_caught
            finished += not scope.cancelled_caught
            nursery.cancel_scope.cancel()

    assert open_files() == before
    assert cancelled >= 3


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
async def test_refused_it_leaves_no_connection(tls_server: RedisServer) -> None:
    urls = [
        tls_server.url.replace("secret", "wrong"),
        tls_server.tls_url,
        f"{tls_server.tls_url}?ssl_ca_certs=/nowhere.pem",
        tls_server.tls_url.replace("rediss", "redis"),
    ]
    before = open_files()

    for url in urls * 3:
        with pytest.raises(TrioqueueError):
            await greet(url)

    assert open_files() == before
