import enum
import json
import math
import re
import traceback
from collections.abc import Mapping, Sequence, Set
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, NamedTuple, NewType, Optional
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioqueue._errors import BadDeclaration, DecodeError, EncodeError
from trioqueue.messages.codec import Codec
from trioqueue.messages.command import Command, command, entity_id

CODEC = Codec()

Cents = NewType("Cents", int)


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Word(enum.StrEnum):
    YES = "yes"


class Corner(enum.Enum):
    ORIGIN = (0, 0)
    FAR = (1, 1)


class Point(NamedTuple):
    x: int
    y: int


@attrs.frozen
class Card:
    number: str
    limit: Decimal = Decimal(0)


@attrs.frozen
class Cash:
    currency: str


@attrs.frozen
class Payment:
    by: Card | Cash
    amount: Decimal


@attrs.frozen
class Tree:
    value: int
    children: "list[Tree]" = attrs.field(factory=list["Tree"])


@attrs.frozen
class Number:
    value: int


@attrs.frozen
class Sum:
    left: "Sum | Number"
    right: "Sum | Number"


@command("account")
class Deposit(Command[int]):
    account_id: str = entity_id()
    amount: int
    note: str | None = None


def there_and_back(value: object, declared: Any) -> object:
    return CODEC.structure(CODEC.loads(CODEC.dumps(CODEC.unstructure(value, declared))), declared)


def is_builtins(value: object) -> bool:
    if type(value) is dict:
        return all(type(key) is str and is_builtins(item) for key, item in value.items())
    if type(value) is list:
        return all(map(is_builtins, value))
    return value is None or type(value) in (str, int, float, bool)


def strategies() -> dict[Any, st.SearchStrategy[Any]]:
    """For each declared type, what values of it travel."""
    text = st.text(st.characters(exclude_categories=["Cs"]))
    ints = st.integers(-(2**63), 2**64 - 1)
    decimals = st.decimals(allow_nan=False, allow_infinity=False)
    zones = st.one_of(st.none(), st.just(UTC), st.just(timezone(timedelta(hours=-5, minutes=-30))))
    cards = st.builds(Card, text, decimals)
    cash = st.builds(Cash, text)
    numbers = st.builds(Number, ints)
    trees = st.recursive(
        st.builds(Tree, ints), lambda inner: st.builds(Tree, ints, st.lists(inner, max_size=3))
    )
    sums = st.recursive(numbers, lambda inner: st.builds(Sum, inner, inner), max_leaves=6)
    return {
        str: text,
        int: ints,
        bool: st.booleans(),
        float: st.floats(allow_nan=False, allow_infinity=False),
        type(None): st.none(),
        Cents: ints.map(Cents),
        Decimal: decimals,
        UUID: st.uuids(),
        bytes: st.binary(),
        date: st.dates(),
        time: st.times(),
        datetime: st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-5, seconds=-30))])),
        timedelta: st.timedeltas(),
        Color: st.sampled_from(Color),
        Level: st.sampled_from(Level),
        Word: st.sampled_from(Word),
        Corner: st.sampled_from(Corner),
        Path: st.just(Path("a/b")),
        Literal["a", 1]: st.sampled_from(["a", 1]),
        int | None: st.none() | ints,
        Optional[Decimal]: st.none() | decimals,  # noqa: UP045 - users write it
        int | str: ints | text,
        list[Decimal]: st.lists(decimals),
        Sequence[int]: st.lists(ints).map(tuple),
        tuple[int, ...]: st.lists(ints).map(tuple),
        tuple[str, Decimal]: st.tuples(text, decimals),
        Point: st.builds(Point, ints, ints),
        set[int]: st.sets(ints),
        set[Color]: st.sets(st.sampled_from(Color)),
        frozenset[str]: st.frozensets(text),
        Set[int]: st.frozensets(ints),
        dict[str, timedelta]: st.dictionaries(text, st.timedeltas()),
        dict[int, Decimal]: st.dictionaries(st.integers(), decimals),
        Mapping[str, int]: st.dictionaries(text, ints),
        dict[Word, int]: st.dictionaries(st.sampled_from(Word), ints),
        dict[Color, int]: st.dictionaries(st.sampled_from(Color), ints),
        dict[UUID, int]: st.dictionaries(st.uuids(), ints),
        Card: cards,
        Card | Cash: cards | cash,
        Card | Cash | None: cards | cash | st.none(),
        Card | int: cards | ints,
        list[Card | Cash]: st.lists(cards | cash, max_size=4),
        Payment: st.builds(Payment, cards | cash, decimals),
        Tree: trees,
        Sum | Number: sums,
        Deposit: st.builds(Deposit, text, ints, st.none() | text),
        tuple[time, ...]: st.lists(st.builds(time, tzinfo=zones)).map(tuple),
    }


STRATEGIES = strategies()


@pytest.mark.parametrize("declared", STRATEGIES, ids=str)
def test_what_travels_comes_back(declared: Any) -> None:
    @given(STRATEGIES[declared])
    def check(value: object) -> None:
        back = there_and_back(value, declared)

        assert back == value
        assert type(back) is type(value)

    check()


@given(st.datetimes(timezones=st.timezones()))
def test_a_datetime_keeps_its_moment_and_offset(value: datetime) -> None:
    back = there_and_back(value, datetime)

    assert isinstance(back, datetime)
    assert back.astimezone(UTC) == value.astimezone(UTC)
    assert back.utcoffset() == value.utcoffset()


def test_subclasses_of_builtins_come_back_as_themselves() -> None:
    class Email(str):
        __slots__ = ()

    back = there_and_back(Email("a@b"), Email)

    assert type(back) is Email
    assert back == "a@b"
    with pytest.raises(DecodeError):
        CODEC.structure(7, Email)


@given(st.one_of(*STRATEGIES.values()))
def test_builtins_hold_nothing_else(value: object) -> None:
    builtins = CODEC.unstructure(value)
    try:
        data = CODEC.dumps(builtins)
    except EncodeError:
        return  # Keys that are no strings, where no type was declared.
    assert is_builtins(CODEC.loads(data))


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.just({"$type": "Card", "number": 1}),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["$type", "value"]), inner),
    max_leaves=5,
)


@given(st.sampled_from(list(STRATEGIES)), ANYTHING)
def test_whatever_comes_it_fits_or_is_refused(declared: Any, builtins: Any) -> None:
    try:
        CODEC.structure(builtins, declared)
    except DecodeError as error:
        message = str(error)
    else:
        return
    assert message.startswith("This cannot be decoded: ")
    assert len(message) < 1000


@pytest.mark.parametrize(
    ("value", "builtins"),
    [
        (Decimal("1.10"), "1.10"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (datetime(2030, 1, 31, 12, tzinfo=UTC), "2030-01-31T12:00:00+00:00"),
        (datetime(2030, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin")), "2030-07-01T12:00:00+02:00"),
        (date(2030, 1, 31), "2030-01-31"),
        (time(12, 30), "12:30:00"),
        (timedelta(days=1), "86400"),
        (timedelta(microseconds=-1), "-0.000001"),
        (timedelta.min, "-86399999913600"),
        (b"\xff\0", "/wA="),
        (Color.RED, "red"),
        (Level.HIGH, 2),
        (Corner.FAR, "FAR"),
        ({3, 1, 2}, [1, 2, 3]),
        (Point(1, 2), [1, 2]),
        ((1, "a"), [1, "a"]),
        (Deposit("acc-1", 5), {"account_id": "acc-1", "amount": 5, "note": None}),
        (Payment(Cash("EUR"), Decimal(5)), {"by": {"$type": "Cash", "currency": "EUR"}, "amount": "5"}),
    ],
    ids=repr,
)
def test_how_it_looks_in_the_store(value: object, builtins: object) -> None:
    assert CODEC.unstructure(value) == builtins


def test_equal_sets_are_equal_bytes() -> None:
    names = [f"name-{n}" for n in range(50)]

    backwards = set[str]()
    for name in reversed(names):
        backwards.add(name)
    assert CODEC.unstructure(set(names)) == CODEC.unstructure(backwards) == sorted(names)
    assert CODEC.unstructure({1, "a", None}) == CODEC.unstructure({None, "a", 1})


@pytest.mark.parametrize(
    ("builtins", "declared"),
    [
        ("3", int),
        (True, int),
        (3.0, int),
        (3, str),
        (1, bool),
        ("1.5", float),
        (True, float),
        (1.5, Decimal),
        ("one", Decimal),
        ("1", UUID),
        ("2030-02-30", date),
        ("2030-01-31T12:00:00", datetime),
        (0, datetime),
        ("1.0000001", timedelta),
        ("1e5", timedelta),
        ("9" * 15, timedelta),
        ("no base64!", bytes),
        ("green", Color),
        (True, Level),
        ("ORIGIN ", Corner),
        (True, Literal[1]),
        ("abc", list[str]),
        ({}, list[int]),
        ("ab", tuple[str, str]),
        ([1], tuple[int, int]),
        ("abc", set[str]),
        ([], dict[str, int]),
        ({"one": 1}, dict[int, int]),
        ({"1.0": 1}, dict[int, int]),
        ([], Card),
        ("number", Card),
        ({}, Card),
        ({"number": "1"}, Card | Cash),
        ({"$type": "Deposit", "account_id": "a", "amount": 1}, Card | Cash),
        ({"$type": ["Card"]}, Card | Cash),
        (0, type(None)),
        (None, Card | Cash),
    ],
)
def test_what_does_not_fit_is_refused(builtins: Any, declared: Any) -> None:
    with pytest.raises(DecodeError):
        CODEC.structure(builtins, declared)


def test_an_int_will_do_for_a_float() -> None:
    assert CODEC.structure(3, float) == 3.0
    assert type(CODEC.structure(3, float)) is float


def test_unknown_fields_are_ignored_and_missing_ones_take_their_default() -> None:
    assert CODEC.structure({"account_id": "a", "amount": 1, "since": "v7"}, Deposit) == Deposit("a", 1)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (datetime(2030, 1, 31), "is naive: give it a tzinfo"),  # noqa: DTZ001 - it is the point
        (math.nan, "nan is no JSON number"),
        (-math.inf, "-inf is no JSON number"),
        ({"deep": [math.nan]}, "nan is no JSON number"),
        (Decimal("NaN"), "not a finite Decimal"),
        (time(12, tzinfo=ZoneInfo("Europe/Berlin")), "depends on the day"),
        (object(), "object cannot travel"),
        (lambda: None, "cannot travel"),
        (1 + 2j, "complex cannot travel"),
    ],
    ids=lambda one: re.sub(" at 0x.*", ">", repr(one)),  # an address is another one in each process
)
def test_what_cannot_travel_is_refused_with_a_sentence(value: object, reason: str) -> None:
    with pytest.raises((EncodeError, BadDeclaration), match=reason):
        CODEC.unstructure(value)


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, "\ud800", {1: 2}, {None: 1}], ids=repr)
def test_what_is_no_json_is_refused(value: object) -> None:
    with pytest.raises(EncodeError):
        CODEC.dumps(CODEC.unstructure(value))


def test_bytes_do_not_slip_past_the_rules() -> None:
    for value in (datetime(2030, 1, 31), Card("1"), b"raw"):  # noqa: DTZ001
        with pytest.raises(EncodeError):
            CODEC.dumps(value)


def test_endless_values_are_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)

    with pytest.raises(EncodeError):
        CODEC.unstructure(endless)
    with pytest.raises(EncodeError):
        CODEC.dumps(endless)
    with pytest.raises(DecodeError):
        CODEC.loads(b"[" * 100_000)


def test_a_datetime_is_no_date() -> None:
    with pytest.raises(EncodeError, match="is a datetime where a date is declared"):
        CODEC.unstructure(datetime(2030, 1, 31, tzinfo=UTC), date)


@given(st.binary())
def test_bytes_are_json_or_refused(data: bytes) -> None:
    try:
        loaded = CODEC.loads(data)
    except DecodeError:
        return
    json.loads(data)
    assert is_builtins(loaded)


def test_the_error_says_where() -> None:
    bad = {"value": 1, "children": [{"value": 2}, {"value": "3"}]}

    with pytest.raises(
        DecodeError, match=r"type str is not of type int @ it\.children\[1\]\.value"
    ) as caught:
        CODEC.structure(bad, Tree)
    assert caught.value.data == json.dumps(bad, separators=(",", ":")).encode()


def test_an_error_shows_nothing_of_the_payload() -> None:
    with pytest.raises(DecodeError) as caught:
        CODEC.structure({"value": "4111-1111"}, Tree)

    shown = [*traceback.format_exception_only(caught.value), repr(caught.value)]
    assert "4111" not in "".join(shown)


def test_many_errors_are_told_in_short() -> None:
    with pytest.raises(DecodeError, match="and 7 more"):
        CODEC.structure(["x"] * 10, list[int])


def test_what_a_class_refuses_is_a_decode_error() -> None:
    @attrs.frozen
    class Percent:
        value: int = attrs.field(validator=attrs.validators.le(100))

    with pytest.raises(DecodeError, match="invalid value"):
        CODEC.structure({"value": 101}, Percent)


def test_private_attributes_travel() -> None:
    @attrs.frozen
    class Secret:
        _key: int

    assert CODEC.unstructure(Secret(1)) == {"_key": 1}
    assert there_and_back(Secret(1), Secret) == Secret(1)


def test_data_names_no_class_that_was_not_declared() -> None:
    for builtins in ({"$type": "Cash", "currency": "EUR"}, {"__class__": "os.system"}):
        assert CODEC.structure(builtins, Any) is builtins
    with pytest.raises(DecodeError):
        CODEC.structure({"$type": "Tree", "value": 1}, Card | Cash)


class TestUnions:
    def test_two_of_one_name_are_a_mistake(self) -> None:
        other = attrs.make_class("Card", ["x"])

        with pytest.raises(BadDeclaration, match="are called Card: rename one"):
            CODEC.decoder(Card | other)

    def test_a_member_may_gain_another_name_space(self) -> None:
        assert CODEC.unstructure(Card("1"), Card | Cash) == {"$type": "Card", "number": "1", "limit": "0"}
        assert CODEC.unstructure(Card("1"), Card | None) == {"number": "1", "limit": "0"}

    def test_a_stranger_is_refused(self) -> None:
        with pytest.raises(EncodeError, match="Number is not in the union"):
            CODEC.unstructure(Number(1), Card | Cash)


class TestRegister:
    def test_one_more_class(self) -> None:
        class Money:
            def __init__(self, text: str) -> None:
                self.text = text

        codec = Codec()
        with pytest.raises(BadDeclaration, match=r"there is no rule for .*Money"):
            codec.decoder(Money)

        codec.register(Money, lambda money: money.text, Money)

        assert codec.unstructure([Money("5 EUR")], list[Money]) == ["5 EUR"]
        built: Any = codec.structure({"price": "5 EUR"}, dict[str, Money])
        assert built["price"].text == "5 EUR"

    def test_what_its_functions_raise_is_translated(self) -> None:
        class Odd:
            pass

        def refuse(_: object) -> Any:
            raise RuntimeError("broken")

        codec = Codec()
        codec.register(Odd, refuse, refuse)

        with pytest.raises(EncodeError, match="broken"):
            codec.unstructure(Odd())
        with pytest.raises(DecodeError, match="RuntimeError"):
            codec.structure(1, Odd)

    def test_a_field_of_an_unknown_type_is_seen_early(self) -> None:
        class Unknown:
            pass

        holder = attrs.make_class("Holder", {"it": attrs.field(type=Unknown)})

        for made in (Codec().encoder, Codec().decoder):
            with pytest.raises(
                BadDeclaration, match=r"cannot travel .*Unknown.*: change the type, or register it"
            ):
                made(holder)


def test_functions_are_made_once() -> None:
    codec = Codec()

    assert codec.encoder(Deposit) is codec.encoder(Deposit)
    assert codec.decoder(Deposit) is codec.decoder(Deposit)
    assert repr(codec) == "<Codec for 1 types so far>"
