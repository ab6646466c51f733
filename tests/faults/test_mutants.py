"""Protocols without one rule: each story is survived by the real protocol, and not by the one that lacks its rule."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from faults.lab import open_lab
from faults.mutants import METHODS, SCRIPTS, mutate
from faults.scenarios import EXPOSED_BY, Scenario, stale_copy
from redis_servers import RedisServer

ATTEMPTS = 3
"""A heartbeat in the wrong moment, as one in a hundred is, heals what a story has broken."""


@contextmanager
def server_for(story: Scenario, shared: RedisServer) -> Iterator[RedisServer]:
    """Gives a server of its own to a story that ends it."""
    if story is stale_copy:
        with RedisServer(appendonly=True) as own:
            yield own
    else:
        yield shared


def test_every_mutant_has_its_story() -> None:
    assert set(EXPOSED_BY) == {*SCRIPTS, *METHODS}
    assert len(EXPOSED_BY) >= 12


@pytest.mark.parametrize(
    "story", [story for story, _ in EXPOSED_BY.values()], ids=lambda story: story.__name__
)
async def test_the_protocol_survives(story: Scenario, redis_server: RedisServer, tmp_path: Path) -> None:
    with server_for(story, redis_server) as server:
        async with open_lab(server, tmp_path) as lab:
            (await story(lab, "")).assert_clean(confirmed=1)


@pytest.mark.parametrize("mutant", EXPOSED_BY)
async def test_a_mutant_is_caught(mutant: str, redis_server: RedisServer, tmp_path: Path) -> None:
    story, violation = EXPOSED_BY[mutant]
    for attempt in range(ATTEMPTS):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        with server_for(story, redis_server) as server, mutate(mutant):
            async with open_lab(server, folder) as lab:
                verdict = await story(lab, mutant)
        if violation in verdict.problems():
            return
    pytest.fail(f"nobody noticed {mutant!r}: {verdict}")
