from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioqueue._errors import DecodeError, EncodeError
from trioqueue._names import Entity
from trioqueue.messages.codec import Codec
from trioqueue.messages.envelope import (
    LONGEST_KEPT_MS,
    Envelope,
    decode_envelope,
    encode_envelope,
    name_in,
    plain_envelope,
)

CODEC = Codec()
ENTITY = Entity("account", "acc-1")
FULL = Envelope(
    command_id="c1",
    entity=ENTITY,
    name="deposit",
    version=2,
    payload={"account_id": "acc-1", "amount": 100},
    reply_to="pod-1.7",
    deadline=1.5,
    chain=("account/1", "order/a/b"),
    headers={"traceparent": "00-..."},
    sent_by="web-1",
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
ENVELOPES = st.builds(
    Envelope,
    command_id=NAMES,
    entity=st.just(ENTITY),
    name=NAMES,
    version=st.integers(1, 2**32),
    payload=st.dictionaries(TEXT, st.integers(-(2**63), 2**63 - 1) | TEXT),
    reply_to=st.none() | TEXT,
    deadline=st.none() | st.integers(0, 2**40).map(lambda ms: ms / 1000),
    chain=st.lists(TEXT).map(tuple),
    headers=st.dictionaries(TEXT, TEXT),
    sent_by=TEXT,
    keep_ms=st.integers(0, LONGEST_KEPT_MS),
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=10,
)


@given(ENVELOPES)
def test_what_travels_comes_back(envelope: Envelope) -> None:
    assert decode_envelope(CODEC, ENTITY, encode_envelope(CODEC, envelope)) == envelope


def test_how_it_looks_in_the_store() -> None:
    assert encode_envelope(CODEC, FULL) == (
        b'{"i":"c1","n":"deposit","v":2,"p":{"account_id":"acc-1","amount":100},"r":"pod-1.7","d":1500,'
        b'"c":["account/1","order/a/b"],"h":{"traceparent":"00-..."},"s":"web-1"}'
    )


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("payload", [{}, {"amount": 5}])
def test_a_plain_one_is_the_same_bytes(version: int, payload: dict[str, Any]) -> None:
    whole = Envelope("id-1", Entity("account", "42"), "withdraw", version, payload)
    assert plain_envelope(Codec(), "id-1", "withdraw", version, payload) == encode_envelope(Codec(), whole)


def test_what_is_empty_is_left_out() -> None:
    assert encode_envelope(CODEC, Envelope("c1", ENTITY, "deposit")) == b'{"i":"c1","n":"deposit"}'


def test_the_mailbox_says_whose_it_is() -> None:
    data = encode_envelope(CODEC, FULL)

    assert decode_envelope(CODEC, Entity("order", "7"), data) == FULL._replace(entity=Entity("order", "7"))


@pytest.mark.parametrize(
    ("seconds", "ms"), [(0.0004, 1), (1.0, 1000), (0.3, 300), (0.0, 0), (-1.0, 0), (0.1 + 0.2, 300)]
)
def test_a_deadline_travels_in_milliseconds_rounded_up(seconds: float, ms: int) -> None:
    data = encode_envelope(CODEC, Envelope("c1", ENTITY, "deposit", deadline=seconds))

    assert CODEC.loads(data)["d"] == ms
    assert decode_envelope(CODEC, ENTITY, data).deadline == ms / 1000


@pytest.mark.parametrize("deadline", [float("inf"), float("nan")])
def test_no_deadline_is_none_and_not_infinity(deadline: float) -> None:
    with pytest.raises(EncodeError, match="not a finite number of seconds"):
        encode_envelope(CODEC, Envelope("c1", ENTITY, "deposit", deadline=deadline))


def test_what_cannot_travel_is_refused() -> None:
    with pytest.raises(EncodeError):
        encode_envelope(CODEC, Envelope("c1", ENTITY, "deposit", payload={"amount": 2**64}))


def test_unknown_members_are_ignored() -> None:
    assert decode_envelope(CODEC, ENTITY, b'{"i":"c1","n":"deposit","z":[1]}') == Envelope(
        "c1", ENTITY, "deposit"
    )


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([], "not a JSON object"),
        ({"n": "deposit"}, "i, the command id"),
        ({"i": "", "n": "deposit"}, "i, the command id"),
        ({"i": 1, "n": "deposit"}, "i, the command id"),
        ({"i": "c1"}, "n, the command's name"),
        ({"i": "c1", "n": "d", "v": 0}, "v, the version"),
        ({"i": "c1", "n": "d", "v": True}, "v, the version"),
        ({"i": "c1", "n": "d", "v": "1"}, "v, the version"),
        ({"i": "c1", "n": "d", "p": []}, "p, the payload"),
        ({"i": "c1", "n": "d", "p": None}, "p, the payload"),
        ({"i": "c1", "n": "d", "r": 1}, "r, where the reply"),
        ({"i": "c1", "n": "d", "d": 1.5}, "d, the milliseconds"),
        ({"i": "c1", "n": "d", "d": -1}, "d, the milliseconds"),
        ({"i": "c1", "n": "d", "c": "account/1"}, "c, the waiting callers"),
        ({"i": "c1", "n": "d", "c": [1]}, "c, the waiting callers"),
        ({"i": "c1", "n": "d", "h": {"a": 1}}, "h, the headers"),
        ({"i": "c1", "n": "d", "h": ["a"]}, "h, the headers"),
        ({"i": "c1", "n": "d", "s": 1}, "s, the sender"),
        ({"i": "c1", "n": "d", "k": -1}, "k, the milliseconds"),
        ({"i": "c1", "n": "d", "k": 2**63 - 1}, "k, the milliseconds"),
    ],
)
def test_what_is_no_envelope_is_refused_with_its_reason(members: Any, reason: str) -> None:
    data = CODEC.dumps(members)

    with pytest.raises(DecodeError, match=reason) as caught:
        decode_envelope(CODEC, ENTITY, data)
    assert caught.value.data == data


def only_a_decode_error(data: bytes) -> None:
    try:
        envelope = decode_envelope(CODEC, ENTITY, data)
    except DecodeError:
        return
    # What is read can be handed on.
    assert decode_envelope(CODEC, ENTITY, encode_envelope(CODEC, envelope)) == envelope


@given(st.binary())
def test_any_bytes(data: bytes) -> None:
    only_a_decode_error(data)


@given(st.dictionaries(st.sampled_from("invprdchsz"), JSON))
def test_any_members(members: dict[str, Any]) -> None:
    only_a_decode_error(CODEC.dumps({"i": "c1", "n": "d"} | members))


@given(ENVELOPES, st.data())
def test_damaged_envelopes(envelope: Envelope, data: st.DataObject) -> None:
    whole = encode_envelope(CODEC, envelope)
    at = data.draw(st.integers(0, len(whole) - 1))
    only_a_decode_error(whole[:at])
    only_a_decode_error(whole[:at] + data.draw(st.binary(min_size=1, max_size=3)) + whole[at + 1 :])


@given(ENVELOPES)
def test_its_beginning_has_the_name(envelope: Envelope) -> None:
    data = encode_envelope(CODEC, envelope)
    name_ends = len(CODEC.dumps({"i": envelope.command_id, "n": envelope.name})) - 1

    assert name_in(CODEC, data) == envelope.name
    assert name_in(CODEC, data[:name_ends]) == envelope.name
    with pytest.raises(DecodeError):
        name_in(CODEC, data[: name_ends - 1])


@pytest.mark.parametrize("data", [b"", b"{}", b'{"n":"x"', b'{"i":"a","p":{},"n":"x"}', b'{"i":"a","n":7'])
def test_what_is_no_beginning_of_one_has_no_name(data: bytes) -> None:
    with pytest.raises(DecodeError):
        name_in(CODEC, data)
