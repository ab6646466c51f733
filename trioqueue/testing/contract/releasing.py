"""Checks of `Store.release`: letting go of an entity, and who gets it then."""

from trioqueue._names import Entity
from trioqueue.protocol.lifecycle import Mode
from trioqueue.stores.contract import Backoff
from trioqueue.stores.reports import Wake
from trioqueue.testing._harness import StoreHarness
from trioqueue.testing.contract.fleet import A, B, C, expect, group, open_client, open_pod, see, texts


async def check_release_of_an_idle_entity_forgets_it(harness: StoreHarness) -> None:
    async with open_pod(harness) as pod:
        await pod.send(A, b"1")
        claimed = await pod.begin(A)
        await pod.commit(A, claimed, state=b"s")
        assert await pod.store.release(pod.member, A, claimed.epoch, "idle") is True
        assert (await see(harness, A)).mode is Mode.IDLE
        assert await pod.store.release(pod.member, A, claimed.epoch, "idle") is False, "late or repeated"
        assert (await pod.store.statistics()).owned == 0


async def check_release_as_idle_is_refused_where_work_has_come(harness: StoreHarness) -> None:
    async with open_pod(harness) as pod, open_pod(harness):
        await pod.store.send(group(A, b"1"), member=pod.member)
        claimed = await pod.begin(A)
        await pod.commit(A, claimed)
        await pod.send(A, b"2")
        before = await see(harness, A)
        assert await pod.store.release(pod.member, A, claimed.epoch, "idle") is False
        assert await see(harness, A) == before
        assert texts(await pod.begin(A)) == [b"2"]


async def check_handoff_gives_the_entity_to_another_pod(harness: StoreHarness) -> None:
    async with open_pod(harness) as pod, open_pod(harness) as other:
        await pod.store.send(group(A, b"1"), member=pod.member)
        await pod.commit(A, await pod.begin(A), pops=0, retry_ms=0)
        claimed = await pod.begin(A)
        assert await pod.store.release(pod.member, A, claimed.epoch, "handoff") is True
        found = await see(harness, A)
        assert (found.mode, found.owner, found.queued) == (Mode.PARKED, other.name, (b"1",))
        await other.wait_hint(Wake(A))
        theirs = await other.begin(A)
        assert (theirs.attempts, theirs.crashes, theirs.done) == (1, 0, 1), "no attempt is spent"
        assert await pod.store.release(pod.member, A, claimed.epoch, "handoff") is False, "late or repeated"
        assert (await see(harness, A)).mode is Mode.ACTIVE


async def check_handoff_without_another_pod_leaves_the_entity_ready(harness: StoreHarness) -> None:
    async with open_pod(harness) as pod, open_pod(harness, room=1) as other:
        await other.store.send(group(B, b"1"), member=other.member)
        await pod.store.send(group(A, b"1"), member=pod.member)
        claimed = await pod.begin(A)
        assert await pod.store.release(pod.member, A, claimed.epoch, "handoff") is True
        found = await see(harness, A)
        assert (found.mode, found.owner, found.queued) == (Mode.READY, None, (b"1",))


async def check_handoff_of_what_was_never_claimed(harness: StoreHarness) -> None:
    async with open_pod(harness) as pod, open_pod(harness) as other:
        for entity in (A, B):
            await pod.store.send(group(entity, b"1"), member=pod.member)
        await pod.begin(B)
        assert await pod.store.release(pod.member, B, None, "handoff") is False, "a claim has begun with it"
        assert await pod.store.release(pod.member, A, None, "handoff") is True
        assert (await see(harness, A)).owner == other.name


async def check_handoff_of_an_entity_without_work_forgets_it(harness: StoreHarness) -> None:
    async with open_pod(harness) as pod, open_pod(harness):
        await pod.store.send(group(A, b"1"), member=pod.member)
        claimed = await pod.begin(A)
        await pod.commit(A, claimed)
        assert await pod.store.release(pod.member, A, claimed.epoch, "handoff") is True
        assert (await see(harness, A)).mode is Mode.IDLE


async def check_decline_puts_the_head_off(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness) as pod, open_pod(harness) as other:
        await pod.store.send(group(A, b"1"), member=pod.member)
        claimed = await pod.begin(A)
        assert await pod.store.release(pod.member, A, claimed.epoch, "decline") is True
        assert 0 < expect(Backoff, await other.claim(A)).seconds <= 2
        await harness.advance(3)
        claimed = await other.begin(A)
        assert 3_000_000 <= claimed.unknown_us < 60_000_000
        assert claimed.attempts == 0
        await other.store.release(other.member, A, claimed.epoch, "decline")
        await harness.advance(3)
        claimed = await pod.begin(A)
        assert claimed.unknown_us >= 6_000_000, "counted from the first decline on"
        await sender.send(A, b"2")
        await pod.commit(A, claimed)
        assert (await pod.begin(A)).unknown_us == 0, "the next head is another command"


async def check_a_declined_head_is_offered_to_each_pod_in_turn(harness: StoreHarness) -> None:
    """However loaded they are: else two that decline would hand it to each other for as long as the third has more."""
    async with (
        open_pod(harness) as first,
        open_pod(harness) as second,
        open_pod(harness, room=3) as last,
    ):
        for entity in (B, C):
            await last.store.send(group(entity, b"1"), member=last.member)
        await first.store.send(group(A, b"1"), member=first.member)
        for pod, next_one in ((first, second), (second, last), (last, first), (first, second)):
            claimed = await pod.begin(A)
            assert await pod.store.release(pod.member, A, claimed.epoch, "decline") is True
            assert (await see(harness, A)).owner == next_one.name
            await next_one.wait_hint(Wake(A))
            await harness.advance(2)
        await last.store.send(group(Entity("account", "d"), b"1"), member=last.member)
        claimed = await second.begin(A)
        assert await second.store.release(second.member, A, claimed.epoch, "decline") is True
        assert (await see(harness, A)).owner == first.name, "no pod gets more than it has room for"


async def check_a_pod_that_failed_with_the_head_knows_it(harness: StoreHarness) -> None:
    async with open_pod(harness) as old, open_pod(harness) as new:
        await old.store.send(group(A, b"1"), member=old.member)
        await old.store.release(old.member, A, (await old.begin(A)).epoch, "decline")
        await harness.advance(5)
        claimed = await new.begin(A)
        assert claimed.unknown_us >= 5_000_000
        await new.commit(A, claimed, pops=0, retry_ms=0, failed=False)
        claimed = await new.begin(A)
        assert claimed.unknown_us >= 5_000_000, "what was only put off may be unknown"
        await new.commit(A, claimed, pops=0, retry_ms=0)
        claimed = await new.begin(A)
        assert claimed.unknown_us == 0
        await new.store.release(new.member, A, claimed.epoch, "handoff")
        assert (await old.begin(A)).unknown_us == 0, "its time begins anew"


async def check_release_is_for_the_newest_claim_alone(harness: StoreHarness) -> None:
    async with open_pod(harness) as pod, open_pod(harness) as other:
        await pod.store.send(group(A, b"1"), member=pod.member)
        old = await pod.begin(A)
        claimed = await pod.begin(A)
        before = await see(harness, A)
        for why in ("idle", "handoff", "decline"):
            assert await pod.store.release(pod.member, A, old.epoch, why) is False
            assert await other.store.release(other.member, A, claimed.epoch, why) is False
            assert await other.store.release(other.member, A, None, why) is False
            assert await pod.store.release(pod.member, B, claimed.epoch, why) is False
            assert await pod.store.release(pod.member, B, None, why) is False
        assert await see(harness, A) == before
