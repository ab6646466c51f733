"""Key names: no two things share one, and all of a partition lie together."""

import string

from hypothesis import given
from hypothesis import strategies as st

from trioqueue._names import Entity, entity_id_text, legal_entity_type, legal_prefix
from trioqueue.stores.redis.keys import Keys

types = st.from_regex(r"[a-z][a-z0-9_.-]{0,8}", fullmatch=True)
# Ids that look like what keys are made of are the interesting ones.
ids = st.text(alphabet="ab:/{}~ é" + string.digits, min_size=1, max_size=8)
entities = st.builds(Entity, types, ids)
clients = st.from_regex(r"[0-9a-f]{12}", fullmatch=True)
prefixes = st.from_regex(r"[A-Za-z0-9_.-]{1,6}", fullmatch=True)

things = st.one_of(
    st.tuples(st.just("entity"), entities),
    st.tuples(st.just("type"), types),
    st.tuples(st.just("result"), st.text(alphabet=string.hexdigits + "-:", min_size=1, max_size=8)),
    st.tuples(st.just("producer"), clients),
)


def keys_of(keys: Keys, thing: tuple[str, object]) -> list[str]:
    match thing:
        case "entity", Entity() as entity:
            return list(keys.entity(entity))
        case "type", str(entity_type):
            return [*keys.placement(entity_type), *keys.dead(entity_type)]
        case "result", str(command_id):
            return [keys.result(command_id)]
        case _, client:
            return list(keys.sequences(str(client)))


@given(things, things)
def test_no_two_things_share_a_key(one: tuple[str, object], two: tuple[str, object]) -> None:
    keys = Keys("tq")
    ours = keys_of(keys, one)
    assert len(set(ours)) == len(ours)
    assert not set(ours) & set(keys.common)
    if one != two:
        assert not set(ours) & set(keys_of(keys, two))


@given(prefixes, prefixes, st.integers(0, 9), st.integers(0, 9), things)
def test_no_two_partitions_share_a_key(a: str, b: str, p: int, q: int, thing: tuple[str, object]) -> None:
    one, two = Keys(legal_prefix(a), p), Keys(legal_prefix(b), q)
    if (a, p) != (b, q):
        assert not set(keys_of(one, thing)) & set(keys_of(two, thing))
        assert one.channel != two.channel


@given(things)
def test_one_hash_tag_holds_a_partition_together(thing: tuple[str, object]) -> None:
    """Redis Cluster takes what stands between the first { and the next }: always ours, whatever an id contains."""
    keys = Keys("tq", 3)
    for key in (*keys_of(keys, thing), *keys.common, keys.channel):
        assert key[key.index("{") + 1 : key.index("}")] == "tq:3"


@given(entities)
def test_the_state_key_is_the_entitys_third(entity: Entity) -> None:
    keys = Keys("tq")
    legal_entity_type(entity.type)
    entity_id_text(entity.id)
    assert keys.entity(entity)[2] == keys.state(entity)
