"""What the verbs of a collection share, whether they wait or are awaited.

Which query to ask, and what its rows make; what a call checks, and what it gives back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pend_storage.cursor import decode_cursor, encode_cursor
from pend_storage.errors import InvalidQuery
from pend_storage.query import Condition, Query, field, make_query, sort_values
from pend_storage.records import Batch, Page, Put, Row
from pend_storage.schema import CollectionSpec

__all__ = [
    "checks_for",
    "lookup_query",
    "page_of",
    "page_query",
    "probing",
    "versions_of",
]


def page_query(
    spec: CollectionSpec,
    where: Sequence[Condition],
    order_by: Sequence[str],
    limit: int | None,
    after: str | None,
) -> Query:
    """The checked query of one page."""
    query = make_query(spec, where, order_by, limit)
    if after is None:
        return query
    return replace(query, after=decode_cursor(spec, query.order_by, after))


def probing(query: Query) -> Query:
    """A page's query for one row more, to learn whether there is a next page."""
    return replace(query, limit=query.limit + 1) if query.limit else query


def page_of(spec: CollectionSpec, query: Query, rows: list[Row]) -> Page[Any]:
    """The page that the rows of a probing query make, with its cursor."""
    more = query.limit is not None and len(rows) > query.limit
    if query.limit is not None:
        rows = rows[: query.limit]
    cursor = None
    if more and rows:
        last = rows[-1]
        values = sort_values(query.order_by, last.record)
        cursor = encode_cursor(spec, query.order_by, values, last.key)
    return Page(tuple(row.record for row in rows), cursor)


def lookup_query(spec: CollectionSpec, name: str, value: Any) -> Query:
    """The query for the one record with this value in a unique field.

    Raises:
        InvalidQuery: the field alone is not declared unique.
    """
    if (name,) not in spec.unique and name != spec.key:
        raise InvalidQuery(f"{spec.name}.{name} is not declared unique: use find()")
    return make_query(spec, (field(name) == value,), limit=1)


def checks_for(
    collection: str, key: str, if_version: int | None
) -> dict[tuple[str, str], int]:
    """The checks of one conditional operation."""
    return {} if if_version is None else {(collection, key): if_version}


def versions_of(
    puts: Sequence[Put], batch: Batch, versions: Sequence[int]
) -> list[int]:
    """The version of each put; those of one key share the one that was written."""
    keys = (operation.key for operation in batch.operations)
    by_key = dict(zip(keys, versions, strict=True))
    return [by_key[put.key] for put in puts]
