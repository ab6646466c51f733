"""Checks of `Store.claim`: who may, what it answers, and that epochs rise."""

from trioqueue.protocol.lifecycle import Mode
from trioqueue.stores.contract import MAX_BATCH_BYTES, NOT_MODIFIED, Backoff, Empty, Fenced, NotYours, Parked
from trioqueue.testing._harness import StoreHarness
from trioqueue.testing.contract.fleet import A, B, expect, group, open_client, open_pod, see, texts


async def check_claim_begins_and_leaves_the_mailbox_as_it_is(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness) as pod:
        await sender.send(A, b"1", b"2")
        claimed = await pod.begin(A)
        assert texts(claimed) == [b"1", b"2"]
        assert (claimed.done, claimed.attempts, claimed.crashes, claimed.unknown_us) == (0, 0, 0, 0)
        assert (claimed.state, claimed.state_version, claimed.cancels) == (None, "", ())
        assert all(0 < queued.accepted_us <= claimed.now_us for queued in claimed.batch)
        found = await see(harness, A)
        assert (found.mode, found.epoch, found.queued) == (Mode.ACTIVE, claimed.epoch, (b"1", b"2"))
        assert await pod.store.wakes(pod.member, 0) == (A,), "a claim that runs late must not hide work"


async def check_claim_is_for_the_owner_alone(harness: StoreHarness) -> None:
    async with open_pod(harness) as pod, open_pod(harness, "other") as other:
        await pod.send(A, b"1")
        before = await see(harness, A)
        assert await other.claim(A) == NotYours()
        assert await other.claim(B) == NotYours(), "nobody has it"
        assert await see(harness, A) == before


async def check_claim_again_is_worth_more_than_the_claim_before(harness: StoreHarness) -> None:
    async with open_pod(harness) as pod:
        await pod.send(A, b"1")
        first = await pod.begin(A)
        second = await pod.begin(A)
        assert second.epoch > first.epoch
        assert await pod.commit(A, first) == Fenced()
        assert await pod.commit(A, second) == Parked()


async def check_claim_of_an_entity_without_work_finds_it_empty(harness: StoreHarness) -> None:
    async with open_pod(harness) as pod:
        await pod.send(A, b"1")
        claimed = await pod.begin(A)
        await pod.commit(A, claimed)
        empty = expect(Empty, await pod.claim(A))
        assert empty.epoch > claimed.epoch
        found = await see(harness, A)
        assert (found.mode, found.epoch, found.queued) == (Mode.PARKED, empty.epoch, ())
        assert await pod.store.wakes(pod.member, 0) == ()


async def check_epochs_rise_whatever_happens(harness: StoreHarness) -> None:
    """Over idle times, other owners, and a clock that is set back."""
    async with open_pod(harness) as pod, open_pod(harness) as other:
        epochs: list[int] = []
        for step in (0.0, 5.0, -3600.0, 0.0):
            await harness.advance(step)
            await pod.store.send(group(A, b"1"), member=pod.member)
            claimed = await pod.begin(A)
            epochs.append(claimed.epoch)
            await pod.store.release(pod.member, A, claimed.epoch, "handoff")
            claimed = await other.begin(A)
            epochs.append(claimed.epoch)
            await other.commit(A, claimed)
            await other.store.release(other.member, A, claimed.epoch, "idle")
            assert (await see(harness, A)).mode is Mode.IDLE
        assert epochs == sorted(set(epochs))


async def check_a_batch_is_bounded_in_count_and_bytes(harness: StoreHarness) -> None:
    async with open_pod(harness) as pod:
        await pod.send(A, *[b"%d" % n for n in range(10)])
        assert texts(await pod.begin(A, fetch=3)) == [b"0", b"1", b"2"]
        big = b"x" * (MAX_BATCH_BYTES * 2 // 5)
        await pod.send(B, big, big, big, b"x" * MAX_BATCH_BYTES, b"small")
        claimed = await pod.begin(B)
        assert len(claimed.batch) == 2
        await pod.commit(B, claimed, pops=3)
        assert len((await pod.begin(B)).batch) == 1, "the first one always comes"


async def check_claim_brings_the_state_unless_it_is_known(harness: StoreHarness) -> None:
    async with open_pod(harness) as pod:
        await pod.send(A, b"1", b"2", b"3")
        claimed = await pod.begin(A, have="something else")
        assert claimed.state is None
        await pod.commit(A, claimed, state=b"\x00 first\xff")
        claimed = await pod.begin(A)
        assert claimed.state == b"\x00 first\xff"
        known = claimed.state_version
        assert (await pod.begin(A, have=known)).state is NOT_MODIFIED
        claimed = await pod.begin(A)
        await pod.commit(A, claimed, state=b"")
        claimed = await pod.begin(A, have=known)
        assert claimed.state == b"", "an empty state is a state"
        assert claimed.state_version != known


async def check_claim_waits_out_a_backoff(harness: StoreHarness) -> None:
    async with open_pod(harness) as pod:
        await pod.send(A, b"1")
        await pod.commit(A, await pod.begin(A), pops=0, retry_ms=5000)
        for _ in range(2):
            answer = expect(Backoff, await pod.claim(A))
            assert 4 < answer.seconds <= 5
        await pod.send(A, b"2")
        assert isinstance(await pod.claim(A), Backoff), "no new command makes it start earlier"
        await harness.advance(5.1)
        claimed = await pod.begin(A)
        assert (claimed.attempts, texts(claimed)) == (1, [b"1", b"2"])
        assert (await see(harness, A)).due_us is None


async def check_a_due_time_that_no_policy_allows_has_passed(harness: StoreHarness) -> None:
    """The clock was set back: nobody waits for it to come round again."""
    async with open_pod(harness) as pod:
        await pod.send(A, b"1")
        await pod.commit(A, await pod.begin(A), pops=0, retry_ms=3_500_000)
        assert isinstance(await pod.claim(A), Backoff)
        await harness.advance(-600)
        assert texts(await pod.begin(A)) == [b"1"]
