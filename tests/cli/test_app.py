"""What `module:name` may name, and what is said where it can't be served."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from trioqueue import AtomicQueues, BadDeclaration, Registry
from trioqueue.cli.app import BadApp, load

MODULES = {
    "app_fine": "from trioqueue import Registry\n\nregistry = Registry()\n\n\nclass Shop:\n    orders = registry\n",
    "app_broken": "x x",
    "app_raises": "def fail():\n    raise ValueError('no')\n\nfail()",
    "app_lacks": "import app_missing",
    "app_declares": "from trioqueue import Command, command\n\n@command('a b')\nclass A(Command):\n    pass\n",
    "app_openers": """
from contextlib import asynccontextmanager
from trioqueue import open_atomic_queues

def narrow(url):
    return open_atomic_queues(url)

async def bare(url, **options):
    pass

def other(url, **options):
    return 7

@asynccontextmanager
async def right(url, **options):
    async with open_atomic_queues(url, **options) as queues:
        yield queues
""",
}


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Writes them where the command line would be started."""
    for name, source in MODULES.items():
        (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("target", ["app_fine:registry", "app_fine:Shop.orders"])
def test_a_registry(target: str) -> None:
    assert isinstance(load(target).registry, Registry)


async def test_a_function_that_opens() -> None:
    async with load("app_openers:right").open("memory://", name="red") as queues:
        assert isinstance(queues, AtomicQueues)


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("app_fine", "name a module and a registry in it"),
        ("app_missing:registry", "there is no module 'app_missing'"),
        ("app_fine:nothing", "the module app_fine has no 'nothing'"),
        ("app_fine:Shop.nothing", "the module app_fine has no 'Shop.nothing'"),
        ("app_openers:__name__", "that is a str, neither a Registry nor a function"),
        ("app_broken:registry", "its import failed at app_broken.py:1: invalid syntax"),
        ("app_raises:registry", "its import failed at app_raises.py:2: ValueError('no')"),
        ("app_lacks:registry", "its import failed at app_lacks.py:1: No module named 'app_missing'"),
        ("app_declares:registry", "its import failed at app_declares.py:3: "),
    ],
)
def test_what_cannot_be_loaded(target: str, says: str) -> None:
    with pytest.raises(BadApp) as caught:
        load(target)

    assert str(caught.value).startswith(f"{target}: {says}")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("narrow", "let it take `url, **options`"),
        ("bare", "it gives a coroutine and no async context manager: is an @asynccontextmanager missing?"),
        ("other", "it gives a int and no async context manager"),
        ("asynccontextmanager", "it can't be called with the URL and options"),
    ],
)
def test_a_function_that_opens_nothing(name: str, says: str) -> None:
    app = load(f"app_openers:{name}")
    with pytest.raises(BadApp) as caught:
        app.open("memory://", prefix="tq")

    assert says in str(caught.value)


def test_a_mistake_in_a_declaration_is_told_as_it_is() -> None:
    with pytest.raises(BadApp) as caught:
        load("app_declares:registry")

    assert isinstance(caught.value.__cause__, BadDeclaration)
