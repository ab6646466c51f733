"""The monitor, asked over HTTP while real things happen: on Redis, and on a loop that really stands still."""

import threading
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from instruments.scrapes import (
    PATIENCE,
    Answer,
    ask,
    get,
    look,
    new_prometheus,
    until_scraped,
    until_status,
)
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from redis_servers import RedisServer

from trioqueue import (
    AtomicQueues,
    CallFailed,
    Closed,
    Command,
    EntityPolicy,
    Lease,
    Limits,
    Registry,
    Retry,
    command,
    entity_id,
    open_atomic_queues,
)
from trioqueue.instruments import CannotListen, Prometheus, open_monitor

SHORT = Lease(ttl=0.6, heartbeat=0.2, grace=0.3)
POLICIES = {
    "lamp": EntityPolicy(retry=Retry(attempts=2, wait_first=0.01, jitter=False)),
    "door": EntityPolicy(idle_timeout=0.02),
}
QUICK: dict[str, Any] = {"port": 0, "every": 0.05}


@command("lamp")
class Switch(Command):
    lamp_id: str = entity_id()
    deed: str = ""


@command("door")
class Open(Command):
    door_id: str = entity_id()


class Works:
    """The handlers of one test."""

    def __init__(self) -> None:
        self.gate = trio.Event()
        self.started = trio.Event()
        self.block = lambda: None  # what a handler does that blocks

    def registry(self) -> Registry:
        registry = Registry()

        @registry.handles(Switch)
        async def switch(command: Switch) -> None:
            self.started.set()
            match command.deed:
                case "wait":
                    await self.gate.wait()
                case "fail":
                    raise OSError
                case "block":
                    self.block()

        @registry.handles(Open)
        async def open_(command: Open) -> None:
            pass

        return registry

    @asynccontextmanager
    async def open(self, url: str, **options: Any) -> AsyncGenerator[AtomicQueues]:
        async with open_atomic_queues(
            url, registry=self.registry(), **{"entities": POLICIES, **options}
        ) as queues:
            yield queues


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server of our own, to freeze and to stop."""
    with RedisServer(appendonly=True) as one:
        yield one


@pytest.fixture(params=["memory", "redis"])
def url(request: pytest.FixtureRequest, clean_redis: RedisServer) -> str:
    return "memory://" if request.param == "memory" else clean_redis.url


def monitors() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("monitor")]


# ------------------------------------------------------------------------------------ alive and ready
async def test_all_is_well(url: str) -> None:
    async with Works().open(url) as queues, open_monitor(queues, port=0) as bound:
        assert bound[0] == "127.0.0.1"
        assert await get(bound, "/live") == Answer(200, "ok\n", "text/plain; charset=utf-8")
        assert await get(bound, "/ready?verbose") == Answer(200, "ok\n", "text/plain; charset=utf-8")
        assert await get(bound, "/metrics") == Answer(
            404, "There is /live, /ready here.\n", "text/plain; charset=utf-8"
        )
        head = await trio.to_thread.run_sync(lambda: ask(bound, "/ready", method="HEAD"))
        assert (head.status, head.text) == (200, "")
        assert not queues._instruments.active, "nothing is told, and nothing is paid for it"
    async with open_atomic_queues(url) as sender, open_monitor(sender, port=0) as bound:
        assert (await get(bound, "/ready")).status == 200, "who only sends needs no lease"


async def test_a_pod_without_a_lease_is_not_ready(server: RedisServer) -> None:
    prometheus = new_prometheus()
    async with (
        Works().open(server.url, lease=SHORT, instruments=[prometheus]) as queues,
        open_monitor(queues, prometheus=prometheus, **QUICK) as bound,
    ):
        scrape = await until_scraped(
            bound, lambda scrape: scrape.value("pods") == 1 and (scrape.value("lease_left_seconds") or 0) > 0
        )
        assert (scrape.value("lease_left_seconds") or 0) <= SHORT.ttl
        before = scrape.value("leases_lost_total")  # so short a lease is lost on a busy machine too
        assert before is not None
        server.pause()
        try:
            said = await until_status(bound, "/ready", 503)
            assert said == (
                "This pod has no lease that can be trusted: it handles nothing until it has joined anew.\n"
            )
            assert (await get(bound, "/live")).status == 200, "to end it would help nobody"
            await until_scraped(
                bound,
                lambda scrape: (
                    (scrape.value("leases_lost_total") or 0) > before
                    and scrape.value("lease_left_seconds") == 0
                ),
            )
            await until_scraped(bound, lambda scrape: scrape.value("pods") is None)  # it may be wrong by now
        finally:
            server.resume()
        assert await until_status(bound, "/ready", 200) == "ok\n"
        await until_scraped(bound, lambda scrape: (scrape.value("lease_left_seconds") or 0) > 0)
        await queues.call(Switch("a"))


async def test_a_sender_without_redis_is_not_ready(server: RedisServer) -> None:
    prometheus = new_prometheus()
    async with (
        open_atomic_queues(server.url, limits=Limits(unanswered=0.1), instruments=[prometheus]) as queues,
        open_monitor(queues, prometheus=prometheus, **QUICK) as bound,
    ):
        await until_scraped(bound, lambda scrape: scrape.value("pods") == 0)
        server.stop()
        said = await until_status(bound, "/ready", 503)
        assert said == "The link to Redis is down: it is opened anew as soon as Redis is there.\n"
        await until_scraped(bound, lambda scrape: scrape.value("pods") is None)
        server.restart()
        assert await until_status(bound, "/ready", 200) == "ok\n"
        scrape = await until_scraped(bound, lambda scrape: scrape.value("pods") == 0)
        assert scrape.value("lease_left_seconds") is None


async def test_a_pod_that_drains_is_not_ready(url: str) -> None:
    """Where the monitor outlives the queues, it tells of their end too."""
    works, prometheus = Works(), new_prometheus()

    async def watch(queues: AtomicQueues, *, task_status: trio.TaskStatus[tuple[str, int]]) -> None:
        async with open_monitor(queues, prometheus=prometheus, **QUICK) as bound:
            task_status.started(bound)
            await trio.sleep_forever()

    async def end(bound: tuple[str, int]) -> None:
        assert await until_status(bound, "/ready", 503) == "This pod drains: it begins nothing new.\n"
        works.gate.set()

    async with trio.open_nursery() as nursery:
        async with works.open(url, instruments=[prometheus]) as queues:
            bound = await nursery.start(watch, queues)
            await queues.send(Switch("a", "wait"))
            await works.started.wait()
            nursery.start_soon(end, bound)
        assert await until_status(bound, "/ready", 503) == "The queues are closed.\n"
        assert (await get(bound, "/live")).status == 200
        scrape = await until_scraped(bound, lambda _: True)
        assert scrape.value("handoffs_total", "lamp") == 1
        assert scrape.value("workers", "lamp") == 0
        nursery.cancel_scope.cancel()


async def test_a_loop_that_stands_still_is_told_by_who_is_outside_of_it(url: str) -> None:
    works, prometheus = Works(), new_prometheus()
    told: list[Answer] = []

    def block() -> None:
        """Blocks until somebody outside has seen it."""

        def see() -> None:
            for path in ("/live", "/ready"):
                while (answer := ask(bound, path)).status == 200:
                    pass
                told.append(answer)
            told.append(ask(bound, "/metrics"))

        thread = threading.Thread(target=see, daemon=True)
        thread.start()
        thread.join(PATIENCE)

    works.block = block
    async with (
        works.open(url, instruments=[prometheus]) as queues,
        open_monitor(queues, prometheus=prometheus, stuck_after=0.5, **QUICK) as bound,
    ):
        await until_status(bound, "/live", 200)
        await queues.call(Switch("a", "block"))
        live, ready, metrics = told
        assert live.status == ready.status == 503
        assert live.text.startswith("The event loop has stood still for ")
        assert live.text.endswith(" s: a handler blocks it, or the machine is overloaded.\n")
        assert metrics.status == 200
        assert await until_status(bound, "/live", 200) == "ok\n"
        assert await until_status(bound, "/ready", 200) == "ok\n"
        await until_scraped(bound, lambda scrape: (scrape.value("loop_lag_seconds_sum") or 0) > 0.2)


# ------------------------------------------------------------------------------------ metrics
async def test_what_there_is_in_the_fleet_is_sampled(url: str) -> None:
    works, prometheus = Works(), new_prometheus()
    async with (
        works.open(url, instruments=[prometheus]) as queues,
        open_monitor(queues, prometheus=prometheus, **QUICK) as bound,
    ):
        await until_scraped(bound, lambda scrape: scrape.value("pods") == 1)
        await queues.send_many([Switch("a", "wait"), *[Switch("a")] * 3, Switch("b", "wait")])
        await queues.send(Switch("c"), delay=600)
        with pytest.raises(CallFailed):
            await queues.call(Switch("d", "fail"))
        scrape = await until_scraped(
            bound, lambda scrape: (scrape.value("pending", "lamp"), scrape.value("dead_letters")) == (5, 1)
        )
        assert scrape.value("deepest_mailbox", "lamp") == 4
        assert 0 < (scrape.value("oldest_waiting_seconds", "lamp") or 0) < PATIENCE
        assert scrape.value("put_off") == 1
        assert scrape.value("entities_owned") == 3
        assert scrape.value("ready") == scrape.value("held") == 0
        await queues.pause("door")
        await queues.send(Open("a"))
        await until_scraped(bound, lambda scrape: scrape.value("held") == 1)
        await queues.resume("door")
        works.gate.set()
        await queues.wait_settled()
        scrape = await until_scraped(bound, lambda scrape: scrape.value("pending", "lamp") == 0)
        assert scrape.value("oldest_waiting_seconds", "lamp") == 0


async def test_entities_that_no_pod_takes_are_seen(url: str) -> None:
    prometheus = new_prometheus()
    async with (
        open_atomic_queues(url, instruments=[prometheus]) as queues,
        open_monitor(queues, prometheus=prometheus, **QUICK) as bound,
    ):
        await queues.send(Switch("a"))
        scrape = await until_scraped(bound, lambda scrape: scrape.value("ready") == 1)
        assert scrape.value("pods") == 0
        assert scrape.value("pending", "lamp") == 1


async def test_everything_moves_on_redis(clean_redis: RedisServer) -> None:
    works, prometheus = Works(), new_prometheus()
    async with (
        works.open(clean_redis.url, instruments=[prometheus]) as queues,
        open_monitor(queues, prometheus=prometheus, **QUICK) as bound,
    ):
        before = await until_scraped(bound, lambda scrape: scrape.value("pods") == 1)
        for _ in range(10):
            await queues.call(Open("a"))
        await until_scraped(bound, lambda scrape: (scrape.value("passivations_total", "door") or 0) > 0)
        with pytest.raises(CallFailed):
            await queues.call(Switch("b", "fail"))
        works.started = trio.Event()
        await queues.send(Switch("a", "wait"))
        await works.started.wait()
        await queues.purge("lamp", "a")
        works.gate.set()
        scrape = await until_scraped(bound, lambda scrape: scrape.value("fenced_commits_total", "lamp") == 1)
        assert scrape.value("sent_total", "door", "open") == 10
        assert scrape.value("handled_total", "door", "open", "done") == 10
        assert scrape.value("handling_seconds_count", "door", "open") == 10
        assert scrape.value("waiting_seconds_count", "door", "open") == 10
        assert scrape.value("call_seconds_count", "door", "open", "done") == 10
        assert scrape.value("failures_total", "lamp", "switch") == 1
        assert scrape.value("dead_total", "lamp", "switch") == 1
        assert scrape.value("claims_total", "lamp") == 2
        assert scrape.value("workers", "lamp") == 2 - (scrape.value("handoffs_total", "lamp") or 0)
        assert await until_scraped(bound, lambda scrape: (scrape.value("loop_lag_seconds_count") or 0) > 0)
        asked = (scrape.value("redis_requests_total") or 0) - (before.value("redis_requests_total") or 0)
        assert asked >= 20, "each call is a send and a commit"
        await queues.pause("lamp", "c")
        await queues.send(Switch("c"))
        await queues.pause("lamp", "b")
        await queues.pause("lamp")
        await queues.send(Switch("d"))
    after = look(prometheus)
    assert after.value("handoffs_total", "lamp") == 2, "it drained"
    assert after.value("lease_left_seconds") is None
    assert (after.value("redis_requests_total") or 0) >= (scrape.value("redis_requests_total") or 0)


async def test_requests_are_counted_over_all_queues(clean_redis: RedisServer) -> None:
    prometheus = new_prometheus()
    for _ in range(2):
        before = look(prometheus).value("redis_requests_total") or 0
        async with (
            open_atomic_queues(clean_redis.url) as queues,
            open_monitor(queues, prometheus=prometheus, port=0),
        ):
            await queues.statistics()
            assert (look(prometheus).value("redis_requests_total") or 0) > before


async def test_scrapes_go_on_while_everything_moves(url: str) -> None:
    """A scrape is made in another thread than the counting."""
    prometheus = new_prometheus()
    async with (
        Works().open(url, instruments=[prometheus]) as queues,
        open_monitor(queues, prometheus=prometheus, **QUICK) as bound,
        trio.open_nursery() as nursery,
    ):

        async def work() -> None:
            for number in range(200):
                await queues.call(Switch(f"{number % 7}"))

        nursery.start_soon(work)
        await until_scraped(
            bound, lambda scrape: scrape.value("handled_total", "lamp", "switch", "done") == 200
        )


async def test_metrics_that_cannot_be_written_are_an_error(caplog: pytest.LogCaptureFixture) -> None:
    """Another collector of the same registry fails."""

    class Fails(Collector):
        def collect(self) -> Iterable[Metric]:
            raise OSError("no such sensor")

    registry = CollectorRegistry(auto_describe=False)
    prometheus = Prometheus(registry)
    registry.register(Fails())
    async with (
        open_atomic_queues("memory://", registry=Works().registry()) as queues,
        open_monitor(queues, prometheus=prometheus, port=0) as bound,
    ):
        answer = await get(bound, "/metrics")

        assert answer.status == 500
        assert "sensor" not in answer.text
        assert (await get(bound, "/live")).status == 200
    assert "OSError: no such sensor" in caplog.text


# ------------------------------------------------------------------------------------ its life
async def test_it_ends_with_its_block() -> None:
    async with open_atomic_queues("memory://") as queues:
        async with open_monitor(queues, port=0) as bound:
            assert monitors() == [f"monitor {bound[1]}"]
        assert not monitors()
        async with open_monitor(queues, port=bound[1]) as again:
            assert again == bound
            assert (await get(again, "/live")).status == 200
        with trio.move_on_after(PATIENCE) as scope:
            async with open_monitor(queues, port=0):
                scope.cancel()
                await trio.sleep_forever()
        assert not monitors()
        with pytest.raises(KeyError):
            async with open_monitor(queues, port=0, prometheus=new_prometheus()):
                raise KeyError
        assert not monitors()


async def test_it_listens_where_it_is_told_to() -> None:
    async with open_atomic_queues("memory://") as queues:
        for host in ("localhost", "::1", "0.0.0.0"):
            async with open_monitor(queues, host=host, port=0) as (_, port):
                assert (await get((host.replace("0.0.0.0", "127.0.0.1"), port), "/live")).status == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "no.such.host.invalid", "203.0.113.1"])
async def test_a_place_where_it_cannot_listen_is_one_sentence(host: str) -> None:
    async with open_atomic_queues("memory://") as queues, open_monitor(queues, port=0) as (_, port):
        with pytest.raises(CannotListen) as caught:
            async with open_monitor(queues, host=host, port=port):
                pass
        said = str(caught.value)
        assert said.startswith(f"The monitor can't listen on {host}:{port} (")
        assert said.endswith("): end what listens there, or give another host or port.")
        assert len(monitors()) == 1
        with pytest.raises(CannotListen):
            async with open_monitor(queues, port=70_000):
                pass


@pytest.mark.parametrize("wrong", [{"every": 0}, {"every": -1.0}, {"stuck_after": 0.0}])
async def test_intervals_are_above_zero(wrong: dict[str, float]) -> None:
    async with open_atomic_queues("memory://") as queues:
        with pytest.raises(ValueError, match="above 0"):
            async with open_monitor(queues, port=0, **wrong):  # type: ignore[arg-type]
                pass


async def test_a_client_that_says_nothing_holds_nobody_up() -> None:
    async with (
        open_atomic_queues("memory://") as queues,
        open_monitor(queues, port=0) as bound,
        await trio.open_tcp_stream(*bound) as silent,
        await trio.open_tcp_stream(*bound) as rude,
    ):
        await silent.send_all(b"GET /li")
        await rude.send_all(b"\x00\xff nonsense\r\n\r\n")
        assert (await get(bound, "/live")).status == 200


async def test_closed_queues_end_its_samples_and_not_itself() -> None:
    prometheus = new_prometheus()
    async with open_atomic_queues("memory://") as queues:
        pass
    async with open_monitor(queues, prometheus=prometheus, **QUICK) as bound:
        assert await until_status(bound, "/ready", 503) == "The queues are closed.\n"
        assert (await get(bound, "/metrics")).status == 200
    with pytest.raises(Closed):
        await queues.statistics()


def test_it_can_be_had_without_prometheus_client() -> None:
    assert (
        Prometheus.__module__ == open_monitor.__module__ == CannotListen.__module__ == "trioqueue.instruments"
    )
