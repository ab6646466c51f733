"""Callers that wait, and outcomes that come, come twice, or whose hint is lost."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trioqueue import Closed, OutcomeUnknown, StoreUnavailable
from trioqueue.runtime.receiver import KEEP_MS, LOOK_EVERY, PAGE, Receiver


class Results:
    """Where outcomes are kept."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.reads: list[str] = []
        self.down = False

    async def read(self, command_id: str) -> bytes | None:
        await trio.lowlevel.checkpoint()
        self.reads.append(command_id)
        if self.down:
            raise StoreUnavailable("nowhere", "cut")
        return self.kept.get(command_id)


async def test_an_outcome_wakes_its_caller_at_once(autojump_clock: MockClock) -> None:
    receiver = Receiver(Results().read)
    waiting = receiver.expect("c1")
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def wait() -> None:
            assert await waiting.wait() == b"42"
            assert trio.current_time() == 0

        await wait_all_tasks_blocked()
        receiver.deliver("c1", b"42")
        receiver.deliver("c1", b"43")  # a hint may be doubled
        receiver.deliver("c2", b"44")  # or concern a caller that has gone


async def test_an_outcome_may_come_before_the_caller_waits(autojump_clock: MockClock) -> None:
    receiver = Receiver(Results().read)
    waiting = receiver.expect("c1")
    receiver.deliver("c1", b"42")
    assert await waiting.wait() == b"42"


async def test_a_hint_without_the_outcome_has_it_read(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    results = Results()
    receiver = Receiver(results.read)
    nursery.start_soon(receiver.run)
    waiting = receiver.expect("c1")
    await wait_all_tasks_blocked()
    results.kept["c1"] = b"large"
    receiver.deliver("c1", None)
    assert await waiting.wait() == b"large"
    assert trio.current_time() == 0


async def test_an_outcome_whose_hint_was_lost_is_found(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    results = Results()
    receiver = Receiver(results.read)
    nursery.start_soon(receiver.run)
    results.kept["c1"] = b"42"
    waiting = receiver.expect("c1")
    assert await waiting.wait() == b"42"
    assert trio.current_time() <= 2 * LOOK_EVERY


async def test_after_a_reconnection_it_looks_at_once(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    results = Results()
    receiver = Receiver(results.read)
    nursery.start_soon(receiver.run)
    waiting = receiver.expect("c1")
    await wait_all_tasks_blocked()
    results.kept["c1"] = b"42"
    receiver.look_soon()
    assert await waiting.wait() == b"42"
    assert trio.current_time() == 0


async def test_many_callers_are_looked_for_in_turns(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    results = Results()
    receiver = Receiver(results.read)
    nursery.start_soon(receiver.run)
    many = [receiver.expect(f"c{n}") for n in range(2 * PAGE + 1)]
    results.kept = {waiting.command_id: b"42" for waiting in many}
    for waiting in many:
        assert await waiting.wait() == b"42"
    assert trio.current_time() <= 4 * LOOK_EVERY
    assert len(results.reads) == len(many)


async def test_who_was_not_looked_for_longer_than_outcomes_are_kept_is_told(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    results = Results()
    receiver = Receiver(results.read)
    nursery.start_soon(receiver.run)
    waiting = receiver.expect("c1")
    await trio.sleep(5)
    results.down = True
    await trio.sleep(KEEP_MS / 1000 + 5)
    assert waiting.outcome is None
    results.down = False
    with pytest.raises(OutcomeUnknown):
        await waiting.wait()


async def test_a_call_may_wait_for_days(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    results = Results()
    receiver = Receiver(results.read)
    nursery.start_soon(receiver.run)
    waiting = receiver.expect("c1")
    await trio.sleep(KEEP_MS / 1000 * 20)
    receiver.deliver("c1", b"42")
    assert await waiting.wait() == b"42"


async def test_closing_ends_all_waits(autojump_clock: MockClock) -> None:
    receiver = Receiver(Results().read)
    waiting = receiver.expect("c1")
    receiver.close(Closed())
    with pytest.raises(Closed):
        await waiting.wait()


async def test_a_cancelled_caller_can_be_settled_without_harm(autojump_clock: MockClock) -> None:
    receiver = Receiver(Results().read)
    waiting = receiver.expect("c1")
    with trio.move_on_after(1):
        await waiting.wait()
    receiver.deliver("c1", b"42")
    receiver.forget(waiting)
    receiver.forget(waiting)
    receiver.deliver("c1", b"42")
