"""`trioqueue pods`, as a process: which pods there are, and what a verb says where there is no store."""

import json
from pathlib import Path

from cli.command_line import verb
from lamps import Switch
from redis_servers import RedisServer

from trioqueue import Context, Registry, open_atomic_queues

registry = Registry()


@registry.handles(Switch)
async def switch(command: Switch, context: Context) -> int:
    return 1


async def test_no_pod_is_one_sentence(clean_redis: RedisServer, tmp_path: Path) -> None:
    ran = await verb("pods", url=clean_redis.url, cwd=tmp_path)

    assert (ran.code, ran.stderr) == (0, "")
    assert ran.lines == ["No pod is registered: nothing is handled until one serves."]


async def test_pods_are_listed(clean_redis: RedisServer, tmp_path: Path) -> None:
    async with open_atomic_queues(clean_redis.url, registry=registry, name="red") as queues:
        await queues.call(Switch("hall", "on"))
        ran = await verb("pods", url=clean_redis.url, cwd=tmp_path)
        as_json = await verb("pods", "--json", url=clean_redis.url, cwd=tmp_path)

    assert (ran.code, ran.stderr) == (0, "")
    (line,) = (line for line in ran.lines if line.lstrip().startswith("red"))
    assert line.split()[:5] == ["red", "serving", "lamp", "1", "0"]
    (pod,) = json.loads(as_json.stdout)
    assert (pod["name"], pod["state"], pod["types"], pod["owned"], pod["room"]) == (
        "red",
        "serving",
        ["lamp"],
        1,
        20000,
    )
    assert 0 <= pod["heard"] < 5


async def test_a_verb_needs_a_store(tmp_path: Path) -> None:
    """None is given, none is there, or it is inside another process."""
    for url, code, says in (
        ("", 2, "add --url redis://localhost:6379, or set TRIOQUEUE_URL"),
        ("memory://", 2, "inside another process"),
        ("redis://localhost:1", 1, "localhost:1"),
    ):
        ran = await verb("pods", url=url, cwd=tmp_path)
        assert (ran.code, ran.stdout) == (code, "")
        assert says in ran.stderr
        assert len(ran.stderr.splitlines()) == 1
