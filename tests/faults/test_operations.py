"""Each kind of request that an operator or a schedule makes, and each thing that can happen to one."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import attrs
import pytest
import trio
from faults.fleet_processes import until
from faults.lab import Lab, open_lab
from faults.operations import OPERATIONS, SHELF
from faults.shelf_pod import RETRY, Take
from faults.trial import FAULTS, Trial
from redis_servers import RedisServer

SHELVES = ("a", "b", "c")


async def _nothing(lab: Lab) -> None:
    pass


@attrs.frozen
class Story:
    """What comes before an operation and what must hold after it, at once and at the end."""

    script: str
    nth: int = 1
    before: Callable[[Lab], Awaitable[None]] = _nothing
    after: Callable[[Lab], Awaitable[None]] = _nothing
    at_last: Callable[[Lab], None] = lambda lab: None


# ------------------------------------------------------------------------------------ holding back
async def _queued(lab: Lab, *, count: int) -> None:
    """Sends two more, and sees that they wait."""
    await lab.send_some(2, SHELF)
    await trio.sleep(0.05)
    assert (await lab.sender.inspect("shelf", SHELF)).pending == count


async def _is_paused(lab: Lab) -> None:
    assert (await lab.sender.inspect("shelf", SHELF)).mode == "paused"
    await _queued(lab, count=2)


async def _is_held(lab: Lab) -> None:
    assert (await lab.sender.inspect("shelf", SHELF)).type_paused
    await _queued(lab, count=2)


async def _pause(lab: Lab) -> None:
    await lab.sender.pause("shelf", SHELF)
    await _queued(lab, count=2)


async def _hold(lab: Lab) -> None:
    await lab.sender.pause("shelf")
    await _queued(lab, count=2)


async def _goes_on(lab: Lab) -> None:
    found = await lab.sender.inspect("shelf", SHELF)
    assert (found.paused_for, found.type_paused) == (None, False)


# ------------------------------------------------------------------------------------ what is taken out
async def _fill_what_is_paused(lab: Lab) -> None:
    await lab.sender.pause("shelf", SHELF)
    for number in range(3):
        await lab.sender.send(Take(SHELF, number))
        lab.history.doubt(SHELF, lab.next_number(SHELF))


async def _is_empty(lab: Lab) -> None:
    assert (await lab.sender.inspect("shelf", SHELF)).pending == 0


def _none_stands(lab: Lab) -> None:
    assert not lab.history.applied.get(SHELF)
    assert not [turn for turn in lab.history.turns if turn.entity == SHELF]


async def _doubt(lab: Lab) -> None:
    lab.history.doubt(SHELF, lab.next_number(SHELF))


async def _is_nowhere(lab: Lab) -> None:
    assert (await lab.sender.statistics()).put_off == 0


# ------------------------------------------------------------------------------------ dead letters
async def _bury(lab: Lab) -> None:
    await lab.pod("undertaker")
    lab.history.dead[SHELF] = {await lab.send(SHELF, deed="fail")}
    await _is_dead(lab)


async def _is_dead(lab: Lab) -> None:
    with trio.fail_after(10):
        while not (await lab.sender.statistics()).dead:  # noqa: ASYNC110
            await trio.sleep(0.005)


async def _died_again(lab: Lab) -> None:
    starts = [pod.log.path for pod in lab.pods]
    await until(lambda: sum(path.read_text().count('"start"') for path in starts) >= 2 * RETRY.attempts)
    await _is_dead(lab)


async def _is_discarded(lab: Lab) -> None:
    assert (await lab.sender.statistics()).dead == 0


def _was_tried(times: int) -> Callable[[Lab], None]:
    def judge(lab: Lab) -> None:
        turns = [turn for turn in lab.history.turns if turn.entity == SHELF]
        assert len(turns) == times * RETRY.attempts

    return judge


# ------------------------------------------------------------------------------------ schedules, words
async def _expect_one(lab: Lab) -> None:
    lab.history.sent(SHELF, lab.next_number(SHELF))


async def _is_known(lab: Lab) -> None:
    assert await lab.sender._store.progress("id") == b"half"


STORIES = {
    "withdraw": Story("withdraw", 1, _doubt, _is_nowhere, _none_stands),
    "pause": Story("pause", 1, _nothing, _is_paused),
    "resume": Story("pause", 1, _pause, _goes_on),
    "hold": Story("hold", 1, _nothing, _is_held),
    "let go": Story("hold", 1, _hold, _goes_on),
    "purge": Story("purge", 1, _fill_what_is_paused, _is_empty, _none_stands),
    "redeliver": Story("redeliver", 1, _bury, _died_again, _was_tried(2)),
    "discard": Story("redeliver", 1, _bury, _is_discarded, _was_tried(1)),
    "tick": Story("tick", 2, _expect_one),
    "progress": Story("progress", 1, _nothing, _is_known),
}


DEATHS = {("withdraw", "killed after"), ("purge", "killed after"), ("tick", "killed after")}
"""Deaths of who asks, each of which takes a lease's time: of those that change a mailbox."""

TRIALS = [
    (name, fault) for name in STORIES for fault in FAULTS if "killed" not in fault or (name, fault) in DEATHS
]


@pytest.mark.parametrize(("name", "fault"), TRIALS, ids=map("-".join, TRIALS))
async def test_an_operation_is_carried_out_once(
    name: str, fault: str, redis_server: RedisServer, tmp_path: Path
) -> None:
    story = STORIES[name]
    async with open_lab(redis_server, tmp_path) as lab:
        trial = Trial(lab, await lab.proxy(), fault)
        await story.before(lab)
        if trial.kills:
            trial.arm(story.script, story.nth)
            await trial.start(does=name)
        else:
            await trial.start()
            trial.arm(story.script, story.nth)
            await OPERATIONS[name](trial.pod.queues, trial.pod.log)
        await trial.happened()
        await story.after(lab)
        await lab.pod("helper")
        await lab.sender.resume("shelf", SHELF)
        await lab.sender.resume("shelf")
        await lab.send_some(2, *SHELVES)
        verdict = await lab.verdict()
        verdict.assert_clean(confirmed=6)
        story.at_last(lab)
