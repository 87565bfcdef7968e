"""File lag: commits that a legacy file does not show yet, in records and seconds.

Which records a file shows stands in its manifest, which is as large as the file has
records. A reader that asks again and again keeps what it has found for a while.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final

from pend_storage._layouts.layout import Layout
from pend_storage._model.records import QuarantinedRecord
from pend_storage.phases import Role
from pend_storage.schema import QUARANTINE
from pend_storage.stores._inmemory.state import ChangedRow
from pend_storage.stores.json._journal.journal import Position
from pend_storage.stores.json._journal.replica import Replica
from pend_storage.stores.json._journal.replica_state import ReplicaState
from pend_storage.stores.json._legacy_sync.file_manifest import (
    FileManifest,
    load_manifest,
    load_positions,
    manifest_path,
    token_of,
)

__all__ = ["FileLag", "FileLagMeter", "file_lags"]

_KEPT_FOR: Final = 5.0
"""Seconds for which a meter uses what it has found in a manifest again."""


@dataclass(frozen=True, slots=True)
class FileLag:
    """Lag of one legacy file behind the store."""

    file: str
    records: int
    """Number of records that were committed or deleted, but not yet in the file."""
    seconds: float
    """Age of the oldest of these commits."""


def file_lags(engine: Replica, layouts: Sequence[Layout]) -> tuple[FileLag, ...]:
    """Return the files that are behind, the one with the oldest commit first.

    Only commits in memory count; older ones are in the files as a rule.

    Args:
        engine: state of the open store.
        layouts: of the files.
    """
    return _sorted({layout.file: _measured(engine, layout) for layout in layouts})


def _measured(engine: Replica, layout: Layout) -> dict[str, datetime]:
    manifest = load_manifest(manifest_path(engine.directory, layout.file))
    return engine.read_replica(partial(_waiting, layout=layout, manifest=manifest))


def _sorted(waiting: Mapping[str, Mapping[str, datetime]]) -> tuple[FileLag, ...]:
    """Return the lags by file, the one with the oldest commit first."""
    now, found = datetime.now(UTC), []
    for file, times in waiting.items():
        if times:
            seconds = max(0.0, (now - min(times.values())).total_seconds())
            found.append(FileLag(file, len(times), seconds))
    return tuple(sorted(found, key=lambda lag: -lag.seconds))


class FileLagMeter:
    """Meter of the file lags, for a reader that asks often. Thread-safe."""

    def __init__(self, layouts: Sequence[Layout]) -> None:
        """Args: layouts: of the files."""
        self._layouts = layouts
        self._known: dict[str, tuple[float, Position, dict[str, datetime]]] = {}

    def lags(self, replica: Replica) -> tuple[FileLag, ...]:
        """Return the files that are behind, as :func:`file_lags` does.

        A file that was not behind is looked at again once there was a commit since, and one
        that was every five seconds.
        """
        now = replica.read_replica(lambda live: live.journal.position)
        return _sorted({x.file: self._of(replica, x, now) for x in self._layouts})

    def _of(
        self, replica: Replica, layout: Layout, now: Position
    ) -> dict[str, datetime]:
        known = self._known.get(layout.file)
        if known is not None:
            at, position, found = known
            is_fresh = time.monotonic() - at < _KEPT_FOR
            if (position == now and not found) or (found and is_fresh):
                return found
        behind = {} if _shows_all(replica, layout, now) else _measured(replica, layout)
        self._known[layout.file] = (time.monotonic(), now, behind)
        return behind


def _shows_all(replica: Replica, layout: Layout, now: Position) -> bool:
    """Return whether a file is known, without its records, to show every commit."""
    if not replica.read_replica(lambda live: any(_changed(live, layout))):
        return True
    path = manifest_path(replica.directory, layout.file)
    return load_positions(path) == (now,)


def _waiting(
    live: ReplicaState, *, layout: Layout, manifest: FileManifest | None
) -> dict[str, datetime]:
    """Return the records that a file shows outdated, by token, with their commit times."""
    if live.state.role.role is Role.DETACHED:
        return {}
    found: dict[str, datetime] = {}
    for row, at in _changed(live, layout):
        token = token_of(row.collection, row.key)
        shown = None if manifest is None else manifest.version(token)
        if shown is not None and row.version <= shown:
            continue  # an earlier commit of the record, which the file does show
        if token not in found and _differs(live, layout, shown, row):
            found[token] = at
    return found


def _changed(
    live: ReplicaState, layout: Layout
) -> Iterator[tuple[ChangedRow, datetime]]:
    for effect in live.history.since(live.history.floor) or ():
        if effect.at is None:
            continue
        for row in effect.rows:
            if row.collection in {layout.collection, QUARANTINE}:
                yield row, effect.at


def _differs(
    live: ReplicaState, layout: Layout, shown: int | None, changed: ChangedRow
) -> bool:
    """Return whether the present row of a record is another one than the file shows."""
    try:
        row = live.state.stored(changed.collection, changed.key)
    except KeyError:  # a reader without rows, for which it changed too long ago
        return False
    if row is None or row[0] == shown:
        return row is None and shown is not None
    record = live.state.schema[changed.collection].codec.decode(row[1])
    if isinstance(record, QuarantinedRecord) and record.position is None:
        return False
    return layout.owns(record)
