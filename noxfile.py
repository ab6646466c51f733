"""What is checked, and how: `nox` runs what CI runs, `nox -l` lists all sessions.

Every session takes the interpreter that runs nox; `nox -s tests --force-python 3.13` takes another one.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

import nox
from nox.command import CommandFailed

nox.needs_version = ">=2024.10.9"
# The quick ones first, and the tests last, so that the log ends with their summary.
nox.options.sessions = [
    "lint",
    "typing",
    "trio_typing",
    "docs",
    "redis_versions",
    "simulation",
    "processes",
    "faults",
    "tests",
]
nox.options.reuse_existing_virtualenvs = True

PROJECT = nox.project.load_toml("pyproject.toml")

# Folders of tests that have a session of their own: nothing runs twice.
STORE_TESTS = "tests/stores"
# Nothing in them waits for a real clock, so they may share the processors with each other.
CLOCKLESS_TESTS = ["tests/stores/test_state_machine.py", "tests/simulation"]
# Each starts processes and waits for what they say, however long that takes.
PROCESS_TESTS = ["tests/cli", "tests/deploy", "tests/instruments", "tests/test_documents.py"]
FAULT_TESTS = "tests/faults"
SOAK_TEST = f"{FAULT_TESTS}/test_soak.py"
TYPE_TESTS = "tests/typing"


def group(name: str) -> list[str]:
    """Lists the requirements of a dependency group; older pips do not know groups."""
    return list(nox.project.dependency_groups(PROJECT, name))


def pytest(session: nox.Session, *args: str, env: Mapping[str, str] | None = None) -> None:
    """Installs the package as users do, and runs tests against that."""
    session.install("-q", ".[cli,opentelemetry]", *group("tests"))
    session.run("pytest", *args, *session.posargs, env=env)


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
    session.run("mypy")
    session.run("pyright")
    session.run("pytest", TYPE_TESTS, *session.posargs)


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


@nox.session
def redis_versions(session: nox.Session) -> None:
    """Runs the store's contract and its tests on every version of Redis that is found."""
    pytest(session, "--numprocesses=auto", STORE_TESTS, *(f"--ignore={tests}" for tests in CLOCKLESS_TESTS))


@nox.session
def simulation(session: nox.Session) -> None:
    """Tries any sequence of operations on both stores, and whole fleets in virtual time."""
    pytest(session, "--numprocesses=auto", *CLOCKLESS_TESTS)


@nox.session
def processes(session: nox.Session) -> None:
    """Runs the command line, the instruments, what is deployed, and each program of the documentation."""
    pytest(session, "--numprocesses=auto", *PROCESS_TESTS)


@nox.session
def faults(session: nox.Session) -> None:
    """Runs every fault against every request, link, Redis and handler, and a minute of chaos."""
    pytest(session, FAULT_TESTS)


@nox.session(default=False)
def soak(session: nox.Session) -> None:
    """Runs for about an hour: all that `simulation` and `faults` do, on each Redis, and half an hour of chaos.

    The report goes into the documentation, where How it is tested shows it.
    """
    report = Path(session.virtualenv.location, "report.json").resolve()
    report.unlink(missing_ok=True)
    session.env["TRIOQUEUE_REPORT"] = str(report)
    failed: list[str] = []

    def run(*args: str, **env: str) -> None:
        try:
            pytest(session, *args, env=env)
        except CommandFailed:
            failed.append(" ".join(args))  # the rest is run all the same, and the report shows it

    session.install("-q", ".[cli,opentelemetry]", *group("tests"))
    list_versions = "import redis_servers as it; print(*it.find_servers())"
    versions = session.run("python", "-c", list_versions, silent=True, env={"PYTHONPATH": "tests"})
    run("tests/model", TRIOQUEUE_MODEL_DEPTH="2")
    for version in str(versions).split():
        run(FAULT_TESTS, f"--ignore={SOAK_TEST}", TRIOQUEUE_REDIS=version)
    run(SOAK_TEST, TRIOQUEUE_SOAK_SECONDS="1800")
    run(
        "--numprocesses=auto",
        *CLOCKLESS_TESTS,
        TRIOQUEUE_SEEDS="500-2999",
        TRIOQUEUE_HYPOTHESIS_EXAMPLES="500",
    )
    session.run("python", "tests/report.py", str(report), "docs/_generated/test_report.md")
    if failed:
        session.error(f"failed: {', '.join(failed)}")


@nox.session
def tests(session: nox.Session) -> None:
    """Runs all tests that have no session of their own."""
    others = (STORE_TESTS, FAULT_TESTS, TYPE_TESTS, *CLOCKLESS_TESTS, *PROCESS_TESTS)
    elsewhere = [f"--ignore={tests}" for tests in others]
    pytest(session, *([] if session.posargs else elsewhere))


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measures speed against a floor that is measured in the same run, and writes the page that shows it.

    With arguments, as `-- table --rounds 3` or `-- --against ../other`, it does what they say and writes no page.
    """
    session.install("-q", ".[cli]", *group("bench"))
    if session.posargs:
        session.run("python", "-m", "benchmarks", *session.posargs)
        return
    figures = Path(session.virtualenv.location, "figures.json").resolve()
    session.run("python", "-m", "benchmarks", "--json", str(figures))
    session.run("python", "-m", "benchmarks.page", str(figures))
