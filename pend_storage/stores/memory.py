"""In-memory store, the reference model of the contract; nothing is durable."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from typing_extensions import override

from pend_storage._layouts.layout import Layout, one_each
from pend_storage._layouts.listing import Listing
from pend_storage._model.records import (
    JSON,
    Advance,
    Batch,
    Change,
    ChangedRecord,
    Pending,
    Row,
)
from pend_storage._model.snapshots import (
    LogPoint,
    SnapshotReader,
    StoredChange,
    StoredRow,
)
from pend_storage._whole_files.exclusive_use import IsHeld
from pend_storage.errors import ChangesExpired, LockTimeout, StoreUnavailable
from pend_storage.events import Progress, guarded, log_event
from pend_storage.instrumentation import Instruments
from pend_storage.instrumentation._timing import hook_of, timing
from pend_storage.query import Condition, Query
from pend_storage.schema import Schema
from pend_storage.store import Store
from pend_storage.stores._inmemory.bulk_rows import (
    ContentsReader,
    NewestRows,
    contents_of,
    decoded_contents,
    require_empty,
    require_no_role,
)
from pend_storage.stores._inmemory.listings import Listings
from pend_storage.stores._inmemory.state import ChangedRow, LogRecord, State
from pend_storage.stores._inmemory.write_planner import Plan

__all__ = ["MemoryStore"]

_PAGE: Final = 500
"""Rows that a scan takes under the lock at a time."""


class MemoryStore(Store):
    """Store in memory: for tests, and the reference for the answers of every other store."""

    def __init__(
        self,
        schema: Schema,
        *,
        layouts: Sequence[Layout] = (),
        instruments: Instruments | None = None,
    ) -> None:
        """Make an empty store.

        Args:
            schema: the collections.
            layouts: the legacy files that :meth:`legacy` can show.
            instruments: get the duration of each call; None: no clock is read.
        """
        self.schema = schema
        self._hook = hook_of(guarded(log_event), instruments)
        self._timing = timing(instruments, "memory", self._hook)
        self.layouts: tuple[Layout, ...] = one_each(layouts)
        for layout in self.layouts:
            layout.require(schema)
        self._state = State(schema, "memory")
        self._log: list[LogRecord] = []
        self._tokens: dict[str, LogRecord] = {}
        """Entries of the log by token."""
        self._pruned = 0
        self._listings = Listings()
        self._lock = threading.Lock()
        self._closed = False
        self._locks: dict[str, threading.Lock] = {}

    def _open_state(self) -> State:
        if self._closed:
            raise StoreUnavailable("the store is closed", store="memory")
        return self._state

    @override
    @contextmanager
    def lock(self, name: str, timeout: float) -> Iterator[IsHeld]:
        with self._lock:
            self._open_state()
            lock = self._locks.setdefault(name, threading.Lock())
        if not lock.acquire(timeout=max(timeout, 0)):
            raise LockTimeout(path=name, seconds=timeout, holder="another thread")
        try:
            yield lock.locked
        finally:
            lock.release()

    @override
    def read(
        self,
        collection: str,
        keys: Iterable[str],
        *,
        deleted: bool = False,
        epoch: int | None = None,
    ) -> dict[str, Row]:
        with self._lock:
            state = self._open_state()
            state.require_read(epoch)
            return state.read(collection, keys, deleted=deleted)

    @override
    def query(
        self, collection: str, query: Query, *, epoch: int | None = None
    ) -> list[Row]:
        with self._lock:
            state = self._open_state()
            state.require_read(epoch)
            candidates = state.candidates(collection, query)
        # Sorted and decoded outside of the lock: stored rows never change.
        return state.answer(collection, query, candidates)

    @override
    def count(
        self, collection: str, where: Condition, *, epoch: int | None = None
    ) -> int:
        return len(self.query(collection, Query(where), epoch=epoch))

    @override
    def scan(
        self,
        collection: str,
        *,
        after: str | None = None,
        deleted: bool = False,
        epoch: int | None = None,
    ) -> Iterator[Row]:
        while True:
            with self._lock:
                state = self._open_state()
                state.require_read(epoch)
                rows = state.page(collection, after, deleted=deleted, size=_PAGE)
            yield from state.table(collection).decoded(rows)
            if len(rows) < _PAGE:
                return
            after = rows[-1][0]

    @override
    def listing(self, layout: Layout, *, epoch: int | None = None) -> Listing | None:
        def with_state(job: Callable[[State], Any]) -> Any:
            with self._lock:
                state = self._open_state()
                state.require_read(epoch)
                return job(state)

        return self._listings.of(layout, with_state)

    @override
    def commit(self, batch: Batch, *, epoch: int | None = None) -> tuple[int, ...]:
        with self._lock:
            plan = Plan(self._open_state(), self._tokens.get)
            versions = plan.add(batch, epoch)
            self._install(plan)
            return versions

    @override
    def apply(
        self,
        records: Sequence[ChangedRecord],
        *,
        epoch: int | None = None,
        mark: Advance | None = None,
    ) -> int:
        with self._lock:
            plan = Plan(self._open_state())
            written = plan.apply_changes(records, epoch, deepcopy(mark))
            self._install(plan)
            return written

    def _install(self, plan: Plan) -> None:
        for effect in plan.effects:
            self._state.install(effect)
            if effect.sequence:
                self._log.append(effect)
            if effect.token is not None:
                self._tokens[effect.token] = effect

    @override
    def changes(self, after: int = 0) -> Iterator[Change]:
        with self._lock:
            state = self._open_state()
            if after < self._pruned:
                raise ChangesExpired(store=state.name, after=after, oldest=self._pruned)
            effects = self._log[_index_after(self._log, after) :]
        for effect in effects:
            yield state.change_of(effect)

    @override
    def prune(self, upto: int) -> None:
        with self._lock:
            self._open_state()
            gone = _index_after(self._log, upto)
            if gone:
                self._pruned = self._log[gone - 1].sequence
                for effect in self._log[:gone]:
                    self._tokens.pop(effect.token or "", None)
                del self._log[:gone]

    @override
    def purge(
        self, collection: str, keys: Iterable[str], *, tombstones: bool = True
    ) -> bool:
        with self._lock:
            plan = Plan(self._open_state())
            name, gone = self.schema[collection].name, frozenset(keys)
            plan.forget(name, gone, tombstones=tombstones)
            self._install(plan)
            self._log = [_without(entry, name, gone) for entry in self._log]
            self._tokens |= {e.token: e for e in self._log if e.token is not None}
            return True

    @override
    def find_commit(self, token: str) -> Change | None:
        with self._lock:
            state = self._open_state()
            effect = self._tokens.get(token)
        return None if effect is None else state.change_of(effect)

    @override
    def pending(self, after: int) -> Pending:
        with self._lock:
            state = self._open_state()
            if after < self._pruned:
                raise ChangesExpired(store=state.name, after=after, oldest=self._pruned)
            index = _index_after(self._log, after)
            oldest = self._log[index].at if index < len(self._log) else None
            return Pending(len(self._log) - index, oldest)

    @override
    def head(self) -> int:
        with self._lock:
            return self._open_state().sequence

    @override
    def meta(self, name: str) -> JSON:
        with self._lock:
            return deepcopy(self._open_state().meta.get(name))

    @override
    def compare_and_set_meta(
        self,
        name: str,
        expected: JSON,
        value: JSON,
        *,
        given: Mapping[str, JSON] | None = None,
    ) -> bool:
        with self._lock:
            plan = Plan(self._open_state())
            done = plan.set_meta(name, expected, deepcopy(value), given)
            self._install(plan)
            return done

    # -- recovery -------------------------------------------------------------------------

    @override
    def snapshot(self) -> AbstractContextManager[SnapshotReader]:
        identity = self.identity()
        with self._lock:
            state = self._open_state()
            point = LogPoint(
                identity=identity, epoch=state.role.epoch, sequence=state.sequence
            )
            contents, meta = contents_of(state), deepcopy(state.meta)
            at = datetime.now(UTC)
        return nullcontext(ContentsReader(self.schema, contents, point, at, meta))

    @override
    def load_snapshot(
        self, rows: Iterable[tuple[str, StoredRow]], *, progress: Progress | None = None
    ) -> int:
        with self._lock:
            require_empty(self._open_state())
        contents = decoded_contents(self.schema, rows, progress)
        loaded = [
            ChangedRow(name, key, version, body)
            for name, (there, tombstones) in contents.items()
            for key, (version, body) in (
                *there.items(),
                *((key, (version, None)) for key, version in tombstones.items()),
            )
        ]
        with self._lock:
            require_empty(self._open_state())
            self._state.install(LogRecord(rows=tuple(loaded)))
        return len(loaded)

    @override
    def load_changes(self, changes: Iterable[StoredChange]) -> int:
        with self._lock:
            require_no_role(self._open_state())
        newest = NewestRows(self.schema, changes)
        with self._lock:
            state = self._open_state()
            require_no_role(state)
            state.install(LogRecord(rows=tuple(newest.newer_than(state))))
        return newest.entries

    @override
    def reserve_numbers(self, above: int) -> None:
        with self._lock:
            state = self._open_state()
            state.sequence = max(state.sequence, above)

    @override
    def close(self) -> None:
        with self._lock:
            self._closed = True


def _without(entry: LogRecord, collection: str, keys: frozenset[str]) -> LogRecord:
    """Return an entry of the log without the records of some keys."""
    rows = tuple(
        r for r in entry.rows if r.collection != collection or r.key not in keys
    )
    return entry if len(rows) == len(entry.rows) else replace(entry, rows=rows)


def _index_after(log: list[LogRecord], sequence: int) -> int:
    """Return the index of the first entry after a sequence."""
    return bisect_right(log, sequence, key=lambda effect: effect.sequence)
