"""Run a backfill: one thread reads ahead, the caller's thread writes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final

from pend_storage import crashpoints
from pend_storage._layouts.layout import Layout
from pend_storage._layouts.unread_files import as_stored
from pend_storage._model.records import JSON, Advance, ChangedRecord, Row
from pend_storage.backfill._collection_order import copy_order
from pend_storage.backfill._cursor import BACKFILL_META, Cursor
from pend_storage.backfill._pacing import Hold, Pacer
from pend_storage.backfill._piecewise_apply import apply_rows
from pend_storage.backfill.report import BackfillReport, Counts
from pend_storage.errors import StalePosition
from pend_storage.events import Hook, Progress, guarded, log_event
from pend_storage.query import And
from pend_storage.schema import QUARANTINE, CollectionSpec
from pend_storage.store import Store

__all__ = ["BACKFILL_META", "backfill"]

_CHUNK_WRITTEN: Final = crashpoints.declare(
    "backfill.chunk", "a chunk and its cursor are durable in the target"
)
_COMPLETE: Final = crashpoints.declare(
    "backfill.complete", "every row is durable, and so is that the backfill is complete"
)


def backfill(
    source: Store,
    target: Store,
    *,
    progress: Progress | None = None,
    rate: float | None = None,
    epoch: int | None = None,
    hold: Hold | None = None,
    hook: Hook = log_event,
) -> BackfillReport:
    """Copy every collection of a store into another one that follows it.

    The target applies a row only if it is newer than its own, tombstones included, so
    repeating is harmless. The cursor is committed together with the rows: after a crash
    the next call resumes there, and scans what was copied before only for rows that were
    written since.

    A cursor that another backfill has moved, or that belongs to another server behind the
    target's address, is read again and resumed.

    Args:
        source: a store with the same schema as the target.
        target: a store that is secondary, or stands alone.
        progress: called after every chunk; a ``PacedProgress`` receives the pace too, and
            a ``SteeringProgress`` may hold or end the backfill while it waits.
        rate: limit in records per second; None for no limit.
        epoch: as in ``Store.apply``.
        hold: called between chunks; returns a reason to wait, or None.
        hook: receives ``backfill-throttled`` when throttling begins.

    Raises:
        StaleEpoch: the target does not follow (at that epoch).
        UniqueViolation: a record that only the target has holds a unique value.
        ReferenceViolation: the same for a reference, or the source has a dangling one.
        StoreUnavailable: one of the two cannot be reached; call again later.
    """
    started = time.monotonic()
    pacer = Pacer(rate, hold, guarded(hook))
    pacer.steer = getattr(progress, "steer", None)
    pacer.waits = getattr(progress, "waits", None)
    run = _begin(source, target, epoch=epoch, pacer=pacer)
    resumed = run.is_resumed
    while not run.copy(progress):
        # Another backfill moved the cursor, or the target is another server by now.
        following = _begin(source, target, epoch=epoch, pacer=pacer)
        resumed = True
        if following.was_complete:
            break
        run = following
    return run.counts.report(
        frozenset(spec.name for spec in source.schema.declared),
        seconds=time.monotonic() - started,
        resumed=resumed,
        throttled=pacer.throttled,
    )


def _begin(source: Store, target: Store, *, epoch: int | None, pacer: Pacer) -> _Run:
    """Resume at the target's cursor, or start."""
    stored = target.meta(BACKFILL_META)
    known, fresh = Cursor.parse(stored), Cursor.begin(source, target)
    was_complete = False
    if known is None or not fresh.continues(known):
        known = fresh
    elif known.complete:
        known, was_complete = fresh, True
    run = _Run(source, target, known, stored, epoch=epoch, pacer=pacer)
    run.was_complete = was_complete
    return run


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Rows of one collection in key order, and the cursor after them."""

    spec: CollectionSpec
    rows: Sequence[Row]
    """Rows to apply."""
    skipped: Sequence[Row]
    """Rows that were applied before the backfill was interrupted."""
    cursor: Cursor
    """The cursor once the rows are applied."""


class _Run:
    """Run of a backfill: one pass over the source, from a cursor to the end."""

    def __init__(
        self,
        source: Store,
        target: Store,
        cursor: Cursor,
        stored: JSON,
        *,
        epoch: int | None,
        pacer: Pacer,
    ) -> None:
        self.counts = Counts()
        self.is_resumed = bool(cursor.collection)
        self.was_complete = False
        """Whether an earlier backfill had reached the end."""
        self._source, self._target = source, target
        self._cursor = cursor
        self._stored = stored
        """The cursor as the target holds it."""
        self._epoch = epoch
        self._pacer = pacer
        layouts = source.layouts or target.layouts
        self._owners = {
            spec.name: _owner_finder(spec, layouts) for spec in source.schema
        }

    def copy(self, progress: Progress | None) -> bool:
        """Copy everything; return False where another process has moved the cursor."""
        try:
            self._copy(progress)
        except StalePosition:
            return False
        return True

    def _copy(self, progress: Progress | None) -> None:
        """Write chunks while a second thread reads the next one."""
        total = self._total() if progress is not None else 0
        done = 0
        chunks = self._chunks()
        with ThreadPoolExecutor(1, "pend-backfill-reader") as reader:
            upcoming = reader.submit(next, chunks, None)
            while (chunk := upcoming.result()) is not None:
                upcoming = reader.submit(next, chunks, None)
                self._write(chunk)
                done += len(chunk.rows) + len(chunk.skipped)
                if progress is not None:
                    self._pacer.report(progress, done, total)
        end = replace(self._cursor, complete=True)
        self._target.apply((), epoch=self._epoch, mark=self._advance(end))
        _COMPLETE()

    def _advance(self, cursor: Cursor) -> Advance:
        """Return the compare-and-set that moves the target's cursor."""
        return Advance(BACKFILL_META, self._stored, cursor.to_meta())

    def _total(self) -> int:
        names = [spec.name for spec in self._source.schema]
        with as_stored():
            return sum(self._source.count(name, And(())) for name in names)

    # -- reading (in the second thread) ----------------------------------------------

    def _chunks(self) -> Iterator[_Chunk]:
        start = cursor = self._cursor
        reached = not start.collection
        for spec in copy_order(self._source.schema):
            under_way = spec.name == start.collection
            reached = reached or under_way
            # Copied before the interruption are the keys up to this one (None: all).
            upto = None if not reached else start.after if under_way else ""
            for rows in self._pages(spec.name):
                news, skipped = _split(rows, upto, start.head)
                if news and not skipped:  # a cursor that moves back is harmless
                    cursor = replace(cursor, collection=spec.name, after=rows[-1].key)
                yield _Chunk(spec, news, skipped, cursor)

    def _pages(self, collection: str) -> Iterator[list[Row]]:
        rows: list[Row] = []
        for row in self._source.scan(collection, deleted=True):
            rows.append(row)
            if len(rows) >= self._pacer.size:
                yield rows
                rows = []
        if rows:
            yield rows

    # -- writing ---------------------------------------------------------------------

    def _write(self, chunk: _Chunk) -> None:
        started = time.monotonic()
        name = chunk.spec.name
        self._count_skipped(chunk)
        groups = self._groups(name, chunk.rows)
        last = len(groups) - 1
        # Every call commits its rows with a cursor of a new step, on top of the stored one:
        # a call that a failed-over server has lost is noticed, and so is a second backfill.
        for place, (file, records) in enumerate(groups):
            moved = chunk.cursor if place == last else self._cursor
            moved = replace(moved, step=self._cursor.step + 1)
            mark = self._advance(moved)
            written = apply_rows(
                self._source, self._target, records, epoch=self._epoch, mark=mark
            )
            self._cursor, self._stored = moved, mark.value
            if records[0].record is None:
                self.counts.add_deleted(name, written)
            else:
                self.counts.add(name, file, len(records), written)
        self._count_quarantined(chunk)
        _CHUNK_WRITTEN()
        self._pacer.record_chunk(len(chunk.rows), time.monotonic() - started)

    def _groups(
        self, collection: str, rows: Sequence[Row]
    ) -> list[tuple[str | None, list[ChangedRecord]]]:
        """Group rows by legacy file for the report; tombstones come first, apart."""
        owner = self._owners[collection]
        deleted: list[ChangedRecord] = []
        groups: dict[str | None, list[ChangedRecord]] = {}
        for key, version, record in rows:
            item = ChangedRecord(collection, key, version, record)
            if record is None:
                deleted.append(item)
            else:
                groups.setdefault(owner(record), []).append(item)
        return [*([(None, deleted)] if deleted else []), *groups.items()]

    def _count_skipped(self, chunk: _Chunk) -> None:
        owner = self._owners[chunk.spec.name]
        for row in chunk.skipped:
            if row.record is not None:
                self.counts.add(chunk.spec.name, owner(row.record), 1, 0)

    def _count_quarantined(self, chunk: _Chunk) -> None:
        if chunk.spec.name != QUARANTINE:
            return
        for row in (*chunk.rows, *chunk.skipped):
            if row.record is not None:
                self.counts.add_quarantined(row.record.file)


def _split(rows: list[Row], upto: str | None, head: int) -> tuple[list[Row], list[Row]]:
    """Split rows into those to apply and those applied before the interruption."""
    if upto is not None and rows[0].key > upto:
        return rows, []
    news: list[Row] = []
    skipped: list[Row] = []
    for row in rows:
        copied = (upto is None or row.key <= upto) and row.version <= head
        (skipped if copied else news).append(row)
    return news, skipped


def _owner_finder(
    spec: CollectionSpec, layouts: Sequence[Layout]
) -> Callable[[Any], str | None]:
    """Return a function from a record to its legacy file, or None."""
    mine = [layout for layout in layouts if layout.collection == spec.name]

    def owner(record: Any) -> str | None:
        return next((layout.file for layout in mine if layout.owns(record)), None)

    return owner
