"""Handlers that have a name, and no class of commands."""

from typing import Any

import attrs
import pytest
import trio

from trioqueue._errors import BadDeclaration, DuplicateRegistration, NotRegistered
from trioqueue.messages.codec import Codec
from trioqueue.messages.command import Command, command, entity_id, info_of
from trioqueue.messages.policy import Retry
from trioqueue.messages.raw import WILDCARD, RawCommand, raw_info
from trioqueue.messages.registry import Registry
from trioqueue.messages.state import state


@state("account")
class Account:
    balance: int = 0


@command("account")
class Deposit(Command[int]):
    account_id: str = entity_id()
    amount: int


class Pool:
    pass


async def typed(command: Deposit) -> int:
    return command.amount


async def raw(command: RawCommand) -> int:
    return len(command.payload)


class TestRawCommand:
    def test_it_is_a_frozen_value(self) -> None:
        one = RawCommand("account", "acc-1", "audit", {"depth": 3})

        assert one == RawCommand("account", "acc-1", "audit", {"depth": 3}, version=1)
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            one.name = "other"  # type: ignore[misc]

    def test_its_repr_shows_nothing_of_what_travels(self) -> None:
        assert repr(RawCommand("account", "acc-1", "audit", {"pin": 1234})) == (
            "RawCommand(entity='account', entity_id='acc-1', name='audit', version=1)"
        )

    def test_it_cannot_be_sent(self) -> None:
        with pytest.raises(NotRegistered, match="RawCommand is not registered"):
            info_of(RawCommand("account", "acc-1", "audit", {}))  # type: ignore[call-overload]


class TestInfo:
    @pytest.mark.parametrize("name", ["special-audit", "Audit.2:x", WILDCARD])
    def test_it_stands_for_a_declaration(self, name: str) -> None:
        info = raw_info("account", name)

        assert (info.cls, info.entity, info.name) == (RawCommand, "account", name)
        assert not info.is_query
        assert str(info).endswith(".RawCommand")

    def test_what_a_raw_handler_takes_and_returns_can_travel(self) -> None:
        info, codec = raw_info("account", WILDCARD), Codec()
        codec.decoder(info.cls)

        assert codec.unstructure({"a": [1, None, b"x"]}, info.reply_type()) == {"a": [1, None, "eA=="]}

    @pytest.mark.parametrize("name", ["", "**", "a*", "special audit", "1st", 7, None])
    def test_of_no_legal_name(self, name: Any) -> None:
        with pytest.raises(BadDeclaration, match="no legal command name"):
            raw_info("account", name)

    @pytest.mark.parametrize("entity_type", ["", "*", "Account", 7])
    def test_of_no_legal_type(self, entity_type: Any) -> None:
        with pytest.raises(BadDeclaration, match="no legal entity type"):
            raw_info(entity_type, "audit")


class TestRegistering:
    def test_a_raw_handler_is_found_by_type_and_name(self) -> None:
        registry = Registry()

        @registry.on("account", "special-audit", retry=Retry(attempts=2), timeout=5.0)
        async def audit(command: RawCommand, account: Account, *, pool: Pool | None = None) -> int:
            return account.balance

        registry.freeze()
        handler = registry.handler("account", "special-audit")

        assert handler is not None
        assert handler.function is audit
        assert handler.parameters == (("account", Account), ("pool", Pool | None))
        assert handler.optional == {"pool"}
        assert (handler.retry, handler.timeout) == (Retry(attempts=2), 5.0)
        assert registry.handler("account", "other") is None
        assert registry.state_of("account") is Account

    def test_a_type_with_raw_handlers_alone_is_served(self) -> None:
        registry = Registry()
        registry.on("account", WILDCARD)(raw)
        registry.freeze()

        assert registry.types() == {"account"}

    def test_bound_methods(self) -> None:
        class Book:
            async def audit(self, command: RawCommand, account: Account) -> int:
                return 7

        registry, book = Registry(), Book()
        registry.on("account", "audit")(book.audit)
        registry.freeze()
        handler = registry.handler("account", "audit")

        assert handler is not None
        assert handler.parameters == (("account", Account),)

    def test_the_function_stays_as_it_is(self) -> None:
        assert Registry().on("account", "audit")(raw) is raw
        assert trio.run(raw, RawCommand("account", "a", "audit", {"depth": 3})) == 1

    def test_a_raw_handler_after_a_typed_one(self) -> None:
        registry = Registry()
        registry.handles(Deposit)(typed)

        with pytest.raises(DuplicateRegistration, match=r"'deposit' of 'account' is handled by .*typed \("):
            registry.on("account", "deposit")(raw)
        registry.freeze()
        assert registry.commands_of("account") == (info_of(Deposit),)

    def test_a_typed_handler_after_a_raw_one(self) -> None:
        registry = Registry()
        registry.on("account", "deposit")(raw)

        with pytest.raises(DuplicateRegistration, match=r"by .*raw \(.*RawCommand\) already, so .*typed \("):
            registry.handles(Deposit)(typed)

    @pytest.mark.parametrize("name", ["audit", WILDCARD])
    def test_two_raw_handlers(self, name: str) -> None:
        registry = Registry()
        registry.on("account", name)(raw)

        with pytest.raises(DuplicateRegistration, match="of 'account' is handled by"):
            registry.on("account", name)(raw)

    def test_beside_each_other(self) -> None:
        registry = Registry()
        registry.handles(Deposit)(typed)
        registry.on("account", "audit")(raw)
        registry.on("account", WILDCARD)(raw)
        registry.on("order", WILDCARD)(raw)
        registry.freeze()

        assert registry.types() == {"account", "order"}

    @pytest.mark.parametrize("timeout", [0, -1.0, float("nan")])
    def test_an_illegal_timeout(self, timeout: float) -> None:
        with pytest.raises(BadDeclaration, match="give seconds, more than 0"):
            Registry().on("account", "audit", timeout=timeout)

    def test_after_the_opening(self) -> None:
        registry = Registry()
        registry.freeze()

        with pytest.raises(BadDeclaration, match="raw comes after the registry was opened"):
            registry.on("account", "audit")(raw)

    def test_the_first_parameter_says_the_same(self) -> None:
        registry = Registry()
        on: Any = registry.on
        on("account", "audit")(typed)

        with pytest.raises(BadDeclaration, match="registered for RawCommand and takes Deposit"):
            registry.freeze()

        registry = Registry()
        handles: Any = registry.handles
        handles(Deposit)(raw)

        with pytest.raises(BadDeclaration, match="registered for Deposit and takes RawCommand"):
            registry.freeze()
