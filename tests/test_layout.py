"""What is true of the project's files as a whole."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest

import trioqueue
import trioqueue.blocking
import trioqueue.instruments
import trioqueue.testing

ROOT = Path(__file__).parent.parent
LONGEST = 600
"""Lines of a source file: past 400 there is usually a second concept in it, past this there surely is."""

FOLDERS = ("trioqueue", "tests", "examples", "benchmarks", "docs")


def test_no_file_is_too_long() -> None:
    sources = [
        path for folder in FOLDERS for suffix in ("*.py", "*.lua") for path in (ROOT / folder).rglob(suffix)
    ]
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in sources}

    assert {path: count for path, count in lines.items() if count > LONGEST} == {}


def documented_names(module: str) -> list[str]:
    """Lists what the reference documents of a module; methods are indented below their class."""
    names: list[str] = []
    for page in (ROOT / "docs" / "reference").glob("*.md"):
        current = ""
        for directive, name in re.findall(r"^\.\. (\w+):: ([\w.]+)", page.read_text(), re.MULTILINE):
            if directive == "currentmodule":
                current = name
            elif directive.startswith("auto") and current == module:
                names.append(name)
    return sorted(names)


@pytest.mark.parametrize(
    "module",
    [trioqueue, trioqueue.blocking, trioqueue.instruments, trioqueue.testing],
    ids=lambda module: module.__name__,
)
def test_the_reference_has_each_public_name_once(module: ModuleType) -> None:
    assert documented_names(module.__name__) == sorted(module.__all__)


@pytest.mark.parametrize(
    "module", [trioqueue, trioqueue.blocking, trioqueue.instruments], ids=lambda module: module.__name__
)
def test_public_names_say_where_they_are_public(module: ModuleType) -> None:
    assert {getattr(module, name).__module__ for name in module.__all__} == {module.__name__}


def test_nothing_else_looks_public() -> None:
    modules = {path.stem for path in (ROOT / "trioqueue").iterdir()}
    shown = {name for name in vars(trioqueue) if not name.startswith("_")}

    assert shown - modules == set(trioqueue.__all__)


def test_the_installed_version_is_the_declared_one() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

    assert version("trioqueue") == declared


@pytest.mark.parametrize("name", ["py.typed", "stores/redis/lua/send.lua", "stores/redis/lua/lib/common.lua"])
def test_what_is_no_python_is_installed_too(name: str) -> None:
    assert (Path(trioqueue.__file__).parent / name).is_file()


def test_ci_runs_the_test_command_of_the_readme() -> None:
    commands = re.findall(r"^python3 -m venv .*nox$", (ROOT / "README.md").read_text(), re.MULTILINE)

    assert len(commands) == 1
    assert commands[0] in (ROOT / ".ci" / "run").read_text().splitlines()


def test_each_changelog_fragment_is_of_a_known_kind() -> None:
    towncrier = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["towncrier"]
    kinds = {kind["directory"] for kind in towncrier["type"]}

    for fragment in (ROOT / "changelog.d").glob("*.md"):
        assert fragment.name.split(".")[1] in kinds, fragment.name
