"""Each row of the page of features leads to an example of it, which runs in the tests."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import attrs
import pytest
from examples.test_examples import EXAMPLES, PRINTED, SENDERS
from markdown_it import MarkdownIt
from test_documents import PAGES, ROOT, Block, blocks

FEATURES = ROOT / "docs" / "explanation" / "features.md"

PROGRAMS = {*PRINTED, *SENDERS, "bank_service"}
"""Examples that the tests beside `test_examples.py` run."""


@attrs.frozen
class Row:
    """A row of a table: what its last column leads to, and what is to be found there."""

    title: str
    target: str  # relative to the folder of the page; "": there is none
    code: tuple[str, ...]


def rows_of(text: str) -> Iterator[Row]:
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    title, target, code = "", "", tuple[str, ...]()
    for before, token in pairwise(tokens):
        if before.type == "td_open":
            parts = token.children or []
            target = next((str(one.attrs["href"]) for one in parts if one.type == "link_open"), "")
            code = tuple(one.content for one in parts if one.type == "code_inline")
            title = title or token.content
        elif token.type == "tr_close" and title:
            if not target and code and code[0].startswith("examples/"):
                target, code = f"../../{code[0]}", code[1:]
            yield Row(title, target, code)
            title = ""


def complaint(row: Row, folder: Path = FEATURES.parent) -> str:
    """Says what is wrong with a row; "": nothing."""
    if not row.target:
        return "it leads nowhere"
    if not row.code:
        return "it doesn't say what to look for"
    path, _, anchor = row.target.partition("#")
    page = (folder / path).resolve()
    if not page.exists():
        return f"there is no {path}"
    if page.is_relative_to(EXAMPLES):
        if page.name not in PROGRAMS:
            return f"no test runs {path}"
        code = "\n".join(one.read_text() for one in ([page] if page.is_file() else page.glob("*.py")))
    else:
        if page not in PAGES:
            return f"{path} is no page whose blocks the tests run"
        lines = section(page, anchor)
        if lines is None:
            return f"{path} has no #{anchor}"
        code = "\n".join(block.code for block in run_blocks(page) if block.line in lines)
        if not code:
            return f"nothing of {row.target} runs"
    missing = [one for one in row.code if one not in code]
    return f"{row.target} has no {missing}" if missing else ""


def run_blocks(page: Path) -> list[Block]:
    """Lists the blocks of a page that run, and those written to files that such a block names, or one that it uses."""
    left = blocks(page)
    ran = [block for block in left if block.runs]
    for block in ran:  # which grows meanwhile
        left = [one for one in left if one not in ran]
        ran += [
            one for one in left if one.file and ("pytest" in block.code or Path(one.file).stem in block.code)
        ]
    return ran


def section(page: Path, anchor: str) -> range | None:
    """Says which lines belong to an anchor, down to the next heading that is no smaller; None: there is none."""
    lines = page.read_text().splitlines()
    if not anchor:
        return range(len(lines) + 1)
    tokens = MarkdownIt("commonmark").parse(page.read_text())
    headings = [
        (token.map[0], token.tag, following.content)
        for token, following in pairwise(tokens)
        if token.type == "heading_open" and token.map
    ]
    for at, (start, tag, title) in enumerate(headings):
        if slug(title) == anchor:
            ends = (line for line, other, _ in headings[at + 1 :] if other <= tag)
            return range(start, next(ends, len(lines) + 1))
    return None


def slug(heading: str) -> str:
    """Names a heading as the documentation's builder does."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


ROWS = list(rows_of(FEATURES.read_text()))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.title[:60])
def test_each_row_leads_to_an_example_that_runs(row: Row) -> None:
    assert not complaint(row)


def test_no_row_is_overlooked() -> None:
    lines = FEATURES.read_text().splitlines()
    tables = sum(set(line) == {"|", "-"} for line in lines)

    assert len(ROWS) == sum(line.startswith("|") for line in lines) - 2 * tables
    assert tables == 3


def test_each_row_says_something_else() -> None:
    assert len({row.title for row in ROWS}) == len(ROWS)


MADE_UP = {
    "nothing at all": "it leads nowhere",
    "[a page](../how-to/send-once.md)": "it doesn't say what to look for",
    "[a page](../how-to/send-twice.md): `key=`": "there is no ../how-to/send-twice.md",
    "[a page](../how-to/send-once.md#nowhere): `key=`": "../how-to/send-once.md has no #nowhere",
    "[a page](../how-to/send-once.md): `lock=`": "../how-to/send-once.md has no ['lock=']",
    "[no block](../how-to/redis-users.md): `acl`": "nothing of ../how-to/redis-users.md runs",
    "[no block there](../how-to/send-once.md#good-to-know): `key=`": (
        "nothing of ../how-to/send-once.md#good-to-know runs"
    ),
    "[only installs](../../CONTRIBUTING.md): `nox`": "../../CONTRIBUTING.md is no page whose blocks the tests run",
    "`examples/bank_service/app.py`: `Registry`": "no test runs ../../examples/bank_service/app.py",
    "`examples/banking.py`: `lock(`": "../../examples/banking.py has no ['lock(']",
    "`examples/banking.py`: `context.send(`": "",
}


@pytest.mark.parametrize(("cell", "wrong"), MADE_UP.items())
def test_a_row_of_a_made_up_page_that_leads_to_no_example_is_noticed(cell: str, wrong: str) -> None:
    (row,) = rows_of(f"# Features\n\n| what | shown in |\n|---|---|\n| a `lock=` | {cell} |\n")

    assert complaint(row) == wrong
