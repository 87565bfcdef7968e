"""Members whose JSON type differs from their column's: amounts in texts, Unix times.

A value that the column cannot hold is kept beside it, as of every member.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pend_storage.legacy._convert import MILLISECONDS_FROM, amount, amount_text
from pend_storage.legacy._exact_json import as_decimal, as_number
from pend_storage.legacy._members import Member

__all__ = ["amount_member", "milliseconds_member", "seconds_member"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_OF_SECOND: Final = 1_000_000
_OF_MILLISECOND: Final = 1_000


def amount_member(name: str, column: str) -> Member:
    """Make a member for an amount in a text; the column is a ``Decimal``."""
    return Member(name, column, _amount_of_text, amount_text)


def seconds_member(name: str, column: str) -> Member:
    """Make a member for a time in seconds since 1970; the column is a ``datetime``."""
    return Member(name, column, _of_seconds, _as_seconds)


def milliseconds_member(name: str, column: str) -> Member:
    """Make a member for a time in milliseconds since 1970, as in JavaScript."""
    return Member(name, column, _of_milliseconds, _as_milliseconds)


def _amount_of_text(value: Any) -> Any:
    if type(value) is not str:
        raise ValueError("an amount in a text expected")
    return amount(value)


def _of_seconds(value: Any) -> datetime:
    return _time(value, _OF_SECOND, MILLISECONDS_FROM)


def _of_milliseconds(value: Any) -> datetime:
    return _time(value, _OF_MILLISECOND, MILLISECONDS_FROM * 1_000)


def _time(value: Any, unit: int, most: int) -> datetime:
    """Convert a number of units since 1970 to a time, exact to the microsecond."""
    if type(value) is bool or not isinstance(value, int | float):
        raise ValueError("a number expected")
    if not -most < value < most:
        raise ValueError("no time that is counted so")
    exact = as_decimal(value) * unit
    if exact != int(exact):
        raise ValueError("finer than a microsecond")
    return _EPOCH + int(exact) * _MICROSECOND


def _as_seconds(value: datetime) -> int | float:
    return _number(value, _OF_SECOND, 6)


def _as_milliseconds(value: datetime) -> int | float:
    return _number(value, _OF_MILLISECOND, 3)


def _number(value: datetime, unit: int, places: int) -> int | float:
    count = (value - _EPOCH) // _MICROSECOND
    whole, part = divmod(abs(count), unit)
    sign = "-" if count < 0 else ""
    return as_number(f"{sign}{whole}.{part:0{places}}")
