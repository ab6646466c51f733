"""Checks of what happens when the server is another one: refusals, the quarantine, and its end."""

import trio

from trioqueue.protocol.lifecycle import Mode
from trioqueue.stores.contract import Claimed, ClaimWish, LeaseLost, NotClaimed, SendClaimAnswer
from trioqueue.testing._harness import StoreHarness
from trioqueue.testing.contract.fleet import (
    LEASE,
    PATIENCE,
    SILENT_AFTER,
    A,
    B,
    Pod,
    group,
    live,
    open_client,
    open_pod,
    see,
    texts,
)


async def check_a_new_server_has_no_quarantine(harness: StoreHarness) -> None:
    async with open_pod(harness) as pod:
        await pod.send(A, b"1")
        with trio.fail_after(LEASE.ttl / 3):
            await pod.begin(A)


async def check_a_restarted_server_knows_no_incarnation_of_before(harness: StoreHarness) -> None:
    async with open_pod(harness) as pod, open_pod(harness) as other:
        await pod.store.send(group(A, b"1"), member=pod.member)
        claimed = await pod.begin(A)
        await harness.new_generation()
        for rejoined in (False, True):
            if rejoined:
                await other.store.join(other.info)
            for request in (
                lambda: pod.claim(A),
                lambda: pod.commit(A, claimed),
                lambda: pod.store.release(pod.member, A, claimed.epoch, "handoff"),
                lambda: pod.store.retire(pod.member),
                lambda: pod.store.assign(pod.member, [A]),
                pod.leave,
            ):
                try:
                    answer: object = await request()
                except LeaseLost:
                    continue
                raise AssertionError(f"an incarnation of the server before got an answer: {answer}")
            assert await pod.report() is None
        found = await see(harness, A)
        assert (found.mode, found.epoch, found.queued) == (Mode.ACTIVE, claimed.epoch, (b"1",))


async def check_nothing_is_claimed_or_committed_in_quarantine(harness: StoreHarness) -> None:
    """Older leases, which this server may not even know, end first; sends go on meanwhile."""
    async with open_client(harness) as sender, open_pod(harness) as pod:
        await sender.send(A, b"1")
        old = await pod.begin(A)
        old_silent = pod.silent
        await harness.new_generation()
        pod.member = await pod.store.join(pod.info)
        assert await sender.send(A, b"2") is False
        told: list[SendClaimAnswer] = []
        await pod.store.send(
            group(B, b"1"),
            member=pod.member,
            wishes=[ClaimWish(B, "", 1)],
            on_claim=lambda _, answer: told.append(answer),
        )
        assert told == [NotClaimed()]
        assert (await see(harness, B)).queued == (b"1",)
        done = trio.Event()
        claims: list[Claimed] = []

        async def take_over() -> None:
            await pod.store.reap(pod.member, old_silent, gave_up=True)
            claims.append(await pod.begin(A))
            done.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take_over)
            # A heartbeat before its end: a server's clock goes on while a busy machine takes its time.
            await live(harness, SILENT_AFTER - LEASE.heartbeat, pod)
            await sender.store.state(A)  # a round trip
            found = await see(harness, A)
            assert (found.owner, found.epoch) == (old_silent.incarnation, old.epoch), (
                "the server lost the claim"
            )
            assert not done.is_set(), "the quarantine lasts a ttl and a grace"
            await harness.advance(LEASE.heartbeat + 2)
            await pod.report()
            with trio.fail_after(PATIENCE):
                await done.wait()
        assert claims[0].epoch > old.epoch
        assert (claims[0].crashes, texts(claims[0])) == (0, [b"1", b"2"])


async def check_only_a_beat_ends_the_quarantine(harness: StoreHarness) -> None:
    """Only there a jump of the clock has been made up for: time alone, while nobody beats, proves nothing."""
    async with open_pod(harness) as pod:
        await pod.send(A, b"1")
        await harness.new_generation()
        old_silent = pod.silent
        pod.member = await pod.store.join(pod.info)
        await harness.advance(SILENT_AFTER * 10)
        assert not await _served(pod), "nobody beat"
        await pod.found()
        assert not await _served(pod), "the store stood still, and so did the quarantine"
        await live(harness, SILENT_AFTER, pod)
        assert await _served(pod)
        assert await pod.store.reap(pod.member, old_silent, gave_up=True) is True


async def _served(pod: Pod) -> bool:
    """Says whether the store serves this pod, or lets it wait."""
    with trio.move_on_after(0.05):
        await pod.claim(B)
        return True
    return False
