"""For tests: the contract that every store keeps, as a suite, and the store in memory with a server to share.

`check_store(harness)` runs all of `CHECKS`; pytest may be given them one by one:

    @pytest.mark.parametrize("check", CHECKS)
    async def test_contract(check):
        await run_check(check, MyHarness())
"""

from trioqueue.stores.memory.server import MemoryServer
from trioqueue.testing._harness import MemoryHarness, StoreHarness
from trioqueue.testing._world import Snapshot, World, audit, audit_drained
from trioqueue.testing.contract import CHECKS, Check, check_store, run_check

__all__ = [
    "CHECKS",
    "Check",
    "MemoryHarness",
    "MemoryServer",
    "Snapshot",
    "StoreHarness",
    "World",
    "audit",
    "audit_drained",
    "check_store",
    "run_check",
]
