"""Timed asynchronous collections: their calls are recorded, the wait for a batch included."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from time import perf_counter
from typing import Any, TypeVar

from typing_extensions import override

from pend_storage._model.record_types import RecordAdapter, RecordKey
from pend_storage._model.records import Page, Versioned
from pend_storage._unit_of_work import UnitOfWork
from pend_storage.aio._backend import Backend
from pend_storage.aio._collection import AsyncCollection
from pend_storage.aio._transaction import AsyncTransaction, AsyncTransactionCollection
from pend_storage.instrumentation._timing import Timing
from pend_storage.query import Condition
from pend_storage.schema import CollectionSpec

__all__ = ["TimedAsyncCollection", "TimedAsyncTransaction"]

R = TypeVar("R")
K = TypeVar("K", bound=RecordKey)
T = TypeVar("T")


class TimedAsyncCollection(AsyncCollection[R]):
    """Asynchronous collection of a store with instruments: each call is timed once."""

    __slots__ = ("_inner", "_timing")

    def __init__(
        self,
        store: Backend,
        spec: CollectionSpec,
        adapter: RecordAdapter | None,
        timing: Timing,
    ) -> None:
        super().__init__(store, spec, adapter)
        self._inner: AsyncCollection[R] = AsyncCollection(store, spec, adapter)
        self._timing = timing

    @override
    async def get(self, key: RecordKey) -> R | None:
        return await self._timed("get", self._inner.get(key))

    @override
    async def get_many(self, keys: Iterable[K]) -> dict[K, R]:
        return await self._timed("get_many", self._inner.get_many(keys))

    @override
    async def get_by(self, name: str, value: Any) -> R | None:
        return await self._timed("get_by", self._inner.get_by(name, value))

    @override
    async def versioned(self, key: RecordKey) -> Versioned[R] | None:
        return await self._timed("versioned", self._inner.versioned(key))

    @override
    async def put(self, record: R, *, if_version: int | None = None) -> int:
        return await self._timed("put", self._inner.put(record, if_version=if_version))

    @override
    async def put_many(self, records: Iterable[R]) -> list[int]:
        return await self._timed("put_many", self._inner.put_many(records))

    @override
    async def delete(self, key: RecordKey, *, if_version: int | None = None) -> bool:
        return await self._timed(
            "delete", self._inner.delete(key, if_version=if_version)
        )

    @override
    async def find(
        self,
        *where: Condition,
        order_by: Sequence[str] = (),
        limit: int | None = None,
        after: str | None = None,
    ) -> Page[R]:
        page = self._inner.find(*where, order_by=order_by, limit=limit, after=after)
        return await self._timed("find", page)

    @override
    async def count(self, *where: Condition) -> int:
        return await self._timed("count", self._inner.count(*where))

    @override
    async def scan(self, *, after: str | None = None) -> AsyncIterator[R]:
        items = self._inner.scan(after=after)
        spent, failure = 0.0, None
        try:
            while True:
                started = perf_counter()
                try:
                    item = await anext(items)
                except StopAsyncIteration:
                    return
                finally:
                    spent += perf_counter() - started
                yield item
        except GeneratorExit:
            raise
        except BaseException as error:
            failure = error
            raise
        finally:
            self._timing.done("scan", self.spec.name, spent, failure)

    async def _timed(self, operation: str, answer: Awaitable[T]) -> T:
        return await timed(self._timing, operation, self.spec.name, answer)


class TimedAsyncTransaction(AsyncTransaction):
    """Asynchronous transaction of a store with instruments."""

    def __init__(self, store: Backend, timing: Timing) -> None:
        super().__init__(store)
        self._timing = timing

    @override
    def _collection_of(
        self, spec: CollectionSpec, adapter: RecordAdapter | None
    ) -> AsyncTransactionCollection[Any]:
        return _TimedReads(self._store, self._work, spec, adapter, self._timing)

    @override
    async def commit(self) -> None:
        await timed(self._timing, "commit", "", super().commit())


class _TimedReads(AsyncTransactionCollection[R]):
    """Collection inside a timed transaction."""

    __slots__ = ("_inner", "_timing")

    def __init__(
        self,
        store: Backend,
        work: UnitOfWork,
        spec: CollectionSpec,
        adapter: RecordAdapter | None,
        timing: Timing,
    ) -> None:
        super().__init__(store, work, spec, adapter)
        self._inner: AsyncTransactionCollection[R] = AsyncTransactionCollection(
            store, work, spec, adapter
        )
        self._timing = timing

    @override
    async def get(self, key: RecordKey) -> R | None:
        return await self._timed("get", self._inner.get(key))

    @override
    async def get_many(self, keys: Iterable[K]) -> dict[K, R]:
        return await self._timed("get_many", self._inner.get_many(keys))

    @override
    async def versioned(self, key: RecordKey) -> Versioned[R] | None:
        return await self._timed("versioned", self._inner.versioned(key))

    @override
    async def get_by(self, name: str, value: Any) -> R | None:
        return await self._timed("get_by", self._inner.get_by(name, value))

    @override
    async def find(
        self,
        *where: Condition,
        order_by: Sequence[str] = (),
        limit: int | None = None,
        after: str | None = None,
    ) -> Page[R]:
        page = self._inner.find(*where, order_by=order_by, limit=limit, after=after)
        return await self._timed("find", page)

    @override
    async def count(self, *where: Condition) -> int:
        return await self._timed("count", self._inner.count(*where))

    async def _timed(self, operation: str, answer: Awaitable[T]) -> T:
        return await timed(self._timing, operation, self.spec.name, answer)


async def timed(
    timing: Timing, operation: str, collection: str, answer: Awaitable[T]
) -> T:
    """Await an answer, and record how long that took, and its exception."""
    started = perf_counter()
    try:
        found = await answer
    except BaseException as error:
        timing.done(operation, collection, perf_counter() - started, error)
        raise
    timing.done(operation, collection, perf_counter() - started)
    return found
