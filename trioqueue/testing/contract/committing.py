"""Checks of `Store.commit`: that a turn stands as a whole, once, and for the owner alone."""

from functools import partial
from typing import Any

import attrs
import trio

from trioqueue._errors import PayloadTooLarge, StateTooLarge
from trioqueue._names import Entity
from trioqueue.messages.policy import MAX_COMMAND_BYTES, MAX_STATE_BYTES
from trioqueue.protocol.lifecycle import Mode
from trioqueue.stores.contract import (
    Backoff,
    Claimed,
    Commit,
    CommitAnswer,
    DeadLetter,
    Fenced,
    Next,
    Outgoing,
    Parked,
    Reply,
)
from trioqueue.stores.reports import Answered, Wake
from trioqueue.testing._harness import StoreHarness
from trioqueue.testing.contract.fleet import OTHER, A, B, C, expect, group, open_client, open_pod, see, texts


async def check_commit_pops_and_brings_the_next_batch(harness: StoreHarness) -> None:
    async with open_pod(harness) as pod:
        await pod.send(A, b"1", b"2", b"3", b"4", b"5")
        claimed = await pod.begin(A, fetch=1)
        after = expect(Next, await pod.commit(A, claimed, want=2))
        assert texts(after) == [b"2", b"3"]
        assert after.now_us >= claimed.now_us
        after = expect(Next, await pod.commit(A, claimed, done=1, pops=2))
        assert after.batch == (), "nothing was wanted"
        found = await see(harness, A)
        assert (found.mode, found.done, found.queued) == (Mode.ACTIVE, 3, (b"4", b"5"))
        assert await pod.commit(A, claimed, done=3, pops=2, want=2) == Parked()
        found = await see(harness, A)
        assert (found.mode, found.owner, found.done, found.queued) == (Mode.PARKED, pod.name, 5, ())
        assert await pod.store.wakes(pod.member, 0) == ()


async def check_commit_sends_a_failed_head_into_a_backoff(harness: StoreHarness) -> None:
    async with open_pod(harness) as pod:
        await pod.send(A, b"1", b"2")
        answer = expect(Backoff, await pod.commit(A, await pod.begin(A), pops=1, retry_ms=700))
        assert 0 < answer.seconds <= 0.7
        found = await see(harness, A)
        assert (found.mode, found.attempts, found.done, found.queued) == (Mode.PARKED, 1, 2, (b"2",))
        assert await pod.store.wakes(pod.member, 0) == (A,)
        await harness.advance(1)
        claimed = await pod.begin(A)
        assert (claimed.attempts, claimed.done) == (1, 2)
        await pod.commit(A, claimed, pops=0, retry_ms=700, failed=False)
        await harness.advance(1)
        claimed = await pod.begin(A)
        assert (claimed.attempts, claimed.done) == (1, 3), "it was put off, and did not fail"
        for _ in range(2):  # a repetition is not told that nothing is queued
            assert await pod.commit(A, claimed, pops=0, retry_ms=0) == Backoff(0.0)
        claimed = await pod.begin(A)
        assert claimed.attempts == 2
        await pod.send(A, b"3")
        await pod.commit(A, claimed)
        assert (await see(harness, A)).attempts == 0, "the next head has not failed"


async def check_commit_writes_the_state(harness: StoreHarness) -> None:
    async with open_client(harness) as reader, open_pod(harness) as pod:
        assert await reader.store.state(A) is None
        await pod.send(A, b"1", b"2")
        claimed = await pod.begin(A)
        await pod.commit(A, claimed, state=b"one two")
        assert await reader.store.state(A) == b"one two"
        await pod.commit(A, claimed, done=1)
        assert await reader.store.state(A) == b"one two"
        await pod.store.release(pod.member, A, claimed.epoch, "idle")
        assert await reader.store.state(A) == b"one two", "it outlives the entity's stay in memory"


async def check_commit_sends_children(harness: StoreHarness) -> None:
    async with open_pod(harness) as pod, open_pod(harness) as other:
        await other.store.send(group(B, b"0"), member=other.member)
        await other.handle(B)
        await pod.store.send(group(A, b"1"), member=pod.member)
        await other.wait_hint(Wake(B))
        other.hints.clear()
        children = [
            Outgoing(C, b"c1"), Outgoing(A, b"a1"), Outgoing(B, b"b1"), Outgoing(OTHER, b"o1"),
            Outgoing(C, b"c2"), Outgoing(A, b"a2"),
        ]  # fmt: skip
        after = expect(Next, await pod.commit(A, await pod.begin(A), children=children, want=9))
        assert texts(after) == [b"a1", b"a2"], "one to itself keeps it awake"
        assert all(queued.accepted_us <= after.now_us for queued in after.batch)
        idle, parked, nobodys = [await see(harness, entity) for entity in (C, B, OTHER)]
        assert (idle.mode, idle.owner, idle.queued) == (Mode.PARKED, pod.name, (b"c1", b"c2"))
        assert (parked.mode, parked.owner, parked.queued) == (Mode.PARKED, other.name, (b"b1",))
        assert (nobodys.mode, nobodys.queued) == (Mode.READY, (b"o1",))
        await other.wait_hint(Wake(B))
        await pod.wait_hint(Wake(C))


async def check_commit_answers_callers(harness: StoreHarness) -> None:
    async with open_client(harness) as caller, open_pod(harness) as pod:
        await pod.send(A, b"1", b"2", b"3")
        large = b"x" * 5000
        replies = [
            Reply("small", caller.store.client, b"yes", 30_000),
            Reply("large", caller.store.client, large, 60_000),
            Reply("here", "", b"in the committing process", 60_000),
            Reply("not kept", "", b"v", 0),
        ]
        assert await caller.store.result("small") is None
        await pod.commit(A, await pod.begin(A), pops=3, replies=replies)
        await caller.wait_hint(Answered("small", b"yes"))
        await caller.wait_hint(Answered("large", None))
        assert len(caller.hints) == 2
        assert await caller.store.result("small") == b"yes"
        assert await caller.store.result("not kept") is None
        assert await caller.store.result("large") == large
        assert await caller.store.result("here") == b"in the committing process"
        await harness.advance(40)
        assert await caller.store.result("small") is None, "it is kept for its time and no longer"
        assert await caller.store.result("large") == large


async def check_commit_buries_what_is_given_up(harness: StoreHarness) -> None:
    async with open_pod(harness) as pod:
        await pod.send(A, b"1", b"2")
        letters = [DeadLetter("id-2", b"record"), DeadLetter("id-1", b"record")]
        assert await pod.commit(A, await pod.begin(A), pops=2, dead=letters) == Parked()
        assert (await pod.store.statistics()).dead == 2
        found = await pod.store.letters(A.type, 0, 10)
        assert [letter.command_id for letter in found] == ["id-2", "id-1"], "in the order in which they died"


async def check_a_repeated_commit_stands_once(harness: StoreHarness) -> None:
    """Its answer was lost: the same one comes again, by what the entity is now."""
    async with open_pod(harness) as pod:
        await pod.send(A, b"1", b"2", b"3")
        claimed = await pod.begin(A)
        one = Commit(
            A, claimed.epoch, 0, 1,
            state=b"s", children=[Outgoing(B, b"1")], dead=[DeadLetter("id", b"r")],
            replies=[Reply("c", "", b"v", 9000)], want=5,
        )  # fmt: skip
        for _ in range(3):
            assert texts(expect(Next, await pod.store.commit(pod.member, one))) == [b"2", b"3"]
        assert (await see(harness, B)).queued == (b"1",)
        assert (await pod.store.statistics()).dead == 1
        two = Commit(A, claimed.epoch, 1, 1, retry_ms=60_000)
        for _ in range(3):
            assert isinstance(await pod.store.commit(pod.member, two), Backoff)
        assert isinstance(await pod.store.commit(pod.member, one), Backoff), "later than another"
        found = await see(harness, A)
        assert (found.attempts, found.done, found.queued) == (1, 3, (b"3",))
        await harness.advance(61)
        claimed = await pod.begin(A)
        last = Commit(A, claimed.epoch, 3, 1)
        for _ in range(2):
            assert await pod.store.commit(pod.member, last) == Parked()
        await pod.send(A, b"4")
        assert await pod.store.commit(pod.member, last) == Parked(), "not active: it has to be claimed"
        assert (await see(harness, A)).queued == (b"4",)


async def check_commits_of_one_moment_stand_one_after_the_other(harness: StoreHarness) -> None:
    async with open_pod(harness) as pod:
        answers: dict[Entity, CommitAnswer] = {}
        await pod.send(A, b"1")
        await pod.send(B, b"1")
        claims = {entity: await pod.begin(entity) for entity in (A, B)}

        async def commit(entity: Entity, other: Entity) -> None:
            answers[entity] = await pod.commit(
                entity, claims[entity], children=[Outgoing(other, b"2")], want=5
            )

        async with trio.open_nursery() as nursery:
            nursery.start_soon(commit, A, B)
            nursery.start_soon(commit, B, A)
        assert sorted(type(answer).__name__ for answer in answers.values()) == ["Next", "Parked"]
        assert (await see(harness, A)).queued == (await see(harness, B)).queued == (b"2",)


async def check_commit_is_fenced_for_all_but_the_newest_claim(harness: StoreHarness) -> None:
    async with open_pod(harness) as pod, open_pod(harness) as other:
        await pod.store.send(group(A, b"1", b"2"), member=pod.member)
        old = await pod.begin(A)
        claimed = await pod.begin(A)
        before = await see(harness, A)
        what: dict[str, Any] = {
            "children": [Outgoing(B, b"1")], "state": b"s", "replies": [Reply("c", "", b"v", 9000)],
        }  # fmt: skip
        assert await pod.commit(A, old, **what) == Fenced(), "an older claim"
        assert await other.commit(A, claimed, **what) == Fenced(), "another pod"
        assert await pod.commit(A, claimed, done=1, **what) == Fenced(), "settled more than was ever settled"
        assert await pod.commit(C, claimed, **what) == Fenced(), "nobody's entity"
        assert await see(harness, A) == before
        await pod.store.release(pod.member, A, claimed.epoch, "handoff")
        before = await see(harness, A)
        assert before.owner == other.name
        assert await pod.commit(A, claimed, **what) == Fenced(), "let go of"
        assert await see(harness, A) == before
        assert (await see(harness, B)).mode is Mode.IDLE
        assert await pod.store.state(A) is None
        assert await pod.store.result("c") is None


async def check_fenced_commits_harm_no_others_of_their_moment(harness: StoreHarness) -> None:
    async with open_pod(harness) as pod:
        await pod.send(A, b"1")
        await pod.send(B, b"1")
        old, ours = await pod.begin(A), await pod.begin(B)
        await pod.begin(A)
        what: dict[str, Any] = {
            "children": [Outgoing(C, b"1")], "state": b"s", "replies": [Reply("c", "", b"v", 9000)],
            "dead": [DeadLetter("d", b"r")], "settled_cancels": ["x"],
        }  # fmt: skip
        answers: list[CommitAnswer] = []

        async def commit(entity: Entity, claimed: Claimed) -> None:
            answers.append(await pod.commit(entity, claimed, **what))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(commit, A, old)
            nursery.start_soon(commit, B, ours)
        assert {type(answer) for answer in answers} == {Fenced, Parked}
        assert (await see(harness, C)).queued == (b"1",)


async def check_commit_refuses_what_no_policy_allows(harness: StoreHarness) -> None:
    """For a worker that checked nothing: as if it had not asked, and the others of that moment are not harmed."""
    async with open_pod(harness) as pod:
        await pod.send(A, b"1")
        await pod.send(B, b"1")
        await pod.send(C, b"1")
        claims = {entity: await pod.begin(entity) for entity in (A, B, C)}
        before = [await see(harness, entity) for entity in (A, B)]
        wrong: list[tuple[Entity, type[Exception]]] = []

        async def commit(entity: Entity, **what: Any) -> None:
            try:
                await pod.commit(entity, claims[entity], **what)
            except (StateTooLarge, PayloadTooLarge) as error:
                wrong.append((entity, type(error)))

        reply, letter = Reply("c", "", b"v", 9000), DeadLetter("d", b"r")
        large = Outgoing(OTHER, b"x" * (MAX_COMMAND_BYTES + 1))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                partial(commit, A, state=b"x" * (MAX_STATE_BYTES + 1), replies=[reply], dead=[letter])
            )
            nursery.start_soon(partial(commit, B, state=b"s", children=[Outgoing(C, b"2"), large]))
            nursery.start_soon(partial(commit, C, state=b"x" * MAX_STATE_BYTES, children=[Outgoing(A, b"2")]))
        assert sorted(wrong, key=str) == [(A, StateTooLarge), (B, PayloadTooLarge)]
        assert [await see(harness, entity) for entity in (A, B)] == [
            attrs.evolve(before[0], queued=(b"1", b"2")),
            before[1],
        ]
        assert (await pod.store.state(A), await pod.store.state(B)) == (None, None)
        assert (await pod.store.result("c"), (await pod.store.statistics()).dead) == (None, 0)
        assert (await see(harness, OTHER)).mode is Mode.IDLE
        assert (await see(harness, C)).queued == ()
        assert await pod.store.state(C) == b"x" * MAX_STATE_BYTES
        await commit(A)
        assert (await see(harness, A)).queued == (b"2",), "the owner is heard as before"


async def check_too_large_a_commit_of_no_owner_is_fenced(harness: StoreHarness) -> None:
    async with open_pod(harness) as pod:
        await pod.send(A, b"1")
        old = await pod.begin(A)
        await pod.begin(A)
        assert await pod.commit(A, old, state=b"x" * (MAX_STATE_BYTES + 1)) == Fenced()
