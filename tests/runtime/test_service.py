"""Where the parameters of handlers and activations come from."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest
import trio

from trioqueue import (
    BadDeclaration,
    Codec,
    Command,
    Context,
    Entity,
    EntityPolicy,
    Registry,
    Retry,
    entity_id,
    state,
)
from trioqueue import command as declare_command
from trioqueue.runtime.service import build_services


@state("door")
class Door:
    opened: int = 0


@declare_command("door")
class Open(Command):
    door_id: str = entity_id()


class Hinge:
    pass


class Oil:
    pass


def test_each_parameter_has_its_source() -> None:
    registry = Registry()

    @registry.activation("door")
    @asynccontextmanager
    async def hinge(
        entity: Entity, nursery: trio.Nursery, oil: Oil, colour: str = "red"
    ) -> AsyncGenerator[Hinge]:
        assert (oil_of_the_house, colour) == (oil, "red")
        yield Hinge()

    @registry.handles(Open)
    async def open_door(
        command: Open, door: Door, context: Context, hinge: Hinge, oil: Oil, times: int = 1
    ) -> None:
        pass

    registry.freeze()
    oil_of_the_house = Oil()
    services = build_services(registry, frozenset({"door"}), {}, {Oil: oil_of_the_house}, Codec())
    bound = services["door"].handlers["open"]
    turn = SimpleNamespace(context=lambda: "the context")
    arguments = bound.arguments("the state", turn, "the hinge")  # type: ignore[arg-type]
    assert arguments == {
        "door": "the state",
        "context": "the context",
        "hinge": "the hinge",
        "oil": oil_of_the_house,
    }
    activate = services["door"].activate
    assert activate is not None
    activate(Entity("door", "d"), None)  # type: ignore[arg-type]


def test_a_handlers_own_policy_comes_before_the_types() -> None:
    registry = Registry()

    @declare_command("door")
    class Close(Command):
        door_id: str = entity_id()

    @registry.handles(Open, retry=Retry(attempts=2), timeout=3)
    async def open_door(command: Open) -> None:
        pass

    @registry.handles(Close)
    async def close_door(command: Close) -> None:
        pass

    registry.freeze()
    policy = EntityPolicy(retry=Retry(attempts=7), timeout=11)
    handlers = build_services(registry, frozenset({"door"}), {"door": policy}, {}, Codec())["door"].handlers
    assert (handlers["open"].retry.attempts, handlers["open"].timeout) == (2, 3)
    assert (handlers["close"].retry.attempts, handlers["close"].timeout) == (7, 11)


def test_what_an_activation_asks_for_and_nobody_provides() -> None:
    registry = Registry()

    @registry.activation("door")
    @asynccontextmanager
    async def hinge(oil: Oil) -> AsyncGenerator[Hinge]:
        yield Hinge()

    @registry.handles(Open)
    async def open_door(command: Open) -> None:
        pass

    registry.freeze()
    with pytest.raises(
        BadDeclaration, match=r"hinge asks for oil: Oil, which nobody provides.*provide=\{Oil"
    ):
        build_services(registry, frozenset({"door"}), {}, {}, Codec())


def test_types_that_are_not_served_need_nothing() -> None:
    registry = Registry()

    @registry.handles(Open)
    async def open_door(command: Open, oil: Oil) -> None:
        pass

    registry.freeze()
    assert build_services(registry, frozenset(), {}, {}, Codec()) == {}
