"""Validation of the database against the JSON directory and its legacy files."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pend_storage.config import PostgresSettings, Settings
from pend_storage.dualwrite._roles import Side
from pend_storage.factory import has_begun, open_json, open_pair, open_postgres
from pend_storage.operations.jobs import running_job, staged
from pend_storage.operations.progress import Stage, silent
from pend_storage.phases import Role
from pend_storage.store import Store
from pend_storage.stores.postgres import inspection
from pend_storage.stores.postgres._privileges import may_write
from pend_storage.validation import (
    FileCheck,
    ValidationReport,
    render_check,
    validate,
)

if TYPE_CHECKING:
    from pend_storage.stores.json import JsonStore

__all__ = ["Check", "check"]

_ATTEMPTS: Final = 5
"""Comparisons of files that servers write meanwhile, before they count as different."""
_PAUSE: Final = 0.2
"""Seconds between two comparisons."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Result of both halves of a validation: the records, and the legacy files."""

    records: ValidationReport
    """The primary on the left: JSON, but for the phase ``postgres-primary``."""
    primary: Side
    is_pair: bool
    """Whether one of the stores is secondary; then a repair can be made."""
    files: tuple[FileCheck, ...]
    """Each legacy file, rendered from PostgreSQL and compared with the original."""
    seconds: float
    is_recorded: bool = False
    """Whether the result was recorded, as a comparison of all records of a pair is."""
    unclaimed: tuple[Path, ...] = ()
    """Files of the JSON directory that are data and that no layout claims."""

    @property
    def compared_nothing(self) -> bool:
        """True where there is no record, though the directory has unclaimed files."""
        return not self.records.checked and bool(self.unclaimed)

    @property
    def ok(self) -> bool:
        """True where both stores are equal, and every legacy file can be rendered."""
        return self.records.ok and all(file.ok for file in self.files)


def check(
    settings: Settings,
    *,
    sample: float | None = None,
    files: bool | None = None,
    stage: Stage = silent,
    by: str | None = None,
    reason: str | None = None,
) -> Check:
    """Compare every record by value, and every legacy file rendered from the database.

    Where the stores are a pair with a secondary, commits that the relay has not applied
    yet do not count, and a comparison of all records is recorded: it removes the blocker
    ``validation``. A database role that only reads compares what is there, and records nothing.

    Args:
        settings: of the environment.
        sample: compare only this share of the records, 0 to 1.
        files: also render the legacy files from the database, and compare them; None:
            unless the stores are a pair, whose files are written all the time.
        stage: gets the progress.
        by: who does it; None: the author of this context, or user, machine, process.
        reason: of the person; the job keeps it.

    Raises:
        ConfigError: a store is not configured, or the directory does not exist.
        JobCancelled: another process asked for its end.
        SchemaOutOfDate: the database must be migrated first.
        StoreUnavailable: a store cannot be reached.
    """
    started = time.monotonic()
    settings.require_json()
    with open_postgres(settings) as database:
        # An unreachable database must fail before the JSON directory is opened, which
        # would adopt its files.
        database.role()
        is_live = has_begun(settings)
        primary: Side = "json"
        with open_json(settings) as source:
            follows = is_live and _is_following(source, database)
            # A role that only reads neither applies commits nor records the result.
            writes = follows and _may_write(settings.require_postgres())
            with ExitStack() as opened:
                pair = opened.enter_context(open_pair(settings)) if writes else None
                job = opened.enter_context(
                    running_job(pair or source, "validate", by=by, reason=reason)
                )
                stages = staged(job, stage)
                with stages("comparing records") as progress:
                    if pair is not None:
                        records = pair.validate(sample=sample, progress=progress)
                        primary = pair.roles().primary or primary
                    else:
                        records = validate(
                            source, database, sample=sample, progress=progress
                        )
                rendered: list[FileCheck] = []
                if files or (files is None and not is_live):
                    attempts = _ATTEMPTS if is_live else 1
                    rendered = _check_files(
                        settings, source, database, stages, attempts
                    )
                job.finish(f"{records.found:,} of {records.checked:,} records differ")
            unclaimed = source.unclaimed_files()
    return Check(
        records=records,
        primary=primary,
        is_pair=follows,
        is_recorded=writes and sample is None,
        files=tuple(rendered),
        seconds=time.monotonic() - started,
        unclaimed=unclaimed,
    )


def _may_write(wanted: PostgresSettings) -> bool:
    with inspection(wanted.full_url, connect_timeout=wanted.connect_timeout) as session:
        return may_write(session, wanted.schema)


def _is_following(json: Store, postgres: Store) -> bool:
    return Role.SECONDARY in {json.role().role, postgres.role().role}


def _check_files(
    settings: Settings, source: JsonStore, database: Store, stage: Stage, attempts: int
) -> list[FileCheck]:
    """Compare the legacy files; again while they differ, up to a number of attempts.

    A server may write a commit to its file between the checkpoint and the comparison.
    """
    wanted = settings.require_json()
    rendered: list[FileCheck] = []
    for attempt in range(attempts):
        if attempt:
            time.sleep(_PAUSE)
        source.checkpoint()
        with stage("making the legacy files", unit="files") as progress:
            rendered = render_check(
                database, wanted.directory, files=wanted.files, progress=progress
            )
        if all(file.ok for file in rendered):
            break
    return rendered
