"""Timed collection: operations of a collection whose duration is recorded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from time import perf_counter
from typing import Any, TypeVar, cast

from typing_extensions import override

from pend_storage._collection import Collection
from pend_storage._collection_queries import given
from pend_storage._model.record_types import RecordAdapter, RecordKey
from pend_storage._model.records import Page, Versioned
from pend_storage.contract import StoreBackend
from pend_storage.instrumentation._timing import Timing
from pend_storage.query import Condition
from pend_storage.schema import CollectionSpec

__all__ = ["TimedCollection"]

R = TypeVar("R")
K = TypeVar("K", bound=RecordKey)


class TimedCollection(Collection[R]):
    """Collection of a store with instruments: each call is timed once, here.

    The work is done by a collection without a clock, so that a call which makes others is
    not counted several times.
    """

    __slots__ = ("_inner", "_name", "_timing")

    def __init__(
        self,
        store: StoreBackend,
        spec: CollectionSpec,
        adapter: RecordAdapter | None,
        timing: Timing,
    ) -> None:
        super().__init__(store, spec, adapter)
        self._inner: Collection[R] = Collection(store, spec, adapter)
        self._name = spec.name
        self._timing = timing

    @override
    def get(self, key: RecordKey) -> R | None:
        # The quickest call of all: a read from memory. So it is written out here, without
        # the calls of call() and of the inner collection.
        timing, name = self._timing, self._name
        started = perf_counter()
        try:
            adapter = self._adapter
            text = cast("str", key) if adapter is None else adapter.key(key)
            row = self._store.read(name, (text,)).get(text)
            found: R | None = None if row is None else given(adapter, row.record)
        except BaseException as error:
            timing.done("get", name, perf_counter() - started, error)
            raise
        seconds = perf_counter() - started
        try:
            timing.record("get", name, timing.store, seconds, None)
        except Exception as failure:  # noqa: BLE001 - whatever it is, the call goes on
            timing.failed(failure)
        return found

    @override
    def get_many(self, keys: Iterable[K]) -> dict[K, R]:
        return self._timing.call("get_many", self._name, self._inner.get_many, keys)

    @override
    def get_by(self, name: str, value: Any) -> R | None:
        return self._timing.call("get_by", self._name, self._inner.get_by, name, value)

    @override
    def versioned(self, key: RecordKey) -> Versioned[R] | None:
        return self._timing.call("versioned", self._name, self._inner.versioned, key)

    @override
    def put(self, record: R, *, if_version: int | None = None) -> int:
        return self._timing.call(
            "put", self._name, self._inner.put, record, if_version=if_version
        )

    @override
    def put_many(self, records: Iterable[R]) -> list[int]:
        return self._timing.call("put_many", self._name, self._inner.put_many, records)

    @override
    def delete(self, key: RecordKey, *, if_version: int | None = None) -> bool:
        return self._timing.call(
            "delete", self._name, self._inner.delete, key, if_version=if_version
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
            self._name,
            self._inner.find,
            *where,
            order_by=order_by,
            limit=limit,
            after=after,
        )

    @override
    def count(self, *where: Condition) -> int:
        return self._timing.call("count", self._name, self._inner.count, *where)

    @override
    def scan(self, *, after: str | None = None) -> Iterator[R]:
        return self._timing.iterated("scan", self._name, self._inner.scan(after=after))
