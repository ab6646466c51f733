"""Redis servers for whoever asks: one for the whole run, emptied for each test, or one of each version found."""

import signal
from collections.abc import Generator, Iterator

import hypothesis
import pytest
from redis_servers import RedisServer, find_servers

pytest_plugins = ["report"]

# How long an example takes says how busy the machine is, and nothing of the code.
hypothesis.settings.register_profile("trioqueue", deadline=None)
hypothesis.settings.load_profile("trioqueue")


def pytest_sessionstart() -> None:
    """Has Ctrl-C mean what it means to a user: what a shell runs in the background ignores it, children included."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Has a report keep text that UTF-8 knows: xdist ends over half a character, as some tests log one."""
    report = yield
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
    return report


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """The default server, shared by all tests of the run: don't stop it, and don't expect it empty."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def clean_redis(redis_server: RedisServer) -> RedisServer:
    """The shared server, emptied."""
    return _emptied(redis_server)


@pytest.fixture(scope="session", params=sorted(find_servers()))
def redis_version(request: pytest.FixtureRequest) -> str:
    """Each version of Redis that is found: a test that asks for it, or for `each_redis`, runs on every one."""
    version: str = request.param
    return version


@pytest.fixture(scope="session")
def each_redis_server(redis_version: str) -> Iterator[RedisServer]:
    """One server of each version, shared like `redis_server`."""
    with RedisServer(find_servers()[redis_version]) as server:
        yield server


@pytest.fixture
def each_redis(each_redis_server: RedisServer) -> RedisServer:
    """One server of each version, emptied."""
    return _emptied(each_redis_server)


def _emptied(server: RedisServer) -> RedisServer:
    with server.client() as client:
        client.flushall()
    return server
