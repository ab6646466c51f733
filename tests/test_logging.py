"""What the library logs: each line names its event, and the reference has each event."""

import ast
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from cli.command_line import environment
from trio.testing import MockClock

from trioqueue import (
    CallFailed,
    Command,
    Drain,
    EntityPolicy,
    Registry,
    Retry,
    command,
    entity_id,
    open_atomic_queues,
)
from trioqueue.stores.memory.store import trio_now_us
from trioqueue.testing import MemoryServer

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "trioqueue"
PAGE = ROOT / "docs" / "reference" / "logging.md"
METHODS = {"debug", "info", "warning", "error", "exception", "critical", "log"}


@attrs.frozen(order=True)
class Line:
    """What one call of a logger says, or one row of the reference."""

    event: str
    level: str
    logger: str
    fields: tuple[str, ...]


def calls_in(source: str) -> Iterator[tuple[ast.Call, str]]:
    """Finds the calls of a module's `logger`, and that one's name."""
    tree, name = ast.parse(source), ""
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[ast.Name("logger")], value=ast.Call(args=[ast.Constant(str(given))])):
                name = given
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(ast.Name("logger"), method)) if method in METHODS:
                yield node, name


def line_of(call: ast.Call, logger: str) -> Line | None:
    """Reads what a call logs; None: its `extra` is no dictionary that begins with the event."""
    assert isinstance(call.func, ast.Attribute)
    (extra,) = [one.value for one in call.keywords if one.arg == "extra"] or [None]
    match extra:
        case ast.Dict(keys=[ast.Constant("event"), *fields], values=[ast.Constant(str(event)), *_]):
            names = tuple(sorted(str(field.value) for field in fields if isinstance(field, ast.Constant)))
            return Line(event, call.func.attr, logger, names)
    return None


def sources() -> list[Path]:
    """Lists the modules of the library; the command line talks to people, and logs nothing of its own."""
    return [path for path in sorted(PACKAGE.rglob("*.py")) if "cli" not in path.relative_to(PACKAGE).parts]


def documented() -> list[Line]:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| `([\w.]+)` \|([^|]*)\|", PAGE.read_text(), re.MULTILINE)
    return [
        Line(event, level, logger, tuple(sorted(re.findall(r"`(\w+)`", fields))))
        for event, level, logger, fields in rows
    ]


def test_each_line_names_its_event_and_the_reference_has_it() -> None:
    logged: list[Line] = []
    for path in sources():
        for call, logger in calls_in(path.read_text()):
            line = line_of(call, logger)
            assert line is not None, f"{path.relative_to(ROOT)}:{call.lineno} gives no extra={{'event': ...}}"
            logged.append(line)

    assert len(logged) > 30
    assert sorted(documented()) == sorted(set(logged))
    assert len({line.event for line in logged}) == len(set(logged)), "one event is one thing"


def test_no_module_logs_in_another_way() -> None:
    for path in sources():
        source = path.read_text()
        assert not re.search(r"logging\.(?:debug|info|warning|error|exception|critical|log)\(", source), path
        assert source.count("getLogger(") == source.count('\nlogger = logging.getLogger("trioqueue'), path


def test_the_reading_of_sources_finds_what_is_wrong() -> None:
    source = """
logger = logging.getLogger("trioqueue.x")
logger.warning("a", extra={"event": "a", "pod": 1})
def f():
    logger.error("b")
    logger.info("c", extra={"pod": 1})
    logger.info("d", extra=given)
"""
    lines = [line_of(*found) for found in calls_in(source)]

    assert lines.count(None) == 3
    assert Line("a", "warning", "trioqueue.x", ("pod",)) in lines


@command("bell")
class Ring(Command):
    bell_id: str = entity_id()
    seconds: float = 0.0


def new_registry() -> Registry:
    registry = Registry()

    @registry.handles(Ring, retry=Retry(attempts=2, wait_first=1, jitter=False))
    async def ring(command: Ring) -> None:
        await trio.sleep(command.seconds)
        if command.seconds < 0:
            raise OSError

    return registry


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [str(vars(record)["event"]) for record in caplog.records if record.name.startswith("trioqueue")]


def record_of(caplog: pytest.LogCaptureFixture, event: str) -> dict[str, Any]:
    (found,) = [vars(record) for record in caplog.records if vars(record).get("event") == event]
    return found


async def test_a_pods_life_is_a_line_for_each_thing(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "trioqueue")
    async with open_atomic_queues(
        "memory://", registry=new_registry(), entities={"bell": EntityPolicy(idle_timeout=5)}
    ) as queues:
        await queues.send(Ring("a"))
        await trio.sleep(10)
    assert events(caplog) == ["joined", "claimed", "let_go", "drain_begun", "drained", "left"]
    pods = {vars(record)["pod"] for record in caplog.records}
    assert len(pods) == 1, "each names the pod in the same way"
    assert record_of(caplog, "claimed")["entity"] == "bell/a"
    assert record_of(caplog, "let_go")["idle"] is True


async def test_a_handler_that_does_not_end_is_named_when_its_pod_drains(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "trioqueue")
    async with open_atomic_queues("memory://", registry=new_registry(), drain=Drain(soft=2)) as queues:
        await queues.send(Ring("a", 1000))
        await trio.sleep(1)
    assert events(caplog) == ["joined", "drain_begun", "drain_cut_short", "left", "leftovers"]
    assert record_of(caplog, "drain_cut_short")["entities"] == ["bell/a"]
    assert record_of(caplog, "drain_cut_short")["levelname"] == "WARNING"


async def test_a_failing_command_is_logged_with_what_it_is(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_atomic_queues("memory://", registry=new_registry()) as queues:
        receipt = await queues.send(Ring("a", -1))
        await queues.wait_settled()
        with pytest.raises(CallFailed):
            await queues.call(Ring("b", -1))
    retried, died = caplog.records[:2]
    common = {"entity": "bell/a", "command": "ring", "command_id": receipt.command_id}
    assert vars(retried).items() >= {**common, "event": "retry", "attempt": 1, "again_in_s": 1.0}.items()
    assert vars(died).items() >= {**common, "event": "dead_letter", "attempts": 2}.items()
    assert [retried.levelname, died.levelname] == ["WARNING", "ERROR"]


async def test_who_lost_its_lease_says_so_and_joins_anew(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "trioqueue")
    server = MemoryServer(trio_now_us)
    async with open_atomic_queues(server, registry=new_registry()):
        await trio.sleep(1)
        server.restart()
        await trio.sleep(20)
    lost = record_of(caplog, "lease_lost")
    first, second = (vars(record)["pod"] for record in caplog.records if vars(record)["event"] == "joined")
    assert lost["levelname"] == "WARNING"
    assert lost["pod"] == first != second


def test_a_warning_is_seen_where_nobody_has_set_up_logging(tmp_path: Path) -> None:
    program = """
import trio
from trioqueue import open_atomic_queues
async def main():
    async with open_atomic_queues():
        pass
trio.run(main)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )

    assert ran.stderr == (
        "no URL given and TRIOQUEUE_URL not set: memory:// is used, nothing outlives this process\n"
        "memory:// is in this process, and nothing is served here: whatever is sent waits for ever, "
        "so open with registry=...\n"
    )
