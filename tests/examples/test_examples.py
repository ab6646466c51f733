"""Every example, run as its first lines say: in its own process, and on Redis, twice, since what it keeps stays."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from cli.command_line import environment
from redis_servers import RedisServer

EXAMPLES = Path(__file__).parents[2] / "examples"

PRINTED = {
    "banking.py": r"""deposited: 1000
a million from acc-0: no, there are only \d+
transfers: 90, of which refused: \d+
not a penny lost or made, and no account overdrawn
""",
    "device_twin.py": r"""targets set: 9, over 3 connections
cellar: set to 21.5, measures 19.5
telemetry of the cellar that nobody knows: battery-low, humidity
""",
    "game_table.py": r"""ann takes 2, 7 are left
the alarm of this turn: dropped
bob takes 3, 4 are left
ann falls asleep
the alarm that was not withdrawn: ignored
time is up, bob wins
""",
    "inventory.py": r"""50 orders of 2 at the same time: 900 of 1000 left
an order of 100, handled 2 times: 800 left
a frozen process that goes on: refused
at the end: 800 left
""",
}

SENDERS = {"fastapi_sender.py", "plain_script.py"}
"""Those that need a pod in another process: see test_senders.py."""


def run(name: str, *args: str, folder: Path) -> str:
    ran = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *args],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_every_example_is_here() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(PRINTED) | SENDERS


@pytest.mark.parametrize("name", PRINTED)
def test_memory(name: str, tmp_path: Path) -> None:
    assert re.fullmatch(PRINTED[name], run(name, folder=tmp_path))


@pytest.mark.parametrize("name", PRINTED)
def test_redis(name: str, clean_redis: RedisServer, tmp_path: Path) -> None:
    for _ in range(2):
        assert re.fullmatch(PRINTED[name], run(name, clean_redis.url, folder=tmp_path))
