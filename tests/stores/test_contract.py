"""Every store keeps the contract, on every server that is found, for a user who has the documented rights alone."""

from collections.abc import Iterator

import pytest
from redis_rights import USER, RestrictedHarness
from redis_servers import RedisServer, find_servers

from trioqueue.testing import CHECKS, Check, MemoryHarness, check_store, run_check


def name_of(check: Check) -> str:
    return getattr(check, "__name__", "").removeprefix("check_")


@pytest.mark.parametrize("check", CHECKS, ids=name_of)
async def test_memory(check: Check, autojump_clock: object) -> None:
    await run_check(check, MemoryHarness())


async def test_check_store_runs_them_all(autojump_clock: object) -> None:
    await check_store(MemoryHarness())


@pytest.fixture(scope="module", params=sorted(find_servers()))
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A server of our own, as some checks kill it; it keeps what was written."""
    with RedisServer(find_servers()[request.param], appendonly=True, users=[USER]) as one:
        yield one


@pytest.mark.parametrize("check", CHECKS, ids=name_of)
async def test_redis(check: Check, server: RedisServer) -> None:
    await run_check(check, RestrictedHarness(server))
