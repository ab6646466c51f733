"""What becomes of fields that were typed, with a class for them and without; no store is needed for that."""

from typing import Any

import click
import pytest
from cli.bank import registry

from trioqueue import Codec, Command, Registry, entity_id
from trioqueue import command as declare
from trioqueue.cli.fields import FIELD, command_of
from trioqueue.cli.options import ENTITY
from trioqueue.messages.command import info_of

TO = "6f1c1d1e-0b7a-4c58-9d0d-0d6f9f3c1a11"
TRANSFER = (f"to={TO}", "amount=1", "on=2026-11-30")


def made(
    entity: str, name: str, *fields: str, app: Registry | None = registry, id_field: str | None = None
) -> Any:
    return command_of(
        ENTITY.convert(entity, None, None),
        name,
        [FIELD.convert(field, None, None) for field in fields],
        registry=app,
        where="bank:registry",
        codec=Codec(),
        id_field=id_field,
    )


def travels(entity: str, name: str, *fields: str, **options: Any) -> dict[str, Any]:
    fields_as_they_travel: dict[str, Any] = Codec().unstructure(made(entity, name, *fields, **options))
    return fields_as_they_travel


# ------------------------------------------------------------------------ where the class is known
@pytest.mark.parametrize(
    ("given", "field", "value"),
    [
        ((), "currency", "eur"),
        (("currency=usd",), "currency", "usd"),
        (("amount=80.50",), "amount", "80.50"),
        (("on=2027-01-01",), "on", "2027-01-01"),
        (('tags=["a", "b"]',), "tags", ["a", "b"]),
        (("memo=42",), "memo", "42"),
        (("memo=null",), "memo", None),
        (('memo:="null"',), "memo", "null"),
        (("memo=a=b",), "memo", "a=b"),
        (("tries=3",), "tries", 3),
        (("account_id=42",), "account_id", "42"),
        ((), "account_id", "42"),
    ],
)
def test_a_field_becomes_what_its_class_declares(given: tuple[str, ...], field: str, value: object) -> None:
    needed = [one for one in TRANSFER if one.partition("=")[0] != field]

    assert travels("account/42", "transfer", *needed, *given)[field] == value


def test_text_stays_text() -> None:
    """That of a NewType too."""
    assert travels("account/42", "withdraw", "amount=1", 'note="17"')["note"] == '"17"'
    assert travels("account/42", "withdraw", "amount=1", "note=")["note"] == ""


def test_an_id_is_of_the_type_that_its_class_declares() -> None:
    assert travels("safe/7", "open") == {"number": 7}


def test_names_that_begin_with_an_underscore() -> None:
    registry = Registry()

    @declare("box")
    class Pack(Command):
        box_id: str = entity_id()
        _what: str

    @registry.handles(Pack)
    async def pack(command: Pack) -> None: ...

    assert travels("box/1", "pack", "_what=shoes", app=registry) == {"box_id": "1", "_what": "shoes"}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            ("account/42", "withdrw"),
            "account has no command 'withdrw' in bank:registry: it has audit, balance, ",
        ),
        (("acount/42", "withdraw"), "bank:registry handles nothing of 'acount': it handles account, safe."),
        (("account", "withdraw"), "'account' is no entity"),
        (
            ("account/42", "withdraw"),
            "withdraw of account needs amount too: it takes amount: int, note: str (may be left out).",
        ),
        (("account/42", "withdraw", "amount=1", "amont=2"), "has no field 'amont': it takes amount: int, "),
        (("account/42", "withdraw", "amount"), "'amount' is no field: write its name, = and its value"),
        (("account/42", "withdraw", "=1"), "'=1' is no field"),
        (
            ("account/42", "withdraw", "amount=1", "amount=2"),
            "amount is given twice, as amount=1 and amount=2",
        ),
        (
            ("account/42", "withdraw", "amount=much"),
            "amount=much does not fit amount: int (a value of type str",
        ),
        (
            ("account/42", "withdraw", "amount=1.5"),
            "amount=1.5 does not fit amount: int (a value of type float",
        ),
        (("account/42", "withdraw", "amount:=x"), "amount:=x gives is no JSON"),
        (("account/42", "withdraw", "amount=1", "note:=17"), "note:=17 does not fit note: str"),
        (("account/42", "withdraw", "amount=1", "account_id=43"), "account_id=43 is not account/42"),
        (("account/42", "freeze", "now=1"), "it takes none, as account_id is the entity's id"),
        (
            ("account/42", "transfer", *TRANSFER, "tries=0"),
            "transfer of account refuses that: 'tries' must be",
        ),
        (
            ("account/42", "transfer", *TRANSFER, "tags=[a"),
            "tags=[a does not fit tags: list[str] (it is no JSON)",
        ),
        (("account/42", "transfer", *TRANSFER, 'tags=["a", 1]'), "@ it[1])"),
        (("account/42", "transfer", *TRANSFER, "memo:=1"), "memo:=1 does not fit memo: str | None"),
        (("safe/x", "open"), "number=x does not fit number: int"),
        (("safe/ 7", "open"), "safe/ 7 is not how its id is written: write safe/7."),
    ],
)
def test_what_is_wrong_is_said_with_what_there_is(given: tuple[str, ...], says: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        made(*given)

    assert says in caught.value.format_message()


def test_the_class_says_which_field_is_the_id() -> None:
    with pytest.raises(click.UsageError, match="leave --id-field out"):
        made("account/42", "withdraw", "amount=1", id_field="amount")


# ------------------------------------------------------------------------ where none is
def test_without_a_class_values_are_json_or_text() -> None:
    fields = ("amount=80", "note=thank you", "tags=[1]", 'code:="7"', "none=null", "nan=NaN", "account_id=42")

    assert travels("account/42", "pay-out", *fields, app=None) == {
        "amount": 80,
        "note": "thank you",
        "tags": [1],
        "code": "7",
        "none": None,
        "nan": "NaN",
        "account_id": "42",
    }
    info = info_of(made("account/42", "pay-out", *fields, app=None))
    assert (info.name, info.entity, info.version, info.reply_type()) == ("pay-out", "account", 1, Any)


def test_a_raw_handler_has_no_class() -> None:
    """So that commands for it are made like all that have none."""
    assert travels("account/42", "audit", "a=42", "b=1") == {"a": "42", "b": 1}
    registry = Registry()

    @registry.on("box", "*")
    async def anything(command: object) -> None: ...

    assert travels("box/1", "pack", "a=1", app=registry) == {"a": "1"}


@pytest.mark.parametrize(
    ("given", "id_field", "field", "value"),
    [
        (("account_id=42", "b=7"), None, "account_id", "42"),
        (("number:=42",), None, "number", 42),
        (('name="42"',), None, "name", "42"),
        (("a=42", "b=42"), "b", "b", "42"),
        ((), "account_id", "account_id", "42"),
    ],
)
def test_the_entity_is_named_by_a_field(
    given: tuple[str, ...], id_field: str | None, field: str, value: object
) -> None:
    assert travels("account/42", "pay", *given, app=None, id_field=id_field)[field] == value


@pytest.mark.parametrize(
    ("given", "id_field", "says"),
    [
        (
            (),
            None,
            "give --app, where the command is declared, or name the field of the id, as --id-field account_id",
        ),
        (("a=true",), None, "No field says that this is for account/42"),
        (("a=42", "b=42"), None, "a and b are both 42: say with --id-field"),
        (("a=43",), "a", "a=43 is not account/42"),
        (("a=42", "b:=NaN"), None, "b:=NaN gives is no JSON"),
        (("a=42", "class=1"), None, "'class=1' is no field"),
        (("a=42", "__trioqueue__=1"), None, "'__trioqueue__=1' is no field"),
        (("a=42",), "a b", "'a b' is no name of a field"),
    ],
)
def test_without_a_class_what_is_wrong_is_said(
    given: tuple[str, ...], id_field: str | None, says: str
) -> None:
    with pytest.raises(click.UsageError) as caught:
        made("account/42", "pay", *given, app=None, id_field=id_field)

    assert says in caught.value.format_message()
