"""Validation of the database against the JSON directory and its legacy files."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pend_storage.config import Settings
from pend_storage.dualwrite._roles import Side
from pend_storage.factory import has_begun, open_json, open_pair, open_postgres
from pend_storage.operations.progress import Stage, silent
from pend_storage.phases import Role
from pend_storage.store import Store
from pend_storage.validation import (
    FileCheck,
    ValidationReport,
    render_check,
    validate,
)

if TYPE_CHECKING:
    from pend_storage.stores.json import JsonStore

__all__ = ["Check", "check"]

_LOOKS: Final = 5
"""Comparisons of files that others write meanwhile, before they count as different."""
_PAUSE: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Result of both halves of a validation: the records, and the legacy files."""

    records: ValidationReport
    """The primary on the left: JSON, but for the phase ``postgres-primary``."""
    primary: Side
    is_pair: bool
    """Whether one of the stores follows the other; then a repair can be made."""
    files: tuple[FileCheck, ...]
    """Each legacy file, made from PostgreSQL, against the original."""
    seconds: float
    unclaimed: tuple[Path, ...] = ()
    """Files of the JSON directory that are data and that no layout claims."""

    @property
    def compared_nothing(self) -> bool:
        """Whether there is no record, though the directory has files with some."""
        return not self.records.checked and bool(self.unclaimed)

    @property
    def ok(self) -> bool:
        """Whether both sides are equal, and every file can be made again."""
        return self.records.ok and all(file.ok for file in self.files)


def check(
    settings: Settings,
    *,
    sample: float | None = None,
    files: bool | None = None,
    stage: Stage = silent,
) -> Check:
    """Compare every record by value, and every legacy file made from the database.

    Where the stores are a pair of which one follows the other, what is on its way does
    not count, and a comparison of all records is remembered: it is what makes the
    blocker ``validation`` go away.

    Args:
        settings: of the environment.
        sample: compare only this share of the records, 0 to 1.
        files: make the legacy files from the database, and compare them, too; None:
            unless the stores are a pair, whose files are written all the time.
        stage: gets the progress.

    Raises:
        ConfigError: a side is not configured, or not there.
        SchemaOutOfDate: the database must be migrated first.
        StoreUnavailable: a side cannot be reached.
    """
    started = time.monotonic()
    settings.require_json()
    with open_postgres(settings) as database:
        database.role()  # fails here, before a JSON file is touched
        is_live = has_begun(settings)
        primary: Side = "json"
        with open_json(settings) as source:
            follows = is_live and _is_following(source, database)
            with stage("comparing records") as progress:
                if follows:
                    with open_pair(settings) as pair:
                        records = pair.validate(sample=sample, progress=progress)
                        primary = pair.roles().primary or primary
                else:
                    records = validate(
                        source, database, sample=sample, progress=progress
                    )
            rendered: list[FileCheck] = []
            if files or (files is None and not is_live):
                looks = _LOOKS if is_live else 1
                rendered = _check_files(settings, source, database, stage, looks)
            unclaimed = source.unclaimed_files()
    return Check(
        records=records,
        primary=primary,
        is_pair=follows,
        files=tuple(rendered),
        seconds=time.monotonic() - started,
        unclaimed=unclaimed,
    )


def _is_following(json: Store, postgres: Store) -> bool:
    return Role.SECONDARY in {json.role().role, postgres.role().role}


def _check_files(
    settings: Settings, source: JsonStore, database: Store, stage: Stage, looks: int
) -> list[FileCheck]:
    """Compare the legacy files; those that others write meanwhile again, while they differ."""
    wanted = settings.require_json()
    rendered: list[FileCheck] = []
    for look in range(looks):
        if look:
            time.sleep(_PAUSE)
        source.checkpoint()
        with stage("making the legacy files", unit="files") as progress:
            rendered = render_check(
                database, wanted.directory, files=wanted.files, progress=progress
            )
        if all(file.ok for file in rendered):
            break
    return rendered
