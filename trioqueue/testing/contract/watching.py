"""Checks of `Store.watch` and `Store.tell_events`: who is told what happens, and who learns that somebody is."""

from trioqueue.stores.reports import Told, Watched
from trioqueue.testing._harness import StoreHarness
from trioqueue.testing.contract.fleet import live, open_client, open_pod


async def check_pods_learn_at_once_and_from_reports_who_watches(harness: StoreHarness) -> None:
    async with open_pod(harness) as pod, open_client(harness) as one, open_client(harness) as other:
        assert (await pod.found()).watched == ()
        await one.store.watch("account", 60_000)
        await pod.wait_hint(Watched(("account",)))
        assert (await pod.found()).watched == ("account",)
        await other.store.watch("*", 60_000)
        await pod.wait_hint(Watched(("*", "account")))
        pod.hints.clear()
        await one.store.watch("*", 60_000)
        await one.store.watch("account", 60_000)
        await other.store.watch("*", 0)
        assert (await pod.found()).watched == ("*", "account")
        await one.store.watch("*", 0)
        await pod.wait_hint(Watched(("account",)))
        assert pod.hints == [Watched(("account",))], "told of changes alone"
        await one.store.watch("account", 0)
        await pod.wait_hint(Watched(()))
        assert (await pod.found()).watched == ()


async def check_who_does_not_say_so_again_watches_no_more(harness: StoreHarness) -> None:
    async with open_pod(harness) as pod, open_client(harness) as one, open_client(harness) as other:
        await one.store.watch("*", 15_000)
        await other.store.watch("other", 40_000)
        await live(harness, 10, pod)
        assert (await pod.found()).watched == ("*", "other")
        await live(harness, 10, pod)
        assert (await pod.found()).watched == ("other",)
        assert await pod.store.tell_events(b"1")
        await other.wait_hint(Told(b"1"))
        assert not one.hints
        await live(harness, 25, pod)
        assert (await pod.found()).watched == ()
        assert not await pod.store.tell_events(b"2")


async def check_all_who_watch_are_told(harness: StoreHarness) -> None:
    async with open_client(harness) as one, open_client(harness) as other, open_client(harness) as deaf:
        assert not await deaf.store.tell_events(b"0")
        for entity_type in ("account", "other", "*"):
            await one.store.watch(entity_type, 60_000)
        await other.store.watch("other", 60_000)
        for data in (b"1", b"2", b"{" + bytes(range(256)) + b"}"):
            assert await other.store.tell_events(data)
            for client in (one, other):
                await client.wait_hint(Told(data))
        assert one.hints == other.hints == [Told(b"1"), Told(b"2"), Told(b"{" + bytes(range(256)) + b"}")]
        assert not deaf.hints
        await one.store.watch("account", 0)
        assert await deaf.store.tell_events(b"4")
        await one.wait_hint(Told(b"4"))
