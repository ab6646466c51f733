"""Loading the Lua scripts: one file an operation, shared parts put where it includes them, called by their SHA1."""

import re
from collections.abc import Sequence
from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import Final

import attrs
import hiredis

from trioqueue.stores.redis.keys import Keys

NAMES: Final = (
    "rights",
    "send",
    "void",
    "claim",
    "commit",
    "release",
    "join",
    "retire",
    "beat",
    "reap",
    "assign",
    "cancel",
    "move",
    "withdraw",
    "progress",
    "tick",
    "keep",
    "watch",
    "tell",
    "pause",
    "hold",
    "purge",
    "redeliver",
    "inspect",
    "glance",
    "pods",
    "page",
    "find",
    "waited",
)
"""One for each file in `lua/`."""

_INCLUDE = re.compile(r"^ *-- include: (.+)$", re.MULTILINE)
"""Stands where the shared files belong: at the top, or in a function whose calls alone need them."""

_COMMENT = re.compile(r"--.*$", re.MULTILINE)

_FUNCTION = re.compile(r"^local function (\w+)\(.*?^end\n", re.MULTILINE | re.DOTALL)
"""A function of a shared file, which begins and ends at the beginning of a line."""


@attrs.frozen
class Script:
    """A script as Redis knows it."""

    name: str
    source: str
    sha: str

    def load(self) -> bytes:
        """Packs the command that makes the server know it."""
        return bytes(hiredis.pack_command(("SCRIPT", "LOAD", self.source)))  # type: ignore[arg-type]

    def call(self, names: Keys, keys: Sequence[str], arguments: Sequence[object]) -> bytes:
        """Packs a call; the keys and the channel that all scripts begin with are put before these."""
        common = names.common
        call = ("EVALSHA", self.sha, len(common) + len(keys), *common, *keys, names.channel, *arguments)
        return bytes(hiredis.pack_command(call))  # type: ignore[arg-type]


@cache
def script(name: str) -> Script:
    """Reads one script, with the files it includes where it names them."""
    folder = files("trioqueue.stores.redis") / "lua"
    body = (folder / f"{name}.lua").read_text("utf-8")
    shared = {
        part: (folder / "lib" / f"{part}.lua").read_text("utf-8")
        for included in _INCLUDE.findall(body)
        for part in included.split()
    }
    called = _called(body, "\n".join(shared.values()))

    def without_idle_functions(found: re.Match[str]) -> str:
        parts = "\n".join(shared[part] for part in found[1].split())
        return _FUNCTION.sub(lambda function: function[0] if function[1] in called else "", parts)

    source = _INCLUDE.sub(without_idle_functions, body)
    return Script(name, source, sha1(source.encode(), usedforsecurity=False).hexdigest())


def _called(body: str, shared: str) -> set[str]:
    """Finds the shared functions that a script calls: Redis makes each one anew for each call of the script."""
    bodies = {found[1]: found[0] for found in _FUNCTION.finditer(shared)}
    called, left = set[str](), [_FUNCTION.sub("", shared), body]
    while left:
        named = set(re.findall(r"\w+", _COMMENT.sub("", left.pop()))) & bodies.keys() - called
        called |= named
        left += [bodies[name] for name in named]
    return called


def all_scripts() -> list[Script]:
    """Reads all of them."""
    return [script(name) for name in NAMES]
