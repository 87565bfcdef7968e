"""Proving that the database has what the JSON directory has."""

from __future__ import annotations

import time
from dataclasses import dataclass

from pend_storage.config import Settings
from pend_storage.factory import open_json, open_postgres
from pend_storage.operations.stages import Stage, silent
from pend_storage.validation import (
    FileCheck,
    ValidationReport,
    render_check,
    validate,
)

__all__ = ["Check", "check"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Both halves of a validation."""

    records: ValidationReport
    """JSON on the left, PostgreSQL on the right."""
    files: tuple[FileCheck, ...]
    """Each legacy file, made from PostgreSQL, against the original."""
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether both sides are equal, and every file can be made again."""
        return self.records.ok and all(file.ok for file in self.files)


def check(
    settings: Settings,
    *,
    sample: float | None = None,
    files: bool = True,
    stage: Stage = silent,
) -> Check:
    """Compare every record by value, and every legacy file made from the database.

    Args:
        settings: of the environment.
        sample: compare only this share of the records, 0 to 1.
        files: make the legacy files from the database, and compare them, too.
        stage: told about the work.

    Raises:
        ConfigError: a side is not configured, or not there.
        SchemaOutOfDate: the database must be migrated first.
        StoreUnavailable: a side cannot be reached.
    """
    started = time.monotonic()
    wanted = settings.require_json()
    with open_postgres(settings) as database:
        database.role()  # fails here, before a JSON file is touched
        with open_json(settings) as source:
            with stage("comparing records") as progress:
                records = validate(source, database, sample=sample, progress=progress)
            source.checkpoint()
            rendered: list[FileCheck] = []
            if files:
                with stage("making the legacy files", unit="files") as progress:
                    rendered = render_check(
                        database,
                        wanted.directory,
                        files=wanted.files,
                        progress=progress,
                    )
    return Check(
        records=records,
        files=tuple(rendered),
        seconds=time.monotonic() - started,
    )
