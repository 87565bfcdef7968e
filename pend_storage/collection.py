"""The verbs of one collection, over any store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pend_storage.cursor import decode_cursor, encode_cursor
from pend_storage.errors import InvalidQuery
from pend_storage.query import (
    Condition,
    Query,
    field,
    make_query,
    sort_values,
)
from pend_storage.records import Page, Row, Versioned
from pend_storage.schema import CollectionSpec

if TYPE_CHECKING:
    from pend_storage.store import Store

__all__ = ["Collection"]

R = TypeVar("R")


class Collection(Generic[R]):
    """One collection of a store. Cheap to make, safe to share between threads."""

    __slots__ = ("_store", "spec")

    def __init__(self, store: Store, spec: CollectionSpec) -> None:
        self._store = store
        self.spec = spec

    def get(self, key: str) -> R | None:
        """The record under a key, or None."""
        row = self._store.read(self.spec.name, (key,)).get(key)
        return None if row is None else row.record

    def get_many(self, keys: Iterable[str]) -> dict[str, R]:
        """The records under these keys; missing keys are absent, no keys mean none."""
        rows = self._store.read(self.spec.name, keys)
        return {key: row.record for key, row in rows.items()}

    def get_by(self, name: str, value: Any) -> R | None:
        """The record with this value in a field declared unique, or None.

        Raises:
            InvalidQuery: the field alone is not declared unique.
        """
        found = lookup(self._store, self.spec, name, value)
        return None if found is None else found.record

    def versioned(self, key: str) -> Versioned[R] | None:
        """The record under a key together with its version, or None."""
        row = self._store.read(self.spec.name, (key,)).get(key)
        return None if row is None else Versioned(row.record, row.version)

    def put(self, record: R, *, if_version: int | None = None) -> int:
        """Write a record, whether or not there is one; gives its new version.

        Args:
            record: the whole record; its key is in it.
            if_version: only if the record is at this version; 0: only if there is none.

        Raises:
            InvalidRecord: it breaks the schema.
            Conflict: it is not at ``if_version``.
            UniqueViolation: another record has the same unique value.
            ReferenceViolation: it refers to nothing.
        """
        put = self._store.schema.put(self.spec.name, record)
        checks = checks_for(self.spec.name, put.key, if_version)
        return self._store.commit(self._store.schema.batch((put,), checks))[0]

    def put_many(self, records: Iterable[R]) -> list[int]:
        """Write records in one atomic commit; gives the version of each.

        Of several records with one key the last one counts, and all get its version.
        """
        schema = self._store.schema
        puts = [schema.put(self.spec.name, record) for record in records]
        if not puts:
            return []
        batch = schema.batch(puts)
        versions = dict(
            zip(
                (operation.key for operation in batch.operations),
                self._store.commit(batch),
                strict=True,
            )
        )
        return [versions[put.key] for put in puts]

    def delete(self, key: str, *, if_version: int | None = None) -> bool:
        """Delete the record under a key; False where there is none.

        Raises:
            Conflict: it is not at ``if_version``.
            ReferenceViolation: another record refers to it.
        """
        schema = self._store.schema
        operation = schema.delete(self.spec.name, key)
        checks = checks_for(self.spec.name, key, if_version)
        return self._store.commit(schema.batch((operation,), checks))[0] > 0

    def find(
        self,
        *where: Condition,
        order_by: Sequence[str] = (),
        limit: int | None = None,
        after: str | None = None,
    ) -> Page[R]:
        """The records that meet every condition, as a page.

        Args:
            where: conditions made with :func:`~pend_storage.query.field`.
            order_by: field names, ``"-name"`` for descending; ties by key.
            limit: at most so many; 0 gives none; None gives all.
            after: ``Page.next`` of the page before.

        Raises:
            InvalidQuery: a field, a value, a limit or a cursor that does not fit.
        """
        query = page_query(self.spec, where, order_by, limit, after)
        rows = find_rows(
            query, lambda wanted: self._store.query(self.spec.name, wanted)
        )
        return page_of(self.spec, query, rows)

    def count(self, *where: Condition) -> int:
        """How many records meet every condition."""
        return self._store.count(self.spec.name, make_query(self.spec, where).where)

    def scan(self, *, after: str | None = None) -> Iterator[R]:
        """Every record in key order, beginning after a key, in bounded memory."""
        for row in self._store.scan(self.spec.name, after=after):
            yield row.record


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


def checks_for(
    collection: str, key: str, if_version: int | None
) -> dict[tuple[str, str], int]:
    """The checks of one conditional operation."""
    return {} if if_version is None else {(collection, key): if_version}


def lookup(store: Store, spec: CollectionSpec, name: str, value: Any) -> Row | None:
    """The row with this value in a field declared unique."""
    if (name,) not in spec.unique and name != spec.key:
        raise InvalidQuery(f"{spec.name}.{name} is not declared unique: use find()")
    query = make_query(spec, (field(name) == value,), limit=1)
    rows = store.query(spec.name, query)
    return rows[0] if rows else None


def find_rows(query: Query, ask: Callable[[Query], list[Row]]) -> list[Row]:
    """Ask for one row more than the page holds, to learn whether there is a next one."""
    if query.limit == 0:
        return []
    if query.limit is None:
        return ask(query)
    return ask(replace(query, limit=query.limit + 1))


def page_of(spec: CollectionSpec, query: Query, rows: list[Row]) -> Page[Any]:
    """The page that these rows make, with its cursor."""
    more = query.limit is not None and len(rows) > query.limit
    if query.limit is not None:
        rows = rows[: query.limit]
    cursor = None
    if more and rows:
        last = rows[-1]
        values = sort_values(query.order_by, last.record)
        cursor = encode_cursor(spec, query.order_by, values, last.key)
    return Page(tuple(row.record for row in rows), cursor)
