import enum
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioqueue._errors import BadDeclaration, BadEntityId
from trioqueue._names import (
    MAX_ENTITY_ID,
    Entity,
    entity_id_text,
    legal_command_name,
    legal_entity_type,
    legal_pod_name,
    legal_prefix,
)


@pytest.mark.parametrize("text", ["a", "account", "order.line", "x-1_2.3", "a" * 64])
def test_legal_entity_types(text: str) -> None:
    assert legal_entity_type(text) == text


@pytest.mark.parametrize(
    "text", ["", "Account", "1st", "-a", "a b", "a/b", "a:b", "a{b}", "ä", "a\n", "a" * 65, None, 7]
)
def test_illegal_entity_types(text: object) -> None:
    with pytest.raises(BadDeclaration, match="is no legal entity type: use 1 to 64 characters"):
        legal_entity_type(text)


@pytest.mark.parametrize("text", ["deposit", "special-audit", "Bank.Deposit", "a:b", "x" * 128])
def test_legal_command_names(text: str) -> None:
    assert legal_command_name(text) == text


@pytest.mark.parametrize("text", ["", "*", "1a", "a b", "a\n", "überweisung", "x" * 129])
def test_illegal_command_names(text: str) -> None:
    with pytest.raises(BadDeclaration, match="command name"):
        legal_command_name(text)


@pytest.mark.parametrize("legal", [legal_prefix, legal_pod_name])
def test_prefixes_and_pod_names(legal: object) -> None:
    assert callable(legal)
    assert legal("web-1.example_2") == "web-1.example_2"
    for text in ("", "a{b}", "a b", "a/b", "a\n", "x" * 65, None):
        with pytest.raises(BadDeclaration):
            legal(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("42", "42"),
        (42, "42"),
        (-7, "-7"),
        (10**500, "1" + "0" * 500),
        (UUID(int=255), "00000000-0000-0000-0000-0000000000ff"),
        ("a b/c:d{e}*?", "a b/c:d{e}*?"),
        ("Zoë 北京 🙂", "Zoë 北京 🙂"),
        ("x" * MAX_ENTITY_ID, "x" * MAX_ENTITY_ID),
    ],
)
def test_legal_entity_ids(value: object, text: str) -> None:
    assert entity_id_text(value) == text


def test_ids_that_are_subclasses_become_plain_text() -> None:
    class Name(enum.StrEnum):
        FIRST = "first"

    class Number(enum.IntEnum):
        ONE = 1

    assert type(entity_id_text(Name.FIRST)) is str
    assert entity_id_text(Name.FIRST) == "first"
    assert entity_id_text(Number.ONE) == "1"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "is empty"),
        ("x" * (MAX_ENTITY_ID + 1), "takes 513 bytes"),
        ("é" * 257, "takes 514 bytes"),
        ("a\nb", r"U\+000A"),
        ("a\0b", r"U\+0000"),
        ("\x7f", r"U\+007F"),
        ("\x85", r"U\+0085"),
        ("a\u2028b", r"U\+2028"),
        ("\ud800", "lone surrogate"),
        (True, "is a bool"),
        (None, "is of type NoneType"),
        (1.5, "is of type float"),
        (b"a", "is of type bytes"),
    ],
)
def test_illegal_entity_ids(value: object, reason: str) -> None:
    with pytest.raises(BadEntityId, match=reason):
        entity_id_text(value)


def test_an_int_that_python_would_not_write_is_refused() -> None:
    with pytest.raises(BadEntityId, match="more than 512 digits"):
        entity_id_text(10**5000)


@given(st.one_of(st.text(), st.integers(), st.uuids(), st.text(alphabet=st.characters(min_codepoint=0))))
def test_an_entity_id_is_itself_or_refused(value: object) -> None:
    try:
        text = entity_id_text(value)
    except BadEntityId:
        return
    assert text == str(value)
    assert entity_id_text(text) == text
    assert 0 < len(text.encode()) <= MAX_ENTITY_ID
    assert "\n" not in text


def test_an_entity_is_a_value() -> None:
    entity = Entity("account", "a/b")

    assert str(entity) == "account/a/b"
    assert {entity: 1}[Entity("account", "a/b")] == 1
    assert entity != Entity("account", "b")
