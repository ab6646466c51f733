"""Checks of the urgent lane: what it overtakes and what never, and that its own order is kept."""

from trioqueue._names import Entity
from trioqueue.stores.contract import (
    Backoff,
    Claimed,
    ClaimWish,
    Group,
    Next,
    Outgoing,
    Purged,
    SendClaimAnswer,
    Terms,
)
from trioqueue.stores.reports import Wake
from trioqueue.testing._harness import StoreHarness
from trioqueue.testing.contract.fleet import (
    A,
    B,
    Client,
    expect,
    open_client,
    open_pod,
    see,
    silence,
    texts,
)

SECOND = 1_000_000


def urgent(entity: Entity, name: str, seconds: float = 0.0) -> Outgoing:
    """Makes an urgent command, whose id and envelope are its name."""
    return Outgoing(entity, name.encode(), Terms(name, round(seconds * SECOND), urgent=True))


async def hurry(client: Client, entity: Entity, *names: str) -> None:
    for name in names:
        assert await client.store.send(Group([urgent(entity, name)])) is False


async def _line(harness: StoreHarness, entity: Entity) -> str:
    return " ".join(data.decode() for data in (await see(harness, entity)).queued)


async def check_urgent_commands_come_first_in_their_order(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness) as pod:
        await sender.send(A, b"1", b"2")
        await hurry(sender, A, "u1", "u2")
        await sender.send(A, b"3")
        await sender.store.send(
            Group([Outgoing(A, b"4"), urgent(A, "u3"), Outgoing(A, b"5"), urgent(A, "u4")])
        )
        assert await _line(harness, A) == "u1 u2 u3 u4 1 2 3 4 5"
        claimed = await pod.begin(A)
        assert [queued.urgent for queued in claimed.batch] == [True] * 4 + [False] * 5
        assert texts(claimed) == [b"u1", b"u2", b"u3", b"u4", b"1", b"2", b"3", b"4", b"5"]


async def check_an_urgent_command_wakes_like_any_other(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness) as pod:
        await hurry(sender, A, "u1")
        await pod.wait_hint(Wake(A))
        assert texts(await pod.begin(A)) == [b"u1"]


async def check_nothing_overtakes_what_was_fetched(harness: StoreHarness) -> None:
    """However much of that is settled meanwhile; and nothing more than that is spared."""
    async with open_client(harness) as sender, open_pod(harness) as pod:
        await sender.send(A, b"1", b"2", b"3", b"4", b"5")
        claimed = await pod.begin(A, fetch=3)
        await hurry(sender, A, "u1")
        assert await _line(harness, A) == "1 2 3 u1 4 5"
        expect(Next, await pod.commit(A, claimed))
        await hurry(sender, A, "u2")
        assert await _line(harness, A) == "2 3 u1 u2 4 5"
        for done in (1, 2):
            answer = expect(Next, await pod.commit(A, claimed, done=done, want=done - 1))
        assert texts(answer) == [b"u1"]
        await hurry(sender, A, "u3")
        assert await _line(harness, A) == "u1 u2 u3 4 5"


async def check_a_smaller_batch_takes_back_nothing(harness: StoreHarness) -> None:
    """What was fetched once counts as fetched, whatever was asked for since."""
    async with open_client(harness) as sender, open_pod(harness) as pod:
        await sender.send(A, b"1", b"2", b"3", b"4", b"5")
        claimed = await pod.begin(A, fetch=4)
        assert texts(expect(Next, await pod.commit(A, claimed, want=1))) == [b"2"]
        await hurry(sender, A, "u1")
        assert await _line(harness, A) == "2 3 4 u1 5"


async def check_a_head_in_a_backoff_is_not_overtaken(harness: StoreHarness) -> None:
    """Nor is anything else that its worker had fetched, now or by whoever comes next."""
    async with open_client(harness) as sender, open_pod(harness) as pod:
        await sender.send(A, b"1", b"2", b"3")
        claimed = await pod.begin(A, fetch=2)
        expect(Backoff, await pod.commit(A, claimed, pops=0, retry_ms=1000))
        await hurry(sender, A, "u1")
        assert await _line(harness, A) == "1 2 u1 3"
        await harness.advance(2)
        claimed = await pod.begin(A, fetch=1)
        await hurry(sender, A, "u2")
        assert await _line(harness, A) == "1 2 u1 u2 3"
        expect(Next, await pod.commit(A, claimed))
        assert await pod.store.release(pod.member, A, claimed.epoch, "handoff")
        await hurry(sender, A, "u3")
        assert await _line(harness, A) == "2 u1 u2 u3 3"


async def check_the_head_of_a_dead_pod_stays_the_head(harness: StoreHarness) -> None:
    """Else its crash would be counted for the one that overtook it."""
    async with open_client(harness) as sender, open_pod(harness) as dead, open_pod(harness) as other:
        await sender.send(A, b"1")
        owner, heir = (dead, other) if (await see(harness, A)).owner == dead.name else (other, dead)
        await owner.begin(A)
        await silence(harness, heir)
        await hurry(sender, A, "u1")
        assert await heir.store.reap(heir.member, owner.silent)
        await hurry(sender, A, "u2")
        claimed = await heir.begin(A)
        assert (texts(claimed), claimed.crashes) == ([b"1", b"u1", b"u2"], 1)


async def check_an_urgent_child_overtakes(harness: StoreHarness) -> None:
    """Also one that a command sends to its own entity, behind what the same commit takes out."""
    async with open_client(harness) as sender, open_pod(harness) as pod:
        await sender.send(A, b"1", b"2", b"3")
        await sender.send(B, b"1")
        claimed = await pod.begin(A, fetch=2)
        children = [urgent(A, "u1"), Outgoing(A, b"4"), urgent(B, "u2"), urgent(A, "u3")]
        expect(Next, await pod.commit(A, claimed, children=children))
        assert await _line(harness, A) == "2 u1 u3 3 4"
        assert await _line(harness, B) == "u2 1"


async def check_what_is_put_off_may_be_urgent(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness) as pod:
        await sender.send(A, b"1", b"2")
        claimed = await pod.begin(A, fetch=1)
        await sender.store.send(Group([urgent(A, "u1", 5)]))
        expect(Next, await pod.commit(A, claimed, children=[urgent(A, "u2", 5)]))
        assert await _line(harness, A) == "2"
        await harness.advance(6)
        await pod.store.move(pod.member)
        assert await _line(harness, A) == "u1 u2 2"


async def check_a_send_that_claims_brings_the_urgent_first(harness: StoreHarness) -> None:
    async with open_pod(harness) as pod:
        group = Group([Outgoing(A, b"1"), urgent(A, "u1")])
        _, answer = await pod.send_wishing(A, again=group)
        assert texts(expect(Claimed, answer)) == [b"u1", b"1"]


async def check_an_urgent_command_finds_its_place_among_many(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness) as pod:
        await sender.send(A, *(b"%d" % number for number in range(50)))
        claimed = await pod.begin(A, fetch=7)
        await hurry(sender, A, *(f"u{number}" for number in range(40)))
        queued = (await see(harness, A)).queued
        assert queued[:7] == tuple(b"%d" % number for number in range(7))
        assert queued[7:47] == tuple(b"u%d" % number for number in range(40))
        assert len(queued) == 90
        expect(Next, await pod.commit(A, claimed, pops=7))


async def check_purging_and_redelivering_keep_the_lanes(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness) as pod:
        await sender.send(A, b"1", b"2", b"3", b"4")
        claimed = await pod.begin(A, fetch=3)
        found = claimed.batch[:2]
        assert await sender.store.purge(A, found, [Purged("1"), Purged("2")], b"outcome")
        await hurry(sender, A, "u1")
        assert await _line(harness, A) == "3 u1 4", "3 was fetched, and 4 never"


async def check_an_eager_worker_is_told_of_all_that_comes(harness: StoreHarness) -> None:
    """As it may handle it beside what it has in hand; others find it with their next commit."""
    async with open_client(harness) as sender, open_pod(harness) as pod:
        for entity, eager in ((B, False), (A, True)):
            await sender.send(entity, b"1")
            expect(Claimed, await pod.store.claim(pod.member, entity, eager=eager))
            await pod.wait_hint(Wake(entity))
        pod.hints.clear()
        await sender.send(B, b"2")
        await sender.send(A, b"2")
        await pod.wait_hint(Wake(A))
        assert Wake(B) not in pod.hints


async def check_a_send_may_wish_for_an_eager_claim(harness: StoreHarness) -> None:
    answers: list[SendClaimAnswer] = []
    async with open_pod(harness) as pod:
        await pod.store.send(
            Group([Outgoing(A, b"1")]),
            member=pod.member,
            wishes=[ClaimWish(A, "", 10, eager=True)],
            on_claim=lambda _, answer: answers.append(answer),
        )
        expect(Claimed, answers[0])
        await pod.send(A, b"2")
        await pod.wait_hint(Wake(A))
