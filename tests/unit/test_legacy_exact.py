"""Exact JSON: what goes in comes out, or is refused with a reason."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from pend_storage.legacy import _exact_json as exact
from pend_storage.legacy._exact_json import ExactFloat, UnreadableError


def value_of(text: str) -> Any:
    return exact.read(text.encode())[0]


@pytest.mark.parametrize(
    ("text", "worth"),
    [
        ("250", "250"),
        ("1.0", "1"),
        ("44123.0", "44123"),
        ("-0", "0"),
        ("-0.0", "0"),
        ("0.10", "0.1"),
        ("1e21", "1E+21"),
        ("1e+21", "1E+21"),
        ("1E-7", "1E-7"),
        ("1e23", "1E+23"),
        ("9007199254740993", "9007199254740993"),
        ("9007199254740993.0", "9007199254740993"),
        ("9007199254740993e3", "9007199254740993000"),
        (str(2**256 - 1), str(2**256 - 1)),
        ("12.3456789", "12.3456789"),
        (
            "0.1234567890123456789012345678901234",
            "0.1234567890123456789012345678901234",
        ),
        ("123456789012345678901234567890.5", "123456789012345678901234567890.5"),
        ("1e400", "1E+400"),
        ("1e-400", "1E-400"),
        ("1.5e-330", "1.5E-330"),
    ],
)
def test_a_number_is_read_and_printed_for_exactly_what_it_is_worth(
    text: str, worth: str
) -> None:
    value = value_of(text)

    assert exact.as_decimal(value) == Decimal(worth)
    assert Decimal(exact.dump([value]).decode()[1:-1]) == Decimal(worth)
    assert not (isinstance(value, float) and math.isinf(value))


@given(st.decimals(allow_nan=False, allow_infinity=False, places=None))
@example(Decimal("0.1") ** 400)
def test_any_decimal_survives_reading_and_printing(number: Decimal) -> None:
    assume(abs(number.adjusted()) < 3_000)

    value, inexact = exact.read(f'{{"n": {number:e}}}'.encode())

    assert Decimal(
        json.loads(exact.dump(value), parse_float=str, parse_int=str)["n"]
    ) == (number)
    assert inexact is any(isinstance(v, ExactFloat) for v in value.values())


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"a": 1, "b": 2, "a": 3}', "duplicate-member"),
        ('{"x": [{"a": 1, "a": 1}]}', "duplicate-member"),
        ("[NaN]", "not-a-number"),
        ("Infinity", "not-a-number"),
        ('{"a": -Infinity}', "not-a-number"),
        ("1" * 5_000, "number-too-long"),
        ("1e5000", "number-too-long"),
        ("1e99999999999999999999", "number-too-long"),
        ("[" * 100_000 + "]" * 100_000, "too-deep"),
        ('{"a" 1}', "not-json"),
        ("tru", "not-json"),
        ("01", "not-json"),
        ('"a" "b"', "not-json"),
        ('"tab\tinside"', "not-json"),
    ],
)
def test_what_is_not_one_exact_value_is_refused(text: str, code: str) -> None:
    with pytest.raises(UnreadableError) as caught:
        value_of(text)

    assert caught.value.code == code


def test_text_is_read_as_it_is_even_where_no_store_can_hold_it() -> None:
    assert value_of('"a\\u0000\\ud800\\ud83d\\ude00é"') == "a\x00\ud800😀é"


def test_half_a_character_has_no_digest() -> None:
    with pytest.raises(UnreadableError) as caught:
        exact.digest(["\udc00"])

    assert caught.value.code == "unstorable"


def test_equal_values_have_one_digest_however_they_are_written() -> None:
    texts = [
        '{"a": 1, "b": [1.5, {"x": "é", "y": null}]}',
        '{ "b":[1.50,{"y":null,"x":"\\u00e9"}],"a":1.0 }',
    ]

    assert len({exact.digest(value_of(text)) for text in texts}) == 1


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        ("1", "1.0", True),
        ("1", "true", False),
        ('"1"', "1", False),
        ("null", "false", False),
        ('{"a": 1, "b": 2}', '{"b": 2, "a": 1}', True),
        ("[1, 2]", "[2, 1]", False),
        ("0.1234567890123456789", "0.12345678901234568", False),
        ("0.1234567890123456789", "0.1234567890123456789", True),
    ],
)
def test_values_are_compared_to_the_last_digit(
    left: str, right: str, equal: bool
) -> None:
    assert exact.same(value_of(left), value_of(right)) is equal


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("1e21", "1000000000000000000000"),
        ("123456789012345680000.0", "123456789012345680000"),
        ("1e16", "10000000000000000"),
        ("1.5e-7", "1.5e-7"),
        ("0.000001", "0.000001"),
        ('"\\u0001\\u001f\\u007f\\u2028/"', '"\\u0001\\u001f\x7f\u2028/"'),
    ],
)
def test_numbers_and_texts_are_printed_as_the_server_prints_them(
    text: str, printed: str
) -> None:
    assert exact.dump(value_of(text)).decode() == printed


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        (1e21, "1000000000000000000000"),
        (1e23, "99999999999999991611392"),
        (1.0, "1"),
        (-0.0, "0"),
        (0.5, "0.5"),
        (1e-7, "1e-7"),
        (-1.5e-9, "-1.5e-9"),
    ],
)
def test_floats_of_new_code_are_printed_for_exactly_what_they_are(
    value: float, printed: str
) -> None:
    assert exact.dump({"a": [value]}).decode() == f'{{"a":[{printed}]}}'


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers())
def test_a_number_has_one_digest_before_and_after_it_was_printed(number: float) -> None:
    printed = exact.dump([number])

    assert exact.digest(exact.normal([number])) == exact.digest(exact.read(printed)[0])


def test_digits_come_back_only_where_the_number_is_still_the_same() -> None:
    value = value_of(
        '{"a": {"n": 0.1234567890123456789}, "b": [0.98765432109876543210]}'
    )
    numbers = list(exact.exact_numbers(value))
    stored = exact.as_plain(value)
    stored["b"][0] = 0.5

    restored = exact.with_numbers(stored, numbers)

    assert exact.dump(restored) == b'{"a":{"n":0.1234567890123456789},"b":[0.5]}'
    assert exact.with_numbers("something else", numbers) == "something else"
