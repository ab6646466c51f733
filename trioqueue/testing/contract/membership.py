"""Checks of joining and leaving, and of handing on what a silent pod had."""

from trioqueue._errors import Incompatible
from trioqueue._names import Entity
from trioqueue.messages.policy import Lease
from trioqueue.protocol.lifecycle import Mode
from trioqueue.stores.contract import Claimed, Group, Later, LeaseLost, Next, Outgoing
from trioqueue.stores.reports import Silent, StoreStatistics, Wake
from trioqueue.testing._harness import StoreHarness
from trioqueue.testing.contract.fleet import (
    LEASE,
    OTHER,
    SILENT_AFTER,
    A,
    B,
    C,
    Pod,
    die_again_with,
    expect,
    group,
    live,
    open_client,
    open_pod,
    see,
    silence,
    texts,
)


# -------------------------------------------------------------------------------- joining
async def check_each_join_is_a_new_incarnation(harness: StoreHarness) -> None:
    async with open_pod(harness) as pod:
        names = {pod.name}
        for _ in range(3):
            names.add((await pod.store.join(pod.info)).incarnation)
        assert len(names) == 4
        assert (await pod.store.statistics()).pods == 4
        assert set((await harness.world()).pods) == names


async def check_join_refuses_a_lease_that_does_not_fit(harness: StoreHarness) -> None:
    async with open_pod(harness) as pod:
        for misfit in (
            Lease(ttl=LEASE.ttl, heartbeat=LEASE.heartbeat / 2, grace=LEASE.grace),
            Lease(ttl=LEASE.ttl + 1, heartbeat=LEASE.heartbeat, grace=LEASE.grace),
        ):
            try:
                async with open_pod(harness, lease=misfit):
                    raise AssertionError(f"{misfit} was taken")
            except Incompatible:
                pass
        async with open_pod(
            harness, lease=Lease(ttl=LEASE.ttl - 1, heartbeat=LEASE.heartbeat, grace=LEASE.grace)
        ):
            assert (await pod.store.statistics()).pods == 2


async def check_a_retired_pod_keeps_what_it_has_and_gets_no_more(harness: StoreHarness) -> None:
    async with open_pod(harness) as pod:
        await pod.send(A, b"1")
        claimed = await pod.begin(A)
        for _ in range(2):
            await pod.store.retire(pod.member)
        await pod.store.send(group(B, b"1"), member=pod.member)
        assert (await see(harness, B)).mode is Mode.READY
        await pod.store.assign(pod.member, [B])
        assert (await see(harness, B)).mode is Mode.READY
        await pod.commit(A, claimed, children=[Outgoing(C, b"1")])
        assert (await see(harness, C)).mode is Mode.READY
        assert (await see(harness, A)).owner == pod.name


# -------------------------------------------------------------------------------- the end of a pod
async def check_a_silent_pod_is_reaped(harness: StoreHarness) -> None:
    async with open_pod(harness) as dead, open_pod(harness) as pod:
        for entity in (A, B, C):
            await dead.store.send(group(entity, b"1"), member=dead.member)
        await dead.begin(A)
        await dead.handle(B)
        await live(harness, SILENT_AFTER - 5, pod)
        assert (await pod.found()).silent == ()
        assert await pod.store.reap(pod.member, dead.silent) is False, "not yet"
        assert (await see(harness, A)).owner == dead.name
        await live(harness, 10, pod)
        (silent,) = (await pod.found()).silent
        assert silent.incarnation == dead.name
        assert set(silent.types) == dead.info.types
        for _ in range(2):
            assert await pod.store.reap(pod.member, silent) is True
        assert (await pod.store.statistics()).pods == 1
        assert (await see(harness, A)).owner == (await see(harness, C)).owner == pod.name
        assert (await see(harness, B)).mode is Mode.IDLE
        await pod.wait_hint(Wake(A))
        assert (await pod.begin(A)).crashes == 1, "it was being handled"
        assert (await pod.begin(C)).crashes == 0, "it was not"
        assert (await pod.found()).silent == ()


async def check_reap_hands_on_any_number(harness: StoreHarness) -> None:
    async with open_pod(harness) as dead, open_pod(harness, room=200) as pod:
        entities = [Entity("account", str(n)) for n in range(251)]
        await dead.store.send(Group([Outgoing(entity, b"1") for entity in entities]), member=dead.member)
        await silence(harness, pod)
        assert await pod.store.reap(pod.member, dead.silent) is True
        statistics = await pod.store.statistics()
        assert (statistics.pods, statistics.owned, statistics.ready) == (1, 200, 51)


async def check_a_reaped_pod_is_refused_in_everything(harness: StoreHarness) -> None:
    async with open_pod(harness) as dead, open_pod(harness) as pod:
        await dead.store.send(group(A, b"1"), member=dead.member)
        claimed = await dead.begin(A)
        await silence(harness, pod)
        await pod.store.reap(pod.member, dead.silent)
        before = await see(harness, A)
        store, member = dead.store, dead.member
        for request in (
            lambda: dead.claim(A),
            lambda: dead.commit(A, claimed),
            lambda: store.release(member, A, claimed.epoch, "handoff"),
            lambda: store.retire(member),
            lambda: store.assign(member, [A]),
            lambda: store.reap(member, pod.silent),
        ):
            try:
                answer: object = await request()
            except LeaseLost:
                continue
            raise AssertionError(f"a reaped pod got an answer: {answer}")
        assert await dead.report() is None, "its lease can't be kept"
        assert await dead.leave() is True, "it has left already"
        assert await see(harness, A) == before
        assert await store.owned(member, 0) == await store.wakes(member, 0) == ()
        _, answer = await dead.send_wishing(A, b"2")
        assert not isinstance(answer, Claimed)
        assert (await see(harness, A)).queued == (b"1", b"2"), "its sends are taken as anybody's"


async def check_a_crash_counts_for_the_suspect_alone(harness: StoreHarness) -> None:
    """A command that kills its pods must not take its neighbours into the dead letters."""
    async with open_pod(harness) as first, open_pod(harness) as second:
        for entity in (A, B):
            await first.store.send(group(entity, b"1", b"2"), member=first.member)
            await first.begin(entity)
        await silence(harness, second)
        await second.store.reap(second.member, first.silent)
        for entity in (A, B):
            claimed = await second.begin(entity)
            assert (claimed.crashes, claimed.proven) == (1, False), "it may be anybody's fault"
            assert texts(claimed) == [b"1", b"2"], "and nobody waits for another"
        async with open_pod(harness) as third:
            await silence(harness, third)
            await third.store.reap(third.member, second.silent)
            suspect = await third.begin(A)
            assert (suspect.crashes, suspect.proven) == (2, False)
            assert texts(suspect) == [b"1"], "a suspect is handed out alone"
            assert await third.claim(B) == Later(), "one suspect a pod"
            found = await see(harness, B)
            assert (found.mode, found.owner, found.crashes) == (Mode.PARKED, third.name, 2)
            assert (await third.begin(A)).crashes == 2, "claimed again, it has not crashed again"
            async with open_pod(harness) as fourth:
                await third.store.send(group(C, b"1"), member=third.member)
                await third.begin(C)
                await silence(harness, fourth)
                await fourth.store.reap(fourth.member, third.silent)
                assert (await fourth.begin(C)).crashes == 0, "the suspect is to blame"
                suspect = await fourth.begin(A)
                assert (suspect.crashes, suspect.proven) == (3, True)
                assert await fourth.claim(B) == Later()
                await fourth.commit(A, suspect, done=suspect.done)
                claimed = await fourth.begin(B)
                assert (claimed.crashes, claimed.proven) == (2, False), "the suspect in hand has gone"
                await fourth.store.release(fourth.member, B, claimed.epoch, "handoff")
                claimed = await fourth.begin(A)
                assert (claimed.crashes, claimed.proven, texts(claimed)) == (0, False, [b"2"])


async def check_a_suspect_that_is_settled_lets_others_come(harness: StoreHarness) -> None:
    """Others of its entity come many at a time again, and another suspect of its pod; also once it was let go of."""
    async with open_pod(harness) as first, open_pod(harness) as second:
        for entity in (A, B):
            await first.store.send(group(entity, b"1", b"2", b"3"), member=first.member)
            await first.begin(entity)
        await die_again_with(harness, first, second, A, B)
        async with open_pod(harness) as pod:
            await silence(harness, pod)
            await pod.store.reap(pod.member, second.silent)
            suspect = await pod.begin(A)
            assert await pod.claim(B) == Later()
            assert await pod.store.release(pod.member, A, suspect.epoch, "handoff")
            suspect = await pod.begin(B)
            assert texts(suspect) == [b"1"]
            assert texts(expect(Next, await pod.commit(B, suspect, want=5))) == [b"2", b"3"]


async def check_a_suspect_that_waits_gives_way_to_the_next(harness: StoreHarness) -> None:
    async with open_pod(harness) as first, open_pod(harness) as second:
        for entity in (A, B):
            await first.store.send(group(entity, b"1"), member=first.member)
            await first.begin(entity)
        await die_again_with(harness, first, second, A, B)
        async with open_pod(harness) as pod:
            await silence(harness, pod)
            await pod.store.reap(pod.member, second.silent)
            await pod.commit(A, await pod.begin(A), pops=0, retry_ms=60_000)
            assert (await pod.begin(B)).crashes == 2
            await live(harness, 61, pod)
            assert await pod.claim(A) == Later()


async def check_a_pod_may_give_its_older_incarnation_up(harness: StoreHarness) -> None:
    async with open_pod(harness) as pod, open_pod(harness) as stranger:
        await pod.store.send(group(A, b"1"), member=pod.member)
        await pod.begin(A)
        old = pod.silent
        assert await stranger.store.reap(stranger.member, old, gave_up=True) is False, "not its own"
        again = await pod.store.join(pod.info)
        assert await pod.store.reap(again, old) is False, "it is not silent"
        for _ in range(2):
            assert await pod.store.reap(again, old, gave_up=True) is True
        found = await see(harness, A)
        assert found.owner in (stranger.name, again.incarnation)
        owner = stranger if found.owner == stranger.name else Pod(pod.store, pod.info, again)
        assert (await owner.begin(A)).crashes == 0, "it was let go of, and did not crash"
        assert old.incarnation not in (await harness.world()).pods


async def check_a_pod_may_leave(harness: StoreHarness) -> None:
    async with open_pod(harness) as pod, open_pod(harness) as other:
        await pod.store.send(group(A, b"1"), member=pod.member)
        await pod.begin(A)
        await pod.store.send(group(B, b"1"), member=pod.member)
        await pod.handle(B)
        for _ in range(2):
            assert await pod.leave() is True
        assert (await see(harness, A)).owner == other.name
        assert (await see(harness, B)).mode is Mode.IDLE
        assert (await other.begin(A)).crashes == 0
        assert await other.leave() is True
        assert (await see(harness, A)).mode is Mode.READY


async def check_reap_of_an_unknown_pod_is_done_already(harness: StoreHarness) -> None:
    async with open_pod(harness) as pod:
        assert await pod.store.reap(pod.member, Silent("never-there.1", ("account",))) is True


async def check_nobody_is_reaped_for_the_stores_own_standstill(harness: StoreHarness) -> None:
    async with open_pod(harness) as pod, open_pod(harness) as other:
        for gap in (SILENT_AFTER * 3, 86_400, -86_400):
            await live(harness, 2 * LEASE.heartbeat, pod, other)
            await harness.advance(gap)
            assert (await pod.found()).silent == (), f"after {gap} s"
            assert await pod.store.reap(pod.member, other.silent) is False
        await silence(harness, pod)
        assert [silent.incarnation for silent in (await pod.found()).silent] == [other.name], (
            "but it still reaps"
        )


async def check_slow_heartbeats_still_reap(harness: StoreHarness) -> None:
    """Each beat comes after what counts as a standstill: shifting by the whole of it would reap nobody, ever."""
    async with open_pod(harness) as pod, open_pod(harness) as dead:
        found: tuple[Silent, ...] = ()
        for _ in range(10):
            await harness.advance(2.1 * LEASE.heartbeat)
            found = (await pod.found()).silent
        assert [silent.incarnation for silent in found] == [dead.name]


async def check_joining_after_a_standstill_reaps_nobody(harness: StoreHarness) -> None:
    async with open_pod(harness) as pod:
        await harness.advance(10 * SILENT_AFTER)
        async with open_pod(harness) as late:
            assert await late.store.reap(late.member, pod.silent) is False
            assert (await late.found()).silent == ()


# -------------------------------------------------------------------------------- nothing stays
async def check_nothing_is_left_when_all_is_done(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness, "account", "other") as pod:
        async with open_pod(harness, "account") as dead:
            entities = [Entity("account", str(n)) for n in range(20)]
            await sender.store.send(Group([Outgoing(entity, b"1") for entity in [*entities, OTHER]]))
            for entity in entities:
                if (await see(harness, entity)).owner == dead.name:
                    await dead.begin(entity)
            await sender.store.cancel(entities[0], "id")
            await silence(harness, pod)
            await pod.store.reap(pod.member, dead.silent)
        for entity in [*entities, OTHER]:
            claimed = expect(Claimed, await pod.claim(entity))
            await pod.commit(entity, claimed, pops=1)
            await pod.store.release(pod.member, entity, claimed.epoch, "idle")
        await pod.leave()
        assert await sender.store.statistics() == StoreStatistics(
            pods=0, owned=0, with_work=0, ready=0, dead=0
        )


async def check_leaving_pods_leave_nothing_but_work(harness: StoreHarness) -> None:
    async with open_client(harness) as sender:
        for _ in range(3):
            async with open_pod(harness) as pod:
                await sender.send(A, b"1")
                await pod.store.assign(pod.member, [A])
                await pod.begin(A)
                await pod.leave()
        world = await harness.world()
        assert set(world.entities) == world.ready == {A}
        assert not world.pods
