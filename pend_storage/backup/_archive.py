"""Archive: copies the change log to segments, and follows it through every switch."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, NamedTuple

from pend_storage._model.diff import equal
from pend_storage._model.records import JSON
from pend_storage._model.snapshots import ARCHIVE_META, StoredChange
from pend_storage.backup._catalog import Catalog
from pend_storage.backup._log_reading import (
    Beginning,
    Broken,
    LogEntry,
    LogReading,
    Source,
    entries_after,
    first_entries,
    present_epoch,
    source_of,
)
from pend_storage.backup._manifest import Point, SegmentManifest
from pend_storage.backup._repository import Lease, Repository
from pend_storage.backup._segments import LOG, SegmentEnd, id_after, write_segment
from pend_storage.backup._streams import Keys
from pend_storage.backup._window import chains, end_of
from pend_storage.errors import ConfigError, LockTimeout, StoreUnavailable
from pend_storage.events import Event, Hook, guarded, log_event
from pend_storage.store import Store

__all__ = ["LEASE", "Archived", "Archiver"]

LEASE: Final = "archive"
_ENTRIES: Final = 10_000
"""Entries of a segment at most."""
_BYTES: Final = 16 << 20
"""Bytes of records of a segment at most, but for its last entry."""
_BEFORE_ALL: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST: Final = "it is the first segment of this repository"


@dataclass(frozen=True, slots=True, kw_only=True)
class Archived:
    """Result of one pass over the log."""

    segments: int
    entries: int
    end: Point
    """Up to here the log is archived."""
    gap: str | None
    """Why the pass has begun a new chain after others; None: it has not."""


class _Cut(NamedTuple):
    """Position and time of a snapshot: no later commit is older."""

    epoch: int
    sequence: int
    at: datetime


class _Begun(NamedTuple):
    """Place of a new chain."""

    epoch: int
    after: int
    why: str


@dataclass(slots=True)
class _Pass:
    """Pass over the log, under way."""

    source: Source
    cut: _Cut | None
    stop: Callable[[], bool]
    segments: int = 0
    entries: int = 0
    gaps: list[_Begun] = field(default_factory=list)


class _Batch:
    """Entries of one store and epoch, up to the size of a segment."""

    def __init__(self, first: LogEntry) -> None:
        self.identity, self.epoch = first.identity, first.epoch
        self.changes: list[StoredChange] = [first.change]
        self.bytes = _size(first.change)

    def takes(self, entry: LogEntry) -> bool:
        """Add an entry; False where it belongs to the next segment."""
        if (entry.identity, entry.epoch) != (self.identity, self.epoch):
            return False
        if len(self.changes) >= _ENTRIES or self.bytes >= _BYTES:
            return False
        self.changes.append(entry.change)
        self.bytes += _size(entry.change)
        return True


def _size(change: StoredChange) -> int:
    return sum(len(r.key) + len(r.body or b"") for r in change.records)


def _batches(entries: Iterator[LogEntry]) -> Iterator[_Batch]:
    batch: _Batch | None = None
    for entry in entries:
        if batch is None:
            batch = _Batch(entry)
        elif not batch.takes(entry):
            yield batch
            batch = _Batch(entry)
    if batch is not None:
        yield batch


class Archiver:
    """Archiver of one environment. The caller holds the lease :data:`LEASE`."""

    def __init__(
        self,
        stores: Sequence[Store],
        repository: Repository,
        keys: Keys,
        lease: Lease,
        *,
        hook: Hook = log_event,
    ) -> None:
        """Find the end of the archive, and remove what an interrupted run has left.

        Args:
            stores: of the environment, one or two.
            repository: where to write.
            keys: to encrypt to.
            lease: that is held.
            hook: gets the event ``archive-gap``.

        Raises:
            ConfigError: a newer version has written the repository, or a permission is
                missing.
            StoreUnavailable: a store or the repository cannot be reached.
        """
        self._stores = tuple(stores)
        self._repository = repository
        self._keys = keys
        self._lease = lease
        self._hook = guarded(hook)
        self._cut_at = float("-inf")
        self._begun = _Begun(0, 0, _FIRST)
        catalog = Catalog(repository)
        self._any = bool(catalog.segments())
        self._end = self._last_segment(catalog)
        self._remove_orphans(catalog)

    def _last_segment(self, catalog: Catalog) -> SegmentManifest | None:
        """Return the end of the chain to continue: of those of these stores, the newest."""
        ends = [chain.last for chain in chains(catalog.segments())]
        identities = set()
        for store in self._stores:
            try:
                identities.add(store.identity())
            except StoreUnavailable:
                continue
        own = [end for end in ends if end.identity in identities]
        return max(own, key=lambda s: s.archived_at, default=None)

    def _remove_orphans(self, catalog: Catalog) -> None:
        damaged = {damage.name for damage in catalog.damaged()}
        named = {segment.part.name for segment in catalog.segments()}
        found = [f.name for f in self._repository.list(f"{LOG}/")]
        # Where a manifest is damaged, nothing shows which object it names.
        if damaged & set(found):
            return
        for name in found:
            if not name.endswith(".json") and name not in named:
                self._lease.require()
                self._repository.delete(name)

    # -- one pass ------------------------------------------------------------------------

    def run(
        self, *, stop: Callable[[], bool] = lambda: False, every: float = 0.0
    ) -> Archived:
        """Archive the log up to its present end.

        Args:
            stop: asked after each segment; True ends the pass.
            every: seconds for which an idle store is not asked again for the time up to
                which it has no commit: writers wait for that, a few milliseconds.

        Raises:
            ConfigError: a permission is missing.
            LockTimeout: another archiver has the lease by now, or has continued the log.
            StoreUnavailable: a store or the repository cannot be reached.
        """
        source = source_of(self._stores)
        cut = self._cut(source, every)
        work = _Pass(source, cut, stop)
        reading = self._begin(work)
        if not self._copy(reading, work):
            begin = present_epoch(source)
            self._begin_chain(begin, str(reading.broken), work)
            self._copy(begin.reading, work)
        assert self._end is not None  # noqa: S101 - a chain begins with a segment
        self._record(source)
        for gap in work.gaps:
            self._report(gap)
        return Archived(
            segments=work.segments,
            entries=work.entries,
            end=end_of(self._end),
            gap="; ".join(gap.why for gap in work.gaps) or None,
        )

    def _begin(self, work: _Pass) -> LogReading:
        """Return what is to be archived, after the end or in a new chain."""
        why = "it is the first segment of this store" if self._any else _FIRST
        if self._end is not None:
            try:
                return entries_after(work.source, self._end)
            except Broken as broken:
                why = str(broken)
        begin = first_entries(work.source)
        self._begin_chain(begin, why, work)
        return begin.reading

    def _begin_chain(self, begin: Beginning, why: str, work: _Pass) -> None:
        self._end, self._begun = None, _Begun(begin.epoch, begin.after, why)
        if self._any:
            work.gaps.append(self._begun)
        self._any = True

    def _copy(self, reading: LogReading, work: _Pass) -> bool:
        """Copy what is read to segments; returns False where it does not go on."""
        batches = _batches(iter(reading))
        batch = next(batches, None)
        while batch is not None:
            following = next(batches, None)
            is_last = following is None and reading.broken is None
            self._append(batch, work.cut if is_last else None)
            work.segments += 1
            work.entries += len(batch.changes)
            if work.stop():
                return True
            batch = following
        if reading.broken is not None:
            return False
        work.segments += self._cover(work.source, work.cut)
        return True

    def _cut(self, source: Source, every: float) -> _Cut | None:
        """Return a position with a time before which all commits are known."""
        if time.monotonic() - self._cut_at < every:
            return None
        try:
            with source.store.snapshot() as reader:
                point, at = reader.point, reader.at
        except (ConfigError, LockTimeout):
            return None  # of a busy or a restricted store, entries alone have times
        self._cut_at = time.monotonic()
        if point.identity != source.identity or point.epoch != source.epoch:
            return None
        return _Cut(point.epoch, point.sequence, at)

    def _append(self, batch: _Batch, cut: _Cut | None) -> None:
        last = batch.changes[-1]
        upto, at = last.sequence, last.at
        if cut is not None and cut.epoch == batch.epoch and cut.sequence >= upto:
            upto, at = cut.sequence, max(cut.at, at)
        self._write(batch.identity, batch.epoch, batch.changes, upto, at)

    def _cover(self, source: Source, cut: _Cut | None) -> int:
        """Write a segment without entries, where the archive is known to be complete longer."""
        end = self._end
        if end is None:
            at = _BEFORE_ALL if cut is None else cut.at
            after = self._begun.after
            upto = after if cut is None else max(after, cut.sequence)
            self._write(source.identity, source.epoch, [], upto, at)
            return 1
        if cut is None or (cut.epoch, cut.sequence) < (end.epoch, end.upto):
            return 0
        if cut.at <= datetime.fromisoformat(end.upto_at):
            return 0
        self._write(source.identity, source.epoch, [], cut.sequence, cut.at)
        return 1

    def _write(
        self,
        identity: str,
        epoch: int,
        changes: Sequence[StoredChange],
        upto: int,
        at: datetime,
    ) -> None:
        before = self._end
        end = SegmentEnd(
            identity=identity,
            epoch=epoch,
            after=self._begun.after if before is None else before.upto,
            upto=max(upto, 0 if before is None else before.upto),
            upto_at=at,
            previous=before,
            schema=self._stores[0].schema.fingerprint(),
            begun=self._begun.why if before is None else None,
        )
        self._lease.require()
        self._end = self._published(end, changes)

    def _published(
        self, end: SegmentEnd, changes: Sequence[StoredChange]
    ) -> SegmentManifest:
        def write(*, beside: bool) -> SegmentManifest:
            return write_segment(
                self._repository,
                self._keys,
                end,
                changes,
                now=datetime.now(UTC),
                beside=beside,
            )

        try:
            return write(beside=False)
        except FileExistsError:
            taken = id_after(end.epoch, end.after, end.previous)
            if any(s.id == taken for s in Catalog(self._repository).segments()):
                raise LockTimeout(
                    path="the archive", seconds=0.0, holder="another archiver"
                ) from None
        return write(beside=True)  # what has the name is damaged

    # -- afterwards ----------------------------------------------------------------------

    def _record(self, source: Source) -> None:
        """Record in the stores up to where their logs are archived."""
        end = self._end
        assert end is not None  # noqa: S101 - see run
        value: JSON = {
            "identity": end.identity,
            "epoch": end.epoch,
            "sequence": end.upto,
            "at": end.archived_at,
            "repository": self._repository.url,
            "segment": end.id,
        }
        for store in self._stores:
            try:
                _set_meta(store, value)
            except StoreUnavailable:
                if store is source.store:
                    raise

    def _report(self, gap: _Begun) -> None:
        self._hook(
            Event(
                "archive-gap",
                f"the archive of the change log begins anew after {gap.after}, epoch "
                f"{gap.epoch}: {gap.why}. What was committed before, and is not archived, "
                "cannot be restored; make a backup now: pend-storage backup create",
                logging.WARNING,
                {"after": gap.after, "epoch": gap.epoch, "reason": gap.why},
            )
        )


def _set_meta(store: Store, value: JSON) -> None:
    while True:
        found = store.meta(ARCHIVE_META)
        if equal(found, value) or store.compare_and_set_meta(
            ARCHIVE_META, found, value
        ):
            return
