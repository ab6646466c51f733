"""What is checked, and how: `nox` runs what CI runs, `nox -l` lists all sessions.

Every session takes the interpreter that runs nox; `nox -s tests --force-python 3.13` takes another one.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import nox
from nox.command import CommandFailed

nox.needs_version = ">=2024.10.9"
# The quick ones first, and the tests last, so that the log ends with their summary.
nox.options.sessions = ["lint", "typing", "trio_typing", "docs", "tests"]
nox.options.reuse_existing_virtualenvs = True
# Five environments take uv half a minute and pip three.
nox.options.default_venv_backend = "uv|virtualenv"
os.environ.setdefault("UV_PYTHON_DOWNLOADS", "never")  # the interpreters that are here, or none

PROJECT = nox.project.load_toml("pyproject.toml")

STORE_TESTS = "tests/stores"
# Nothing in them waits for a real clock.
CLOCKLESS_TESTS = ["tests/simulation", "tests/stores/test_state_machine.py"]  # the longest ones first
# Each starts processes and waits for what they say, however long that takes.
PROCESS_TESTS = ["tests/test_documents.py", "tests/cli", "tests/deploy", "tests/instruments"]  # likewise
FAULT_TESTS = "tests/faults"
SOAK_TEST = f"{FAULT_TESTS}/test_soak.py"
TYPE_TESTS = "tests/typing"
IN_PARTS = (STORE_TESTS, FAULT_TESTS, TYPE_TESTS, *CLOCKLESS_TESTS, *PROCESS_TESTS)

SHARED_OUT = ("--numprocesses=auto", "--dist=worksteal")
# A fifth of their time or more, these tests wait for processes and servers.
WITH_ONE_MORE = (f"--numprocesses={(os.cpu_count() or 1) + 1}", "--dist=worksteal")


def without(*tests: str) -> list[str]:
    """Leaves out what another part runs."""
    return [f"--ignore={one}" for one in tests]


COMPILED = {"UV_COMPILE_BYTECODE": "1"}
"""Has uv leave what it installs compiled, as pip does: else each of a thousand processes would compile it, for a second
or two, and for ever where the surroundings say PYTHONDONTWRITEBYTECODE."""

PARTS = {
    "redis_versions": [*WITH_ONE_MORE, STORE_TESTS, *without(*CLOCKLESS_TESTS)],
    "simulation": [*SHARED_OUT, *CLOCKLESS_TESTS],
    "processes": [*WITH_ONE_MORE, *PROCESS_TESTS],
    "faults": [*WITH_ONE_MORE, FAULT_TESTS, *without(SOAK_TEST)],
    "chaos": [SOAK_TEST],  # its fleet of processes has the machine for itself
    "others": [*SHARED_OUT, *without(*IN_PARTS)],
}
"""What pytest is told for each part of the tests, which together are all: nothing runs twice."""


def group(name: str) -> list[str]:
    """Lists the requirements of a dependency group; older pips do not know groups."""
    return list(nox.project.dependency_groups(PROJECT, name))


def install(session: nox.Session) -> None:
    """Installs the package as users do, and what its tests need."""
    session.install("-q", ".[cli,opentelemetry]", *group("tests"), env=COMPILED)


def run_all(session: nox.Session, runs: Sequence[Sequence[str]], **env: str) -> list[str]:
    """Runs pytest with each of these arguments, those after one that fails too; gives those that failed."""
    failed: list[str] = []
    for args in runs:
        try:
            session.run("pytest", *args, env=env)
        except CommandFailed:
            failed.append(" ".join(args))
    return failed


def run_part(session: nox.Session, *names: str) -> None:
    """Runs what belongs to one part of the tests."""
    install(session)
    for name in names:
        session.run("pytest", *PARTS[name], *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Checks style, the imports between floors, and the changelog fragments."""
    session.install("-q", *group("lint"))
    session.run("ruff", "check", *session.posargs)
    session.run("ruff", "format", "--check")
    session.run("lint-imports", "--no-logo")
    session.run("towncrier", "build", "--draft", "--version", "next", silent=True)


@nox.session
def typing(session: nox.Session) -> None:
    """Checks our types with two checkers, and what they say of users' programs."""
    session.install("-q", ".[cli,opentelemetry]", *group("typing"))
    # Each checker takes a minute of one processor.
    session.run("pytest", "--numprocesses=2", "--dist=loadgroup", TYPE_TESTS, *session.posargs)


@nox.session
def trio_typing(session: nox.Session) -> None:
    """Checks a user's program under trio-typing, which needs an old mypy and spoils the types of newer ones."""
    session.install("-q", ".[cli]", *group("trio-typing"))
    # From its folder, so that mypy finds the installed package, as for a user, and not our sources.
    with session.chdir(Path("tests", "typing_trio_typing")):
        session.run("mypy", "--config-file=mypy.ini", "--no-incremental", "program.py")


@nox.session
def docs(session: nox.Session) -> None:
    """Builds the documentation; a warning or a dead reference fails."""
    session.install("-q", ".[cli,opentelemetry]", *group("docs"))
    built = Path("docs", "_build")
    shutil.rmtree(built, ignore_errors=True)
    session.run(
        "sphinx-build", "-q", "-n", "-W", "--keep-going", "docs", str(built / "html"), *session.posargs
    )
    session.log("open %s", built / "html" / "index.html")


@nox.session(default=False)
def redis_versions(session: nox.Session) -> None:
    """Runs the store's contract and its tests on every version of Redis that is found."""
    run_part(session, "redis_versions")


@nox.session(default=False)
def simulation(session: nox.Session) -> None:
    """Tries any sequence of operations on both stores, and whole fleets in virtual time."""
    run_part(session, "simulation")


@nox.session(default=False)
def processes(session: nox.Session) -> None:
    """Runs the command line, the instruments, what is deployed, and each program of the documentation."""
    run_part(session, "processes")


@nox.session(default=False)
def faults(session: nox.Session) -> None:
    """Runs every fault against every request, link, Redis and handler, and a minute of chaos."""
    run_part(session, "faults", "chaos")


@nox.session(default=False)
def others(session: nox.Session) -> None:
    """Runs all tests that are in no other part."""
    run_part(session, "others")


@nox.session
def tests(session: nox.Session) -> None:
    """Runs all parts of the tests, in one environment; or, with arguments, what they name."""
    install(session)
    if session.posargs:
        session.run("pytest", *session.posargs)
    elif failed := run_all(session, list(PARTS.values())):
        session.error(f"failed: {', '.join(failed)}")


@nox.session(default=False)
def soak(session: nox.Session) -> None:
    """Runs for about an hour: all that `simulation` and `faults` do, on each Redis, and half an hour of chaos.

    The report goes into the documentation, where How it is tested shows it.
    """
    install(session)
    report = Path(session.virtualenv.location, "report.json").resolve()
    report.unlink(missing_ok=True)
    session.env["TRIOQUEUE_REPORT"] = str(report)
    list_versions = "import redis_servers as it; print(*it.find_servers())"
    versions = session.run("python", "-c", list_versions, silent=True, env={"PYTHONPATH": "tests"})
    # What fails is in the report, and the rest is run all the same.
    failed = run_all(session, [["tests/model"]], TRIOQUEUE_MODEL_DEPTH="2")
    for version in str(versions).split():
        failed += run_all(session, [PARTS["faults"]], TRIOQUEUE_REDIS=version)
    failed += run_all(session, [PARTS["chaos"]], TRIOQUEUE_SOAK_SECONDS="1800")
    failed += run_all(
        session, [PARTS["simulation"]], TRIOQUEUE_SEEDS="0-2999", TRIOQUEUE_HYPOTHESIS_EXAMPLES="500"
    )
    session.run("python", "tests/report.py", str(report), "docs/_generated/test_report.md")
    if failed:
        session.error(f"failed: {', '.join(failed)}")


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measures speed against a floor that is measured in the same run, and writes the page that shows it.

    With arguments, as `-- table --rounds 3` or `-- --against ../other`, it does what they say and writes no page.
    """
    session.install("-q", ".[cli]", *group("bench"), env=COMPILED)
    if session.posargs:
        session.run("python", "-m", "benchmarks", *session.posargs)
        return
    figures = Path(session.virtualenv.location, "figures.json").resolve()
    session.run("python", "-m", "benchmarks", "--json", str(figures))
    session.run("python", "-m", "benchmarks.page", str(figures))
