import time
from collections import deque

import attrs
import trio
import trio.testing

from trioqueue.stores.redis.backlog import Request
from trioqueue.stores.redis.silence import SilenceWatch

LIMIT = 0.05


@attrs.define
class FakeWire:
    moved_at: float = 0.0

    async def send(self, data: bytes) -> None:
        raise NotImplementedError

    async def receive(self) -> bytes:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


def request() -> Request:
    return Request(b"", lambda _: None, None, 0.0)


async def test_finds_silence_after_the_limit_and_not_before() -> None:
    in_flight = deque([request()])
    watch = SilenceWatch(in_flight, LIMIT)
    begun = time.monotonic()
    watch.begin()

    assert await watch.wait(FakeWire()) == "no answer for 0.05 s"
    assert time.monotonic() - begun >= LIMIT


async def test_each_sign_of_life_counts_anew() -> None:
    watch, wire = SilenceWatch(deque([request()]), LIMIT), FakeWire()
    watch.begin()
    begun = time.monotonic()
    wire.moved_at = begun + 3 * LIMIT  # as if bytes will have moved until then

    await watch.wait(wire)

    assert time.monotonic() - begun >= 4 * LIMIT


async def test_with_nothing_in_flight_there_is_no_silence_until_something_is_asked() -> None:
    in_flight: deque[Request] = deque()
    watch, doubts = SilenceWatch(in_flight, LIMIT), list[str]()

    async def wait() -> None:
        doubts.append(await watch.wait(FakeWire(moved_at=-1000.0)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked(3 * LIMIT)
        assert doubts == []

        begun = time.monotonic()
        watch.begin()
        in_flight.append(request())

    assert len(doubts) == 1
    assert time.monotonic() - begun >= LIMIT


async def test_what_came_while_the_process_stood_still_is_read_before_the_verdict() -> None:
    # The watch and the reader wake in one batch, which Trio runs in random order: many, so that each order occurs.
    for _ in range(10):
        watch, wire, doubts = SilenceWatch(deque([request()]), LIMIT), FakeWire(), list[str]()

        async def read(wire: FakeWire = wire) -> None:
            await trio.sleep(LIMIT)
            wire.moved_at = time.monotonic() + 1000.0

        async def wait(
            watch: SilenceWatch = watch, wire: FakeWire = wire, doubts: list[str] = doubts
        ) -> None:
            doubts.append(await watch.wait(wire))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await (
                trio.testing.wait_all_tasks_blocked()
            )  # a machine that stands still does so before silence counts
            watch.begin()
            nursery.start_soon(wait)
            time.sleep(1.5 * LIMIT)  # noqa: ASYNC251  the process stands still
            await trio.testing.wait_all_tasks_blocked()
            assert doubts == []
            nursery.cancel_scope.cancel()
