"""`trioqueue check`, as a process, against servers that really are as it says."""

import json
import shutil
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
import trio
from cli.command_line import PATIENCE, environment, verb
from cli.crooked import open_ahead, open_talker
from faults.proxy import open_proxy
from lamps import Switch, Works
from redis_connections import info, scripted, until
from redis_servers import RedisServer, ServerFailed
from security.test_rights import PASSWORD, RULE, user

from trioqueue import EntityPolicy, Limits, Retry, open_atomic_queues

META = "{tq:0}:meta"


@pytest.fixture(scope="module")
def fit_server() -> Iterator[RedisServer]:
    with RedisServer(appendonly=True, maxmemory=200_000_000) as server:
        yield server


@pytest.fixture
def fit(fit_server: RedisServer) -> RedisServer:
    """A server with which nothing is the matter, emptied."""
    with fit_server.client() as client:
        client.flushall()
    return fit_server


@contextmanager
def configured(server: RedisServer, **settings: object) -> Iterator[str]:
    """Has a server with these settings, for a block, and gives its URL."""
    with server.client() as client:
        names = {name.replace("_", "-"): value for name, value in settings.items()}
        before = {name: client.config_get(name)[name] for name in names}
        for name, value in names.items():
            client.config_set(name, str(value))
        yield server.url
        for name, value in before.items():
            client.config_set(name, value)


async def findings(url: str, cwd: Path) -> dict[str, dict[str, str]]:
    """Checks, and gives what was found by its name; the exit code fits, and no password is shown."""
    ran = await verb("check", "--json", url=url, cwd=cwd)
    assert ran.stderr == ""
    said: dict[str, Any] = json.loads(ran.stdout)
    levels = [one["level"] for one in said["findings"]]
    assert levels == sorted(levels, key=["error", "warning", "hint"].index)
    assert said["well"] is not bool({"error", "warning"}.intersection(levels))
    assert ran.code == (0 if said["well"] else 1)
    assert all(one["what"].endswith(".") and one["remedy"].endswith(".") for one in said["findings"])
    assert PASSWORD not in ran.stdout
    return {one["name"]: one for one in said["findings"]}


def is_one(found: dict[str, dict[str, str]], name: str, level: str, *words: str) -> None:
    """Says that this was found and nothing else."""
    assert list(found) == [name]
    has(found, name, level, *words)


def has(found: dict[str, dict[str, str]], name: str, level: str, *words: str) -> None:
    assert name in found, found
    assert found[name]["level"] == level, found[name]
    text = f"{found[name]['what']} {found[name]['remedy']}"
    assert all(word in text for word in words), text


# ------------------------------------------------------------------------------------ well
async def test_a_fit_server_with_a_fleet_is_well(fit: RedisServer, tmp_path: Path) -> None:
    async with Works().open(fit.url) as queues:
        await queues.call(Switch("hall", "on"))
        ran = await verb("check", url=fit.url, cwd=tmp_path)

    assert (ran.code, ran.stderr) == (0, "")
    assert ran.lines[0] == "Looked at, and well:"
    assert ran.lines[-1] == "It is well."
    for said in (
        "It is Redis",
        "may do all",
        "noeviction",
        "append-only file (always)",
        "every 1 s",
        "fan, lamp",
        "ms apart",
    ):
        assert said in ran.stdout


async def test_it_changes_nothing(fit: RedisServer, tmp_path: Path) -> None:
    assert await findings(fit.url, tmp_path) == {}

    with fit.client() as client:
        assert client.dbsize() == 0


async def test_what_is_wrong_comes_with_its_remedy(fit: RedisServer, tmp_path: Path) -> None:
    with configured(fit, maxmemory_policy="allkeys-lru", timeout=300) as url:
        ran = await verb("check", url=url, cwd=tmp_path)

    assert (ran.code, ran.stderr) == (1, "")
    assert ran.lines[0] == "error: eviction"
    assert "Set maxmemory-policy noeviction" in ran.stdout.partition("hint: timeout")[0]
    assert ran.lines[-1] == "1 error, 1 hint."


# ------------------------------------------------------------------------------------ nobody, or somebody else
async def test_nobody_is_there(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"redis://:{PASSWORD}@127.0.0.1:{unused.getsockname()[1]}"
        is_one(await findings(url, tmp_path), "connection", "error", "Connection refused", "Start it")


async def test_a_url_that_is_none(tmp_path: Path) -> None:
    is_one(await findings("redis://localhost/zero", tmp_path), "url", "error", "redis://host:port/0")


async def test_a_wrong_password(tmp_path: Path) -> None:
    with RedisServer(requirepass="secret") as server:
        for who in ("", f":{PASSWORD}@", f"somebody:{PASSWORD}@"):
            found = await findings(f"redis://{who}127.0.0.1:{server.port}", tmp_path)
            is_one(found, "password", "error", "in the URL")


async def test_something_that_is_no_redis(tmp_path: Path) -> None:
    async with scripted(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n") as url:
        is_one(await findings(url, tmp_path), "connection", "error", "no Redis")


async def test_an_old_redis(tmp_path: Path) -> None:
    """One before 6, which has no HELLO, is asked on all the same."""
    facts = "redis_version:5.0.14\r\nmaxmemory_policy:allkeys-lru\r\nmaxmemory:0\r\nused_memory:1\r\n"
    async with open_talker({b"INFO": info(facts)}) as url:
        found = await findings(url, tmp_path)

    has(found, "version", "error", "5.0.14", "6.2 or newer")
    has(found, "eviction", "error")


async def test_no_such_database(fit: RedisServer, tmp_path: Path) -> None:
    is_one(await findings(f"{fit.url}/99", tmp_path), "database", "error", "number")


# ------------------------------------------------------------------------------------ settings
@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
async def test_eviction(fit: RedisServer, tmp_path: Path, policy: str) -> None:
    with configured(fit, maxmemory_policy=policy) as url:
        is_one(await findings(url, tmp_path), "eviction", "error", policy, "noeviction")


@pytest.mark.parametrize(
    ("appendonly", "options", "level", "says"),
    [
        (False, {}, "error", "nothing on disk"),
        (False, {"save": "900 1"}, "warning", "save 900 1"),
        (True, {"appendfsync": "no"}, "warning", "appendfsync no"),
    ],
)
async def test_persistence(
    tmp_path: Path, appendonly: bool, options: dict[str, str], level: str, says: str
) -> None:
    with RedisServer(appendonly=appendonly, maxmemory=200_000_000, options=options) as server:
        is_one(await findings(server.url, tmp_path), "persistence", level, says, "appendfsync everysec")


async def test_a_disk_that_takes_nothing(tmp_path: Path) -> None:
    (folder := tmp_path / "data").mkdir()
    with RedisServer(options={"save": "900 1", "dir": str(folder)}) as server, server.client() as client:
        shutil.rmtree(folder)
        client.bgsave()
        await until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")
        found = await findings(server.url, tmp_path)

    has(found, "disk", "error", "takes nothing", "Make room")


async def test_memory(fit: RedisServer, tmp_path: Path) -> None:
    with fit.client() as client:
        client.eval("for i = 1, 2000 do redis.call('SET', i, string.rep('-', 10000)) end", 0)
        # What is on its way to the disk is in memory too, and soon no more.
        await until(lambda: not client.info("persistence")["aof_buffer_length"])
        used = client.info("memory")["used_memory"]
    for limit, level, says in (
        (0, "hint", "no maxmemory"),
        (round(used / 0.95), "warning", "nearly full"),
        (1, "error", "StoreFull"),
    ):
        with configured(fit, maxmemory=limit) as url:
            is_one(await findings(url, tmp_path), "memory", level, says)


async def test_idle_connections_are_cut(fit: RedisServer, tmp_path: Path) -> None:
    for seconds, level in ((300, "hint"), (1, "warning")):
        with configured(fit, timeout=seconds) as url:
            is_one(await findings(url, tmp_path), "timeout", level, f"idle for {seconds} s", "timeout 0")


async def test_few_connections_are_left(fit: RedisServer, tmp_path: Path) -> None:
    with configured(fit, maxclients=20) as url, ExitStack() as stack:
        for _ in range(17):
            stack.enter_context(fit.client()).ping()
        is_one(await findings(url, tmp_path), "clients", "warning", "takes 20")


async def test_a_script_without_end(fit: RedisServer, tmp_path: Path) -> None:
    with configured(fit, lua_time_limit=10) as url, fit.client() as client, fit.client() as other:

        def spin() -> None:
            with suppress(redis.ResponseError):
                other.eval("while true do end", 0)

        def busy() -> bool:
            try:
                client.ping()
            except redis.ResponseError:
                return True
            return False

        thread = threading.Thread(target=spin)
        thread.start()
        try:
            await until(busy)
            found = await findings(url, tmp_path)
        finally:
            client.script_kill()
            thread.join()

    is_one(found, "busy", "error", "SCRIPT KILL")


# ------------------------------------------------------------------------------------ who we are
async def test_rights_that_are_missing_are_named(fit: RedisServer, tmp_path: Path) -> None:
    lacking = {"+zincrby", "+lpush", "+script|load", "+subscribe"}
    with user(fit, *(one for one in RULE if one not in lacking), "+config|get") as url:
        is_one(await findings(url, tmp_path), "rights", "error", *lacking, "ACL SETUSER")


async def test_info_that_is_denied_stops_nothing(fit: RedisServer, tmp_path: Path) -> None:
    with user(fit, *(one for one in RULE if one not in {"+info", "+zadd"})) as url:
        has(await findings(url, tmp_path), "rights", "error", "+info", "+zadd")


@pytest.mark.parametrize("pattern", ["~{other:*", "&{other:*"])
async def test_keys_and_channels_out_of_reach_are_named(
    fit: RedisServer, tmp_path: Path, pattern: str
) -> None:
    rules = [pattern if one.startswith(pattern[0]) else one for one in RULE]
    with user(fit, *rules, "+config|get") as url:
        found = await findings(url, tmp_path)
    has(found, "rights", "error", f"{pattern[0]}{{tq:*")
    assert ("Check again" in found["rights"]["remedy"]) is (pattern[0] == "~"), (
        "what scripts call is not known yet"
    )


async def test_settings_that_are_denied_are_a_hint(fit: RedisServer, tmp_path: Path) -> None:
    with user(fit, *RULE) as url:
        is_one(await findings(url, tmp_path), "settings", "hint", "appendfsync", "+config|get")


# ------------------------------------------------------------------------------------ which server
async def test_a_replica(tmp_path: Path) -> None:
    with RedisServer(appendonly=True, maxmemory=200_000_000) as primary:
        where = f"127.0.0.1 {primary.port}"
        options = {"replicaof": where, "repl-diskless-sync-delay": "0"}
        with RedisServer(appendonly=True, maxmemory=200_000_000, options=options) as replica:
            with primary.client() as client:
                await until(lambda: client.info("replication").get("slave0", {}).get("state") == "online")
            of_replica = await findings(replica.url, tmp_path)
            of_primary = await findings(primary.url, tmp_path)
            with configured(primary, min_replicas_to_write=1) as url:
                safe = await findings(url, tmp_path)
            with configured(primary, min_replicas_to_write=2) as url:
                too_few = await findings(url, tmp_path)

    is_one(of_replica, "role", "error", f"127.0.0.1:{primary.port}", "primary")
    is_one(of_primary, "replicas", "hint", "min-replicas-to-write")
    assert safe == {}
    is_one(too_few, "replicas", "error", "takes nothing", "is 2")


async def test_a_cluster(tmp_path: Path) -> None:
    with ExitStack() as stack:
        for _ in range(20):  # its second port is 10,000 above the first, and may not exist
            with suppress(ServerFailed):
                options = {"cluster-enabled": "yes"}
                server = stack.enter_context(RedisServer(appendonly=True, options=options))
                break
        found = await findings(server.url, tmp_path)

    has(found, "cluster", "error", "without cluster-enabled")


async def test_a_clock_that_differs(fit: RedisServer, tmp_path: Path) -> None:
    for ahead, says in ((90, "ahead of"), (-90, "behind")):
        async with open_ahead(fit.port, ahead) as url:
            found = await findings(url, tmp_path)
        has(found, "clock", "warning", says, "NTP")


async def test_a_clock_that_was_set_back(fit: RedisServer, tmp_path: Path) -> None:
    async with Works().open(fit.url):
        pass
    with fit.client() as client:
        later = int(client.hget(META, "incarnations") or 0) + 3_600_000_000
        client.hset(META, "incarnations", later)

    has(await findings(fit.url, tmp_path), "clock-set-back", "warning", "NTP")


async def test_a_long_way(fit: RedisServer, tmp_path: Path) -> None:
    for delay, level in ((0.005, "hint"), (0.06, "warning")):
        async with open_proxy(fit.port) as proxy:
            proxy.delay = delay
            is_one(await findings(proxy.url, tmp_path), "round-trip", level, "in its zone")


# ------------------------------------------------------------------------------------ what is stored
@pytest.mark.parametrize("field", ["layout", "partitions"])
async def test_another_layout(fit: RedisServer, tmp_path: Path, field: str) -> None:
    async with Works().open(fit.url):
        pass
    with fit.client() as client:
        client.hset(META, field, 99)

    is_one(await findings(fit.url, tmp_path), "layout", "error", f"{field} 99", "another prefix")


async def test_keys_of_another_program(fit: RedisServer, tmp_path: Path) -> None:
    for key in (META, "{tq:0}:owned"):
        with fit.client() as client:
            client.flushall()
            client.set(key, "a string")
        is_one(await findings(fit.url, tmp_path), "keys", "error", key)


async def test_another_prefix_is_another_place(fit: RedisServer, tmp_path: Path) -> None:
    with fit.client() as client:
        client.hset(META, "layout", 99)
    ran = await verb("check", "--prefix", "other", url=fit.url, cwd=tmp_path)

    assert (ran.code, ran.lines[-1]) == (0, "It is well.")


# ------------------------------------------------------------------------------------ the fleet
async def test_work_that_nobody_serves(fit: RedisServer, tmp_path: Path) -> None:
    async with open_atomic_queues(fit.url) as sender:
        await sender.send_many([Switch("a", "on"), Switch("b", "on")])

    is_one(await findings(fit.url, tmp_path), "unserved", "warning", "2 entities of lamp", "registry")


async def test_work_that_nobody_has_room_for(fit: RedisServer, tmp_path: Path) -> None:
    works = Works()
    works.closed = {"on"}
    async with works.open(fit.url, limits=Limits(owned=1)) as queues:
        await queues.send(Switch("a", "on"))
        await works.wait_started("on")
        await queues.send(Switch("b", "off"))
        found = await findings(fit.url, tmp_path)
        works.gates["on"].set()

    is_one(found, "room", "warning", "1 entity of lamp", "Limits.owned")


async def test_a_type_that_is_paused(fit: RedisServer, tmp_path: Path) -> None:
    async with Works().open(fit.url) as queues:
        await queues.pause("lamp")
        await queues.send(Switch("a", "on"))
        is_one(await findings(fit.url, tmp_path), "held", "hint", "trioqueue resume lamp")


async def test_dead_letters(fit: RedisServer, tmp_path: Path) -> None:
    works = Works()
    works.jammed = {"on"}
    async with works.open(fit.url, entities={"lamp": EntityPolicy(retry=Retry(attempts=1))}) as queues:
        await queues.send(Switch("a", "on"))
        await queues.wait_settled()
        is_one(await findings(fit.url, tmp_path), "dead-letters", "hint", "1 command of lamp", "dead ls lamp")


POD = """
import sys, trio
from lamps import Works
from trioqueue import Lease

async def main():
    lease = Lease(ttl=0.2, heartbeat=0.05, grace=0.1)
    async with Works().open(sys.argv[1], "victim", lease=lease) as queues:
        await queues.serve()

trio.run(main)
"""


async def test_a_pod_that_is_silent(fit: RedisServer, tmp_path: Path) -> None:
    async with open_atomic_queues(fit.url) as looker:

        async def wait_state(wanted: str) -> None:
            with trio.fail_after(PATIENCE):
                while [pod.state for pod in await looker.pods()] != [wanted]:  # noqa: ASYNC110  pods of other processes set no Event
                    await trio.sleep(0.01)

        pod = await trio.lowlevel.open_process([sys.executable, "-c", POD, fit.url], env=environment())
        try:
            await wait_state("serving")
        finally:
            pod.kill()
            await pod.wait()
        await wait_state("silent")

    is_one(await findings(fit.url, tmp_path), "silent-pod", "warning", "victim", "fan lamp")


async def test_a_quarantine(fit: RedisServer, tmp_path: Path) -> None:
    async with Works().open(fit.url):
        with fit.client() as client:
            seconds, _ = client.time()
            client.hset(META, "quarantine_until", (seconds + 600) * 1_000_000)
        found = await findings(fit.url, tmp_path)

    is_one(found, "quarantine", "hint", "restarted")
