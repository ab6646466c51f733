"""What a serving process logs: lines for people, or objects of JSON for programs, on stderr."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

import attrs
import click

from trioqueue.cli.errors import one_line

LEVELS = ("debug", "info", "warning", "error")

_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What every record has; the rest came as `extra`."""

log_level_option = click.option(
    "--log-level", type=click.Choice(LEVELS, case_sensitive=False), help="Log what is at least this."
)


class Lines(logging.Formatter):
    """One line a record, for people; a traceback follows on lines of its own.

    Args:
        pod: Whose lines these are, where there are those of others beside them.
    """

    def __init__(self, pod: str = "") -> None:
        super().__init__()
        self._pod = f"{pod} " * bool(pod)

    def format(self, record: logging.LogRecord) -> str:
        message = one_line(record.getMessage())
        line = f"{_time(record)} {record.levelname.lower():7} {self._pod}{record.name}: {message}"
        traceback = self._traceback(record)
        return f"{line}\n{traceback}" if traceback else line

    def _traceback(self, record: logging.LogRecord) -> str:
        return self.formatException(record.exc_info) if record.exc_info else ""


class JsonLines(Lines):
    """One object a line: time, level, logger, message, pod, the traceback, and what the record has beside."""

    def __init__(self, pod: str) -> None:
        super().__init__(pod)
        self._name = pod

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "pod": self._name,
            **{name: value for name, value in vars(record).items() if name not in _USUAL},
        }
        if traceback := self._traceback(record):
            line["traceback"] = traceback
        return json.dumps(line, ensure_ascii=False, default=str)


@attrs.frozen
class Logs:
    """What a process logs, as its options say.

    Attributes:
        level: What is at least this; None: no option says it.
        default: The level then.
        as_json: Whether JSON was asked for.
    """

    level: str | None
    default: str = "info"
    as_json: bool = False

    def begin(self, pod: str, *, beside: bool) -> None:
        """Has all that is logged in this process come on stderr, what the app's own code logs included.

        An app that has set up logging itself keeps that, unless an option says otherwise.

        Args:
            pod: Whose process it is.
            beside: Whether lines of other pods come on the same stderr.
        """
        root = logging.getLogger()
        if root.handlers and self.level is None and not self.as_json:
            return
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonLines(pod) if self.as_json else Lines(pod * beside))
        root.handlers[:] = [handler]
        root.setLevel((self.level or self.default).upper())


def _time(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
