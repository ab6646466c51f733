"""What is counted for Prometheus of what happens in a process; the samples of a monitor are tested beside it."""

import re
from pathlib import Path

import attrs
import pytest
import trio
from instruments.scrapes import Scrape, look, new_prometheus
from prometheus_client import CollectorRegistry
from trio.testing import MockClock

import trioqueue.instruments
from trioqueue import (
    CallFailed,
    Command,
    Context,
    Entity,
    EntityPolicy,
    Health,
    Lane,
    Registry,
    Rejected,
    Rejection,
    Retry,
    Statistics,
    command,
    entity_id,
    open_atomic_queues,
)
from trioqueue.instruments import Prometheus
from trioqueue.instruments import prometheus as module
from trioqueue.instruments.counts import BOUNDS
from trioqueue.stores.memory.server import MemoryServer
from trioqueue.stores.memory.store import trio_now_us

POLICIES = {"lamp": EntityPolicy(idle_timeout=2, retry=Retry(attempts=2, wait_first=1, jitter=False))}
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "instruments.md"


@command("lamp")
class Switch(Command[str]):
    lamp_id: str = entity_id()
    deed: str = ""


@command("door")
class Open(Command):
    door_id: str = entity_id()


@attrs.define
class Broken(Rejection):
    pass


def new_registry() -> Registry:
    registry = Registry()

    @registry.handles(Switch)
    async def switch(command: Switch, context: Context) -> str:
        match command.deed:
            case "fail":
                raise OSError
            case "reject":
                raise Broken
            case "send":
                context.send(Open("the door of secrets"))
            case "wait":
                await trio.sleep(3)
        return "on"

    @registry.handles(Open)
    async def open_(command: Open) -> None:
        pass

    return registry


async def test_what_commands_do_is_counted(autojump_clock: MockClock) -> None:
    here, there = new_prometheus(), new_prometheus()
    server = MemoryServer(trio_now_us)
    async with (
        open_atomic_queues(server, registry=new_registry(), entities=POLICIES, instruments=[here]) as pod,
        open_atomic_queues(server, entities=POLICIES, instruments=[there]) as sender,
    ):
        await sender.send_many([Switch("secret one")] * 3)
        await sender.call(Switch("secret one", "send"))
        with pytest.raises(Rejected):
            await sender.call(Switch("secret one", "reject"))
        with pytest.raises(CallFailed):
            await sender.call(Switch("secret one", "fail"))
        with trio.move_on_after(1):
            await sender.call(Switch("secret one", "wait"))
        await pod.wait_settled()
        sent, done = look(there), look(here)
        assert done.value("workers", "lamp") == 1
        await trio.sleep(3)
        assert look(here).value("workers", "lamp") == 0
    assert sent.value("sent_total", "lamp", "switch") == 7
    assert sent.value("call_seconds_count", "lamp", "switch", "done") == 1
    assert sent.value("call_seconds_sum", "lamp", "switch", "dead") == pytest.approx(1, abs=0.1)
    assert sent.labels_of("call_seconds_count") == {
        ("lamp", "switch", outcome) for outcome in ("done", "rejected", "dead", "unanswered")
    }
    assert sent.labels_of("handled_total") == sent.labels_of("claims_total") == set()
    assert done.labels_of("sent_total") == {("door", "open")}, "by the handler"
    handled = {labels[2]: done.value("handled_total", *labels) for labels in done.labels_of("handled_total")}
    assert done.value("handled_total", "door", "open", "done") == 1
    assert {**handled, "done": done.value("handled_total", "lamp", "switch", "done")} == {
        "done": 4,
        "rejected": 1,
        "dead": 1,
        "expired": 1,
    }
    assert done.value("failures_total", "lamp", "switch") == 1, "the last one is its end"
    assert done.value("dead_total", "lamp", "switch") == 1
    assert done.value("dead_total", "door", "open") == 0, "so that its first one makes a difference"
    assert done.value("claims_total", "lamp") == 1
    assert done.value("handling_seconds_count", "lamp", "switch") == 7
    assert done.value("handling_seconds_sum", "lamp", "switch") == pytest.approx(1, abs=0.1)
    assert done.value("waiting_seconds_sum", "lamp", "switch") == pytest.approx(1, abs=0.1), "for its retry"
    after = look(here)
    assert after.value("passivations_total", "lamp") == 1
    assert after.value("handoffs_total", "door") == 1, "it was awake when the pod drained"
    assert "secret" not in done.text + sent.text, "no entity's id is ever told"


async def test_what_happens_to_a_pod_is_counted(autojump_clock: MockClock) -> None:
    prometheus = new_prometheus()
    server = MemoryServer(trio_now_us)
    policies = {"lamp": attrs.evolve(POLICIES["lamp"], on_exhausted="pause")}
    async with open_atomic_queues(
        server, registry=new_registry(), entities=policies, instruments=[prometheus]
    ) as queues:
        await queues.send(Switch("a", "wait"))
        await trio.sleep(1)
        assert look(prometheus).value("fenced_commits_total", "lamp") == 0
        await queues.purge("lamp", "a")
        await trio.sleep(3)
        assert look(prometheus).value("fenced_commits_total", "lamp") == 1
        await queues.send(Switch("b", "fail"))
        await trio.sleep(3)
        assert look(prometheus).value("paused_total", "lamp") == 1
        await queues.send(Switch("c", "wait"))
        await trio.sleep(1)
        assert look(prometheus).value("leases_lost_total") == 0
        server.restart()
        await trio.sleep(10)
        assert look(prometheus).value("leases_lost_total") == 1


def test_every_series_is_documented_and_none_else() -> None:
    """And what is there before anything has happened is not wrong."""
    prometheus = new_prometheus()
    documented = dict(re.findall(r"^\| `(trioqueue_\w+)` \| (\w+) \|", PAGE.read_text(), re.MULTILINE))
    scrape = look(prometheus)
    assert {name: family.type for name, family in scrape.families.items()} == {
        name.removesuffix("_total"): kind for name, kind in documented.items()
    }
    assert {family.name for family in prometheus.collect() if family.samples} == {
        "trioqueue_leases_lost",
        "trioqueue_redis_requests",
    }


def test_the_labels_are_documented() -> None:
    prometheus = new_prometheus()
    lamp = Entity("lamp", "a")
    prometheus.sent("lamp", "switch", 1)
    prometheus.called("lamp", "switch", "done", 0.1)
    prometheus.claimed(lamp)
    prometheus.handled(lamp, "switch", "id", "done", 0.1, 0.1)
    prometheus.lagged(0)
    prometheus.take(Statistics(*range(13)), [Lane("lamp", "a", "owned", "pod", 1, "switch", 2.0)], good_for=9)
    rows = re.findall(r"^\| `(trioqueue_\w+?)(?:_total)?` \| \w+ \|([^|]*)\|", PAGE.read_text(), re.MULTILINE)
    documented = {name: set(re.findall(r"\w+", labels)) for name, labels in rows}
    for family in prometheus.collect():
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == documented[family.name], family.name


@pytest.mark.parametrize(
    ("seconds", "bound"),
    [(0.0, BOUNDS[0]), (BOUNDS[0], BOUNDS[0]), (0.0006, 0.001), (60.0, 60.0), (61.0, float("inf"))],
)
def test_durations_come_into_their_buckets(seconds: float, bound: float) -> None:
    prometheus = new_prometheus()
    for _ in range(3):
        prometheus.called("lamp", "switch", "done", seconds)
        prometheus.handled(Entity("lamp", "a"), "switch", "id", "done", seconds, seconds)
    scrape = look(prometheus)
    expected = [3 if bound <= upper else 0 for upper in (*BOUNDS, float("inf"))]
    assert scrape.buckets("handling_seconds", "lamp", "switch") == expected
    assert scrape.buckets("waiting_seconds", "lamp", "switch") == expected
    assert scrape.buckets("call_seconds", "lamp", "switch", "done") == expected
    assert scrape.value("handling_seconds_count", "lamp", "switch") == 3
    assert scrape.value("handling_seconds_sum", "lamp", "switch") == pytest.approx(3 * seconds)


def handle(prometheus: Prometheus, entity_type: str, name: str) -> None:
    prometheus.handled(Entity(entity_type, "a"), name, "id", "done", 0.1, 0.1)


def test_names_that_senders_invent_are_told_apart_only_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_COMMANDS", 20)
    monkeypatch.setattr(module, "MOST_TYPES", 5)
    prometheus = new_prometheus()
    for number in range(2 * module.MOST_COMMANDS):
        handle(prometheus, "lamp", f"invented-{number}")
    handle(prometheus, "lamp", "invented-0")
    labels = look(prometheus).labels_of("handled_total")
    assert len(labels) == module.MOST_COMMANDS + 1
    assert look(prometheus).value("handled_total", "lamp", "other", "done") == module.MOST_COMMANDS
    assert look(prometheus).value("handled_total", "lamp", "invented-0", "done") == 2
    for number in range(2 * module.MOST_TYPES):
        prometheus.claimed(Entity(f"type-{number}", "a"))
        handle(prometheus, f"type-{number}", "switch")
    scrape = look(prometheus)
    assert len(scrape.labels_of("claims_total")) == module.MOST_TYPES
    assert len(scrape.labels_of("handled_total")) == module.MOST_COMMANDS + 1 + module.MOST_TYPES
    assert scrape.value("handled_total", "other", "other", "done") == module.MOST_TYPES + 1


@pytest.mark.parametrize("name", ["x" * 129, 'a"\n} 1', "\ud800", "ä b"])
def test_what_can_be_no_name_is_no_label(name: str) -> None:
    prometheus = new_prometheus()
    handle(prometheus, "lamp", name)
    prometheus.sent(name, "switch", 1)
    prometheus.take(Statistics(*range(13)), [Lane(name, "a", "owned", "pod", 4, name, 2.0)], good_for=9)
    scrape = look(prometheus)
    assert scrape.labels_of("handled_total") == {("lamp", "other", "done")}
    assert scrape.labels_of("sent_total") == {("other", "switch")}
    assert scrape.value("pending", "other") == 4


def test_what_nobody_can_read_has_a_label_too() -> None:
    prometheus = new_prometheus()
    handle(prometheus, "lamp", "")
    assert look(prometheus).value("handled_total", "lamp", "(undecodable)", "done") == 1


def test_a_sample_that_is_too_old_is_told_no_more() -> None:
    prometheus = new_prometheus()
    lanes = [
        Lane("lamp", "a", "owned", "pod", 3, "switch", 2.0),
        Lane("lamp", "b", "ready", None, 2, "switch", 7.5),
        Lane("door", "a", "paused", None, 1, "open", 0.5),
    ]
    prometheus.take(Statistics(*range(1, 14)), lanes, good_for=60)
    scrape = look(prometheus)
    assert [scrape.value(name, "lamp") for name in DEPTHS] == [5, 7.5, 3]
    assert [scrape.value(name, "door") for name in DEPTHS] == [1, 0.5, 1]
    names = ("pods", "entities_owned", "ready", "held", "dead_letters", "put_off")
    assert [scrape.value(name) for name in names] == [1, 2, 4, 5, 6, 7]
    prometheus.take(Statistics(*range(1, 14)), [], good_for=60)
    assert [look(prometheus).value(name, "lamp") for name in DEPTHS] == [0, 0, 0], "not gone"
    prometheus.take(Statistics(*range(1, 14)), lanes, good_for=0)
    assert [look(prometheus).value(name) for name in names] == [None] * 6
    assert look(prometheus).value("pending", "lamp") is None


DEPTHS = ("pending", "oldest_waiting_seconds", "deepest_mailbox")


def test_requests_are_not_counted_twice_while_their_queues_are_left() -> None:
    """A scrape may be made in the middle of that, by another thread."""
    prometheus = new_prometheus()
    seen: list[float | None] = []

    def health() -> Health:
        if leaving:
            leaving.pop()
            seen.append(look(prometheus).value("redis_requests_total"))
        return Health("open", connected=True, lease_left=None, requests=7)

    leaving: list[None] = []
    with prometheus.watching(health):
        seen.append(look(prometheus).value("redis_requests_total"))
        leaving.append(None)
    seen.append(look(prometheus).value("redis_requests_total"))
    with prometheus.watching(health):
        seen.append(look(prometheus).value("redis_requests_total"))
    assert seen == [7, 7, 7, 14]


def test_queues_that_are_open_side_by_side_are_told_together() -> None:
    prometheus = new_prometheus()

    def told() -> tuple[float | None, float | None]:
        scrape = look(prometheus)
        return scrape.value("redis_requests_total"), scrape.value("lease_left_seconds")

    pod = Health("open", connected=True, lease_left=2.0, requests=7)
    with prometheus.watching(lambda: pod):
        with prometheus.watching(lambda: attrs.evolve(pod, lease_left=0.0, requests=3)):
            assert told() == (10, 0), "the one that has most trouble"
        with prometheus.watching(lambda: attrs.evolve(pod, lease_left=None, requests=5)):
            assert told() == (15, 2)
        assert told() == (15, 2)
    assert told() == (15, None)


def test_two_of_them_need_two_registries() -> None:
    registry = CollectorRegistry()
    Prometheus(registry)
    with pytest.raises(ValueError, match="trioqueue_sent"):
        Prometheus(registry)


def test_it_is_shown_as_openmetrics_to_who_wants_that() -> None:
    prometheus = new_prometheus()
    handle(prometheus, "lamp", "switch")
    text, content_type = prometheus.exposition("application/openmetrics-text; version=1.0.0; charset=utf-8")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert text.endswith(b"# EOF\n")
    assert 'trioqueue_handled_total{command="switch",entity_type="lamp",outcome="done"} 1.0' in text.decode()


def test_it_says_what_it_is() -> None:
    prometheus = new_prometheus()
    handle(prometheus, "lamp", "switch")
    assert repr(prometheus) == "<Prometheus, 1 types, 1 commands>"
    with pytest.raises(AttributeError, match="Graphite"):
        trioqueue.instruments.Graphite  # noqa: B018
    assert Scrape("").families == {}
