"""Checks of what an operator reads: entities with work at a glance, the pods, and what is put off or dead."""

from contextlib import suppress

from trioqueue._errors import MailboxFull
from trioqueue._names import Entity
from trioqueue.protocol.lifecycle import Mode
from trioqueue.stores.contract import DeadLetter, Group, Outgoing, Purged
from trioqueue.stores.reports import Lane
from trioqueue.testing._harness import StoreHarness
from trioqueue.testing.contract.fleet import OTHER, A, B, C, open_client, open_pod, see, silence
from trioqueue.testing.contract.terms import later, put_off


def _seen(lanes: tuple[Lane, ...]) -> dict[Entity, tuple[str, int | None, int, bytes | None]]:
    return {
        lane.entity: (lane.mode, lane.incarnation, lane.queued, lane.head and lane.head.data)
        for lane in lanes
    }


async def check_lanes_show_who_has_work(harness: StoreHarness) -> None:
    """Owned, ready and paused ones, and none that has nothing to do."""
    async with open_client(harness) as sender, open_pod(harness) as pod:
        await sender.send(A, b"1", b"2")
        await sender.send(B, b"1")
        await pod.handle(B)
        await sender.send(OTHER, b"3")
        await sender.store.pause(C, "maintenance")
        await sender.send(C, b"4")

        found = await sender.store.lanes(10)

        number = int(pod.member.incarnation.rpartition(".")[2])
        assert found.whole
        assert _seen(found.lanes) == {
            A: ("owned", number, 2, b"1"),
            OTHER: ("ready", None, 1, b"3"),
            C: ("paused", None, 1, b"4"),
        }
        assert all(lane.head and 0 < lane.head.accepted_us <= found.now_us for lane in found.lanes)


async def check_of_long_commands_lanes_show_the_beginning(harness: StoreHarness) -> None:
    async with open_client(harness) as sender:
        await sender.send(A, b"a long one")

        ((short,), (whole,)) = (
            (await sender.store.lanes(1, longest=6)).lanes,
            (await sender.store.lanes(1)).lanes,
        )

        assert short.head is not None
        assert whole.head is not None
        assert (short.head.data, whole.head.data) == (b"a long", b"a long one")
        assert short.head.accepted_us == whole.head.accepted_us


async def check_lanes_are_bounded(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness):
        assert ((await sender.store.lanes(1)).lanes, (await sender.store.lanes(1)).whole) == ((), True)
        await sender.send(A, b"1")
        assert (await sender.store.lanes(1)).whole
        await sender.send(B, b"1")

        found = await sender.store.lanes(1)

        assert len(found.lanes) == 1
        assert not found.whole


async def check_registrations_show_the_pods(harness: StoreHarness) -> None:
    """With their types, room, owned entities and last heartbeat, oldest first; who hands on is leaving."""
    async with open_client(harness) as sender:
        assert (await sender.store.registrations()).pods == ()
        async with open_pod(harness) as first, open_pod(harness) as second:
            await sender.send(A, b"1")
            await sender.send(B, b"1")
            found = await sender.store.registrations()

            assert [pod.incarnation for pod in found.pods] == [
                first.member.incarnation,
                second.member.incarnation,
            ]
            assert sum(pod.owned for pod in found.pods) == sum(pod.with_work for pod in found.pods) == 2
            for pod in found.pods:
                assert A.type in pod.types
                assert pod.name
                assert pod.room > 0
                assert 0 < pod.renewed_us <= found.now_us
                assert pod.silent_us > 0
            assert found.quarantine_until_us is None
            await silence(harness)
            found = await sender.store.registrations()
            assert all(found.now_us - pod.renewed_us > pod.silent_us for pod in found.pods)


async def check_what_is_put_off_is_seen(harness: StoreHarness) -> None:
    """Of one entity, the first due first."""
    async with open_client(harness) as sender:
        await put_off(sender, later(A, "c1", 60), later(B, "c2", 20), later(A, "c3", 30))

        found = await sender.store.put_off(A, 10)

        assert [(one.command_id, one.queued.data) for one in found] == [("c3", b"c3"), ("c1", b"c1")]
        assert found[1].due_us - found[0].due_us in range(29_000_000, 31_000_000)
        assert [one.command_id for one in await sender.store.put_off(A, 2)] == ["c3"]  # B's is the other one
        assert await sender.store.put_off(C, 10) == ()


async def check_letters_are_read_from_both_ends(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness) as pod:
        await sender.send(A, *(b"%d" % number for number in range(5)))
        claimed = await pod.begin(A)
        for number in range(5):
            letter = DeadLetter(f"c{number}", b"{}")
            await pod.commit(A, claimed, done=claimed.done + number, dead=(letter,))
            await harness.advance(0.001)

        oldest = await sender.store.letters(A.type, 1, 2)
        newest = await sender.store.letters(A.type, 1, 2, newest=True)
        last = await sender.store.letters(A.type, 4, 2, newest=True)

        assert [letter.command_id for letter in oldest] == ["c1", "c2"]
        assert [letter.command_id for letter in newest] == ["c3", "c2"]
        assert [letter.command_id for letter in last] == ["c0"]
        assert await sender.store.letter(A.type, "c2") == oldest[1]
        assert await sender.store.letter(A.type, "c5") is None
        assert await sender.store.letter(OTHER.type, "c2") is None


async def check_a_refusal_is_noted(harness: StoreHarness) -> None:
    """For as long as the mailbox is not empty; where nothing is there, nothing is."""
    async with open_client(harness) as sender, open_pod(harness) as pod:
        await sender.send(A, b"1")
        before = await see(harness, A)
        with suppress(MailboxFull):
            await sender.store.send(Group([Outgoing(A, b"2")], limits={A.type: 1}))
        found = await sender.store.inspect(A)

        assert (before.mode, found.mode) == (Mode.PARKED, Mode.PARKED)
        assert found.full_limit == 1
        assert found.full_since_us
        assert 0 < found.full_since_us <= found.now_us
        await pod.handle(A)
        found = await sender.store.inspect(A)
        assert (found.full_since_us, found.full_limit) == (None, 0)

        await sender.send(A, b"3")
        with suppress(MailboxFull):
            await sender.store.send(Group([Outgoing(A, b"4")], limits={A.type: 1}))
        assert (await sender.store.inspect(A)).full_since_us
        await sender.store.purge(A, await sender.store.queued(A, 0, 1), [Purged("c3", "", 0)], b"purged")
        found = await sender.store.inspect(A)
        assert (found.queued, found.full_since_us, found.full_limit) == (0, None, 0)
