"""How long a pod may believe in its lease, and when others may stop believing in it.

A lease is the right of one registered incarnation to run handlers.  It is kept by heartbeats.  Two clocks are at
work, and nothing ever compares one with the other:

The pod's own clock bounds what the pod may do.  A heartbeat is *sent* at some moment; if the store confirms it,
the pod trusts its lease until that moment plus the ttl less a margin.  Counting from the moment of sending is what
makes a slow answer harmless: however long the answer took, the store renewed the lease no earlier than the
heartbeat was sent.  A heartbeat without an answer, or with a refusal, adds no trust, so a hung
connection and a lost registration end in the same line: trust runs out and all workers of the pod are cancelled.

The store's clock bounds what others may do.  A pod whose last renewal is older than its own ttl plus its grace is
silent, and any pod may hand its entities on.  The pod's trust ended a margin before the ttl, so between the two
lie margin plus grace: time for cancelled handlers to end, and for a heartbeat that was on its way.

The store may stand still too: it is stopped, restarts, its clock jumps.  Then every pod looks silent at once.
Whoever ticks the store first after a gap of more than two heartbeats shifts all renewals by that gap *less one
heartbeat*.  Shifting by the whole gap would let a fleet whose heartbeats are slow never reap anybody.

A late answer may only shorten what is believed, never lengthen it: `renewed` takes the maximum, and the clock is
one that goes on while the machine sleeps.
"""

STALL_BEATS = 2
"""Heartbeats without anybody's tick after which the store itself is taken to have stood still."""


def trusted_until(sent_at: float, ttl: float, margin: float) -> float:
    """Says until when a heartbeat that was sent at `sent_at` and confirmed lets us run handlers."""
    return sent_at + ttl - margin


def renewed(believed: float, sent_at: float, ttl: float, margin: float) -> float:
    """Says until when we trust our lease after one more confirmation; answers may come in any order."""
    return max(believed, trusted_until(sent_at, ttl, margin))


def silent_since(last_renewal_us: int, ttl_us: int, grace_us: int) -> int:
    """Says from which store time on a pod counts as silent, by the ttl and grace it told itself."""
    return last_renewal_us + ttl_us + grace_us


def shift_us(last_tick_us: int, now_us: int, heartbeat_us: int) -> int:
    """Says by how much renewals move because the store stood still or its clock jumped; 0: they don't."""
    gap = now_us - last_tick_us
    if 0 <= gap <= STALL_BEATS * heartbeat_us:
        return 0
    return gap - heartbeat_us
