"""Column types: the SQL type of a field, and its check constraint."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Date,
    Integer,
    LargeBinary,
    Numeric,
    SmallInteger,
    String,
    Text,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import DOUBLE_PRECISION, JSONB, TIMESTAMP
from sqlalchemy.types import TypeEngine

from pend_storage._model.fields import FieldSpec, Kind, Limit
from pend_storage.stores.postgres._schema.literals import fits_bigint, quoted_text

__all__ = ["check_text", "column_type", "literal", "type_text"]

_MAX_VARCHAR: Final = 10_485_760  # https://www.postgresql.org/docs/current/limits.html
_INTEGERS: Final[tuple[tuple[int, type[TypeEngine[int]]], ...]] = (
    (15, SmallInteger),
    (31, Integer),
    (63, BigInteger),
)
_SIMPLE: Final[dict[Kind, TypeEngine[Any]]] = {
    Kind.BOOL: Boolean(),
    Kind.FLOAT: DOUBLE_PRECISION(),
    # Not numeric(digits, places): that would pad 1.5 with zeros.
    Kind.DECIMAL: Numeric(),
    Kind.DATETIME: TIMESTAMP(timezone=True),
    Kind.DATE: Date(),
    Kind.BYTES: LargeBinary(),
    Kind.JSON: JSONB(none_as_null=True),
    Kind.OBJECT: JSONB(none_as_null=True),
    Kind.LIST: JSONB(none_as_null=True),
}


def column_type(field: FieldSpec) -> TypeEngine[Any]:
    """SQLAlchemy type of a field's column."""
    match field.kind:
        case Kind.STR:
            longest = field.limit.max_length
            if longest is None or not 0 < longest <= _MAX_VARCHAR:
                return Text(collation="C")
            return String(longest, collation="C")
        case Kind.INT:
            return _integer_type(field.limit)
        case Kind.CHOICE:
            return _choice_type(field.choices)
        case kind:
            return _SIMPLE[kind]


def type_text(field: FieldSpec) -> str:
    """SQL type for a cast, without length: casts truncate, columns refuse."""
    kind = column_type(field)
    if isinstance(kind, String):
        return "text"
    return str(kind.compile(dialect=postgresql.dialect())).lower()  # type: ignore[no-untyped-call]


def _choice_type(choices: tuple[Any, ...]) -> TypeEngine[Any]:
    if isinstance(choices[0], str):
        return Text(collation="C")
    return BigInteger() if all(map(fits_bigint, choices)) else Numeric()


def _integer_type(limit: Limit) -> TypeEngine[Any]:
    low, high = _integer_bounds(limit)
    if low is None or high is None:
        return Numeric()
    for bits, kind in _INTEGERS:
        if -(1 << bits) <= low and high < 1 << bits:
            return kind()
    return Numeric()


def _integer_bounds(limit: Limit) -> tuple[int | None, int | None]:
    """Smallest and largest integer that a limit allows; None where unbounded."""
    lows = [math.ceil(limit.ge)] if _is_finite(limit.ge) else []
    lows += [math.floor(limit.gt) + 1] if _is_finite(limit.gt) else []
    highs = [math.floor(limit.le)] if _is_finite(limit.le) else []
    highs += [math.ceil(limit.lt) - 1] if _is_finite(limit.lt) else []
    if limit.digits is not None:
        widest = 10 ** max(0, limit.digits - (limit.places or 0)) - 1
        lows.append(-widest)
        highs.append(widest)
    return max(lows, default=None), min(highs, default=None)


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and math.isfinite(value)


def literal(value: Any) -> str | None:
    """Render a value as SQL text; None for one without a literal.

    Only for what a schema declares. Values of users are always bound.
    """
    text: str | None = None
    match value:
        case bool():
            pass
        case int():
            text = str(value)
        case Decimal() if value.is_finite():
            text = f"{value:f}"
        case float() if math.isfinite(value):
            text = repr(value)
        case datetime() if value.tzinfo is not None:
            text = f"'{value.isoformat()}'::timestamptz"
        case date() if not isinstance(value, datetime):
            text = f"'{value.isoformat()}'::date"
        case str():
            text = quoted_text(value)
        case _:
            pass
    return text


def check_text(field: FieldSpec, column: str) -> str | None:
    """Condition of a field's check constraint; None if it needs none.

    Nulls meet every check. Patterns are left out, because the two languages of regular
    expressions differ; the codec has checked them, as it has checked everything here.
    """
    parts = [*_kind_checks(field, column), *_limit_checks(field, column)]
    return " AND ".join(parts) or None


def _kind_checks(field: FieldSpec, column: str) -> Iterator[str]:
    match field.kind:
        case Kind.INT if isinstance(column_type(field), Numeric):
            yield f"{column} = trunc({column})"
        case Kind.OBJECT:
            yield f"jsonb_typeof({column}) = 'object'"
        case Kind.LIST:
            yield f"jsonb_typeof({column}) = 'array'"
        case Kind.CHOICE:
            texts = [literal(choice) for choice in field.choices]
            yield f"{column} IN ({', '.join(map(str, texts))})"
        case _:
            pass


def _limit_checks(field: FieldSpec, column: str) -> Iterator[str]:
    limit = field.limit
    bounds = ((">=", limit.ge), (">", limit.gt), ("<=", limit.le), ("<", limit.lt))
    if not field.kind.is_json:
        for sign, bound in bounds:
            exact = isinstance(bound, float) and field.kind is not Kind.FLOAT
            text = literal(Decimal(bound) if exact else bound)
            if text is not None:
                yield f"{column} {sign} {text}"
    yield from _length_checks(field, column)
    if field.kind in {Kind.DECIMAL, Kind.INT}:
        yield from _digit_checks(limit, column)


def _length_checks(field: FieldSpec, column: str) -> Iterator[str]:
    measure = {
        Kind.STR: f"char_length({column})",
        Kind.BYTES: f"octet_length({column})",
        Kind.LIST: f"jsonb_array_length({column})",
    }.get(field.kind)
    if measure is None:
        return
    if field.limit.min_length is not None:
        yield f"{measure} >= {field.limit.min_length}"
    in_type = isinstance(kind := column_type(field), String) and kind.length is not None
    if field.limit.max_length is not None and not in_type:
        yield f"{measure} <= {field.limit.max_length}"


def _digit_checks(limit: Limit, column: str) -> Iterator[str]:
    if limit.places is not None:
        yield f"scale(trim_scale({column}::numeric)) <= {limit.places}"
    if limit.digits is not None:
        before = limit.digits - (limit.places or 0)
        yield f"abs({column}) < {10 ** max(0, before)}"
