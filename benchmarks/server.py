"""The redis-servers that are measured against: the tests' own, found in their folder."""

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

sys.path.append(str(ROOT / "tests"))

from redis_servers import RedisServer, find_servers  # noqa: E402 - see above

__all__ = ["ROOT", "RedisServer", "find_servers"]
