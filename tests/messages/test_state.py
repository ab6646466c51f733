from __future__ import annotations

from typing import Any

import attrs
import pytest

from trioqueue._errors import BadDeclaration, NotRegistered
from trioqueue.messages.state import is_state, state, state_info_of


@state("account", version=2)
class Account:
    balance: int = 0
    notes: list[str] = attrs.field(factory=list[str])


def declare(cls: type[Any], *arguments: Any, **options: Any) -> type[Any]:
    declared: type[Any] = state(*(arguments or ("account",)), **options)(cls)
    return declared


def test_a_state_is_mutable_and_compared_by_its_fields() -> None:
    account = Account()
    account.balance += 5

    assert account == Account(balance=5)
    assert account != Account()
    assert not hasattr(account, "__dict__")


def test_instances_share_nothing() -> None:
    Account().notes.append("first")

    assert Account().notes == []


def test_what_the_declaration_says() -> None:
    info = state_info_of(Account)

    assert info is state_info_of(Account())
    assert (info.cls, info.entity, info.version) == (Account, "account", 2)
    assert is_state(Account)
    assert not is_state(Account())


def test_a_class_that_is_attrs_already_is_taken_as_it_is() -> None:
    @attrs.define(kw_only=True)
    class Cart:
        items: int = 0

    assert declare(Cart) is Cart
    assert state_info_of(Cart).cls is Cart


def test_a_subclass_is_no_state_by_itself() -> None:
    class Savings(Account):
        pass

    assert not is_state(Savings)
    with pytest.raises(NotRegistered, match="decorate it with @state"):
        state_info_of(Savings)


def test_every_field_needs_a_default() -> None:
    class Bad:
        balance: int

    with pytest.raises(BadDeclaration, match=r"Bad\.balance has no default"):
        declare(Bad)


@pytest.mark.parametrize("default", [[], {}, set[str](), bytearray()])
def test_shared_defaults_are_refused(default: Any) -> None:
    class Bad:
        items: Any = default

    with pytest.raises(BadDeclaration, match=rf"write attrs\.field\(factory={type(default).__name__}\)"):
        declare(Bad)


def test_a_field_that_would_not_come_back_is_refused() -> None:
    class Bad:
        seen: int = attrs.field(default=0, init=False)

    with pytest.raises(BadDeclaration, match=r"Bad\.seen has init=False"):
        declare(Bad)


def test_a_frozen_class_is_refused() -> None:
    @attrs.frozen
    class Bad:
        balance: int = 0

    with pytest.raises(BadDeclaration, match="is frozen and could never change"):
        declare(Bad)


@pytest.mark.parametrize("version", [0, True, "1"])
def test_illegal_versions_are_refused(version: Any) -> None:
    class Bad:
        balance: int = 0

    with pytest.raises(BadDeclaration, match="versions are whole numbers"):
        declare(Bad, version=version)


def test_illegal_types_are_refused() -> None:
    class Bad:
        balance: int = 0

    with pytest.raises(BadDeclaration, match="'Account' is no legal entity type"):
        declare(Bad, "Account")
