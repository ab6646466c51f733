"""Builds the documentation: `nox -s docs`."""

import re
import sys
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

import trioqueue

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import make_lifecycle_diagram  # noqa: E402 - found in this folder

# The diagram and the table of modes are made from the protocol's own table, never by hand.
make_lifecycle_diagram.write(HERE / "_generated")

project = "trioqueue"
author = "The trioqueue authors"
copyright = f"2026, {author}"  # noqa: A001 - Sphinx names it so
version = release = version_of("trioqueue")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinxcontrib_trio",
]
exclude_patterns = ["_build", "_generated"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"trioqueue {version}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]

# Single backticks in docstrings: a link where there is something to link to.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
maximum_signature_line_length = 90
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Cancelled", "notes_style")]

nitpicky = True
nitpick_ignore_regex = [
    # Code in single backticks that names nothing of ours.
    ("py:obj", r".*"),
    # Other projects' documentation is not looked up: builds need no network.
    (
        "py:.*",
        r"(attrs?|prometheus_client|trio|typing|typing_extensions|collections|contextlib|types|uuid|datetime|decimal)\..*",
    ),
    # Type variables, and what is only there for checkers or tests.
    ("py:class", r"(.*\.)?([A-Z]|Id|CommandType|MemoryServer|Store)"),
]


def link_to_public_name(
    app: Sphinx, environment: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.Node | None:
    """Leads `trioqueue.messages.command.Command`, as signatures have it, to `trioqueue.Command`."""
    module, _, name = str(node.get("reftarget", "")).rpartition(".")
    if not module.startswith("trioqueue.") or name not in trioqueue.__all__:
        return None
    python = environment.get_domain("py")
    document, kind = node["refdoc"], node["reftype"]
    return python.resolve_xref(environment, document, app.builder, kind, f"trioqueue.{name}", node, content)


def prepare_docstring(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Makes docstrings, which are written to be read in the source, what napoleon expects."""
    if what == "property":
        lines[0:0] = ["..", ""]  # an empty comment, else it takes what stands before a colon for the type
    if "Example:" in lines:
        at = lines.index("Example:") + 1
        lines[at:at] = ["    .. code-block:: python", ""]
        for index in range(at + 2, len(lines)):
            lines[index] = f"    {lines[index]}" if lines[index] else ""


def show_defaults(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Shows the default that attrs makes anew for each instance as what it is."""
    return signature and re.sub(r"(\w+) = NOTHING", r"\1 = \1()", signature), returns


def setup(app: Sphinx) -> None:
    """Is called by Sphinx."""
    app.connect("missing-reference", link_to_public_name)
    app.connect("autodoc-process-signature", show_defaults)
    app.connect("autodoc-process-docstring", prepare_docstring, priority=400)  # before napoleon
