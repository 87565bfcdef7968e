"""What a backfill did, by collection and by legacy file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

__all__ = ["BackfillReport", "Counts", "FileTally", "Tally"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What happened to the records of one collection."""

    rows: int = 0
    """Records seen; ``written + unchanged``."""
    written: int = 0
    unchanged: int = 0
    """Already there, at this version or a newer one."""
    deleted: int = 0
    """Records deleted in the target because they are deleted in the source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileTally:
    """What happened to the records of one legacy file."""

    written: int = 0
    unchanged: int = 0
    quarantined: int = 0

    @property
    def read(self) -> int:
        """Records of the file: each was written, unchanged or quarantined."""
        return self.written + self.unchanged + self.quarantined


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillReport:
    """The outcome of a backfill."""

    rows: int
    """Records of the schema's own collections; ``written + unchanged``."""
    written: int
    unchanged: int
    deleted: int
    quarantined: int
    """Legacy records in quarantine, copied as such."""
    seconds: float
    resumed: bool
    """Whether it continued one that was interrupted. What that one had written counts
    as unchanged here."""
    collections: Mapping[str, Tally]
    """By name; the system collections are among them."""
    files: Mapping[str, FileTally]
    """By legacy file; records of no file are not among them."""
    throttled: Mapping[str, float] = field(default_factory=dict)
    """Seconds of them spent waiting on purpose, by reason: ``rate`` (as asked for),
    ``lag`` (the secondary does not keep up), ``slow-target``."""


@dataclass(slots=True)
class _Numbers:
    rows: int = 0
    written: int = 0
    deleted: int = 0


@dataclass(slots=True)
class Counts:
    """The numbers while they grow."""

    collections: dict[str, _Numbers] = field(default_factory=dict)
    files: dict[str, _Numbers] = field(default_factory=dict)
    quarantined: dict[str, int] = field(default_factory=dict)

    def add(self, collection: str, file: str | None, rows: int, written: int) -> None:
        """Count records that went, or did not have to go, into the target."""
        places = [self.collections.setdefault(collection, _Numbers())]
        if file is not None:
            places.append(self.files.setdefault(file, _Numbers()))
        for numbers in places:
            numbers.rows += rows
            numbers.written += written

    def add_deleted(self, collection: str, deleted: int) -> None:
        """Count tombstones that the target had not got."""
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
        """The report; ``declared`` are the collections that are not the system's."""
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
