"""Checks of `Store.send`: placement, order, repetition, and claims that travel with a send."""

import trio

from trioqueue._errors import PayloadTooLarge
from trioqueue._names import Entity
from trioqueue.messages.policy import MAX_COMMAND_BYTES
from trioqueue.protocol.lifecycle import Mode
from trioqueue.stores.contract import (
    Backoff,
    Claimed,
    ClaimWish,
    Group,
    NotClaimed,
    Outgoing,
    SendClaimAnswer,
)
from trioqueue.stores.reports import Wake
from trioqueue.testing._harness import StoreHarness
from trioqueue.testing.contract.fleet import (
    OTHER,
    PATIENCE,
    A,
    B,
    C,
    Pod,
    expect,
    group,
    open_client,
    open_pod,
    see,
    texts,
)


async def check_send_places_an_idle_entity_and_wakes_its_pod(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness) as pod:
        assert await sender.send(A, b"1") is False
        found = await see(harness, A)
        assert (found.mode, found.owner, found.queued) == (Mode.PARKED, pod.name, (b"1",))
        await pod.wait_hint(Wake(A))
        assert await pod.store.owned(pod.member, 0) == await pod.store.wakes(pod.member, 0) == (A,)


async def check_send_without_a_pod_leaves_the_entity_ready(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness, "other"):
        await sender.send(A, b"1")
        await sender.send(A, b"2")
        found = await see(harness, A)
        assert (found.mode, found.owner, found.queued) == (Mode.READY, None, (b"1", b"2"))
        statistics = await sender.store.statistics()
        assert (statistics.ready, statistics.with_work, statistics.owned) == (1, 1, 0)


async def check_send_places_with_the_least_loaded_pod_of_the_type(harness: StoreHarness) -> None:
    async with (
        open_client(harness) as sender,
        open_pod(harness) as one,
        open_pod(harness) as two,
        open_pod(harness, "other"),
    ):
        entities = [Entity("account", str(n)) for n in range(6)]
        for entity in entities:
            await sender.send(entity, b"1")
        owners = [(await see(harness, entity)).owner for entity in entities]
        assert owners.count(one.name) == owners.count(two.name) == 3
        assert owners[0] == min(one.name, two.name), "equal loads go to the smaller id"


async def check_send_prefers_the_senders_own_pod(harness: StoreHarness) -> None:
    async with open_pod(harness, room=2) as one, open_pod(harness) as two:
        for entity in (A, B, C):
            await one.store.send(group(entity, b"1"), member=one.member)
        assert (await see(harness, A)).owner == (await see(harness, B)).owner == one.name
        assert (await see(harness, C)).owner == two.name, "its own pod had no room any more"


async def check_send_places_nothing_beyond_a_pods_room(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness, "account", "other", room=2):
        entities = (A, OTHER, B)
        await sender.store.send(Group([Outgoing(entity, b"1") for entity in entities]))
        modes = [(await see(harness, entity)).mode for entity in entities]
        assert modes == [Mode.PARKED, Mode.PARKED, Mode.READY], "room is for all types together"


async def check_send_to_an_owned_entity_only_queues(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness) as pod:
        await sender.send(A, b"1")
        async with open_pod(harness):
            await sender.send(A, b"2")
            assert (await see(harness, A)).queued == (b"1", b"2")
            claimed = await pod.begin(A)
            await sender.send(A, b"3")
            found = await see(harness, A)
            assert (found.mode, found.owner, found.epoch) == (Mode.ACTIVE, pod.name, claimed.epoch)
            assert found.queued == (b"1", b"2", b"3")


async def check_send_wakes_a_parked_entity(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness) as pod:
        await sender.send(A, b"1")
        await pod.handle(A)
        await pod.wait_hint(Wake(A))
        pod.hints.clear()
        await sender.send(A, b"2")
        await pod.wait_hint(Wake(A))
        assert await pod.store.wakes(pod.member, 0) == (A,)


async def check_a_group_is_taken_whole_and_in_order(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness):
        commands = [
            Outgoing(A, b"1"),
            Outgoing(OTHER, b"1"),
            Outgoing(A, b"2"),
            Outgoing(B, b"1"),
            Outgoing(A, b"3"),
        ]
        await sender.store.send(Group(commands))
        assert (await see(harness, A)).queued == (b"1", b"2", b"3")
        assert (await see(harness, OTHER)).queued == (await see(harness, B)).queued == (b"1",)


async def check_a_large_group_is_taken(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness) as pod:
        commands = [b"%d" % n for n in range(9000)]
        await sender.send(A, *commands)
        assert (await see(harness, A)).queued == tuple(commands)
        assert len((await pod.begin(A, fetch=10)).batch) == 10


async def check_a_repeated_group_is_a_duplicate(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness) as pod:
        first, second = group(A, b"1"), group(A, b"2")
        assert await sender.store.send(first) is False
        assert await sender.store.send(second) is False
        assert await sender.store.send(first) is True
        assert await sender.store.send(second) is True
        assert (await see(harness, A)).queued == (b"1", b"2")
        await pod.handle(A)
        assert await sender.store.send(first) is True
        assert (await see(harness, A)).queued == (), "not even when it has been handled"


async def check_groups_may_overtake_each_other(harness: StoreHarness) -> None:
    """The later group arrives first: the earlier one is no repetition of anything."""
    async with open_client(harness) as sender:
        early, late = group(A, b"1", sequence=1), group(A, b"4", sequence=4)
        assert await sender.store.send(late) is False
        assert await sender.store.send(early) is False
        assert await sender.store.send(group(A, b"3", sequence=3)) is False
        for repeated in (late, early, group(A, b"3", sequence=3)):
            assert await sender.store.send(repeated) is True
        assert (await see(harness, A)).queued == (b"4", b"1", b"3")


async def check_groups_may_overtake_each_other_within_a_moment(harness: StoreHarness) -> None:
    """As above, where a store lets requests of one moment share a call; and a late group twice in that moment."""
    async with open_client(harness) as sender:
        answers: list[tuple[int, bool]] = []

        async def send(number: int) -> None:
            answers.append((number, await sender.store.send(group(A, b"%d" % number, sequence=number))))

        async with trio.open_nursery() as senders:
            for number in (5, 4, 2, 2, 4, 5):
                senders.start_soon(send, number)
        assert sorted(answers) == [(n, duplicate) for n in (2, 4, 5) for duplicate in (False, True)]
        async with trio.open_nursery() as senders:
            for _ in range(2):
                senders.start_soon(send, 3)
        assert sorted((await see(harness, A)).queued) == [b"2", b"3", b"4", b"5"]


async def check_sequences_of_two_senders_are_independent(harness: StoreHarness) -> None:
    async with open_client(harness) as one, open_client(harness) as two:
        for sender in (one, two):
            assert await sender.send(A, b"1") is False
        assert (await see(harness, A)).queued == (b"1", b"1")


async def check_a_command_that_no_policy_allows_is_not_taken(harness: StoreHarness) -> None:
    """A client that checked nothing is refused with the whole group, and harms no other group of its moment."""
    async with open_client(harness) as sender, open_pod(harness):
        too_large = Group([Outgoing(A, b"1"), Outgoing(B, b"x" * (MAX_COMMAND_BYTES + 1)), Outgoing(C, b"1")])
        errors: list[PayloadTooLarge] = []

        async def send_too_large() -> None:
            try:
                await sender.store.send(too_large)
            except PayloadTooLarge as error:
                errors.append(error)

        async with trio.open_nursery() as senders:
            senders.start_soon(send_too_large)
            senders.start_soon(sender.send, A, b"2")
        await send_too_large()  # repeated, it is no duplicate: it was never taken
        assert [(error.size, error.limit) for error in errors] == [
            (MAX_COMMAND_BYTES + 1, MAX_COMMAND_BYTES)
        ] * 2
        assert (await see(harness, A)).queued == (b"2",)
        assert (await see(harness, B)).mode is (await see(harness, C)).mode is Mode.IDLE
        largest = b"x" * MAX_COMMAND_BYTES
        assert await sender.send(B, largest) is False
        assert (await see(harness, B)).queued == (largest,)


# -------------------------------------------------------------------------------- claims with a send
async def check_a_wish_begins_with_an_idle_entity(harness: StoreHarness) -> None:
    async with open_pod(harness) as pod:
        duplicate, answer = await pod.send_wishing(A, b"1", b"2", fetch=1)
        claimed = expect(Claimed, answer)
        assert not duplicate
        assert texts(claimed) == [b"1"]
        found = await see(harness, A)
        assert (found.mode, found.owner, found.epoch) == (Mode.ACTIVE, pod.name, claimed.epoch)
        await pod.commit(A, claimed, pops=2)
        assert (await see(harness, A)).queued == ()


async def check_a_wish_begins_with_a_parked_entity_of_ours(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness) as pod:
        await sender.send(A, b"1")
        _, answer = await pod.send_wishing(A, b"2")
        assert texts(expect(Claimed, answer)) == [b"1", b"2"]


async def check_a_wish_is_not_granted_where_somebody_has_the_entity(harness: StoreHarness) -> None:
    async with open_pod(harness, room=2) as pod, open_pod(harness) as other:
        await other.store.send(group(A, b"1"), member=other.member)
        assert (await pod.send_wishing(A, b"2"))[1] == NotClaimed(), "another pod has it"
        claimed = expect(Claimed, (await pod.send_wishing(B, b"1"))[1])
        assert (await pod.send_wishing(B, b"2"))[1] == NotClaimed(), "a worker of ours has it"
        assert (await see(harness, B)).epoch == claimed.epoch
        await pod.send_wishing(C, b"1")
        late = Entity("account", "late")
        assert (await pod.send_wishing(late, b"1"))[1] == NotClaimed(), "we have no room"
        assert (await see(harness, late)).owner == other.name


async def check_a_wish_waits_out_a_backoff(harness: StoreHarness) -> None:
    async with open_pod(harness) as pod:
        claimed = expect(Claimed, (await pod.send_wishing(A, b"1"))[1])
        await pod.commit(A, claimed, pops=0, retry_ms=60_000)
        answer = expect(Backoff, (await pod.send_wishing(A, b"2"))[1])
        assert 50 < answer.seconds <= 60
        assert (await see(harness, A)).queued == (b"1", b"2")


async def check_a_wish_is_answered_though_its_command_is_not_taken(harness: StoreHarness) -> None:
    async with open_pod(harness) as pod:
        answers: list[SendClaimAnswer] = []
        try:
            await pod.store.send(
                group(A, b"x" * (MAX_COMMAND_BYTES + 1)),
                member=pod.member,
                wishes=[ClaimWish(A, "", 1)],
                on_claim=lambda _, answer: answers.append(answer),
            )
        except PayloadTooLarge:
            assert answers == [NotClaimed()]
        else:
            raise AssertionError("it was taken")
        assert (await see(harness, A)).mode is Mode.IDLE


async def check_a_repeated_send_claims_anew(harness: StoreHarness) -> None:
    """The claim that the first copy answered is lost with its answer."""
    async with open_pod(harness) as pod:
        same = group(A, b"1")
        first = expect(Claimed, (await pod.send_wishing(A, again=same))[1])
        duplicate, answer = await pod.send_wishing(A, again=same)
        again = expect(Claimed, answer)
        assert duplicate
        assert again.epoch > first.epoch
        assert texts(again) == [b"1"]
        await pod.commit(A, again)
        duplicate, answer = await pod.send_wishing(A, again=same)
        assert duplicate
        assert not isinstance(answer, Claimed), "it has been handled"


async def check_a_cancelled_sender_is_told_of_its_wish(harness: StoreHarness) -> None:
    async with open_pod(harness) as pod:
        for entity, checkpoints in ((A, 0), (B, 1), (C, 2)):
            # Whatever moment it is cancelled in, on_claim is called once.
            wish = _Wish()
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(wish.send, pod, entity)
                    for _ in range(checkpoints):
                        await trio.lowlevel.checkpoint()
                    scope.cancel()
            with trio.fail_after(PATIENCE):
                await wish.told.wait()
            await pod.store.state(A)  # a round trip
            assert len(wish.answers) == 1, f"{wish.answers} after {checkpoints} checkpoints"
            if isinstance(wish.answers[0], Claimed):
                assert (await see(harness, entity)).queued == (b"1",)


class _Wish:
    """A send with a wish, and what came of it."""

    def __init__(self) -> None:
        self.told = trio.Event()
        self.answers: list[SendClaimAnswer] = []

    async def send(self, pod: Pod, entity: Entity) -> None:
        wishes = [ClaimWish(entity, "", 1)]
        await pod.store.send(group(entity, b"1"), member=pod.member, wishes=wishes, on_claim=self._take)

    def _take(self, _: Entity, answer: SendClaimAnswer) -> None:
        self.answers.append(answer)
        self.told.set()
