from decimal import Decimal

import attrs

from trioqueue._errors import Rejected
from trioqueue.messages.codec import Codec
from trioqueue.messages.rejection import Rejection, rejection_fields, rejection_from, rejection_name


@attrs.define
class InsufficientFunds(Rejection):
    balance: Decimal
    currency: str = "EUR"


class Forbidden(Rejection):
    pass


def test_it_reads_like_its_fields() -> None:
    rejection = InsufficientFunds(Decimal(20))

    assert str(rejection) == "balance=Decimal('20'), currency='EUR'"
    assert repr(rejection) == "InsufficientFunds(balance=Decimal('20'), currency='EUR')"
    assert str(Forbidden("not you")) == "not you"


def test_it_travels() -> None:
    codec = Codec()
    rejection = InsufficientFunds(Decimal("20.50"))
    fields = codec.loads(codec.dumps(rejection_fields(codec, rejection)))

    assert rejection_name(rejection) == rejection_name(InsufficientFunds) == "InsufficientFunds"
    assert fields == {"balance": "20.50", "currency": "EUR"}

    built = rejection_from(codec, [Forbidden, InsufficientFunds], "InsufficientFunds", fields)
    assert isinstance(built, InsufficientFunds)
    assert (built.balance, built.currency) == (Decimal("20.50"), "EUR")


def test_one_without_fields_travels_by_its_name() -> None:
    codec = Codec()

    assert rejection_fields(codec, Forbidden("not you")) == {}
    assert isinstance(rejection_from(codec, [Forbidden], "Forbidden", {}), Forbidden)


def test_an_undeclared_one_keeps_its_name_and_fields() -> None:
    built = rejection_from(Codec(), [Forbidden], "InsufficientFunds", {"balance": "20"})

    assert isinstance(built, Rejected)
    assert (built.name, built.fields) == ("InsufficientFunds", {"balance": "20"})


def test_one_of_another_version_is_told_and_not_lost() -> None:
    built = rejection_from(Codec(), [InsufficientFunds], "InsufficientFunds", {"missing": 20})

    assert isinstance(built, Rejected)
    assert built.fields == {"missing": 20}
