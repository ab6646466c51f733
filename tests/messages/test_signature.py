from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from trioqueue._errors import BadDeclaration
from trioqueue.messages.annotations import caller_scope
from trioqueue.messages.command import Command, command, entity_id
from trioqueue.messages.signature import Signature, described, globals_of, read_activation, read_handler


@command("account")
class Deposit(Command[int]):
    account_id: str = entity_id()


@command("account")
class Withdraw(Command[int]):
    account_id: str = entity_id()


class Pool:
    pass


def handler(function: Callable[..., Any]) -> Signature:
    return read_handler(function, Deposit, caller_scope(globals_of(function)))


def activation(function: Callable[..., Any]) -> Signature:
    return read_activation(function, caller_scope(globals_of(function)))


def test_what_a_handler_wants() -> None:
    class Local:
        pass

    async def deposit(  # type: ignore[no-untyped-def]
        command: Deposit, pool: Pool, *, local: Local | None = None, plain=3, **rest: int
    ) -> Nowhere:  # type: ignore[name-defined]  # noqa: F821
        pass

    read = handler(deposit)

    assert read.resolved() == (("pool", Pool), ("local", Local | None))
    assert read.optional == {"local"}
    assert read.function is deposit
    assert read.qualname == f"{__name__}.test_what_a_handler_wants.<locals>.deposit"


def test_methods_and_partials() -> None:
    class Book:
        async def deposit(self, command: Deposit, pool: Pool) -> int:
            return 1

    async def with_option(option: int, command: Deposit, pool: Pool) -> int:
        return option

    assert handler(Book().deposit).resolved() == (("pool", Pool),)
    assert handler(functools.partial(with_option, 1)).resolved() == (("pool", Pool),)
    assert described(functools.partial(with_option, 1)).endswith("with_option")


def test_one_unknown_name_does_not_hide_the_others() -> None:
    async def deposit(command: Nowhere, pool: Pool) -> Nowhere:  # type: ignore[name-defined]  # noqa: F821
        pass

    read = handler(deposit)

    read.check_command(Deposit)
    assert read.resolved() == (("pool", Pool),)


def plain(command: Deposit) -> int:
    return 1


async def generator(command: Deposit) -> AsyncGenerator[int]:
    yield 1


async def nothing() -> int:
    return 1


async def by_keyword(*, command: Deposit) -> int:
    return 1


async def positional(command: Deposit, pool: Pool, /) -> int:
    return 1


async def bare(command: Deposit, pool) -> int:  # type: ignore[no-untyped-def]  # pyright: ignore[reportMissingParameterType, reportUnknownParameterType]
    return 1


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (plain, "plain is not an async function: a handler is an `async def`"),
        (generator, "generator is an async generator"),
        (nothing, "nothing has no parameter for the command: write it first, as `command: Deposit`"),
        (by_keyword, "by_keyword has no parameter for the command"),
        (positional, "pool of .*positional is positional-only"),
        (bare, "pool of .*bare has no annotation"),
    ],
)
def test_what_cannot_be_a_handler(function: Callable[..., Any], reason: str) -> None:
    with pytest.raises(BadDeclaration, match=reason):
        handler(function)


def test_the_command_is_looked_at() -> None:
    async def withdraw(command: Withdraw) -> int:
        return 1

    async def either(command: Command[int]) -> int:
        return 1

    handler(either).check_command(Deposit)
    with pytest.raises(BadDeclaration, match="registered for Deposit and takes Withdraw"):
        handler(withdraw).check_command(Deposit)


def test_what_an_activation_provides() -> None:
    class Connection:
        pass

    @asynccontextmanager
    async def generating(pool: Pool) -> AsyncGenerator[Connection]:
        yield Connection()

    @asynccontextmanager
    async def iterating() -> AsyncIterator[Connection | None]:
        yield Connection()

    @asynccontextmanager
    async def silent() -> AsyncGenerator[None]:
        yield

    def making() -> AbstractAsyncContextManager[Connection]:
        raise NotImplementedError

    assert activation(generating).resolved() == (("pool", Pool),)
    assert activation(generating).provided() is Connection
    assert activation(iterating).provided() == Connection | None
    assert activation(silent).provided() is type(None)
    assert activation(making).provided() is Connection


def test_what_cannot_be_an_activation() -> None:
    async def bare_generator() -> AsyncGenerator[int]:
        yield 1

    async def coroutine() -> int:
        return 1

    for function in (bare_generator, coroutine):
        with pytest.raises(BadDeclaration, match="write @asynccontextmanager below"):
            activation(function)


def test_an_activation_has_to_say_what_it_yields() -> None:
    @asynccontextmanager
    async def unsaid():  # type: ignore[no-untyped-def]
        yield 1

    def wrong() -> int:
        return 1

    for function in (unsaid, wrong):
        with pytest.raises(BadDeclaration, match="does not say what it yields"):
            activation(function).provided()
