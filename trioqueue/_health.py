"""How the queues of this process stand, for whoever watches it from outside of the event loop."""

from typing import Literal

import attrs

from trioqueue.runtime.supervisor import Supervisor
from trioqueue.stores.contract import Store


@attrs.frozen
class Health:
    """A snapshot.

    Attributes:
        state: "open", "draining" (the block is being left: nothing new is begun), or "closed".
        connected: Whether there is a link to Redis; always on `memory://`.  One that breaks is opened anew, and what is
            asked for meanwhile waits.
        lease_left: Seconds for which this pod's lease can be trusted; 0: it has none, its workers are cancelled, and it
            joins anew.  None: this process only sends.
        requests: Written to Redis since the opening, heartbeats aside; 0 on `memory://`.
    """

    state: Literal["open", "draining", "closed"]
    connected: bool
    lease_left: float | None
    requests: int


def health_of(store: Store, supervisor: Supervisor | None, *, is_open: bool) -> Health:
    """Takes a snapshot; like all that it asks, it may be called from any thread."""
    state: Literal["open", "draining", "closed"] = "open" if is_open else "closed"
    if is_open and supervisor is not None and supervisor.ending():
        state = "draining"
    link = store.link()
    return Health(
        state=state,
        connected=link.connected,
        lease_left=None if supervisor is None else supervisor.lease_left(),
        requests=link.requests,
    )
