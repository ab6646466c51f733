"""Commands that are decoded before their turn, while the commit of the one before them is under way."""

import signal
from collections.abc import Callable
from typing import Any

import pytest
import trio
from redis_servers import RedisServer
from trio.testing import MockClock

from trioqueue import Command, EntityPolicy, Registry, command, entity_id, open_atomic_queues

registry = Registry()

made: list[int] = []
"""The numbers of all commands, by each that was made: by its sender, and by each decoding."""

on_making: list[Callable[[int], Any]] = []


class Noted:
    number: int

    def __attrs_post_init__(self) -> None:
        made.append(self.number)
        for tell in on_making:
            tell(self.number)


@command("desk")
class Stamp(Noted, Command[int]):
    desk_id: str = entity_id()
    number: int


@command("desk")
class Sign(Noted, Command[int]):
    desk_id: str = entity_id()
    number: int


@registry.handles(Stamp)
async def stamp(command: Stamp) -> int:
    return command.number


@registry.handles(Sign, commit="each")
async def sign(command: Sign) -> int:
    return command.number


@pytest.fixture(autouse=True)
def _nothing_made() -> None:
    made.clear()
    on_making.clear()


@pytest.mark.parametrize(
    "policy",
    [EntityPolicy(), EntityPolicy(commit="group"), EntityPolicy(overlap=4)],
    ids=["each", "group", "overlap"],
)
async def test_each_is_decoded_once(autojump_clock: MockClock, policy: EntityPolicy) -> None:
    async with open_atomic_queues("memory://", registry=registry, entities={"desk": policy}) as queues:
        await queues.send_many([(Stamp if number % 3 else Sign)("a", number) for number in range(30)])
        await queues.wait_settled()

    assert sorted(made) == sorted([*range(30)] * 2)


def test_it_can_be_interrupted(clean_redis: RedisServer) -> None:
    """A validator that never ends must not be proof against Ctrl-C because a commit is under way."""
    survived: list[int] = []

    def interrupt(number: int) -> None:
        if number == 1 and made.count(1) == 2:  # by its sender, and now by the worker
            signal.raise_signal(signal.SIGINT)
            survived.append(number)

    async def main() -> None:
        async with open_atomic_queues(clean_redis.url, registry=registry) as queues:
            on_making.append(interrupt)
            await queues.send_many([Stamp("a", number) for number in range(3)])
            await trio.sleep(20)

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert not survived
