"""An old and a new release of one program side by side: real pods, and senders of both releases."""

import json
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from faults.fleet_processes import FleetProcess, until
from redis_servers import RedisServer
from rollout import new_bank, old_bank

from trioqueue import (
    AtomicQueues,
    CallFailed,
    NewerVersion,
    UnknownCommand,
    open_atomic_queues,
)

PATIENCE = 60
"""Seconds for a test; the longest takes 10 where nothing else runs."""


class Fleet:
    """Pods of both releases, and who looks at them."""

    def __init__(self, url: str, folder: Path, sender: AtomicQueues, reader: AtomicQueues) -> None:
        self._url, self._folder = url, folder
        self.sender = sender  # knows no release: what it sends has the version of its class
        self.reader = reader  # of the new release; it serves nothing
        self.pods: list[FleetProcess] = []

    async def start(self, release: str, name: str = "", **policy: Any) -> FleetProcess:
        name = name or release
        settings = {"url": self._url, "name": name, "policy": {"idle_timeout": 2.0, **policy}}
        pod = FleetProcess(f"rollout.{release}_bank", self._folder / f"{name}.jsonl", settings)
        self.pods.append(pod)
        await pod.wait_ready()
        return pod

    async def end(self, pod: FleetProcess) -> None:
        """Ends a pod as a roll-out does."""
        pod.signal(signal.SIGTERM)
        assert await pod.wait_ended() == 0, pod.noise()

    async def entries(self, account: str) -> list[str]:
        return (await self.reader.state(new_bank.Account, account)).entries


@asynccontextmanager
async def open_fleet(redis: RedisServer, folder: Path) -> AsyncGenerator[Fleet]:
    with trio.fail_after(PATIENCE):
        async with (
            open_atomic_queues(redis.url) as sender,
            open_atomic_queues(redis.url, registry=new_bank.registry, serves=()) as reader,
        ):
            fleet = Fleet(redis.url, folder, sender, reader)
            try:
                yield fleet
            finally:
                for pod in fleet.pods:
                    pod.end()


async def test_each_release_handles_what_it_knows_and_hands_on_the_rest(
    clean_redis: RedisServer, tmp_path: Path
) -> None:
    async with open_fleet(clean_redis, tmp_path) as fleet:
        sender = fleet.sender
        await fleet.start("old")
        for account in ("frozen", "in cents", "of old"):
            assert await sender.call(old_bank.Deposit(account, 1, "first")) == 1
        await fleet.start("new")

        # All three are with the old pod, as it has them awake.
        assert await sender.call(new_bank.Freeze("frozen", "freeze")) == 2
        assert await sender.call(new_bank.Deposit("in cents", 5, "second")) == 2
        assert await sender.call(old_bank.Deposit("of old", 1, "second")) == 2

        # What the new pod has written is its own matter from then on, whoever sends.
        assert await sender.call(old_bank.Deposit("frozen", 2, "last")) == 3
        assert await fleet.entries("frozen") == ["first by old", "freeze by new", "last by new"]
        assert await fleet.entries("in cents") == ["first by old", "second by new"]
        assert await fleet.entries("of old") == ["first by old", "second by old"]
        for account, cents in {"frozen": 300, "in cents": 105, "of old": 200}.items():
            assert (await fleet.reader.state(new_bank.Account, account)).cents == cents

        # An old process reads what is old, and is told of what is not.
        assert (await sender.state(old_bank.Account, "of old")).euros == 2
        with pytest.raises(NewerVersion):
            await sender.state(old_bank.Account, "frozen")


async def test_an_old_pod_does_not_damage_a_newer_state(clean_redis: RedisServer, tmp_path: Path) -> None:
    async with open_fleet(clean_redis, tmp_path) as fleet:
        sender = fleet.sender
        new = await fleet.start("new")
        await sender.call(new_bank.Deposit("ann", 5, "first"))
        await fleet.end(new)
        await fleet.start("old")
        with clean_redis.client() as client:
            written = client.get("{tq:0}:s:account:ann")
            await sender.send(old_bank.Deposit("ann", 1, "second"))
            await until_declined(sender, "ann")
            assert "for a pod that knows deposit" in await sender.explain("account", "ann")
            await sender.call(old_bank.Deposit("bob", 1, "first"))  # others go on
            assert client.get("{tq:0}:s:account:ann") == written
        await fleet.start("new", "new-again")
        await sender.wait_settled()
        assert await fleet.entries("ann") == ["first by new", "second by new"]
        assert (await fleet.reader.state(new_bank.Account, "ann")).cents == 105


async def test_a_command_that_nobody_knows_any_more_waits_where_all_can_see_it(
    clean_redis: RedisServer, tmp_path: Path
) -> None:
    async with open_fleet(clean_redis, tmp_path) as fleet:
        sender = fleet.sender
        await fleet.start("old")
        new = await fleet.start("new")
        await sender.call(new_bank.Freeze("ann", "first"))
        await fleet.end(new)
        await sender.send_many([new_bank.Freeze("bob", "freeze"), old_bank.Deposit("bob", 1, "behind it")])
        await until_declined(sender, "bob")
        until_then = trio.current_time() + 3
        while trio.current_time() < until_then:  # at each moment, whatever the pods do with it meanwhile
            box = await sender.inspect("account", "bob")
            assert box.head
            assert (box.head.command, box.pending, box.unknown_for is None) == ("freeze", 2, False)
            said = await sender.explain("account", "bob")
            assert "declined" in said, said
            await trio.sleep(0.001)
        await fleet.start("new", "new-again")
        await sender.wait_settled()
        assert await fleet.entries("bob") == ["freeze by new", "behind it by new"]
        assert (await sender.statistics()).dead == 0


async def test_what_stays_unknown_is_a_dead_letter_that_a_later_release_handles(
    clean_redis: RedisServer, tmp_path: Path
) -> None:
    async with open_fleet(clean_redis, tmp_path) as fleet:
        sender = fleet.sender
        await fleet.start("old", unknown_grace=1.5)
        with pytest.raises(UnknownCommand):
            await sender.call(new_bank.Freeze("ann", "freeze"))
        with pytest.raises(CallFailed, match="NewerVersion"):
            await sender.call(new_bank.Deposit("ann", 5, "in cents"))
        assert await sender.call(old_bank.Deposit("ann", 1, "in euros")) == 1

        unknown, newer = await sender.dead_letters("account")
        assert (unknown.command, newer.command) == ("freeze", "deposit")
        assert (unknown.attempts, newer.attempts) == (0, 0)
        assert unknown.error.startswith("UnknownCommand: No pod has a handler for 'freeze' of account/ann")
        assert json.loads(unknown.envelope)["p"] == {"account_id": "ann", "entry": "freeze"}

        await fleet.start("new")
        for letter in (unknown, newer):
            assert await sender.redeliver(letter)
        await sender.wait_settled()
        assert await fleet.entries("ann") == ["in euros by old", "freeze by new", "in cents by new"]
        account = await fleet.reader.state(new_bank.Account, "ann")
        assert (account.cents, account.frozen) == (105, True)
        assert await sender.dead_letters("account") == []


async def test_a_roll_out_under_load_loses_and_doubles_nothing(
    clean_redis: RedisServer, tmp_path: Path
) -> None:
    """Old pods end one after another, new ones come, and senders of both releases go on all the time."""
    shared = [f"shared-{n}" for n in range(4)]
    of_old = [f"of-old-{n}" for n in range(8)]
    sent: dict[str, dict[str, int]] = {account: {} for account in shared + of_old}
    going_on = trio.CancelScope()
    waves = 0

    async def send_old(name: str) -> None:
        number = 0
        while not going_on.cancel_called:
            for account in shared + of_old:
                entry, number = f"{name} {number}", number + 1
                await fleet.sender.send(old_bank.Deposit(account, 1 + number % 5, entry, seconds=0.004))
                sent[account][entry] = 100 * (1 + number % 5)
            nonlocal waves
            waves += 1
            await trio.sleep(0.03)

    async def send_new(name: str) -> None:
        number = 0
        while not going_on.cancel_called:
            for account in shared:
                entry, number = f"{name} {number}", number + 1
                if number % 10 == 0:
                    await fleet.sender.send(new_bank.Freeze(account, entry))
                    sent[account][entry] = 0
                else:
                    await fleet.sender.send(new_bank.Deposit(account, number % 7, entry, seconds=0.004))
                    sent[account][entry] = number % 7
            await trio.sleep(0.03)

    async def wait_waves(count: int) -> None:
        until_wave = waves + count
        await until(lambda: waves >= until_wave)

    async with open_fleet(clean_redis, tmp_path) as fleet:
        old = [await fleet.start("old", f"old-{n}") for n in range(2)]
        async with trio.open_nursery() as nursery:
            for sender in (send_old, send_old, send_new, send_new):
                nursery.start_soon(sender, f"{sender.__name__}-{len(nursery.child_tasks)}")
            await wait_waves(10)
            await fleet.start("new", "new-0")
            await wait_waves(30)
            await fleet.end(old[0])
            await wait_waves(20)
            await fleet.start("new", "new-1")
            await wait_waves(20)
            await fleet.end(old[1])
            await wait_waves(10)
            going_on.cancel()
        await fleet.sender.wait_settled()

        handled_by_old = 0
        for account, entries in sent.items():
            state = await fleet.reader.state(new_bank.Account, account)
            done = [entry.rpartition(" by ")[0] for entry in state.entries]
            assert sorted(done) == sorted(entries), account
            for name in {entry.split()[0] for entry in done}:
                numbers = [int(entry.split()[1]) for entry in done if entry.split()[0] == name]
                assert numbers == sorted(numbers), f"{account}: what {name} sent changed its order"
            assert state.cents == sum(entries.values()), account
            handled_by_old += sum(entry.endswith(" by old") for entry in state.entries)
        assert (await fleet.sender.statistics()).dead == 0
        assert 0 < handled_by_old < sum(map(len, sent.values()))
        for pod in fleet.pods:
            assert "Traceback" not in pod.noise()


async def until_declined(queues: AtomicQueues, account: str) -> None:
    """Waits until a pod has said that it can't handle the head of an account."""
    while (await queues.inspect("account", account)).unknown_for is None:  # noqa: ASYNC110 - a pod does it
        await trio.sleep(0.01)
