"""Repositories of tests: snapshots and segments of any store."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from pend_storage._model.records import Change
from pend_storage._model.snapshots import StoredChange, StoredRecord
from pend_storage.backup._catalog import MANIFEST, Catalog, folder_of
from pend_storage.backup._manifest import (
    BackupManifest,
    Point,
    SegmentManifest,
    packed,
)
from pend_storage.backup._opening import open_repository
from pend_storage.backup._repository import Repository
from pend_storage.backup._segments import SegmentEnd, write_segment
from pend_storage.backup._snapshot_files import write_snapshot
from pend_storage.backup._streams import Keys
from pend_storage.store import Store

__all__ = ["ENVIRONMENT", "KEYS", "a_repository", "archive", "back_up", "stored"]

ENVIRONMENT = "production"
KEYS = Keys()


def a_repository(folder: Path) -> Repository:
    return open_repository(str(folder), create=True)


def back_up(store: Store, repository: Repository) -> BackupManifest:
    """Write a snapshot of a store, and publish it."""
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-snapshot-{secrets.token_hex(3)}"
    with store.snapshot() as reader:
        found = write_snapshot(
            reader, store.schema, repository, KEYS, folder=folder_of(name)
        )
        point, meta = reader.point, dict(reader.meta)
        at = reader.at
    now = datetime.now(UTC).isoformat()
    manifest, text = packed(
        BackupManifest(
            id=name,
            kind="snapshot",
            environment=ENVIRONMENT,
            point=Point(
                identity=point.identity,
                epoch=point.epoch,
                sequence=point.sequence,
                at=at.isoformat(),
            ),
            started_at=now,
            finished_at=now,
            verified_at=now,
            library="1",
            schema_fingerprint=store.schema.fingerprint(),
            parts=found.parts,
            collections=found.collections,
            meta=meta,
        )
    )
    repository.put(f"{folder_of(name)}/{MANIFEST}", [text], create_only=True)
    return manifest


def archive(store: Store, repository: Repository) -> SegmentManifest:
    """Write what the log has after the last segment, up to its end."""
    known = Catalog(repository).segments()
    previous = known[-1] if known else None
    after = 0 if previous is None else previous.upto
    now = datetime.now(UTC)
    changes = [stored(store, change) for change in store.changes(after)]
    if previous is not None and not changes:
        return previous
    end = SegmentEnd(
        store.identity(),
        store.role().epoch,
        after,
        max([after, store.head(), *(c.sequence for c in changes)]),
        now,
        previous,
        None if previous else "the first one",
    )
    return write_segment(repository, KEYS, end, changes, now=now)


def stored(store: Store, change: Change) -> StoredChange:
    """A change with encoded bodies."""

    def body(collection: str, record: object) -> bytes | None:
        codec = store.schema[collection].codec
        return None if record is None else codec.encode(record)

    records: Iterable[StoredRecord] = (
        StoredRecord(r.collection, r.key, r.version, body(r.collection, r.record))
        for r in change.records
    )
    return StoredChange(
        sequence=change.sequence,
        epoch=change.epoch,
        at=change.at,
        records=tuple(records),
        token=change.token,
        by=change.by,
        reason=change.reason,
    )
