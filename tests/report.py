"""What a run of the tests came to: collected while it runs, written as JSON, shown as Markdown.

As a plugin of pytest it is active where TRIOQUEUE_REPORT names a file.  It counts the tests of each area, and takes the
numbers that tests add with `record_property`, whose names are the words that they are shown with.  Where several tests
of an area add something of one name, numbers are added up, tables entry by entry, and words are listed.

Several runs fill one report: what a run finds in the file, it adds to, in the same way.  The report names every day,
commit, Python and machine that it comes from.  Remove the file to begin a new one.

    python tests/report.py FILE.json [PAGE.md]

shows it, by default where the documentation includes it, and keeps the JSON beside the page.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from redis_servers import find_servers

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "_generated" / "test_report.md"

AREAS: dict[str, tuple[str, str]] = {
    "model": (
        "tests/model/",
        "the protocol as a program: every way of small fleets, random ways of larger ones, each rule switched off",
    ),
    "state machine": (
        "tests/stores/test_state_machine.py",
        "any sequence of operations on both stores at once, and broken scripts",
    ),
    "simulation": (
        "tests/simulation/",
        "whole fleets in virtual time with faults drawn from a seed, and broken protocols",
    ),
    "requests × faults": (
        "tests/faults/test_requests.py",
        "each kind of request lost, unanswered, cut, late, or the last one of its pod",
    ),
    "links": (
        "tests/faults/test_links.py",
        "all that can happen to a connection, and replies cut at every byte",
    ),
    "Redis": ("tests/faults/test_redis.py", "it dies, stalls, forgets, is full, or is another one"),
    "handlers": ("tests/faults/test_handlers.py", "they block, do not end, always raise, or kill their pod"),
    "pods": ("tests/faults/test_pods.py", "one killed, one frozen past its lease, one told to end"),
    "broken protocols": (
        "tests/faults/test_mutants.py",
        "stories that the protocol survives, and not without one of its rules",
    ),
    "soak": ("tests/faults/test_soak.py", "a fleet in which something breaks about twice a second"),
    "harness": ("tests/faults/", "the checker and the proxy themselves"),
}
"""Name -> how the ids of its tests begin, and what is tried.  A test belongs to the first one that fits."""

ON_REDIS = "on Redis"
"""What tests that run on certain versions record those as."""

BEST_FIRST = ("passed", "skipped", "failed")
"""Outcomes of a test."""

SOAK = {
    "seconds": "seconds in which things broke",
    "pods": "pods",
    "senders": "senders",
    "entities": "entities",
    "confirmed": "confirmed sends",
    "turns": "commands handled, repeated ones included",
    "overlaps_after_freezes": "handlers beside one that was frozen past its lease",
    "effects_refused_after_freezes": "effects of such handlers, refused by their fence",
    "standstills": "standstills of the whole machine",
}
"""Numbers of the soak that promise nothing."""

SOAK_VIOLATIONS = {
    "lost": "lost",
    "doubled": "doubled",
    "unexpected": "applied, and never sent",
    "disordered": "disordered",
    "children": "commands of handlers, lost or doubled",
    "overlaps": "overlaps of two handlers of one entity",
    "fences": "fences that fell, or refused the owner",
    "late": "healed too late",
    "stuck": "entities that stand still",
    "left": "left in the store",
    "dead": "dead letters",
}
"""Numbers of the soak that have to be zero."""


def added(known: Any, more: Any) -> Any:
    """Adds what a test has recorded to what others have."""
    if isinstance(more, dict):
        return {**known, **{name: added(known[name], n) if name in known else n for name, n in more.items()}}
    if isinstance(more, list):
        return [*known, *(one for one in more if one not in known)]
    return known + more


def area_of(test: str) -> str | None:
    """Finds the area of a test's id."""
    return next((name for name, (start, _) in AREAS.items() if test.startswith(start)), None)


def _commit() -> list[str]:
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        return []
    describe = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    said = subprocess.run(describe, cwd=ROOT, capture_output=True, text=True, check=False)
    return said.stdout.split()


class Collector:
    """Follows one run of pytest."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._default = list(find_servers())[:1]  # the version that most tests run on
        # At the start of the run: the sources may change while it runs.
        self._origin = {
            "days": [datetime.now(UTC).date().isoformat()],
            "machines": [f"{platform.system()} with {os.cpu_count()} cores"],
            "python": [platform.python_version()],
            "redis": list(find_servers()),
            "commits": _commit(),
        }
        self._outcomes: dict[str, str] = {}  # test -> passed, skipped or failed: the worst of its phases
        self._failures: dict[str, str] = {}  # test -> why
        self._seconds: dict[str, float] = {}  # test -> of all its phases
        self._numbers: dict[str, dict[str, Any]] = {}  # area -> what its tests have recorded
        self._earlier: dict[str, dict[str, Any]] = {}
        if file.exists():  # read now, so that a file that is none of ours ends the run at once
            earlier = json.loads(file.read_text())
            self._origin, self._earlier = added(earlier["origin"], self._origin), earlier["areas"]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        test, area = report.nodeid, area_of(report.nodeid)
        if area is None:
            return
        self._seconds[test] = self._seconds.get(test, 0.0) + report.duration
        if report.failed:
            self._failures.setdefault(test, _reason(report))
        self._outcomes[test] = max(self._outcomes.get(test, "passed"), report.outcome, key=BEST_FIRST.index)
        if report.when == "teardown":  # the last one, and it has all that was recorded
            numbers = self._numbers.setdefault(area, {})
            if test.startswith("tests/faults/"):  # all of them run on the default one
                numbers[ON_REDIS] = self._default
            for what, value in report.user_properties:
                more = [value] if isinstance(value, str) else value
                numbers[what] = added(numbers[what], more) if what in numbers else more

    def pytest_sessionfinish(self) -> None:
        areas = {name: area for name in AREAS if (area := self._area(name))}
        if areas:
            report = {"origin": self._origin, "areas": added(self._earlier, areas)}
            self._file.write_text(as_text(report))

    def _area(self, name: str) -> dict[str, Any] | None:
        """Says what became of an area, if any test of it ran."""
        outcomes = {test: outcome for test, outcome in self._outcomes.items() if area_of(test) == name}
        if not outcomes:
            return None
        return {
            **{what: list(outcomes.values()).count(what) for what in BEST_FIRST},
            "seconds": round(sum(self._seconds[test] for test in outcomes), 3),
            "failures": [[test, self._failures[test]] for test in outcomes if test in self._failures],
            "numbers": self._numbers.get(name, {}),
        }


def _reason(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    said: str = crash.message if crash else report.longreprtext
    return said.strip().partition("\n")[0][:200]


def pytest_configure(config: pytest.Config) -> None:
    file = os.environ.get("TRIOQUEUE_REPORT")
    if file and not hasattr(config, "workerinput"):  # of xdist's processes, the one that hears of all tests
        config.pluginmanager.register(Collector(Path(file).resolve()))


# -------------------------------------------------------------------------------- as a page
def as_text(report: dict[str, Any]) -> str:
    """Writes a report as it is kept."""
    return json.dumps(report, indent=2, ensure_ascii=False) + "\n"


def render(report: dict[str, Any]) -> str:
    """Shows a report as Markdown."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: dict[str, Any]) -> Iterator[str]:
    areas = {name: report["areas"][name] for name in AREAS if name in report["areas"]}
    yield f"{_where(report)}  "
    yield f"{_tests(areas.values())}."
    yield ""
    yield "| area | what was tried | numbers | violations |"
    yield "|---|---|---|---|"
    for name, area in areas.items():
        numbers = area["numbers"]
        if "heals_within" in numbers:  # the soak, which has a table of its own
            words = {"confirmed": "confirmed sends", "faults": "faults", ON_REDIS: ON_REDIS}
            numbers = {word: numbers[what] for what, word in words.items()}
        cell = ", ".join([_tests([area]), *(_number(*number) for number in numbers.items())])
        yield f"| {name} | {AREAS[name][1]} | {cell} | {area['failed']} |"
    if any(area["failed"] for area in areas.values()):
        yield ""
        yield "These tests failed:"
        yield ""
        for area in areas.values():
            for test, reason in area["failures"]:
                yield f"- `{test}`: `{reason.replace('`', '’')}`"
    soak = areas["soak"]["numbers"] if "soak" in areas else {}
    if "heals_within" in soak:  # else it failed before it knew
        yield ""
        yield f"What the soak came to, with seed {soak['seed']}:"
        yield ""
        yield from _soak(soak)


def _where(report: dict[str, Any]) -> str:
    origin = report["origin"]
    what = [f"Python {', '.join(origin['python'])}"]
    if origin["redis"]:
        what.append(f"Redis {', '.join(origin['redis'])}")
    if origin["commits"]:
        what.append("commit " + ", ".join(f"`{commit}`" for commit in origin["commits"]))
    return f"On {', '.join(origin['days'])}, on {' and '.join(origin['machines'])}: {', '.join(what)}."


def _tests(areas: Collection[dict[str, Any]]) -> str:
    count = {what: sum(area[what] for area in areas) for what in (*BEST_FIRST, "seconds")}
    total = count["passed"] + count["failed"]
    skipped = f", {count['skipped']} skipped" if count["skipped"] else ""
    return f"{total:,} {'test' if total == 1 else 'tests'} in {_duration(count['seconds'])}{skipped}"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _number(name: str, value: Any) -> str:
    if isinstance(value, dict):
        return f"{sum(value.values()):,} {name} of {len(value)} kinds"
    if isinstance(value, list):
        return f"{name} {', '.join(value)}"
    return f"{round(value, 1):,} {name}"


def _soak(numbers: dict[str, Any]) -> Iterator[str]:
    yield "| what | how many | promised |"
    yield "|---|---|---|"
    for name, words in SOAK.items():
        if name in numbers:
            yield f"| {words} | {numbers[name]:,g} | |"
    for fault, count in numbers["faults"].items():
        yield f"| fault: {fault} | {count:,} | |"
    for name, words in SOAK_VIOLATIONS.items():
        if name in numbers:
            yield f"| {words} | {numbers[name]:,} | 0 |"
    yield f"| slowest healing | {numbers['slowest_healing']:.2f} s | {numbers['heals_within']:.2f} s |"
    for key, count in numbers["keys_left"].items():
        yield f"| keys left: `{key}` | {count:,} | |"


def main() -> None:
    parser = argparse.ArgumentParser(description="Shows what a run of the tests came to.")
    parser.add_argument("file", type=Path, help="what TRIOQUEUE_REPORT named")
    parser.add_argument("page", type=Path, nargs="?", default=PAGE, help="the page to write")
    asked = parser.parse_args()
    report = json.loads(asked.file.read_text())
    asked.page.parent.mkdir(parents=True, exist_ok=True)
    asked.page.write_text(render(report))
    asked.page.with_suffix(".json").write_text(as_text(report))


if __name__ == "__main__":
    main()
