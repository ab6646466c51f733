"""Services outlive the body they serve, and errors come out as themselves."""

import pytest
import trio
from trio.testing import MockClock

from trioqueue.stores.service_nursery import open_service_nursery


async def test_a_service_ends_after_the_body(autojump_clock: MockClock) -> None:
    log: list[str] = []

    async def serve() -> None:
        try:
            await trio.sleep_forever()
        finally:
            log.append("service")

    async with open_service_nursery() as services:
        services.start_soon(serve)
        await trio.sleep(1)
        log.append("body")
    assert log == ["body", "service"]


async def test_a_service_serves_the_clean_up_of_a_cancelled_body(autojump_clock: MockClock) -> None:
    served: list[float] = []

    async def serve() -> None:
        while True:
            await trio.sleep(1)
            served.append(trio.current_time())

    with trio.move_on_after(2.5) as scope:
        async with open_service_nursery() as services:
            services.start_soon(serve)
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(3)
    assert scope.cancelled_caught
    assert served == [1, 2, 3, 4, 5]


async def test_an_error_of_the_body_comes_out_as_itself(autojump_clock: MockClock) -> None:
    with pytest.raises(KeyError, match="mine"):  # noqa: PT012 - the block is what is tested
        async with open_service_nursery() as services:
            services.start_soon(trio.sleep_forever)
            raise KeyError("mine")


async def test_a_group_that_the_body_raises_stays_as_it_is(autojump_clock: MockClock) -> None:
    with pytest.RaisesGroup(KeyError):
        async with open_service_nursery() as services:
            services.start_soon(trio.sleep_forever)
            raise ExceptionGroup("mine", [KeyError("mine")])


async def test_the_crash_of_a_service_cancels_the_body_and_comes_out_as_itself(
    autojump_clock: MockClock,
) -> None:
    async def crash() -> None:
        await trio.sleep(1)
        raise KeyError("theirs")

    cleaned_up = False
    with pytest.raises(KeyError, match="theirs"):  # noqa: PT012 - the block is what is tested
        async with open_service_nursery() as services:
            services.start_soon(crash)
            services.start_soon(trio.sleep_forever)
            try:
                await trio.sleep_forever()
            finally:
                cleaned_up = True
    assert cleaned_up


async def test_no_error_hides_another(autojump_clock: MockClock) -> None:
    async def crash_late() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("theirs")

    with pytest.RaisesGroup(KeyError, ValueError):
        async with open_service_nursery() as services:
            services.start_soon(crash_late)
            await trio.sleep(1)
            raise KeyError("mine")


async def test_a_service_started_after_the_end_is_cancelled_at_once(autojump_clock: MockClock) -> None:
    log: list[str] = []

    async def late() -> None:
        await trio.sleep(1)
        log.append("not reached")

    async def starts_late() -> None:
        try:
            await trio.sleep_forever()
        finally:
            services.start_soon(late)

    async with open_service_nursery() as services:
        services.start_soon(starts_late)
        await trio.sleep(1)
    assert log == []
