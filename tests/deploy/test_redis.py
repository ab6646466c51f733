"""The files for Redis: a server that runs with them is well, and its users may do what they are for."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli.command_line import verb
from deploy.files import FILES
from redis_servers import RedisServer, find_servers
from security.test_rights import RULE

from trioqueue import Command, Registry, command, entity_id, open_atomic_queues

PASSWORDS = {"trioqueue": "PASSWORD-OF-PODS", "operator": "PASSWORD-OF-OPERATORS"}

registry = Registry()


@command("account")
class Look(Command[int]):
    account_id: str = entity_id()


@registry.handles(Look)
async def look(_: Look) -> int:
    return 1


class Deployed(RedisServer):
    """A server with the file that is deployed; only where it listens and where its files lie is said differently."""

    def _config(self) -> list[str]:
        text = (FILES / "redis.conf").read_text()
        for there, here in (("/etc/redis", FILES), ("/var/lib/redis", self.data)):
            assert there in text
            text = text.replace(there, str(here))
        return [
            *text.splitlines(),
            f"port {self.port}",
            "bind 127.0.0.1",
            f"unixsocket {self.data}/redis.sock",
        ]

    def as_user(self, name: str) -> str:
        return f"redis://{name}:{PASSWORDS[name]}@127.0.0.1:{self.port}"


@pytest.fixture(scope="module", params=sorted(find_servers()))
def deployed(request: pytest.FixtureRequest) -> Iterator[Deployed]:
    with Deployed(find_servers()[request.param]) as server:
        yield server


async def test_nothing_is_the_matter_with_it(deployed: Deployed, tmp_path: Path) -> None:
    ran = await verb("check", url=deployed.as_user("operator"), cwd=tmp_path)

    assert (ran.code, ran.stderr, ran.lines[-1]) == (0, "", "It is well.")
    assert "append-only file (everysec)" in ran.stdout
    assert "of 2.0 GiB" in ran.stdout


async def test_pods_may_all_that_they_need_and_no_more(deployed: Deployed, tmp_path: Path) -> None:
    async with open_atomic_queues(deployed.as_user("trioqueue"), registry=registry) as queues:
        assert await queues.call(Look("a")) == 1
    ran = await verb("check", url=deployed.as_user("trioqueue"), cwd=tmp_path)

    assert (ran.code, ran.stderr, ran.lines[-1]) == (0, "", "1 hint.")
    assert ran.lines[0] == "hint: settings"


async def test_nobody_else_comes_in(deployed: Deployed, tmp_path: Path) -> None:
    ran = await verb("check", url=deployed.url, cwd=tmp_path)

    assert (ran.code, ran.lines[0]) == (1, "error: password")


def test_its_users_have_the_rights_that_the_page_lists() -> None:
    for line in (FILES / "users.acl").read_text().splitlines()[1:]:
        _, name, *rules = line.split()
        assert rules[:2] == ["on", f">{PASSWORDS[name]}"]
        assert [rule for rule in RULE if rule not in rules] == []
        if name == "trioqueue":
            assert rules[2:] == RULE


def test_each_setting_has_its_reason() -> None:
    """A comment stands before each of them, or before the ones that belong together."""
    paragraphs = (FILES / "redis.conf").read_text().split("\n\n")
    assert all(paragraph.startswith("#") for paragraph in paragraphs)
    assert all(re.search(r"^# (?!-)", paragraph, re.MULTILINE) for paragraph in paragraphs)
