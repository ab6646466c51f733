"""Every code block of the README and the documentation runs, page by page, as a reader would run it.

The blocks of a page run in order, in a folder of the page's own:

* `python`: in one namespace for the page, in one process;
* any block whose first line is a comment with a file's name, as `# bank.py`: written to that file, or added to it if
  an earlier block of the page made it;
* `sh`: in a shell, except for blocks that install something; what it exports holds for the blocks below, and what it
  leaves running in the background goes on until the page is done;
* `output`: what the block before it must have printed, line by line; `…` stands for anything in a line, and as a line
  of its own for any lines.

`redis://localhost:6379` in any of them becomes the URL of a server that the tests started.
"""

import json
import os
import re
import runpy
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import attrs
import pytest
import report
from markdown_it import MarkdownIt
from redis_servers import RedisServer

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
URL_IN_DOCUMENTS = "redis://localhost:6379"
FILE_NAME = re.compile(r"# (\w+\.(?:py|ini|toml))\s*")
PATIENCE = 60
"""Seconds for one block; the longest one is the demo."""

# Executes blocks that come as JSON lines, and answers what each has printed.
INTERPRETER = """
import contextlib, io, json, sys, traceback
namespace = {"__name__": "__main__"}
answers = sys.stdout
for line in sys.stdin:
    block = json.loads(line)
    printed, error = io.StringIO(), ""
    with contextlib.redirect_stdout(printed):
        try:
            exec(compile(block["code"], block["name"], "exec"), namespace)
        except BaseException:
            error = traceback.format_exc()
    print(json.dumps({"printed": printed.getvalue(), "error": error}), file=answers, flush=True)
"""


@attrs.frozen
class Block:
    """A fenced block of a page."""

    language: str
    code: str
    place: str

    @property
    def file(self) -> str | None:
        named = FILE_NAME.fullmatch(self.code.partition("\n")[0])
        return named[1] if named else None

    @property
    def installs(self) -> bool:
        return "pip install" in self.code

    @property
    def runs(self) -> bool:
        """Whether it runs by itself; a file's block is run by others."""
        return not self.file and (self.language == "python" or self.language == "sh" and not self.installs)

    @property
    def line(self) -> int:
        return int(self.place.rpartition(":")[2])


def blocks(page: Path) -> list[Block]:
    tokens = MarkdownIt("commonmark").parse(page.read_text())
    fences = [token for token in tokens if token.type == "fence"]
    name = page.relative_to(ROOT)
    return [
        Block(fence.info.strip(), fence.content, f"{name}:{fence.map[0] + 1 if fence.map else 0}")
        for fence in fences
    ]


class Reader:
    """Runs the blocks of one page."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        self._exported = folder.with_name(f"{folder.name}.exported")
        self._url = url
        bin_folder = str(Path(sys.executable).parent)
        self._environment = {
            **os.environ,
            "PATH": os.pathsep.join([bin_folder, os.environ["PATH"]]),
            "PYTHONWARNINGS": "error",
            "PYTHONUNBUFFERED": "1",
        }
        self._environment.pop("TRIOQUEUE_URL", None)
        self._python: subprocess.Popen[str] | None = None
        self._left_running: list[int] = []  # process groups

    def run(self, block: Block) -> str:
        """Runs a block and returns what it printed."""
        code = block.code.replace(URL_IN_DOCUMENTS, self._url)
        if block.file:
            with (self._folder / block.file).open("a") as file:
                file.write(code + "\n")
            return ""
        if not block.runs:
            return ""
        return (self._run_python if block.language == "python" else self._run_shell)(code, block.place)

    def _run_python(self, code: str, place: str) -> str:
        if self._python is None:
            self._python = subprocess.Popen(
                [sys.executable, "-c", INTERPRETER],
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._python.stdin
        assert self._python.stdout
        self._python.stdin.write(json.dumps({"code": code, "name": place}) + "\n")
        self._python.stdin.flush()
        answer = json.loads(self._python.stdout.readline())
        assert not answer["error"], f"{place}\n{answer['error']}"
        return str(answer["printed"])

    def _run_shell(self, code: str, place: str) -> str:
        exported = shlex.quote(str(self._exported))
        begin = f"[ ! -e {exported} ] || . {exported}\ntrap 'export -p > {exported}' EXIT\n"
        with subprocess.Popen(
            ["bash", "-e", "-c", begin + code],
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as shell:
            self._left_running.append(shell.pid)
            try:
                stdout, stderr = shell.communicate(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                self._end(shell.pid)
                raise
        if not self._runs(shell.pid):
            self._left_running.remove(shell.pid)
        assert shell.returncode == 0, f"{place}\n{stdout}{stderr}"
        return stdout

    @staticmethod
    def _runs(group: int) -> bool:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        return True

    @staticmethod
    def _end(group: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)

    def close(self) -> None:
        for group in self._left_running:
            self._end(group)
        if self._python is not None:
            self._python.kill()
            self._python.communicate()


@pytest.fixture
def reader(tmp_path: Path, clean_redis: RedisServer) -> Iterator[Reader]:
    reader = Reader(tmp_path, clean_redis.url)
    yield reader
    reader.close()


def as_pattern(expected: str) -> str:
    lines = [line.rstrip() for line in expected.splitlines()]
    return "".join(
        r"(?:.*\n)*" if line == "…" else re.escape(line).replace("…", ".*") + r" *\n" for line in lines
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_shows_is_what_happens(page: Path, reader: Reader) -> None:
    printed = ""
    for block in blocks(page):
        if block.language == "output":
            assert re.fullmatch(as_pattern(block.code), printed), (
                f"{block.place} promises\n{block.code}\nand not\n{printed}"
            )
        else:
            printed = reader.run(block)


def test_readme_begins_with_a_program_and_its_output() -> None:
    shown = [block.language for block in blocks(ROOT / "README.md")]

    assert shown[:3] == ["text", "python", "output"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_says_what_it_is(page: Path) -> None:
    for block in blocks(page):
        assert block.language, block.place


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", prose):
        if "://" not in target and "_generated" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize(
    "index", sorted((ROOT / "docs").glob("*/index.md")), ids=lambda page: page.parent.name
)
def test_an_index_says_what_is_on_each_of_its_pages(index: Path) -> None:
    told = re.findall(r"^- \[[^]]+\]\((\S+)\): .+", index.read_text(), re.MULTILINE)

    assert sorted(told) == sorted(page.name for page in index.parent.glob("*.md") if page != index)


def test_the_words_of_the_glossary_are_in_their_order() -> None:
    words = re.findall(r"^(\w.*)\n  ", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)

    assert words == sorted(words)


def test_the_picture_is_what_its_program_draws() -> None:
    drawn = runpy.run_path(str(ROOT / "docs" / "make_picture.py"))["draw"]()

    assert (ROOT / "docs" / "picture.svg").read_text() == drawn, "python docs/make_picture.py"


def test_readme_tells_the_speed_that_was_measured() -> None:
    measured = (ROOT / "docs" / "_generated" / "speed.md").read_text()
    told = (ROOT / "README.md").read_text().partition("## How fast")[2].partition("##")[0]

    def median(row: str) -> float:
        found = re.search(rf"^\| {re.escape(row)} \| ([\d.,]+)", measured, re.MULTILINE)
        assert found, row
        return float(found[1].replace(",", ""))

    assert re.findall(r"\*\*(.+?)\*\*", told) == [
        f"{100 * median('hot, commit each'):.0f} %",
        f"{100 * median('hot, commit group'):.0f} %",
        f"{median('call, other pod, warm'):.0f}",
        f"{median('entity, parked'):.1f} KiB",
    ]


def test_the_report_of_the_last_long_run_is_what_its_numbers_say() -> None:
    kept = report.PAGE.with_suffix(".json").read_text()

    assert report.PAGE.read_text() == report.render(json.loads(kept)), (
        "python tests/report.py docs/_generated/test_report.json"
    )
