"""Literals: Python values as parameters and as SQL text, with their types."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final

from pend_storage._model.fields import FieldSpec, Kind
from pend_storage.codec import dump_json

__all__ = ["default_text", "fits_bigint", "quoted_text", "to_parameter"]


def fits_bigint(value: int) -> bool:
    """Return whether an integer fits eight bytes."""
    return -(1 << 63) <= value < 1 << 63


def to_parameter(kind: Kind, value: Any) -> tuple[bytes, str]:
    """Convert a checked, non-null value to parameter text and SQL type."""
    return _CONVERTERS[kind](value)


def _integer(value: int) -> tuple[bytes, str]:
    # Of a type that the indexes on small columns can be searched with, where it fits.
    return b"%d" % value, "bigint" if fits_bigint(value) else "numeric"


def _json(value: Any) -> tuple[bytes, str]:
    return dump_json(value), "jsonb"


_CONVERTERS: Final[Mapping[Kind, Callable[[Any], tuple[bytes, str]]]] = {
    Kind.STR: lambda v: (v.encode(), "text"),
    Kind.INT: _integer,
    Kind.BOOL: lambda v: (b"true" if v else b"false", "boolean"),
    Kind.FLOAT: lambda v: (repr(v).encode(), "double precision"),
    Kind.DECIMAL: lambda v: (str(v).encode(), "numeric"),
    Kind.DATETIME: lambda v: (v.isoformat().encode(), "timestamptz"),
    Kind.DATE: lambda v: (v.isoformat().encode(), "date"),
    Kind.BYTES: lambda v: (b"\\x" + v.hex().encode(), "bytea"),
    Kind.CHOICE: lambda v: to_parameter(
        Kind.STR if isinstance(v, str) else Kind.INT, v
    ),
    Kind.JSON: _json,
    Kind.OBJECT: _json,
    Kind.LIST: _json,
}


def quoted_text(text: str) -> str:
    """Quote a string literal, whatever ``standard_conforming_strings`` is set to."""
    quoted = text.replace("'", "''")
    if "\\" not in text:
        return f"'{quoted}'"
    escaped = quoted.replace("\\", "\\\\")
    return f"E'{escaped}'"


def default_text(field: FieldSpec) -> str | None:
    """SQL text of a field's default; None if it has none, or null."""
    value = field.default.value if isinstance(field.default, Enum) else field.default
    if value is ... or (value is None and (field.optional or not field.kind.is_json)):
        return None
    content, kind = to_parameter(field.kind, value)
    return f"{quoted_text(content.decode())}::{kind}"
