"""Operations of one collection, over any store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import tenacity

from pend_storage._audit_images import commit_audited
from pend_storage._collection_queries import (
    OVERWRITE,
    checks_for,
    fetch_one_more,
    given,
    given_key,
    is_given,
    key_text,
    lookup_query,
    over_rows,
    page_of,
    page_query,
    versions_of,
)
from pend_storage._model.record_types import RecordAdapter, RecordKey
from pend_storage._model.records import Page, Versioned
from pend_storage.contract import StoreBackend
from pend_storage.query import Condition, make_query
from pend_storage.schema import CollectionSpec

__all__ = ["Collection"]

R = TypeVar("R")
K = TypeVar("K", bound=RecordKey)


class Collection(Generic[R]):
    """Collection of a store. Cheap to make, safe to share between threads."""

    __slots__ = ("_adapter", "_store", "spec")

    def __init__(
        self,
        store: StoreBackend,
        spec: CollectionSpec,
        adapter: RecordAdapter | None = None,
    ) -> None:
        self._store = store
        self.spec: CollectionSpec = spec
        self._adapter = adapter

    def get(self, key: RecordKey) -> R | None:
        """Return the record under a key, or None."""
        text = key_text(self._adapter, key)
        row = self._store.read(self.spec.name, (text,)).get(text)
        return None if row is None else given(self._adapter, row.record)

    def get_many(self, keys: Iterable[K]) -> dict[K, R]:
        """Return the records under these keys; missing keys are absent; none for no keys."""
        wanted = {key: key_text(self._adapter, key) for key in keys}
        rows = self._store.read(self.spec.name, wanted.values())
        return {
            key: given(self._adapter, rows[text].record)
            for key, text in wanted.items()
            if text in rows
        }

    def get_by(self, name: str, value: Any) -> R | None:
        """Return the record with this value in a field declared unique, or None.

        Raises:
            InvalidQuery: the field alone is not declared unique.
        """
        rows = self._store.query(self.spec.name, lookup_query(self.spec, name, value))
        return given(self._adapter, rows[0].record) if rows else None

    def versioned(self, key: RecordKey) -> Versioned[R] | None:
        """Return the record under a key together with its version, or None."""
        text = key_text(self._adapter, key)
        row = self._store.read(self.spec.name, (text,)).get(text)
        if row is None:
            return None
        return Versioned(given(self._adapter, row.record), row.version)

    def put(self, record: R, *, if_version: int | None = None) -> int:
        """Insert or replace a record, and return its new version.

        Args:
            record: the whole record; its key is in it.
            if_version: only if the record is at this version; 0: only if there is none.

        Raises:
            InvalidRecord: it breaks the schema.
            Conflict: it is not at ``if_version``.
            UniqueViolation: another record has the same unique value.
            ReferenceViolation: it refers to nothing.
        """
        if is_given(self.spec, record):
            return self._put_given((record,), if_version)[0]
        put = self._store.schema.put(self.spec.name, record)
        checks = checks_for(self.spec.name, put.key, if_version)
        return commit_audited(self._store, self._store.schema.batch((put,), checks))[0]

    def put_many(self, records: Iterable[R]) -> list[int]:
        """Write records in one atomic commit, and return the version of each.

        Of several records with one key the last one counts, and all get its version.
        """
        schema, records = self._store.schema, tuple(records)
        if any(is_given(self.spec, record) for record in records):
            return self._put_given(records, None)
        puts = [schema.put(self.spec.name, record) for record in records]
        if not puts:
            return []
        batch = schema.batch(puts)
        return versions_of(puts, batch, commit_audited(self._store, batch))

    def _put_given(self, records: Sequence[R], if_version: int | None) -> list[int]:
        """Write records of the caller's type; stored fields that it lacks are kept.

        The present records are read for that. A commit between the read and the write is
        neither lost nor overwritten: the read is repeated then.
        """
        schema, spec = self._store.schema, self.spec

        def attempt() -> list[int]:
            keys = {key for r in records if (key := given_key(spec, r)) is not None}
            rows = self._store.read(spec.name, keys)
            puts, batch = over_rows(schema, spec, records, rows, if_version)
            return versions_of(puts, batch, commit_audited(self._store, batch))

        if if_version is not None:
            return attempt()
        return tenacity.Retrying(**OVERWRITE)(attempt)

    def delete(self, key: RecordKey, *, if_version: int | None = None) -> bool:
        """Delete the record under a key; return False where there is none.

        Raises:
            Conflict: it is not at ``if_version``.
            ReferenceViolation: another record refers to it.
        """
        schema, text = self._store.schema, key_text(self._adapter, key)
        operation = schema.delete(self.spec.name, text)
        checks = checks_for(self.spec.name, text, if_version)
        batch = schema.batch((operation,), checks)
        return commit_audited(self._store, batch)[0] > 0

    def find(
        self,
        *where: Condition,
        order_by: Sequence[str] = (),
        limit: int | None = None,
        after: str | None = None,
    ) -> Page[R]:
        """Return the records that meet every condition, as a page.

        Args:
            where: conditions made with :func:`~pend_storage.query.field`.
            order_by: field names, ``"-name"`` for descending; ties by key.
            limit: at most so many; 0: none; None: all.
            after: ``Page.next`` of the page before.

        Raises:
            InvalidQuery: a field, a value, a limit or a cursor that does not fit.
        """
        signing = self._store.cursor_key
        query = page_query(self.spec, where, order_by, limit, after, cursor_key=signing)
        rows = self._store.query(self.spec.name, fetch_one_more(query))
        return page_of(self.spec, query, rows, self._adapter, cursor_key=signing)

    def count(self, *where: Condition) -> int:
        """Count the records that meet every condition."""
        return self._store.count(self.spec.name, make_query(self.spec, where).where)

    def scan(self, *, after: str | None = None) -> Iterator[R]:
        """Iterate over the records in key order, after a key, in bounded memory."""
        for row in self._store.scan(self.spec.name, after=after):
            yield given(self._adapter, row.record)
