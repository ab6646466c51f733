"""The contract of a store as checks: what `trioqueue.stores.contract` promises, one promise a check.

A check gets a harness with an empty server, uses the store's operations alone, and asserts their answers and what the
server then holds.  After each check the invariants of all it holds are asserted too.
"""

from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import TypeAlias

from trioqueue.testing._harness import StoreHarness
from trioqueue.testing._world import audit, audit_drained
from trioqueue.testing.contract import (
    cancelling,
    claiming,
    committing,
    following,
    generations,
    heartbeats,
    keeping,
    lanes,
    lifecycle,
    looking,
    membership,
    operating,
    recurring,
    releasing,
    sending,
    terms,
    watching,
)

Check: TypeAlias = Callable[[StoreHarness], Awaitable[None]]

DRAINED = frozenset({membership.check_nothing_is_left_when_all_is_done})
"""Checks after which the server holds nothing any more."""


def _checks(*modules: ModuleType) -> tuple[Check, ...]:
    return tuple(
        check for module in modules for name, check in vars(module).items() if name.startswith("check_")
    )


CHECKS: tuple[Check, ...] = _checks(
    sending,
    claiming,
    committing,
    releasing,
    cancelling,
    heartbeats,
    lanes,
    terms,
    following,
    recurring,
    keeping,
    watching,
    operating,
    looking,
    membership,
    generations,
    lifecycle,
)
"""All checks, the plainest first."""


async def run_check(check: Check, harness: StoreHarness) -> None:
    """Runs one check on an empty server, and audits what it leaves there."""
    await harness.clear()
    await check(harness)
    (audit_drained if check in DRAINED else audit)(await harness.world())


async def check_store(harness: StoreHarness) -> None:
    """Asserts that a store keeps the whole contract.

    Example:
        A test of the store that keeps everything in the process:

        >>> trio.run(check_store, MemoryHarness())
    """
    for check in CHECKS:
        await run_check(check, harness)
