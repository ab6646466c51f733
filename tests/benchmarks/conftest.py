"""Makes `benchmarks` known, which is not installed; at the end of the path, so that trioqueue is the installed one."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))
