"""`trioqueue serve`, as a process: it serves, drains, ends and begins anew, alone and with others."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import pytest
import trio
from cli.command_line import PATIENCE, environment, verb
from cli.served import SHOP, command_line_of, pods_of, serving, until, until_none
from lamps import Spin, Switch
from redis_servers import RedisServer

from trioqueue import AtomicQueues, Registry, open_atomic_queues
from trioqueue.cli.logs import Logs
from trioqueue.cli.serving import Plan

other = Registry()


@other.handles(Switch)
async def other_switch(command: Switch) -> int:
    return 2


SENDS = """

def sends(url, **options):
    return open_atomic_queues(url, prefix=options["prefix"])
"""

OPENS_NOTHING = """
from contextlib import asynccontextmanager

@asynccontextmanager
async def registry(url, **options):
    raise OSError("no database")
    yield
"""


def write(folder: Path, source: str, name: str = "shop.py") -> None:
    (folder / name).write_text(source)


async def answers(queues: AtomicQueues, lamp: str = "a") -> int:
    with trio.fail_after(PATIENCE):
        return await queues.call(Switch(lamp, "on"))


def test_a_plan_does_not_show_the_password() -> None:
    plan = Plan("shop:registry", "redis://:s3cret@localhost", "tq", "shop", Logs(None))

    assert "s3cret" not in f"{plan!r} {plan.store()}"


# ------------------------------------------------------------------------ one pod
async def test_it_serves_and_hands_on_when_it_drains(clean_redis: RedisServer, tmp_path: Path) -> None:
    async with (
        open_atomic_queues(clean_redis.url) as queues,
        trio.open_nursery() as nursery,
        serving(url=clean_redis.url, cwd=tmp_path) as pod,
    ):
        (ready,) = pod.said(" is ready: ")
        assert f"it serves fan, lamp, on {clean_redis.url}/0 with the prefix tq" in ready
        got: dict[str, int] = {}

        async def ask(what: str) -> None:
            got[what] = await queues.call(Switch("a", what))

        nursery.start_soon(ask, "hold")
        await until((tmp_path / "held").exists)
        nursery.start_soon(ask, "stay")
        async with open_atomic_queues(clean_redis.url, registry=other):
            pod.process.terminate()
            await pod.wait_said(" drains, as it got SIGTERM")
            assert "hold" not in got
            (tmp_path / "go").touch()

            assert await pod.wait() == 0
            await queues.wait_settled()
        assert await pod.wait_said("has ended: it handled 1 command, and handed on 1 entity")
    assert got == {"hold": 1, "stay": 2}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
async def test_a_second_signal_ends_it_at_once(
    number: signal.Signals, code: int, clean_redis: RedisServer, tmp_path: Path
) -> None:
    async with (
        open_atomic_queues(clean_redis.url) as queues,
        serving(url=clean_redis.url, cwd=tmp_path) as pod,
    ):
        await queues.send(Switch("a", "hold"))
        await until((tmp_path / "held").exists)
        pod.process.send_signal(number)
        await pod.wait_said(f" drains, as it got {number.name}")

        assert await pod.end(number) == code


async def test_a_second_signal_ends_it_also_while_a_handler_blocks_its_loop(
    clean_redis: RedisServer, tmp_path: Path
) -> None:
    async with (
        open_atomic_queues(clean_redis.url) as queues,
        serving(url=clean_redis.url, cwd=tmp_path) as pod,
    ):
        await queues.send(Switch("a", "block"))
        await until((tmp_path / "held").exists)
        with trio.fail_after(PATIENCE):
            while pod.process.poll() is None:  # more than two, as those of one moment are heard as one
                pod.process.terminate()
                await trio.sleep(0.05)

        assert pod.process.returncode == 143


async def test_its_drain_is_as_long_as_it_is_told(clean_redis: RedisServer, tmp_path: Path) -> None:
    async with open_atomic_queues(clean_redis.url) as queues:
        async with serving("--drain-soft", "0", "--types", "lamp", url=clean_redis.url, cwd=tmp_path) as pod:
            (seen,) = await queues.pods()
            assert seen.types == ("lamp",)
            await queues.send(Switch("a", "hold"))
            await until((tmp_path / "held").exists)

            assert await pod.end() == 0
        box = await queues.inspect("lamp", "a")
        assert (box.pending, box.mode) == (1, "ready"), "handed on, and no attempt was spent"
        assert box.head is not None
        assert box.head.attempts == 0


async def test_once(clean_redis: RedisServer, tmp_path: Path) -> None:
    write(tmp_path, SHOP)
    async with open_atomic_queues(clean_redis.url) as queues:
        for number in range(20):
            await queues.send(Switch(str(number), "on"))
        await queues.send(Spin("a", "not of these types"))
        await queues.send(Switch("later", "on"), delay=600)
        await queues.pause("lamp", "held")
        await queues.send(Switch("held", "on"))
        once = ("serve", "shop:registry", "--once", "--types", "lamp", "--json")
        ran = await verb(*once, url=clean_redis.url, cwd=tmp_path)

        assert (ran.code, ran.stdout) == (0, ""), ran.stderr
        left = {(lane.entity_type, lane.entity_id) for lane in (await queues.lanes()).lanes}
        assert left == {("fan", "a"), ("lamp", "held")}
        assert (await queues.statistics()).put_off == 1
    lines = [json.loads(line) for line in ran.stderr.splitlines()]
    ready = next(line for line in lines if line.get("event") == "ready")
    assert (ready["level"], ready["logger"], ready["types"]) == ("info", "trioqueue.serve", ["lamp"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", ready["time"])
    assert "it handled 20 commands" in lines[-1]["message"]


async def test_once_does_not_wait_for_a_type_that_is_paused(clean_redis: RedisServer, tmp_path: Path) -> None:
    write(tmp_path, SHOP)
    async with open_atomic_queues(clean_redis.url) as queues:
        await queues.pause("lamp", why="held")
        await queues.send(Switch("a", "on"))
        await queues.send(Spin("a", "on"))
        with trio.fail_after(PATIENCE):
            for types in ("lamp", "lamp,fan"):
                ran = await verb(
                    "serve", "shop:registry", "--once", "--types", types, url=clean_redis.url, cwd=tmp_path
                )
                assert ran.code == 0
        left = {(lane.entity_type, lane.entity_id) for lane in (await queues.lanes()).lanes}
        assert left == {("lamp", "a")}


async def test_a_function_opens_what_the_app_needs(clean_redis: RedisServer, tmp_path: Path) -> None:
    write(
        tmp_path,
        """
import logging
from contextlib import asynccontextmanager

from lamps import Switch

from trioqueue import EntityPolicy, Registry, open_atomic_queues

registry = Registry()
logging.basicConfig(format="ours: %(message)s", level="INFO")


class Pool:
    size = 3


@registry.handles(Switch)
async def switch(command: Switch, pool: Pool) -> int:
    return pool.size


@asynccontextmanager
async def shop(url, **options):
    policies = {"lamp": EntityPolicy(keep_results=60)}
    async with open_atomic_queues(
        url, registry=registry, provide={Pool: Pool()}, entities=policies, **options
    ) as queues:
        yield queues
""",
    )
    async with open_atomic_queues(clean_redis.url) as queues:
        receipt = await queues.send(Switch("a", "on"))
        ran = await verb("serve", "shop:shop", "--once", url=clean_redis.url, cwd=tmp_path)
        assert (ran.code, ran.stdout) == (0, ""), ran.stderr
        box = await queues.inspect("lamp", receipt.entity_id)
        assert box.pending == 0
    lines = ran.stderr.splitlines()
    assert all(line.startswith("ours: ") for line in lines), "an app's own logging stays"
    assert "it handled 1 command" in lines[-1]


# ------------------------------------------------------------------------ what can't be served
@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("nosuch:registry",), 1, "there is no module 'nosuch'"),
        (("shop:registry", "--types", "door"), 1, "'door' is not registered"),
        (("shop:registry", "--url", "http://localhost"), 1, "its scheme is none of"),
        (("shop:registry", "--url", "redis://localhost:1"), 1, "No store answers at redis://localhost:1/0"),
        (("shop:registry", "--url", "memory://"), 2, "nobody could send to it"),
        (("shop:registry", "--url", ""), 2, "add --url redis://localhost:6379"),
        (("shop:sends",), 1, "it opened queues that serve nothing"),
        (("nosuch:registry", "--pods", "3"), 1, "there is no module 'nosuch'"),
        (("nosuch:registry", "--reload"), 1, "there is no module 'nosuch'"),
        (("nosuch:registry", "--json"), 1, "there is no module 'nosuch'"),
        (("shop:registry", "--url", "redis://localhost:1", "--json"), 1, "No store answers at redis://"),
    ],
)
async def test_what_is_wrong_is_said_in_one_line(
    args: tuple[str, ...], code: int, says: str, clean_redis: RedisServer, tmp_path: Path
) -> None:
    write(tmp_path, SHOP + SENDS)
    ran = await verb("serve", *args, "--log-level", "error", url=clean_redis.url, cwd=tmp_path)

    assert (ran.code, ran.stdout) == (code, "")
    assert says in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
    assert ran.stderr.startswith("error: ")


# ------------------------------------------------------------------------ several pods
async def test_a_pod_that_dies_is_started_anew(clean_redis: RedisServer, tmp_path: Path) -> None:
    name = f"{tmp_path.name}-{os.getpid()}"
    async with (
        open_atomic_queues(clean_redis.url) as queues,
        serving(url=clean_redis.url, cwd=tmp_path, ready=2, TRIOQUEUE_SERVE_PODS="2") as parent,
    ):
        assert {pod.name for pod in await queues.pods()} == {f"{name}-1", f"{name}-2"}
        victim, survivor = pods_of(name)
        os.kill(victim, signal.SIGKILL)

        (said,) = await parent.wait_said("it is started anew")
        assert f"(process {victim}) ended by signal 9" in said
        await parent.wait_said(" is ready: ", 3)
        assert len(pods_of(name)) == 2
        assert survivor in pods_of(name)
        assert await answers(queues) == 1

        assert await parent.end(signal.SIGINT) == 0
        assert pods_of(name) == []
        await parent.wait_said(" has ended: ", 2)


async def test_pods_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    name = f"{tmp_path.name}-{os.getpid()}"
    with RedisServer(requirepass="s3cret") as server:
        async with serving("--pods", "2", url=server.url, cwd=tmp_path, ready=2) as parent:
            assert "s3cret" in server.url
            for pid in pods_of(name):
                assert "s3cret" not in command_line_of(pid)
            parent.process.kill()

            await parent.wait_said(" drains, as its parent is gone", 2)
            await until_none(name)
        assert not parent.said("s3cret")


async def test_a_second_signal_ends_all_pods_at_once(clean_redis: RedisServer, tmp_path: Path) -> None:
    async with (
        open_atomic_queues(clean_redis.url) as queues,
        serving("--pods", "2", url=clean_redis.url, cwd=tmp_path, ready=2) as parent,
    ):
        await queues.send(Switch("a", "hold"))
        await until((tmp_path / "held").exists)
        parent.process.terminate()
        await parent.wait_said("drains, as it got SIGTERM", 2)

        assert await parent.end() == 143
        assert pods_of(f"{tmp_path.name}-{os.getpid()}") == []


async def test_pods_drain_also_where_each_is_told_besides_its_parent(
    clean_redis: RedisServer, tmp_path: Path
) -> None:
    """As systemd tells all processes of a service."""
    name = f"{tmp_path.name}-{os.getpid()}"
    async with (
        open_atomic_queues(clean_redis.url) as queues,
        serving("--pods", "2", url=clean_redis.url, cwd=tmp_path, ready=2) as parent,
    ):
        await queues.send(Switch("a", "hold"))
        await until((tmp_path / "held").exists)
        for pid in pods_of(name):
            os.kill(pid, signal.SIGTERM)
        parent.process.terminate()
        await parent.wait_said("pods drain, as their parent got SIGTERM")
        await parent.wait_said(" drains, as it got SIGTERM", 2)
        (tmp_path / "go").touch()

        assert await parent.wait() == 0
        assert len(parent.said(" has ended: ")) == 2
        assert (await queues.inspect("lamp", "a")).pending == 0


async def test_several_pods_once(clean_redis: RedisServer, tmp_path: Path) -> None:
    write(tmp_path, SHOP)
    async with open_atomic_queues(clean_redis.url) as queues:
        await queues.send_many([Switch(str(number), "on") for number in range(50)])
        ran = await verb("serve", "shop:registry", "--once", "--pods", "2", url=clean_redis.url, cwd=tmp_path)

        assert ran.code == 0
        assert (await queues.lanes()).lanes == ()
    assert ran.stderr.count(" has ended: ") == 2


# ------------------------------------------------------------------------ reload
async def test_a_change_is_picked_up(clean_redis: RedisServer, tmp_path: Path) -> None:
    async with (
        open_atomic_queues(clean_redis.url) as queues,
        serving("--reload", url=clean_redis.url, cwd=tmp_path) as pod,
    ):
        assert await answers(queues) == 1
        elsewhere = "\nimport os\nos.chdir('/')\n"
        write(tmp_path, SHOP.replace("return 1", "return 7") + elsewhere)
        await pod.wait_said(" drains, as shop.py has changed")
        await pod.wait_said(" is ready: ", 2)
        assert await answers(queues) == 7

        write(tmp_path, SHOP.replace("return 1", "return oops)"))
        (said,) = await pod.wait_said("^error: ")
        assert re.search(r"its import failed at shop.py:\d+: unmatched", said)

        write(tmp_path, SHOP.replace("return 1", "return nine") + "\nfrom numbers_of_ours import nine\n")
        await pod.wait_said("No module named 'numbers_of_ours'")
        write(tmp_path, "nine = 9", "numbers_of_ours.py")
        await pod.wait_said(" is ready: ", 3)
        assert await answers(queues) == 9

        assert await pod.end() == 0


async def test_an_app_that_is_wrong_at_first_is_waited_for(clean_redis: RedisServer, tmp_path: Path) -> None:
    write(tmp_path, "x x")
    async with (
        open_atomic_queues(clean_redis.url) as queues,
        serving("--reload", "--pods", "2", url=clean_redis.url, cwd=tmp_path, ready=0) as parent,
    ):
        await parent.wait_said("Waiting for a change of the source")
        assert len(parent.said("^error: ")) == 1, "the other pod is not started yet"
        write(tmp_path, SHOP)
        await parent.wait_said(" is ready: ", 2)
        assert await answers(queues) == 1

        assert await parent.end() == 0


async def test_it_ends_when_it_is_told_to_while_it_drains_for_a_change(
    clean_redis: RedisServer, tmp_path: Path
) -> None:
    name = f"{tmp_path.name}-{os.getpid()}"
    async with (
        open_atomic_queues(clean_redis.url) as queues,
        serving("--reload", "--pods", "2", url=clean_redis.url, cwd=tmp_path, ready=2) as parent,
    ):
        await queues.send(Switch("a", "hold"))
        await until((tmp_path / "held").exists)
        write(tmp_path, SHOP + "# changed\n")
        await parent.wait_said(" drains, as shop.py has changed", 2)
        parent.process.terminate()
        await parent.wait_said("pods drain, as their parent got SIGTERM")
        (tmp_path / "go").touch()

        assert await parent.wait() == 0
        assert pods_of(name) == []
        assert (await queues.inspect("lamp", "a")).pending == 0


async def test_it_can_be_ended_while_it_waits_for_a_repair(clean_redis: RedisServer, tmp_path: Path) -> None:
    write(tmp_path, "x x")
    async with serving("--reload", url=clean_redis.url, cwd=tmp_path, ready=0) as pod:
        await pod.wait_said("Waiting for a change of the source")

        assert await pod.end() == 143


def test_an_interrupt_while_it_begins_anew_is_no_traceback(tmp_path: Path) -> None:
    interrupted = """
import os, signal
os.kill(os.getpid(), signal.SIGINT)
from trioqueue.cli import main
main()
"""
    program = f"""
import sys
from pathlib import Path
from trioqueue.cli.reload import begin_anew
sys.orig_argv = [sys.executable, "-c", {interrupted!r}, "--version"]
begin_anew(Path.cwd())
"""
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "")


async def test_all_that_it_logs_is_json(clean_redis: RedisServer, tmp_path: Path) -> None:
    """In each of its processes, and also what is wrong with an app."""
    write(tmp_path, "x x")
    args = ("--reload", "--pods", "2")
    async with (
        open_atomic_queues(clean_redis.url) as queues,
        serving(*args, url=clean_redis.url, cwd=tmp_path, ready=0, TRIOQUEUE_JSON="1") as parent,
    ):
        await parent.wait_said("its import failed at shop.py:1: invalid syntax; a change of the source is")
        write(tmp_path, OPENS_NOTHING)
        (line,) = await parent.wait_said("shop:registry has failed; a change of the source is")
        assert "OSError: no database" in json.loads(line)["traceback"]
        write(tmp_path, SHOP)
        await parent.wait_said(" is ready: ", 2)
        assert await answers(queues) == 1

        assert await parent.end() == 0
        await parent.wait_said(" has ended: ", 2)
    lines = [json.loads(line) for line in parent.lines]
    assert {"waits_for_change", "joined", "ready", "draining", "ended"} <= {line["event"] for line in lines}
    name = f"{tmp_path.name}-{os.getpid()}"
    own = {line["pod"] for line in lines if line["logger"] == "trioqueue.serve"}
    assert own == {f"{name}-0", f"{name}-1", f"{name}-2"}


# ------------------------------------------------------------------------ monitoring
async def test_each_pod_is_monitored_on_a_port_of_its_own(clean_redis: RedisServer, tmp_path: Path) -> None:
    first, second = free_ports()
    monitored = ("--pods", "2", "--monitor-port", str(first))
    async with serving(*monitored, url=clean_redis.url, cwd=tmp_path, ready=2) as parent:
        assert len(parent.said("monitored at http://127.0.0.1:")) == 2
        for port in (first, second):
            assert await got(port, "/ready") == "ok\n"
        assert "trioqueue_" in await got(second, "/metrics")

        assert await parent.end() == 0


def free_ports() -> tuple[int, int]:
    """Finds two that follow each other."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            with suppress(OSError, OverflowError):
                second.bind(("127.0.0.1", port + 1))
                return port, port + 1


async def got(port: int, path: str) -> str:
    """Reads a page."""

    def read() -> str:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE) as page:
            return str(page.read().decode())

    return await trio.to_thread.run_sync(read)
