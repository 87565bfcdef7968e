"""Record JSON: SQL expression that builds a record's JSON from its row."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pend_storage._model.fields import FieldSpec, Kind
from pend_storage.schema import CollectionSpec
from pend_storage.stores.postgres._schema.tables import column_name, quoted

__all__ = ["fields_json", "record_json"]

_MAX_MEMBERS: Final = 50  # a function takes 100 arguments at most


def record_json(spec: CollectionSpec, alias: str) -> str:
    """SQL expression for the JSON of a record, as the codec reads it.

    It depends on no session setting: times are rendered in UTC by a pattern.
    """
    return fields_json(spec.fields.values(), alias)


def fields_json(fields: Iterable[FieldSpec], alias: str) -> str:
    """SQL expression for a JSON object of some fields."""
    pairs = [f"'{f.name}', {_value(f, alias)}" for f in fields]
    parts = [
        f"pg_catalog.json_build_object({', '.join(pairs[start : start + _MAX_MEMBERS])})"
        for start in range(0, len(pairs), _MAX_MEMBERS)
    ]
    if len(parts) == 1:
        return parts[0]
    # One object out of several: without the braces between them.
    inner = [
        f"pg_catalog.substr({part}::text, 2, "
        f"pg_catalog.length({part}::text) operator(pg_catalog.-) 2)"
        for part in parts
    ]
    members = ", ',', ".join(inner)
    return f"pg_catalog.concat('{{', {members}, '}}')"


def _value(field: FieldSpec, alias: str) -> str:
    column = f"{alias}.{quoted(column_name(field.name))}"
    match field.kind:
        case Kind.DECIMAL:
            return f"{column}::text"
        case Kind.DATETIME:
            moment = f"pg_catalog.timezone('UTC'::text, {column})"
            return f"""pg_catalog.to_char({moment}, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'::text)"""
        case Kind.BYTES:
            return (
                f"pg_catalog.translate(pg_catalog.encode({column}, 'base64'::text), "
                "pg_catalog.chr(10), ''::text)"
            )
        case _:
            return column
