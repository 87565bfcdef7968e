"""Reachable positions: what of the past a repository leads to without a gap."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import NamedTuple

from typing_extensions import override

from pend_storage._model.snapshots import StoredChange
from pend_storage._shown import moment
from pend_storage.backup._catalog import Catalog
from pend_storage.backup._manifest import BackupManifest, Point, SegmentManifest
from pend_storage.backup._segments import read_segment
from pend_storage.backup._streams import Keys
from pend_storage.backup._window import windows

__all__ = ["Archive", "Place", "Reach", "archive_of"]


class Place(NamedTuple):
    """Position with its time."""

    identity: str
    epoch: int
    sequence: int
    at: datetime

    @override
    def __str__(self) -> str:
        """Return it as messages show it."""
        return f"sequence {self.sequence} at {moment(self.at)}"

    @classmethod
    def of(cls, point: Point) -> Place:
        """Return the place of a point."""
        at = datetime.fromisoformat(point.at)
        return cls(point.identity, point.epoch, point.sequence, at)


@dataclass(frozen=True, slots=True)
class Reach:
    """Reach of a backup: all positions from its own to the end of its segments."""

    backup: BackupManifest
    segments: tuple[SegmentManifest, ...]
    begin: Place
    end: Place
    gap: str | None = None
    """Gap of the archive behind its end, in a sentence; None: nothing is archived there."""


@dataclass(frozen=True, kw_only=True)
class Archive:
    """Archive of one environment: its backups, and the segments of its log."""

    backups: Sequence[BackupManifest]
    segments: Sequence[SegmentManifest]
    find: Callable[[str], BackupManifest]
    """Finds a backup by its ID, or a part of it; raises ConfigError for an unknown one."""
    entries: Callable[[SegmentManifest], Iterable[StoredChange]]
    """Reads the entries of one segment, verified, in their order."""
    marks: Mapping[str, int] = field(default_factory=dict)
    """Named marks of the live store; those of the backups are known by their manifests."""
    environment: str | None = None
    """Backups of another one are refused; None: any."""
    is_damaged: Callable[[BackupManifest], bool] = lambda _backup: False
    """Whether the last verification of a backup has found damage."""
    beyond: Callable[[int], int | None] = lambda _sequence: None
    """Counts the commits of the live store above a sequence number; None: it is not known."""

    @cached_property
    def reaches(self) -> list[Reach]:
        """Reach of each snapshot of the environment, in the order of their positions."""
        own = [
            backup
            for backup in self.backups
            if backup.kind == "snapshot"
            and self.environment in {None, backup.environment}
        ]
        made = [
            Reach(w.backup, w.segments, Place.of(w.earliest), Place.of(w.latest), w.gap)
            for w in windows(own, self.segments)
        ]
        return sorted(made, key=lambda r: (r.begin.epoch, r.begin.sequence, r.begin.at))


def archive_of(
    catalog: Catalog,
    keys: Keys,
    *,
    environment: str | None = None,
    marks: Mapping[str, int] | None = None,
    beyond: Callable[[int], int | None] = lambda _sequence: None,
) -> Archive:
    """Return the archive of one environment in a catalog.

    Args:
        catalog: of the repository.
        keys: to read segments with.
        environment: as of :class:`Archive`.
        marks: as of :class:`Archive`.
        beyond: as of :class:`Archive`.

    Raises:
        StoreUnavailable: the repository cannot be reached.
    """

    def entries(segment: SegmentManifest) -> Iterator[StoredChange]:
        return read_segment(catalog.repository, segment, keys)

    def is_damaged(backup: BackupManifest) -> bool:
        found = [f for f in catalog.facts(backup.id) if f.kind == "verified"]
        return bool(found) and not max(found, key=lambda f: f.at).ok

    return Archive(
        backups=catalog.backups(),
        segments=catalog.segments(),
        find=catalog.backup,
        entries=entries,
        marks=marks or {},
        environment=environment,
        is_damaged=is_damaged,
        beyond=beyond,
    )
