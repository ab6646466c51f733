import copy
import inspect
import pickle

import pytest
import trio
from fleet import Note
from redis_servers import RedisServer

from trioqueue import Limits, _errors, open_atomic_queues
from trioqueue._errors import (
    AccessDenied,
    BadDeclaration,
    BadEntityId,
    BadUrl,
    CallCancelled,
    CallFailed,
    Closed,
    DeadlineExceeded,
    DecodeError,
    DuplicateRegistration,
    EncodeError,
    Incompatible,
    MailboxFull,
    NewerVersion,
    NotRegistered,
    NotReplicated,
    OutcomeUnknown,
    PayloadTooLarge,
    ReentrantCall,
    Rejected,
    ResultNotKept,
    SendInsideTurn,
    StateTooLarge,
    StoreFull,
    StoreUnavailable,
    TrioqueueError,
    UnknownCommand,
)

EXAMPLES = [
    BadDeclaration("Deposit has no entity id: give it one."),
    DuplicateRegistration("There are two handlers: remove one."),
    NotRegistered("The class Deposit", "decorate it with @command"),
    BadEntityId("", "is empty: give the entity a name"),
    PayloadTooLarge(300, 200),
    PayloadTooLarge(300, 200, together=True),
    StateTooLarge(300, 200),
    EncodeError("nan is no JSON number"),
    DecodeError("it is not JSON", b"{"),
    BadUrl("the scheme is missing"),
    StoreUnavailable("localhost:6379", "connection refused"),
    AccessDenied("the password is wrong"),
    Incompatible("the server has version 5.0 and 6.2 is needed"),
    StoreFull("localhost:6379"),
    MailboxFull("account/acc-1", 100),
    ResultNotKept("c0ffee-1", ever=False),
    NotReplicated(30.0, "no replica answered"),
    OutcomeUnknown("Deposit to account/42", 30.0),
    Closed(),
    UnknownCommand("account/42", "deposit"),
    DeadlineExceeded("deposit", "account/42", ("account/1", "account/42")),
    CallFailed("deposit", "account/42", "ValueError('no')", "Traceback ..."),
    CallCancelled("deposit", "account/42"),
    ReentrantCall(("account/1", "account/2", "account/1")),
    SendInsideTurn("account/42"),
    Rejected("InsufficientFunds", {"balance": 20}),
]
NEWER = NewerVersion("Deposit is newer: deploy it", b"{}", name="Deposit", version=3, known=2)


def name_of(cls: type[Exception]) -> str:
    return cls.__name__


def classes() -> set[type[Exception]]:
    found = {value for value in vars(_errors).values() if inspect.isclass(value)}
    return {cls for cls in found if issubclass(cls, Exception)}


def test_the_examples_are_all_there_is() -> None:
    assert {type(error) for error in EXAMPLES} | {TrioqueueError, NewerVersion} == classes()


@pytest.mark.parametrize("error", [*EXAMPLES, NEWER], ids=lambda error: type(error).__name__)
def test_message_is_one_line_and_a_sentence(error: TrioqueueError) -> None:
    text = str(error)

    assert isinstance(error, TrioqueueError)
    assert text.endswith(".")
    assert "\n" not in text
    assert text[0].isupper() or text.startswith("'")


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_errors_survive_copying_and_pickling(error: TrioqueueError) -> None:
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(twin) is type(error)
        assert str(twin) == str(error)


CLASSES = sorted(classes(), key=name_of)


@pytest.mark.parametrize("cls", CLASSES, ids=name_of)
def test_every_class_says_who_raises_it(cls: type[Exception]) -> None:
    assert cls.__doc__
    assert cls is TrioqueueError or "aised" in cls.__doc__


async def test_a_store_that_goes_away_while_the_queues_are_open_is_unavailable_too() -> None:
    """And nothing of what was asked of it meanwhile is done when it is back, as its description says."""
    says = " ".join((StoreUnavailable.__doc__ or "").split())
    assert "Once the queues are open" in says
    with RedisServer(appendonly=True) as redis, trio.fail_after(30):
        async with open_atomic_queues(redis.url, limits=Limits(unanswered=0.3)) as queues:
            redis.kill()
            for _ in range(2):  # the link may not have noticed yet when the first one is sent
                with pytest.raises((StoreUnavailable, OutcomeUnknown)) as caught:
                    await queues.send(Note("before", 1))
            assert caught.type is StoreUnavailable
            with pytest.raises(StoreUnavailable, match="nothing was sent"):
                await queues.send(Note("meanwhile", 1))
            redis.restart()
            while True:
                try:
                    await queues.send(Note("after", 1))
                    break
                except StoreUnavailable:
                    continue
            assert (await queues.inspect("ledger", "meanwhile")).pending == 0
            assert (await queues.inspect("ledger", "after")).pending == 1


def test_values_are_attributes() -> None:
    error = PayloadTooLarge(300, 200)

    assert (error.size, error.limit) == (300, 200)
    assert "300 bytes" in str(error)
    assert "200" in str(error)
    assert ReentrantCall(("a/1", "b/2", "a/1")).path == ("a/1", "b/2", "a/1")
    assert (NEWER.name, NEWER.version, NEWER.known) == ("Deposit", 3, 2)


def test_a_call_shows_the_path_it_took() -> None:
    assert "account/1 → account/2 → account/1" in str(ReentrantCall(("account/1", "account/2", "account/1")))
    assert "called by account/1 → account/42" in str(
        DeadlineExceeded("d", "account/42", ("account/1", "account/42"))
    )


def test_undecodable_data_is_kept_short() -> None:
    error = DecodeError("it is not JSON", b"x" * 10_000)

    assert len(error.data) < 200
    assert len(str(error)) < 400


def test_a_monstrous_entity_id_does_not_make_a_monstrous_message() -> None:
    assert len(str(BadEntityId("x" * 10_000, "is too long"))) < 300


def test_a_remote_traceback_is_kept_but_not_shown() -> None:
    error = CallFailed("deposit", "account/42", "ValueError('no')", "Traceback (most recent call last): ...")

    assert error.traceback.startswith("Traceback")
    assert "Traceback" not in str(error) + repr(error)


def test_notes_can_be_added() -> None:
    error = Closed()
    error.add_note("while leaving")

    assert error.__notes__ == ["while leaving"]
