"""What strangers, full servers, repetitions and large numbers do to the scripts."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from redis_requests import at_once
from redis_servers import RedisServer, find_servers

from trioqueue._errors import TrioqueueError
from trioqueue._names import Entity
from trioqueue.messages.policy import Lease
from trioqueue.stores.contract import (
    Claimed,
    ClaimWish,
    Commit,
    Fenced,
    Group,
    Member,
    Next,
    Outgoing,
    Parked,
    Paused,
    PodInfo,
    Purged,
    Reply,
    Terms,
)
from trioqueue.stores.redis.store import RedisStore, open_redis_store
from trioqueue.stores.reports import Silent

A, B, C = (Entity("account", name) for name in "abc")
OTHER = Entity("other", "a")
ODD = Entity("account", "%d %s/:{x}[*]?^$.+-(é)\u2028'\"\\")
INFO = PodInfo("test", frozenset({"account", "other"}), 10_000, Lease(ttl=30, heartbeat=10, grace=15))


def group(entity: Entity, *commands: bytes, terms: Terms | None = None) -> Group:
    return Group([Outgoing(entity, data, terms) for data in commands])


@pytest.fixture
async def store(each_redis: RedisServer) -> AsyncIterator[RedisStore]:
    async with open_redis_store(each_redis.url, prefix="harm", unanswered=5.0) as opened:
        yield opened


@pytest.fixture
async def member(store: RedisStore) -> Member:
    return await store.join(INFO)


@pytest.fixture
def client(each_redis: RedisServer) -> Iterator[Any]:
    with each_redis.client() as plain:
        yield plain


async def claimed(store: RedisStore, member: Member, entity: Entity, **how: Any) -> Claimed:
    answer = await store.claim(member, entity, **how)
    assert isinstance(answer, Claimed), answer
    return answer


def whose(client: Any, store: RedisStore, entity: Entity) -> tuple[bytes | None, float | None, float | None]:
    e = store._keys.entity(entity)[0]
    return (
        client.hget(e, "owner"),
        client.zscore(store._keys.owned, str(entity)),
        client.zscore(store._keys.wake, str(entity)),
    )


# -------------------------------------------------------------------------------- errors between writes
@pytest.mark.parametrize("why", ["handoff", "decline"])
async def test_a_release_that_fails_takes_nothing_away(
    store: RedisStore, member: Member, client: Any, why: str
) -> None:
    await store.send(group(OTHER, b"1"))
    epoch = (await claimed(store, member, OTHER)).epoch
    load = store._keys.placement("other")[0]
    before = whose(client, store, OTHER)
    assert None not in before
    client.delete(load)
    client.set(load, "not ours")
    with pytest.raises(TrioqueueError):
        await store.release(member, OTHER, epoch, why)
    assert whose(client, store, OTHER) == before, (
        "its owner is in its hash and in no index: nobody reaps it (I5, I6)"
    )


async def test_a_commit_beside_one_that_fails_stands_once(
    store: RedisStore, member: Member, client: Any
) -> None:
    await store.send(group(A, b"1", b"2", b"3"))
    await store.send(group(B, b"1"))
    a, b = await claimed(store, member, A), await claimed(store, member, B)
    q = store._keys.entity(B)[1]
    client.delete(q)
    client.set(q, "not ours")
    answers = await at_once(
        lambda: store.commit(member, Commit(A, a.epoch, a.done, 1, state=b"s", want=5)),
        lambda: store.commit(member, Commit(B, b.epoch, b.done, 1)),
    )
    assert isinstance(answers[1], TrioqueueError)
    assert isinstance(answers[0], Next)
    assert [one.data for one in answers[0].batch] == [b"2", b"3"]
    assert client.hget(store._keys.entity(B)[0], "mode") == b"active"


@pytest.mark.parametrize("is_known", [True, False])
async def test_a_commit_with_a_child_that_finds_no_place_does_nothing(
    store: RedisStore, member: Member, client: Any, is_known: bool
) -> None:
    """It has a place where it is known already."""
    await store.send(group(A, b"1"))
    if is_known:
        await store.send(group(OTHER, b"0"))
    one = await claimed(store, member, A)
    load = store._keys.placement("other")[0]
    client.delete(load)
    client.set(load, "not ours")
    commit = Commit(A, one.epoch, one.done, 1, state=b"s", children=[Outgoing(OTHER, b"1")])
    if is_known:
        assert await store.commit(member, commit) == Parked()
        assert client.llen(store._keys.entity(OTHER)[1]) == 2
        return
    with pytest.raises(TrioqueueError):
        await store.commit(member, commit)
    _, q, s = store._keys.entity(A)
    assert (client.llen(q), client.exists(s)) == (1, 0)


@pytest.mark.parametrize("how", ["reap", "pause"])
async def test_taking_away_that_fails_leaves_no_orphan(
    store: RedisStore, member: Member, client: Any, how: str
) -> None:
    """As above for the other two that let go: afterwards the owner is still found by whoever reaps it."""
    other = await store.join(INFO)
    await store.send(group(OTHER, b"1"), member=member)
    before = whose(client, store, OTHER)
    assert before[0] == member.incarnation.encode()
    load = store._keys.placement("other")[0]
    client.delete(load)
    client.set(load, "not ours")
    # The types to be reaped are not named, as for a pod whose fleet entry a stranger has harmed.
    silent = Silent(member.incarnation, ())
    with pytest.raises(TrioqueueError):
        await (store.pause(OTHER, "why") if how == "pause" else store.reap(other, silent, gave_up=True))
    owner, owned, _ = whose(client, store, OTHER)
    assert owner is None or owned is not None, "owned by somebody whose reaping will not find it"


# -------------------------------------------------------------------------------- fetched
async def test_fetched_above_what_is_there_heals(store: RedisStore, member: Member, client: Any) -> None:
    """What half a commit or a stranger took out must not leave an entity active with nothing in it."""
    await store.send(group(A, b"1", b"2", b"3"))
    one = await claimed(store, member, A)
    client.ltrim(store._keys.entity(A)[1], 1, -1)
    client.ltrim(store._keys.entity(A)[1], 1, -1)
    answer = await store.commit(member, Commit(A, one.epoch, one.done, 1, want=5))
    assert answer == Parked(), "active and empty"


async def test_fetched_through_handoffs_and_purges(store: RedisStore, member: Member, client: Any) -> None:
    e, q, _ = store._keys.entity(A)

    def check() -> None:
        done, fetched = (int(one or 0) for one in client.hmget(e, "done", "fetched"))
        assert fetched - done <= client.llen(q), client.hgetall(e)

    await store.send(group(A, *(b"%d" % n for n in range(6))))
    other = await store.join(INFO)
    for turn in range(3):
        owner = next(m for m in (member, other) if m.incarnation.encode() == client.hget(e, "owner"))
        one = await claimed(store, owner, A, fetch=4)
        await store.commit(owner, Commit(A, one.epoch, one.done, 1, want=0))
        check()
        head = await store.queued(A, 0, 2)
        await store.purge(A, head, [Purged("x", "", 0)] * 2, b"purged") if turn == 1 else None
        check()
        await store.send(group(A, b"urgent", terms=Terms(f"u{turn}", urgent=True)))
        await store.send(group(A, b"normal"))
        one = await claimed(store, owner, A, fetch=4)
        await store.commit(owner, Commit(A, one.epoch, one.done, 0, retry_ms=0))
        check()
        one = await claimed(store, owner, A, fetch=2)
        await store.release(owner, A, one.epoch, "handoff")
        check()
    owner = next(m for m in (member, other) if m.incarnation.encode() == client.hget(e, "owner"))
    answer: Any = await claimed(store, owner, A, fetch=2)
    epoch, done = answer.epoch, answer.done
    while not isinstance(answer, Parked):
        assert answer.batch
        pops = len(answer.batch)
        answer = await store.commit(owner, Commit(A, epoch, done, pops, want=2))
        done += pops
        check()
    assert client.llen(q) == 0


# -------------------------------------------------------------------------------- repetitions
async def test_a_repeated_commit_says_the_same(store: RedisStore, member: Member, client: Any) -> None:
    await store.send(group(A, b"1", b"2"))
    one = await claimed(store, member, A, fetch=1)
    first = Commit(A, one.epoch, 0, 1, state=b"", replies=[Reply("id", store.client, b"x", 0)], want=0)
    assert await store.commit(member, first) == Next(0, ())
    assert await store.commit(member, first) == Next(0, ())
    last = Commit(A, one.epoch, 1, 1)
    assert await store.commit(member, last) == Parked()
    assert await store.commit(member, last) == Parked()
    assert await store.commit(member, first) == Parked()
    assert await store.commit(member, Commit(A, one.epoch, 3, 1)) == Fenced()


async def test_commit_with_a_number_below_all(store: RedisStore, member: Member) -> None:
    """No worker asks so; a broken one gets a word and not an error of Lua."""
    await store.send(group(A, b"1", b"2"))
    one = await claimed(store, member, A, fetch=1)
    assert isinstance(await store.commit(member, Commit(A, one.epoch, -1, 1)), Next)


async def test_hold_and_quarantine_stop_what_serves(
    each_redis: RedisServer, store: RedisStore, member: Member, client: Any
) -> None:
    meta = store._keys.meta
    await store.hold("other", "o")
    await store.hold("account", "o")
    assert client.hget(meta, "serving") is None
    told: list[Any] = []
    await store.send(
        group(A, b"1"), member=member, wishes=[ClaimWish(A, "", 5)], on_claim=lambda _, x: told.append(x)
    )
    assert told == [Paused()]
    await store.hold("other", "")
    assert client.hget(meta, "serving") is None
    await store.hold("account", "")
    assert client.hget(meta, "serving") == member.generation.encode()


async def test_odd_names_and_large_groups(store: RedisStore, member: Member, client: Any) -> None:
    many = [b"%d" % n for n in range(12_001)]
    told: list[Any] = []
    await store.send(
        group(ODD, *many),
        member=member,
        wishes=[ClaimWish(ODD, "", 9000)],
        on_claim=lambda _, x: told.append(x),
    )
    [one] = told
    assert isinstance(one, Claimed)
    assert [queued.data for queued in one.batch] == many[:9000]
    answer = await store.commit(
        member, Commit(ODD, one.epoch, 0, 9000, children=[Outgoing(ODD, b"child")], want=9000)
    )
    assert isinstance(answer, Next)
    assert [queued.data for queued in answer.batch] == [*many[9000:], b"child"]
    assert await store.commit(member, Commit(ODD, one.epoch, 9000, len(answer.batch))) == Parked()
    assert await store.release(member, ODD, one.epoch, "idle") is True
    assert not client.exists(store._keys.entity(ODD)[0])


async def test_epochs_of_one_call_and_after_the_clock_was_set_back(
    store: RedisStore, member: Member, client: Any
) -> None:
    far = 9_000_000_000_000_001  # below 2^53, and above what "%.14g" keeps
    client.hset(store._keys.meta, "epoch_floor", str(far))
    told: list[Any] = []
    await store.send(
        Group([Outgoing(A, b"1"), Outgoing(B, b"1"), Outgoing(C, b"1")]),
        member=member,
        wishes=[ClaimWish(e, "", 5) for e in (A, B, C)],
        on_claim=lambda _, x: told.append(x),
    )
    assert [one.epoch for one in told] == [far + 1, far + 2, far + 3]
    assert client.hget(store._keys.meta, "epoch_floor") == str(far + 3).encode()
    answer = await store.commit(member, Commit(A, far + 1, 0, 1, state=b"s"))
    assert answer == Parked()
    assert client.get(store._keys.entity(A)[2]).startswith(b"%d.0 " % (far + 1))


@pytest.mark.parametrize("version", sorted(find_servers()))
async def test_a_full_server_serves_all_but_sends(version: str) -> None:
    with RedisServer(find_servers()[version]) as server, server.client() as client:
        async with open_redis_store(server.url, prefix="full", unanswered=5.0) as store:
            member = await store.join(INFO)
            for entity in (A, B, C, OTHER):
                await store.send(group(entity, b"1", b"2", b"3"))
            a, b, c = [await claimed(store, member, e, fetch=2) for e in (A, B, C)]
            client.config_set("maxmemory", 1)
            commits = [
                Commit(B, b.epoch - 1, 0, 1),  # fenced: nothing is written before the next section
                Commit(A, a.epoch, 0, 1, want=2),
                Commit(C, c.epoch, 0, 0, pause="why"),
            ]
            answers = await at_once(*(lambda o=o: store.commit(member, o) for o in commits))
            assert [type(one) for one in answers] == [Fenced, Next, Paused]
            again = await store.commit(member, commits[1])
            assert isinstance(again, Next)
            assert again.batch == answers[1].batch
            await store.commit(member, Commit(B, b.epoch, 0, 0, retry_ms=0, failed=True, state=b"s"))
            assert await store.release(member, C, c.epoch, "handoff") is True
            assert await store.pause(C, "") is True
            assert await store.hold("other", "why") is True
            assert await store.hold("other", "") is True
            assert (
                await store.purge(OTHER, await store.queued(OTHER, 0, 1), [Purged("x", "", 0)], b"p") is True
            )
            with pytest.raises(TrioqueueError):
                await store.send(group(A, b"no"))
            client.config_set("maxmemory", 0)
