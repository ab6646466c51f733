"""What a handler or activation wants to be given, read from its signature."""

import contextlib
import functools
import inspect
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from types import NoneType
from typing import Any, get_args, get_origin

import attrs

from .._errors import BadDeclaration
from .annotations import LateType, Scope
from .command import Command
from .raw import RawCommand

_AT_FIRST = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_BY_KEYWORD = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_CONTEXT_MANAGERS = (
    AsyncGenerator,
    AsyncIterator,
    contextlib.AbstractAsyncContextManager,
)


@attrs.frozen(eq=False)
class Signature:
    """Is what a function takes, with its annotations resolved as late as at opening.

    Attributes:
        function: As it was decorated.
        qualname: For people, `module.function`.
        first: The annotation of the command, if there is one.
        parameters: Keyword and annotation of all that is to be provided.
        optional: Those of them that have a default.
        returned: The return annotation of an activation, if there is one.
    """

    function: Callable[..., Any]
    qualname: str
    first: LateType | None
    parameters: tuple[tuple[str, LateType], ...]
    optional: frozenset[str]
    returned: LateType | None

    def resolved(self) -> tuple[tuple[str, Any], ...]:
        """Returns keyword and type of each parameter.

        Raises:
            BadDeclaration: An annotation names something unknown.
        """
        return tuple((name, late.get()) for name, late in self.parameters)

    def check_command(self, command: type[Any]) -> None:
        """Raises `BadDeclaration` if the first parameter is annotated as another command."""
        if self.first is None:
            return
        # Nothing is filled by it, and with an import for type checkers alone it is unknown.
        annotated = self.first.get_or_none()
        if (
            isinstance(annotated, type)
            and issubclass(annotated, (Command, RawCommand))
            and not issubclass(command, annotated)
        ):
            raise BadDeclaration(
                f"{self.qualname} is registered for {command.__qualname__} and takes {annotated.__qualname__}: "
                "name the same class in both places."
            )

    def provided(self) -> Any:
        """Returns the type that an activation yields.

        Raises:
            BadDeclaration: Its return annotation doesn't say.
        """
        returned = None if self.returned is None else self.returned.get()
        if get_origin(returned) in _CONTEXT_MANAGERS:
            provided = get_args(returned)[0]
            return NoneType if provided is None else provided
        raise BadDeclaration(
            f"{self.qualname} does not say what it yields: annotate it with -> AsyncGenerator[Connection], "
            "or AsyncGenerator[None] if nothing."
        )


def described(function: Callable[..., Any]) -> str:
    """Returns the name of a function for people, `module.function`."""
    plain = function
    while isinstance(plain, functools.partial):
        plain = plain.func
    name = getattr(plain, "__qualname__", None) or repr(plain)
    return f"{getattr(plain, '__module__', '?')}.{name}"


def globals_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Returns the globals of the module in which a function was written, whatever it is wrapped in."""
    plain: Any = inspect.unwrap(function)
    while isinstance(plain, functools.partial):
        plain = inspect.unwrap(plain.func)
    globals_: dict[str, Any] = getattr(plain, "__globals__", {})
    return globals_


def read_handler(function: Callable[..., Any], command: type[Any], scope: Scope) -> Signature:
    """Reads the signature of a handler.

    Raises:
        BadDeclaration: It is not async, or its parameters cannot be filled.
    """
    if not inspect.iscoroutinefunction(function):
        kind = "an async generator" if inspect.isasyncgenfunction(function) else "not an async function"
        raise BadDeclaration(
            f"{described(function)} is {kind}: a handler is an `async def` that returns its reply."
        )
    parameters = _parameters(function)
    if not parameters or parameters[0].kind not in _AT_FIRST:
        raise BadDeclaration(
            f"{described(function)} has no parameter for the command: write it first, "
            f"as `command: {command.__qualname__}`."
        )
    return _read(function, scope, parameters[1:], first=parameters[0].annotation)


def read_activation(function: Callable[..., Any], scope: Scope) -> Signature:
    """Reads the signature of an activation, looking through `@asynccontextmanager`.

    Raises:
        BadDeclaration: It does not return an async context manager, or its parameters cannot be filled.
    """
    if (
        inspect.isasyncgenfunction(function)
        or inspect.iscoroutinefunction(function)
        or not callable(function)
    ):
        raise BadDeclaration(
            f"{described(function)} does not return an async context manager: write @asynccontextmanager below "
            "@registry.activation(...), and `yield` in the function."
        )
    returned = _inspected(function).return_annotation
    return _read(function, scope, _parameters(function), returned=returned)


def read_scaler(function: Callable[..., Any], scope: Scope) -> Signature:
    """Reads the signature of a scaler.

    Raises:
        BadDeclaration: It is no async generator function, or its parameters cannot be filled.
    """
    if not inspect.isasyncgenfunction(function):
        raise BadDeclaration(
            f"{described(function)} is not an async generator: a scaler is an `async def` that yields entity ids."
        )
    return _read(function, scope, _parameters(function))


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(_inspected(function).parameters.values())


def _inspected(function: Callable[..., Any]) -> inspect.Signature:
    if sys.version_info >= (3, 14):
        # One unknown name must not hide the others: they come as ForwardRef, which LateType resolves.
        import annotationlib  # noqa: PLC0415 - not there before 3.14

        return inspect.signature(function, annotation_format=annotationlib.Format.FORWARDREF)
    return inspect.signature(function)


def _read(
    function: Callable[..., Any],
    scope: Scope,
    others: list[inspect.Parameter],
    *,
    first: Any = None,
    returned: Any = None,
) -> Signature:
    qualname = described(function)
    wanted: list[tuple[str, LateType]] = []
    optional: set[str] = set()
    for parameter in others:
        has_default = parameter.default is not inspect.Parameter.empty
        if parameter.kind not in _BY_KEYWORD:
            if has_default or parameter.kind is not inspect.Parameter.POSITIONAL_ONLY:
                continue  # *args, **kwargs and defaults: nothing has to be given.
            raise BadDeclaration(
                f"{parameter.name} of {qualname} is positional-only: parameters go by keyword."
            )
        if parameter.annotation is inspect.Parameter.empty:
            if has_default:
                continue
            raise BadDeclaration(
                f"{parameter.name} of {qualname} has no annotation, and parameters are filled by their types: "
                "annotate it, or give it a default."
            )
        if has_default:
            optional.add(parameter.name)
        wanted.append(
            (
                parameter.name,
                LateType(parameter.annotation, scope, f"The parameter {parameter.name} of {qualname}"),
            )
        )
    return Signature(
        function=function,
        qualname=qualname,
        first=_late(first, scope, f"The command of {qualname}"),
        parameters=tuple(wanted),
        optional=frozenset(optional),
        returned=_late(returned, scope, f"What {qualname} returns"),
    )


def _late(annotation: Any, scope: Scope, what: str) -> LateType | None:
    return None if annotation in (None, inspect.Signature.empty) else LateType(annotation, scope, what)
