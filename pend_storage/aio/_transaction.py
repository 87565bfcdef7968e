"""Asynchronous transactions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Generic, Self, TypeVar, overload

import tenacity

from pend_storage._collection_queries import (
    fetch_one_more,
    given,
    given_key,
    is_given,
    key_text,
    lookup_query,
    over,
    page_of,
    page_query,
    version_demanded,
)
from pend_storage._model.record_types import RecordAdapter, RecordKey
from pend_storage._model.records import Page, Row, Versioned
from pend_storage._retry import ON_CONFLICT
from pend_storage._shown import shown
from pend_storage._unit_of_work import Place, UnitOfWork
from pend_storage.aio._audited import commit_audited
from pend_storage.aio._backend import Backend
from pend_storage.errors import ConfigError
from pend_storage.query import Condition, Query
from pend_storage.schema import CollectionSpec

__all__ = [
    "AsyncTransaction",
    "AsyncTransactionCollection",
    "refused_view",
    "run_transaction",
]

R = TypeVar("R")
K = TypeVar("K", bound=RecordKey)
T = TypeVar("T")


class AsyncTransaction:
    """Transaction: ``async with store.transaction() as tx:``. An exception writes nothing.

    As :class:`~pend_storage._transaction.Transaction`, awaited.
    """

    def __init__(self, store: Backend) -> None:
        self._store = store
        self._work = UnitOfWork(store.schema)
        self.versions: dict[Place, int] = {}
        """After the end: the new version of each ``(collection, key)`` written."""

    @overload
    def collection(self, name: type[R]) -> AsyncTransactionCollection[R]: ...
    @overload
    def collection(self, name: str) -> AsyncTransactionCollection[Any]: ...
    def collection(self, name: str | type) -> AsyncTransactionCollection[Any]:
        """Return a collection inside this transaction."""
        schema = self._store.schema
        return self._collection_of(schema[name], schema.adapter(name))

    def _collection_of(
        self, spec: CollectionSpec, adapter: RecordAdapter | None
    ) -> AsyncTransactionCollection[Any]:
        return AsyncTransactionCollection(self._store, self._work, spec, adapter)

    def legacy(self, file: str) -> Any:
        """Refuse, as :meth:`AsyncStore.legacy`.

        Raises:
            ConfigError: always; it says how to use the file.
        """
        raise refused_view(file)

    async def commit(self) -> None:
        """Check all reads and write all writes, atomically; later calls begin anew.

        Cancelled, the commit has happened as a whole or not at all.
        """
        batch = self._work.batch()
        if batch is not None:
            versions = await commit_audited(self._store, batch)
            self.versions = self._work.finish(batch, versions)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            await self.commit()


class AsyncTransactionCollection(Generic[R]):
    """Collection inside a transaction. Sees the transaction's own writes."""

    __slots__ = ("_adapter", "_store", "_work", "spec")

    def __init__(
        self,
        store: Backend,
        work: UnitOfWork,
        spec: CollectionSpec,
        adapter: RecordAdapter | None = None,
    ) -> None:
        self._store = store
        self._work = work
        self.spec: CollectionSpec = spec
        self._adapter = adapter

    async def get(self, key: RecordKey) -> R | None:
        """Return the record under a key, or None; either answer is checked at the end."""
        return (await self.get_many((key,))).get(key)

    async def get_many(self, keys: Iterable[K]) -> dict[K, R]:
        """Return the records under these keys; missing keys are absent, and checked too."""
        wanted = {key: key_text(self._adapter, key) for key in keys}
        rows = await self._rows(wanted.values())
        return {
            key: given(self._adapter, rows[text].record)
            for key, text in wanted.items()
            if text in rows
        }

    async def versioned(self, key: RecordKey) -> Versioned[R] | None:
        """Return the record and the version at which it was read (0: written here, new)."""
        text = key_text(self._adapter, key)
        row = (await self._rows((text,))).get(text)
        if row is None:
            return None
        return Versioned(given(self._adapter, row.record), row.version)

    async def get_by(self, name: str, value: Any) -> R | None:
        """Return the record with this value in a field declared unique, or None."""
        rows = await self._find(lookup_query(self.spec, name, value))
        return given(self._adapter, rows[0].record) if rows else None

    async def find(
        self,
        *where: Condition,
        order_by: Sequence[str] = (),
        limit: int | None = None,
        after: str | None = None,
    ) -> Page[R]:
        """Return the records that meet every condition, own writes included, as a page."""
        signing = self._store.cursor_key
        query = page_query(self.spec, where, order_by, limit, after, cursor_key=signing)
        rows = await self._find(fetch_one_more(query))
        return page_of(self.spec, query, rows, self._adapter, cursor_key=signing)

    async def count(self, *where: Condition) -> int:
        """Count the records that meet every condition; each of them is checked at the end."""
        return len((await self.find(*where)).items)

    async def put(self, record: R, *, if_version: int | None = None) -> None:
        """Write a record at the end; its version is then in ``versions``."""
        present = None
        key = given_key(self.spec, record) if is_given(self.spec, record) else None
        if key is not None:  # stored fields that the caller's type lacks are kept
            row = (await self._rows((key,))).get(key)
            present = row and row.record
        put = over(self._store.schema, self.spec, record, present)
        self._work.write(put, version_demanded(if_version))

    async def delete(self, key: RecordKey, *, if_version: int | None = None) -> bool:
        """Delete at the end; that there is a record, or none, is checked then too."""
        text = key_text(self._adapter, key)
        there = bool(await self._rows((text,)))
        delete = self._store.schema.delete(self.spec.name, text)
        self._work.write(delete, version_demanded(if_version))
        return there

    async def _rows(self, keys: Iterable[str]) -> dict[str, Row]:
        wanted = list(keys)
        asked = self._work.unwritten(self.spec, wanted)
        stored = await self._store.read(self.spec.name, asked) if asked else {}
        return self._work.found(self.spec, wanted, stored)

    async def _find(self, query: Query) -> list[Row]:
        asked = self._work.widened(self.spec, query)
        stored = await self._store.query(self.spec.name, asked)
        return self._work.merged(self.spec, query, stored)


async def run_transaction(
    begin: Callable[[], AsyncTransaction],
    fn: Callable[[AsyncTransaction], Awaitable[T]],
    attempts: int,
) -> T:
    """Call ``fn`` in a transaction until it does not conflict, ``attempts`` times at most."""

    async def attempt() -> T:
        transaction = begin()
        result = await fn(transaction)
        await transaction.commit()
        return result

    stop = tenacity.stop_after_attempt(attempts)
    return await tenacity.AsyncRetrying(stop=stop, **ON_CONFLICT)(attempt)


def refused_view(file: str) -> ConfigError:
    """Return the error for a view of a file, whose methods block the event loop."""
    return ConfigError(
        f"a view of {shown(file)} waits for its store, and would hold up the event "
        "loop: use it in a thread, with `await db.call(lambda store: "
        "store.legacy(...)[...])`."
    )
