"""What a shell that completes gets to hear: names, and never an error."""

from pathlib import Path

import pytest
import trio
from cli.bank import Linger, registry
from cli.command_line import Ran, verb
from click.shell_completion import ShellComplete
from redis_servers import RedisServer

from trioqueue import open_atomic_queues
from trioqueue.cli.group import trioqueue

APP = ("--app", "cli.bank:registry")


async def complete(*words: str) -> list[str]:
    """Completes the last one of the words; in this process, as all but the shell's own part is the same there."""
    *before, incomplete = words

    def get() -> list[str]:
        found = ShellComplete(trioqueue, {}, "trioqueue", "").get_completions(list(before), incomplete)
        return [one.value for one in found]

    return await trio.to_thread.run_sync(get)


async def test_a_shell_gets_names(clean_redis: RedisServer, tmp_path: Path) -> None:
    """As bash asks after a Tab."""
    words = {"_TRIOQUEUE_COMPLETE": "bash_complete", "COMP_WORDS": "trioqueue purge ac", "COMP_CWORD": "2"}
    async with open_atomic_queues(clean_redis.url, registry=registry):
        ran = await verb(url=clean_redis.url, cwd=tmp_path, **words)

    assert ran == Ran(0, "plain,account/\n", "")


async def test_a_shell_gets_no_error(tmp_path: Path) -> None:
    """Neither of a store that isn't there, nor of an app that can't be imported, nor what the app prints."""
    (tmp_path / "noisy.py").write_text("print('hello'); import sys; sys.stderr.write('oh'); 1 / 0")
    for words, app in (
        ("trioqueue pause ", "noisy:registry"),
        ("trioqueue send account/42 ", "noisy:registry"),
    ):
        count = str(len(words.split(" ")) - 1)
        env = {"_TRIOQUEUE_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": count}
        ran = await verb(url="redis://localhost:1", cwd=tmp_path, TRIOQUEUE_APP=app, **env)

        assert (ran.code, ran.stdout.strip(), ran.stderr) == (0, "", "")


async def test_types_and_entities_with_work(clean_redis: RedisServer) -> None:
    url = ("--url", clean_redis.url)
    async with open_atomic_queues(clean_redis.url, registry=registry) as queues:
        await queues.pause("account", "42")
        await queues.send(Linger("42"))
        assert await complete("dead", "ls", *url, "") == ["account", "safe"]
        assert await complete("pause", *url, "s") == ["safe"]
        assert await complete("purge", *url, "") == ["account/", "safe/"]
        assert await complete("pause", *url, "account/") == ["account/42"]
        assert await complete("purge", *url, "account/5") == []


async def test_commands_of_the_app() -> None:
    """Which are found without a store."""
    assert await complete("call", *APP, "account/42", "f") == ["freeze"]
    assert await complete("send", *APP, "safe/42", "") == ["open"]


@pytest.mark.parametrize(
    "words",
    [
        ("pause", ""),
        ("pause", "--url", "memory://", ""),
        ("pause", "--url", "rediz://localhost", ""),
        ("send", "account/42", ""),
        ("send", *APP, "account", ""),
        ("send", "--app", "cli.bank:open_bank", "account/42", ""),
        ("send", "--app", "leaving:registry", "account/42", ""),
    ],
)
async def test_nothing_to_complete_is_no_error(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No store, none that can be asked, no app, one that says nothing, and one whose import ends the process."""
    (tmp_path / "leaving.py").write_text("raise SystemExit('bye')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("TRIOQUEUE_URL", raising=False)
    monkeypatch.delenv("TRIOQUEUE_APP", raising=False)

    assert await complete(*words) == []


async def test_a_store_that_does_not_answer_is_not_waited_for() -> None:
    """It accepts, and says nothing; for the test it would never."""
    (silent,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with silent:
        port = silent.socket.getsockname()[1]
        assert await complete("pause", "--url", f"redis://127.0.0.1:{port}", "") == []
