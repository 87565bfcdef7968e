"""The verbs of one collection, over any store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pend_storage.query import Condition, make_query
from pend_storage.records import Page, Versioned
from pend_storage.schema import CollectionSpec
from pend_storage.verbs import (
    checks_for,
    lookup_query,
    page_of,
    page_query,
    probing,
    versions_of,
)

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
        rows = self._store.query(self.spec.name, lookup_query(self.spec, name, value))
        return rows[0].record if rows else None

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
        return versions_of(puts, batch, self._store.commit(batch))

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
        rows = self._store.query(self.spec.name, probing(query))
        return page_of(self.spec, query, rows)

    def count(self, *where: Condition) -> int:
        """How many records meet every condition."""
        return self._store.count(self.spec.name, make_query(self.spec, where).where)

    def scan(self, *, after: str | None = None) -> Iterator[R]:
        """Every record in key order, beginning after a key, in bounded memory."""
        for row in self._store.scan(self.spec.name, after=after):
            yield row.record
