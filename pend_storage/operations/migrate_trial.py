"""Dry run of ``migrate json`` on a copy: nothing of the server is changed."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pend_storage._files.by_path import read_linked
from pend_storage._layouts.broken_files import is_whole_file
from pend_storage._layouts.crowded_files import count_entries
from pend_storage._model.records import EDIT_MARK, QuarantinedRecord
from pend_storage.backup import copy_directory
from pend_storage.config import JsonSettings, Settings
from pend_storage.errors import PendStorageError
from pend_storage.events import Event
from pend_storage.factory import (
    SchemaModule,
    kept_files,
    load_schema,
    open_json,
    open_postgres,
    require_directory,
    unclaimed_files,
)
from pend_storage.operations.migrate_json import require_fit
from pend_storage.operations.progress import Stage, silent
from pend_storage.operations.quarantine import list_quarantined
from pend_storage.stores.json import JsonStore

__all__ = ["FileTrial", "JsonTrial", "try_migration"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileTrial:
    """Result of the dry run for one legacy file."""

    file: str
    read: int
    quarantined: int
    """Quarantined records, with those that were accepted before."""
    reasons: Mapping[str, int]
    """Number of records that would wait for a decision, by the reason."""
    is_broken: bool
    """Whether the file is broken as a whole."""

    @property
    def placed(self) -> int:
        """Records that would be copied to the database."""
        return self.read - self.quarantined


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonTrial:
    """Result of the dry run for a directory."""

    files: tuple[FileTrial, ...]
    quarantined: tuple[QuarantinedRecord, ...]
    """Records that would wait for a decision, by file and place."""
    unclaimed: tuple[Path, ...]
    problem: str | None
    """Reason why the database cannot be filled now; None where it can."""
    seconds: float

    @property
    def moves_nothing(self) -> bool:
        """True where there is no record at all."""
        return not any(file.read for file in self.files)

    @property
    def ok(self) -> bool:
        """True where the migration would succeed; quarantined records are no failure."""
        broken = any(file.is_broken for file in self.files)
        return self.problem is None and not broken and not self.moves_nothing


def try_migration(
    settings: Settings, *, work_in: Path | None = None, stage: Stage = silent
) -> JsonTrial:
    """Try a migration: adopt a copy of the directory, and check the database.

    Args:
        settings: of the environment.
        work_in: folder for the copy, which is removed; the system's temporary one if None.
        stage: gets the progress.

    Raises:
        ConfigError: no directory is configured, or it does not exist.
        StoreUnavailable: the disk has no space for the copy.
        CorruptFile: a file of the store is damaged.
    """
    started, module = time.monotonic(), load_schema(settings)
    wanted = settings.require_json()
    require_directory(settings, wanted.directory)
    with tempfile.TemporaryDirectory(prefix="pend-trial-", dir=work_in) as folder:
        with stage("copying the directory", unit="bytes") as progress:
            copy = copy_directory(
                wanted.directory,
                extra=wanted.files,
                into=Path(folder),
                keeps=kept_files(module, wanted),
                progress=progress,
            )
        trial = replace(settings, json=_in_copy(wanted, copy.path))
        with (
            stage("adopting the copy"),
            open_json(trial, hook=_silent) as store,
        ):
            # A directory that is a store already may have edits that were not adopted yet.
            store.checkpoint()
            found = tuple(list_quarantined(store))
            files = tuple(_files(store, module, trial.require_json(), found))
            problem = _problem(settings, wanted.directory, store)
    return JsonTrial(
        files=files,
        quarantined=tuple(r for r in found if r.is_waiting),
        unclaimed=unclaimed_files(module, wanted),
        problem=problem,
        seconds=time.monotonic() - started,
    )


def _silent(event: Event) -> None:
    """Drop the events of the copy: the report has the same facts."""
    del event


def _in_copy(wanted: JsonSettings, copy: Path) -> JsonSettings:
    outside = {name: copy / "outside" / name for name in wanted.files}
    return replace(wanted, directory=copy / "data", files=outside)


def _files(
    store: JsonStore,
    module: SchemaModule,
    wanted: JsonSettings,
    found: tuple[QuarantinedRecord, ...],
) -> Iterator[FileTrial]:
    """Report on each file that exists."""
    for layout in module.layouts:
        path = wanted.files.get(layout.file, wanted.directory / layout.file)
        if not path.exists():
            continue
        mine = [r for r in found if r.file.removesuffix(EDIT_MARK) == layout.file]
        waiting = [record for record in mine if record.is_waiting]
        parsed = layout.parse(store.schema, read_linked(path))
        yield FileTrial(
            file=layout.file,
            read=count_entries(parsed),
            quarantined=len(mine),
            reasons=Counter(record.reason for record in waiting),
            is_broken=any(map(is_whole_file, waiting)),
        )


def _problem(settings: Settings, directory: Path, store: JsonStore) -> str | None:
    """Return the reason why the database cannot be filled from this directory now."""
    try:
        with open_postgres(settings) as database:
            require_fit(directory, store, database)
    except PendStorageError as error:
        return str(error)
    return None
