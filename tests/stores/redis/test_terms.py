"""What a sender may ask for one command, where only Redis can get it wrong: bad keys, strangers, long mailboxes."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import trio
from redis_servers import RedisServer

from trioqueue._errors import Incompatible, MailboxFull
from trioqueue._names import Entity
from trioqueue.messages.policy import Lease
from trioqueue.stores.contract import CHUNK, Group, Member, Outgoing, PodInfo, Terms
from trioqueue.stores.redis.store import RedisStore, open_redis_store

A, B = Entity("account", "a"), Entity("account", "b")
OTHER = Entity("other", "a")
INFO = PodInfo("test", frozenset({"account", "other"}), 10_000, Lease(ttl=30, heartbeat=10, grace=15))
MEGABYTE = 1_048_576


@pytest.fixture
async def store(each_redis: RedisServer) -> AsyncIterator[RedisStore]:
    async with open_redis_store(each_redis.url, prefix="terms", unanswered=5.0) as opened:
        yield opened


@pytest.fixture
async def member(store: RedisStore) -> Member:
    return await store.join(INFO)


@pytest.fixture
def client(each_redis: RedisServer) -> Iterator[Any]:
    with each_redis.client() as plain:
        yield plain


def later(entity: Entity, name: str) -> Outgoing:
    return Outgoing(entity, name.encode(), Terms(name, delay_us=1))


def written(store: RedisStore) -> int:
    return store._transport.statistics().requests


def queued(client: Any, store: RedisStore, entity: Entity) -> list[bytes]:
    return [one.partition(b" ")[2] for one in client.lrange(store._keys.entity(entity)[1], 0, -1)]


# -------------------------------------------------------------------------------- moving
@pytest.mark.parametrize("broken", ["e", "q", "load", "ready"])
async def test_a_bad_key_harms_no_other_command_that_is_due(
    store: RedisStore, member: Member, client: Any, broken: str
) -> None:
    """And what is due for it waits until it is repaired."""
    e, q, _ = store._keys.entity(OTHER)
    load, ready = store._keys.placement("other")
    key = {"e": e, "q": q, "load": load, "ready": ready}[broken]
    await store.send(Group([later(A, "1"), later(OTHER, "bad"), later(A, "2"), later(B, "3")]))
    await trio.sleep(0.01)
    client.delete(key)
    client.set(key, "not ours")
    with pytest.raises(Incompatible):
        await store.move(member)
    assert queued(client, store, A) == [b"1", b"2"]
    assert queued(client, store, B) == [b"3"]
    assert (await store.move(member) or 0) > 1, "it is not asked for again and again"
    client.delete(key)
    client.zadd(store._keys.later[0], dict.fromkeys(client.zrange(store._keys.later[0], 0, -1), 1))
    assert await store.move(member) is None
    assert queued(client, store, OTHER) == [b"bad"]


async def test_strangers_among_what_is_put_off(store: RedisStore, member: Member, client: Any) -> None:
    """They are taken out, and what is due behind them is moved."""
    index, envelopes = store._keys.later
    await store.send(Group([later(A, "1"), Outgoing(A, b"kept", Terms("kept", delay_us=60_000_000))]))
    await trio.sleep(0.01)
    values = {
        b"garbage": b"garbage", b"empty": b"", b"no name": b"1 2 3 ", b"bare": b"0000000000000009 1 2 /a{}",
        b"binary": b"0000000000000009 1 9 account/\xff{}", b"\xff": b"0000000000000009 1 9 account/a{}",
    }  # fmt: skip
    client.hset(envelopes, mapping=values)
    strangers = [b"0000000000000009 " + name for name in (*values, b"kept", b"nobody")]
    client.zadd(index, dict.fromkeys([b"", b"x", *strangers], 1))
    client.zadd(index, dict.fromkeys([f"{n:016} ghost" for n in range(2 * CHUNK)], 2))
    with trio.fail_after(5):
        left = await store.move(member)
        while left == 0.0:
            left = await store.move(member)
    assert left is not None
    assert 50 < left <= 60
    # One of them was an envelope in all but its id.
    assert [one for one in queued(client, store, A) if one != b"{}"] == [b"1"]
    assert client.zcard(index) == 1


async def test_what_is_due_is_moved_by_the_megabyte(store: RedisStore, member: Member, client: Any) -> None:
    """A call with a hundred large ones took Redis a third of a second, in which no heartbeat is served."""
    large = b"x" * 250_000
    for n in range(100):
        await store.send(Group([Outgoing(A, large, Terms(f"{n}", delay_us=1))]))
    await trio.sleep(0.01)
    before = written(store)
    assert await store.move(member) is None
    assert client.llen(store._keys.entity(A)[1]) == 100
    assert written(store) - before >= 100 * len(large) // (2 * MEGABYTE)


# -------------------------------------------------------------------------------- looking for one command
@pytest.mark.parametrize(
    ("count", "size", "calls"), [(20_000, 100, 15), (300, 250_000, 30)], ids=["many", "large"]
)
async def test_a_long_mailbox_is_looked_through_bit_by_bit(
    store: RedisStore, member: Member, client: Any, count: int, size: int, calls: int
) -> None:
    """A heartbeat that Redis does not serve meanwhile costs a pod its lease: 100,000 commands took it a second."""
    mailbox, page = store._keys.entity(A)[1], min(count, 50_000_000 // size)
    for begin in range(0, count, page):
        client.rpush(mailbox, *(b'1 {"i":"%d"%s' % (n, b"x" * size) for n in range(begin, begin + page)))
    for name in ("0", f"{count // 2}", f"{count - 1}"):
        assert await store.is_queued(A, name, b'{"i":"%s"' % name.encode())
        assert await store.withdraw(A, name, b'{"i":"%s"' % name.encode(), b"cancelled", 1000) == "dropped"
    before = written(store)
    assert not await store.is_queued(A, "none", b'{"i":"none"')
    assert written(store) - before >= calls
    before = written(store)
    assert await store.withdraw(A, "none", b'{"i":"none"', b"cancelled", 1000) == "late"
    assert written(store) - before >= calls


async def test_a_mailbox_that_moves_meanwhile_hides_nothing(
    store: RedisStore, member: Member, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is pushed and taken between two calls moves the others, at either end."""
    mailbox, call = store._keys.entity(A)[1], store._call
    client.rpush(mailbox, *(b'1 {"i":"%d"' % n for n in range(10_000)))

    async def disturbed(*args: Any, **options: Any) -> Any:
        client.rpush(mailbox, *[b"1 new"] * 300)
        client.ltrim(mailbox, 200, -1)
        client.lpush(mailbox, *[b"1 back"] * 100)
        return await call(*args, **options)

    monkeypatch.setattr(store, "_call", disturbed)
    for name in (b"9000", b"7777", b"9999"):
        assert await store.is_queued(A, name.decode(), b'{"i":"%s"' % name)
        assert await store.withdraw(A, name.decode(), b'{"i":"%s"' % name, b"x", 1000) == "dropped"


# -------------------------------------------------------------------------------- keys and room
async def test_what_a_stranger_wrote_for_a_key_is_nobody_s_end(store: RedisStore, client: Any) -> None:
    client.set(store._keys.idempotency(A, "k"), b"\xff\xfe")
    group = Group([Outgoing(A, b"1", Terms("1", 0, "k", 1000))])
    await store.send(group)
    assert group.first_id
    assert await store.send(Group([Outgoing(A, b"2")])) is False


@pytest.mark.parametrize("kind", ["key", "later", "delayed"])
async def test_a_bad_key_harms_no_other_send(
    store: RedisStore, member: Member, client: Any, kind: str
) -> None:
    index, envelopes = store._keys.later
    bad = {"key": store._keys.idempotency(A, "k"), "later": index, "delayed": envelopes}[kind]
    client.rpush(bad, "not ours")
    answers: list[object] = []

    async def send(command: Outgoing) -> None:
        try:
            answers.append(await store.send(Group([command])))
        except Incompatible as error:
            answers.append(type(error))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send, Outgoing(A, b"1", Terms("1", 0 if kind == "key" else 1, "k", 1000)))
        nursery.start_soon(send, Outgoing(B, b"2"))
    assert sorted(answers, key=str) == sorted([Incompatible, False], key=str)
    assert queued(client, store, A) == []
    assert queued(client, store, B) == [b"2"]
    client.delete(bad)
    await send(Outgoing(A, b"1", Terms("1", 0, "k", 1000)))
    assert queued(client, store, A) == [b"1"]


async def test_each_sender_of_a_call_has_its_own_limits(
    store: RedisStore, member: Member, client: Any
) -> None:
    """They share the connection, and maybe the call."""
    refused = 0

    async def send(number: int, limits: dict[str, int]) -> None:
        nonlocal refused
        try:
            await store.send(Group([Outgoing(A, b"%d" % number)], limits=limits))
        except MailboxFull as error:
            refused += 1
            assert error.limit == limits["account"]  # noqa: PT017  the nursery would wrap what is raised

    async with trio.open_nursery() as nursery:
        for number in range(12):
            nursery.start_soon(send, number, [{}, {"account": 2}, {"account": 9}][number % 3])
    assert refused
    assert len(queued(client, store, A)) == 12 - refused
    assert {b"%d" % number for number in range(0, 12, 3)} <= set(queued(client, store, A))
