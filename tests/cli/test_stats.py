"""`trioqueue stats`, as a process: the counts of the whole fleet."""

import json
from pathlib import Path

from cli.command_line import verb
from lamps import Spin, Switch, Works, die
from redis_servers import RedisServer

from trioqueue import EntityPolicy, Retry


async def test_the_fleet_is_counted(clean_redis: RedisServer, tmp_path: Path) -> None:
    works = Works()
    policy = EntityPolicy(idle_timeout=600, retry=Retry(attempts=1))
    async with works.open(clean_redis.url, "red", serves={"lamp"}, entities={"lamp": policy}) as queues:
        await die(works, queues, Switch("a", "bad"))
        await queues.send_many([Spin("1", "on"), Spin("2", "on")])
        await queues.send(Spin("3", "later"), delay=3600)
        await queues.pause("lamp")
        await queues.send(Switch("b", "on"))
        ran = await verb("stats", url=clean_redis.url, cwd=tmp_path)
        as_json = await verb("stats", "--json", url=clean_redis.url, cwd=tmp_path)

    found = json.loads(as_json.stdout)
    assert (ran.code, ran.stderr) == (0, "")
    assert (found["pods"], found["ready"], found["dead"], found["put_off"]) == (1, 2, 1, 1)
    assert found["with_work"] == 3
    assert sorted(found) == ["dead", "held", "owned", "pods", "put_off", "ready", "with_work"]
    counts = dict(line.split()[:2] for line in ran.lines[2:])
    assert counts.keys() == found.keys()
    assert (counts["pods"], counts["ready"], counts["dead"]) == ("1", "2", "1")


async def test_an_empty_store_is_counted_too(clean_redis: RedisServer, tmp_path: Path) -> None:
    as_json = await verb("stats", "--json", url=clean_redis.url, cwd=tmp_path)

    assert set(json.loads(as_json.stdout).values()) == {0}
