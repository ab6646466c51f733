"""Reading what waits: in Redis it is read in pieces, between which everything goes on."""

from redis_servers import RedisServer

from trioqueue._names import Entity
from trioqueue.stores.contract import Group, Outgoing
from trioqueue.stores.redis.keys import Keys
from trioqueue.stores.redis.store import open_redis_store

KEYS = Keys("tq")


async def test_what_was_settled_between_two_pieces_is_no_lane(each_redis: RedisServer) -> None:
    """The index said that it has work, and when its mailbox is read it has none."""
    async with open_redis_store(each_redis.url, prefix="tq", unanswered=5.0) as store:
        await store.send(Group([Outgoing(Entity("account", "b"), b"1")]))
        with each_redis.client() as client:
            client.zadd(KEYS.wake, {"account/a": 1, "account/c": 1})

        found = await store.lanes(10)

        assert [str(lane.entity) for lane in found.lanes] == ["account/b"]


async def test_who_is_no_pod_is_not_among_them(each_redis: RedisServer) -> None:
    """Something else has written to the key; what looks must not fail of it."""
    async with open_redis_store(each_redis.url, prefix="tq", unanswered=5.0) as store:
        with each_redis.client() as client:
            client.zadd(KEYS.pods, {"stranger": 1, b"\xff": 1, b"\xff.7": 1})

        found = await store.registrations()

        assert [pod.incarnation for pod in found.pods] == ["\ufffd.7"]
