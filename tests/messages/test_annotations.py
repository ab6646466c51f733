from __future__ import annotations

import gc
import sys
import weakref
from typing import Any

import attrs
import pytest

from trioqueue._errors import BadDeclaration
from trioqueue.messages.annotations import (
    LateType,
    Scope,
    caller_scope,
    is_record,
    refuse_mutable_defaults,
    resolve_fields,
)


class InModule:
    pass


def scope() -> Scope:
    """Returns the scope of who calls it, like a decorator does."""
    return caller_scope()


def late(annotation: Any, where: Scope) -> LateType:
    return LateType(annotation, where, "The parameter x of f")


def test_names_of_the_module() -> None:
    assert late("list[InModule]", scope()).get() == list[InModule]
    assert late(InModule, scope()).get() is InModule
    assert late(list["InModule"], scope()).get() == list[InModule]


def test_names_of_the_function() -> None:
    class Local:
        pass

    assert late("Local | None", scope()).get() == Local | None


def test_names_of_functions_around_it() -> None:
    class Outer:
        pass

    def inside() -> None:
        class Inner:
            pass

        assert late("dict[str, Outer | Inner]", scope()).get() == dict[str, Outer | Inner]

    inside()


def test_the_innermost_name_wins() -> None:
    InModule = int  # noqa: N806 - hides the class

    assert late("InModule", scope()).get() is InModule


def test_names_that_are_defined_further_down() -> None:
    one = late("Below", scope())
    with pytest.raises(
        BadDeclaration, match="The parameter x of f names 'Below', which is unknown: import it"
    ):
        one.get()

    class Below:
        pass

    assert one.get() is Below


def test_names_for_type_checkers_alone() -> None:
    with pytest.raises(BadDeclaration, match="'OrderedDict', which is unknown: import it for run time too"):
        late("OrderedDict", scope()).get()


@pytest.mark.parametrize("annotation", ["1 +", "InModule.missing", "InModule[int]"])
def test_what_is_no_type(annotation: Any) -> None:
    with pytest.raises(BadDeclaration, match="which is not a type"):
        late(annotation, scope()).get()


def test_functions_of_other_modules_are_passed_over() -> None:
    class Local:
        pass

    elsewhere = caller_scope({"InModule": int})

    assert elsewhere.frames == ()
    assert late("InModule", elsewhere).get() is int


class Variable:
    pass


def declared_with(annotation: str) -> tuple[LateType, weakref.ref[Variable]]:
    variable = Variable()
    return late(annotation, scope()), weakref.ref(variable)


def test_a_resolved_type_holds_no_variables() -> None:
    resolved, variable = declared_with("InModule")
    gc.collect()

    assert variable() is None
    assert repr(resolved) == f"<LateType {InModule!r}>"


def test_an_unresolved_type_lets_go_when_it_is_done_without() -> None:
    unresolved, variable = declared_with("Nowhere")
    assert variable() is not None
    assert "unresolved" in repr(unresolved)

    assert unresolved.get_or_none() is None
    gc.collect()
    assert variable() is None


def test_fields_of_local_classes() -> None:
    class Price:
        pass

    @attrs.frozen
    class Item:
        price: Price

    @attrs.frozen
    class Order:
        items: list[Item]
        after: Order | None = None

    resolve_fields(Order, scope())

    assert attrs.fields(Order).items.type == list[Item]
    assert attrs.fields(Order).after.type == Order | None
    assert attrs.fields(Item).price.type is Price


def test_fields_that_cannot_be_resolved_yet_are_left() -> None:
    @attrs.frozen
    class Order:
        item: Nowhere  # type: ignore[name-defined]  # pyright: ignore[reportUndefinedVariable, reportUnknownVariableType] # noqa: F821

    resolve_fields(Order, scope())

    unresolved: Any = attrs.fields(Order).item.type
    assert unresolved == "Nowhere"


def test_records() -> None:
    assert is_record(attrs.make_class("A", ["x"]))
    assert not is_record(InModule)
    assert not is_record(attrs.make_class("A", ["x"])(1))


def test_mutable_defaults() -> None:
    good = attrs.make_class("Good", {"x": attrs.field(default=()), "y": attrs.field(factory=list)})
    bad = attrs.make_class("Bad", {"x": attrs.field(default=[1])})

    refuse_mutable_defaults(good)
    with pytest.raises(BadDeclaration, match=r"Bad\.x = \[1\] would be one list shared by all instances"):
        refuse_mutable_defaults(bad)


def test_the_module_itself_is_not_held() -> None:
    assert all(frame.f_code.co_name != "<module>" for frame in scope().frames)
    assert scope().names is sys.modules[__name__].__dict__
