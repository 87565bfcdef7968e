"""Synchronous adapter of an :class:`AsyncStore`, so that the contract can test it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import (
    AsyncIterator,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AbstractContextManager
from typing import Any, Final, Self, TypeVar, cast

from typing_extensions import override

from pend_storage._collection import Collection
from pend_storage._cursor import CursorKey
from pend_storage._layouts.layout import Layout
from pend_storage._model.records import (
    JSON,
    Advance,
    Batch,
    Change,
    ChangedRecord,
    Outcome,
    Pending,
    Row,
)
from pend_storage._model.snapshots import (
    KeyChange,
)
from pend_storage._transaction import Transaction
from pend_storage._whole_files.exclusive_use import IsHeld
from pend_storage.aio import (
    AsyncCollection,
    AsyncStore,
    AsyncTransaction,
    AsyncTransactionCollection,
)
from pend_storage.errors import PendStorageError
from pend_storage.query import Condition, Query
from pend_storage.schema import Schema
from pend_storage.store import Store
from pend_storage.stores.wrapper import InnerRecovery

__all__ = ["BridgedStore"]

T = TypeVar("T")
_PAGE: Final = 100
"""Items that one call fetches from an asynchronous iterator."""


class _LoopThread:
    """Event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop.is_closed():  # the store refuses in any other loop as well
            return asyncio.run(work)
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class BridgedStore(InnerRecovery):
    """Store that makes every call through an asynchronous store.

    Collections and transactions are those of the asynchronous store, too.
    """

    def __init__(self, inner: Store) -> None:
        """Wrap a store in an asynchronous one, in a loop of its own.

        Args:
            inner: store that does the work; closed with this one.
        """
        self.inner = inner
        self.schema: Schema = inner.schema
        self.layouts: tuple[Layout, ...] = inner.layouts
        self.aio: AsyncStore = AsyncStore(inner)
        self._loop = _LoopThread()
        self._is_closed = False

    @property  # type: ignore[explicit-override]  # mypy misses it above a setter
    @override
    def cursor_key(self) -> CursorKey | None:
        """Key of the store that does the work."""
        return self.inner.cursor_key

    @cursor_key.setter
    @override
    def cursor_key(self, key: CursorKey | None) -> None:
        self.inner.cursor_key = key

    def run_async(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the store's loop, and wait for its result."""
        return self._loop.run(work)

    def iterate(self, items: AsyncIterator[T]) -> Iterator[T]:
        """Iterate over an asynchronous iterator, one page at a time."""
        while found := self.run_async(_next_page(items)):
            yield from found

    @override
    def lock(self, name: str, timeout: float) -> AbstractContextManager[IsHeld]:
        return self.inner.lock(name, timeout)  # tasks have exclusive() instead

    @override
    def read(
        self,
        collection: str,
        keys: Iterable[str],
        *,
        deleted: bool = False,
        epoch: int | None = None,
    ) -> dict[str, Row]:
        return self.run_async(
            self.aio.read(collection, keys, deleted=deleted, epoch=epoch)
        )

    @override
    def query(
        self, collection: str, query: Query, *, epoch: int | None = None
    ) -> list[Row]:
        return self.run_async(self.aio.query(collection, query, epoch=epoch))

    @override
    def count(
        self, collection: str, where: Condition, *, epoch: int | None = None
    ) -> int:
        return self.run_async(self.aio.count(collection, where, epoch=epoch))

    @override
    def scan(
        self,
        collection: str,
        *,
        after: str | None = None,
        deleted: bool = False,
        epoch: int | None = None,
    ) -> Iterator[Row]:
        return self.iterate(
            self.aio.scan(collection, after=after, deleted=deleted, epoch=epoch)
        )

    @override
    def commit(self, batch: Batch, *, epoch: int | None = None) -> tuple[int, ...]:
        return self.run_async(self.aio.commit(batch, epoch=epoch))

    @override
    def commit_each(
        self, batches: Sequence[Batch], *, epoch: int | None = None
    ) -> list[Outcome]:
        async def in_turn() -> list[Outcome]:
            outcomes: list[Outcome] = []
            for batch in batches:
                # Together, only batches of one key would keep their order.
                try:
                    outcomes.append(await self.aio.commit(batch, epoch=epoch))
                except PendStorageError as error:
                    outcomes.append(error)
            return outcomes

        return self.run_async(in_turn())

    @override
    def apply(
        self,
        records: Sequence[ChangedRecord],
        *,
        epoch: int | None = None,
        mark: Advance | None = None,
    ) -> int:
        return self.run_async(self.aio.apply(records, epoch=epoch, mark=mark))

    @override
    def changes(self, after: int = 0) -> Iterator[Change]:
        return self.iterate(self.aio.changes(after))

    @override
    def find_commit(self, token: str) -> Change | None:
        return self.run_async(self.aio.find_commit(token))

    @override
    def pending(self, after: int) -> Pending:
        return self.run_async(self.aio.pending(after))

    @override
    def incarnation(self) -> str:
        return self.run_async(self.aio.incarnation())

    @override
    def head(self) -> int:
        return self.run_async(self.aio.head())

    @override
    def prune(self, upto: int) -> None:
        self.run_async(self.aio.prune(upto))

    @override
    def purge(
        self, collection: str, keys: Iterable[str], *, tombstones: bool = True
    ) -> bool:
        return self.run_async(self.aio.purge(collection, keys, tombstones=tombstones))

    @override
    def identity(self) -> str:
        return self.run_async(self.aio.identity())

    @override
    def meta(self, name: str) -> JSON:
        return self.run_async(self.aio.meta(name))

    @override
    def compare_and_set_meta(
        self,
        name: str,
        expected: JSON,
        value: JSON,
        *,
        given: Mapping[str, JSON] | None = None,
    ) -> bool:
        return self.run_async(
            self.aio.compare_and_set_meta(name, expected, value, given=given)
        )

    # -- recovery: backups and restores have no event loop ---------------------------------

    @override
    def record_history(
        self, collection: str, key: str, *, before: int | None = None
    ) -> Iterator[KeyChange]:
        return self.iterate(self.aio.record_history(collection, key, before=before))

    @override
    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self.run_async(self.aio.close())
            self._loop.close()

    # -- collections and transactions: the asynchronous ones ------------------------------

    @override
    def collection(self, name: str | type) -> Collection[Any]:
        verbs: Any = _BridgedCollection(self, self.aio.collection(cast("Any", name)))
        return cast("Collection[Any]", verbs)

    @override
    def transaction(self) -> Transaction:
        inside: Any = _BridgedTransaction(self, self.aio.transaction())
        return cast("Transaction", inside)


async def _next_page(items: AsyncIterator[T]) -> list[T]:
    """Return the next page of items; empty at the end."""
    found: list[T] = []
    async for item in items:
        found.append(item)
        if len(found) == _PAGE:
            break
    return found


class _BridgedCollection:
    """Collection whose verbs are awaited in the loop."""

    def __init__(
        self,
        store: BridgedStore,
        inner: AsyncCollection[Any] | AsyncTransactionCollection[Any],
    ) -> None:
        self.spec = inner.spec
        self._store = store
        self._inner = inner

    def __getattr__(self, verb: str) -> Any:
        method = getattr(self._inner, verb)
        if verb == "scan":
            return lambda **given: self._store.iterate(method(**given))
        return lambda *given, **named: self._store.run_async(method(*given, **named))


class _BridgedTransaction:
    """Transaction whose verbs are awaited in the loop."""

    def __init__(self, store: BridgedStore, inner: AsyncTransaction) -> None:
        self._store = store
        self._inner = inner
        self._work = inner._work  # noqa: SLF001 - the state machine reads its write set

    @property
    def versions(self) -> dict[tuple[str, str], int]:
        return self._inner.versions

    def collection(self, name: str | type) -> Any:
        return _BridgedCollection(
            self._store, self._inner.collection(cast("Any", name))
        )

    def commit(self) -> None:
        self._store.run_async(self._inner.commit())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._store.run_async(self._inner.__aexit__(kind))
