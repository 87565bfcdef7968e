"""Queries and checks of a collection's operations, for blocking and awaited calls alike.

The query that a call asks, the page that its rows make, and the checks of a write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, cast

import tenacity

from pend_storage._cursor import CursorKey, decode_cursor, encode_cursor
from pend_storage._model.limits import MAX_LIMIT, MAX_VERSION
from pend_storage._model.record_types import RecordAdapter, RecordKey
from pend_storage._model.records import Batch, Page, Put, Row
from pend_storage._retry import ON_CONFLICT
from pend_storage._shown import path_text, shown
from pend_storage.errors import InvalidQuery
from pend_storage.query import Condition, Query, field, make_query, sort_values
from pend_storage.schema import CollectionSpec, Schema

__all__ = [
    "OVERWRITE",
    "checks_for",
    "fetch_one_more",
    "given",
    "given_key",
    "is_given",
    "key_text",
    "lookup_query",
    "over",
    "over_rows",
    "page_of",
    "page_query",
    "version_demanded",
    "versions_of",
]


OVERWRITE: Final[dict[str, Any]] = {
    **ON_CONFLICT,
    "stop": tenacity.stop_after_attempt(100),
}
"""Retry of an overwrite that depends on the record that it overwrites."""


def page_query(
    spec: CollectionSpec,
    where: Sequence[Condition],
    order_by: Sequence[str],
    limit: int | None,
    after: str | None,
    *,
    cursor_key: CursorKey | None = None,
) -> Query:
    """Make the checked query of one page."""
    query = make_query(spec, where, order_by, limit)
    if after is None:
        return query
    last = decode_cursor(spec, query.order_by, after, signed_by=cursor_key)
    return replace(query, after=last)


def fetch_one_more(query: Query) -> Query:
    """Extend a page's query by one row, which shows whether there is a next page."""
    if not query.limit:
        return query
    # No store has so many rows that the last one counts.
    return replace(query, limit=min(query.limit + 1, MAX_LIMIT))


def page_of(
    spec: CollectionSpec,
    query: Query,
    rows: list[Row],
    adapter: RecordAdapter | None = None,
    *,
    cursor_key: CursorKey | None = None,
) -> Page[Any]:
    """Make a page of the rows of an extended query, with its cursor."""
    more = query.limit is not None and len(rows) > query.limit
    if query.limit is not None:
        rows = rows[: query.limit]
    cursor = None
    if more and rows:
        last = rows[-1]
        values = sort_values(query.order_by, last.record)
        cursor = encode_cursor(
            spec, query.order_by, values, last.key, signed_by=cursor_key
        )
    return Page(tuple(given(adapter, row.record) for row in rows), cursor)


def lookup_query(spec: CollectionSpec, name: str, value: Any) -> Query:
    """Make the query for the one record with this value in a unique field.

    Raises:
        InvalidQuery: the field alone is not declared unique.
    """
    if (name,) not in spec.unique and name != spec.key:
        place = path_text((spec.name, name))
        raise InvalidQuery(f"{place} is not declared unique: use find()")
    return make_query(spec, (field(name) == value,), limit=1)


def given(adapter: RecordAdapter | None, record: Any) -> Any:
    """Convert a stored record to the caller's type."""
    return record if adapter is None else adapter.give(record)


def key_text(adapter: RecordAdapter | None, key: RecordKey) -> str:
    """Convert a key of the caller to the stored form.

    Raises:
        InvalidRecord: no record has such a key.
    """
    return cast("str", key) if adapter is None else adapter.key(key)


def is_given(spec: CollectionSpec, record: Any) -> bool:
    """Return whether a record is of the caller's own type, stored as another one."""
    return spec.adapter is not None and type(record) is spec.adapter.user_type


def given_key(spec: CollectionSpec, record: Any) -> str | None:
    """Return the key of a record, of the caller's type or as stored; None: a new one."""
    if is_given(spec, record):
        assert spec.adapter is not None  # noqa: S101 - a given one has it
        return spec.adapter.key_of(record)
    key: Any = getattr(record, spec.key, None)
    return key if isinstance(key, str) else None  # else the schema refuses the record


def over(schema: Schema, spec: CollectionSpec, record: Any, present: Any) -> Put:
    """Make the write of a record, of the caller's type or as stored, over another.

    Raises:
        InvalidRecord: it breaks the schema.
    """
    if is_given(spec, record):
        assert spec.adapter is not None  # noqa: S101 - a given one has it
        record = spec.adapter.take(record, present)
    return schema.put(spec.name, record)


def over_rows(
    schema: Schema,
    spec: CollectionSpec,
    records: Sequence[Any],
    rows: Mapping[str, Row],
    if_version: int | None,
) -> tuple[list[Put], Batch]:
    """Make the commit that writes records over present ones, and checks their versions.

    Args:
        schema: of the store.
        spec: of the collection.
        records: of the caller's type, or as they are stored.
        rows: the present ones, by key.
        if_version: the version that the caller demands; None: that of the present row.

    Raises:
        InvalidRecord: one breaks the schema.
    """
    puts, checks = [], {}
    for record in records:
        key = given_key(spec, record)
        row = rows.get(key) if key is not None else None
        puts.append(over(schema, spec, record, row and row.record))
        if key is not None:
            found = 0 if row is None else row.version
            demanded = version_demanded(if_version)
            checks[spec.name, key] = found if demanded is None else demanded
    return puts, schema.batch(puts, checks)


def checks_for(
    collection: str, key: str, if_version: int | None
) -> dict[tuple[str, str], int]:
    """Make the checks of one conditional operation.

    Raises:
        InvalidQuery: ``if_version`` is no integer.
    """
    if if_version is None:
        return {}
    return {(collection, key): cast("int", version_demanded(if_version))}


def version_demanded(if_version: int | None) -> int | None:
    """Return a demanded version that every store can compare; None where there is none.

    A version that no record can have becomes another such: a conflict in every store.

    Raises:
        InvalidQuery: it is no integer.
    """
    if if_version is None:
        return None
    if isinstance(if_version, bool) or not isinstance(if_version, int):
        raise InvalidQuery(
            f"if_version must be an integer, not {shown(if_version)}: pass the version of "
            "a read, or 0 for a record that must not exist yet"
        )
    return min(max(if_version, -1), MAX_VERSION)


def versions_of(
    puts: Sequence[Put], batch: Batch, versions: Sequence[int]
) -> list[int]:
    """Return the version of each put; puts of one key share what was written."""
    places = ((o.collection, o.key) for o in batch.operations)
    by_place = dict(zip(places, versions, strict=True))
    return [by_place[put.collection, put.key] for put in puts]
