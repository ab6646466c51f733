"""What is said of what was seen, where no server here can show it; the rest is in `tests/cli/test_check.py`."""

from typing import Any

import attrs
import pytest
import redis.exceptions

from trioqueue.stores.redis.diagnosis import diagnose, first_refusal
from trioqueue.stores.redis.findings import LEVELS, Clock, Seen, size

INFO = {
    "redis_version": "8.2.3",
    "role": "master",
    "maxmemory": "2000",
    "used_memory": "1000",
    "maxmemory_policy": "noeviction",
    "aof_enabled": "1",
}
WELL = Seen("redis://localhost:6379/0", info=INFO, settings={}, lacking=(), clock=Clock(1, 0.0, 0.0001))


def told(**seen: Any) -> dict[str, tuple[str, str]]:
    """What is told of a server with which only this is the matter: name -> level and text."""
    info = INFO | seen.pop("info", {})
    found = diagnose(attrs.evolve(WELL, info=info, **seen))
    assert [one.level for one in found] == sorted((one.level for one in found), key=LEVELS.index)
    return {one.name: (one.level, f"{one.what} {one.remedy}") for one in found if one.level != "well"}


def test_nothing_is_told_where_all_is_well() -> None:
    assert told() == {}


@pytest.mark.parametrize(
    ("name", "level", "says", "seen"),
    [
        ("loading", "error", "38.5 %", {"info": {"loading": "1", "loading_loaded_perc": "38.5"}}),
        ("disk", "error", "append-only", {"info": {"aof_last_write_status": "err"}}),
        ("disk", "warning", "snapshot failed.", {"info": {"rdb_last_bgsave_status": "err"}}),
        ("version", "error", "6.2 or newer", {"info": {"redis_version": "6.0.16"}}),
        ("version", "error", "does not name", {"info": {"redis_version": ""}}),
        (
            "replicas",
            "warning",
            "1 replica (10.0.0.7:6379) is behind",
            {"info": {"slave0": "ip=10.0.0.7,port=6379,state=online,offset=9,lag=61"},
             "settings": {"min-replicas-to-write": "1"}},
        ),
        (
            "replicas",
            "warning",
            "2 replicas",
            {"info": {f"slave{n}": f"ip=a{n},port=1,state=wait_bgsave,offset=0,lag=0" for n in range(2)},
             "settings": {"min-replicas-to-write": "1"}},
        ),
        ("persistence", "warning", "snapshots at most", {"info": {"aof_enabled": "0"}, "settings": None}),
        ("clock", "warning", "2.0 s behind", {"clock": Clock(1, -2.0, 0.001)}),
        ("writing", "error", "MISCONF Errors", {"trouble": "MISCONF Errors writing to the AOF file"}),
        ("connection", "error", "broke before all", {"broken": "the server closed the connection"}),
    ],
)  # fmt: skip
def test_it_is_told(name: str, level: str, says: str, seen: dict[str, Any]) -> None:
    found = told(**seen)
    if seen.get("settings", {}) is None:
        assert found.pop("settings")[0] == "hint"

    assert list(found) == [name]
    assert found[name][0] == level
    assert says in found[name][1]


def test_a_clock_that_may_be_right_is_not_blamed() -> None:
    """What took three seconds to answer may have been read at any moment of them."""
    assert "clock" not in told(clock=Clock(1, 1.4, 3.0))


def test_trouble_that_is_told_already_is_not_told_twice() -> None:
    assert list(
        told(info={"role": "slave"}, trouble="READONLY You can't write against a read only replica.")
    ) == ["role"]


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("AuthenticationError: WRONGPASS invalid username-password pair", "password"),
        ("ResponseError: DENIED Redis is running in protected mode because", "password"),
        ("ConnectionError: max number of clients reached", "clients"),
        ("ResponseError: BUSY Redis is busy running a script.", "busy"),
        ("database 99: DB index is out of range", "database"),
        ("what answers there does not greet as a Redis does", "version"),
        ("ResponseError: something else", "connection"),
    ],
)
def test_each_refusal_has_its_name_and_remedy(said: str, name: str) -> None:
    (finding,) = diagnose(Seen("redis://localhost:6379/0", refused=said))
    assert (finding.name, finding.level) == (name, "error")
    assert finding.what.endswith(".")
    assert finding.remedy.endswith(".")


def test_only_a_right_that_is_missing_is_no_refusal_of_all() -> None:
    assert (
        first_refusal(redis.exceptions.NoPermissionError("no permissions to run the 'info' command")) is None
    )
    assert first_refusal({}) is None
    assert "busy" in (first_refusal(redis.exceptions.ResponseError("busy")) or "")


def test_sizes_are_written_in_few_characters() -> None:
    assert [size(one) for one in (0, 1023, 1024, 5_000_000, 2 << 30, 3 << 40)] == [
        "0 bytes", "1023 bytes", "1.0 KiB", "4.8 MiB", "2.0 GiB", "3072.0 GiB",
    ]  # fmt: skip
