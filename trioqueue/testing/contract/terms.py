"""Checks of what a sender may ask: that a command waits, is the only one of its key, finds room, is taken back."""

from typing import Any

from trioqueue._errors import MailboxFull
from trioqueue._names import Entity
from trioqueue.protocol.lifecycle import Mode
from trioqueue.stores.contract import (
    CHUNK,
    Claimed,
    ClaimWish,
    Group,
    LeaseLost,
    Next,
    NotClaimed,
    Outgoing,
    Parked,
    Reply,
    Terms,
    Withdrawn,
)
from trioqueue.stores.reports import CancelAsked, Due, Wake
from trioqueue.testing._harness import StoreHarness
from trioqueue.testing.contract.fleet import (
    OTHER,
    A,
    B,
    C,
    Client,
    Pod,
    expect,
    live,
    open_client,
    open_pod,
    see,
    silence,
    texts,
)

SECOND = 1_000_000
WINDOW = 60_000
"""Milliseconds that a key of these checks lives."""


def later(entity: Entity, name: str, seconds: float) -> Outgoing:
    """Makes a command that is put off, whose id and envelope are its name."""
    return Outgoing(entity, name.encode(), Terms(name, delay_us=round(seconds * SECOND)))


def keyed(entity: Entity, name: str, key: str, seconds: float = 0.0) -> Outgoing:
    """Makes a command with an idempotency key."""
    return Outgoing(entity, name.encode(), Terms(name, round(seconds * SECOND), key, WINDOW))


async def put_off(client: Client, *commands: Outgoing) -> None:
    assert await client.store.send(Group(commands)) is False


# ------------------------------------------------------------------------------------ delay
async def check_a_command_that_is_put_off_is_in_no_mailbox(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness) as pod:
        await put_off(sender, later(A, "1", 5))
        assert (await see(harness, A)).mode is Mode.IDLE
        assert (await sender.store.statistics()).with_work == 0
        assert 4 < (await pod.store.move(pod.member) or 0) <= 5
        await harness.advance(4)
        assert 0 < (await pod.store.move(pod.member) or 0) <= 1
        assert (await see(harness, A)).mode is Mode.IDLE
        await harness.advance(1.1)
        assert await pod.store.move(pod.member) is None
        found = await see(harness, A)
        assert (found.mode, found.owner, found.queued) == (Mode.PARKED, pod.name, (b"1",))
        await pod.wait_hint(Wake(A))
        assert await pod.store.move(pod.member) is None, "it was moved once"
        assert texts(await pod.begin(A)) == [b"1"]


async def check_what_is_due_comes_in_the_order_of_its_times(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness) as pod:
        await put_off(sender, later(A, "third", 3), later(A, "first", 1), later(A, "second", 2))
        await put_off(sender, *(later(B, f"{n}", 1) for n in range(12)))
        await sender.send(A, b"at once")
        await harness.advance(10)
        await pod.store.move(pod.member)
        assert (await see(harness, A)).queued == (b"at once", b"first", b"second", b"third")
        assert (await see(harness, B)).queued == tuple(b"%d" % n for n in range(12)), "as they were sent"


async def check_more_is_moved_than_one_call_takes(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness) as pod:
        count = 2 * CHUNK + 1
        await put_off(sender, *(later(A, f"{n}", 1) for n in range(count)))
        await put_off(sender, later(B, "later", 50))
        await harness.advance(2)
        assert 40 < (await pod.store.move(pod.member) or 0) < 50
        assert (await see(harness, A)).queued == tuple(b"%d" % n for n in range(count))


async def check_what_is_due_finds_its_entity_as_it_is(harness: StoreHarness) -> None:
    """Active, parked, in backoff, ready, or idle without a pod of its type."""
    async with open_client(harness) as sender, open_pod(harness) as pod:
        await sender.send(A, b"1")
        active = await pod.begin(A)
        await sender.send(B, b"1")
        failed = await pod.begin(B)
        await pod.commit(B, failed, pops=0, retry_ms=30_000)
        await sender.send(C, b"1")
        await pod.handle(C)
        await sender.send(OTHER, b"1")
        stranger = Entity("other", "y")
        await put_off(sender, *(later(entity, str(entity), 1) for entity in (A, B, C, OTHER, stranger)))
        pod.hints.clear()
        await harness.advance(2)
        assert await pod.store.move(pod.member) is None
        modes = [(await see(harness, one)).mode for one in (A, B, C, OTHER, stranger)]
        assert modes == [Mode.ACTIVE, Mode.PARKED, Mode.PARKED, Mode.READY, Mode.READY]
        assert [len((await see(harness, one)).queued) for one in (A, B, C, OTHER, stranger)] == [
            2,
            2,
            1,
            2,
            1,
        ]
        assert texts(expect(Next, await pod.commit(A, active, want=10))) == [b"account/a"]
        await pod.wait_hint(Wake(C))
        assert (await see(harness, B)).due_us is not None, "the head waits on"


async def check_a_delay_outlives_pods_and_server(harness: StoreHarness) -> None:
    async with open_client(harness) as sender:
        async with open_pod(harness) as pod:
            await put_off(sender, later(A, "1", 5))
            await pod.leave()
        await harness.advance(6)
        async with open_pod(harness) as heir:
            assert (await heir.found()).due_in == 0.0
            await heir.store.move(heir.member)
            assert (await see(harness, A)).owner == heir.name


async def check_the_oldest_pod_keeps_the_clock(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness) as oldest, open_pod(harness) as other:
        for pod in (other, oldest, other):
            assert (await pod.found()).due_in is None
        await put_off(sender, later(A, "1", 9))
        await oldest.wait_hint(Due())
        await put_off(sender, later(B, "2", 8.5))
        assert 7 < ((await oldest.found()).due_in or 0) <= 8.5
        assert (await other.found()).due_in is None
        assert Due() not in other.hints
        await harness.advance(9.2)
        assert (await other.found()).due_in is None, "not yet: the other one is about to come for it"
        await harness.advance(2)
        assert (await other.found()).due_in == 0.0, "overdue: anybody's"
        await silence(harness, other)
        assert (await other.found()).due_in == 0.0, "the oldest one that is not silent"


async def check_only_a_member_moves(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness) as pod, open_pod(harness) as heir:
        await put_off(sender, later(A, "1", 1))
        await harness.advance(2)
        await pod.leave()
        await _is_refused(pod)
        assert (await see(harness, A)).mode is Mode.IDLE
        assert await heir.store.move(heir.member) is None


async def _is_refused(pod: Pod) -> None:
    try:
        await pod.store.move(pod.member)
    except LeaseLost:
        return
    raise AssertionError("who has left moved something")


async def check_a_child_may_be_put_off(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness) as pod:
        await sender.send(A, b"1")
        claimed = await pod.begin(A)
        children = [later(A, "own", 1), Outgoing(B, b"at once"), later(B, "later", 2)]
        for _ in range(2):  # a repetition bears none twice
            expect(Parked, await pod.commit(A, claimed, children=children))
        assert (await see(harness, B)).queued == (b"at once",)
        await harness.advance(3)
        assert await pod.store.move(pod.member) is None
        assert (await see(harness, A)).queued == (b"own",)
        assert (await see(harness, B)).queued == (b"at once", b"later")


async def check_a_child_that_is_not_put_off_comes_at_once(harness: StoreHarness) -> None:
    """Whatever else its terms say; and its order among the others is kept."""
    async with open_client(harness) as sender, open_pod(harness) as pod:
        await sender.send(A, b"1")
        claimed = await pod.begin(A)
        children = [Outgoing(B, b"1"), Outgoing(B, b"2", Terms("2")), Outgoing(B, b"3")]
        expect(Parked, await pod.commit(A, claimed, children=children))
        assert (await see(harness, B)).queued == (b"1", b"2", b"3")
        assert await pod.store.move(pod.member) is None


async def check_what_is_due_goes_to_the_least_loaded(harness: StoreHarness) -> None:
    """Else the pod that keeps the clock would own whatever was put off in the whole fleet."""
    async with open_client(harness) as sender, open_pod(harness) as clock, open_pod(harness) as other:
        await put_off(sender, *(later(Entity("account", f"{n}"), f"{n}", 1) for n in range(20)))
        await harness.advance(2)
        await clock.store.move(clock.member)
        owned = [len(await pod.store.owned(pod.member, 0)) for pod in (clock, other)]
        assert owned == [10, 10]


async def check_a_wish_is_not_granted_for_what_is_put_off(harness: StoreHarness) -> None:
    async with open_pod(harness) as pod:
        _, answer = await pod.send_wishing(A, again=Group([later(A, "1", 5)]))
        expect(NotClaimed, answer)


# ------------------------------------------------------------------------------------ key
async def check_the_first_command_of_a_key_is_the_only_one(harness: StoreHarness) -> None:
    async with open_client(harness) as one, open_client(harness) as other, open_pod(harness) as pod:
        await one.store.send(Group([keyed(A, "first", "k")]))
        again = Group([keyed(A, "second", "k")])
        await other.store.send(again)
        assert again.first_id == "first"
        assert (await see(harness, A)).queued == (b"first",)
        await pod.handle(A)
        again = Group([keyed(A, "third", "k")])
        await one.store.send(again)
        assert again.first_id == "first", "also when it is done"
        for entity, key in ((A, "l"), (B, "k"), (Entity("other", "a"), "k")):
            fresh = Group([keyed(entity, "fresh", key)])
            await one.store.send(fresh)
            assert fresh.first_id in ("", "fresh")
        assert (await see(harness, A)).queued == (b"fresh",)


async def check_a_key_ends(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness):
        await sender.store.send(Group([keyed(A, "first", "k")]))
        await harness.advance(WINDOW / 1000 + 1)
        fresh = Group([keyed(A, "second", "k")])
        await sender.store.send(fresh)
        assert fresh.first_id in ("", "second")
        assert (await see(harness, A)).queued == (b"first", b"second")


async def check_a_repeated_send_with_a_key_is_known_by_its_own_id(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness):
        group = Group([keyed(A, "first", "k")])
        await sender.store.send(group)
        assert await sender.store.send(group) is True
        assert group.first_id in ("", "first")
        assert (await see(harness, A)).queued == (b"first",)


async def check_a_key_holds_for_what_is_put_off(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness) as pod:
        await put_off(sender, keyed(A, "first", "k", 5))
        again = Group([keyed(A, "second", "k")])
        await sender.store.send(again)
        assert again.first_id == "first"
        await harness.advance(6)
        await pod.store.move(pod.member)
        assert (await see(harness, A)).queued == (b"first",)


async def check_a_known_key_claims_nothing_that_is_active(harness: StoreHarness) -> None:
    """A worker has it: a second claim would fence that one."""
    async with open_pod(harness) as pod:
        _, answer = await pod.send_wishing(A, again=Group([keyed(A, "first", "k")]))
        claimed = expect(Claimed, answer)
        _, answer = await pod.send_wishing(A, again=Group([keyed(A, "second", "k")]))
        expect(NotClaimed, answer)
        expect(Parked, await pod.commit(A, claimed))


# ------------------------------------------------------------------------------------ room
async def _is_full(client: Client, group: Group, name: str) -> None:
    refused: MailboxFull | None = None
    try:
        await client.store.send(group)
    except MailboxFull as error:
        refused = error
    assert refused is not None
    assert (refused.entity, refused.limit) == (name, group.limits["account"])


async def check_a_full_mailbox_takes_nothing_of_a_group(harness: StoreHarness) -> None:
    limits = {"account": 2}

    def group(*commands: Any) -> Group:
        return Group([Outgoing(entity, data) for entity, data in commands], limits=limits)

    async with open_client(harness) as sender, open_pod(harness) as pod:
        await sender.store.send(group((A, b"1"), (A, b"2"), (OTHER, b"1")))
        await _is_full(sender, group((B, b"1"), (A, b"3")), "account/a")
        await _is_full(sender, group((C, b"1"), (C, b"2"), (C, b"3")), "account/c")
        assert (await see(harness, B)).mode is (await see(harness, C)).mode is Mode.IDLE
        await sender.send(A, b"3")
        assert (await see(harness, A)).queued == (b"1", b"2", b"3"), "a sender without limits"
        claimed = await pod.begin(A)
        await pod.commit(A, claimed, pops=2, children=[Outgoing(A, b"child")], want=10)
        await _is_full(sender, group((A, b"4")), "account/a")
        await pod.commit(A, claimed, done=2)
        await sender.store.send(group((A, b"4")))
        assert (await see(harness, A)).queued == (b"child", b"4")


async def check_a_repeated_send_is_not_refused_for_the_room_it_takes(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness):
        group = Group([Outgoing(A, b"1")], limits={"account": 1})
        assert await sender.store.send(group) is False
        assert await sender.store.send(group) is True
        known = Group([keyed(B, "first", "k")], limits={"account": 1})
        await sender.store.send(known)
        again = Group([keyed(B, "second", "k")], limits={"account": 1})
        await sender.store.send(again)
        assert again.first_id == "first"


async def check_the_first_mailbox_that_overflows_is_named(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness):
        group = [Outgoing(entity, b"1") for entity in (B, A, A, A, B, B)]
        await _is_full(sender, Group(group, limits={"account": 2}), "account/a")


async def check_a_refused_group_claims_nothing(harness: StoreHarness) -> None:
    """Its answer may be lost, and the next copy could not tell that a worker has to begin."""
    async with open_pod(harness) as pod:
        await pod.send(A, b"1")
        before = await see(harness, A)
        answers: list[Any] = []
        refused = False
        try:
            await pod.store.send(
                Group([Outgoing(A, b"2")], limits={"account": 1}),
                member=pod.member,
                wishes=[ClaimWish(A, "", 10)],
                on_claim=lambda _, answer: answers.append(answer),
            )
        except MailboxFull:
            refused = True
        assert refused
        expect(NotClaimed, answers[0])
        assert await see(harness, A) == before


async def check_a_refused_wish_is_answered(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness) as pod:
        await sender.send(A, b"1", b"2")
        answers: list[Any] = []
        group = Group([Outgoing(A, b"3")], limits={"account": 1})
        try:
            await pod.store.send(
                group,
                member=pod.member,
                wishes=[ClaimWish(A, "", 10)],
                on_claim=lambda _, answer: answers.append(answer),
            )
        except MailboxFull:
            assert len(answers) == 1
            return
        raise AssertionError("it was taken")


# ------------------------------------------------------------------------------------ finding and withdrawing
async def check_a_command_is_found_wherever_it_waits(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness) as pod:
        await sender.send(A, *(b'{"i":"%d"}' % n for n in range(1500)))
        await put_off(sender, later(A, "later", 5))
        for name in ("0", "1499"):
            assert await sender.store.is_queued(A, name, b'{"i":"%s"' % name.encode())
        assert await sender.store.is_queued(A, "later", b"later")
        for entity, name in ((A, "1500"), (A, ""), (B, "1")):
            assert not await sender.store.is_queued(entity, name, b'{"i":"%s"' % name.encode())
        await pod.handle(A)
        assert not await sender.store.is_queued(A, "0", b'{"i":"0"')


async def check_a_command_that_is_put_off_is_withdrawn_for_good(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness) as pod:
        await put_off(sender, later(A, "gone", 1), later(A, "kept", 1))
        assert await sender.store.withdraw(A, "gone", b"gone", b"cancelled", 90_000) == "dropped"
        assert await sender.store.withdraw(A, "gone", b"gone", b"cancelled", 1000) == "dropped", (
            "a repetition"
        )
        assert await sender.store.result("gone") == b"cancelled"
        await harness.advance(2)
        assert await pod.store.move(pod.member) is None
        assert (await see(harness, A)).queued == (b"kept",)
        await harness.advance(80)
        assert await sender.store.result("gone") == b"cancelled", "for as long as was asked"


async def check_a_turn_withdraws_with_its_commit(harness: StoreHarness) -> None:
    """What is put off, what is queued, its own, one that it has just borne; and what is not there does no harm."""
    async with open_client(harness) as sender, open_pod(harness) as pod:
        await put_off(sender, later(C, "later", 50))
        await sender.send(A, b"1", b"2")
        await sender.send(B, b"3", b"4")
        claimed = await pod.begin(A)
        withdrawn = [
            Withdrawn(entity, name, b"cancelled", 90_000)
            for entity, name in ((C, "later"), (B, "4"), (A, "2"), (C, "born"), (OTHER, "never"))
        ]
        for _ in range(2):
            answer = await pod.commit(A, claimed, children=[later(C, "born", 50)], withdrawn=withdrawn)
            assert expect(Next, answer).cancels == ("2",)
        assert await pod.store.cancelled(B) == ("4",)
        assert await sender.store.result("later") == await sender.store.result("born") == b"cancelled"
        assert (await sender.store.statistics()).put_off == 0
        await pod.wait_hint(CancelAsked(B, "4"))


async def check_a_turn_withdraws_nothing_that_it_settles(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness) as pod:
        await sender.send(A, b"1", b"2")
        claimed = await pod.begin(A)
        itself = [Withdrawn(A, "1", b"cancelled", 90_000)]
        done = expect(
            Next, await pod.commit(A, claimed, replies=[Reply("1", "", b"done", 90_000)], withdrawn=itself)
        )
        assert done.cancels == ()
        assert (await sender.store.cancelled(A), await sender.store.result("1")) == ((), b"done")


async def check_withdrawing_tells_what_becomes_of_a_command(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness) as pod:
        await sender.send(A, b"1", b"2", b"3")
        assert await sender.store.withdraw(A, "3", b"3", b"x", 1000) == "dropped"
        claimed = await pod.begin(A)
        assert claimed.cancels == ("3",)
        assert await sender.store.withdraw(A, "1", b"1", b"x", 1000) == "told"
        assert await sender.store.withdraw(A, "2", b"2", b"x", 1000) == "dropped"
        assert sorted(await pod.store.cancelled(A)) == ["1", "2", "3"]
        assert await sender.store.withdraw(A, "4", b"4", b"x", 1000) == "late"
        await pod.commit(A, claimed, pops=3, settled_cancels=["1", "2", "3"])
        assert await sender.store.withdraw(A, "1", b"1", b"x", 1000) == "late"
        await live(harness, 1, pod)
