"""Restore of an environment to a position of its past, into a store beside the live one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pend_storage import crashpoints
from pend_storage.backup._catalog import Catalog
from pend_storage.backup._losses import Losses, commits_after, losses
from pend_storage.backup._marks import MARKS_META, marks_of
from pend_storage.backup._reachable import archive_of
from pend_storage.backup._restore import RestoreReport
from pend_storage.backup._restore import restore as fill_and_seal
from pend_storage.backup._side_store import SideDirectory, restore_files
from pend_storage.backup._streams import Keys
from pend_storage.backup._target import Resolved, parse_target, resolve
from pend_storage.config import Settings
from pend_storage.errors import PendStorageError
from pend_storage.operations.backup.opening import keys_of, open_repository
from pend_storage.operations.backup.side import (
    SideAddress,
    live_stores,
    open_side_json,
    open_side_postgres,
    require_side,
)
from pend_storage.operations.jobs import settings_job, staged
from pend_storage.operations.progress import Stage, silent
from pend_storage.store import Store
from pend_storage.stores.json import OWN_DIRECTORY

__all__ = ["Restored", "find_target", "restore"]

_CLOSED = crashpoints.declare(
    "restore.closed", "the store of the new directory is sealed, and it has no name yet"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """Result of a restore, or of its dry run."""

    target: str
    into: str
    """Directory or database, without a password."""
    backup: str
    """Backup that it begins with."""
    segments: int
    """Segments of the archive that are replayed."""
    identity: str
    """Of the store whose past it is."""
    epoch: int
    sequence: int
    """Commits up to this number are in it."""
    commit: int
    """Last commit that is in it."""
    at: datetime
    """Time of that commit."""
    out_of_order: int
    """Of a time: commits that are in it though their clock was ahead."""
    lost: Losses
    """Commits that are not in it."""
    records: Mapping[str, int]
    """Records by collection; of a dry run, those of the backup."""
    report: RestoreReport | None
    """None: a dry run."""
    files: int
    """Files of no layout that were written back."""
    files_left_out: int
    """Such files that a database does not hold."""
    seconds: float
    dry_run: bool


def restore(
    settings: Settings,
    target: str,
    into: str,
    *,
    schema_name: str | None = None,
    dry_run: bool = False,
    stage: Stage = silent,
    by: str | None = None,
    reason: str | None = None,
) -> Restored:
    """Restore to a target, into a new directory or an empty database.

    The live stores are only read, and need not answer. What is restored is sealed: no
    process opens it before it is promoted. After an interruption, call it again.

    Args:
        settings: of the environment.
        target: as :func:`~pend_storage.backup._target.parse_target` takes it.
        into: directory, or URL of a database.
        schema_name: schema of the database; None: ``public``.
        dry_run: resolve the target and check the place, and change nothing.
        stage: gets the progress.
        by: who does it; None: the author of this context, or user, machine, process.
        reason: of the person; the job keeps it.

    Raises:
        ConfigError: the target cannot be reached, or the place is in use.
        CorruptFile: the backup or the archive is damaged.
        StoreUnavailable: the repository or the database cannot be reached.
    """
    started = time.monotonic()
    parse_target(target)  # before anything is opened
    side = SideAddress.parse(into, schema_name)
    require_side(settings, side)
    catalog, keys = Catalog(open_repository(settings)), keys_of(settings)
    with live_stores(settings) as live:
        with stage("finding the position", unit="segments"):
            found = find_target(settings, target, catalog, keys, live)
        with stage("counting what is lost", unit="commits"):
            lost = losses(found, catalog, keys, live)
    work = _Restore(settings, side, found, catalog, keys, lost.highest)
    files = 0
    report, records = None, {n: f.rows for n, f in found.backup.collections.items()}
    if not dry_run:
        with settings_job(settings, "restore", by=by, reason=reason) as job:
            report, records, files = work.run(staged(job, stage))
            job.finish(f"{sum(records.values()):,} records restored into {side.label}")
    return Restored(
        target=target,
        into=side.label,
        backup=found.backup.id,
        segments=len(found.segments),
        identity=found.point.identity,
        epoch=found.point.epoch,
        sequence=found.upto,
        commit=found.commit,
        at=found.at,
        out_of_order=found.out_of_order,
        lost=lost,
        records=records,
        report=report,
        files=files,
        files_left_out=0 if side.directory else len(found.backup.files),
        seconds=time.monotonic() - started,
        dry_run=dry_run,
    )


def find_target(
    settings: Settings,
    target: str,
    catalog: Catalog,
    keys: Keys,
    live: Sequence[Store] = (),
) -> Resolved:
    """Resolve a target of an environment.

    Args:
        settings: of the environment.
        target: as it was written.
        catalog: of the repository.
        keys: to decrypt with.
        live: the live stores that answer.

    Raises:
        ConfigError: it cannot be reached; the message says what can.
    """
    archive = archive_of(
        catalog,
        keys,
        environment=settings.environment,
        marks=_marks(live),
        beyond=lambda sequence: commits_after(live, sequence),
    )
    return resolve(parse_target(target), archive, text=target)


def _marks(live: Sequence[Store]) -> dict[str, int]:
    """Return the named marks of the live stores."""
    found: dict[str, int] = {}
    for store in live:
        try:
            # Of a pair they are among its shared values.
            meta = {name: store.meta(name) for name in (MARKS_META, "shared")}
        except PendStorageError:
            continue
        found |= {name: mark.sequence for name, mark in marks_of(meta).items()}
    return found


@dataclass(frozen=True, slots=True)
class _Restore:
    """Restore under way."""

    settings: Settings
    side: SideAddress
    found: Resolved
    catalog: Catalog
    keys: Keys
    above: int

    def run(self, stage: Stage) -> tuple[RestoreReport, dict[str, int], int]:
        """Fill and seal the new store; returns the report, the records and the files."""
        if self.side.directory is not None:
            return self._into_directory(self.side.directory, stage)
        with open_side_postgres(self.settings, self.side) as store:
            with stage("preparing the database", unit="statements"):
                store.migrate()
            return *self._fill(store, stage), 0

    def _into_directory(
        self, directory: Path, stage: Stage
    ) -> tuple[RestoreReport, dict[str, int], int]:
        with SideDirectory(directory) as made:
            with open_side_json(self.settings, made.partial) as store:
                # Once it is sealed, a directory takes no part, and writes no legacy file.
                report, records = self._fill(store, stage, store.checkpoint)
            files = restore_files(
                made.partial,
                self.catalog.repository,
                self.found.backup,
                self.keys,
                own=OWN_DIRECTORY,
            )
            _CLOSED()
            made.complete()
        return report, records, files

    def _fill(
        self, store: Store, stage: Stage, complete: Callable[[], None] | None = None
    ) -> tuple[RestoreReport, dict[str, int]]:
        with stage("restoring", unit="rows and commits") as progress:
            report = fill_and_seal(
                self.found,
                self.catalog,
                self.keys,
                store,
                above=self.above,
                complete=complete,
                progress=progress,
            )
        counts = {
            spec.name: store.collection(spec.name).count() for spec in store.schema
        }
        return report, counts
