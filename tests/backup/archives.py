"""Archives in memory: manifests and entries as a repository would have them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import msgspec

from pend_storage._model.snapshots import StoredChange, StoredRecord
from pend_storage.backup._manifest import (
    BackupManifest,
    Part,
    Point,
    SegmentManifest,
)
from pend_storage.backup._reachable import Archive

BEGIN = datetime(2026, 1, 31, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """A time of the test's history."""
    return BEGIN + timedelta(seconds=seconds)


def a_change(
    sequence: int, seconds: float, *records: StoredRecord, epoch: int = 1
) -> StoredChange:
    return StoredChange(sequence=sequence, epoch=epoch, at=at(seconds), records=records)


@dataclass
class History:
    """Log of a store, cut into segments and snapshots."""

    identity: str = "a" * 32
    epoch: int = 1
    backups: list[BackupManifest] = field(default_factory=list)
    segments: list[SegmentManifest] = field(default_factory=list)
    entries: dict[str, list[StoredChange]] = field(default_factory=dict)

    def back_up(
        self,
        sequence: int,
        seconds: float,
        *,
        environment: str = "production",
        kind: str = "snapshot",
        marks: dict[str, int] | None = None,
    ) -> BackupManifest:
        when = at(seconds)
        made = BackupManifest(
            id=f"{when:%Y%m%dT%H%M%SZ}-{kind}-{len(self.backups):06x}",
            kind=kind,  # type: ignore[arg-type]
            environment=environment,
            point=self._point(sequence, seconds),
            started_at=when.isoformat(),
            finished_at=when.isoformat(),
            library="1",
            schema_fingerprint="f",
            parts=(),
            marks=marks or {},
        )
        self.backups.append(made)
        return made

    def archive(
        self,
        changes: Sequence[StoredChange],
        *,
        after: int,
        upto: int,
        seconds: float,
        previous: SegmentManifest | None = None,
    ) -> SegmentManifest:
        number = len(self.segments)
        made = SegmentManifest(
            id=f"{self.epoch:010d}-{after:020d}-{number}",
            identity=self.identity,
            epoch=self.epoch,
            after=after,
            upto=upto,
            upto_at=at(seconds).isoformat(),
            first_at=changes[0].at.isoformat() if changes else None,
            last_at=changes[-1].at.isoformat() if changes else None,
            archived_at=at(seconds).isoformat(),
            entries=len(changes),
            part=Part(
                name=f"log/{number}",
                size=0,
                sha256="",
                content_size=0,
                content_sha256="",
            ),
            previous=None if previous is None else previous.digest,
            digest=hashlib.sha256(str(number).encode()).hexdigest(),
        )
        self.segments.append(made)
        self.entries[made.id] = list(changes)
        return made

    def _found(self, name: str) -> BackupManifest:
        return next(b for b in self.backups if name in b.id)

    def _point(self, sequence: int, seconds: float) -> Point:
        return Point(
            identity=self.identity,
            epoch=self.epoch,
            sequence=sequence,
            at=at(seconds).isoformat(),
        )

    def archived(self, **options: object) -> Archive:
        """What the repository has."""
        settings = {"environment": "production", **options}
        return Archive(
            backups=self.backups,
            segments=self.segments,
            find=self._found,
            entries=lambda segment: self.entries[segment.id],
            **settings,  # type: ignore[arg-type]
        )

    def without(self, segment: SegmentManifest) -> History:
        """The same, with a segment lost."""
        kept = [s for s in self.segments if s.id != segment.id]
        return History(self.identity, self.epoch, self.backups, kept, self.entries)


def renamed(manifest: BackupManifest, name: str) -> BackupManifest:
    return msgspec.structs.replace(manifest, id=name)
