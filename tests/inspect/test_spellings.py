"""Columns whose values are spelled in another JSON type in their file."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pend_storage.legacy import amount_member, milliseconds_member, seconds_member
from pend_storage.legacy._exact_json import same

_AMOUNT, _SECONDS, _MILLISECONDS = (
    amount_member("a", "a"),
    seconds_member("s", "s"),
    milliseconds_member("m", "m"),
)
_DAYS = st.integers(10**14, 9 * 10**16).map(
    lambda n: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=n)
)


@given(when=_DAYS)
def test_what_is_rendered_is_read_as_the_same_time(when: datetime) -> None:
    for member in (_SECONDS, _MILLISECONDS):
        assert member.parse is not None
        assert member.parse(member.render(when)) == when


@given(seconds=st.integers(-(10**10), 10**10))
def test_whole_seconds_stay_integers(seconds: int) -> None:
    assert _SECONDS.parse is not None
    found = _SECONDS.render(_SECONDS.parse(seconds))

    assert type(found) is int
    assert found == seconds


@given(value=st.decimals(-(10**12), 10**12, places=6))
def test_an_amount_is_a_text_without_zeros_behind_it(value: Decimal) -> None:
    assert _AMOUNT.parse is not None
    text = _AMOUNT.render(value)

    assert isinstance(text, str)
    assert _AMOUNT.parse(text) == value


@pytest.mark.parametrize("value", [True, "5", None, 10**30, 0.0000001, [1]])
def test_what_is_no_count_of_seconds_is_refused(value: Any) -> None:
    assert _SECONDS.parse is not None
    with pytest.raises(ValueError, match=r"expected|counted|finer"):
        _SECONDS.parse(value)


@pytest.mark.parametrize("value", [5, 5.5, "five", ""])
def test_what_is_no_text_of_an_amount_is_refused(value: Any) -> None:
    assert _AMOUNT.parse is not None
    with pytest.raises(ValueError, match=r"expected|not a decimal"):
        _AMOUNT.parse(value)


def test_a_fraction_of_a_second_is_kept_to_the_microsecond() -> None:
    when = datetime(2025, 6, 1, 12, tzinfo=UTC) + timedelta(microseconds=1_250_000)

    assert same(_SECONDS.render(when), 1748779201.25)
    assert _MILLISECONDS.render(when) == 1_748_779_201_250
