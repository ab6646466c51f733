"""Checks of what an operator does: pausing, purging, dead letters, and looking."""

from typing import Literal

from trioqueue._names import Entity
from trioqueue.protocol.lifecycle import Mode
from trioqueue.stores.contract import (
    CHUNK,
    Claimed,
    Commit,
    DeadLetter,
    Empty,
    Fenced,
    Next,
    NotClaimed,
    NotYours,
    Outgoing,
    Parked,
    Paused,
    Purged,
    Reply,
)
from trioqueue.stores.reports import Answered, Changed, Queued, Wake
from trioqueue.testing._harness import StoreHarness
from trioqueue.testing.contract.fleet import (
    OTHER,
    A,
    B,
    C,
    Client,
    Pod,
    die_again_with,
    expect,
    group,
    open_client,
    open_pod,
    see,
    silence,
    texts,
)


# ------------------------------------------------------------------------------------ pausing an entity
async def check_a_paused_entity_is_owned_by_nobody(harness: StoreHarness) -> None:
    """Idle, parked with work and without, and ready: it takes commands, and no pod is told."""
    async with open_client(harness) as sender, open_pod(harness) as pod:
        await sender.send(B, b"1")
        await pod.handle(B)
        await sender.send(C, b"1")
        await sender.send(OTHER, b"1")
        for entity in (A, B, C, OTHER):
            assert await sender.store.pause(entity, "maintenance") is True
            assert await sender.store.pause(entity, "again") is False
        await pod.wait_hint(Changed(B))
        await pod.wait_hint(Changed(C))
        pod.hints.clear()
        for entity in (A, B, C, OTHER):
            await sender.send(entity, b"2")
            found = await see(harness, entity)
            assert (found.mode, found.owner) == (Mode.PAUSED, None)
            await pod.store.assign(pod.member, [entity])
            assert await pod.claim(entity) == NotYours()
        assert (await see(harness, C)).queued == (b"1", b"2")
        report = await pod.found()
        assert (report.owned, report.wakes, report.ready) == (0, (), ())
        statistics = await sender.store.statistics()
        assert (statistics.with_work, statistics.ready, statistics.owned) == (0, 0, 0)
        assert pod.hints == []


async def check_a_resumed_entity_goes_on(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness) as pod:
        assert await sender.store.pause(A, "") is False
        for entity in (A, B, OTHER):
            await sender.store.pause(entity, "maintenance")
        await sender.send(A, b"1")
        await sender.send(OTHER, b"1")
        for entity in (A, B, OTHER):
            assert await sender.store.pause(entity, "") is True
            assert await sender.store.pause(entity, "") is False
        await pod.wait_hint(Wake(A))
        assert texts(await pod.begin(A)) == [b"1"]
        assert (await see(harness, B)).mode is Mode.IDLE
        assert (await see(harness, OTHER)).mode is Mode.READY


async def check_an_entity_waits_for_a_pod_from_the_end_of_its_pause_on(harness: StoreHarness) -> None:
    async with open_client(harness) as sender:
        await sender.send(A, b"1")
        await harness.advance(5)
        await sender.store.pause(A, "maintenance")
        assert (await sender.store.inspect(A)).ready_since_us is None
        await sender.store.pause(A, "")
        found = await sender.store.inspect(A)
        assert found.now_us - (found.ready_since_us or 0) < 1_000_000


async def check_a_turn_in_hand_is_committed_before_the_pause(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness) as pod:
        await sender.send(A, b"1", b"2")
        claimed = await pod.begin(A)
        await sender.store.pause(A, "maintenance")
        assert (await see(harness, A)).mode is Mode.ACTIVE
        for _ in range(2):  # a repetition is answered alike
            assert await pod.commit(A, claimed, children=[Outgoing(B, b"child")]) == Paused()
        assert (await see(harness, B)).queued == (b"child",)
        assert await pod.claim(A) == Paused()
        assert await pod.store.release(pod.member, A, claimed.epoch, "handoff")
        found = await see(harness, A)
        assert (found.mode, found.queued) == (Mode.PAUSED, (b"2",))


async def check_a_pause_outlives_the_last_command(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness) as pod:
        await sender.send(A, b"1")
        claimed = await pod.begin(A)
        await sender.store.pause(A, "maintenance")
        assert await pod.commit(A, claimed) == Paused()
        assert await pod.store.release(pod.member, A, claimed.epoch, "handoff")
        await sender.send(A, b"2")
        assert (await see(harness, A)).mode is Mode.PAUSED


async def check_a_pause_that_ends_before_the_commit_is_none(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness) as pod:
        await sender.send(A, b"1", b"2")
        claimed = await pod.begin(A)
        await sender.store.pause(A, "maintenance")
        await sender.store.pause(A, "")
        assert texts(expect(Next, await pod.commit(A, claimed, want=9))) == [b"2"]


async def check_a_pause_outlives_its_pod(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness) as dead, open_pod(harness) as heir:
        await dead.store.send(group(A, b"1"), member=dead.member)
        await dead.begin(A)
        await sender.store.pause(A, "maintenance")
        await silence(harness, heir)
        await heir.store.reap(heir.member, dead.silent)
        assert (await see(harness, A)).mode is Mode.PAUSED
        await sender.store.pause(A, "")
        claimed = await heir.begin(A)
        assert claimed.crashes == 1, "the crash counts nevertheless"


async def check_a_failed_head_waits_for_an_operator(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness) as pod:
        await sender.send(A, b"1", b"2")
        claimed = await pod.begin(A)
        for _ in range(2):
            assert await pod.commit(A, claimed, pops=0, pause="it failed") == Paused()
        assert await pod.store.release(pod.member, A, claimed.epoch, "handoff")
        found = await sender.store.inspect(A)
        assert (found.mode, found.paused_why, found.attempts, found.queued) == (
            Mode.PAUSED,
            "it failed",
            1,
            2,
        )
        await sender.store.pause(A, "")
        again = await pod.begin(A)
        assert (texts(again), again.attempts) == ([b"1", b"2"], 0), "with all its attempts"
        assert again.done == claimed.done + 1


async def check_a_suspect_that_is_paused_hinders_no_other(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness) as first, open_pod(harness) as second:
        for entity in (A, B):
            await first.store.send(group(entity, b"1"), member=first.member)
            await first.begin(entity)
        await die_again_with(harness, first, second, A, B)
        async with open_pod(harness) as heir:
            await silence(harness, heir)
            await heir.store.reap(heir.member, second.silent)
            claimed = await heir.begin(A)
            await sender.store.pause(A, "maintenance")
            assert await heir.commit(A, claimed, pops=0, pause="it failed") == Paused()
            await heir.store.release(heir.member, A, claimed.epoch, "handoff")
            await heir.begin(B)


# ------------------------------------------------------------------------------------ pausing a type
async def check_a_held_type_is_ready_and_nobodys(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness, "account", "other") as pod:
        await sender.send(A, b"1", b"2")
        claimed = await pod.begin(A)
        assert await sender.store.hold("account", "maintenance") is True
        assert await sender.store.hold("account", "maintenance") is False
        assert await pod.commit(A, claimed, want=9) == Paused()
        assert await pod.store.release(pod.member, A, claimed.epoch, "handoff")
        await sender.send(B, b"1")
        assert await pod.claim(B) == Paused()
        assert await pod.store.release(pod.member, B, None, "handoff")
        assert (await see(harness, A)).mode is (await see(harness, B)).mode is Mode.READY
        await sender.send(OTHER, b"0")
        await pod.handle(OTHER)
        counted = await sender.store.statistics()
        assert (counted.with_work, counted.ready, counted.held) == (2, 0, 2), "they wait for no pod"
        await pod.store.assign(pod.member, [A, B])
        assert (await pod.found()).ready == ()
        await sender.send(OTHER, b"1")
        await pod.begin(OTHER)
        assert await sender.store.hold("account", "") is True
        assert await sender.store.hold("account", "") is False
        report = await pod.found()
        assert sorted(report.ready) == [A, B]
        counted = await sender.store.statistics()
        assert (counted.ready, counted.held) == (2, 0)
        await pod.store.assign(pod.member, report.ready)
        assert texts(await pod.begin(A)) == [b"2"]


async def check_a_held_type_refuses_a_wish(harness: StoreHarness) -> None:
    async with open_pod(harness) as pod:
        await pod.store.hold("account", "maintenance")
        _, answer = await pod.send_wishing(A, b"1")
        assert answer in (Paused(), NotClaimed())
        await pod.store.release(pod.member, A, None, "handoff")
        assert (await see(harness, A)).mode is Mode.READY


async def check_an_emptied_mailbox_of_a_held_type_is_parked(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness) as pod:
        await sender.send(A, b"1")
        claimed = await pod.begin(A)
        await sender.store.hold("account", "maintenance")
        for _ in range(2):  # a repetition is answered alike
            assert await pod.commit(A, claimed) == Parked()
        expect(Empty, await pod.claim(A))


# ------------------------------------------------------------------------------------ purging
async def _purge(client: Client, entity: Entity, *waiting: Purged) -> bool:
    commands = await client.store.queued(entity, 0, CHUNK)
    tell = [*waiting, *(Purged("?") for _ in commands[len(waiting) :])]
    return await client.store.purge(entity, commands, tell, b"gone")


async def check_a_purged_mailbox_is_empty_and_its_callers_know(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness) as pod:
        await sender.send(A, b"1", b"2", b"3")
        assert (
            await _purge(
                sender, A, Purged("1", sender.store.client, 60_000), Purged("2"), Purged("3", "", 120_000)
            )
            is True
        )
        await sender.wait_hint(Answered("1", b"gone"))
        assert await sender.store.result("1") == b"gone"
        assert await sender.store.result("2") is None
        await harness.advance(90)
        assert await sender.store.result("1") is None
        assert await sender.store.result("3") == b"gone", "for as long as was asked"
        assert await sender.store.queued(A, 0, 9) == ()
        expect(Empty, await pod.claim(A))
        await sender.send(A, b"4")
        assert texts(await pod.begin(A)) == [b"4"]


async def check_a_purge_overrules_the_worker(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness) as pod:
        await sender.send(A, b"1", b"2")
        claimed = await pod.begin(A)
        await sender.store.cancel(A, "1")
        pod.hints.clear()
        assert await _purge(sender, A, Purged("1"))
        await pod.wait_hint(Changed(A))
        assert await pod.commit(A, claimed, children=[Outgoing(B, b"child")]) == Fenced()
        assert (await see(harness, B)).mode is Mode.IDLE
        assert await sender.store.cancelled(A) == ()
        await sender.send(A, b"3")
        again = await pod.begin(A)
        assert again.epoch > claimed.epoch
        assert texts(again) == [b"3"]


async def check_marks_go_with_what_is_purged(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness) as pod:
        await sender.send(A, b"1", b"2")
        await sender.store.cancel(A, "1")
        assert (await pod.found()).cancels == (A,)
        seen = await sender.store.queued(A, 0, 1)
        assert await sender.store.purge(A, seen, [Purged("1")], b"gone")
        assert (await see(harness, A)).queued == (b"2",)
        assert (await pod.found()).cancels == ()


async def check_a_purge_of_what_has_changed_does_nothing(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness) as pod:
        await sender.send(A, b"1", b"2")
        seen = await sender.store.queued(A, 0, 9)
        claimed = await pod.begin(A)
        expect(Next, await pod.commit(A, claimed))
        assert await sender.store.purge(A, seen, [Purged("1"), Purged("2")], b"gone") is False
        expect(Parked, await pod.commit(A, claimed, done=claimed.done + 1))
        assert await sender.store.purge(B, seen, [Purged("1"), Purged("2")], b"gone") is False


async def check_a_purge_takes_what_it_names_alone(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness) as pod:
        await sender.send(A, b"1", b"2", b"3")
        claimed = await pod.begin(A)
        pod.hints.clear()
        seen = await sender.store.queued(A, 0, 2)
        assert await sender.store.purge(A, seen, [Purged("1"), Purged("2")], b"gone")
        await pod.wait_hint(Wake(A))
        assert await pod.commit(A, claimed) == Fenced()
        assert texts(await pod.begin(A)) == [b"3"]


async def check_a_purge_in_every_mode(harness: StoreHarness) -> None:
    """Ready: idle afterwards.  Paused: still paused.  In backoff, and a suspect: nothing of the head is left."""
    async with open_client(harness) as sender, open_pod(harness) as pod:
        await sender.send(OTHER, b"1")
        assert await _purge(sender, OTHER)
        assert (await see(harness, OTHER)).mode is Mode.IDLE
        assert (await sender.store.statistics()).ready == 0
        await sender.store.pause(B, "maintenance")
        await sender.send(B, b"1")
        assert await _purge(sender, B)
        assert (await see(harness, B)).mode is Mode.PAUSED
        await sender.send(C, b"1")
        await pod.commit(C, await pod.begin(C), pops=0, retry_ms=60_000)
        assert await _purge(sender, C)
        await sender.send(C, b"2")
        claimed = await pod.begin(C)
        assert (texts(claimed), claimed.attempts) == ([b"2"], 0)


async def check_nobody_takes_an_overruled_entity_from_its_owner(harness: StoreHarness) -> None:
    """Its handler may still run until it claims anew: a pause and its end must not let another pod begin beside it."""
    async with open_client(harness) as sender, open_pod(harness) as pod, open_pod(harness):
        await pod.store.send(group(A, b"1"), member=pod.member)
        claimed = await pod.begin(A)
        assert await _purge(sender, A)
        assert await sender.store.pause(A, "maintenance")
        await sender.send(A, b"2")
        assert (await see(harness, A)).owner == pod.name
        assert await sender.store.pause(A, "")
        assert (await see(harness, A)).owner == pod.name
        assert await sender.store.pause(A, "again")
        assert await pod.commit(A, claimed) == Fenced()
        assert await pod.claim(A) == Paused()
        assert await pod.store.release(pod.member, A, (await see(harness, A)).epoch, "handoff")
        assert (await see(harness, A)).mode is Mode.PAUSED
        await sender.store.pause(A, "")
        assert (await see(harness, A)).mode is Mode.PARKED


async def check_nobody_takes_an_entity_whose_claim_may_still_be_heard(harness: StoreHarness) -> None:
    """Its first copy began, its second one was held back: whichever is heard, another pod must not begin beside it."""
    async with open_client(harness) as sender, open_pod(harness) as pod, open_pod(harness):
        await pod.store.send(group(A, b"1"), member=pod.member)
        await pod.begin(A)
        for held in (True, False):
            assert await sender.store.hold("account", "maintenance" if held else "")
            for _ in range(2 * held):
                assert await pod.claim(A) == Paused()
        assert await sender.store.pause(A, "maintenance")
        assert (await see(harness, A)).owner == pod.name
        assert await pod.claim(A) == Paused()
        assert await pod.store.release(pod.member, A, None, "handoff")
        assert (await see(harness, A)).mode is Mode.PAUSED


# ------------------------------------------------------------------------------------ dead letters
async def _bury(
    pod: Pod, entity: Entity, claimed: Claimed, *names: str, replies: tuple[Reply, ...] = ()
) -> None:
    letters = [DeadLetter(name, name.encode()) for name in names]
    commit = Commit(entity, claimed.epoch, claimed.done, pops=len(names), dead=letters, replies=replies)
    await pod.store.commit(pod.member, commit)


async def check_dead_letters_are_read_oldest_first(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness) as pod:
        for number in range(5):
            await sender.send(A, b"x")
            await _bury(pod, A, await pod.begin(A), f"{number}")
            await harness.advance(1)
        letters = await sender.store.letters("account", 0, 99)
        assert [one.command_id for one in letters] == ["0", "1", "2", "3", "4"]
        assert [one.record for one in letters] == [b"0", b"1", b"2", b"3", b"4"]
        assert [one.died_us for one in letters] == sorted(one.died_us for one in letters)
        assert [one.command_id for one in await sender.store.letters("account", 1, 2)] == ["1", "2"]
        assert await sender.store.letters("other", 0, 9) == ()


async def check_a_redelivered_command_is_taken_once(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness) as pod:
        await sender.send(A, b"x")
        await _bury(pod, A, await pod.begin(A), "dead")
        await sender.send(A, b"2")
        assert await sender.store.redeliver(A, "dead", "tail", b"dead") is True
        assert await sender.store.redeliver(A, "dead", "tail", b"dead") is False
        assert (await see(harness, A)).queued == (b"2", b"dead")
        assert await sender.store.letters("account", 0, 9) == ()
        assert (await sender.store.statistics()).dead == 0


async def check_a_dead_letter_is_discarded(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness) as pod:
        await sender.send(A, b"x")
        await _bury(pod, A, await pod.begin(A), "dead")
        assert await sender.store.redeliver(A, "dead", "nowhere") is True
        assert await sender.store.redeliver(A, "dead", "nowhere") is False
        assert (await see(harness, A)).queued == ()
        assert (await sender.store.statistics()).dead == 0


async def check_a_redelivered_command_is_not_settled(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness) as pod:
        names: tuple[Literal["tail", "head", "nowhere"], ...] = ("tail", "head", "nowhere")
        await sender.send(A, *(name.encode() for name in names))
        replies = tuple(Reply(name, "", b"dead", 60_000) for name in names)
        await _bury(pod, A, await pod.begin(A), *names, replies=replies)
        for where in names:
            assert await sender.store.result(where) == b"dead"
            assert await sender.store.cancel(A, where) is False
            assert await sender.store.redeliver(A, where, where, where.encode()) is True
        assert [await sender.store.result(name) for name in names] == [None, None, b"dead"]
        assert await sender.store.cancel(A, "tail") is True


async def check_a_redelivery_to_the_head_overrules_the_worker(harness: StoreHarness) -> None:
    """Idle, parked, in backoff, active, paused."""
    entities = [Entity("account", name) for name in ("idle", "parked", "backoff", "active", "paused")]
    idle, parked, backoff, active, paused = entities
    async with open_client(harness) as sender, open_pod(harness) as pod:
        for entity in entities:
            await sender.send(entity, b"x")
            claimed = await pod.begin(entity)
            await _bury(pod, entity, claimed, f"dead {entity.id}")
            await pod.store.release(pod.member, entity, claimed.epoch, "idle")
        for entity in (parked, backoff, active, paused):
            await sender.send(entity, b"1")
        await pod.commit(backoff, await pod.begin(backoff), pops=0, retry_ms=60_000)
        working = await pod.begin(active)
        await sender.store.pause(paused, "maintenance")
        pod.hints.clear()
        for entity in entities:
            assert await sender.store.redeliver(entity, f"dead {entity.id}", "head", b"dead")
        assert (await see(harness, idle)).queued == (b"dead",)
        for entity in (parked, backoff, active, paused):
            assert (await see(harness, entity)).queued == (b"dead", b"1")
        await pod.wait_hint(Wake(idle))
        for entity in (parked, backoff, active):
            await pod.wait_hint(Changed(entity))
        assert await pod.commit(active, working) == Fenced()
        for entity in (parked, backoff, active):
            begun = await pod.begin(entity)
            assert (texts(begun), begun.attempts) == ([b"dead", b"1"], 0)
        assert (await see(harness, paused)).mode is Mode.PAUSED


# ------------------------------------------------------------------------------------ looking
async def check_inspection_tells_what_there_is(harness: StoreHarness) -> None:
    async with open_client(harness) as sender, open_pod(harness) as pod:
        nothing = await sender.store.inspect(A)
        assert (nothing.mode, nothing.queued, nothing.head, nothing.owner) == (Mode.IDLE, 0, None, None)
        await sender.send(A, b"1", b"2")
        claimed = await pod.begin(A)
        found = await sender.store.inspect(A)
        assert (found.mode, found.owner, found.owner_name) == (Mode.ACTIVE, pod.name, "check")
        assert (found.epoch, found.queued, expect(Queued, found.head).data) == (claimed.epoch, 2, b"1")
        assert found.owner_renewed_us is not None
        await pod.commit(A, claimed, pops=0, retry_ms=60_000, state=b"12345")
        found = await sender.store.inspect(A)
        assert (found.attempts, found.state_bytes) == (1, 5)
        assert 59 < ((found.due_us or 0) - found.now_us) / 1e6 <= 60
        await sender.send(OTHER, b"1")
        waiting = await sender.store.inspect(OTHER)
        assert (waiting.mode, waiting.ready_since_us is not None) == (Mode.READY, True)
        await sender.store.pause(OTHER, "two words")
        await sender.store.hold("other", "three more words")
        paused = await sender.store.inspect(OTHER)
        assert (paused.mode, paused.paused_why, paused.held) == (Mode.PAUSED, "two words", True)
        assert paused.paused_since_us is not None
        await sender.store.hold("other", "again")
        held = await sender.store.inspect(Entity("other", "unheard-of"))
        assert (held.mode, held.held, held.held_why) == (Mode.IDLE, True, "three more words")
        assert 0 <= (held.now_us - (held.held_since_us or 0)) / 1e6 < 60
        assert (await sender.store.inspect(A)).held_why == ""
        await sender.store.hold("other", "")
        free = await sender.store.inspect(OTHER)
        assert (free.held, free.held_why, free.held_since_us) == (False, "", None)


async def check_a_mailbox_is_read_from_its_head(harness: StoreHarness) -> None:
    async with open_client(harness) as sender:
        await sender.send(A, *(b"%d" % number for number in range(10)))
        assert [one.data for one in await sender.store.queued(A, 0, 3)] == [b"0", b"1", b"2"]
        assert [one.data for one in await sender.store.queued(A, 8, 9)] == [b"8", b"9"]
        assert await sender.store.queued(B, 0, 9) == ()
