"""`trioqueue dev`, as a process: what it prints, and what may be typed."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from cli.command_line import CONTROL, PATIENCE, environment, verb
from cli.served import SHOP, serving, until
from lamps import Switch
from redis_servers import RedisServer

from trioqueue import open_atomic_queues


async def test_it_prints_what_happens(clean_redis: RedisServer, tmp_path: Path) -> None:
    async with (
        open_atomic_queues(clean_redis.url) as queues,
        serving(verb="dev", url=clean_redis.url, cwd=tmp_path, ready=0) as pod,
    ):
        await pod.wait_said("^shop:registry serves fan, lamp, on redis://.*/0 with the prefix tq")
        await queues.call(Switch("a", "on"))
        await queues.send(Switch("b", "fail"))
        await pod.wait_said(r"^[\d:.]+  lamp/a +handled  switch +waited +[\d.,]+ ms  took +[\d.,]+ ms$")
        await pod.wait_said(r"^[\d:.]+  lamp/b +failed   switch +OSError, attempt 1, again in [\d.,]+ ms$")
        assert not pod.said("\x1b")

        (tmp_path / "shop.py").write_text(SHOP.replace("return 1", "return 7"))
        await pod.wait_said("^shop:registry serves", 2)
        with trio.fail_after(PATIENCE):
            assert await queues.call(Switch("a", "on")) == 7
        assert await pod.end(signal.SIGINT) == 0


async def test_all_that_it_prints_is_json(clean_redis: RedisServer, tmp_path: Path) -> None:
    async with (
        open_atomic_queues(clean_redis.url) as queues,
        serving("--json", verb="dev", url=clean_redis.url, cwd=tmp_path, ready=0) as pod,
    ):
        ready = json.loads(*await pod.wait_said('"ready"'))
        assert time.time() - PATIENCE < ready.pop("at") <= time.time()
        (seen,) = await queues.pods()
        assert ready == {
            "event": "ready",
            "target": "shop:registry",
            "pod": seen.name,
            "types": ["fan", "lamp"],
            "store": f"{clean_redis.url}/0",
            "prefix": "tq",
        }
        await queues.call(Switch("a", "on"))
        handled = json.loads(*await pod.wait_said('"handled"'))
        assert (handled["entity_id"], handled["outcome"], handled["pod"]) == ("a", "done", seen.name)

        (tmp_path / "shop.py").write_text("x x")
        broken = json.loads(*await pod.wait_said("a change of the source is waited for"))
        assert (broken["event"], broken["level"]) == ("waits_for_change", "error")
        assert "shop:registry: its import failed at shop.py:1: invalid syntax" in broken["message"]
        (tmp_path / "shop.py").write_text(SHOP)
        await pod.wait_said('"ready"', 2)
        assert await pod.end(signal.SIGINT) == 0
    assert all(isinstance(json.loads(line), dict) for line in pod.lines)


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("shop:registry", "--url", "http://localhost"), 1, "its scheme is none of"),
        (("shop:registry", "--url", "redis://localhost:1"), 1, "No store answers at redis://localhost:1/0"),
        (("nosuch:registry",), 1, "there is no module 'nosuch'"),
        (("shop",), 1, "name a module and a registry in it"),
    ],
)
async def test_what_is_wrong_is_said_in_one_line(
    args: tuple[str, ...], code: int, says: str, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    for more in ([], ["--json"]):
        ran = await verb("dev", *args, *more, url="", cwd=tmp_path)

        assert (ran.code, ran.stdout) == (code, "")
        assert says in ran.stderr
        assert len(ran.stderr.splitlines()) == 1
        assert ran.stderr.startswith("error: ")


async def test_it_needs_no_redis(tmp_path: Path) -> None:
    async with serving(verb="dev", url="", cwd=tmp_path, ready=0) as pod:
        (said,) = await pod.wait_said("^shop:registry serves")
        assert "on memory://, which is in this process: no other one can send to it" in said

        assert await pod.end() == 0


def test_it_ends_quietly_when_nobody_reads_it(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    reads, writes = os.pipe()
    os.close(reads)
    command = [sys.executable, "-m", "trioqueue.cli", "dev", "shop:registry"]
    ran = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment(),
        stdout=writes,
        stderr=subprocess.PIPE,
        timeout=PATIENCE,
        check=False,
    )
    os.close(writes)

    assert (ran.returncode, ran.stderr) == (1, b"")


@pytest.fixture
def keyboard() -> Iterator[tuple[int, int]]:
    """A terminal: our side of it, and the other one."""
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)
    os.close(theirs)


async def test_what_is_typed_is_done(tmp_path: Path, keyboard: tuple[int, int]) -> None:
    ours, theirs = keyboard
    async with serving(verb="dev", url="", cwd=tmp_path, ready=0, terminal=theirs) as pod:
        await pod.wait_said("^Type send ENTITY COMMAND")
        for line, answer in (
            ("call lamp/a switch what=on", "^1$"),
            ("send lamp/a switch what=hold", "^sent, as "),
            ("why lamp/a", "is handling switch"),
            ("ls", "^lamp/a  owned, 1 pending, first switch$"),
            ("call lamp/a switch", "what"),
            ("why lamp", "no entity"),
            ("open 'lamp", "No closing quotation"),
            ("open lamp/a", "^Type send"),
        ):
            before = len(pod.said(answer))
            os.write(ours, f"{line}\n".encode())
            await pod.wait_said(answer, before + 1)
            if line.endswith("hold"):
                await until((tmp_path / "held").exists)  # it is sent before it is begun with
        assert not [line for line in pod.lines if "Traceback" in line]

        assert await pod.end() == 0


async def test_what_is_typed_is_answered_in_json(tmp_path: Path, keyboard: tuple[int, int]) -> None:
    ours, theirs = keyboard
    async with serving("--json", verb="dev", url="", cwd=tmp_path, ready=0, terminal=theirs) as pod:
        await pod.wait_said('"ready"')
        for line, said in (("call lamp/a switch what=on", "1"), ("ls", ""), ("open it", "Type send ")):
            os.write(ours, f"\n{line}\n".encode())
            answered = json.loads(*await pod.wait_said(f'"answered", "line": "{line}"'))
            assert answered["said"].startswith(said)

        assert await pod.end() == 0
    assert all(isinstance(json.loads(line), dict) for line in pod.lines)


async def test_json_of_the_live_screen(tmp_path: Path, keyboard: tuple[int, int]) -> None:
    ours, theirs = keyboard
    async with serving(
        "--top", "--json", verb="dev", url="", cwd=tmp_path, ready=0, terminal=theirs, shown=True
    ) as pod:
        shown = b""
        with trio.fail_after(PATIENCE):
            while b"\n" not in shown:
                await trio.lowlevel.wait_readable(ours)
                shown += os.read(ours, 65536)
        line, _, _ = shown.partition(b"\n")
        assert json.loads(line)["fleet"]["pods"] == 1

        assert await pod.end() == 0


async def test_it_may_show_the_live_screen(tmp_path: Path, keyboard: tuple[int, int]) -> None:
    ours, theirs = keyboard
    async with serving(
        "--top", verb="dev", url="", cwd=tmp_path, ready=0, terminal=theirs, shown=True
    ) as pod:
        shown = ""
        with trio.fail_after(PATIENCE):
            while "memory://" not in CONTROL.sub("", shown):
                await trio.lowlevel.wait_readable(ours)
                shown += os.read(ours, 65536).decode()
        os.write(ours, b"q")

        assert await pod.wait() == 0
