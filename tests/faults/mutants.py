"""Protocols that are broken on purpose: each lacks one rule, and the fault tests must notice.

A mutant of the scripts is the real text with one passage replaced; the passage must be there, so a mutant can't
outlive the rule that it breaks.  Mutants of a pod replace one of its methods.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any
from unittest.mock import patch

import attrs
import trio

from trioqueue.runtime.finished import Finished
from trioqueue.runtime.incarnation import Incarnation
from trioqueue.runtime.worker import Worker
from trioqueue.stores.contract import CommitAnswer, Group
from trioqueue.stores.redis import scripts

Edit = tuple[str, str, str]
"""File below `lua/`, passage, replacement."""

SCRIPTS: dict[str, list[Edit]] = {
    "commit without the check of done": [
        ("commit.lua", "elseif stored > done then", "elseif false then"),
        ("commit.lua", "or stored < done or", "or"),
    ],
    "commit by anybody": [
        ("commit.lua", "local no = refused(generation, incarnation)", "local no = nil"),
        (
            "commit.lua",
            "if h[1] ~= incarnation or h[2] ~= epoch or stored < done",
            "if stored < done",
        ),
    ],
    "commit without the epoch": [("commit.lua", "or h[2] ~= epoch or", "or")],
    "claim by anybody": [("lib/begin.lua", "if h[1] ~= incarnation then", "if not h[1] then")],
    "claim takes the entity out of wake": [
        (
            "lib/begin.lua",
            "    redis.call('HSET', x.e, 'mode', 'active',",
            "    redis.call('ZREM', WAKE, x.name)\n    redis.call('HSET', x.e, 'mode', 'active',",
        )
    ],
    "no quarantine": [("join.lua", "if not fresh or known ~= '' then", "if false then")],
    "send without the check of sequences": [
        ("send.lua", "\n    words[g] = ", "\n    fresh = true\n    words[g] = ")
    ],
    "a wake-up is an event": [
        ("beat.lua", "return { owned, wakes,", "return { owned, {},"),
    ],
    "reap drops the pod first": [("reap.lua", "if #rest == 0 then", "if true then")],
    "epochs count": [
        (
            "lib/begin.lua",
            "epoch_floor = math.max(tonumber(h[2] or 0) + 1, epoch_floor + 1, now)",
            "epoch_floor = tonumber(h[2] or 0) + 1",
        )
    ],
    "a retry goes to the end of the line": [
        (
            "commit.lua",
            "local wait = tonumber(retry_ms ~= '' and retry_ms or 0) * 1000",
            "local wait = tonumber(retry_ms) * 1000\n            redis.call('RPUSH', Q, redis.call('LPOP', Q))",
        )
    ],
    "an idle release forgets what has come": [
        ("release.lua", "if not its or why == 'idle' and x.queued > 0 then", "if not its then"),
        ("lib/place.lua", "elseif x.queued == 0 then", "elseif true then"),
    ],
    "a tick counts for everybody": [
        ("tick.lua", "if ARGV[4] == '' or stored ~= ARGV[3] then", "if ARGV[4] == '' then")
    ],
    "join without a ticket": [("join.lua", "if ticket ~= counter then", "if false then")],
}


async def _watch_nothing(self: Incarnation) -> None:
    await trio.sleep_forever()


def _trusts_always(self: Incarnation) -> bool:
    return True


async def _send_children_first(self: Worker, finished: Finished, **how: bool) -> CommitAnswer:
    commit = finished.commit
    if commit.children:
        await self._incarnation.store.send(Group(commit.children))
        commit.children = []
    answer: CommitAnswer = await _commit(self, finished, **how)
    return answer


_commit: Callable[..., Any] = Worker.commit

METHODS: dict[str, list[tuple[type, str, Any]]] = {
    "a worker without its lease": [
        (Incarnation, "_watch", _watch_nothing),
        (Incarnation, "trusted", _trusts_always),
    ],
    "children beside the commit": [(Worker, "commit", _send_children_first)],
}


@attrs.frozen
class Overlay:
    """Stands for the package that has the scripts."""

    folder: Path

    def __call__(self, _package: str) -> Path:
        return self.folder


def write_scripts(edits: list[Edit], folder: Path) -> None:
    """Writes all scripts, some of them changed."""
    real = files("trioqueue.stores.redis") / "lua"
    shutil.copytree(str(real), folder / "lua")
    for name, passage, replacement in edits:
        path = folder / "lua" / name
        text = path.read_text("utf-8")
        assert text.count(passage) == 1, f"{name} has {passage!r} {text.count(passage)} times"
        path.write_text(text.replace(passage, replacement), "utf-8")


@contextmanager
def mutate(name: str) -> Iterator[None]:
    """Breaks the protocol in this process until the block is left; "" leaves it as it is."""
    if not name:
        yield
    elif name in METHODS:
        patches = [patch.object(*one) for one in METHODS[name]]
        for one in patches:
            one.start()
        try:
            yield
        finally:
            for one in patches:
                one.stop()
    else:
        with tempfile.TemporaryDirectory() as folder:
            write_scripts(SCRIPTS[name], Path(folder))
            with patch.object(scripts, "files", Overlay(Path(folder))):
                scripts.script.cache_clear()
                try:
                    scripts.all_scripts()  # all of them are read now, the pods come later
                    yield
                finally:
                    scripts.script.cache_clear()
