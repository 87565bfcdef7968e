"""One backfill: a thread that reads ahead, and the caller's thread that writes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final

from pend_storage import crashpoints
from pend_storage._records import JSON, Advance, ChangedRecord, Row
from pend_storage.backfill.cursor import BACKFILL_META, Cursor
from pend_storage.backfill.obstacles import apply_rows
from pend_storage.backfill.order import copy_order
from pend_storage.backfill.pace import Hold, Pacer
from pend_storage.backfill.report import BackfillReport, Counts
from pend_storage.errors import StalePosition
from pend_storage.events import Hook, Progress, guarded, log_event
from pend_storage.layout import Layout
from pend_storage.query import And
from pend_storage.schema import QUARANTINE, CollectionSpec
from pend_storage.store import Store
from pend_storage.unread import as_stored

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

    The target takes a row only if it is newer than its own, deleted rows included, so
    repeating does no harm. How far it has come is committed together with the rows: after
    a crash the next call goes on from there, and looks through what was copied before
    only for rows that were written since.

    Where the cursor is not what was read (another backfill is at work, or another server
    stands behind the target's address), it is read again, and continued from there.

    Args:
        source: with the same schema as the target.
        target: a store that is secondary, or stands alone.
        progress: called after every chunk; a ``PacedProgress`` is told the pace too.
        rate: records per second at most.
        epoch: as in ``Store.apply``.
        hold: asked between chunks whether there is a reason to wait.
        hook: is told when waiting begins, and why.

    Raises:
        StaleEpoch: the target does not follow (at that epoch).
        UniqueViolation: the target has a record of its own that is in the way.
        ReferenceViolation: likewise, or the source refers to what it does not have.
        StoreUnavailable: one of the two cannot be reached; call again later.
    """
    started = time.monotonic()
    pacer = Pacer(rate, hold, guarded(hook))
    work = _begin(source, target, epoch=epoch, pacer=pacer)
    resumed = work.is_resumed
    while not work.copy(progress):
        # Another backfill is at work, or the target is another server by now.
        following = _begin(source, target, epoch=epoch, pacer=pacer)
        resumed = True
        if following.was_complete:
            break
        work = following
    return work.counts.report(
        frozenset(spec.name for spec in source.schema.declared),
        seconds=time.monotonic() - started,
        resumed=resumed,
        throttled=pacer.throttled,
    )


def _begin(source: Store, target: Store, *, epoch: int | None, pacer: Pacer) -> _Work:
    """Go on where the cursor of the target is, or begin."""
    stored = target.meta(BACKFILL_META)
    known, fresh = Cursor.parse(stored), Cursor.begin(source, target)
    was_complete = False
    if known is None or not fresh.continues(known):
        known = fresh
    elif known.complete:
        known, was_complete = fresh, True
    work = _Work(source, target, known, stored, epoch=epoch, pacer=pacer)
    work.was_complete = was_complete
    return work


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Some rows of one collection, in key order."""

    spec: CollectionSpec
    rows: Sequence[Row]
    """What has to be applied."""
    skipped: Sequence[Row]
    """What was applied before the backfill was interrupted."""
    cursor: Cursor
    """Where it stands once this is done."""


class _Work:
    """A backfill under way."""

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
        """Whether a backfill had come to the end before this one."""
        self._source, self._target = source, target
        self._cursor = cursor
        self._stored = stored
        """The cursor as it is in the target."""
        self._epoch = epoch
        self._pacer = pacer
        layouts = source.layouts or target.layouts
        self._owners = {
            spec.name: _owner_finder(spec, layouts) for spec in source.schema
        }

    def copy(self, progress: Progress | None) -> bool:
        """Copy everything; False where the cursor is not any more what was read."""
        try:
            self._copy(progress)
        except StalePosition:
            return False
        return True

    def _copy(self, progress: Progress | None) -> None:
        """See :meth:`copy`; a second thread prepares the next chunk meanwhile."""
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
                    self._pacer.tell(progress, done, total)
        end = replace(self._cursor, complete=True)
        self._target.apply((), epoch=self._epoch, mark=self._advance(end))
        _COMPLETE()

    def _advance(self, cursor: Cursor) -> Advance:
        """The next move of the cursor, on top of what it is."""
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
                if news and not skipped:  # perhaps back a little: that does no harm
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
        self._note_skipped(chunk)
        groups = self._groups(name, chunk.rows)
        last = len(groups) - 1
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
        self._note_quarantined(chunk)
        _CHUNK_WRITTEN()
        self._pacer.note(len(chunk.rows), time.monotonic() - started)

    def _groups(
        self, collection: str, rows: Sequence[Row]
    ) -> list[tuple[str | None, list[ChangedRecord]]]:
        """Rows by legacy file, to count them by file; deleted ones first, apart."""
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

    def _note_skipped(self, chunk: _Chunk) -> None:
        owner = self._owners[chunk.spec.name]
        for row in chunk.skipped:
            if row.record is not None:
                self.counts.add(chunk.spec.name, owner(row.record), 1, 0)

    def _note_quarantined(self, chunk: _Chunk) -> None:
        if chunk.spec.name != QUARANTINE:
            return
        for row in (*chunk.rows, *chunk.skipped):
            if row.record is not None:
                self.counts.add_quarantined(row.record.file)


def _split(rows: list[Row], upto: str | None, head: int) -> tuple[list[Row], list[Row]]:
    """Rows that must be applied, and rows that were before the interruption."""
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
    """Tells which legacy file a record of the collection belongs to, if any."""
    mine = [layout for layout in layouts if layout.collection == spec.name]

    def owner(record: Any) -> str | None:
        return next((layout.file for layout in mine if layout.owns(record)), None)

    return owner
