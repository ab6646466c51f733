"""What a pod counts."""

import attrs


@attrs.define
class Counts:
    """What the workers of one pod did."""

    created: int = 0
    passivated: int = 0
    handled: int = 0
    failed: int = 0
    dead: int = 0
