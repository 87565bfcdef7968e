"""Wrapper store: forwards every operation to another store; a base for wrappers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager

from typing_extensions import override

from pend_storage._health import DEADLINE, Health
from pend_storage._layouts.layout import Layout
from pend_storage._layouts.listing import Listing
from pend_storage._layouts.unread_files import UnreadFile
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
    SnapshotReader,
    StoredChange,
    StoredRow,
)
from pend_storage._whole_files.exclusive_use import IsHeld
from pend_storage.contract import StoreBackend, timing_of
from pend_storage.events import Progress
from pend_storage.query import Condition, Query
from pend_storage.schema import Schema
from pend_storage.store import Store

__all__ = ["InnerRecovery", "WrapperStore"]


class InnerRecovery(Store):
    """Forwards snapshots, bulk loading and the log to an inner store; a base for wrappers."""

    inner: Store

    @override
    def own_log(self) -> StoreBackend:
        return self.inner.own_log()

    @override
    def snapshot(self) -> AbstractContextManager[SnapshotReader]:
        return self.inner.snapshot()

    @override
    def load_snapshot(
        self, rows: Iterable[tuple[str, StoredRow]], *, progress: Progress | None = None
    ) -> int:
        return self.inner.load_snapshot(rows, progress=progress)

    @override
    def load_changes(self, changes: Iterable[StoredChange]) -> int:
        return self.inner.load_changes(changes)

    @override
    def reserve_numbers(self, above: int) -> None:
        self.inner.reserve_numbers(above)


class WrapperStore(InnerRecovery):
    """Wrapper of a store that forwards every operation; override those to be changed.

    ``commit_each`` calls an overridden ``commit``, so that no commit passes it by.
    Collections and transactions of the wrapper go through the wrapper. Closing it
    closes the inner store.
    """

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.schema: Schema = inner.schema
        self.layouts: tuple[Layout, ...] = inner.layouts
        self.refuses_unread: bool = inner.refuses_unread
        self._hook = inner.tell
        self._timing = timing_of(inner)

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.inner!r})"

    @override
    def read(
        self,
        collection: str,
        keys: Iterable[str],
        *,
        deleted: bool = False,
        epoch: int | None = None,
    ) -> dict[str, Row]:
        return self.inner.read(collection, keys, deleted=deleted, epoch=epoch)

    @override
    def query(
        self, collection: str, query: Query, *, epoch: int | None = None
    ) -> list[Row]:
        return self.inner.query(collection, query, epoch=epoch)

    @override
    def count(
        self, collection: str, where: Condition, *, epoch: int | None = None
    ) -> int:
        return self.inner.count(collection, where, epoch=epoch)

    @override
    def scan(
        self,
        collection: str,
        *,
        after: str | None = None,
        deleted: bool = False,
        epoch: int | None = None,
    ) -> Iterator[Row]:
        return self.inner.scan(collection, after=after, deleted=deleted, epoch=epoch)

    @override
    def together(
        self,
        queries: Sequence[tuple[str, Query]] = (),
        counts: Sequence[tuple[str, Condition]] = (),
        *,
        epoch: int | None = None,
    ) -> tuple[list[list[Row]], list[int]]:
        return self.inner.together(queries, counts, epoch=epoch)

    @override
    def listing(self, layout: Layout, *, epoch: int | None = None) -> Listing | None:
        return self.inner.listing(layout, epoch=epoch)

    @override
    def moment(self) -> object:
        return self.inner.moment()

    @override
    def commit(self, batch: Batch, *, epoch: int | None = None) -> tuple[int, ...]:
        return self.inner.commit(batch, epoch=epoch)

    @override
    def commit_each(
        self, batches: Sequence[Batch], *, epoch: int | None = None
    ) -> list[Outcome]:
        if type(self).commit is not WrapperStore.commit:
            return super().commit_each(batches, epoch=epoch)  # calls that commit()
        return self.inner.commit_each(batches, epoch=epoch)

    @override
    def apply(
        self,
        records: Sequence[ChangedRecord],
        *,
        epoch: int | None = None,
        mark: Advance | None = None,
    ) -> int:
        return self.inner.apply(records, epoch=epoch, mark=mark)

    @override
    def changes(self, after: int = 0) -> Iterator[Change]:
        return self.inner.changes(after)

    @override
    def head(self) -> int:
        return self.inner.head()

    @override
    def prune(self, upto: int) -> None:
        self.inner.prune(upto)

    @override
    def hold_log(self, passed: Callable[[], int | None]) -> None:
        self.inner.hold_log(passed)

    @override
    def purge(
        self, collection: str, keys: Iterable[str], *, tombstones: bool = True
    ) -> bool:
        return self.inner.purge(collection, keys, tombstones=tombstones)

    @override
    def identity(self) -> str:
        return self.inner.identity()

    @override
    def incarnation(self) -> str:
        return self.inner.incarnation()

    @override
    def find_commit(self, token: str) -> Change | None:
        return self.inner.find_commit(token)

    @override
    def pending(self, after: int) -> Pending:
        return self.inner.pending(after)

    @override
    def meta(self, name: str) -> JSON:
        return self.inner.meta(name)

    @override
    def compare_and_set_meta(
        self,
        name: str,
        expected: JSON,
        value: JSON,
        *,
        given: Mapping[str, JSON] | None = None,
    ) -> bool:
        return self.inner.compare_and_set_meta(name, expected, value, given=given)

    @override
    def lock(self, name: str, timeout: float) -> AbstractContextManager[IsHeld]:
        return self.inner.lock(name, timeout)

    @override
    def health(self, *, deadline: float = DEADLINE) -> Health:
        return self.inner.health(deadline=deadline)

    @override
    def unread_files(self) -> tuple[UnreadFile, ...]:
        return self.inner.unread_files()

    @override
    def record_history(
        self, collection: str, key: str, *, before: int | None = None
    ) -> Iterator[KeyChange]:
        return self.inner.record_history(collection, key, before=before)

    @override
    def close(self) -> None:
        self.inner.close()
