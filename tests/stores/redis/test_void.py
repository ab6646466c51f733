"""Voiding a refused group's number: a script of the Redis store alone, which no operation of the contract shows."""

import redis
from redis_servers import RedisServer

from trioqueue._names import Entity
from trioqueue.stores.contract import Group, Outgoing
from trioqueue.stores.redis.keys import Keys
from trioqueue.stores.redis.scripts import script
from trioqueue.stores.redis.store import open_redis_store

KEYS = Keys("tq")


def void(client: redis.Redis, sender: str, sequence: int, low: int = 1) -> object:
    keys = [*KEYS.common, *KEYS.sequences(sender)]
    return client.eval(script("void").source, len(keys), *keys, KEYS.channel, low, sequence)


async def test_a_voided_number_stays_voided_when_it_is_asked_again(each_redis: RedisServer) -> None:
    with each_redis.client() as client:
        for _ in range(2):
            assert void(client, "me", 2) == b"VOIDED"
        for _ in range(2):
            assert void(client, "me", 1) == b"VOIDED", "it lay in a gap"


async def test_a_voided_number_is_spent(each_redis: RedisServer) -> None:
    async with open_redis_store(each_redis.url, prefix="tq", unanswered=5.0) as store:
        with each_redis.client() as client:
            assert void(client, store.client, 1) == b"VOIDED"
            late = Group([Outgoing(Entity("account", "1"), b"late")])
            assert await store.send(late) is True, "its number is the voided one"
            assert client.keys(f"{KEYS.tag}q:*") == []

            taken = Group([Outgoing(Entity("account", "1"), b"taken")])
            assert await store.send(taken) is False
            assert void(client, store.client, taken.sequence) == b"ACCEPTED"


async def test_what_was_voided_is_forgotten_once_it_is_settled(each_redis: RedisServer) -> None:
    with each_redis.client() as client:
        for sequence in range(1, 50):
            void(client, "me", sequence, low=sequence)
        assert client.zcard(KEYS.sequences("me")[1]) <= 2
