"""Converters between legacy values and column values: a parse and a render per type.

Each *parse* takes any JSON value that is not null, and raises ``ValueError`` where the
column cannot hold it; each *render* returns a column's value in the usual spelling. Other
spellings are kept by the mapping, not here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, TypeAlias

from pend_storage.legacy._exact_json import ExactFloat, as_decimal, as_number

__all__ = [
    "MILLISECONDS_FROM",
    "Parse",
    "Render",
    "amount",
    "amount_text",
    "as_is",
    "hex_text",
    "integer",
    "json_object",
    "number_of",
    "number_of_text",
    "text",
    "text_of",
    "time",
    "time_text",
    "usual_time",
    "words",
]

Parse: TypeAlias = Callable[[Any], Any]
Render: TypeAlias = Callable[[Any], Any]

_ID_NUMBER: Final = re.compile("0|[1-9][0-9]{0,15}").fullmatch
_DIGITS: Final = re.compile(r"[+-]?[0-9]{1,100}").fullmatch
_AMOUNT: Final = re.compile(
    r"[+-]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{0,100})(?:\.[0-9]{0,100})?"
).fullmatch
_NUMERAL: Final = re.compile(r"[+-]?[0-9]{1,30}(?:\.[0-9]{1,30})?[eE][+-]?[0-9]{1,2}")
_ISO: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d)?)(?:[.,](\d{1,12}))?"
    r"(Z|[+-]\d\d:?\d\d)?)?",
    re.ASCII | re.IGNORECASE,
).fullmatch
_USUAL: Final = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII
).fullmatch
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECONDS_FROM: Final = 100_000_000_000
"""Numbers from here on are milliseconds: 1973; as seconds it would be the year 5138."""
_USUAL_TIME: Final = 24  # 2025-06-19T07:58:56.380Z
_MILLISECOND: Final = 1_000


def as_is(value: Any) -> Any:
    """Return the value unchanged."""
    return value


def text(value: Any) -> str:
    """Parse a text."""
    if type(value) is not str:
        raise ValueError("text expected")
    return value


def text_of(value: Any) -> str:
    """Parse a text, or an integer as its digits: for ids, which are written in both ways."""
    if type(value) is int:
        return str(value)
    return text(value)


def number_of_text(value: str) -> str | int:
    """Render an id as the server writes it: digits as a number."""
    return int(value) if _ID_NUMBER(value) else value


def json_object(value: Any) -> dict[str, Any]:
    """Parse an object."""
    if type(value) is not dict:
        raise ValueError("an object expected")
    return value


def hex_text(digits: int) -> Parse:
    """Make a parser of hexadecimal text, normalized to lower case with ``0x``.

    Accepts any letter case, a missing ``0x``, and white space around it.

    Args:
        digits: number of hexadecimal digits.
    """
    usual = re.compile(f"0x[0-9a-f]{{{digits}}}").fullmatch

    def parse(value: Any) -> str:
        if type(value) is not str:
            raise ValueError("text expected")
        if usual(value):
            return value
        found = value.strip().lower()
        if len(found) == digits:
            found = "0x" + found
        if not usual(found):
            raise ValueError(f"not {digits} hexadecimal digits")
        return found

    return parse


def integer(value: Any) -> int:
    """Parse an integer, also from digits in a text."""
    if type(value) is int:
        return value
    if type(value) is str and _DIGITS(value):
        return int(value)
    if type(value) is float and value.is_integer():
        return int(as_decimal(value))
    raise ValueError("an integer expected")


def amount(value: Any) -> Decimal:
    """Parse an exact amount: a number, or a text, also with commas between thousands."""
    if isinstance(value, float) or type(value) is int:
        return as_decimal(value)
    if type(value) is not str:
        raise ValueError("a number expected")
    found = value.strip()
    if _NUMERAL.fullmatch(found):
        return Decimal(found)
    if not _AMOUNT(found) or not found.strip("+-.,"):
        raise ValueError("not a decimal number")
    return Decimal(found.replace(",", ""))


def _plain(value: Decimal) -> str:
    digits = f"{value:f}"
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def amount_text(value: Decimal) -> str:
    """Render an amount as a text without trailing zeros, as the server does mostly."""
    return _plain(value)


def number_of(value: Decimal) -> float | ExactFloat:
    """Render an amount as a JSON number."""
    digits = _plain(value)
    return as_number(digits) if "." in digits else int(digits)


def time(value: Any) -> datetime:
    """Parse a time: ISO 8601, or seconds or milliseconds since 1970, also in a text.

    Without an offset it is UTC. Digits beyond the microsecond are truncated.
    """
    if type(value) is str:
        if len(value) == _USUAL_TIME and value[-1] == "Z" and value[10] == "T":
            return datetime.fromisoformat(value)
        if not _DIGITS(value):
            return _iso_time(value)
        value = int(value)
    if type(value) is not int and type(value) is not float:
        raise ValueError("a time expected")
    if not 0 < value < MILLISECONDS_FROM * 1_000:
        raise ValueError("not a time since 1970")
    if value < MILLISECONDS_FROM:
        value *= _MILLISECOND
    return _EPOCH + timedelta(milliseconds=value)


def _iso_time(value: str) -> datetime:
    found = _ISO(value.strip())
    if found is None:
        raise ValueError("not a time")
    day, clock, fraction, offset = found.groups()
    parsed = datetime.fromisoformat(
        f"{day}T{clock or '00:00'}{(offset or 'Z').upper()}"
    ).replace(microsecond=int((fraction or "0")[:6].ljust(6, "0")))
    try:
        return parsed.astimezone(UTC)
    except OverflowError:
        raise ValueError("a time outside of the years 1 to 9999") from None


def time_text(value: datetime) -> str:
    """Render a time as ``Date.toISOString`` does; with microseconds where there are any."""
    exact = value.microsecond % _MILLISECOND
    shown = value.isoformat(timespec="microseconds" if exact else "milliseconds")
    return shown.replace("+00:00", "Z")


def usual_time(value: Any) -> bool:
    """Return whether a readable time is spelled as :func:`time_text` renders it."""
    return type(value) is str and _USUAL(value) is not None


def words(known: Mapping[str, str], *, otherwise: str) -> Parse:
    """Make a parser of the words of a vocabulary, by a table of spellings.

    Args:
        known: spelling, in lower case, to word; any letter case, and ``-`` or spaces for
            ``_``, are accepted.
        otherwise: the word for an unlisted spelling.
    """

    def parse(value: Any) -> str:
        if type(value) is not str:
            raise ValueError("a word expected")
        found = value.strip().lower().replace(" ", "_").replace("-", "_")
        return known.get(found, otherwise)

    return parse
