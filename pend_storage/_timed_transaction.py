"""Timed transaction: a transaction whose reads and whose end are recorded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from typing_extensions import override

from pend_storage._model.record_types import RecordAdapter, RecordKey
from pend_storage._model.records import Page, Versioned
from pend_storage._transaction import Transaction, TransactionCollection
from pend_storage._unit_of_work import UnitOfWork
from pend_storage.contract import StoreBackend, timing_of
from pend_storage.instrumentation._timing import Timing
from pend_storage.query import Condition
from pend_storage.schema import CollectionSpec

__all__ = ["TimedTransaction", "begin_edit"]

R = TypeVar("R")
K = TypeVar("K", bound=RecordKey)


class _TimedCommit(Transaction):
    """Transaction whose end is timed as ``commit``, and nothing before it."""

    def __init__(self, store: StoreBackend, timing: Timing) -> None:
        super().__init__(store)
        self._timing = timing

    @override
    def commit(self) -> None:
        self._timing.call("commit", "", super().commit)


class TimedTransaction(_TimedCommit):
    """Transaction of a store with instruments.

    Its reads are timed by their names, and its end as ``commit``. Its writes ask the store
    for nothing before the end.
    """

    @override
    def _collection_of(
        self, spec: CollectionSpec, adapter: RecordAdapter | None
    ) -> TransactionCollection[Any]:
        return _TimedReads(self._store, self._work, spec, adapter, self._timing)


def begin_edit(store: StoreBackend) -> Transaction:
    """Begin the transaction of an edit: its reads are the library's, and are not timed."""
    timing = timing_of(store)
    return Transaction(store) if timing is None else _TimedCommit(store, timing)


class _TimedReads(TransactionCollection[R]):
    """Collection inside a timed transaction."""

    __slots__ = ("_inner", "_timing")

    def __init__(
        self,
        store: StoreBackend,
        work: UnitOfWork,
        spec: CollectionSpec,
        adapter: RecordAdapter | None,
        timing: Timing,
    ) -> None:
        super().__init__(store, work, spec, adapter)
        # Without a clock, so that a call which makes others is not counted several times.
        self._inner: TransactionCollection[R] = TransactionCollection(
            store, work, spec, adapter
        )
        self._timing = timing

    @override
    def get(self, key: RecordKey) -> R | None:
        return self._timing.call("get", self.spec.name, self._inner.get, key)

    @override
    def get_many(self, keys: Iterable[K]) -> dict[K, R]:
        return self._timing.call("get_many", self.spec.name, self._inner.get_many, keys)

    @override
    def versioned(self, key: RecordKey) -> Versioned[R] | None:
        return self._timing.call(
            "versioned", self.spec.name, self._inner.versioned, key
        )

    @override
    def get_by(self, name: str, value: Any) -> R | None:
        return self._timing.call(
            "get_by", self.spec.name, self._inner.get_by, name, value
        )

    @override
    def find(
        self,
        *where: Condition,
        order_by: Sequence[str] = (),
        limit: int | None = None,
        after: str | None = None,
    ) -> Page[R]:
        return self._timing.call(
            "find",
            self.spec.name,
            self._inner.find,
            *where,
            order_by=order_by,
            limit=limit,
            after=after,
        )

    @override
    def count(self, *where: Condition) -> int:
        return self._timing.call("count", self.spec.name, self._inner.count, *where)
