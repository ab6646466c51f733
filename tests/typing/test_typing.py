"""What type checkers say: nothing about our own sources and right programs, one line about wrong programs."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PROGRAMS = [HERE / "accepted.py", *sorted((HERE / "rejected").glob("*.py"))]
EXPECTED = "# expect-error"

# Where a checker found an error: file name and line.
Found = set[tuple[str, int]]


def run_mypy() -> tuple[Found, str]:
    # Without a configuration file, and silent about the package, so that programs are checked as a user's would be.
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--config-file=",
            "--follow-imports=silent",
            "--no-error-summary",
            "--no-pretty",
            *PROGRAMS,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    # 0: no errors, 1: errors found; 2 is a crash or a wrong command line.
    assert ran.returncode in (0, 1), ran.stdout + ran.stderr
    lines = re.findall(r"^(.+?):(\d+): error:", ran.stdout, re.MULTILINE)
    return {(Path(file).name, int(line)) for file, line in lines}, ran.stdout


def pyright() -> str:
    found = shutil.which("pyright", path=str(Path(sys.executable).parent)) or shutil.which("pyright")
    if found is None:
        pytest.skip("pyright is not installed")
    return found


def run_pyright() -> tuple[Found, str]:
    # Each program says `# pyright: strict`.
    ran = subprocess.run(
        [pyright(), "--outputjson", "--pythonpath", sys.executable, *PROGRAMS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode in (0, 1), ran.stdout + ran.stderr
    report = json.loads(ran.stdout)
    errors = [entry for entry in report["generalDiagnostics"] if entry["severity"] == "error"]
    found = {(Path(entry["file"]).name, entry["range"]["start"]["line"] + 1) for entry in errors}
    return found, "\n".join(f"{entry['file']}: {entry['message']}" for entry in errors)


# Where the tests are shared out, each checker is run by one process, and both at once.
MYPY, PYRIGHT = (pytest.mark.xdist_group(name) for name in ("mypy", "pyright"))


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(lambda: [sys.executable, "-m", "mypy"], id="mypy", marks=MYPY),
        pytest.param(lambda: [pyright(), "--pythonpath", sys.executable], id="pyright", marks=PYRIGHT),
    ],
)
def test_our_sources_have_no_errors(command: Callable[[], list[str]]) -> None:
    ran = subprocess.run(command(), cwd=ROOT, capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.fixture(
    scope="session",
    params=[
        pytest.param(run_mypy, id="mypy", marks=MYPY),
        pytest.param(run_pyright, id="pyright", marks=PYRIGHT),
    ],
)
def checked(request: pytest.FixtureRequest) -> tuple[Found, str]:
    run: Callable[[], tuple[Found, str]] = request.param
    return run()


def expected_errors(program: Path) -> Found:
    lines = program.read_text().splitlines()
    return {(program.name, number) for number, line in enumerate(lines, 1) if EXPECTED in line}


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.stem)
def test_exactly_the_marked_lines_are_errors(checked: tuple[Found, str], program: Path) -> None:
    found, output = checked

    assert {place for place in found if place[0] == program.name} == expected_errors(program), output


def test_each_rejected_program_has_one_marked_line() -> None:
    for program in PROGRAMS:
        assert len(expected_errors(program)) == (program.parent.name == "rejected"), program
