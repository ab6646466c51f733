"""What a shell that completes gets to hear: names, and never an error."""

from pathlib import Path

import pytest
import trio
from cli.bank import Linger, registry
from cli.command_line import Ran, verb
from redis_servers import RedisServer

from trioqueue import open_atomic_queues

APP = {"TRIOQUEUE_APP": "cli.bank:registry"}


async def complete(words: str, server_url: str, folder: Path, **env: str) -> list[str]:
    """Completes the last one of the words, as bash does after a Tab."""
    asked = {
        "_TRIOQUEUE_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    ran: Ran = await verb(url=server_url, cwd=folder, **asked, **env)
    assert (ran.code, ran.stderr) == (0, "")
    kinds = [line.split(",", 1) for line in ran.lines if line]
    assert {kind for kind, _ in kinds} <= {"plain"}
    return [word for _, word in kinds]


async def test_verbs(tmp_path: Path) -> None:
    assert await complete("trioqueue pa", "", tmp_path) == ["pause"]


async def test_types_and_entities_with_work(clean_redis: RedisServer, tmp_path: Path) -> None:
    async with open_atomic_queues(clean_redis.url, registry=registry) as queues:
        await queues.send(Linger("42"))
        url = clean_redis.url
        assert await complete("trioqueue dead ls ", url, tmp_path) == ["account", "safe"]
        assert await complete("trioqueue purge ac", url, tmp_path) == ["account/"]
        assert await complete("trioqueue pause account/", url, tmp_path) == ["account/42"]
        assert await complete(f"trioqueue pause --url {url} s", "", tmp_path) == ["safe"]
        await queues.purge("account", "42")


async def test_commands_of_the_app(tmp_path: Path) -> None:
    """Which are found without a store."""
    assert await complete("trioqueue call account/42 f", "", tmp_path, **APP) == ["freeze"]


@pytest.mark.parametrize(
    ("url", "words", "env"),
    [
        ("", "trioqueue pause ", {}),
        ("memory://", "trioqueue pause ", {}),
        ("redis://localhost:1", "trioqueue pause ", {}),
        ("rediz://localhost", "trioqueue dead ls ", {}),
        ("", "trioqueue send account/42 ", {}),
        ("", "trioqueue send account ", APP),
        ("", "trioqueue send account/42 ", {"TRIOQUEUE_APP": "noisy:registry"}),
        ("", "trioqueue send account/42 ", {"TRIOQUEUE_APP": "leaving:registry"}),
    ],
)
async def test_nothing_to_complete_is_no_error(
    url: str, words: str, env: dict[str, str], tmp_path: Path
) -> None:
    """No store, none that can be asked, no app, and apps whose import prints, fails, or ends the process."""
    (tmp_path / "noisy.py").write_text("print('hello'); import sys; sys.stderr.write('oh'); 1 / 0")
    (tmp_path / "leaving.py").write_text("raise SystemExit('bye')")

    assert await complete(words, url, tmp_path, **env) == []


async def test_a_store_that_does_not_answer_is_not_waited_for(tmp_path: Path) -> None:
    """It accepts, and says nothing; for the test it would never."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listeners[0] as silent:
        port = silent.socket.getsockname()[1]
        assert await complete("trioqueue pause ", f"redis://127.0.0.1:{port}", tmp_path) == []
