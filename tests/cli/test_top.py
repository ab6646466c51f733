"""`trioqueue top`, as a process: what it prints, and on a terminal what it draws, obeys, and leaves behind."""

import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from cli.command_line import verb
from cli.going_on import OnTerminal, on_terminal, piped, wait_watched
from lamps import Switch
from redis_servers import RedisServer
from rich.cells import cell_len

from trioqueue import AtomicQueues, Context, EntityPolicy, Registry, Retry, open_atomic_queues

EVERY = ("--every", "0.1")
ONCE = {"lamp": EntityPolicy(retry=Retry(attempts=1))}


def new_registry() -> Registry:
    registry = Registry()

    @registry.handles(Switch)
    async def switch(command: Switch, context: Context) -> int:
        if command.what == "jam":
            raise OSError("it is jammed")
        return 1

    return registry


@asynccontextmanager
async def at_work(url: str) -> AsyncGenerator[AtomicQueues]:
    """Opens a pod, with a lamp that is switched all the time somebody watches, and one that is paused."""

    async def work() -> None:
        while True:
            await wait_watched(queues)
            await queues.call(Switch("hall", "on"))
            await trio.sleep(0.005)

    async with (
        open_atomic_queues(url, registry=new_registry(), name="red", entities=ONCE) as queues,
        trio.open_nursery() as nursery,
    ):
        await queues.pause("lamp", "cellar")
        await queues.send_many([Switch("cellar", "on")] * 7)
        nursery.start_soon(work)
        yield queues
        nursery.cancel_scope.cancel()


# ------------------------------------------------------------------------ without a terminal
async def test_without_a_terminal_it_prints_one_picture(clean_redis: RedisServer, tmp_path: Path) -> None:
    async with at_work(clean_redis.url):
        ran = await verb("top", *EVERY, url=clean_redis.url, cwd=tmp_path)

    assert (ran.code, ran.stderr) == (0, "")
    assert "\x1b" not in ran.stdout
    assert ran.lines[0].startswith(f"trioqueue {clean_redis.url}/0 tq")
    assert [line.split()[0] for line in ran.lines if " per s " in line] == [
        "busiest",
        "deepest",
        "oldest",
        "pods",
    ]
    deepest = ran.lines.index(next(line for line in ran.lines if line.startswith("deepest")))
    assert ran.lines[deepest + 1].split()[:3] == ["lamp/cellar", "0", "7"]
    assert ran.lines[deepest + 1].split()[-1] == "paused"
    assert any(line.split()[:2] == ["red", "serving"] for line in ran.lines)
    assert max(map(cell_len, ran.lines)) <= 80
    assert all(line == line.rstrip() for line in ran.lines)


async def test_it_prints_as_many_pictures_as_wanted(clean_redis: RedisServer, tmp_path: Path) -> None:
    ran = await verb("top", *EVERY, "--count", "3", url=clean_redis.url, cwd=tmp_path)

    assert (ran.code, ran.stderr) == (0, "")
    assert ran.stdout.count("none: nothing is handled until one serves") == 3


async def test_no_encoding_is_too_small(clean_redis: RedisServer, tmp_path: Path) -> None:
    async with open_atomic_queues(clean_redis.url, registry=new_registry(), serves=()) as queues:
        await queues.send(Switch("Küche-" + "x" * 80, "on"))
        ran = await verb("top", *EVERY, url=clean_redis.url, cwd=tmp_path, PYTHONIOENCODING="ascii")

    assert (ran.code, ran.stderr) == (0, "")
    assert "lamp/K?che-xxx" in ran.stdout


async def test_programs_get_an_object_a_line(clean_redis: RedisServer, tmp_path: Path) -> None:
    async with (
        at_work(clean_redis.url) as queues,
        piped("top", "--json", *EVERY, url=clean_redis.url, cwd=tmp_path) as command,
    ):
        await wait_watched(queues)
        await queues.send(Switch("door", "jam"))
        seen = await command.document()
        while not (seen["busiest"] and seen["trouble"]):
            seen = await command.document()
        assert await command.end(signal.SIGTERM) == (143, "")

    assert seen["fleet"]["pods"] == 1
    assert seen["handled_per_second"] > 0
    assert seen["busiest"][0]["entity"] == "lamp/hall"
    assert (seen["deepest"][0]["pending"], seen["deepest"][0]["mode"]) == (7, "paused")
    assert (seen["whole"], seen["missed"], seen["silent_for"]) == (True, 0, None)
    (pod,) = seen["pods"]
    assert (pod["name"], pod["state"], pod["types"]) == ("red", "serving", ["lamp"])
    (trouble,) = seen["trouble"]
    assert (trouble["what"], trouble["who"]) == ("dead", "lamp/door")
    assert trouble["text"] == "switch: OSError after 1 attempt"


async def test_it_ends_when_nobody_reads_it(clean_redis: RedisServer, tmp_path: Path) -> None:
    """At once, and not when it would print next."""
    async with piped("top", "--json", "--every", "0.3", url=clean_redis.url, cwd=tmp_path) as command:
        await command.document()
        assert command.process.stdout is not None
        await command.process.stdout.aclose()
        assert await command.ended() == (1, "")


# ------------------------------------------------------------------------ on a terminal
def assert_left_alone(terminal: OnTerminal, modes: object) -> None:
    shown = terminal.shown
    assert terminal.modes == modes, "keys are echoed again"
    assert shown.rindex("\x1b[?1049l") > shown.rindex("\x1b[?1049h"), "the screen of before is back"
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l"), "so is the cursor"
    assert "Traceback" not in shown
    assert shown[shown.rindex("\x1b[?1049l") :].count("\n") == 0, "nothing is said after it"


async def test_on_a_terminal_it_fits_obeys_keys_and_leaves_no_trace(
    clean_redis: RedisServer, tmp_path: Path
) -> None:
    async with (
        at_work(clean_redis.url),
        on_terminal("top", *EVERY, url=clean_redis.url, cwd=tmp_path) as terminal,
    ):
        modes = terminal.modes
        await terminal.wait_shown(lambda: any("lamp/hall" in line for line in terminal.frame()))
        assert len(terminal.frame()) == 24
        assert max(map(cell_len, terminal.frame())) <= 80
        assert terminal.frame()[-1].startswith("q quit  p freeze")

        def rows(name: str) -> int:
            names = ("busiest", "deepest", "oldest", "pods")
            at = {one: n for n, line in enumerate(terminal.frame()) for one in names if line.startswith(one)}
            return min(n for n in at.values() if n > at[name]) - at[name] if len(at) == 4 else 0

        assert rows("busiest") > rows("deepest")
        terminal.press("\t")
        await terminal.wait_shown(lambda: rows("deepest") > rows("busiest"))
        terminal.press("\x1b[C\x1b[B")
        await terminal.wait_shown(lambda: rows("busiest") > rows("deepest"))
        terminal.press("\x1b[D")
        await terminal.wait_shown(lambda: rows("oldest") > rows("busiest"))

        terminal.press("p")
        await terminal.wait_shown(lambda: "frozen at" in "".join(terminal.frame()[:1]))
        still = terminal.frame()
        seen = len(terminal.shown)
        await terminal.wait_shown(lambda: terminal.shown[seen:].count("\x1b[H") > 3)
        assert terminal.frame() == still
        terminal.press("p")
        await terminal.wait_shown(lambda: "frozen at" not in "".join(terminal.frame()[:1]))

        terminal.resize(100, 30)
        await terminal.wait_shown(lambda: len(terminal.frame()) == 30)
        assert "command" in "".join(terminal.frame())

        terminal.press("q")
        assert await terminal.ended() == 0
        assert "\x1b[2J" not in terminal.shown, "it never clears the screen, which would flicker"
        assert_left_alone(terminal, modes)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_told_to_end_it_leaves_no_trace(
    number: signal.Signals, code: int, clean_redis: RedisServer, tmp_path: Path
) -> None:
    async with on_terminal("top", *EVERY, url=clean_redis.url, cwd=tmp_path) as terminal:
        modes = terminal.modes
        await terminal.wait_shown(lambda: bool(terminal.frame()))
        assert terminal.modes != modes
        terminal.process.send_signal(number)
        assert await terminal.ended() == code
        assert_left_alone(terminal, modes)


async def test_stopped_it_gives_the_terminal_back_until_it_goes_on(
    clean_redis: RedisServer, tmp_path: Path
) -> None:
    async with on_terminal("top", *EVERY, url=clean_redis.url, cwd=tmp_path) as terminal:
        modes = terminal.modes
        await terminal.wait_shown(lambda: bool(terminal.frame()))
        terminal.process.send_signal(signal.SIGTSTP)
        pid = terminal.process.pid
        await trio.to_thread.run_sync(os.waitid, os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
        assert terminal.modes == modes
        terminal.process.send_signal(signal.SIGCONT)
        seen = len(terminal.shown)
        await terminal.wait_shown(lambda: terminal.shown[seen:].count("\x1b[H") > 3)
        assert "\x1b[?1049l" in terminal.shown
        terminal.press("q")
        assert await terminal.ended() == 0
        assert_left_alone(terminal, modes)


async def test_it_goes_on_while_redis_is_gone(tmp_path: Path) -> None:
    with RedisServer() as server:
        async with on_terminal("top", *EVERY, url=server.url, cwd=tmp_path) as terminal:
            await terminal.wait_shown(lambda: "none: nothing is handled" in "".join(terminal.frame()))
            server.kill()
            await terminal.wait_shown(lambda: "no answer for" in "".join(terminal.frame()[:1]))
            assert "none: nothing is handled" in "".join(terminal.frame()), "the picture of before"
            server.restart()
            await terminal.wait_shown(lambda: "no answer for" not in "".join(terminal.frame()[:1]))
            terminal.press("q")
            assert await terminal.ended() == 0


async def test_where_no_store_is_the_screen_is_never_taken(tmp_path: Path) -> None:
    async with on_terminal("top", *EVERY, url="redis://localhost:1", cwd=tmp_path) as terminal:
        assert await terminal.ended() == 1
        assert "\x1b[?1049h" not in terminal.shown
        assert "No store answers at redis://localhost:1/0" in terminal.shown
