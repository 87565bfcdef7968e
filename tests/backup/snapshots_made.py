"""Snapshots for tests: rows of a memory store, read as a snapshot, and written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from typing_extensions import override

from pend_storage._model.snapshots import LogPoint, SnapshotReader, StoredRow
from pend_storage.backup._manifest import (
    BackupManifest,
    CollectionFacts,
    Part,
    Point,
    packed,
)
from pend_storage.backup._repository import Repository
from pend_storage.backup._snapshot_files import write_snapshot
from pend_storage.backup._streams import Keys
from pend_storage.testing.domain import SCHEMA, a_berth, a_ship, a_tally

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
POINT = LogPoint(identity="a" * 32, epoch=3, sequence=500)


class RowsReader(SnapshotReader):
    """Snapshot of rows that are given."""

    def __init__(self, rows: Mapping[str, list[StoredRow]]) -> None:
        self.point, self.at, self.meta = POINT, NOW, {}
        self._rows = rows

    @override
    def rows(self, collection: str) -> Iterator[StoredRow]:
        return iter(self._rows.get(collection, []))


def encoded(collection: str, record: Any, version: int) -> StoredRow:
    spec = SCHEMA[collection]
    return StoredRow(spec.key_of(record), version, spec.codec.encode(record))


def harbour(ships: int = 50) -> dict[str, list[StoredRow]]:
    """Rows of three collections, with tombstones."""
    berths = [a_berth(id=f"b{n}", number=n) for n in range(5)]
    return {
        "berths": [encoded("berths", berth, 10 + n) for n, berth in enumerate(berths)],
        "ships": [
            *(
                encoded("ships", a_ship(id=f"s{n}", name=f"Zoë {n}"), n)
                for n in range(1, ships)
            ),
            StoredRow("gone", 77, None),
            StoredRow('odd\n"key"', 78, None),
        ],
        "tallies": [encoded("tallies", a_tally(name="t"), 2**60)],
    }


def write_backup(
    repository: Repository,
    rows: Mapping[str, list[StoredRow]],
    *,
    keys: Keys | None = None,
    backup_id: str = "20260131T120000Z-snapshot-000001",
    part_bytes: int = 4_000,
    **members: Any,
) -> BackupManifest:
    """Write rows as a published backup."""
    done = write_snapshot(
        RowsReader(rows),
        SCHEMA,
        repository,
        keys or Keys(),
        folder=f"backups/{backup_id}",
        part_bytes=part_bytes,
    )
    manifest = a_manifest(backup_id, done.parts, done.collections)
    return publish(repository, msgspec.structs.replace(manifest, **members))


def a_manifest(
    backup_id: str,
    parts: tuple[Part, ...] = (),
    collections: dict[str, CollectionFacts] | None = None,
) -> BackupManifest:
    return BackupManifest(
        id=backup_id,
        kind="snapshot",
        environment="production",
        point=Point(
            identity=POINT.identity,
            epoch=POINT.epoch,
            sequence=POINT.sequence,
            at=NOW.isoformat(),
        ),
        started_at=NOW.isoformat(),
        finished_at=NOW.isoformat(),
        library="1",
        schema_fingerprint=SCHEMA.fingerprint(),
        parts=parts,
        collections=collections or {},
    )


def publish(repository: Repository, manifest: BackupManifest) -> BackupManifest:
    done, text = packed(manifest)
    repository.put(f"backups/{manifest.id}/manifest.json", [text], create_only=True)
    return done


def flip(repository: Repository, name: str, place: int, *, bit: int = 1) -> bytes:
    """Flip a bit of an object; returns its former content."""
    text = repository.read(name)
    changed = bytearray(text)
    changed[place] ^= bit
    repository.put(name, [bytes(changed)])
    return text
