"""Transactions, to be awaited."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

import tenacity

from pend_storage.query import Condition, Query
from pend_storage.records import Page, Row, Versioned
from pend_storage.schema import CollectionSpec
from pend_storage.transaction import RETRY
from pend_storage.unit_of_work import Place, UnitOfWork
from pend_storage.verbs import lookup_query, page_of, page_query, probing

if TYPE_CHECKING:
    from pend_storage.aio.store import AsyncStore

__all__ = ["AsyncTransaction", "AsyncTransactionCollection", "run_transaction"]

R = TypeVar("R")
T = TypeVar("T")


class AsyncTransaction:
    """Use as ``async with store.transaction() as tx:``; an exception writes nothing.

    As :class:`~pend_storage.transaction.Transaction`, with ``await``.
    """

    def __init__(self, store: AsyncStore) -> None:
        self._store = store
        self._work = UnitOfWork(store.schema)
        self.versions: dict[Place, int] = {}
        """After the end: the new version of each ``(collection, key)`` written."""

    @overload
    def collection(self, name: type[R]) -> AsyncTransactionCollection[R]: ...
    @overload
    def collection(self, name: str) -> AsyncTransactionCollection[Any]: ...
    def collection(self, name: str | type) -> AsyncTransactionCollection[Any]:
        """The verbs of one collection inside this transaction."""
        return AsyncTransactionCollection(
            self._store, self._work, self._store.schema[name]
        )

    def legacy(self, file: str) -> Any:
        """Refused, as :meth:`AsyncStore.legacy` is.

        Raises:
            ConfigError: always; it says how to come by the file.
        """
        return self._store.legacy(file)

    async def commit(self) -> None:
        """Check all reads and write all writes, atomically; what follows begins anew.

        Cancelled, it has happened as a whole or not at all.
        """
        batch = self._work.batch()
        if batch is not None:
            versions = await self._store.commit(batch)
            self.versions = self._work.finish(batch, versions)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            await self.commit()


class AsyncTransactionCollection(Generic[R]):
    """One collection inside a transaction. Sees the transaction's own writes."""

    __slots__ = ("_store", "_work", "spec")

    def __init__(
        self, store: AsyncStore, work: UnitOfWork, spec: CollectionSpec
    ) -> None:
        self._store = store
        self._work = work
        self.spec = spec

    async def get(self, key: str) -> R | None:
        """The record under a key, or None; either answer is checked at the end."""
        return (await self.get_many((key,))).get(key)

    async def get_many(self, keys: Iterable[str]) -> dict[str, R]:
        """The records under these keys; missing keys are absent, and checked too."""
        return {key: row.record for key, row in (await self._rows(keys)).items()}

    async def versioned(self, key: str) -> Versioned[R] | None:
        """The record and the version at which it was read (0: written here, new)."""
        row = (await self._rows((key,))).get(key)
        return None if row is None else Versioned(row.record, row.version)

    async def get_by(self, name: str, value: Any) -> R | None:
        """The record with this value in a field declared unique, or None."""
        rows = await self._find(lookup_query(self.spec, name, value))
        return rows[0].record if rows else None

    async def find(
        self,
        *where: Condition,
        order_by: Sequence[str] = (),
        limit: int | None = None,
        after: str | None = None,
    ) -> Page[R]:
        """The records that meet every condition, own writes among them, as a page."""
        query = page_query(self.spec, where, order_by, limit, after)
        return page_of(self.spec, query, await self._find(probing(query)))

    async def count(self, *where: Condition) -> int:
        """How many records meet every condition; each of them is checked at the end."""
        return len((await self.find(*where)).items)

    async def put(self, record: R, *, if_version: int | None = None) -> None:
        """Write a record at the end; its version is then in ``versions``."""
        self._work.write(self._store.schema.put(self.spec.name, record), if_version)

    async def delete(self, key: str, *, if_version: int | None = None) -> bool:
        """Delete at the end; whether there is a record to delete is checked too."""
        there = bool(await self._rows((key,)))
        self._work.write(self._store.schema.delete(self.spec.name, key), if_version)
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
    store: AsyncStore, fn: Callable[[AsyncTransaction], Awaitable[T]], attempts: int
) -> T:
    """Call ``fn`` in a transaction until it does not conflict, ``attempts`` times at most."""

    async def attempt() -> T:
        transaction = AsyncTransaction(store)
        result = await fn(transaction)
        await transaction.commit()
        return result

    stop = tenacity.stop_after_attempt(attempts)
    return await tenacity.AsyncRetrying(stop=stop, **RETRY)(attempt)
