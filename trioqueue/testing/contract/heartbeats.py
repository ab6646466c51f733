"""Checks of heartbeats: what they find, what they keep, and the pages that a pod reads beside them."""

from itertools import chain
from threading import Thread

import trio

from trioqueue._names import Entity
from trioqueue.messages.policy import Lease
from trioqueue.protocol.lifecycle import Mode
from trioqueue.stores.contract import PAGE, Group, Outgoing
from trioqueue.stores.reports import LinkState, Report, Wake
from trioqueue.testing._harness import StoreHarness
from trioqueue.testing.contract.fleet import (
    LEASE,
    OTHER,
    PATIENCE,
    A,
    B,
    C,
    open_client,
    open_pod,
    see,
    texts,
)


async def check_a_beat_reports_what_is_to_be_looked_at(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness, room=2) as pod:
        assert await pod.found() == Report(owned=0)
        await sender.send(OTHER, b"1")
        await sender.send(A, b"1")
        assert await pod.found() == Report(owned=1, wakes=(A,))
        await pod.handle(A)
        assert await pod.found() == Report(owned=1)
        await sender.send(B, b"1")
        await sender.send(C, b"1")
        assert await pod.found() == Report(owned=2, wakes=(B,), pressed=True)
        claimed = await pod.begin(B)
        await pod.commit(B, claimed)
        await pod.store.release(pod.member, B, claimed.epoch, "idle")
        assert await pod.found() == Report(owned=1, ready=(C,))


async def check_every_beat_names_what_has_work(harness: StoreHarness) -> None:
    """The hint may have been lost: each heartbeat is a chance to find the work, not every other one."""
    quick = Lease(ttl=0.4, heartbeat=0.05, grace=0.1)
    async with open_pod(harness, lease=quick) as pod:
        await pod.send(A, b"1")
        reports: list[Report] = []
        with trio.fail_after(PATIENCE):
            async with pod.store.hold_lease(pod.member, quick, reports.append) as held:
                while len(reports) < 4:
                    held.tick()
                    await trio.sleep(0.01)
        assert [report.wakes for report in reports] == [(A,)] * len(reports)


async def check_beats_go_round_many_entities(harness: StoreHarness) -> None:
    quick = Lease(ttl=0.4, heartbeat=0.05, grace=0.1)
    async with open_pod(harness, room=3000, lease=quick) as pod:
        entities = {Entity("account", str(n)) for n in range(2 * PAGE + 100)}
        await pod.store.send(Group([Outgoing(entity, b"1") for entity in entities]))
        reports: list[Report] = []
        with trio.fail_after(PATIENCE):
            async with pod.store.hold_lease(pod.member, quick, reports.append) as held:
                while len(reports) < 4:
                    held.tick()
                    await trio.sleep(0.01)
        assert [len(report.wakes) for report in reports[:4]] == [PAGE, PAGE, 100, PAGE]
        assert {entity for report in reports[:3] for entity in report.wakes} == entities
        assert all(report.owned == len(entities) for report in reports)


async def check_pages_hold_everything_once(harness: StoreHarness) -> None:
    """Also where other pods, which joined before and after, have as much."""
    many = 2 * PAGE + 1
    async with (
        open_pod(harness, room=many) as first,
        open_pod(harness, room=many) as second,
        open_pod(harness, room=many) as third,
    ):
        entities = {Entity("account", str(n)) for n in range(3 * many)}
        await first.store.send(Group([Outgoing(entity, b"1") for entity in entities]))
        for read in ("owned", "wakes"):
            found: list[Entity] = []
            for pod in (first, second, third):
                pages = [
                    await getattr(pod.store, read)(pod.member, offset) for offset in range(0, 4 * PAGE, PAGE)
                ]
                assert [len(page) for page in pages] == [PAGE, PAGE, 1, 0]
                found += chain.from_iterable(pages)
            assert len(found) == len(set(found))
            assert set(found) == entities


async def check_an_error_leaves_a_held_lease_as_itself(harness: StoreHarness) -> None:
    async with open_pod(harness) as pod:
        try:
            async with pod.store.hold_lease(pod.member, LEASE, lambda _: None):
                raise _BodyError
        except _BodyError:
            pass
        assert await pod.report() is not None, "it ends the beats and not the registration"


class _BodyError(Exception):
    pass


async def check_a_held_lease_outlives_the_clean_up_of_its_block(harness: StoreHarness) -> None:
    """A pod that is cancelled still has entities to hand on, under this lease."""
    quick = Lease(ttl=0.4, heartbeat=0.05, grace=0.1)
    async with open_pod(harness, lease=quick) as pod:
        reports: list[Report] = []
        with trio.fail_after(PATIENCE), trio.CancelScope() as scope:
            async with pod.store.hold_lease(pod.member, quick, reports.append) as held:
                try:
                    scope.cancel()
                    await trio.sleep_forever()
                finally:
                    with trio.CancelScope(shield=True):
                        seen = len(reports)
                        while len(reports) < seen + 2:
                            held.tick()
                            await trio.sleep(0.01)
                        assert held.left() > 0
        assert scope.cancelled_caught


async def check_any_thread_sees_how_a_pod_stands(harness: StoreHarness) -> None:
    """Who tells that an event loop stands still is no part of it."""
    async with open_pod(harness) as pod, pod.store.hold_lease(pod.member, LEASE, lambda _: None) as held:
        assert held.left() > 0
        seen: list[tuple[float, LinkState]] = []
        thread = Thread(target=lambda: seen.append((held.peek(), pod.store.link())))
        thread.start()
        thread.join()
        ((left, link),) = seen
        assert 0 < left <= LEASE.ttl
        assert link.connected


async def check_assign_gives_ready_entities_to_pods_with_room(harness: StoreHarness) -> None:
    async with open_client(harness) as sender:
        for entity in (A, B, C, OTHER):
            await sender.send(entity, b"1")
        async with open_pod(harness, room=2) as pod:
            assert set((await pod.found()).ready) <= {A, B, C}
            for _ in range(2):
                await pod.store.assign(pod.member, [A, B, C, OTHER, Entity("account", "unknown")])
            modes = [(await see(harness, entity)).mode for entity in (A, B, C, OTHER)]
            assert modes == [Mode.PARKED, Mode.PARKED, Mode.READY, Mode.READY]
            await pod.wait_hint(Wake(A))
            assert texts(await pod.begin(A)) == [b"1"]
