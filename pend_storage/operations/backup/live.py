"""Stores of an environment, each with its own log, as backups read them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pend_storage._model.snapshots import LogPoint
from pend_storage.backup._manifest import BackupManifest
from pend_storage.config import Settings
from pend_storage.dualwrite._roles import Side
from pend_storage.errors import PendStorageError
from pend_storage.factory import (
    ConfiguredPair,
    load_schema,
    open_primary,
    unclaimed_files,
)
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore

__all__ = ["Live", "open_live", "other_files"]


@dataclass(frozen=True, slots=True)
class Live:
    """Open stores of an environment."""

    stores: tuple[Store, ...]
    sides: tuple[Side, ...]
    pair: ConfiguredPair | None
    """None: one store alone."""

    def note(self, manifest: BackupManifest) -> str | None:
        """Record a verified backup for readiness.

        Returns:
            Why that was not possible; None: it was, or there is nothing to record.
        """
        if self.pair is None or manifest.verified_at is None:
            return None
        point = manifest.point
        place = LogPoint(
            identity=point.identity, epoch=point.epoch, sequence=point.sequence
        )
        try:
            self.pair.note_backup(
                manifest.id,
                place,
                at=datetime.fromisoformat(point.at),
                verified_at=datetime.fromisoformat(manifest.verified_at),
            )
        except PendStorageError as error:
            return str(error)
        return None


@contextmanager
def open_live(settings: Settings) -> Iterator[Live]:
    """Open the stores of an environment.

    Args:
        settings: of the environment.

    Raises:
        ConfigError: no store is configured.
        StoreUnavailable: the only store cannot be reached.
    """
    with contextlib.closing(open_primary(settings)) as store:
        if isinstance(store, ConfiguredPair):
            yield Live(store.stores, ("json", "postgres"), store)
        else:
            side: Side = "json" if isinstance(store, JsonStore) else "postgres"
            yield Live((store,), (side,), None)


def other_files(settings: Settings) -> Mapping[str, Path]:
    """Return the files of the JSON directory that no layout claims, by their path in it."""
    wanted = settings.json
    if wanted is None or not wanted.directory.is_dir():
        return {}
    return {
        path.relative_to(wanted.directory).as_posix(): path
        for path in unclaimed_files(load_schema(settings), wanted)
    }
