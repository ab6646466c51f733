"""Checks of `Store.tick`: a schedule moves on once for all, and its command goes out with that or not at all."""

from trioqueue.protocol.lifecycle import Mode
from trioqueue.stores.contract import Outgoing
from trioqueue.stores.reports import Wake
from trioqueue.testing._harness import StoreHarness
from trioqueue.testing.contract.fleet import A, B, open_client, open_pod, see


async def check_a_tick_moves_its_schedule_once(harness: StoreHarness) -> None:
    async with open_client(harness) as one, open_client(harness) as other, open_pod(harness) as pod:
        command = Outgoing(A, b"tick")
        nothing = await one.store.tick("s", None, None)
        assert (nothing.next_ms, nothing.moved) == (None, False)
        begun = await one.store.tick("s", None, 1000)
        assert (begun.next_ms, begun.moved) == (1000, True)
        assert (await see(harness, A)).mode is Mode.IDLE
        known = await other.store.tick("s", None, 500, command)
        assert (known.next_ms, known.moved) == (1000, False)
        moved = await other.store.tick("s", 1000, 2000, command)
        assert (moved.next_ms, moved.moved) == (2000, True)
        for client in (one, other):  # the one that comes late, and a repetition
            late = await client.store.tick("s", 1000, 2000, command)
            assert (late.next_ms, late.moved) == (2000, False)
        found = await see(harness, A)
        assert (found.queued, found.owner) == ((b"tick",), pod.name)
        await pod.wait_hint(Wake(A))
        skipped = await one.store.tick("s", 2000, 3000)
        assert (skipped.next_ms, skipped.moved) == (3000, True)
        assert (await one.store.tick("s", None, None)).next_ms == 3000
        assert (await see(harness, A)).queued == (b"tick",)


async def check_schedules_do_not_know_each_other(harness: StoreHarness) -> None:
    async with open_client(harness) as one:
        for name in ("s", "t"):
            await one.store.tick(name, None, 1000)
        await one.store.tick("s", 1000, 2000, Outgoing(A, b"x"))
        assert (await one.store.tick("t", None, None)).next_ms == 1000
        assert (await see(harness, A)).mode is Mode.READY
        assert (await see(harness, B)).mode is Mode.IDLE


async def check_a_schedule_is_told_the_stores_time(harness: StoreHarness) -> None:
    async with open_client(harness) as one:
        before = (await one.store.tick("s", None, None)).now_ms
        after = (await one.store.tick("s", None, None)).now_ms
        assert 0 <= after - before < 5000
