"""The command line: `trioqueue`, or `python -m trioqueue.cli`."""

import sys
from importlib.util import find_spec

NEEDS = ("click", "rich")
"""What the command line needs beyond the library."""


def main() -> None:
    """Runs the command line and ends the process.

    Exit codes: 0 it is well; 1 an error of trioqueue, or the demo found drift; 2 the command line was wrong, or what it
    needs is not installed; 130 interrupted; 143 told to end.
    """
    missing = [name for name in NEEDS if find_spec(name) is None]
    if missing:
        sys.stderr.write(
            f'error: The command line needs {" and ".join(missing)}: pip install "trioqueue[cli]"\n'
        )
        sys.exit(2)
    # Only now: the imports below need what was just looked for.
    from trioqueue.cli.errors import run_reporting  # noqa: PLC0415
    from trioqueue.cli.group import trioqueue  # noqa: PLC0415
    from trioqueue.cli.reload import hear_interrupts  # noqa: PLC0415

    def run() -> object:
        hear_interrupts()
        return trioqueue.main(standalone_mode=False, prog_name="trioqueue")

    sys.exit(run_reporting(run))
