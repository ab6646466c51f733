from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from trioqueue._errors import BadDeclaration, DecodeError, DuplicateRegistration, NewerVersion, NotRegistered
from trioqueue.messages.command import Command, Query, command, entity_id, info_of, query
from trioqueue.messages.policy import Retry
from trioqueue.messages.registry import Registry
from trioqueue.messages.state import state


@state("account", version=2)
class Account:
    balance: int = 0


@state("order")
class Order:
    lines: int = 0


@command("account", version=3)
class Deposit(Command[int]):
    account_id: str = entity_id()
    amount: int


@command("account")
class Withdraw(Command[int]):
    account_id: str = entity_id()
    amount: int


@query("account")
class Balance(Query[int]):
    account_id: str = entity_id()


@command("order")
class Place(Command):
    order_id: int = entity_id()


class Pool:
    pass


def registry_with_deposit() -> Registry:
    registry = Registry()

    @registry.handles(Deposit)
    async def deposit(command: Deposit, account: Account) -> int:
        account.balance += command.amount
        return account.balance

    return registry


class TestHandling:
    def test_a_handler_is_found_by_type_and_name(self) -> None:
        registry = Registry()

        @registry.handles(Deposit, retry=Retry(attempts=2), timeout=5.0)
        async def deposit(command: Deposit, account: Account, *, pool: Pool | None = None) -> int:
            return 1

        @registry.handles(Place)
        async def place(command: Place) -> None:
            pass

        registry.freeze()
        handler = registry.handler("account", "deposit")

        assert handler is not None
        assert handler.info is info_of(Deposit)
        assert handler.function is deposit
        assert handler.parameters == (("account", Account), ("pool", Pool | None))
        assert handler.optional == {"pool"}
        assert (handler.retry, handler.timeout) == (Retry(attempts=2), 5.0)
        assert handler.qualname.endswith(".deposit")
        assert registry.types() == {"account", "order"}
        assert registry.commands_of("account") == (info_of(Deposit),)
        assert registry.commands_of("nothing") == ()
        assert registry.state_of("account") is Account
        assert registry.state_of("order") is None
        assert registry.handler("account", "place") is None

    def test_the_function_stays_as_it_is(self) -> None:
        async def deposit(command: Deposit, account: Account) -> int:
            return account.balance + command.amount

        assert Registry().handles(Deposit)(deposit) is deposit
        assert trio.run(deposit, Deposit("a", 1), Account(2)) == 3

    def test_bound_methods(self) -> None:
        class Book:
            async def deposit(self, command: Deposit, account: Account) -> int:
                return 7

        registry, book = Registry(), Book()
        registry.handles(Deposit)(book.deposit)
        registry.freeze()
        handler = registry.handler("account", "deposit")

        assert handler is not None
        assert handler.parameters == (("account", Account),)

        async def use() -> Any:
            return await handler.function(Deposit("a", 1), account=Account())

        assert trio.run(use) == 7

    def test_classes_of_the_function_around_it(self) -> None:
        @state("cart")
        class Cart:
            items: int = 0

        @command("cart")
        class Add(Command[int]):
            cart_id: str = entity_id()

        registry = Registry()

        @registry.handles(Add)
        async def add(command: Add, cart: Cart, later: Later) -> int:
            return 1

        class Later:
            pass

        registry.freeze()
        handler = registry.handler("cart", "add")

        assert handler is not None
        assert handler.parameters == (("cart", Cart), ("later", Later))
        assert registry.state_of("cart") is Cart

    def test_a_second_handler_is_refused_and_both_are_named(self) -> None:
        registry = registry_with_deposit()

        async def another(command: Deposit) -> int:
            return 1

        with pytest.raises(
            DuplicateRegistration, match=r"handled by .*deposit \(.*Deposit\) already, so .*another"
        ):
            registry.handles(Deposit)(another)
        registry.freeze()
        assert len(registry.commands_of("account")) == 1

    def test_a_second_command_of_the_same_name_is_refused(self) -> None:
        @command("account", name="deposit")
        class PayIn(Command[int]):
            account_id: str = entity_id()

        async def pay_in(command: PayIn) -> int:
            return 1

        with pytest.raises(DuplicateRegistration, match=r"'deposit' of 'account' .*Deposit.*PayIn"):
            registry_with_deposit().handles(PayIn)(pay_in)

    def test_the_same_name_for_another_type_is_legal(self) -> None:
        @command("order", name="deposit")
        class PayIn(Command[int]):
            order_id: str = entity_id()

        registry = registry_with_deposit()

        @registry.handles(PayIn)
        async def pay_in(command: PayIn) -> int:
            return 1

        registry.freeze()
        assert registry.types() == {"account", "order"}

    def test_registries_are_independent(self) -> None:
        registry_with_deposit().freeze()
        registry_with_deposit().freeze()

    def test_no_command(self) -> None:
        class Undeclared(Command):
            pass

        with pytest.raises(NotRegistered, match="Undeclared is not registered: decorate it"):
            Registry().handles(Undeclared)

    @pytest.mark.parametrize("timeout", [0, -1.0, float("nan")])
    def test_an_illegal_timeout(self, timeout: float) -> None:
        with pytest.raises(BadDeclaration, match="give seconds, more than 0"):
            Registry().handles(Deposit, timeout=timeout)

    def test_queries_are_not_retried(self) -> None:
        with pytest.raises(BadDeclaration, match="is a query, and those are not retried"):
            Registry().handles(Balance, retry=Retry())

    def test_a_handler_that_takes_another_command(self) -> None:
        registry = Registry()
        handles: Any = registry.handles

        async def deposit(command: Withdraw) -> int:
            return 1

        handles(Deposit)(deposit)

        with pytest.raises(BadDeclaration, match="registered for Deposit and takes Withdraw"):
            registry.freeze()


class TestFreezing:
    def test_it_may_be_repeated(self) -> None:
        registry = registry_with_deposit()
        registry.freeze()
        first = registry.handler("account", "deposit")
        registry.freeze()

        assert registry.handler("account", "deposit") is first

    def test_nothing_comes_after_it(self) -> None:
        registry = registry_with_deposit()
        registry.freeze()

        async def withdraw(command: Withdraw) -> int:
            return 1

        @asynccontextmanager
        async def opened() -> AsyncGenerator[None]:
            yield

        with pytest.raises(BadDeclaration, match="withdraw comes after the registry was opened"):
            registry.handles(Withdraw)(withdraw)
        with pytest.raises(BadDeclaration, match="opened comes after the registry was opened"):
            registry.activation("account")(opened)
        with pytest.raises(BadDeclaration, match="comes after the registry was opened"):
            registry.upcast(Deposit, from_version=1)(lambda fields: fields)

    def test_an_unknown_annotation_is_named_and_can_be_mended(self) -> None:
        registry = Registry()

        @registry.handles(Place)
        async def place(command: Place, pool: Nowhere) -> None:
            pass

        with pytest.raises(BadDeclaration, match=r"The parameter pool of .*place names 'Nowhere'"):
            registry.freeze()

        class Nowhere:
            pass

        registry.freeze()
        handler = registry.handler("order", "place")
        assert handler is not None
        assert handler.parameters == (("pool", Nowhere),)

    def test_an_unknown_reply_is_named(self) -> None:
        @command("account")
        class Get(Command["Nowhere"]):  # type: ignore[name-defined]
            account_id: str = entity_id()

        registry = Registry()

        @registry.handles(Get)
        async def get(command: Get) -> Any:
            pass

        with pytest.raises(BadDeclaration, match=r"The reply type of .*Get names 'Nowhere'"):
            registry.freeze()

    def test_an_empty_registry(self) -> None:
        registry = Registry()
        assert repr(registry) == "<Registry of 0 handlers for no type yet>"
        registry.freeze()

        assert registry.types() == frozenset()
        assert repr(registry_with_deposit()) == "<Registry of 1 handlers for account>"


class TestStates:
    def test_of_another_entity(self) -> None:
        registry = Registry()

        @registry.handles(Deposit)
        async def deposit(command: Deposit, order: Order) -> int:
            return 1

        with pytest.raises(
            BadDeclaration, match="asks for Order, the state of 'order', in a handler of 'account'"
        ):
            registry.freeze()

    def test_two_of_one_entity(self) -> None:
        @state("account")
        class Other:
            x: int = 0

        registry = registry_with_deposit()

        @registry.handles(Withdraw)
        async def withdraw(command: Withdraw, other: Other) -> int:
            return 1

        with pytest.raises(
            BadDeclaration, match=r"asks for the state .*Other, but 'account' has the state Account"
        ):
            registry.freeze()

    def test_not_in_an_activation(self) -> None:
        registry = registry_with_deposit()

        @registry.activation("account")
        @asynccontextmanager
        async def opened(account: Account) -> AsyncGenerator[None]:
            yield

        with pytest.raises(BadDeclaration, match=r"asks for the state Account.*an activation is none"):
            registry.freeze()


class TestActivations:
    def test_what_it_wants_and_provides(self) -> None:
        class Connection:
            pass

        registry = registry_with_deposit()

        @registry.activation("account")
        @asynccontextmanager
        async def connected(pool: Pool, size: int = 1) -> AsyncGenerator[Connection]:
            yield Connection()

        registry.freeze()
        activation = registry.activation_of("account")

        assert activation is not None
        assert activation.open is connected
        assert activation.parameters == (("pool", Pool), ("size", int))
        assert activation.optional == {"size"}
        assert activation.provides is Connection
        assert activation.qualname.endswith(".connected")
        assert registry.activation_of("order") is None

        async def use() -> None:
            async with activation.open(pool=Pool()) as connection:
                assert isinstance(connection, Connection)

        trio.run(use)

    def test_one_a_type(self) -> None:
        @asynccontextmanager
        async def opened() -> AsyncGenerator[None]:
            yield

        registry = Registry()
        registry.activation("account")(opened)

        with pytest.raises(DuplicateRegistration, match=r"'account' has the activation .*opened already"):
            registry.activation("account")(opened)

    def test_of_a_type_without_handlers(self) -> None:
        registry = registry_with_deposit()

        @registry.activation("acount")
        @asynccontextmanager
        async def opened() -> AsyncGenerator[None]:
            yield

        with pytest.raises(
            BadDeclaration, match="opened is the activation of 'acount', for which there is no handler"
        ):
            registry.freeze()

    def test_of_no_legal_type(self) -> None:
        with pytest.raises(BadDeclaration, match="no legal entity type"):
            Registry().activation("Account")


class TestUpcasts:
    def registry(self) -> Registry:
        registry = Registry()

        @registry.upcast(Deposit, from_version=1)
        def in_cents(fields: dict[str, Any]) -> dict[str, Any]:
            return {**fields, "amount": fields["amount"] * 100}

        @registry.upcast(Deposit, from_version=2)
        def with_prefix(fields: dict[str, Any]) -> dict[str, Any]:
            return {**fields, "account_id": f"acc-{fields['account_id']}"}

        return registry

    def test_steps_are_chained(self) -> None:
        payload = {"account_id": "1", "amount": 5}

        assert self.registry().upcasted(Deposit, payload, 1) == {"account_id": "acc-1", "amount": 500}
        assert self.registry().upcasted(Deposit, payload, 2) == {"account_id": "acc-1", "amount": 5}
        assert payload == {"account_id": "1", "amount": 5}

    def test_data_of_today_is_not_touched(self) -> None:
        payload = {"account_id": "1", "amount": 5}

        assert self.registry().upcasted(Deposit, payload, 3) is payload

    def test_states(self) -> None:
        registry = Registry()

        @registry.upcast(Account, from_version=1)
        def lift(fields: dict[str, Any]) -> dict[str, Any]:
            return {"balance": fields["amount"]}

        assert registry.upcasted(Account, {"amount": 3}, 1) == {"balance": 3}

    def test_a_missing_step(self) -> None:
        registry = Registry()
        registry.upcast(Deposit, from_version=1)(lambda fields: fields)

        with pytest.raises(DecodeError, match=r"no way from 2 to 3: register it with @registry.upcast"):
            registry.upcasted(Deposit, {}, 1)

    def test_a_newer_version(self) -> None:
        with pytest.raises(
            NewerVersion, match="was written in version 4 and is known here up to 3"
        ) as caught:
            Registry().upcasted(Deposit, {}, 4)
        assert (caught.value.name, caught.value.version, caught.value.known) == ("Deposit", 4, 3)

    def test_a_step_that_fails(self) -> None:
        with pytest.raises(DecodeError, match=r"in_cents failed with KeyError.*of version 1"):
            self.registry().upcasted(Deposit, {}, 1)

    def test_a_step_that_returns_something_else(self) -> None:
        registry = Registry()
        forgets: Any = lambda fields: None  # noqa: E731
        registry.upcast(Withdraw2, from_version=1)(forgets)

        with pytest.raises(DecodeError, match="returned NoneType for Withdraw2, not a dict"):
            registry.upcasted(Withdraw2, {}, 1)

    def test_two_from_one_version(self) -> None:
        registry = self.registry()

        with pytest.raises(
            DuplicateRegistration, match=r"Deposit is lifted from version 1 by .*in_cents already"
        ):
            registry.upcast(Deposit, from_version=1)(lambda fields: fields)

    @pytest.mark.parametrize("version", [0, 3, 4, "1", True])
    def test_from_no_such_version(self, version: Any) -> None:
        with pytest.raises(BadDeclaration, match="nothing can be lifted from version"):
            Registry().upcast(Deposit, from_version=version)

    def test_of_no_such_class(self) -> None:
        with pytest.raises(BadDeclaration, match="upcasts are for classes with"):
            Registry().upcast(Pool, from_version=1)


@command("account", version=2)
class Withdraw2(Command):
    account_id: str = entity_id()


class TestScalers:
    def test_what_it_wants(self) -> None:
        registry = registry_with_deposit()

        @registry.scaler("account", every=0.5)
        async def wanted(pool: Pool, extra: int = 3) -> AsyncGenerator[str]:
            yield "a"

        registry.freeze()
        (scaler,) = registry.scalers()
        assert (scaler.entity_type, scaler.every) == ("account", 500)
        assert scaler.parameters == (("pool", Pool), ("extra", int))
        assert scaler.optional == {"extra"}
        assert scaler.qualname.endswith("wanted")

    def test_one_a_type(self) -> None:
        registry = registry_with_deposit()

        async def wanted() -> AsyncGenerator[str]:
            yield "a"

        assert registry.scaler("account")(wanted) is wanted
        with pytest.raises(DuplicateRegistration, match="has the scaler"):
            registry.scaler("account")(wanted)

    def test_it_is_an_async_generator(self) -> None:
        async def wanted() -> list[str]:
            return ["a"]

        with pytest.raises(BadDeclaration, match="is not an async generator"):
            Registry().scaler("account")(wanted)  # type: ignore[arg-type]

    @pytest.mark.parametrize("every", [0, 0.05, -1, float("inf"), float("nan")])
    def test_its_interval_is_legal(self, every: float) -> None:
        with pytest.raises(BadDeclaration, match=r"0\.1 or more"):
            Registry().scaler("account", every=every)

    def test_its_type_has_a_handler(self) -> None:
        registry = registry_with_deposit()

        @registry.scaler("acount")
        async def wanted() -> AsyncGenerator[str]:
            yield "a"

        with pytest.raises(BadDeclaration, match="is the scaler of 'acount', for which there is no handler"):
            registry.freeze()
