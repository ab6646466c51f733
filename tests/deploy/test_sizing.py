"""The figures that the page on sizing begins with are round ones of the last measurement."""

import json
import re
from statistics import median

from deploy.files import PAGES, ROOT

MEASURED = {
    ("table", "wide", "client us", None): "POD_COLD_US",
    ("table", "wide", "Redis us", None): "REDIS_COLD_US",
    ("fleet", "pods", "us a command", "1 → 1"): "POD_US",
    ("fleet", "Redis", "us a command", "1 → 1"): "REDIS_US",
    ("table", "entity with state, parked", "KiB", None): "POD_ENTITY",
    ("table", "entity with state, parked", "bytes in Redis", None): "REDIS_AWAKE",
    ("table", "entity with state, released", "bytes in Redis", None): "REDIS_ASLEEP",
    ("growth", "pending in one mailbox", "bytes in Redis", 100_000): "REDIS_PENDING",
}

FACTOR = 2
"""Between two runs of the measurement on a machine that others use, so much is no news."""


def test_the_figures_are_those_that_were_measured() -> None:
    page = (PAGES / "size-a-fleet.md").read_text()
    given: dict[str, float] = {}
    for names, values in re.findall(r"^((?:[A-Z_]+, )*[A-Z_]+) = ([\d., ]+)", page, re.MULTILINE):
        given |= dict(zip(names.split(", "), map(float, values.rstrip(", ").split(", ")), strict=False))
    parts = json.loads((ROOT / "docs" / "_generated" / "speed.json").read_text())["parts"]
    for (part, what, unit, at), name in MEASURED.items():
        (row,) = (row for row in parts[part] if (row["what"], row["unit"], row["at"]) == (what, unit, at))
        assert 1 / FACTOR < given[name] / median(row["values"]) < FACTOR, name
