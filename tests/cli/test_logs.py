"""The lines of a serving process, for people and for programs."""

import json
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from trioqueue.cli.logs import JsonLines, Lines, Logs


def record(message: str, *args: object, failed: bool = False, **extra: object) -> logging.LogRecord:
    info = None
    if failed:
        try:
            raise OSError("jammed")
        except OSError:
            info = sys.exc_info()
    made = logging.LogRecord("trioqueue.worker", logging.WARNING, "worker.py", 1, message, args, info)
    made.__dict__.update(extra)
    return made


def test_a_line() -> None:
    line = Lines().format(record("%s failed:\n %r", "a", 1))

    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z warning trioqueue\.worker: a failed: 1", line
    )


def test_a_line_says_whose_it_is_where_there_are_others() -> None:
    assert " web-1 trioqueue.worker: on" in Lines("web-1").format(record("on"))


def test_a_traceback_follows() -> None:
    first, *rest = Lines().format(record("failed", failed=True)).splitlines()

    assert first.endswith("trioqueue.worker: failed")
    assert rest[0] == "Traceback (most recent call last):"
    assert rest[-1] == "OSError: jammed"


def test_json_has_what_came_along() -> None:
    line = JsonLines("web").format(record("é\n%s", 1, failed=True, event="retry", entity="lamp/a", odd={1}))

    assert "\n" not in line
    read = json.loads(line)
    assert read.pop("traceback").endswith("OSError: jammed")
    assert read.pop("time").endswith("Z")
    assert read == {
        "level": "warning",
        "logger": "trioqueue.worker",
        "message": "é\n1",
        "pod": "web",
        "event": "retry",
        "entity": "lamp/a",
        "odd": "{1}",
    }


def test_json_names_the_pod_that_a_line_is_about() -> None:
    assert json.loads(JsonLines("web").format(record("gone", pod="other")))["pod"] == "other"


@contextmanager
def begun(logs: Logs) -> Iterator[tuple[logging.Logger, logging.Handler]]:
    """Begins to log where an app has set it up, and gives the root logger, and the handler that the app has."""
    root, own = logging.getLogger(), logging.NullHandler()
    level = root.level
    with pytest.MonkeyPatch.context() as patch:  # pytest has handlers there itself
        patch.setattr(root, "handlers", [own])
        logs.begin("web", beside=False)
        yield root, own
    root.setLevel(level)


def test_an_app_keeps_what_it_has_set_up() -> None:
    with begun(Logs(None)) as (root, own):
        assert root.handlers == [own]


@pytest.mark.parametrize("asked", [Logs("debug"), Logs(None, as_json=True)])
def test_an_option_comes_first(asked: Logs) -> None:
    with begun(asked) as (root, own):
        (handler,) = root.handlers
        assert handler is not own
        assert isinstance(handler.formatter, JsonLines) is asked.as_json
        assert root.level == (logging.DEBUG if asked.level else logging.INFO)
