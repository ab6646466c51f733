"""`trioqueue demo`, as a process: what it shows, how it ends, and that it leaves nothing behind."""

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
import trio
from cli.command_line import CONTROL, PATIENCE, Ran, environment, processes, trioqueue, trioqueue_anew
from redis_servers import RedisServer

from trioqueue.cli import demo as demo_module
from trioqueue.cli.demo import Setting, _demo
from trioqueue.cli.demo_fleet import open_pods
from trioqueue.cli.demo_orders import PHASES, PRODUCTS, all_orders, expected_stock
from trioqueue.cli.demo_runs import drift
from trioqueue.cli.errors import told_of

T = TypeVar("T")

SMALL = ("--scale", "0.1")


def drift_of(ran: Ran) -> int:
    (said,) = re.findall(r"drift ([\d,]+)\.", ran.stdout)
    return int(said.replace(",", ""))


def until(look: Callable[[], T], seconds: float = 20.0) -> T:
    """Waits for something that another process does."""
    give_up_at = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < give_up_at, "it did not happen"
        time.sleep(0.005)
    return seen


def keys(server: RedisServer) -> list[bytes]:
    with server.client() as client:
        return list(client.scan_iter(count=1000))


def pods_of(prefix: str) -> list[int]:
    """Finds the processes of one run; others on this machine may have their own."""
    return processes(f"trioqueue.cli.demo_pod {prefix} ")


def assert_nothing_is_left(server: RedisServer, prefix: str) -> None:
    assert pods_of(prefix) == []
    assert keys(server) == []


def prefix_of(ran: Ran) -> str:
    (prefix,) = re.findall(r"keys under (demo-\w+)", ran.stdout)
    return str(prefix)


# ------------------------------------------------------------------------ what it shows
def test_memory(tmp_path: Path) -> None:
    ran = trioqueue_anew("demo", *SMALL, cwd=tmp_path)

    assert (ran.code, ran.stderr) == (0, "")
    assert drift_of(ran) == 0
    assert sum("the store is in this process" in line for line in ran.lines) == 1
    for phase in PHASES:
        assert any(re.match(rf" {phase.name} +{phase.orders // 10:,} +\d", line) for line in ran.lines), phase
    total = next(line.split() for line in ran.lines if line.startswith(" total"))
    assert total[1] == "1,230"
    created, passivated = map(int, total[4:])
    assert created == passivated >= 2 * len(PRODUCTS), "the last phase started cold"


def test_no_terminal_gets_plain_lines(tmp_path: Path) -> None:
    ran = trioqueue("demo", *SMALL, cwd=tmp_path, PYTHONIOENCODING="ascii")

    assert "\x1b" not in ran.stdout
    assert "\r" not in ran.stdout
    assert ran.stdout.isascii(), "a log without Unicode can take it"
    assert max(map(len, ran.lines)) <= 80


def on_terminal(*args: str, cwd: Path) -> tuple[int, str]:
    """Runs the demo on a terminal of 80 by 24, and gives its exit code and all that the terminal got."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "-m", "trioqueue.cli", "demo", *SMALL, *args]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, cwd=cwd, env=environment()) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                chunk = os.read(ours, 65536)
            except OSError:  # Linux's way of saying that nobody holds the other side
                break
            if not chunk:
                break
            shown += chunk
    os.close(ours)
    return process.returncode, shown.decode()


def test_terminal_gets_a_bar_and_a_closing_screen_of_80_by_24(tmp_path: Path) -> None:
    code, text = on_terminal(cwd=tmp_path)

    assert code == 0
    assert "/1230" in text, "the bar"
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l"), "the cursor is back"
    closing = CONTROL.sub("", text[text.rindex("Orders sent") - 100 :]).splitlines()
    assert len(closing) <= 20, "and three lines above"
    assert max(map(len, closing)) <= 80
    assert "drift 0." in text


def test_naive(tmp_path: Path) -> None:
    ran = trioqueue("demo", "--naive", *SMALL, cwd=tmp_path)

    assert ran.code == 0, "the drift was asked for"
    assert drift_of(ran) > 0
    assert "passivated" not in ran.stdout


def test_json_says_what_the_tables_say(tmp_path: Path) -> None:
    ran = trioqueue("demo", "--json", *SMALL, cwd=tmp_path)

    assert (ran.code, ran.stderr) == (0, "")
    (line,) = ran.lines
    said = json.loads(line)
    assert said["setting"] == {"store": "memory://", "prefix": None, "pods": 1, "naive": False}
    assert [(one["name"], one["orders"]) for one in said["phases"]] == [
        (phase.name, phase.orders // 10) for phase in PHASES
    ]
    total = said["total"]
    assert total["orders"] == 1230
    assert total["orders_per_second"] == pytest.approx(1230 / total["seconds"])
    assert total["workers_created"] == total["workers_passivated"] >= 2 * len(PRODUCTS)
    left = expected_stock(all_orders(0.1))
    assert said["products"] == [
        {"product": product, "expected": pieces, "found": pieces, "drift": 0}
        for product, pieces in left.items()
    ]
    assert said["expected"] == said["found"] == sum(left.values())
    assert said["ordered"] == 10_000 * len(PRODUCTS) - said["expected"]
    assert (said["drift"], said["well"]) == (0, True)


def test_json_of_a_race_on_redis(clean_redis: RedisServer, tmp_path: Path) -> None:
    asked = ("demo", "--naive", "--pods", "2", *SMALL)
    ran = trioqueue(*asked, cwd=tmp_path, TRIOQUEUE_URL=clean_redis.url, TRIOQUEUE_JSON="1")

    assert (ran.code, ran.stderr) == (0, ""), "the drift was asked for"
    (line,) = ran.lines
    said = json.loads(line)
    assert said["setting"].items() >= {"store": f"{clean_redis.url}/0", "pods": 2, "naive": True}.items()
    assert said["drift"] == sum(one["drift"] for one in said["products"]) > 0
    assert not said["well"]
    assert_nothing_is_left(clean_redis, said["setting"]["prefix"])


def test_json_is_all_that_a_terminal_gets(tmp_path: Path) -> None:
    code, text = on_terminal("--json", cwd=tmp_path)

    assert code == 0
    assert "\x1b" not in text
    assert json.loads(text)["well"]


@pytest.mark.parametrize("as_json", [False, True])
async def test_drift_with_queues_is_a_failure(as_json: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async def one_piece_too_many(*_: object) -> dict[str, int]:
        await trio.lowlevel.checkpoint()
        found = expected_stock(all_orders(0.01))
        return found | {PRODUCTS[0]: found[PRODUCTS[0]] + 1}

    monkeypatch.setattr(demo_module, "stock_of", one_piece_too_many)

    setting = Setting("memory://", chosen=True, pods=1, naive=False, scale=0.01)
    assert await _demo(setting, as_json=as_json) == 1


def test_drift_counts_both_ways() -> None:
    assert drift({"a": 10, "b": 10, "c": 10}, {"a": 12, "b": 9, "c": 10}) == 3


def test_orders_are_the_same_every_time() -> None:
    assert [len(phase) for phase in all_orders()] == [10_000, 1_000, 300, 1_000]
    assert all_orders() == all_orders()


# ------------------------------------------------------------------------ on Redis
def test_redis_from_the_environment(clean_redis: RedisServer, tmp_path: Path) -> None:
    ran = trioqueue("demo", *SMALL, cwd=tmp_path, TRIOQUEUE_URL=clean_redis.url)

    assert (ran.code, ran.stderr) == (0, "")
    assert drift_of(ran) == 0
    assert f"Store: {clean_redis.url}/0" in ran.stdout
    assert_nothing_is_left(clean_redis, prefix_of(ran))


def test_pods(clean_redis: RedisServer, tmp_path: Path) -> None:
    ran = trioqueue("demo", "--url", clean_redis.url, "--pods", "3", *SMALL, cwd=tmp_path)

    assert (ran.code, ran.stderr) == (0, "")
    assert drift_of(ran) == 0
    assert "in 3 processes" in ran.stdout
    total = next(line.split() for line in ran.lines if line.startswith(" total"))
    assert total[1] == "1,230"
    assert int(total[4]) >= 2 * len(PRODUCTS), "what the pods counted came back"
    assert_nothing_is_left(clean_redis, prefix_of(ran))


@pytest.mark.parametrize("count", ["1", "3"])
def test_naive_on_redis(count: str, clean_redis: RedisServer, tmp_path: Path) -> None:
    ran = trioqueue("demo", "--naive", "--url", clean_redis.url, "--pods", count, *SMALL, cwd=tmp_path)

    assert (ran.code, ran.stderr) == (0, "")
    assert drift_of(ran) > 0
    assert_nothing_is_left(clean_redis, prefix_of(ran))


def test_other_keys_stay(clean_redis: RedisServer, tmp_path: Path) -> None:
    with clean_redis.client() as client:
        client.set("{tq:0}:s:product:product-01", "somebody else's")

    trioqueue("demo", "--url", clean_redis.url, *SMALL, cwd=tmp_path)

    assert keys(clean_redis) == [b"{tq:0}:s:product:product-01"]


# ------------------------------------------------------------------------ ends that nobody planned
@contextmanager
def begun(server: RedisServer, folder: Path) -> "Iterator[tuple[subprocess.Popen[str], str]]":
    """Starts the demo with two pods, at full scale, and waits until orders are in mailboxes.

    Returns:
        The process, which is killed at the end of the block if it still runs, and the prefix of its run.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "trioqueue.cli", "demo", "--url", server.url, "--pods", "2"],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            mailbox = until(lambda: next((key for key in keys(server) if b":q:" in key), b""))
            yield process, mailbox[1:].partition(b":")[0].decode()
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("number", "code", "told"),
    [
        (signal.SIGINT, 130, ""),
        (signal.SIGTERM, 143, "error: Told to end by SIGTERM: what was begun is not finished.\n"),
    ],
)
def test_told_to_end(
    number: signal.Signals, code: int, told: str, clean_redis: RedisServer, tmp_path: Path
) -> None:
    with begun(clean_redis, tmp_path) as (process, prefix):
        process.send_signal(number)
        _, stderr = process.communicate(timeout=PATIENCE)

    assert (process.returncode, stderr) == (code, told)
    assert_nothing_is_left(clean_redis, prefix)


def test_killed_demo_takes_its_pods_along(clean_redis: RedisServer, tmp_path: Path) -> None:
    with begun(clean_redis, tmp_path) as (_, prefix):
        assert len(pods_of(prefix)) == 2

    until(lambda: not pods_of(prefix))


def test_killed_pod_ends_the_demo_in_one_line(clean_redis: RedisServer, tmp_path: Path) -> None:
    with begun(clean_redis, tmp_path) as (process, prefix):
        os.kill(pods_of(prefix)[0], signal.SIGKILL)
        _, stderr = process.communicate(timeout=PATIENCE)

    assert process.returncode == 1
    assert re.fullmatch(r"error: The pod process \d+ ended by signal 9: run the demo again\.\n", stderr)
    assert_nothing_is_left(clean_redis, prefix)


async def test_error_of_a_pod_is_told_as_its_own() -> None:
    prefix = f"demo-{os.getpid()}"
    with pytest.raises(ExceptionGroup) as caught:
        async with open_pods("redis://127.0.0.1:1", prefix, 2, scale=0.1, naive=False):
            pytest.fail("it opened")

    assert told_of(caught.value) == (
        "No store answers at redis://127.0.0.1:1/0 (Connection refused): start it, or correct the URL.",
        1,
    )
    assert pods_of(prefix) == []
