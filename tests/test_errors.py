import copy
import inspect
import pickle

import pytest

from trioqueue import _errors
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
