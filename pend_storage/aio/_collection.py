"""Asynchronous collection."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, Generic, TypeVar

import tenacity

from pend_storage._collection_queries import (
    OVERWRITE,
    checks_for,
    fetch_one_more,
    given,
    given_key,
    is_given,
    key_text,
    over_rows,
    page_of,
    page_query,
    versions_of,
)
from pend_storage._model.record_types import RecordAdapter, RecordKey
from pend_storage._model.records import Page, Versioned
from pend_storage.aio._audited import commit_audited
from pend_storage.aio._backend import Backend
from pend_storage.query import Condition, make_query
from pend_storage.schema import CollectionSpec

__all__ = ["AsyncCollection"]

R = TypeVar("R")
K = TypeVar("K", bound=RecordKey)


class AsyncCollection(Generic[R]):
    """Asynchronous collection: as :class:`~pend_storage.collection.Collection`, awaited.

    Cheap to make. Each method raises what the blocking one raises.
    """

    __slots__ = ("_adapter", "_store", "spec")

    def __init__(
        self,
        store: Backend,
        spec: CollectionSpec,
        adapter: RecordAdapter | None = None,
    ) -> None:
        self._store = store
        self.spec: CollectionSpec = spec
        self._adapter = adapter

    async def get(self, key: RecordKey) -> R | None:
        """Return the record under a key, or None."""
        text = key_text(self._adapter, key)
        row = (await self._store.read(self.spec.name, (text,))).get(text)
        return None if row is None else given(self._adapter, row.record)

    async def get_many(self, keys: Iterable[K]) -> dict[K, R]:
        """Return the records under these keys; missing keys are absent; none for no keys."""
        wanted = {key: key_text(self._adapter, key) for key in keys}
        rows = await self._store.read(self.spec.name, wanted.values())
        return {
            key: given(self._adapter, rows[text].record)
            for key, text in wanted.items()
            if text in rows
        }

    async def get_by(self, name: str, value: Any) -> R | None:
        """Return the record with this value in a field declared unique, or None."""
        row = await self._store.lookup(self.spec.name, name, value)
        return None if row is None else given(self._adapter, row.record)

    async def versioned(self, key: RecordKey) -> Versioned[R] | None:
        """Return the record under a key together with its version, or None."""
        text = key_text(self._adapter, key)
        row = (await self._store.read(self.spec.name, (text,))).get(text)
        if row is None:
            return None
        return Versioned(given(self._adapter, row.record), row.version)

    async def put(self, record: R, *, if_version: int | None = None) -> int:
        """Insert or replace a record, and return its new version."""
        if is_given(self.spec, record):
            return (await self._put_given((record,), if_version))[0]
        schema = self._store.schema
        put = schema.put(self.spec.name, record)
        checks = checks_for(self.spec.name, put.key, if_version)
        batch = schema.batch((put,), checks)
        return (await commit_audited(self._store, batch))[0]

    async def put_many(self, records: Iterable[R]) -> list[int]:
        """Write records in one atomic commit, and return the version of each."""
        schema, records = self._store.schema, tuple(records)
        if any(is_given(self.spec, record) for record in records):
            return await self._put_given(records, None)
        puts = [schema.put(self.spec.name, record) for record in records]
        if not puts:
            return []
        batch = schema.batch(puts)
        return versions_of(puts, batch, await commit_audited(self._store, batch))

    async def _put_given(
        self, records: Sequence[R], if_version: int | None
    ) -> list[int]:
        """Write records of the caller's type; stored fields that it lacks are kept."""
        schema, spec = self._store.schema, self.spec

        async def attempt() -> list[int]:
            keys = {key for r in records if (key := given_key(spec, r)) is not None}
            rows = await self._store.read(spec.name, keys)
            puts, batch = over_rows(schema, spec, records, rows, if_version)
            return versions_of(puts, batch, await commit_audited(self._store, batch))

        if if_version is not None:
            return await attempt()
        return await tenacity.AsyncRetrying(**OVERWRITE)(attempt)

    async def delete(self, key: RecordKey, *, if_version: int | None = None) -> bool:
        """Delete the record under a key; return False where there is none."""
        schema, text = self._store.schema, key_text(self._adapter, key)
        operation = schema.delete(self.spec.name, text)
        checks = checks_for(self.spec.name, text, if_version)
        batch = schema.batch((operation,), checks)
        return (await commit_audited(self._store, batch))[0] > 0

    async def find(
        self,
        *where: Condition,
        order_by: Sequence[str] = (),
        limit: int | None = None,
        after: str | None = None,
    ) -> Page[R]:
        """Return the records that meet every condition, as a page."""
        signing = self._store.cursor_key
        query = page_query(self.spec, where, order_by, limit, after, cursor_key=signing)
        rows = await self._store.query(self.spec.name, fetch_one_more(query))
        return page_of(self.spec, query, rows, self._adapter, cursor_key=signing)

    async def count(self, *where: Condition) -> int:
        """Count the records that meet every condition."""
        condition = make_query(self.spec, where).where
        return await self._store.count(self.spec.name, condition)

    async def scan(self, *, after: str | None = None) -> AsyncIterator[R]:
        """Iterate over the records in key order, after a key, in bounded memory."""
        async for row in self._store.scan(self.spec.name, after=after):
            yield given(self._adapter, row.record)
