"""Checks of `Store.cancel`: a mark that the owner sees in all ways, and that goes with the command."""

from trioqueue.stores.contract import Next
from trioqueue.stores.reports import CancelAsked
from trioqueue.testing._harness import StoreHarness
from trioqueue.testing.contract.fleet import A, B, expect, open_client, open_pod, see


async def check_cancel_marks_and_tells_the_owner(harness: StoreHarness) -> None:
    async with open_client(harness) as caller, open_pod(harness) as pod:
        await caller.send(A, b"1", b"2", b"3")
        await caller.send(B, b"1")
        claimed = await pod.begin(A)
        for _ in range(2):
            assert await caller.store.cancel(A, "id-2") is True
        assert await caller.store.cancel(A, "id-3") is True
        await pod.wait_hint(CancelAsked(A, "id-2"))
        await pod.wait_hint(CancelAsked(A, "id-3"))
        assert sorted(await pod.store.cancelled(A)) == ["id-2", "id-3"]
        assert (await pod.found()).cancels == (A,)
        assert sorted(expect(Next, await pod.commit(A, claimed)).cancels) == ["id-2", "id-3"]
        assert (await see(harness, A)).queued == (b"2", b"3"), "nothing is taken out of a mailbox"
        after = expect(Next, await pod.commit(A, claimed, done=1, settled_cancels=["id-2"]))
        assert after.cancels == ("id-3",)
        assert (await pod.begin(A)).cancels == ("id-3",)
        assert await pod.store.cancelled(B) == ()


async def check_cancel_comes_too_late_for_an_empty_mailbox(harness: StoreHarness) -> None:
    async with open_client(harness) as caller, open_pod(harness) as pod:
        assert await caller.store.cancel(A, "id") is False
        await caller.send(A, b"1")
        await pod.handle(A)
        assert await caller.store.cancel(A, "id") is False
        assert await caller.store.cancelled(A) == ()


async def check_marks_go_with_the_last_command(harness: StoreHarness) -> None:
    async with open_client(harness) as caller, open_pod(harness) as pod:
        await caller.send(A, b"1", b"2")
        claimed = await pod.begin(A)
        await caller.store.cancel(A, "settled long ago")
        await caller.store.cancel(A, "settled now")
        await pod.commit(A, claimed, pops=2, settled_cancels=["settled now", "unknown"])
        assert await caller.store.cancelled(A) == ()
        assert (await pod.found()).cancels == ()
        await caller.send(A, b"3")
        assert (await pod.begin(A)).cancels == ()


async def check_settled_marks_are_reported_no_more(harness: StoreHarness) -> None:
    async with open_client(harness) as caller, open_pod(harness) as pod:
        await caller.send(A, b"1", b"2")
        claimed = await pod.begin(A)
        await caller.store.cancel(A, "id")
        await pod.commit(A, claimed, settled_cancels=["id"])
        assert (await pod.found()).cancels == ()


async def check_marks_outlive_a_change_of_owner(harness: StoreHarness) -> None:
    async with open_client(harness) as caller, open_pod(harness) as pod:
        await caller.send(A, b"1")
        claimed = await pod.begin(A)
        await caller.store.cancel(A, "before")
        async with open_pod(harness) as other:
            await pod.store.release(pod.member, A, claimed.epoch, "handoff")
            assert (await other.found()).cancels == (A,)
            await caller.store.cancel(A, "after")
            assert sorted((await other.begin(A)).cancels) == ["after", "before"]


async def check_cancel_of_an_entity_that_waits_for_a_pod(harness: StoreHarness) -> None:
    async with open_client(harness) as caller:
        await caller.send(A, b"1")
        assert await caller.store.cancel(A, "id") is True
        async with open_pod(harness) as pod:
            await pod.store.assign(pod.member, [A])
            assert (await pod.found()).cancels == (A,)
            assert (await pod.begin(A)).cancels == ("id",)
