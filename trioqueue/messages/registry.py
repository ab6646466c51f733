"""Which command goes to which handler, and what handlers want to be given.

A registry is filled while modules are imported and frozen when queues are opened; a mistake that can be seen early is
raised where it stands.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import tzinfo
from typing import Any, Concatenate, ParamSpec, TypeVar, cast
from uuid import UUID

import attrs

from .._errors import BadDeclaration, DecodeError, DuplicateRegistration, NewerVersion
from .._names import legal_entity_type
from .annotations import caller_scope
from .command import Command, CommandInfo, CommandType, info_of
from .policy import CommitMode, Retry
from .raw import RawCommand, raw_info
from .schedule import Missed, Schedule, cron, every, legal_interval
from .signature import Signature, described, globals_of, read_activation, read_handler, read_scaler
from .state import is_state, state_info_of

C = TypeVar("C", bound=Command[Any])
R = TypeVar("R")
T = TypeVar("T")
P = ParamSpec("P")

Upcast = Callable[[dict[str, Any]], dict[str, Any]]
U = TypeVar("U", bound=Upcast)
F = TypeVar("F", bound=Callable[..., Any])
Id = TypeVar("Id", bound=str | int | UUID)


@attrs.frozen(eq=False)
class Handler:
    """Is a function that handles one command, or whatever has its name.

    Attributes:
        info: What the command declares; for a raw handler, what stands for that.
        function: The async function or bound method; called with the command, then parameters by keyword.
        parameters: Keyword and resolved annotation of every parameter after the command.
        optional: Those of them that have a default, and may be left out if nobody provides their type.
        retry: Instead of the entity policy's.
        timeout: Seconds, instead of the entity policy's.
        commit: Instead of the entity policy's.
        qualname: For people, `module.function`.
    """

    info: CommandInfo
    function: Callable[..., Awaitable[Any]]
    parameters: tuple[tuple[str, Any], ...]
    optional: frozenset[str]
    retry: Retry | None
    timeout: float | None
    commit: CommitMode | None
    qualname: str


@attrs.frozen(eq=False)
class Activation:
    """Is what is entered when an entity of a type awakes, and left before it is let go.

    Attributes:
        open: Returns the async context manager; called with parameters by keyword.
        parameters: Keyword and resolved annotation of each.
        optional: Those of them that have a default.
        provides: The type of what it yields, for the handlers that ask for it; `NoneType`: nothing.
        qualname: For people, `module.function`.
    """

    open: Callable[..., AbstractAsyncContextManager[Any]]
    parameters: tuple[tuple[str, Any], ...]
    optional: frozenset[str]
    provides: Any
    qualname: str


@attrs.frozen(eq=False)
class Scaler:
    """Is what says which entities of a type are kept awake.

    Attributes:
        entity_type: The type.
        every: Milliseconds between two runs.
        ids: Returns the async generator of ids; called with parameters by keyword.
        parameters: Keyword and resolved annotation of each.
        optional: Those of them that have a default.
        qualname: For people, `module.function`.
    """

    entity_type: str
    every: int
    ids: Callable[..., AsyncIterator[Any]]
    parameters: tuple[tuple[str, Any], ...]
    optional: frozenset[str]
    qualname: str


@attrs.frozen(eq=False)
class _Handling:
    """Is a handler whose annotations may still be unresolved."""

    info: CommandInfo
    function: Callable[..., Any]
    signature: Signature
    retry: Retry | None
    timeout: float | None
    commit: CommitMode | None


class Registry:
    """Holds the handlers, activations and upcasts of an application, or of a part of it.

    Several registries may live in one process, and one may serve several openings.  Handlers are registered by
    decorating them; after the first opening nothing can be added.
    """

    def __init__(self) -> None:
        # Invariant: keys are (entity type, wire name); one handler each.
        self._handlings: dict[tuple[str, str], _Handling] = {}
        self._activatings: dict[str, Signature] = {}
        self._scalings: dict[str, tuple[int, Signature]] = {}
        self._schedules: dict[str, Schedule] = {}
        self._upcasts: dict[tuple[type[Any], int], Upcast] = {}
        # Invariant: all five are empty until `freeze` succeeds, and complete and unchanged from then on.
        self._frozen = False
        self._handlers: dict[tuple[str, str], Handler] = {}
        self._activations: dict[str, Activation] = {}
        self._scalers: tuple[Scaler, ...] = ()
        self._states: dict[str, type[Any]] = {}
        self._commands: dict[str, tuple[CommandInfo, ...]] = {}

    def __repr__(self) -> str:
        types = sorted({entity for entity, _ in self._handlings})
        frozen = ", frozen" if self._frozen else ""
        return (
            f"<Registry of {len(self._handlings)} handlers for {', '.join(types) or 'no type yet'}{frozen}>"
        )

    def handles(
        self,
        command: CommandType[C, R],
        /,
        *,
        retry: Retry | None = None,
        timeout: float | None = None,
        commit: CommitMode | None = None,
    ) -> Callable[[Callable[Concatenate[C, P], Awaitable[R]]], Callable[Concatenate[C, P], Awaitable[R]]]:
        """Registers the decorated async function or bound method as the handler of a command.

        The function stays as it is and can be called, in tests for instance.  Its first parameter is the command;
        the others are filled by their annotations: the entity's state class, `Context`, what the entity's
        activation yields, and what `open_atomic_queues(provide=...)` was given.

        Args:
            command: The class of the command.
            retry: What happens when the handler fails; default is the entity policy's.
            timeout: Seconds it may take; default is the entity policy's.
            commit: "each" or "group", as `EntityPolicy.commit` has it; default is that one.

        Raises:
            DuplicateRegistration: The command, or another one of its name, has a handler.
            BadDeclaration: The function cannot be a handler; the message says why.
        """
        info = info_of(cast("type[Command[Any]]", command))
        if retry is not None and info.is_query:
            raise BadDeclaration(f"{info} is a query, and those are not retried: leave retry= out.")
        return self._registering(info, retry, timeout, commit)

    def on(
        self,
        entity_type: str,
        name: str,
        /,
        *,
        retry: Retry | None = None,
        timeout: float | None = None,
        commit: CommitMode | None = None,
    ) -> Callable[
        [Callable[Concatenate[RawCommand, P], Awaitable[R]]],
        Callable[Concatenate[RawCommand, P], Awaitable[R]],
    ]:
        """Registers the decorated async function or bound method for commands that have no class here.

        It is called with a `RawCommand`, whatever the command's version; its other parameters are filled as those
        of `handles`.  A handler for the very name, raw or typed, comes before that for `"*"`.

        What it returns must be builtins that can travel, and a caller gets it as the reply type of its own command
        class.  Whether it is a query that was sent is not known here, so the handler may change the state and send,
        and is tried again if it fails.

        Args:
            entity_type: The type of the entities, as `"account"`.
            name: The wire name of the commands, or `"*"` for all those of the type that have no other handler here;
                then no command is left to pods that may know it by name.
            retry: What happens when the handler fails; default is the entity policy's.
            timeout: Seconds it may take; default is the entity policy's.
            commit: "each" or "group", as `EntityPolicy.commit` has it; default is that one.

        Raises:
            DuplicateRegistration: The name has a handler, raw or typed.
            BadDeclaration: The type or name is not legal, or the function cannot be a handler.

        Example:
            @registry.on("account", "*")
            async def unknown(command: RawCommand) -> None:
                print(command.name, dict(command.payload))
        """
        return self._registering(raw_info(entity_type, name), retry, timeout, commit)

    def _registering(
        self, info: CommandInfo, retry: Retry | None, timeout: float | None, commit: CommitMode | None
    ) -> Callable[[F], F]:
        if timeout is not None and not timeout > 0:
            raise BadDeclaration(f"timeout={timeout!r} of {info} is not legal: give seconds, more than 0.")
        if commit not in (None, "each", "group"):
            raise BadDeclaration(f"commit={commit!r} of {info} is not legal: give 'each' or 'group'.")

        def register(function: F) -> F:
            self._refuse_frozen(described(function))
            signature = read_handler(function, info.cls, caller_scope(globals_of(function)))
            key = (info.entity, info.name)
            if first := self._handlings.get(key):
                raise DuplicateRegistration(
                    f"{info.name!r} of {info.entity!r} is handled by {first.signature.qualname} ({first.info}) "
                    f"already, so {signature.qualname} ({info}) cannot handle it: remove one, "
                    "or give one of the commands another name."
                )
            self._handlings[key] = _Handling(info, function, signature, retry, timeout, commit)
            return function

        return register

    def activation(
        self, entity_type: str, /
    ) -> Callable[
        [Callable[P, AbstractAsyncContextManager[T]]],
        Callable[P, AbstractAsyncContextManager[T]],
    ]:
        """Registers the decorated `@asynccontextmanager` function as what entities of a type open when they awake.

        It is entered after the claim and left before the release.  What it yields is provided to the entity's
        handlers by the type in its return annotation, as `AsyncGenerator[Connection]`.  Its own parameters are
        filled like those of a handler, but for the state, which belongs to a turn.

        Raises:
            DuplicateRegistration: The type has an activation.
            BadDeclaration: The function cannot be one; the message says why.
        """
        entity = legal_entity_type(entity_type)

        def register(
            function: Callable[P, AbstractAsyncContextManager[T]],
        ) -> Callable[P, AbstractAsyncContextManager[T]]:
            self._refuse_frozen(described(function))
            signature = read_activation(function, caller_scope(globals_of(function)))
            if first := self._activatings.get(entity):
                raise DuplicateRegistration(
                    f"{entity!r} has the activation {first.qualname} already, so {signature.qualname} cannot be "
                    "another: make one of the two."
                )
            self._activatings[entity] = signature
            return function

        return register

    def scaler(
        self, entity_type: str, /, *, every: float = 5.0
    ) -> Callable[[Callable[P, AsyncIterator[Id]]], Callable[P, AsyncIterator[Id]]]:
        """Registers the decorated async generator function to say which entities of a type are kept awake.

        It yields their ids.  Each of these has its worker running and its activation entered, on one pod, although no
        command is queued; one that it does not yield any more is let go within three intervals and the type's idle
        timeout.  It runs once an interval for the whole fleet, on some pod that serves the type.  Its parameters are
        filled by their annotations from what `open_atomic_queues(provide=...)` was given.

        If it raises, that is logged, what it has yielded counts, and it runs again at the next interval.

        Args:
            entity_type: The type of the entities, as `"device"`.
            every: Seconds between two runs, 0.1 at least.

        Raises:
            DuplicateRegistration: The type has a scaler.
            BadDeclaration: The interval is too short, or the function cannot be one; the message says why.

        Example:
            @registry.scaler("device", every=10)
            async def connected(directory: Directory) -> AsyncGenerator[str]:
                for device in await directory.devices():
                    yield device.id
        """
        entity, interval = legal_entity_type(entity_type), legal_interval(every)

        def register(function: Callable[P, AsyncIterator[Id]]) -> Callable[P, AsyncIterator[Id]]:
            self._refuse_frozen(described(function))
            signature = read_scaler(function, caller_scope(globals_of(function)))
            if entity in self._scalings:
                raise DuplicateRegistration(
                    f"{entity!r} has the scaler {self._scalings[entity][1].qualname} already, so "
                    f"{signature.qualname} cannot be another: make one of the two."
                )
            self._scalings[entity] = (interval, signature)
            return function

        return register

    def every(
        self, seconds: float, command: Command[Any], /, *, name: str | None = None, missed: Missed = "skip"
    ) -> None:
        """Has a command sent at every multiple of an interval, once for the whole fleet however many pods it has.

        The times are those of the store's clock, counted from the epoch: every 3,600 seconds is at each full hour, UTC.
        The first pod that opens with it begins it; nothing is sent before its first tick from then on.

        Args:
            seconds: The interval, 0.1 at least.
            command: What is sent.
            name: Tells the fleet one schedule from another; default is made of the command's entity, its name, and the
                interval.
            missed: What becomes of ticks that passed while no pod was there: "skip", none is sent late (by more than a
                minute, or an interval); "once", one is; "all", each is, one after the other.

        Raises:
            DuplicateRegistration: There is a schedule of this name.
            BadDeclaration: The interval is too short, or the command can't be sent.
        """
        self._schedule(every(seconds, command, name, missed))

    def cron(
        self,
        expression: str,
        command: Command[Any],
        /,
        *,
        tz: str | tzinfo = "UTC",
        name: str | None = None,
        missed: Missed = "skip",
    ) -> None:
        """Has a command sent whenever a cron expression says, once for the whole fleet; else as `every`.

        Args:
            expression: Five fields, as `"0 3 * * *"`, or six with seconds.  Where clocks are set forward, what would
                fall into the hour that is left out comes right after it; where they are set back, it comes once.
            command: What is sent.
            tz: The time zone that the expression means, as `"Europe/Berlin"`.
            name: As for `every`.
            missed: As for `every`.
        """
        self._schedule(cron(expression, command, tz, name, missed))

    def _schedule(self, schedule: Schedule) -> None:
        self._refuse_frozen(f"The schedule {schedule.name!r}")
        if schedule.name in self._schedules:
            raise DuplicateRegistration(
                f"There is a schedule {schedule.name!r} already: give one of the two another name=."
            )
        self._schedules[schedule.name] = schedule

    def schedules(self) -> tuple[Schedule, ...]:
        """Returns the recurring commands."""
        return tuple(self._schedules.values())

    def upcast(self, cls: type[Any], /, *, from_version: int) -> Callable[[U], U]:
        """Registers the decorated function to lift data of a command or state by one version.

        It takes the fields as builtins, as version `from_version` wrote them, and returns those of
        `from_version + 1`; several are applied one after the other.

        Raises:
            DuplicateRegistration: There is one from this version.
            BadDeclaration: The class is neither command nor state, or has no such version.
        """
        version = _version_of(cls)
        if type(from_version) is not int or not 1 <= from_version < version:
            raise BadDeclaration(
                f"{cls.__qualname__} has version {version}, so nothing can be lifted from version {from_version!r}: "
                "give a version below the one it declares."
            )

        def register(function: U) -> U:
            self._refuse_frozen(described(function))
            key = (cls, from_version)
            if first := self._upcasts.get(key):
                raise DuplicateRegistration(
                    f"{cls.__qualname__} is lifted from version {from_version} by {described(first)} already, "
                    f"so {described(function)} cannot do it: remove one."
                )
            self._upcasts[key] = function
            return function

        return register

    def _refuse_frozen(self, newcomer: str) -> None:
        if self._frozen:
            raise BadDeclaration(
                f"{newcomer} comes after the registry was opened: register everything before open_atomic_queues()."
            )

    def freeze(self) -> None:
        """Resolves all annotations and allows no more registrations; may be repeated.

        Raises:
            BadDeclaration: Something does not fit together; the registry is as it was.
        """
        if self._frozen:
            return
        handlers = {key: _resolved(handling) for key, handling in self._handlings.items()}
        commands: dict[str, tuple[CommandInfo, ...]] = {}
        states: dict[str, type[Any]] = {}
        for (entity, _), handler in handlers.items():
            commands[entity] = (*commands.get(entity, ()), handler.info)
            for name, wanted in handler.parameters:
                if is_state(wanted):
                    _add_state(states, entity, wanted, f"{name} of {handler.qualname}")
        activations: dict[str, Activation] = {}
        for entity, signature in self._activatings.items():
            activations[entity] = _resolved_activation(signature)
            if entity not in commands:
                raise BadDeclaration(
                    f"{signature.qualname} is the activation of {entity!r}, for which there is no handler: "
                    "register one, or correct the type."
                )
        scalers = [_resolved_scaler(entity, *scaling) for entity, scaling in self._scalings.items()]
        for scaler in scalers:
            if scaler.entity_type not in commands:
                raise BadDeclaration(
                    f"{scaler.qualname} is the scaler of {scaler.entity_type!r}, for which there is no handler: "
                    "register one, or correct the type."
                )
        self._handlers, self._activations, self._states, self._commands = (
            handlers,
            activations,
            states,
            commands,
        )
        self._scalers = tuple(scalers)
        self._frozen = True

    def types(self) -> frozenset[str]:
        """Returns the entity types that have a handler."""
        assert self._frozen
        return frozenset(self._commands)

    def commands_of(self, entity_type: str) -> tuple[CommandInfo, ...]:
        """Returns the commands of a type that have a handler, in the order of their registration."""
        assert self._frozen
        return self._commands.get(entity_type, ())

    def handler(self, entity_type: str, name: str) -> Handler | None:
        """Returns the handler of a command by its wire name."""
        assert self._frozen
        return self._handlers.get((entity_type, name))

    def activation_of(self, entity_type: str) -> Activation | None:
        """Returns the activation of a type."""
        assert self._frozen
        return self._activations.get(entity_type)

    def scalers(self) -> tuple[Scaler, ...]:
        """Returns what says which entities are kept awake."""
        assert self._frozen
        return self._scalers

    def state_of(self, entity_type: str) -> type[Any] | None:
        """Returns the state class of a type, if one of its handlers asks for it."""
        assert self._frozen
        return self._states.get(entity_type)

    def upcasted(self, cls: type[Any], payload: Mapping[str, Any], version: int) -> Mapping[str, Any]:
        """Lifts data of a command or state to the version of its class here; usually it is that already.

        Raises:
            NewerVersion: The data is of a version that this process does not know.
            DecodeError: A step is not registered, or failed.
        """
        known = _version_of(cls)
        if version == known:
            return payload
        name = cls.__qualname__
        if version > known:
            reason = f"{name} was written in version {version} and is known here up to {known}: deploy the newer class"
            raise NewerVersion(reason, name=name, version=version, known=known)
        fields = dict(payload)
        for step in range(version, known):
            lift = self._upcasts.get((cls, step))
            if lift is None:
                raise DecodeError(
                    f"{name} was written in version {version} and there is no way from {step} to {step + 1}: "
                    f"register it with @registry.upcast({name}, from_version={step})"
                )
            try:
                lifted = cast("object", lift(fields))
            except Exception as error:
                raise DecodeError(
                    f"{described(lift)} failed with {error!r} on {name} of version {step}"
                ) from error
            if not isinstance(lifted, dict):
                raise DecodeError(
                    f"{described(lift)} returned {type(lifted).__name__} for {name}, not a dict"
                )
            fields = cast("dict[str, Any]", lifted)
        return fields


def _resolved(handling: _Handling) -> Handler:
    handling.info.reply_type()
    signature = handling.signature
    signature.check_command(handling.info.cls)
    parameters = signature.resolved()
    return Handler(
        handling.info,
        handling.function,
        parameters,
        signature.optional,
        handling.retry,
        handling.timeout,
        handling.commit,
        signature.qualname,
    )


def _resolved_activation(signature: Signature) -> Activation:
    parameters = signature.resolved()
    for name, wanted in parameters:
        if is_state(wanted):
            raise BadDeclaration(
                f"{name} of {signature.qualname} asks for the state {wanted.__qualname__}, which is committed with "
                "commands, and an activation is none: read it in a handler."
            )
    return Activation(
        cast("Callable[..., AbstractAsyncContextManager[Any]]", signature.function),
        parameters,
        signature.optional,
        signature.provided(),
        signature.qualname,
    )


def _resolved_scaler(entity_type: str, every: int, signature: Signature) -> Scaler:
    function, optional = signature.function, signature.optional
    return Scaler(entity_type, every, function, signature.resolved(), optional, signature.qualname)


def _add_state(states: dict[str, type[Any]], entity: str, wanted: type[Any], place: str) -> None:
    info = state_info_of(wanted)
    if info.entity != entity:
        raise BadDeclaration(
            f"{place} asks for {wanted.__qualname__}, the state of {info.entity!r}, in a handler of {entity!r}: "
            "call that entity instead."
        )
    first = states.setdefault(entity, wanted)
    if first is not wanted:
        raise BadDeclaration(
            f"{place} asks for the state {wanted.__qualname__}, but {entity!r} has the state {first.__qualname__}: "
            "use one class for both."
        )


def _version_of(cls: type[Any]) -> int:
    if is_state(cls):
        return state_info_of(cls).version
    if isinstance(cls, type) and issubclass(cls, Command):  # type: ignore[redundant-expr]  # pyright: ignore[reportUnnecessaryIsInstance]
        return info_of(cast("Any", cls)).version
    raise BadDeclaration(f"{cls!r} has no versions: upcasts are for classes with @command, @query or @state.")
