"""Counts of a backfill while it runs; the report is re-exported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from pend_storage.reports import BackfillReport, FileTally, Tally

__all__ = ["BackfillReport", "Counts", "FileTally", "Tally"]


@dataclass(slots=True)
class _Numbers:
    rows: int = 0
    written: int = 0
    deleted: int = 0


@dataclass(slots=True)
class Counts:
    """Counters of a running backfill."""

    collections: dict[str, _Numbers] = field(default_factory=dict)
    files: dict[str, _Numbers] = field(default_factory=dict)
    quarantined: dict[str, int] = field(default_factory=dict)

    def add(self, collection: str, file: str | None, rows: int, written: int) -> None:
        """Count records of a collection, written or unchanged.

        Args:
            collection: name of the collection.
            file: the legacy file that they belong to; None for none.
            rows: number of records.
            written: how many of them were newer than the target's.
        """
        places = [self.collections.setdefault(collection, _Numbers())]
        if file is not None:
            places.append(self.files.setdefault(file, _Numbers()))
        for numbers in places:
            numbers.rows += rows
            numbers.written += written

    def add_deleted(self, collection: str, deleted: int) -> None:
        """Count tombstones that were newer than the target's rows."""
        self.collections.setdefault(collection, _Numbers()).deleted += deleted

    def add_quarantined(self, file: str) -> None:
        """Count one quarantined record of a legacy file."""
        self.quarantined[file] = self.quarantined.get(file, 0) + 1

    def report(
        self,
        declared: frozenset[str],
        *,
        seconds: float,
        resumed: bool,
        throttled: Mapping[str, float],
    ) -> BackfillReport:
        """Make the report.

        Args:
            declared: names of the collections without those of the system.
            seconds: duration of the backfill.
            resumed: it continued one that was interrupted.
            throttled: seconds of throttling by reason.
        """
        tallies = {
            name: Tally(
                rows=n.rows,
                written=n.written,
                unchanged=n.rows - n.written,
                deleted=n.deleted,
            )
            for name, n in self.collections.items()
        }
        own = [tally for name, tally in tallies.items() if name in declared]
        return BackfillReport(
            rows=sum(t.rows for t in own),
            written=sum(t.written for t in own),
            unchanged=sum(t.unchanged for t in own),
            deleted=sum(t.deleted for t in own),
            quarantined=sum(self.quarantined.values()),
            seconds=seconds,
            resumed=resumed,
            collections=MappingProxyType(tallies),
            files=MappingProxyType(self._files()),
            throttled=throttled,
        )

    def _files(self) -> dict[str, FileTally]:
        nothing = _Numbers()
        return {
            name: FileTally(
                written=(n := self.files.get(name, nothing)).written,
                unchanged=n.rows - n.written,
                quarantined=self.quarantined.get(name, 0),
            )
            for name in sorted({*self.files, *self.quarantined})
        }
