"""`trioqueue send` and `trioqueue call`, as processes: what is sent, and what becomes of answers."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
from cli.bank import Account, Balance, registry
from cli.command_line import PATIENCE, Ran, environment, verb, verb_on_terminal
from redis_servers import RedisServer

from trioqueue import open_atomic_queues

APP = ("--app", "cli.bank:registry")
OPENER = ("--app", "cli.bank:open_bank")


def is_one_sentence(ran: Ran) -> bool:
    return ran.stdout == "" and len(ran.stderr.splitlines()) == 1 and ran.stderr.startswith("error: ")


# ------------------------------------------------------------------------ sending
async def test_a_command_is_sent_and_its_receipt_is_printed(clean_redis: RedisServer, tmp_path: Path) -> None:
    send = ("send", "account/42", "withdraw")
    async with open_atomic_queues(clean_redis.url, registry=registry) as queues:
        ran = await verb(*send, "amount=80", *APP, url=clean_redis.url, cwd=tmp_path)
        bare = await verb(*send, "amount=5", "account_id=42", "--json", url=clean_redis.url, cwd=tmp_path)
        await queues.wait_settled()

        assert (await queues.state(Account, "42")).balance == 15
    assert (ran.code, ran.stderr, bare.code, bare.stderr) == (0, "", 0, "")
    name, command_id = ran.stdout.split()
    assert (name, bool(command_id)) == ("account/42", True)
    receipt = json.loads(bare.stdout)
    assert receipt.pop("command_id") != command_id
    assert receipt == {"entity_type": "account", "entity_id": "42", "command": "withdraw", "kept": 0}


async def test_what_may_be_asked_for_a_command_travels(clean_redis: RedisServer, tmp_path: Path) -> None:
    """By options, and by the environment."""
    asked = ("--expires", "60", "--header", "trace=a=b", "--header", "by=ann")
    env = {"TRIOQUEUE_APP": APP[1], "TRIOQUEUE_PREFIX": "other", "TRIOQUEUE_SEND_URGENT": "1"}
    ran = await verb("send", "account/42", "freeze", *asked, url=clean_redis.url, cwd=tmp_path, **env)

    assert ran.code == 0
    async with open_atomic_queues(clean_redis.url, prefix="other") as queues:
        (one,) = await queues.queued("account", "42")
    assert (one.command, one.urgent, one.deadline) == ("freeze", True, 60)
    assert one.headers == {"trace": "a=b", "by": "ann"}


async def test_a_command_can_be_put_off(clean_redis: RedisServer, tmp_path: Path) -> None:
    ran = await verb(
        "send", "account/42", "freeze", *APP, "--delay", "3600", url=clean_redis.url, cwd=tmp_path
    )

    assert ran.code == 0
    async with open_atomic_queues(clean_redis.url) as queues:
        assert await queues.queued("account", "42") == ()
        (one,) = await queues.put_off("account", "42")
    assert one.command_id == ran.stdout.split()[1]


async def test_an_opener_sends_by_its_policies_and_does_not_serve(
    clean_redis: RedisServer, tmp_path: Path
) -> None:
    send = ("send", "account/42", "withdraw", "amount=80", *OPENER, "--json")
    ran = await verb(*send, url=clean_redis.url, cwd=tmp_path)

    assert (ran.code, json.loads(ran.stdout)["kept"]) == (0, 60)
    async with open_atomic_queues(clean_redis.url) as queues:
        (one,) = await queues.queued("account", "42")
    assert one.fields == {"account_id": "42", "amount": 80, "note": ""}


@pytest.mark.parametrize(
    ("given", "code", "says"),
    [
        (
            ("account/42", "withdrw", *APP),
            2,
            "account has no command 'withdrw' in cli.bank:registry: it has audit,",
        ),
        (("account/42", "with draw", "a=42"), 2, "is no legal command name"),
        (("account/42", "withdraw", "a=42", "--delay", "nan"), 2, "is no number of seconds"),
        (("account/42", "withdraw", "a=42", "--header", "trace"), 2, "'trace' is no header"),
        (("account/42", "withdraw", "a=42", "--app", "cli.bank:nothing"), 1, "has no 'nothing'"),
        (
            ("account/42", "withdraw", "a=42", "--key", "k", "--expires", "1"),
            1,
            "expires and key are both given",
        ),
    ],
)
async def test_what_is_wrong_is_one_sentence(
    given: tuple[str, ...], code: int, says: str, clean_redis: RedisServer, tmp_path: Path
) -> None:
    ran = await verb("send", *given, url=clean_redis.url, cwd=tmp_path)

    assert (ran.code, is_one_sentence(ran)) == (code, True)
    assert says in ran.stderr
    async with open_atomic_queues(clean_redis.url) as queues:
        assert (await queues.statistics()).with_work == 0


# ------------------------------------------------------------------------ calling
async def call(server: RedisServer, folder: Path, *args: str) -> Ran:
    """Calls, with a pod that answers."""
    async with open_atomic_queues(server.url, registry=registry):
        return await verb("call", *args, url=server.url, cwd=folder)


@pytest.mark.parametrize("app", [("--id-field", "account_id"), OPENER])
async def test_a_call_prints_the_answer(
    app: tuple[str, ...], clean_redis: RedisServer, tmp_path: Path
) -> None:
    ran = await call(clean_redis, tmp_path, "account/42", "withdraw", "amount=80", "note=a", *app)

    assert ran == Ran(0, "20\n", "")


async def test_an_answer_is_printed_as_it_travels(clean_redis: RedisServer, tmp_path: Path) -> None:
    fields = ("to=6f1c1d1e-0b7a-4c58-9d0d-0d6f9f3c1a11", "amount=1.50", "on=2026-11-30", 'tags=["ä"]')
    ran = await call(clean_redis, tmp_path, "account/42", "transfer", *fields, *APP)

    assert (ran.code, ran.lines) == (0, ['{"amount": "1.50", "tags": ["ä"]}'])


async def test_on_a_terminal_it_is_indented(clean_redis: RedisServer, tmp_path: Path) -> None:
    """Not with `--json`."""
    fields = ("call", "account/42", "audit", "a=42", "b=1", *APP)
    async with open_atomic_queues(clean_redis.url, registry=registry):
        ran = await verb_on_terminal(*fields, url=clean_redis.url, cwd=tmp_path)
        as_json = await verb_on_terminal(*fields, "--json", url=clean_redis.url, cwd=tmp_path)

    assert ran.lines == ["{", '  "a": "42",', '  "b": 1', "}"]
    assert as_json.lines == ['{"a": "42", "b": 1}']


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        (("withdraw", "amount=101", *APP), {"rejected": "InsufficientFunds", "fields": {"balance": 100}}),
        (("freeze", "account_id=42"), {"rejected": "Frozen", "fields": {"since": "2026-11-30"}}),
    ],
)
async def test_a_rejection_is_an_answer_with_a_code_of_its_own(
    given: tuple[str, ...], answer: dict[str, Any], clean_redis: RedisServer, tmp_path: Path
) -> None:
    """Of a class that is known here, and of one that isn't."""
    ran = await call(clean_redis, tmp_path, "account/42", *given)

    assert (ran.code, ran.stderr) == (3, "")
    assert json.loads(ran.stdout) == answer


async def test_a_failure_is_one_line_and_a_traceback_for_who_asks(
    clean_redis: RedisServer, tmp_path: Path
) -> None:
    explode = ("account/42", "explode", "what=\x1b[31mpaper", *APP)
    ran = await call(clean_redis, tmp_path, *explode)
    asked = await call(clean_redis, tmp_path, *explode, "--traceback")

    line = (
        "error: 'explode' of account/42 failed for good with OSError: no \\x1b[31mpaper: look with "
        "`trioqueue dead ls account`, repair the cause, and redeliver it."
    )
    assert (ran.code, ran.stdout, ran.stderr.splitlines()) == (1, "", [line])
    assert (asked.code, asked.stdout) == (1, "")
    first, *_, last = asked.stderr.splitlines()
    assert (first, last) == ("Traceback (most recent call last):", line)
    assert "in explode" in asked.stderr
    assert "\x1b" not in asked.stderr


async def test_no_answer_in_time_says_what_to_do(clean_redis: RedisServer, tmp_path: Path) -> None:
    """Where nobody serves, the caller included, and where a handler takes long; the command is cancelled."""
    late = ("--timeout", "0.2")
    ran = await verb(
        "call", "account/42", "withdraw", "amount=80", *OPENER, *late, url=clean_redis.url, cwd=tmp_path
    )

    assert (ran.code, is_one_sentence(ran)) == (1, True)
    assert "was not answered within 0.2 s and is cancelled: ask `trioqueue why account/42`" in ran.stderr
    async with open_atomic_queues(clean_redis.url, registry=registry) as queues:
        await queues.wait_settled()
        assert await queues.call(Balance("42")) == 100
        ran = await verb("call", "account/42", "linger", *APP, *late, url=clean_redis.url, cwd=tmp_path)
        assert (ran.code, "was not answered within 0.2 s" in ran.stderr) == (1, True)
        assert await queues.call(Balance("42")) == 100, "the handler was cancelled"


async def test_with_a_key_it_goes_on(clean_redis: RedisServer, tmp_path: Path) -> None:
    """And its answer can be had by the same key."""
    keyed = ("account/42", "withdraw", "amount=80", *APP, "--key", "order-7")
    ran = await verb("call", *keyed, "--timeout", "0.2", url=clean_redis.url, cwd=tmp_path)
    assert (ran.code, "goes on, as it has a key" in ran.stderr) == (1, True)

    async with open_atomic_queues(clean_redis.url, registry=registry) as queues:
        await queues.wait_settled()
        ran = await verb("call", *keyed, url=clean_redis.url, cwd=tmp_path)
        assert ran == Ran(0, "20\n", "")


async def test_a_call_that_somebody_cancels(clean_redis: RedisServer, tmp_path: Path) -> None:
    ran: list[Ran] = []

    async def calls() -> None:
        ran.append(await verb("call", "account/42", "linger", *APP, url=clean_redis.url, cwd=tmp_path))

    async with open_atomic_queues(clean_redis.url) as queues, trio.open_nursery() as nursery:
        nursery.start_soon(calls)
        while not await queues.purge("account", "42"):  # noqa: ASYNC110 - another process sends it
            await trio.sleep(0.01)

    assert (ran[0].code, is_one_sentence(ran[0])) == (1, True)
    assert "was cancelled before it was done" in ran[0].stderr


async def test_who_interrupts_a_call_cancels_the_command(clean_redis: RedisServer, tmp_path: Path) -> None:
    call = ("call", "account/42", "linger", *APP, "--timeout", "3600")
    async with open_atomic_queues(clean_redis.url, registry=registry) as queues:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "trioqueue.cli", *call],
            cwd=tmp_path,
            env=environment(TRIOQUEUE_URL=clean_redis.url),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            while (await queues.inspect("account", "42")).mode != "active":  # noqa: ASYNC110
                await trio.sleep(0.01)
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 130
        finally:
            process.kill()
        assert process.stdout
        assert process.stderr
        async with process.stdout, process.stderr:
            said = await process.stdout.receive_some() + await process.stderr.receive_some()
        assert said.strip() == b""
        with trio.fail_after(PATIENCE):
            assert await queues.call(Balance("42")) == 100, "the handler was cancelled"
