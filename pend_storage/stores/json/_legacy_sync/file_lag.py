"""File lag: commits that a legacy file does not show yet, in records and seconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from pend_storage._layouts.layout import Layout
from pend_storage._model.records import QuarantinedRecord
from pend_storage.phases import Role
from pend_storage.schema import QUARANTINE
from pend_storage.stores.json._journal.engine import Engine
from pend_storage.stores.json._journal.replica_state import ReplicaState
from pend_storage.stores.json._legacy_sync.file_manifest import (
    FileManifest,
    load_manifest,
    manifest_path,
    token_of,
)

__all__ = ["FileLag", "file_lags"]


@dataclass(frozen=True, slots=True)
class FileLag:
    """Lag of one legacy file behind the store."""

    file: str
    records: int
    """Number of records that were committed or deleted, but not yet in the file."""
    seconds: float
    """Age of the oldest of these commits."""


def file_lags(engine: Engine, layouts: Sequence[Layout]) -> tuple[FileLag, ...]:
    """Return the files that are behind, the one with the oldest commit first.

    Only commits in memory count; older ones are in the files as a rule.

    Args:
        engine: the open store.
        layouts: of the files.
    """
    found = []
    for layout in layouts:
        manifest = load_manifest(manifest_path(engine.directory, layout.file))
        waiting = engine.read_replica(
            partial(_waiting, layout=layout, manifest=manifest)
        )
        if waiting:
            oldest = datetime.now(UTC) - min(waiting.values())
            seconds = max(0.0, oldest.total_seconds())
            found.append(FileLag(layout.file, len(waiting), seconds))
    return tuple(sorted(found, key=lambda lag: -lag.seconds))


def _waiting(
    live: ReplicaState, *, layout: Layout, manifest: FileManifest | None
) -> dict[str, datetime]:
    """Return the records that a file shows outdated, by token, with their commit times."""
    if live.state.role.role is Role.DETACHED:
        return {}
    found: dict[str, datetime] = {}
    for collection, key, at in _changed(live, layout):
        token = token_of(collection, key)
        if token not in found and _differs(live, layout, manifest, collection, key):
            found[token] = at
    return found


def _changed(live: ReplicaState, layout: Layout) -> Iterator[tuple[str, str, datetime]]:
    for effect in live.history.since(live.history.floor) or ():
        if effect.at is None:
            continue
        for row in effect.rows:
            if row.collection in {layout.collection, QUARANTINE}:
                yield row.collection, row.key, effect.at


def _differs(
    live: ReplicaState,
    layout: Layout,
    manifest: FileManifest | None,
    collection: str,
    key: str,
) -> bool:
    row = live.state.tables[collection].rows.get(key)
    shown = None if manifest is None else manifest.version(token_of(collection, key))
    if row is None or row[0] == shown:
        return row is None and shown is not None
    record = live.state.schema[collection].codec.decode(row[1])
    if isinstance(record, QuarantinedRecord) and record.position is None:
        return False
    return layout.owns(record)
