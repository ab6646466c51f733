"""Checks of a command's progress: the newest word is kept, and told to whom it concerns."""

from trioqueue.stores.contract import KEEP_PROGRESS_MS
from trioqueue.stores.reports import Progress
from trioqueue.testing._harness import StoreHarness
from trioqueue.testing.contract.fleet import open_client


async def check_the_newest_word_is_kept_and_told(harness: StoreHarness) -> None:
    async with open_client(harness) as pod, open_client(harness) as sender:
        assert await sender.store.progress("c") is None
        await pod.store.tell_progress("c", sender.store.client, b"1")
        await pod.store.tell_progress("c", sender.store.client, b"2 of 3")
        await sender.wait_hint(Progress("c", b"2 of 3"))
        assert await sender.store.progress("c") == b"2 of 3"
        await pod.store.tell_progress("d", "", b"1")
        assert await sender.store.progress("d") == b"1"
        await harness.advance(KEEP_PROGRESS_MS / 1000 + 1)
        assert await sender.store.progress("c") is None
