"""The Redis user whose rights the how-to lists."""

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from redis_harness import RedisHarness

from trioqueue.stores.contract import Store
from trioqueue.stores.redis.store import open_redis_store

HOW_TO = Path(__file__).parents[1] / "docs" / "how-to" / "redis-users.md"
PASSWORD = "only-what-it-needs"


def documented() -> list[str]:
    """Reads the rule from the page, without the user's name and password."""
    found = re.search(r"^ACL SETUSER trioqueue on >PASSWORD (.+)$", HOW_TO.read_text(), re.MULTILINE)
    assert found
    return found[1].split()


RULE = documented()
COMMANDS = [right for right in RULE if right.startswith("+")]

USER = f"trioqueue on >{PASSWORD} {' '.join(RULE)}".replace("{tq:", "{check-*:")
"""That user, for the prefixes of `RedisHarness`."""


class RestrictedHarness(RedisHarness):
    """Opens its stores as that user, and looks at them as another."""

    @asynccontextmanager
    async def open_store(self) -> AsyncGenerator[Store, None]:
        url = self.server.url.replace("://", f"://trioqueue:{PASSWORD}@")
        async with open_redis_store(url, prefix=self.prefix, unanswered=10.0) as store:
            yield store
