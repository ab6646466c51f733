"""Where it was measured."""

import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.server import ROOT, find_servers

PACKAGES = ("trio", "hiredis", "orjson", "redis", "cattrs", "attrs")


def describe() -> dict[str, str]:
    """Names the machine, the versions, the commit and the day."""
    return {
        "day": datetime.now(UTC).date().isoformat(),
        "commit": commit(ROOT),
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "Redis": next(iter(find_servers())),
    }


def commit(tree: Path) -> str:
    """Names the commit of a checkout, and whether there is more in it; "" where git does not know it."""
    if not (tree / ".git").exists() or not shutil.which("git"):
        return ""
    describe = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(describe, cwd=tree, capture_output=True, text=True, check=False).stdout.strip()


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
