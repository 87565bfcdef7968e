from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from pend_storage._model.diff import ABSENT, Difference, differences, equal
from pend_storage.testing.domain import a_ship

EQUAL: list[tuple[Any, Any]] = [
    (1, 1.0),
    (Decimal("1.50"), Decimal("1.5")),
    ({"a": 1, "b": [2]}, {"b": [2.0], "a": 1}),
    ([], []),
    ({}, {}),
    (None, None),
    (True, True),
    (10**40, 10**40),
]
DIFFERENT: list[tuple[Any, Any]] = [
    (1, True),
    (0, False),
    ([1], [True]),
    ({"a": 0}, {"a": False}),
    (1, "1"),
    (None, 0),
    (None, ""),
    ([], {}),
    ({}, None),
    ({"a": None}, {}),
    ([1, 2], [2, 1]),
    ([1], [1, 2]),
    ("a", b"a"),
    (2**53 + 1, 2.0**53),
    (10**40, 1e40),
]


@pytest.mark.parametrize(("left", "right"), EQUAL)
def test_equal_by_value(left: Any, right: Any) -> None:
    assert equal(left, right)
    assert equal(right, left)
    assert differences(left, right) == ()


@pytest.mark.parametrize(("left", "right"), DIFFERENT)
def test_not_equal_by_value(left: Any, right: Any) -> None:
    assert not equal(left, right)
    assert not equal(right, left)
    assert differences(left, right)


def test_differences_tell_the_place_in_a_record() -> None:
    left = a_ship("s1", crew=3, extra={"a": {"b": [1, 2]}, "gone": None})
    right = a_ship("s1", crew=4, extra={"a": {"b": [1, 3]}, "new": 0})

    found = differences(left, right)

    assert set(found) == {
        Difference(("crew",), 3, 4),
        Difference(("extra", "a", "b", 1), 2, 3),
        Difference(("extra", "gone"), None, ABSENT),
        Difference(("extra", "new"), ABSENT, 0),
    }


def test_a_list_of_another_length_is_one_difference() -> None:
    assert differences([1, 2], [1]) == (Difference((), [1, 2], [1]),)


def test_a_difference_reads_like_a_sentence() -> None:
    assert str(Difference(("extra", "a", 0), 1, ABSENT)) == "extra.a.0: 1 is not absent"


def test_a_record_type_is_compared_as_a_value() -> None:
    assert differences(int, int) == ()
    assert differences(a_ship, a_ship) == ()


def test_a_tuple_is_equal_to_the_list_that_it_becomes_when_it_is_stored() -> None:
    assert equal({"a": (1, [2])}, {"a": [1, (2,)]})
    assert not equal((1, 2), [1])
