"""The bank service as its clients have it: real processes, real connections, and every cent counted."""

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trio
from examples.bank_process import PATIENCE, BankProcess, open_bank
from examples.http_connection import HttpConnection, HungUp
from redis_servers import RedisServer

from trioqueue import open_atomic_queues

CONNECTIONS = 60
CLICKS = 5
"""Of each connection."""

PATIENT = ("--patience", "20")
"""For what is to be answered by the account itself, however slow the machine is."""

HOLDERS = ["ada", "bob", "cleo", "dan", "eve"]
EACH = 100
"""What each of them begins with."""

BAD_BODIES = [
    b"",
    b"{",
    b"\xff",
    b"[" * 10_000,
    b"[1]",
    b"{}",
    b'{"amount": 0}',
    b'{"amount": -1}',
    b'{"amount": true}',
    b'{"amount": 1.5}',
    b'{"amount": NaN}',
    b'{"amount": "1"}',
    b'{"amount": 18446744073709551616}',
]


def complaints(*bank: BankProcess) -> list[str]:
    """Lists what the processes wrote on stderr, but for the warning that the Redis of tests forgets."""
    lines = [line for process in bank for line in process.noise().splitlines()]
    return [line for line in lines if not line.startswith("this Redis keeps nothing on disk")]


# ------------------------------------------------------------------------ one process
async def test_what_is_answered(tmp_path: Path) -> None:
    async with open_bank(tmp_path) as [bank], bank.connect() as client:
        status, accepted = await client.post("/accounts/ada/deposit", {"amount": 100})
        assert (status, list(accepted)) == (202, ["command_id"])
        assert await client.post("/accounts/ada/withdraw", {"amount": 80}) == (200, {"balance": 20})
        no = {"error": "InsufficientFunds", "balance": 20}
        assert await client.post("/accounts/ada/withdraw", {"amount": 80}) == (409, no)
        assert await client.post("/transfers", {"from": "ada", "to": "bob", "amount": 80}) == (409, no)
        transfer = {"from": "ada", "to": "bob", "amount": 5}
        assert await client.post("/transfers", transfer) == (200, {"balance": 15})
        # The five are in bob's mailbox by now, so whatever is asked of bob comes after them.
        assert await client.post("/accounts/bob/withdraw", {"amount": 5}) == (200, {"balance": 0})
        assert await client.get("/accounts/ada") == (200, {"balance": 15})
        assert await client.get("/accounts/nobody-yet") == (200, {"balance": 0})

    assert complaints(bank) == []


async def test_what_is_asked_wrongly_changes_nothing(tmp_path: Path) -> None:
    async with open_bank(tmp_path) as [bank], bank.connect() as client:
        await client.post("/accounts/ada/deposit", {"amount": 100})

        for body in BAD_BODIES:
            status, said = await client.ask("POST", "/accounts/ada/withdraw", body)
            assert (status, said["error"]) == (400, "BadBody"), body
        for ends in ({"from": "ada"}, {"from": "ada", "to": 5}, {"from": None, "to": "bob"}):
            status, said = await client.post("/transfers", {**ends, "amount": 1})
            assert (status, said["error"]) == (400, "BadBody"), ends

        for ends in (
            {"from": "ada", "to": ""},
            {"from": "ada", "to": "x" * 513},
            {"from": "a\n", "to": "bob"},
        ):
            status, said = await client.post("/transfers", {**ends, "amount": 1})
            assert (status, said["reason"]) == (404, "No account can have this id."), ends
        for path in ("/accounts/%00", f"/accounts/{'x' * 513}"):
            status, said = await client.get(path)
            assert (status, said["reason"]) == (404, "No account can have this id."), path

        assert (await client.ask("POST", "/transfers", b" " * 20_000))[0] == 413
        assert (await client.get("/accounts/ada/withdraw"))[0] == 405
        assert (await client.get("/accounts"))[0] == 404
        assert await client.get("/accounts/ada") == (200, {"balance": 100})

    assert complaints(bank) == []


# ------------------------------------------------------------------------ three processes on one Redis
async def all_click(
    bank: list[BankProcess], click: Callable[[HttpConnection, random.Random], Awaitable[None]]
) -> None:
    """Opens the connections, as many to each process, and then clicks on all of them at the same time."""
    async with AsyncExitStack() as stack:
        connections = [
            await stack.enter_async_context(bank[number % len(bank)].connect())
            for number in range(CONNECTIONS)
        ]
        async with trio.open_nursery() as clients:
            for number, connection in enumerate(connections):
                clients.start_soon(click, connection, random.Random(number))


async def test_a_crowd_cannot_overdraw_an_account(clean_redis: RedisServer, tmp_path: Path) -> None:
    answers: list[tuple[int, Any]] = []

    async def click(connection: HttpConnection, chance: random.Random) -> None:
        withdrawal = {"amount": 10}
        answers.extend([await connection.post("/accounts/ours/withdraw", withdrawal) for _ in range(CLICKS)])

    async with open_bank(tmp_path, "--url", clean_redis.url, *PATIENT, processes=3) as bank:
        async with bank[0].connect() as connection:
            assert (await connection.post("/accounts/ours/deposit", {"amount": 1003}))[0] == 202

        await all_click(bank, click)

        # A hundred times ten, no two of them from the same balance, and everybody else hears what was left.
        paid = [said["balance"] for status, said in answers if status == 200]
        refused = [said for status, said in answers if status == 409]
        assert sorted(paid) == list(range(3, 1003, 10))
        assert refused == [{"error": "InsufficientFunds", "balance": 3}] * (CONNECTIONS * CLICKS - len(paid))
        for process in bank:
            async with process.connect() as connection:
                assert await connection.get("/accounts/ours") == (200, {"balance": 3})

    assert complaints(*bank) == []


async def balances(bank: BankProcess, redis: RedisServer) -> list[int]:
    """Waits until all that was transferred has arrived, and reads the accounts."""
    async with open_atomic_queues(redis.url, prefix="example-bank") as queues:
        await queues.wait_settled()
    async with bank.connect() as connection:
        return [(await connection.get(f"/accounts/{name}"))[1]["balance"] for name in HOLDERS]


async def test_transfers_keep_the_sum_while_a_process_ends(clean_redis: RedisServer, tmp_path: Path) -> None:
    answered: Counter[int] = Counter()
    hung_up = 0

    async def click(connection: HttpConnection, chance: random.Random) -> None:
        nonlocal hung_up
        for _ in range(CLICKS):
            payer, payee = chance.sample(HOLDERS, 2)
            transfer = {"from": payer, "to": payee, "amount": chance.randint(1, EACH)}
            try:
                status, _ = await connection.post("/transfers", transfer)
            except HungUp:
                hung_up += 1
                return
            answered[status] += 1
            if answered.total() == CONNECTIONS:
                ending.tell_to_end()

    async with open_bank(tmp_path, "--url", clean_redis.url, *PATIENT, processes=3) as bank:
        one, _, ending = bank
        async with one.connect() as connection:
            for name in HOLDERS:
                await connection.post(f"/accounts/{name}/deposit", {"amount": EACH})

        await all_click(bank, click)

        assert await ending.wait_ended() == 0
        with pytest.raises(OSError, match="connect"):
            async with ending.connect():
                pass
        left = await balances(one, clean_redis)
        assert sum(left) == EACH * len(HOLDERS), left
        assert min(left) >= 0, left
        # Nobody else noticed: its clients were told to go elsewhere, and all others got all their answers.
        assert set(answered) == {200, 409}
        assert 0 < hung_up <= CONNECTIONS / 3
        assert answered.total() >= CONNECTIONS * CLICKS * 2 / 3

    assert complaints(*bank) == []


# ------------------------------------------------------------------------ a store that is not there
async def test_a_client_learns_whether_it_may_ask_again(tmp_path: Path) -> None:
    with RedisServer(appendonly=True) as redis:
        async with (
            open_bank(tmp_path, "--url", redis.url, "--patience", "1.5") as [bank],
            bank.connect() as client,
        ):
            await client.post("/accounts/ada/deposit", {"amount": 100})
            assert await client.post("/accounts/ada/withdraw", {"amount": 10}) == (200, {"balance": 90})

            redis.pause()
            status, said = await client.post("/accounts/ada/withdraw", {"amount": 10})
            assert (status, said["reason"][:19]) == (504, "Perhaps it was done")
            redis.resume()
            either = [(200, {"balance": 80}), (200, {"balance": 90})]
            assert await client.get("/accounts/ada") in either

            redis.stop()
            not_done = (503, {"error": "StoreUnavailable", "reason": "Nothing was done: ask again."})
            assert await client.post("/accounts/ada/deposit", {"amount": 1}) == not_done
            redis.restart()
            with trio.fail_after(PATIENCE):
                while (answer := await client.get("/accounts/ada")) == not_done:
                    pass  # as told; it takes its time to connect again
            assert answer in either
