"""Requests of one moment share a call, and yet each is answered for itself."""

import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import redis.exceptions
import trio
import trio.testing
from redis_connections import until
from redis_requests import at_once
from redis_servers import RedisServer, find_servers

from trioqueue._errors import Closed, Incompatible, OutcomeUnknown, StoreFull, StoreUnavailable
from trioqueue._names import Entity
from trioqueue.messages.policy import Lease
from trioqueue.stores.contract import (
    Claimed,
    ClaimWish,
    Commit,
    DeadLetter,
    Group,
    Member,
    NotClaimed,
    Outgoing,
    Parked,
    PodInfo,
    Reply,
)
from trioqueue.stores.redis.batch import (
    BYTES_A_COMMAND,
    EARLY_SECTIONS,
    MAX_COMMANDS,
    MAX_SECTIONS,
    Batcher,
    SendSection,
)
from trioqueue.stores.redis.keys import Keys
from trioqueue.stores.redis.store import RedisStore, open_redis_store
from trioqueue.stores.reports import Silent

A, B, C = (Entity("account", name) for name in "abc")
INFO = PodInfo("test", frozenset({"account"}), 10_000, Lease(ttl=30, heartbeat=10, grace=15))


def group(entity: Entity, *commands: bytes) -> Group:
    return Group([Outgoing(entity, data) for data in commands])


@pytest.fixture
async def store(each_redis: RedisServer) -> AsyncIterator[RedisStore]:
    async with open_redis_store(each_redis.url, prefix="batch", unanswered=5.0) as opened:
        yield opened


@pytest.fixture
async def member(store: RedisStore) -> Member:
    return await store.join(INFO)


@pytest.fixture
def client(each_redis: RedisServer) -> Iterator[Any]:
    with each_redis.client() as plain:
        yield plain


def written(store: RedisStore) -> int:
    return store._transport.statistics().requests


def queued(client: Any, store: RedisStore, entity: Entity) -> list[bytes]:
    return [one.partition(b" ")[2] for one in client.lrange(store._keys.entity(entity)[1], 0, -1)]


async def parked(store: RedisStore, member: Member, *entities: Entity) -> list[int]:
    """Makes entities ours that have no work any more; answers their epochs."""
    epochs: list[int] = []
    for entity in entities:
        await store.send(group(entity, b"1"))
        claimed = await store.claim(member, entity)
        assert isinstance(claimed, Claimed)
        await store.commit(member, Commit(entity, claimed.epoch, 0, 1))
        epochs.append(claimed.epoch)
    return epochs


# -------------------------------------------------------------------------------- sharing
async def test_requests_of_one_moment_share_a_call(store: RedisStore, member: Member) -> None:
    # The first few go out at once, as the server has nothing to do, and the rest together behind them.
    entities = [Entity("account", str(n)) for n in range(50)]
    before = written(store)
    answers = await at_once(*(lambda e=e: store.send(group(e, b"1")) for e in entities))
    assert answers == [False] * 50
    assert written(store) == before + 2
    claims = await at_once(*(lambda e=e: store.claim(member, e) for e in entities))
    assert all(isinstance(claimed, Claimed) for claimed in claims)
    assert written(store) == before + 4
    commits = [Commit(e, c.epoch, 0, 1) for e, c in zip(entities, claims, strict=True)]
    assert await at_once(*(lambda c=c: store.commit(member, c) for c in commits)) == [Parked()] * 50
    assert written(store) == before + 6


async def test_a_few_requests_of_one_moment_share_a_call(store: RedisStore, member: Member) -> None:
    before = written(store)
    few = [Entity("account", str(n)) for n in range(EARLY_SECTIONS - 1)]
    await at_once(*(lambda e=e: store.send(group(e, b"1")) for e in few))
    assert written(store) == before + 1


async def test_many_releases_share_calls(store: RedisStore, member: Member) -> None:
    entities = [Entity("account", str(n)) for n in range(MAX_SECTIONS)]
    epochs = await parked(store, member, *entities)
    before = written(store)
    answers = await at_once(
        *(lambda e=e, n=n: store.release(member, e, n, "idle") for e, n in zip(entities, epochs, strict=True))
    )
    assert answers == [True] * MAX_SECTIONS
    assert written(store) == before + 2


async def test_a_release_is_done_once(store: RedisStore, member: Member) -> None:
    (epoch,) = await parked(store, member, A)
    assert await store.release(member, A, epoch - 1, "idle") is False
    assert await store.release(member, A, epoch, "idle") is True
    assert await store.release(member, A, epoch, "idle") is False


async def test_a_release_that_fails_harms_no_other(store: RedisStore, member: Member, client: Any) -> None:
    client.set(store._keys.entity(B)[1], "not ours")
    a, c = await parked(store, member, A, C)
    answers = await at_once(
        lambda: store.release(member, A, a, "idle"),
        lambda: store.release(member, B, None, "idle"),
        lambda: store.release(member, C, c, "idle"),
    )
    assert isinstance(answers[1], Incompatible)
    assert isinstance(answers[0], bool), "False: it was let go of by the call that failed"
    assert isinstance(answers[2], bool)
    assert await store.owned(member, 0) == ()


async def test_calls_are_bounded(store: RedisStore, member: Member) -> None:
    before = written(store)
    await at_once(*(lambda n=n: store.send(group(A, b"%d" % n)) for n in range(2 * MAX_SECTIONS + 1)))
    assert written(store) == before + 3
    before = written(store)
    many = [b"x"] * (MAX_COMMANDS * 2 // 3)
    await at_once(*(lambda: store.send(group(B, *many)) for _ in range(3)))
    assert written(store) == before + 3, "a large group goes alone"
    before = written(store)
    large = b"x" * (BYTES_A_COMMAND * MAX_COMMANDS // 10)
    await at_once(*(lambda: store.send(group(B, large)) for _ in range(18)))
    assert written(store) == before + 3, "the first eight go out at once, and nine large ones fill a call"


async def test_the_order_of_one_moment_is_kept(store: RedisStore, member: Member, client: Any) -> None:
    commands = [b"%d" % n for n in range(300)]
    async with trio.open_nursery() as nursery:
        for data in commands:
            await _start(nursery, store, data)
    assert queued(client, store, A) == commands


async def _start(nursery: trio.Nursery, store: RedisStore, data: bytes) -> None:
    asked = trio.Event()

    async def send() -> None:
        asked.set()
        await store.send(group(A, data))

    nursery.start_soon(send)
    await asked.wait()


async def test_wishes_share_a_call_too(store: RedisStore, member: Member) -> None:
    told: dict[Entity, Any] = {}

    def send(entity: Entity) -> Callable[[], Awaitable[bool]]:
        return lambda: store.send(
            group(entity, b"1"), member=member, wishes=[ClaimWish(entity, "", 5)], on_claim=told.__setitem__
        )

    before = written(store)
    await at_once(send(A), lambda: store.send(group(B, b"1"), member=member), send(C))
    assert written(store) == before + 1
    assert {entity: type(answer) for entity, answer in told.items()} == {A: Claimed, C: Claimed}


# -------------------------------------------------------------------------------- one bad among many
async def test_a_bad_send_harms_no_other(store: RedisStore, member: Member, client: Any) -> None:
    client.set(store._keys.entity(B)[1], "not ours")
    answers = await at_once(
        lambda: store.send(group(A, b"1")),
        lambda: store.send(group(B, b"1")),
        lambda: store.send(group(C, b"1")),
    )
    assert [type(answer) for answer in answers] == [bool, Incompatible, bool]
    assert queued(client, store, A) == queued(client, store, C) == [b"1"]
    client.delete(store._keys.entity(B)[1])
    assert await store.send(group(B, b"2")) is False
    assert queued(client, store, B) == [b"2"]


@pytest.mark.parametrize("broken", ["s", "load", "ready", "e"])
async def test_a_bad_key_of_any_kind_harms_no_other(
    store: RedisStore, member: Member, client: Any, broken: str
) -> None:
    """It is found before the first write, so that no group of the call is taken by halves."""
    bad = Entity("broken", "b")
    bad_member = await store.join(PodInfo("test", frozenset({"broken"}), 10, INFO.lease))
    load, ready = store._keys.placement("broken")
    e, _, s = store._keys.entity(bad)
    key = {"s": s, "load": load, "ready": ready, "e": e}[broken]
    client.delete(key)
    client.rpush(key, "not ours")
    told: list[Any] = []
    answers = await at_once(
        lambda: store.send(
            group(bad, b"1"),
            member=bad_member,
            wishes=[ClaimWish(bad, "", 1)],
            on_claim=lambda _, answer: told.append(answer),
        ),
        lambda: store.send(Group([Outgoing(A, b"1"), Outgoing(C, b"1")]), member=bad_member),
    )
    assert isinstance(answers[0], Incompatible)
    assert told == [NotClaimed()]
    assert answers[1] is False
    assert queued(client, store, A) == queued(client, store, C) == [b"1"]
    assert queued(client, store, bad) == []


async def test_a_bad_claim_harms_no_other(store: RedisStore, member: Member, client: Any) -> None:
    for entity in (A, B, C):
        await store.send(group(entity, b"1"))
    client.rpush(store._keys.state(B), "not ours")
    answers = await at_once(*(lambda e=e: store.claim(member, e) for e in (A, B, C)))
    assert [type(answer) for answer in answers] == [Claimed, Incompatible, Claimed]
    for entity, answer in zip((A, C), (answers[0], answers[2]), strict=True):
        assert await store.commit(member, Commit(entity, answer.epoch, 0, 1)) == Parked()
    assert client.hget(store._keys.entity(B)[0], "mode") == b"parked", "nothing was written for it"
    client.delete(store._keys.state(B))
    assert isinstance(await store.claim(member, B), Claimed)


@pytest.mark.parametrize("broken", ["child", "dead"])
async def test_a_bad_commit_harms_no_other(
    store: RedisStore, member: Member, client: Any, broken: str
) -> None:
    """And nothing of it stands: it may be asked again and again without popping anything."""
    key = store._keys.entity(C)[1] if broken == "child" else store._keys.dead("account")[0]
    client.set(key, "not ours")
    claims = {}
    for entity in (A, B):
        await store.send(group(entity, b"1", b"2"))
        claims[entity] = await store.claim(member, entity)
    bad = Commit(
        A, claims[A].epoch, 0, 1, state=b"s", children=[Outgoing(C, b"1")], replies=[Reply("r", "", b"v", 9000)],
        dead=[DeadLetter("d", b"r")],
    )  # fmt: skip
    good = Commit(B, claims[B].epoch, 0, 1, state=b"s", children=[Outgoing(A, b"3")])
    for _ in range(2):
        answers = await at_once(lambda: store.commit(member, bad), lambda: store.commit(member, good))
        assert isinstance(answers[0], Incompatible)
        assert not isinstance(answers[1], Exception)
    assert queued(client, store, A) == [b"1", b"2", b"3"]
    assert queued(client, store, B) == [b"2"]
    assert await store.state(A) is None
    assert await store.result("r") is None
    client.delete(key)
    await store.commit(member, bad)
    assert queued(client, store, A) == [b"2", b"3"]
    assert queued(client, store, C) == [b"1"]


# -------------------------------------------------------------------------------- what a server may do
async def test_a_server_that_forgot_its_scripts_is_told_again(
    store: RedisStore, member: Member, client: Any
) -> None:
    client.script_flush()
    assert await at_once(*(lambda n=n: store.send(group(A, b"%d" % n)) for n in range(3))) == [False] * 3
    assert len(queued(client, store, A)) == 3
    client.script_flush()
    claimed = await store.claim(member, A)
    assert isinstance(claimed, Claimed)
    client.script_flush()
    assert await store.commit(member, Commit(A, claimed.epoch, 0, 3)) == Parked()
    client.script_flush()
    assert await store.release(member, A, claimed.epoch, "idle") is True
    client.script_flush()
    await store.retire(member)


@pytest.mark.parametrize("version", sorted(find_servers()))
async def test_a_full_server_refuses_sends_and_still_drains(version: str) -> None:
    with RedisServer(find_servers()[version]) as server, server.client() as client:
        async with open_redis_store(server.url, prefix="full", unanswered=5.0) as store:
            member = await store.join(INFO)
            for entity in (A, B):
                await store.send(group(entity, b"1", b"2"))
            claimed = await store.claim(member, A)
            assert isinstance(claimed, Claimed)
            client.config_set("maxmemory", 1)
            refused = group(A, b"3")
            with pytest.raises(StoreFull):
                await store.send(refused)
            errors = await at_once(*(lambda n=n: store.send(group(C, b"%d" % n)) for n in range(3)))
            assert [type(error) for error in errors] == [StoreFull] * 3
            told: list[Any] = []
            with pytest.raises(StoreFull):
                await store.send(
                    group(C, b"1"), member=member, wishes=[ClaimWish(C, "", 1)],
                    on_claim=lambda _, answer: told.append(answer),
                )  # fmt: skip
            assert told == [NotClaimed()]
            # Everything else goes on.
            await store.commit(
                member,
                Commit(
                    A, claimed.epoch, 0, 2, state=b"s", children=[Outgoing(C, b"child")],
                    replies=[Reply("r", store.client, b"v", 9000)], dead=[DeadLetter("d", b"r")],
                ),
            )  # fmt: skip
            assert await store.release(member, A, claimed.epoch, "idle") is True
            assert await store.cancel(B, "id") is True
            other = await store.join(INFO)
            reported = trio.Event()
            async with store.hold_lease(other, INFO.lease, lambda _: reported.set()):
                with trio.fail_after(5):
                    await reported.wait()
            for entity, count in ((B, 2), (C, 1)):
                claimed = await store.claim(member, entity)
                assert isinstance(claimed, Claimed)
                assert len(claimed.batch) == count
                await store.commit(member, Commit(entity, claimed.epoch, 0, count - 1, retry_ms=0))
                claimed = await store.claim(member, entity)
                assert isinstance(claimed, Claimed)
                assert await store.commit(member, Commit(entity, claimed.epoch, claimed.done, 1)) == Parked()
            await store.retire(other)
            for one in (other, member):
                assert await store.reap(one, Silent(one.incarnation, ("account",)), gave_up=True) is True
            client.config_set("maxmemory", 0)
            assert await store.send(refused) is True, (
                "its number is spent: an earlier copy can't be taken any more"
            )
            assert await store.send(group(A, b"4")) is False
            assert queued(client, store, A) == [b"4"]


# -------------------------------------------------------------------------------- while there is no server
@pytest.fixture
def mortal() -> Iterator[RedisServer]:
    """A server that a test may stop, and that keeps its data."""
    with RedisServer(appendonly=True) as server:
        yield server


async def test_nobody_waits_longer_than_unanswered(mortal: RedisServer) -> None:
    async with open_redis_store(mortal.url, prefix="down", unanswered=0.2) as store:
        member = await store.join(INFO)
        mortal.kill()
        with trio.fail_after(5):
            answers = await at_once(
                lambda: store.send(group(A, b"1")),
                lambda: store.claim(member, A),
                lambda: store.commit(member, Commit(A, 1, 0, 1)),
                lambda: store.retire(member),
                lambda: store.state(A),
            )
        assert {type(answer) for answer in answers} <= {StoreUnavailable, OutcomeUnknown}


async def test_a_send_that_was_given_up_may_be_sent_again(mortal: RedisServer) -> None:
    """It was taken or not: sending the same group again finds out, whatever was sent since."""
    async with open_redis_store(mortal.url, prefix="down", unanswered=0.2) as store:
        await store.send(group(A, b"1"))
        lost = group(A, b"2")
        mortal.pause()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_expect_unknown, store, lost)
            await trio.testing.wait_all_tasks_blocked(0.05)
            mortal.kill()
        mortal.restart()
        with trio.fail_after(10):
            while True:
                try:
                    assert await store.send(group(A, b"3")) is False
                    break
                except StoreUnavailable:
                    continue
        assert await store.send(lost) is False, "it had not been taken"
        assert await store.send(lost) is True
        with mortal.client() as client:
            assert queued(client, store, A) == [b"1", b"3", b"2"]


async def test_a_wish_stays_behind_on_a_server_that_is_no_more(mortal: RedisServer) -> None:
    """The send itself goes on, under its number, so that it is taken once."""
    async with open_redis_store(mortal.url, prefix="down", unanswered=10.0) as store:
        member = await store.join(INFO)
        told: list[Any] = []
        sent, answers = group(A, b"1"), list[bool]()

        async def wishing() -> None:
            wishes = [ClaimWish(A, "", 1)]
            answers.append(
                await store.send(sent, member=member, wishes=wishes, on_claim=lambda _, one: told.append(one))
            )

        async with trio.open_nursery() as nursery:
            mortal.pause()
            nursery.start_soon(wishing)
            await trio.testing.wait_all_tasks_blocked(0.05)
            mortal.kill()
            await trio.testing.wait_all_tasks_blocked(0.05)
            mortal.restart()
        assert told == [NotClaimed()]
        assert await store.send(sent) is True
        await wishing()
        assert told == [NotClaimed()] * 2, "nobody has joined the new server"
        with mortal.client() as client:
            assert queued(client, store, A) == [b"1"]


@pytest.mark.parametrize("wishes", [True, False])
@pytest.mark.parametrize("was_written", [True, False])
async def test_a_cancel_does_not_overtake_its_send_to_a_new_server(
    mortal: RedisServer, wishes: bool, was_written: bool
) -> None:
    async with open_redis_store(mortal.url, prefix="down", unanswered=10.0) as store:
        member = await store.join(INFO)
        told: list[Any] = []
        caller = trio.CancelScope()
        answers: list[bool] = []

        async def send() -> None:
            with caller:
                await store.send(
                    group(A, b"1"),
                    member=member,
                    wishes=[ClaimWish(A, "", 1)] if wishes else [],
                    on_claim=lambda _, one: told.append(one),
                )

        async def cancel() -> None:
            answers.append(await store.cancel(A, "id"))

        async with trio.open_nursery() as nursery:
            if was_written:
                mortal.pause()
            else:
                mortal.kill()
                await until(lambda: not store._transport.statistics().connected)
            nursery.start_soon(send)
            await trio.testing.wait_all_tasks_blocked(0.05)
            caller.cancel()
            nursery.start_soon(cancel)
            await trio.testing.wait_all_tasks_blocked(0.05)
            if was_written:
                mortal.kill()
            mortal.restart()
        assert answers == [True]
        assert await store.cancelled(A) == ("id",)
        assert told == ([NotClaimed()] if wishes else [])


class Asked:
    """A transport that keeps what it is asked, for whoever plays the server."""

    def __init__(self) -> None:
        self.all: list[dict[str, Any]] = []
        self.batcher = Batcher(self, Keys("x"), "client", "redis")  # type: ignore[arg-type]

    def before_write(self, hook: Any) -> None: ...
    def poke(self) -> None: ...
    def submit(self, packed: bytes, deliver: Any, **options: Any) -> None:
        self.all.append({"deliver": deliver, "written": False, **options})

    def send(self, *groups: Group) -> list[Any]:
        answers: list[Any] = []
        for one in groups:
            self.batcher.send(SendSection(one, answer=answers.append))
        self.batcher.flush()
        return answers


def test_what_is_asked_again_alone_is_not_said_to_be_unsent() -> None:
    """An earlier copy may have been taken by another server."""
    asked = Asked()
    asked.send(group(A, b"1"), group(B, b"1"))
    asked.all.pop()["deliver"](redis.exceptions.OutOfMemoryError("OOM"))
    assert [one["written"] for one in asked.all] == [True, True]
    asked.all.pop()["deliver"](redis.exceptions.NoScriptError("NOSCRIPT"))
    assert asked.all[-1]["written"]


def test_a_refused_send_is_not_refused_until_no_earlier_copy_can_be_taken() -> None:
    asked, one = Asked(), group(A, b"1")
    answers = asked.send(one)
    asked.all.pop()["deliver"](redis.exceptions.OutOfMemoryError("OOM"))
    void = asked.all.pop()
    assert void["written"], "given up, it is not said that nothing was sent"
    void["deliver"](OutcomeUnknown("it", 5.0))
    assert [type(answer) for answer in answers] == [OutcomeUnknown]
    assert asked.batcher.low() == one.sequence, "it is asked for again under its number, or abandoned"


async def _expect_unknown(store: RedisStore, lost: Group) -> None:
    with pytest.raises(OutcomeUnknown):
        await store.send(lost)


async def test_nothing_goes_out_early_while_the_server_is_at_work(mortal: RedisServer) -> None:
    entities = [Entity("account", str(n)) for n in range(50)]
    async with open_redis_store(mortal.url, prefix="busy", unanswered=5.0) as store:
        mortal.pause()
        before = written(store)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.result, "nobody's")
            await trio.testing.wait_all_tasks_blocked()
            for entity in entities:
                nursery.start_soon(store.send, group(entity, b"1"))
            await trio.testing.wait_all_tasks_blocked()
            mortal.resume()
        assert written(store) == before + 2


async def test_requests_of_one_outage_are_answered_after_it(mortal: RedisServer) -> None:
    async with open_redis_store(mortal.url, prefix="down", unanswered=10.0) as store:
        mortal.kill()
        answers: list[bool] = []

        async def send(n: int) -> None:
            answers.append(await store.send(group(A, b"%d" % n)))

        async with trio.open_nursery() as nursery:
            for n in range(10):
                nursery.start_soon(send, n)
            await trio.testing.wait_all_tasks_blocked(0.02)
            mortal.restart()
        assert answers == [False] * 10
        with mortal.client() as client:
            assert len(queued(client, store, A)) == 10


async def test_a_closed_store_answers_at_once(mortal: RedisServer) -> None:
    async with open_redis_store(mortal.url, prefix="down", unanswered=10.0) as store:
        member = await store.join(INFO)
    with trio.fail_after(1):
        answers = await at_once(
            lambda: store.send(group(A, b"1")),
            lambda: store.claim(member, A),
            lambda: store.commit(member, Commit(A, 1, 0, 1)),
            lambda: store.state(A),
        )
    assert [type(answer) for answer in answers] == [Closed] * 4


async def test_closing_ends_what_waits(mortal: RedisServer) -> None:
    answers: list[Any] = []
    async with trio.open_nursery() as nursery:

        async def ask() -> None:
            answers.extend(await at_once(lambda: store.send(group(A, b"1"))))

        async with open_redis_store(mortal.url, prefix="down", unanswered=10.0) as store:
            mortal.kill()
            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked(0.02)
    assert [type(answer) for answer in answers] == [Closed]


def test_an_interrupt_before_the_answer_leaves_no_stray_wake_up(
    clean_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C between asking and waiting: the answer comes for a task that waits for something else by then."""

    async def main() -> None:
        async with open_redis_store(clean_redis.url, prefix="interrupted", unanswered=5.0) as store:
            member = await store.join(INFO)
            claim = store._batcher.claim

            def claim_interrupted(section: Any) -> None:
                claim(section)
                signal.raise_signal(signal.SIGINT)

            monkeypatch.setattr(store._batcher, "claim", claim_interrupted)
            try:
                await store.claim(member, A)
                await trio.sleep(0.1)  # where it is raised at the latest
            finally:
                monkeypatch.undo()
                with trio.CancelScope(shield=True):
                    for _ in range(3):
                        assert await store.state(A) is None

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
