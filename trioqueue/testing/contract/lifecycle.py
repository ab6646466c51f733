"""The lifecycle table replayed: every event in every mode leads where the table says, or can't happen there."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import attrs

from trioqueue.protocol.lifecycle import TABLE, Event, Mode
from trioqueue.stores.contract import (
    Backoff,
    Claimed,
    Commit,
    CommitAnswer,
    Empty,
    Fenced,
    Later,
    Next,
    NotYours,
    Outgoing,
    Parked,
    Paused,
    Purged,
    Reply,
)
from trioqueue.testing._harness import StoreHarness
from trioqueue.testing._world import audit
from trioqueue.testing.contract.fleet import A, B, Pod, die_again_with, expect, group, open_pod, see, silence


@attrs.define(eq=False)
class Stage:
    """Two pods and entity A in some mode; if it is owned, by `pod`, and `claimed` was its last claim.

    `other` has room only where an event needs it to: what is given up strands elsewhere.
    """

    harness: StoreHarness
    pod: Pod
    other: Pod
    claimed: Claimed | None = None

    async def commit(self, **what: Any) -> CommitAnswer:
        """Commits under the last claim."""
        assert self.claimed is not None
        return await self.pod.commit(A, self.claimed, **what)

    async def release(self, why: str) -> bool:
        """Lets go under the last claim, or without one."""
        return await self.pod.store.release(
            self.pod.member, A, self.claimed.epoch if self.claimed else None, why
        )


@asynccontextmanager
async def _open_stage(harness: StoreHarness, mode: Mode) -> AsyncGenerator[Stage, None]:
    async with AsyncExitStack() as pods:
        pod = await pods.enter_async_context(open_pod(harness, room=0 if mode is Mode.READY else 2))
        other = await pods.enter_async_context(open_pod(harness, "other"))
        stage = Stage(harness, pod, other)
        if mode is not Mode.IDLE:
            await pod.send(A, b"1")
        if mode is Mode.PAUSED:
            await pod.store.pause(A, "maintenance")
        if mode is Mode.ACTIVE:
            stage.claimed = await pod.begin(A)
        assert (await see(harness, A)).mode is mode
        yield stage


Act = Callable[[Stage], Awaitable[None]]


async def _queue(stage: Stage) -> None:
    await stage.other.send(A, b"more")


async def _queue_where_nobody_has_room(stage: Stage) -> None:
    await stage.pod.store.retire(stage.pod.member)
    await stage.other.send(A, b"1")


async def _keep(stage: Stage) -> None:
    assert await stage.other.store.keep(stage.other.member, [A], 9000) == 0


async def _assign_to_a_pod_with_room(stage: Stage) -> None:
    async with open_pod(stage.harness) as newcomer:
        await stage.pod.store.assign(stage.pod.member, [A])
        assert (await see(stage.harness, A)).owner == newcomer.name


async def _assign_in_vain(stage: Stage) -> None:
    await stage.pod.store.assign(stage.pod.member, [A])


async def _claim(stage: Stage) -> None:
    await stage.pod.begin(A)


async def _claim_without_work(stage: Stage) -> None:
    await stage.pod.handle(A)
    expect(Empty, await stage.pod.claim(A))


async def _claim_too_early(stage: Stage) -> None:
    await stage.pod.commit(A, await stage.pod.begin(A), pops=0, retry_ms=60_000)
    expect(Backoff, await stage.pod.claim(A))


async def _claim_while_another_suspect_is_in_hand(stage: Stage) -> None:
    """Two suspects; the pod commits something of the one in hand, takes the other, and claims the first."""
    async with open_pod(stage.harness, room=9) as first:
        await stage.pod.store.send(group(B, b"1"), member=stage.pod.member)
        await stage.pod.begin(B)
        await die_again_with(stage.harness, stage.pod, first, A, B)
        async with open_pod(stage.harness, room=9) as heir:
            await silence(stage.harness, heir)
            await heir.store.reap(heir.member, first.silent)
            await heir.commit(A, await heir.begin(A), pops=0, state=b"s")
            assert (await see(stage.harness, A)).mode is Mode.ACTIVE
            await heir.begin(B)
            expect(Later, await heir.claim(A))


async def _commit_the_first_of_two(stage: Stage) -> None:
    await stage.other.send(A, b"2")
    expect(Next, await stage.commit())


async def _commit_the_last(stage: Stage) -> None:
    expect(Parked, await stage.commit())


async def _commit_a_failure(stage: Stage) -> None:
    expect(Backoff, await stage.commit(pops=0, retry_ms=60_000))


async def _let_go_without_work(stage: Stage) -> None:
    stage.claimed = await stage.pod.begin(A)
    await stage.commit()
    assert await stage.release("idle")


async def _hand_over(stage: Stage) -> None:
    async with open_pod(stage.harness) as heir:
        assert await stage.release("handoff")
        assert (await see(stage.harness, A)).owner == heir.name


async def _strand(stage: Stage) -> None:
    assert await stage.release("handoff")


async def _pause(stage: Stage) -> None:
    assert await stage.other.store.pause(A, "maintenance")


async def _pause_and_let_go(stage: Stage) -> None:
    await _pause(stage)
    expect(Paused, await stage.commit(pops=0, pause="it failed"))
    assert await stage.release("handoff")


async def _purge(stage: Stage) -> None:
    commands = await stage.other.store.queued(A, 0, 9)
    assert await stage.other.store.purge(A, commands, [Purged("") for _ in commands], b"")


async def _resume(stage: Stage) -> None:
    assert await stage.other.store.pause(A, "")


async def _resume_where_nobody_has_room(stage: Stage) -> None:
    await stage.pod.store.retire(stage.pod.member)
    await _resume(stage)


async def _resume_without_work(stage: Stage) -> None:
    await _purge(stage)
    await _resume(stage)


ACTS: dict[tuple[Mode, Event], Act] = {
    (Mode.IDLE, Event.PLACED): _queue,
    (Mode.IDLE, Event.UNPLACED): _queue_where_nobody_has_room,
    (Mode.IDLE, Event.KEPT): _keep,
    (Mode.IDLE, Event.PAUSED): _pause,
    (Mode.READY, Event.PAUSED): _pause,
    (Mode.READY, Event.DROPPED): _purge,
    (Mode.PARKED, Event.PAUSED): _pause,
    (Mode.ACTIVE, Event.PAUSED): _pause_and_let_go,
    (Mode.ACTIVE, Event.OVERRULED): _purge,
    (Mode.PAUSED, Event.QUEUED): _queue,
    (Mode.PAUSED, Event.PLACED): _resume,
    (Mode.PAUSED, Event.UNPLACED): _resume_where_nobody_has_room,
    (Mode.PAUSED, Event.LET_GO): _resume_without_work,
    (Mode.READY, Event.QUEUED): _queue,
    (Mode.READY, Event.UNPLACED): _assign_in_vain,
    (Mode.READY, Event.PLACED): _assign_to_a_pod_with_room,
    (Mode.PARKED, Event.QUEUED): _queue,
    (Mode.PARKED, Event.CLAIMED): _claim,
    (Mode.PARKED, Event.FOUND_EMPTY): _claim_without_work,
    (Mode.PARKED, Event.HELD_BACK): _claim_too_early,
    (Mode.PARKED, Event.LET_GO): _let_go_without_work,
    (Mode.PARKED, Event.HANDED_OVER): _hand_over,
    (Mode.PARKED, Event.STRANDED): _strand,
    (Mode.ACTIVE, Event.QUEUED): _queue,
    (Mode.ACTIVE, Event.CLAIMED): _claim,
    (Mode.ACTIVE, Event.CONTINUED): _commit_the_first_of_two,
    (Mode.ACTIVE, Event.EMPTIED): _commit_the_last,
    (Mode.ACTIVE, Event.BACKED_OFF): _commit_a_failure,
    (Mode.ACTIVE, Event.HELD_BACK): _claim_while_another_suspect_is_in_hand,
    (Mode.ACTIVE, Event.HANDED_OVER): _hand_over,
    (Mode.ACTIVE, Event.STRANDED): _strand,
}
"""How each event of the table is made to happen.  The last step of an act is the event; what it needs comes before."""


async def check_every_event_leads_where_the_table_says(harness: StoreHarness) -> None:
    events = {(mode, event) for mode, row in TABLE.items() for event in row}
    assert events == set(ACTS), "the table and the acts differ"
    for (mode, event), act in ACTS.items():
        await harness.clear()
        async with _open_stage(harness, mode) as stage:
            await act(stage)
            world = await harness.world()
            found = world.snapshot(A).mode
            assert found is TABLE[mode][event], f"{event} in {mode} led to {found}"
            audit(world)


async def check_requests_out_of_place_change_nothing(harness: StoreHarness) -> None:
    """What the table has no entry for: whoever asks for it is refused, and every mode stays as it was."""
    for mode in Mode:
        await harness.clear()
        async with _open_stage(harness, mode) as stage:
            pod, store, member = stage.pod, stage.pod.store, stage.pod.member
            before = await see(harness, A)
            what: dict[str, Any] = {
                "children": [Outgoing(B, b"1")], "replies": [Reply("c", "", b"v", 9000)], "state": b"s",
            }  # fmt: skip
            epochs = {0, before.epoch, before.epoch + 1} - ({before.epoch} if mode is Mode.ACTIVE else set())
            for epoch in epochs:
                for pops, retry_ms in ((1, None), (0, 10)):
                    commit = Commit(A, epoch, before.done, pops, retry_ms, **what)
                    assert await store.commit(member, commit) == Fenced(), f"{mode}, epoch {epoch}"
            if mode in (Mode.IDLE, Mode.READY, Mode.PAUSED):
                assert await pod.claim(A) == NotYours()
                for why in ("idle", "handoff", "decline"):
                    assert not await store.release(member, A, None, why)
                    assert not await store.release(member, A, before.epoch, why)
            else:
                await store.assign(member, [A])
                assert not await store.release(member, A, before.epoch, "idle")
            if mode is Mode.ACTIVE:
                assert not await store.release(member, A, None, "handoff")
            if mode is not Mode.IDLE:
                await store.keep(member, [A], 9000)
            else:
                await store.assign(member, [A])
                assert not await store.cancel(A, "id")
            world = await harness.world()
            assert world.snapshot(A) == before
            assert B not in world.entities
            assert await store.state(A) is None
            audit(world)


async def check_a_parked_entity_takes_no_commit(harness: StoreHarness) -> None:
    """Its last claim is still the newest, but that worker was told that nothing may be handled."""
    async with open_pod(harness) as pod:
        await pod.send(A, b"1", b"2")
        claimed = await pod.begin(A)
        await pod.commit(A, claimed, pops=0, retry_ms=60_000)
        before = await see(harness, A)
        assert await pod.commit(A, claimed, done=1) == Fenced()
        assert await see(harness, A) == before
        await harness.advance(61)
        claimed = await pod.begin(A)
        await pod.commit(A, claimed, pops=2)
        await pod.send(A, b"3")
        before = await see(harness, A)
        assert await pod.commit(A, claimed, done=before.done, children=[Outgoing(B, b"1")]) == Fenced()
        assert await see(harness, A) == before
        empty = expect(Empty, await _emptied(pod))
        assert (
            await pod.store.commit(pod.member, Commit(A, empty.epoch, before.done + 1, state=b"s"))
            == Fenced()
        )


async def _emptied(pod: Pod) -> object:
    await pod.handle(A)
    return await pod.claim(A)
