from __future__ import annotations

from typing import Any, Generic, TypeVar
from uuid import UUID

import attrs
import pytest

from trioqueue._errors import BadDeclaration, BadEntityId, NotRegistered
from trioqueue._names import Entity
from trioqueue.messages.command import Command, Query, command, entity_id, entity_of, info_of, query
from trioqueue.messages.rejection import Rejection

T = TypeVar("T")


@command("account")
class Deposit(Command[int]):
    account_id: str = entity_id()
    amount: int


@command("account")
class Later(Command["list[DefinedLater]"]):
    account_id: str = entity_id()


class DefinedLater:
    pass


def declare(cls: type[Any], *arguments: Any, by: Any = command, **options: Any) -> type[Any]:
    """Declares past the type checkers, which see most of these mistakes."""
    declared: type[Any] = by(*(arguments or ("account",)), **options)(cls)
    return declared


def test_a_command_is_a_frozen_value() -> None:
    deposit = Deposit("acc-1", amount=100)

    assert deposit == Deposit("acc-1", 100)
    assert hash(deposit) == hash(Deposit("acc-1", 100))
    assert "Deposit(account_id='acc-1', amount=100)" in repr(deposit)
    assert not hasattr(deposit, "__dict__")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        deposit.amount = 1  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def test_what_the_declaration_says() -> None:
    info = info_of(Deposit)

    assert info is info_of(Deposit("acc-1", 1))
    assert info.cls is Deposit
    assert (info.entity, info.name, info.version, info.id_field) == ("account", "deposit", 1, "account_id")
    assert info.rejects == ()
    assert not info.is_query
    assert info.reply_type() is int
    assert str(info) == f"{__name__}.Deposit"


def test_options() -> None:
    class Refused(Rejection):
        pass

    @command("account", name="close-account", version=3, entity_id="number", rejects=[Refused])
    class Close(Command):
        number: int

    info = info_of(Close)
    assert (info.name, info.version, info.id_field, info.rejects) == (
        "close-account",
        3,
        "number",
        (Refused,),
    )


@pytest.mark.parametrize(
    ("class_name", "name"),
    [
        ("Deposit", "deposit"),
        ("CloseAccount", "close_account"),
        ("HTTPRequest", "http_request"),
        ("GetURL", "get_url"),
        ("Step2Done", "step2_done"),
        ("_Hidden", "hidden"),
    ],
)
def test_the_default_name_is_snake_case(class_name: str, name: str) -> None:
    cls = type(class_name, (Command,), {"__annotations__": {"of": str}, "of": entity_id()})

    assert info_of(declare(cls)).name == name


@pytest.mark.parametrize(("value", "text"), [("a/b", "a/b"), (42, "42"), (UUID(int=1), str(UUID(int=1)))])
def test_the_entity_of_a_command(value: Any, text: str) -> None:
    assert entity_of(Deposit(value, 1)) == Entity("account", text)


def test_a_bad_entity_id_is_told_when_it_is_asked_for() -> None:
    with pytest.raises(BadEntityId, match="empty"):
        entity_of(Deposit("", 1))


def test_an_alias_is_for_the_constructor_alone() -> None:
    @command("account")
    class Close(Command):
        account_id: str = entity_id(alias="account", kw_only=True)
        reason: str = ""

    assert entity_of(Close("fraud", account="acc-1")) == Entity("account", "acc-1")
    assert info_of(Close).id_field == "account_id"


def test_a_class_that_is_attrs_already_is_taken_as_it_is() -> None:
    @attrs.frozen(kw_only=True)
    class Rename(Command[str]):
        account_id: str = entity_id()
        name: str

    assert declare(Rename) is Rename
    assert entity_of(Rename(account_id="a", name="b")).id == "a"


def test_a_mutable_class_is_refused() -> None:
    @attrs.define
    class Rename(Command):
        account_id: str = entity_id()

    with pytest.raises(BadDeclaration, match=r"Rename is mutable: use @attrs\.frozen"):
        declare(Rename)


def test_a_query_only_reads() -> None:
    @query("account")
    class Balance(Query[int]):
        account_id: str = entity_id()

    assert info_of(Balance).is_query
    assert info_of(Balance).reply_type() is int


def test_fields_may_be_inherited() -> None:
    class OfAccount(Command[T], Generic[T]):
        pass

    @command("account")
    class First(OfAccount[int]):
        account_id: str = entity_id()

    @command("account")
    class Second(First):
        amount: int = 0

    assert entity_of(Second("a")) == Entity("account", "a")
    assert info_of(Second).name == "second"
    assert info_of(Second).reply_type() is int


class TestReplyType:
    def test_bare(self) -> None:
        @command("account")
        class Close(Command):
            account_id: str = entity_id()

        assert info_of(Close).reply_type() is type(None)

    def test_none(self) -> None:
        @command("account")
        class Close(Command[None]):
            account_id: str = entity_id()

        assert info_of(Close).reply_type() is type(None)

    def test_a_name_that_comes_later_in_the_module(self) -> None:
        assert info_of(Later).reply_type() == list[DefinedLater]

    def test_a_name_that_comes_later_in_the_function(self) -> None:
        @command("account")
        class Get(Command["Found | None"]):
            account_id: str = entity_id()

        class Found:
            pass

        assert info_of(Get).reply_type() == Found | None

    def test_a_name_that_never_comes(self) -> None:
        @command("account")
        class Get(Command["Nowhere"]):  # type: ignore[name-defined]  # pyright: ignore[reportUndefinedVariable]
            account_id: str = entity_id()

        with pytest.raises(
            BadDeclaration, match=r"The reply type of .*Get names 'Nowhere', which is unknown"
        ):
            info_of(Get).reply_type()

    def test_through_generic_bases(self) -> None:
        class Listing(Command[list[T]], Generic[T]):
            pass

        class Renamed(Listing[T], Generic[T]):
            pass

        @command("account")
        class Get(Renamed[int]):
            account_id: str = entity_id()

        assert info_of(Get).reply_type() == list[int]


class TestMistakes:
    def test_no_entity_id(self) -> None:
        class Bad(Command):
            account: str

        with pytest.raises(BadDeclaration, match="does not say which entity it is for"):
            declare(Bad)

    def test_two_entity_ids(self) -> None:
        class Bad(Command):
            first: str = entity_id()
            second: str = entity_id()

        with pytest.raises(BadDeclaration, match="has the entity ids first, second"):
            declare(Bad)

    def test_marked_and_named(self) -> None:
        class Bad(Command):
            first: str = entity_id()
            second: str

        with pytest.raises(BadDeclaration, match="has the entity ids first, second"):
            declare(Bad, entity_id="second")

    def test_marked_and_named_the_same_is_no_mistake(self) -> None:
        class Good(Command):
            first: str = entity_id()

        assert info_of(declare(Good, entity_id="first")).id_field == "first"

    def test_unknown_entity_id(self) -> None:
        class Bad(Command):
            account: str

        with pytest.raises(BadDeclaration, match="has no field 'id'"):
            declare(Bad, entity_id="id")

    def test_illegal_type(self) -> None:
        class Bad(Command):
            account: str = entity_id()

        with pytest.raises(BadDeclaration, match="'My Account' is no legal entity type"):
            declare(Bad, "My Account")

    def test_illegal_name(self) -> None:
        class Bad(Command):
            account: str = entity_id()

        with pytest.raises(BadDeclaration, match=r"'\*' is no legal command name"):
            declare(Bad, name="*")

    @pytest.mark.parametrize("version", [0, -1, True, "1", 1.0])
    def test_illegal_version(self, version: Any) -> None:
        class Bad(Command):
            account: str = entity_id()

        with pytest.raises(BadDeclaration, match="versions are whole numbers from 1 on"):
            declare(Bad, version=version)

    def test_not_a_command(self) -> None:
        class Bad:
            account: str = entity_id()

        with pytest.raises(
            BadDeclaration, match=r"is not a Command: write `class .*Bad\(Command\[Reply\]\)`"
        ):
            declare(Bad)

    def test_command_declared_as_query(self) -> None:
        class Bad(Command):
            account: str = entity_id()

        with pytest.raises(BadDeclaration, match="has @query: use @command, or the base Query"):
            declare(Bad, by=query)

    def test_query_declared_as_command(self) -> None:
        class Bad(Query[int]):
            account: str = entity_id()

        with pytest.raises(BadDeclaration, match="is a Query: use @query"):
            declare(Bad)

    @pytest.mark.parametrize("default", [[], {}, set[str](), bytearray()])
    def test_shared_defaults(self, default: Any) -> None:
        class Bad(Command):
            account: str = entity_id()
            items: Any = default

        kind = type(default).__name__
        with pytest.raises(BadDeclaration, match=rf"write attrs\.field\(factory={kind}\)"):
            declare(Bad)

    def test_rejects_something_else(self) -> None:
        class Bad(Command):
            account: str = entity_id()

        with pytest.raises(BadDeclaration, match="list classes over Rejection"):
            declare(Bad, rejects=[ValueError])

    def test_undeclared_subclass(self) -> None:
        class Undeclared(Deposit):
            pass

        for subject in (Undeclared, Undeclared("a", 1), Command):
            with pytest.raises(NotRegistered, match="decorate it with @command or @query"):
                info_of(subject)
