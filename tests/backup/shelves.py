"""Repositories with invented backups: real objects, and manifests that name them."""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pend_storage.backup._catalog import MANIFEST, Catalog, folder_of
from pend_storage.backup._manifest import (
    BackupManifest,
    Part,
    Point,
    SegmentManifest,
    packed,
)
from pend_storage.backup._opening import open_repository
from pend_storage.backup._repository import Repository
from pend_storage.backup._segments import manifest_name

__all__ = ["DAY", "HOUR", "Shelf"]

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


class Shelf:
    """Repository in a folder, that is filled with backups of any age."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = datetime.now(UTC)
        self.last: SegmentManifest | None = None

    @property
    def repository(self) -> Repository:
        return open_repository(str(self.folder), create=True)

    @property
    def catalog(self) -> Catalog:
        return Catalog(self.repository)

    @property
    def ids(self) -> list[str]:
        return [b.id for b in self.catalog.backups()]

    @property
    def objects(self) -> list[str]:
        return [o.name for o in self.repository.list("backups/")]

    def part(self, name: str, content: bytes = b"content") -> Part:
        self.repository.put(name, [content])
        digest = hashlib.sha256(content).hexdigest()
        return Part(
            name=name,
            size=len(content),
            sha256=digest,
            content_size=len(content),
            content_sha256=digest,
        )

    def backup(
        self,
        name: str,
        age: timedelta,
        sequence: int,
        *,
        environment: str = "production",
        parent: str | None = None,
        kept: bool = False,
        verified: bool = True,
        identity: str = "x",
        parts: int = 2,
    ) -> BackupManifest:
        at = (self.now - age).isoformat()
        made = tuple(
            self.part(f"{folder_of(name)}/rows-{n:04}.zst") for n in range(parts)
        )
        manifest, text = packed(
            BackupManifest(
                id=name,
                kind="snapshot" if parent is None else "incremental",
                environment=environment,
                point=Point(identity=identity, epoch=1, sequence=sequence, at=at),
                started_at=at,
                finished_at=at,
                verified_at=at if verified else None,
                library="1",
                schema_fingerprint="f",
                parts=made,
                parent=parent,
                kept=kept,
            )
        )
        self.repository.put(f"{folder_of(name)}/{MANIFEST}", [text], create_only=True)
        return manifest

    def segment(self, after: int, upto: int, age: timedelta) -> SegmentManifest:
        at = (self.now - age).isoformat()
        name = f"{1:010d}-{after:020d}-00000000"
        part = self.part(f"log/{name}-0000.zst")
        self.last, text = packed(
            SegmentManifest(
                id=name,
                identity="x",
                epoch=1,
                after=after,
                upto=upto,
                upto_at=at,
                first_at=at,
                last_at=at,
                archived_at=at,
                entries=1,
                part=part,
                previous=None if self.last is None else self.last.digest,
            )
        )
        self.repository.put(manifest_name(name), [text], create_only=True)
        return self.last

    def age(self, name: str, age: timedelta) -> None:
        """Let an object be of another time."""
        when = (datetime.now(UTC) - age).timestamp()
        os.utime(self.folder / name, (when, when))
