"""What an operator reads, where only Redis can get it wrong: in several steps, between which the fleet goes on."""

from redis_servers import RedisServer

from trioqueue._names import Entity
from trioqueue.stores.contract import Group, Outgoing, Terms
from trioqueue.stores.redis.store import open_redis_store

A, B = Entity("account", "a"), Entity("account", "b")


async def test_an_entity_that_is_settled_between_the_steps_is_left_out(each_redis: RedisServer) -> None:
    async with open_redis_store(each_redis.url, prefix="looking", unanswered=5.0) as store:
        await store.send(Group([Outgoing(A, b"1", Terms("1")), Outgoing(B, b"2", Terms("2"))]))
        with each_redis.client() as client:
            client.delete(store._keys.entity(A)[1])  # as far as the second step sees
        found = await store.lanes(10)

    assert [lane.entity for lane in found.lanes] == [B]
