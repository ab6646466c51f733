"""What a pod does with the entities of one type: its handlers, with all that they ask for found."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import attrs
import trio

from trioqueue._errors import BadDeclaration
from trioqueue._names import Entity
from trioqueue.messages.codec import Codec
from trioqueue.messages.envelope import Envelope
from trioqueue.messages.policy import EntityPolicy, Retry
from trioqueue.messages.raw import WILDCARD, RawCommand
from trioqueue.messages.registry import Activation, Handler, Registry
from trioqueue.messages.state import StateInfo, read_state, state_info_of
from trioqueue.runtime.context import Context


class HasContext(Protocol):
    """A turn, of which a handler may ask to see more."""

    def context(self) -> Context: ...


@attrs.frozen(eq=False)
class BoundHandler:
    """A handler and where its parameters come from."""

    handler: Handler
    function: Callable[..., Awaitable[Any]]  # the handler's
    retry: Retry
    timeout: float | None
    group: bool  # its turn may be committed together with others
    state_names: tuple[str, ...]
    context_names: tuple[str, ...]
    activation_names: tuple[str, ...]
    fixed: Mapping[str, Any]
    asks: bool  # for anything beside the command

    def call(self, command: Any, state: Any, turn: HasContext, activation: Any) -> Awaitable[Any]:
        """Calls the handler, with what it asks for beside the command."""
        if not self.asks:
            return self.function(command)
        return self.function(command, **self.arguments(state, turn, activation))

    def arguments(self, state: Any, turn: HasContext, activation: Any) -> dict[str, Any]:
        """Gives what the handler is called with, beside the command."""
        arguments = dict(self.fixed)
        for name in self.state_names:
            arguments[name] = state
        for name in self.context_names:
            arguments[name] = turn.context()
        for name in self.activation_names:
            arguments[name] = activation
        return arguments


@attrs.frozen(eq=False)
class Service:
    """All that a worker needs to know of its entity's type."""

    entity_type: str
    policy: EntityPolicy
    registry: Registry
    handlers: Mapping[str, BoundHandler]
    state: StateInfo | None
    nests: bool  # something of it may ask for the entity's nursery
    activate: Callable[[Entity, trio.Nursery], AbstractAsyncContextManager[Any]] | None
    codec: Codec

    def bound_of(self, name: str) -> BoundHandler | None:
        """Finds who handles a command; None: nobody here."""
        return self.handlers.get(name) or self.handlers.get(WILDCARD)

    def command_in(self, envelope: Envelope, bound: BoundHandler) -> Any:
        """Makes what the handler is called with.

        Raises:
            DecodeError: The payload is not one of its class.
            NewerVersion: It was sent by a release after this one.
        """
        info, payload = bound.handler.info, envelope.payload
        if info.cls is RawCommand:
            return RawCommand(
                envelope.entity.type, envelope.entity.id, envelope.name, payload, envelope.version
            )
        if envelope.version != info.version:
            payload = self.registry.upcasted(info.cls, payload, envelope.version)
        return self.codec.structure(payload, info.cls)

    def thawed(self, state: StateInfo, encoded: bytes | None) -> Any:
        """Makes the object that handlers change; None: the first one."""
        if encoded is None:
            return state.cls()
        version, fields = read_state(self.codec, encoded)
        return self.codec.structure(self.registry.upcasted(state.cls, fields, version), state.cls)

    def frozen(self, state: StateInfo, live: Any) -> bytes:
        """Makes of that object what is kept.

        Raises:
            EncodeError: A value in it can't be kept.
        """
        return self.codec.dumps({"v": state.version, "s": self.codec.unstructure(live, state.cls)})


def build_services(
    registry: Registry,
    types: frozenset[str],
    policies: Mapping[str, EntityPolicy],
    provide: Mapping[type[Any], Any],
    codec: Codec,
) -> dict[str, Service]:
    """Finds, for each type, everything that its handlers ask for.

    Raises:
        BadDeclaration: A handler or an activation asks for something nobody provides, or a command, reply or state has
            a type that can't travel.
    """
    services: dict[str, Service] = {}
    for entity_type in sorted(types):
        state = registry.state_of(entity_type)
        activation = registry.activation_of(entity_type)
        policy = policies.get(entity_type, EntityPolicy())
        if state is not None and policy.overlap > 1:
            raise BadDeclaration(
                f"{entity_type} has a state, so its handlers can't overlap: leave overlap={policy.overlap} out of its "
                "EntityPolicy, or keep the state elsewhere."
            )
        for info in registry.commands_of(entity_type):
            codec.decoder(info.cls)
            codec.encoder(info.reply_type())
        if state is not None:
            codec.encoder(state)
            codec.decoder(state)
        handlers: dict[str, BoundHandler] = {
            info.name: _bound(registry, entity_type, info.name, state, activation, policy, provide)
            for info in registry.commands_of(entity_type)
        }
        services[entity_type] = Service(
            entity_type=entity_type,
            policy=policy,
            registry=registry,
            handlers=handlers,
            state=state_info_of(state) if state else None,
            nests=activation is not None or any(bound.context_names for bound in handlers.values()),
            activate=_activate(activation, provide) if activation else None,
            codec=codec,
        )
    return services


def _bound(
    registry: Registry,
    entity_type: str,
    name: str,
    state: type[Any] | None,
    activation: Activation | None,
    policy: EntityPolicy,
    provide: Mapping[type[Any], Any],
) -> BoundHandler:
    handler = registry.handler(entity_type, name)
    assert handler is not None
    of_state: list[str] = []
    of_context: list[str] = []
    of_activation: list[str] = []
    fixed: dict[str, Any] = {}
    for parameter, wanted in handler.parameters:
        if wanted is state and state is not None:
            of_state.append(parameter)
        elif wanted is Context:
            of_context.append(parameter)
        elif activation is not None and wanted == activation.provides:
            of_activation.append(parameter)
        elif wanted in provide:
            fixed[parameter] = provide[wanted]
        elif parameter not in handler.optional:
            raise BadDeclaration(missing(handler.qualname, parameter, wanted))
    return BoundHandler(
        handler,
        handler.function,
        handler.retry or policy.retry,
        handler.timeout if handler.timeout is not None else policy.timeout,
        (handler.commit or policy.commit) == "group",
        tuple(of_state),
        tuple(of_context),
        tuple(of_activation),
        fixed,
        bool(fixed or of_state or of_context or of_activation),
    )


def _activate(
    activation: Activation, provide: Mapping[type[Any], Any]
) -> Callable[[Entity, trio.Nursery], AbstractAsyncContextManager[Any]]:
    fixed: dict[str, Any] = {}
    of_entity = [parameter for parameter, wanted in activation.parameters if wanted is Entity]
    of_nursery = [parameter for parameter, wanted in activation.parameters if wanted is trio.Nursery]
    for parameter, wanted in activation.parameters:
        if wanted is Entity or wanted is trio.Nursery:
            continue
        if wanted in provide:
            fixed[parameter] = provide[wanted]
        elif parameter not in activation.optional:
            raise BadDeclaration(missing(activation.qualname, parameter, wanted))

    def activate(entity: Entity, nursery: trio.Nursery) -> AbstractAsyncContextManager[Any]:
        return activation.open(
            **fixed, **dict.fromkeys(of_entity, entity), **dict.fromkeys(of_nursery, nursery)
        )

    return activate


def missing(qualname: str, parameter: str, wanted: Any) -> str:
    """Says that nobody provides what a parameter asks for."""
    shown = getattr(wanted, "__qualname__", repr(wanted))
    return (
        f"{qualname} asks for {parameter}: {shown}, which nobody provides: "
        f"open with provide={{{shown}: ...}}, or yield one from the activation."
    )
