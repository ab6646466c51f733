"""One measurement in a process of its own: `python -m benchmarks.child URL SIZE PACE MODULE.FUNCTION JSON`.

A fresh process has no memory of earlier work, nor a hash seed or a layout in common with other rounds.  Each figure is
told as a line of JSON as soon as it is known.  SIZE is "quick" or "full"; PACE "alone", or "turns", and then an empty
object asks for the turn of the next lap.
"""

import importlib
import json
import logging
import sys
from functools import partial

import attrs
import trio

from benchmarks.figures import Key
from benchmarks.measuring import Measuring
from benchmarks.processes import say, serve_parent, wait_turn


def tell(key: Key, value: float) -> None:
    say(json.dumps({**attrs.asdict(key), "value": value}))


async def turn() -> None:
    say("{}")
    await wait_turn()


def main(url: str, size: str, pace: str, function: str, options: str) -> None:
    serve_parent()
    logging.getLogger("trioqueue").setLevel(logging.ERROR)  # that this server keeps nothing is known
    module, _, name = function.partition(".")
    measure = getattr(importlib.import_module(f"benchmarks.{module}"), name)
    measuring = Measuring(url, tell, quick=size == "quick", turn=turn if pace == "turns" else None)
    trio.run(partial(measure, measuring, **json.loads(options)))


if __name__ == "__main__":
    main(*sys.argv[1:])
