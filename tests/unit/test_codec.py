from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pend_storage._model.fast_path import PlainRecords
from pend_storage._model.fields import FieldSpec, Kind, Limit, fields_of
from pend_storage.codec import (
    RecordCodec,
    check_json,
    dump_json,
    load_json,
    value_checker,
)
from pend_storage.errors import CorruptFile, InvalidRecord
from pend_storage.records import JSON
from pend_storage.testing.domain import SCHEMA, Ship, a_log, a_ship
from pend_storage.testing.strategies import json_values, keys_for, records, spoiled

KEYS = keys_for(SCHEMA)
SHIPS = SCHEMA["ships"].codec


class Day(date):
    """A date that is not quite plain."""


@given(json_values())
def test_json_comes_back_equal_and_of_the_same_types(value: Any) -> None:
    checked = check_json(value)

    text = dump_json(checked)

    assert load_json(text) == checked
    assert types(load_json(text)) == types(checked)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_is_written_so_that_every_reader_takes_it_for_one(value: float) -> None:
    text = dump_json([value, {"a": value}])

    assert load_json(text) == [value, {"a": value}]
    number = text[1:].split(b",")[0].decode()
    assert Decimal(number) == Decimal(repr(value)) or Decimal(number) == Decimal(value)
    assert "." in number or "e-" in number
    assert "e1" not in number
    assert "e2" not in number


@pytest.mark.parametrize(
    "value", [1e16, 1e17, 1e22, 1e23, 1e100, 1.5e300, -1e16, 2.0**60]
)
def test_a_large_float_is_written_out_as_exactly_what_it_is(value: float) -> None:
    assert dump_json(value) == f"{int(value)}.0".encode()


def test_text_that_looks_like_a_large_number_stays_as_it_is() -> None:
    value: JSON = {"1e99": "1e99,", "b": "9e22]", "c": ["1e5}", 1]}

    assert load_json(dump_json(value)) == value


@given(records(SCHEMA, "ships", KEYS))
def test_a_checked_record_comes_back_equal(ship: Ship) -> None:
    checked = SHIPS.check(ship)

    assert SHIPS.decode(SHIPS.encode(checked)) == checked
    assert SHIPS.check(checked) == checked


@given(records(SCHEMA, "ships", KEYS))
def test_the_quick_test_never_says_yes_where_a_check_changes_something(
    ship: Ship,
) -> None:
    if not PlainRecords(tuple(SCHEMA["ships"].fields.values()))(ship):
        return

    for spec in SCHEMA["ships"].fields.values():
        value = getattr(ship, spec.name)
        if value is not None or not spec.optional:
            assert value_checker(spec)(value) is value


@given(spoiled(SCHEMA, "ships", KEYS))
def test_what_is_refused_is_refused_with_its_field(pair: tuple[Any, str]) -> None:
    ship, name = pair

    with pytest.raises(InvalidRecord) as caught:
        SHIPS.check(ship)

    assert (caught.value.collection, caught.value.field) == ("ships", name)
    assert not PlainRecords(tuple(SCHEMA["ships"].fields.values()))(ship)


def test_a_record_that_needs_no_change_is_the_same_object() -> None:
    ship = a_ship("s1", extra={"a": [1]}, remark="plain")

    assert SHIPS.check(ship) is ship


def test_a_record_of_another_type_is_refused() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Better(Ship):
        more: int = 0

    for other in (a_log(), Better(id="s1", name="s1"), None):
        with pytest.raises(InvalidRecord, match="Ship expected") as caught:
            SHIPS.check(other)
        assert caught.value.field is None


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"id": 3}', b"[" * 5000])
def test_a_stored_text_that_is_no_record_is_corrupt(body: bytes) -> None:
    with pytest.raises(CorruptFile, match="ships"):
        SHIPS.decode(body)


def test_a_date_of_a_subclass_becomes_a_plain_one() -> None:
    checked = SHIPS.check(a_ship("s1", built=Day(2020, 2, 29)))

    assert type(checked.built) is date
    assert checked.built == date(2020, 2, 29)


@pytest.mark.parametrize(
    ("limit", "good", "bad"),
    [
        (Limit(ge=1), [1, 2], [0]),
        (Limit(gt=1), [2], [1]),
        (Limit(le=1), [1, 0], [2]),
        (Limit(lt=1), [0], [1]),
        (Limit(digits=3), [999, -999, 0], [1000, -1000]),
        (Limit(ge=0, le=0), [0], [1, -1]),
    ],
)
def test_bounds_of_an_integer(limit: Limit, good: list[int], bad: list[int]) -> None:
    limits_hold(FieldSpec("n", Kind.INT, limit=limit), good, bad)


@pytest.mark.parametrize(
    ("limit", "good", "bad"),
    [
        (Limit(min_length=2), ["ab", "\U0001f6a2b"], ["a", "", "\U0001f6a2"]),
        (Limit(max_length=2), ["ab", "", "\U0001f6a2\U0001f6a2"], ["abc"]),
        (Limit(max_length=0), [""], ["a"]),
        (Limit(pattern="b"), ["abc"], ["ac", ""]),
        (Limit(pattern="^b$"), ["b"], ["ab"]),
    ],
)
def test_bounds_of_a_text(limit: Limit, good: list[str], bad: list[str]) -> None:
    limits_hold(FieldSpec("t", Kind.STR, limit=limit), good, bad)


@pytest.mark.parametrize(
    ("limit", "good", "bad"),
    [
        (
            Limit(places=2),
            ["1.25", "1.2500", "1E+5", "0", "0.000", "12345678901234567890.01"],
            ["1.251", "0.001", "1E-3"],
        ),
        (
            Limit(digits=5, places=2),
            ["999.99", "-999.99", "0.01", "100.0000", "0E+9"],
            ["1000", "-1000.00", "1E+3", "0.001"],
        ),
        (Limit(digits=2), ["99", "0.5"], ["100"]),
        (Limit(ge=Decimal("0.5")), ["0.50"], ["0.49"]),
    ],
)
def test_bounds_of_a_decimal(limit: Limit, good: list[str], bad: list[str]) -> None:
    limits_hold(
        FieldSpec("d", Kind.DECIMAL, limit=limit),
        [Decimal(text) for text in good],
        [Decimal(text) for text in bad],
    )


def test_bounds_of_containers_count_their_items() -> None:
    limit = Limit(min_length=1, max_length=2)

    limits_hold(FieldSpec("l", Kind.LIST, limit=limit), [[0], [0, 0]], [[], [0] * 3])
    limits_hold(FieldSpec("o", Kind.OBJECT, limit=limit), [{"a": 0}], [{}])
    limits_hold(FieldSpec("b", Kind.BYTES, limit=limit), [b"a"], [b"", b"abc"])


@dataclass(frozen=True)
class Limited:
    text: Annotated[str, Limit(min_length=1, max_length=3, pattern="[a-z]")]
    word: Annotated[str, msgspec.Meta(max_length=2)]
    count: Annotated[int, Limit(ge=0, le=9)]
    above: Annotated[int, Limit(gt=0)]
    ratio: Annotated[float, Limit(ge=0)]
    price: Annotated[Decimal, Limit(digits=4, places=2)]
    at: Annotated[datetime, Limit(ge=datetime(2020, 1, 1, tzinfo=UTC))]
    items: Annotated[list[Any], Limit(max_length=1)]
    flag: bool


GOOD = {
    "text": "abc",
    "word": "ab",
    "count": 9,
    "above": 1,
    "ratio": 0.5,
    "price": Decimal("12.34"),
    "at": datetime(2020, 1, 1, tzinfo=UTC),
    "items": [1],
    "flag": True,
}
LIMITED = RecordCodec("limited", Limited, fields_of(Limited))


def test_limits_hold_in_records() -> None:
    record = Limited(**GOOD)  # type: ignore[arg-type]

    assert LIMITED.check(record) is record
    assert LIMITED.decode(LIMITED.encode(record)) == record


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("text", ""),
        ("text", "abcd"),
        ("text", "ABC"),
        ("word", "abc"),
        ("count", -1),
        ("count", 10),
        ("above", 0),
        ("ratio", -0.5),
        ("ratio", math.nan),
        ("price", Decimal("123.45")),
        ("price", Decimal("1.234")),
        ("at", datetime(2019, 12, 31, tzinfo=UTC)),
        ("items", [1, 2]),
        ("flag", 1),
    ],
)
def test_a_record_beyond_a_limit_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InvalidRecord) as caught:
        LIMITED.check(Limited(**{**GOOD, name: value}))

    assert caught.value.field == name


def limits_hold(spec: FieldSpec, good: list[Any], bad: list[Any]) -> None:
    check = value_checker(spec)
    for value in good:
        assert check(value) == value
    for value in bad:
        with pytest.raises(ValueError, match=r"."):
            check(value)


def types(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: types(item) for name, item in value.items()}
    if isinstance(value, list):
        return [types(item) for item in value]
    return type(value)
