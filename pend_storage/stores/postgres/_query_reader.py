"""Query reader: queries, counts and scans of one store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from pend_storage._model.records import Row
from pend_storage._model.storable_text import storable_part
from pend_storage.query import Condition, Query
from pend_storage.stores.postgres._client.database_client import DatabaseClient
from pend_storage.stores.postgres._connection.wire_format import number
from pend_storage.stores.postgres._queries.conditions import (
    combined_statement,
    count_statement,
    query_statement,
)
from pend_storage.stores.postgres._queries.prepared_queries import PreparedQueries
from pend_storage.stores.postgres._queries.rows import (
    parted_rows_of,
    rows_of,
    tombstone_rows_of,
)
from pend_storage.stores.postgres._queries.statements import CollectionStatements

__all__ = ["QueryReader"]

_PAGE: Final = 1000
"""Rows of a scan in memory at a time."""


class QueryReader:
    """Executes queries, and prepares the frequent ones. Thread-safe."""

    def __init__(self, client: DatabaseClient) -> None:
        self._client: Final = client
        self._prepared: Final = PreparedQueries()

    def query(
        self, known: CollectionStatements, query: Query, epoch: int | None
    ) -> list[Row]:
        """Rows of a checked query; see :meth:`Store.query`."""
        if query.limit == 0:
            self._client.require_primary(epoch)
            return []
        statement, values = query_statement(known, query, epoch)
        statement = self._prepared.prepare(statement)
        return rows_of(known.spec, self._client.fetch(statement, values))

    def count(
        self, known: CollectionStatements, where: Condition, epoch: int | None
    ) -> int:
        """Number of rows that meet a checked condition; see :meth:`Store.count`."""
        statement, values = count_statement(known, where, epoch)
        statement = self._prepared.prepare(statement)
        return int(self._client.fetch(statement, values).get_value(0, 0) or 0)

    def together(
        self,
        queries: Sequence[tuple[CollectionStatements, Query]],
        counts: Sequence[tuple[CollectionStatements, Condition]],
        epoch: int | None,
    ) -> tuple[list[list[Row]], list[int]]:
        """Queries and counts in one statement; see :meth:`Store.together`."""
        if not queries and not counts:
            self._client.require_primary(epoch)
            return [], []
        statement, values = combined_statement(queries, counts, epoch)
        result = self._client.fetch(self._prepared.prepare(statement), values)
        return parted_rows_of([known.spec for known, _ in queries], len(counts), result)

    def scan(
        self,
        known: CollectionStatements,
        after: str | None,
        epoch: int | None,
        *,
        deleted: bool,
    ) -> Iterator[Row]:
        """Rows in key order, a page at a time; see :meth:`Store.scan`."""
        statement = known.page_deleted if deleted else known.page
        while True:
            start = storable_part(after or "").encode()
            values = (start, number(epoch), b"%d" % _PAGE)
            rows = tombstone_rows_of(known.spec, self._client.fetch(statement, values))
            yield from (row for row in rows if after is None or row.key > after)
            if len(rows) < _PAGE:
                return
            after = rows[-1].key
