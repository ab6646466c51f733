"""How fast trioqueue is, as ratios to a floor that is measured in the same run.

Where $TRIOQUEUE_TREE names another checkout, the package `trioqueue` is taken from there, and all else from here: so
one suite measures two trees.  It is done here, as this is what every process of the benchmarks imports first.
"""

import os
import sys
from pathlib import Path

TREE_VARIABLE = "TRIOQUEUE_TREE"

if _tree := os.environ.get(TREE_VARIABLE):
    sys.path.insert(0, _tree)
    import trioqueue

    sys.path.remove(_tree)
    assert Path(trioqueue.__file__).is_relative_to(Path(_tree).resolve()), f"no trioqueue in {_tree}"
