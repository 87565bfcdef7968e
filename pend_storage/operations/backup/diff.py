"""Comparison by value of restored stores, backups and the live store."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pend_storage._shown import clause
from pend_storage.backup._catalog import Catalog
from pend_storage.backup._restore import fill
from pend_storage.backup._target import parse_target
from pend_storage.config import Settings
from pend_storage.errors import ConfigError
from pend_storage.factory import open_passive, open_passive_json
from pend_storage.operations.backup.opening import keys_of, open_repository
from pend_storage.operations.backup.restore import find_target
from pend_storage.operations.backup.side import (
    SideAddress,
    live_stores,
    open_side_json,
    open_side_postgres,
    require_restored,
)
from pend_storage.operations.progress import Stage, silent
from pend_storage.store import Store
from pend_storage.stores.json import has_store
from pend_storage.validation import ValidationReport, validate

__all__ = ["LIVE", "Diff", "diff"]

LIVE = "live"
"""Name of the store from which the environment reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """Result of a comparison."""

    left: str
    right: str
    report: ValidationReport
    """The left side first: missing records are those that only the left side has."""

    @property
    def ok(self) -> bool:
        """True where both are equal by value."""
        return self.report.ok


def diff(
    settings: Settings,
    left: str,
    right: str = LIVE,
    *,
    collection: str | None = None,
    limit: int = 50,
    schema_name: str | None = None,
    stage: Stage = silent,
) -> Diff:
    """Compare two stores by value: every record, in both directions.

    Args:
        settings: of the environment.
        left: ``live``, a directory, the URL of a database, or a target of a restore.
        right: as ``left``.
        collection: name of the only collection to be compared; None: all.
        limit: records that are reported field by field.
        schema_name: schema of the databases that are named by a URL.
        stage: gets the progress.

    Raises:
        ConfigError: a side is none, or a target cannot be reached.
        CorruptFile: a backup or the archive is damaged.
        StoreUnavailable: a side cannot be reached.
        UnknownCollection: there is no such collection.
    """
    with (
        _opened(settings, left, schema_name, stage) as first,
        _opened(settings, right, schema_name, stage) as second,
        stage("comparing records") as progress,
    ):
        names = None if collection is None else [first.schema[collection].name]
        report = validate(
            first, second, progress=progress, details=limit, collections=names
        )
    return Diff(left=_label(left), right=_label(right), report=report)


def _label(text: str) -> str:
    return SideAddress.parse(text).label if "://" in text else text


@contextlib.contextmanager
def _opened(
    settings: Settings, text: str, schema_name: str | None, stage: Stage
) -> Iterator[Store]:
    """Open one side of the comparison."""
    if text == LIVE:
        with open_passive(settings) as environment:
            yield environment.primary()
    elif "://" in text:
        side = SideAddress.parse(text, schema_name)
        with open_side_postgres(settings, side) as database:
            require_restored(side, database)  # connects
            yield database
    elif Path(text).is_dir():
        with _directory(settings, Path(text).absolute()) as store:
            yield store
    else:
        with _spooled(settings, text, stage) as copy:
            yield copy


def _directory(settings: Settings, directory: Path) -> Store:
    if not has_store(directory):
        raise ConfigError(
            f"{clause(str(directory))} has no store: its files were never opened by this "
            "library, or were restored by another program. Name the directory of a restore."
        )
    return open_passive_json(settings, directory)


@contextlib.contextmanager
def _spooled(settings: Settings, text: str, stage: Stage) -> Iterator[Store]:
    """Restore a target into a directory that is removed afterwards."""
    parse_target(text)
    catalog, keys = Catalog(open_repository(settings)), keys_of(settings)
    with live_stores(settings) as live:  # they know marks that no backup has yet
        found = find_target(settings, text, catalog, keys, live)
    with (
        tempfile.TemporaryDirectory(prefix="pend-diff-") as folder,
        open_side_json(settings, Path(folder) / "data") as store,
    ):
        with stage(f"reading {text}", unit="rows and commits"):
            fill(found, catalog, keys, store)
        yield store
