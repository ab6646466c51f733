"""The files that are deployed, and the pages that show and explain them."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = ROOT / "deploy"
PAGES = ROOT / "docs" / "how-to"
