"""Migration of a JSON directory to PostgreSQL: backup, adoption, backfill, accounting."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pend_storage import crashpoints
from pend_storage._files.by_path import read_linked
from pend_storage._layouts.crowded_files import count_entries
from pend_storage._layouts.folders import read_folder
from pend_storage._layouts.layout import Layout
from pend_storage._model.attribution import Actor
from pend_storage.backfill import (
    BACKFILL_META,
    BackfillReport,
    FileTally,
    Tally,
    backfill,
)
from pend_storage.backup import DirectoryCopy, copy_directory, verify_copy
from pend_storage.config import JsonSettings, Settings
from pend_storage.dualwrite._readiness import count_waiting
from pend_storage.errors import ConfigError, CorruptFile, StoreUnavailable
from pend_storage.factory import (
    MIGRATION_META,
    SchemaModule,
    has_begun,
    kept_files,
    load_schema,
    open_json,
    open_pair,
    open_postgres,
    require_directory,
)
from pend_storage.operations.jobs import (
    RESUMED,
    JobReporter,
    running_job,
    staged,
)
from pend_storage.operations.marks import mark_before
from pend_storage.operations.progress import Stage, silent
from pend_storage.operations.quarantine import BrokenFile, broken_files
from pend_storage.operations.seed import seeds_of, write_missing
from pend_storage.phases import ROLE_META, Role
from pend_storage.schema import SYSTEM_NAMES
from pend_storage.store import Store
from pend_storage.stores.json import OWN_DIRECTORY, JsonStore, has_store

__all__ = ["FileResult", "JsonMigration", "migrate_json", "require_fit"]

_ANOTHER: Final = (
    "the database was filled from another JSON directory, or this one lost its "
    f"{OWN_DIRECTORY} since. Correct json.directory, or migrate into an empty database."
)

_COPIED: Final = crashpoints.declare(
    "migrate.copied", "the copy of the directory is complete; nothing else was done"
)
_ADOPTED: Final = crashpoints.declare(
    "migrate.adopted", "the legacy files are adopted; the database has nothing yet"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileResult:
    """Counts of the records of one legacy file."""

    file: str
    read: int
    """Records in the file."""
    written: int
    unchanged: int
    quarantined: int

    @property
    def adds_up(self) -> bool:
        """True where each record that was read was placed or is in quarantine."""
        return self.read == self.written + self.unchanged + self.quarantined


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonMigration:
    """Report of a migration."""

    backup: DirectoryCopy | None
    """Copy that was made now; None where none was wanted, or one was reused."""
    no_backup: str | None
    """Reason why a directory in use could not be copied."""
    reused_backup: Path | None
    """Copy of the interrupted migration that this one continues."""
    files: tuple[FileResult, ...]
    backfill: BackfillReport
    waiting: int
    """Quarantined records that need a decision."""
    broken: tuple[BrokenFile, ...]
    """Legacy files that are broken as a whole: their records are not in the database, and
    not known."""
    unclaimed: tuple[Path, ...]
    """Files of the directory that no layout claims; they were not touched."""
    is_live: bool
    """Whether the stores are in use as a pair. Then servers may have written meanwhile, and
    the numbers of a file need not add up; a validation finds what is missing."""
    seconds: float
    seeds: int = 0
    """Records of the schema module's ``SEED``."""

    @property
    def moved_nothing(self) -> bool:
        """True where there was no record at all, as in the directory of another server.

        Records of ``SEED`` are not of the directory: where it has files that no layout
        claims, they do not count.
        """
        if self.is_live or any(file.read for file in self.files):
            return False
        rows = sum(tally.rows for tally in self.collections.values())
        return rows <= (self.seeds if self.unclaimed else 0)

    @property
    def collections(self) -> Mapping[str, Tally]:
        """Counts of the records of each collection, without the system collections."""
        return {
            name: tally
            for name, tally in self.backfill.collections.items()
            if name not in SYSTEM_NAMES
        }

    @property
    def adds_up(self) -> bool:
        """True where every record of every file is accounted for, as far as is known."""
        return self.is_live or all(result.adds_up for result in self.files)


def migrate_json(
    settings: Settings,
    *,
    backup: bool | None = None,
    backup_into: Path | None = None,
    rate: float | None = None,
    stage: Stage = silent,
    by: str | None = None,
    reason: str | None = None,
) -> JsonMigration:
    """Migrate a JSON directory: back it up, adopt its legacy files, backfill the database.

    The migration may be killed at any moment and called again: it continues where it was.
    Called again after its end, it copies new records only.

    Stores that are in use as a pair are migrated in the phase ``parallel``, under live
    writes; without this backfill, PostgreSQL is not ready to become primary.

    Args:
        settings: of the environment.
        backup: make a complete, verified copy of the directory first; None: for stores
            in use as a pair, only if the directory is at rest for long enough.
        backup_into: folder for the copy; beside the directory if None.
        rate: records per second at most.
        stage: gets the progress.
        by: who does it; None: the author of this context, or user, machine, process.
        reason: of the person; the job keeps it.

    Raises:
        ConfigError: a store is not configured, the directory does not exist, or the
            database must not be filled from it.
        JobCancelled: another process asked for its end; what was copied stays.
        SchemaOutOfDate: the database must be migrated first.
        StoreUnavailable: a store cannot be reached.
    """
    started, module = time.monotonic(), load_schema(settings)
    wanted = settings.require_json()
    require_directory(settings, wanted.directory)
    with ExitStack() as opened:
        database = opened.enter_context(open_postgres(settings))
        # Both are refused before the copy of the directory, which may take long.
        _require_follower(database)
        _require_own_folder(wanted.directory, database)
        is_live = has_begun(settings)
        work = _Work(settings, module, database, stage, Actor(by, reason), opened)
        if is_live:
            mark_before(settings, "migrate-json")
        else:
            work.begin(database)
        made, reused, problem = None, None, None
        try:
            if backup is not False:
                made, reused = work.back_up(wanted, backup_into)
        except StoreUnavailable as error:
            # A directory in use may never be at rest: then the migration continues
            # without a copy, unless one was asked for.
            if backup or not is_live:
                raise
            problem = error.reason
        verified = None if made is None else datetime.now(UTC)
        # Before the backfill: if the migration is interrupted, the next one reuses the
        # copy.
        copied = reused if made is None else made.path
        _record(database, copied, complete=False, verified=verified)
        _COPIED()
        result = work.fill(rate, is_live=is_live)
        _record(database, None, complete=True)
    took = time.monotonic() - started
    return replace(
        result, backup=made, no_backup=problem, reused_backup=reused, seconds=took
    )


@dataclass
class _Work:
    """Migration under way, with the job that shows its progress."""

    settings: Settings
    module: SchemaModule
    database: Store
    stage: Stage
    author: Actor
    opened: ExitStack

    def begin(self, place: Store) -> JobReporter:
        """Begin the job, recorded in a store.

        A pair has the record among its shared values, and its directory is at rest only
        without that: so its job begins after the copy. A fresh database has its own record.
        """
        job = self.opened.enter_context(
            running_job(
                place,
                "backfill",
                by=self.author.by,
                reason=self.author.reason,
                again=RESUMED,
            )
        )
        self.stage = staged(job, self.stage)
        return job

    def back_up(
        self, wanted: JsonSettings, into: Path | None
    ) -> tuple[DirectoryCopy | None, Path | None]:
        """Copy the directory, or reuse the copy of an interrupted migration."""
        reused = _interrupted_copy(self.database)
        if reused is not None:
            return None, reused
        with self.stage("copying the directory", unit="bytes") as progress:
            made = copy_directory(
                wanted.directory,
                extra=wanted.files,
                into=into,
                keeps=kept_files(self.module, wanted),
                progress=progress,
            )
        return made, None

    def fill(self, rate: float | None, *, is_live: bool) -> JsonMigration:
        """Adopt the files and backfill the database; the report is without the backup."""
        opened = self.opened
        pair = opened.enter_context(open_pair(self.settings)) if is_live else None
        if pair is not None:
            self.begin(pair)
        with self.stage("adopting the files"):
            source = (
                pair.json if pair else opened.enter_context(open_json(self.settings))
            )
        _require_comparable(source, self.database)
        # Written to the primary, so that the backfill copies them like other records.
        seeds = seeds_of(self.module, self.settings)
        write_missing(pair or source, seeds)
        _ADOPTED()
        with self.stage("filling the database") as progress:
            if pair is not None:
                # The pair's backfill is made at its epoch, and catches up with the change
                # log first.
                filled = pair.backfill(rate=rate, progress=progress)
            else:
                filled = backfill(source, self.database, rate=rate, progress=progress)
        places = self.settings.require_json().files
        return JsonMigration(
            backup=None,
            no_backup=None,
            reused_backup=None,
            files=tuple(_results(source, self.module, filled.files, places)),
            backfill=filled,
            waiting=count_waiting(source),
            broken=broken_files(pair or source),
            unclaimed=source.unclaimed_files(),
            is_live=is_live,
            seconds=0.0,
            seeds=len(seeds),
        )


def require_fit(directory: Path, source: Store, database: Store) -> None:
    """Refuse a database that may not be filled from a directory.

    Args:
        directory: the directory.
        source: the store in the directory, or in a copy of it.
        database: the store to be filled.

    Raises:
        ConfigError: the database has another role, or was filled from another directory.
        SchemaOutOfDate: the database must be migrated first.
    """
    _require_follower(database)
    _require_own_folder(directory, database)
    _require_comparable(source, database)


def _require_follower(database: Store) -> None:
    """Refuse a database that is primary, fenced or detached in a pair."""
    state = database.role()
    if database.meta(ROLE_META) is None or state.role is Role.SECONDARY:
        return
    now = f"the database is {state.role.value} at epoch {state.epoch}"
    if state.role is Role.DETACHED:
        raise ConfigError(
            f"{now}: it belongs to a pair in the phase json-only, and can be filled once "
            "it follows JSON. Run: pend-storage phase set parallel; then call this again."
        )
    raise ConfigError(
        f"{now}, and only one that is secondary, or that stands alone, can be filled from "
        "JSON. See: pend-storage phase show"
    )


def _require_own_folder(directory: Path, database: Store) -> None:
    """Refuse a directory without a store where the database was filled from a store."""
    if _filled_from(database) is not None and not has_store(directory):
        raise ConfigError(_ANOTHER)


def _require_comparable(source: Store, database: Store) -> None:
    """Refuse a database that was filled from another directory.

    The versions of two directories are unrelated, so the newer of two records could not be
    found. A directory that was itself made from this database is not another one.
    """
    known = {None, source.identity()}
    if _filled_from(database) in known or _filled_from(source) == database.identity():
        return
    raise ConfigError(_ANOTHER)


def _filled_from(store: Store) -> str | None:
    """Return the identity of the store from which a backfill has filled this one."""
    mark = store.meta(BACKFILL_META)
    return str(mark["source"]) if isinstance(mark, Mapping) else None


def _interrupted_copy(database: Store) -> Path | None:
    """Return the copy of an interrupted migration, if the copy is complete."""
    noted = database.meta(MIGRATION_META)
    if not isinstance(noted, Mapping) or noted.get("complete") or not noted.get("copy"):
        return None
    path = Path(str(noted["copy"]))
    try:
        verify_copy(path)
    except (ConfigError, CorruptFile):
        return None
    return path


def _record(
    database: Store,
    copy: Path | None,
    *,
    complete: bool,
    verified: datetime | None = None,
) -> None:
    """Record the progress of the migration, and the time of a verified copy."""
    before = database.meta(MIGRATION_META)
    known = before.get("verified_at") if isinstance(before, Mapping) else None
    value = {
        "copy": None if copy is None else str(copy),
        "complete": complete,
        "verified_at": known if verified is None else verified.isoformat(),
    }
    # Compared, not overwritten: two migrations into one database would report each
    # other's records.
    if not database.compare_and_set_meta(MIGRATION_META, before, value):
        raise ConfigError(
            "another process migrates into this database at the same time. Let one of "
            "the two finish."
        )


def _results(
    source: JsonStore,
    module: SchemaModule,
    tallies: Mapping[str, FileTally],
    places: Mapping[str, Path],
) -> Iterator[FileResult]:
    """Compare the records of each file with those that were placed."""
    counted = {adopted.file: adopted.read for adopted in source.adoption_report()}
    for layout in module.layouts:
        tally = tallies.get(layout.file, FileTally())
        read = counted.get(layout.file, 0)
        if read != tally.read:  # the file was changed since its adoption
            read = _count_records(source, layout, places)
        if read or tally.read or layout.file in counted:
            yield FileResult(
                file=layout.file,
                read=read,
                written=tally.written,
                unchanged=tally.unchanged,
                quarantined=tally.quarantined,
            )


def _count_records(
    source: JsonStore, layout: Layout, places: Mapping[str, Path]
) -> int:
    """Count the records in a legacy file now."""
    source.checkpoint()
    path = places.get(layout.source, source.directory / layout.source)
    if layout.is_folder:
        raw = read_folder(path) or b"{}"
    else:
        raw = read_linked(path) if path.exists() else b""
    return count_entries(layout.parse(source.schema, raw))
