"""Checks of `Store.keep`: entities that are owned without work, and who is told to keep them awake."""

from trioqueue._names import Entity
from trioqueue.protocol.lifecycle import Mode
from trioqueue.stores.contract import CHUNK, Empty, LeaseLost
from trioqueue.stores.reports import Changed, KeepAwake, Wake
from trioqueue.testing._harness import StoreHarness
from trioqueue.testing.contract.fleet import OTHER, A, B, C, Pod, expect, open_client, open_pod, see, silence


async def keep(pod: Pod, *entities: Entity) -> int:
    """Asks for them for nine seconds."""
    return await pod.store.keep(pod.member, entities, 9000)


async def check_an_idle_entity_is_parked_without_work(harness: StoreHarness) -> None:
    async with open_pod(harness) as pod, open_pod(harness, "other") as asking:
        assert await keep(asking, A) == 0
        found = await see(harness, A)
        assert (found.mode, found.owner, found.queued) == (Mode.PARKED, pod.name, ())
        await pod.wait_hint(KeepAwake((A,), 9.0))
        assert Wake(A) not in pod.hints, "it has no work"
        report = await pod.found()
        assert (report.owned, report.wakes) == (1, ())
        empty = expect(Empty, await pod.claim(A))
        await pod.send(A, b"1")
        await pod.wait_hint(Wake(A))
        claimed = await pod.begin(A)
        assert claimed.epoch > empty.epoch
        await pod.commit(A, claimed)
        assert await pod.store.release(pod.member, A, claimed.epoch, "idle")
        assert (await see(harness, A)).mode is Mode.IDLE


async def check_an_owner_is_told_and_stays(harness: StoreHarness) -> None:
    async with open_pod(harness) as pod, open_pod(harness) as other:
        await keep(pod, A)
        owner, stranger = (pod, other) if (await see(harness, A)).owner == pod.name else (other, pod)
        await owner.wait_hint(KeepAwake((A,), 9.0))
        for _ in range(2):
            owner.hints.clear()
            before = await see(harness, A)
            assert await keep(stranger, A) == 0
            assert await see(harness, A) == before
            await owner.wait_hint(KeepAwake((A,), 9.0))
            await owner.send(A, b"1")
            await owner.begin(A)  # active: likewise
        assert not stranger.hints


async def check_entities_are_spread(harness: StoreHarness) -> None:
    entities = [Entity("account", str(number)) for number in range(CHUNK)]
    async with open_pod(harness) as pod, open_pod(harness) as other:
        assert await keep(pod, *entities) == 0
        for one in (pod, other):
            assert (await one.found()).owned == CHUNK // 2
        (told,) = [hint for hint in pod.hints if isinstance(hint, KeepAwake)]
        assert len(told.entities) == CHUNK // 2


async def check_what_no_pod_has_room_for_stays_idle(harness: StoreHarness) -> None:
    async with open_pod(harness, room=1) as pod:
        assert await keep(pod, A, B, C, OTHER) == 3
        modes = [(await see(harness, one)).mode for one in (A, B, C, OTHER)]
        assert modes == [Mode.PARKED, Mode.IDLE, Mode.IDLE, Mode.IDLE]
        await pod.store.retire(pod.member)
        assert await keep(pod, A, B) == 1, "what it has, it keeps"


async def check_who_waits_for_room_comes_first(harness: StoreHarness) -> None:
    async with open_client(harness) as client:
        await client.send(A, b"1")
        async with open_pod(harness, "account", "other", room=2) as pod:
            assert await keep(pod, B, OTHER) == 1
            assert (await see(harness, A)).mode is Mode.READY
            assert (await see(harness, B)).mode is Mode.IDLE
            assert (await see(harness, OTHER)).mode is Mode.PARKED


async def check_what_is_paused_or_ready_is_left_alone(harness: StoreHarness) -> None:
    async with open_pod(harness, room=2) as pod, open_client(harness) as client:
        await client.store.pause(A, "maintenance")
        await pod.send(B, b"1")
        claimed = await pod.begin(B)
        await client.store.pause(B, "maintenance")  # active still
        await client.send(OTHER, b"1")
        before = await harness.world()
        assert await keep(pod, A, B, OTHER) == 0
        assert await harness.world() == before
        assert not [hint for hint in pod.hints if isinstance(hint, KeepAwake)]
        await pod.commit(B, claimed)
        await client.store.hold("account", "maintenance")
        assert await keep(pod, C) == 0
        assert (await see(harness, C)).mode is Mode.IDLE
        await client.store.hold("account", "")
        assert await keep(pod, C) == 0
        assert (await see(harness, C)).mode is Mode.PARKED


async def check_pausing_ends_it(harness: StoreHarness) -> None:
    async with open_pod(harness) as pod:
        await keep(pod, A)
        await pod.store.pause(A, "maintenance")
        await pod.wait_hint(Changed(A))
        assert (await see(harness, A)).mode is Mode.PAUSED
        await pod.store.pause(A, "")
        assert (await see(harness, A)).mode is Mode.IDLE


async def check_a_dead_pods_entities_are_given_anew(harness: StoreHarness) -> None:
    async with open_pod(harness) as dead:
        await keep(dead, A)
        async with open_pod(harness) as heir:
            await keep(heir, A)
            assert (await see(harness, A)).owner == dead.name, "nobody knows yet"
            await silence(harness, heir)
            await heir.store.reap(heir.member, dead.silent)
            assert (await see(harness, A)).mode is Mode.IDLE, "it had no work"
            await keep(heir, A)
            assert (await see(harness, A)).owner == heir.name
            await heir.wait_hint(KeepAwake((A,), 9.0))
            try:
                await keep(dead, B)
            except LeaseLost:
                return
            raise AssertionError("a dead pod's request is taken")
