"""Looking into a fleet at the front door; what the command line shows of it is tested beside that."""

import pytest
from lamps import Switch
from redis_servers import RedisServer

from trioqueue import Entity, open_atomic_queues
from trioqueue._looking import GLANCE
from trioqueue._mailbox import UNDECODABLE
from trioqueue.stores.contract import Group, Outgoing


@pytest.mark.parametrize("url", ["memory://", "redis"])
async def test_a_long_command_shows_its_name_and_is_not_read_to_its_end(
    url: str, clean_redis: RedisServer
) -> None:
    async with open_atomic_queues(clean_redis.url if url == "redis" else url) as queues:
        await queues.send(Switch("long", "x" * 100_000))
        await queues.send(Switch("short", "x"))
        await queues._store.send(Group([Outgoing(Entity("lamp", "strange"), b"x" * 100_000)]))

        found = await queues.lanes()

        assert found.whole
        assert {lane.entity_id: lane.command for lane in found.lanes} == {
            "long": "switch",
            "short": "switch",
            "strange": UNDECODABLE,
        }
        seen = await queues._store.lanes(10, longest=GLANCE)
        assert max(len(lane.head.data) for lane in seen.lanes if lane.head) == GLANCE
