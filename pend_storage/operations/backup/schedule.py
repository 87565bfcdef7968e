"""Scheduled backups of an environment: one run, the runner, and the texts for others."""

from __future__ import annotations

import contextlib
import os
import pwd
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pend_storage.backup._catalog import Catalog, Damage
from pend_storage.backup._manifest import BackupManifest
from pend_storage.backup._schedule import Runner, Schedule, is_due, parse_schedule
from pend_storage.backup._standing import standings
from pend_storage.backup._timer_units import Job, Unit, crontab_lines, systemd_units
from pend_storage.config import Settings
from pend_storage.errors import ConfigError, LockTimeout, PendStorageError
from pend_storage.operations.backup.archive import archive_once
from pend_storage.operations.backup.create import create_backup
from pend_storage.operations.backup.opening import open_repository
from pend_storage.operations.backup.retention import prune_backups
from pend_storage.operations.backup.verify import verify_backups

__all__ = [
    "FAILED",
    "SCHEDULE",
    "ScheduleFacts",
    "ScheduledRun",
    "crontab",
    "follow_schedule",
    "run_if_due",
    "schedule_facts",
    "units",
]

SCHEDULE: Final = "schedule"
"""Lease of a run; facts about runs stand under this name, too."""
FAILED: Final = "failed"
_AGES: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledRun:
    """Result of a run: a backup, the archived log, a verification, a pruning."""

    made: str | None
    """Id of the backup; None: no run was due, or another host makes it."""
    skipped: str | None
    """Why there was no run."""
    archived: int
    """Commits that were archived."""
    verified: tuple[str, ...]
    """Ids of the backups that were read."""
    damaged: tuple[Damage, ...]
    deleted: tuple[str, ...]
    """Ids of the backups that the policy does not keep."""
    gaps: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleFacts:
    """Schedule of an environment, and where it stands."""

    expression: str
    """Of cron, in UTC."""
    last: datetime | None
    """Beginning of the last backup of this environment; None: there was none."""
    due: bool
    next: datetime
    """Next time of the schedule."""
    problem: str | None = None
    """Why the last backup is not known."""


# -- one run --------------------------------------------------------------------------------


def run_if_due(settings: Settings) -> ScheduledRun:
    """Make the run that is due, alone among all hosts: backup, archive, verify, prune.

    Args:
        settings: of the environment.

    Raises:
        ConfigError: the schedule is none, or a permission is missing.
        CorruptFile: what was read back is not what was written.
        StoreUnavailable: a store or the repository cannot be reached, or is full.
    """
    schedule = parse_schedule(settings.require_backup().schedule)
    repository = open_repository(settings, create=True)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(repository.lease(SCHEDULE))
        except LockTimeout as error:
            return _skipped(f"another process makes it: {error}")
        # Asked under the lease: the one before may just have made it.
        last = last_backup(settings, Catalog(repository))
        if not is_due(schedule, last, datetime.now(UTC)):
            return _skipped("no backup is due")
        try:
            return _run(settings)
        except PendStorageError as error:
            with contextlib.suppress(PendStorageError):
                Catalog(repository).add_fact(
                    SCHEDULE,
                    FAILED,
                    ok=False,
                    detail={
                        "environment": settings.environment,
                        "error": type(error).__name__,
                        "message": str(error),
                    },
                )
            raise


def _skipped(why: str) -> ScheduledRun:
    return ScheduledRun(
        made=None,
        skipped=why,
        archived=0,
        verified=(),
        damaged=(),
        deleted=(),
        gaps=(),
    )


def _run(settings: Settings) -> ScheduledRun:
    made = create_backup(settings)
    archived = 0
    gaps: tuple[str, ...] = ()
    with contextlib.suppress(LockTimeout):  # an archiver of its own follows the log
        totals = archive_once(settings)
        archived, gaps = totals.entries, tuple(totals.gaps or ())
    verified: list[str] = []
    damaged: list[Damage] = []
    for name in _to_verify(settings, made.manifest):
        found = verify_backups(settings, name)
        verified += found.backups
        damaged += [each for each in found.damaged if each not in damaged]
    pruned = prune_backups(settings)
    return ScheduledRun(
        made=made.manifest.id,
        skipped=None,
        archived=archived,
        verified=tuple(verified),
        damaged=tuple(damaged),
        deleted=pruned.deleted,
        gaps=gaps,
    )


def _to_verify(settings: Settings, made: BackupManifest) -> list[str]:
    """Return the new backup, and the one that was verified longest ago.

    So each backup is read again and again, and no run has to read all of them.
    """
    others = [
        s
        for s in standings(Catalog(open_repository(settings)))
        if s.backup.environment == settings.environment
        and s.backup.kind == made.kind
        and s.backup.id != made.id
    ]
    oldest = min(others, key=lambda s: s.verified_at or _AGES, default=None)
    return [made.id, *([] if oldest is None else [oldest.backup.id])]


def last_backup(settings: Settings, catalog: Catalog) -> datetime | None:
    """Return when the last published backup of an environment was begun.

    Args:
        settings: of the environment.
        catalog: of its repository.

    Raises:
        StoreUnavailable: the repository cannot be reached.
    """
    times = [
        datetime.fromisoformat(b.started_at)
        for b in catalog.backups()
        if b.environment == settings.environment
    ]
    return max(times, default=None)


# -- the runner -----------------------------------------------------------------------------


def follow_schedule(
    settings: Settings,
    ended: threading.Event,
    *,
    every: float,
    report: Callable[[str], None],
) -> int:
    """Make each backup that is due, and archive in between, until an event.

    Args:
        settings: of the environment.
        ended: ends it, after the run under way.
        every: seconds between two copies of the change log.
        report: gets sentences on what was done, and what failed.

    Returns:
        The number of backups that were made.

    Raises:
        ConfigError: the schedule is none.
    """
    made = 0

    def run() -> None:
        nonlocal made
        done = run_if_due(settings)
        made += done.made is not None
        report(run_text(done))

    def archive() -> None:
        with contextlib.suppress(LockTimeout):  # another process does so
            archive_once(settings)

    def last() -> datetime | None:
        return last_backup(settings, Catalog(open_repository(settings, create=True)))

    schedule = parse_schedule(settings.require_backup().schedule)
    runner = Runner(
        schedule,
        last_run=last,
        run=run,
        between=archive,
        report=report,
        every=every,
    )
    runner.follow(ended)
    return made


def run_text(done: ScheduledRun) -> str:
    """Return a sentence about a run."""
    if done.made is None:
        return f"no backup was made: {done.skipped}"
    return (
        f"{done.made} was made and verified; {done.archived:,} commits archived, "
        f"{len(done.damaged):,} objects damaged, {len(done.deleted):,} backups deleted"
    )


# -- facts and texts ------------------------------------------------------------------------


def schedule_facts(settings: Settings) -> ScheduleFacts:
    """Return the schedule of an environment, and where it stands.

    Raises:
        ConfigError: no repository is configured, or the schedule is none.
    """
    schedule = parse_schedule(settings.require_backup().schedule)
    now = datetime.now(UTC)
    last, problem = None, None
    try:
        last = last_backup(settings, Catalog(open_repository(settings)))
    except PendStorageError as error:
        problem = str(error)
    return ScheduleFacts(
        expression=schedule.expression,
        last=last,
        due=is_due(schedule, last, now),
        next=schedule.next_after(now),
        problem=problem,
    )


def units(settings: Settings) -> tuple[Unit, ...]:
    """Return the units of systemd for an environment.

    Raises:
        ConfigError: a timer cannot express the schedule, or a path cannot be written.
    """
    return systemd_units(job_of(settings), _schedule(settings))


def crontab(settings: Settings) -> tuple[str, ...]:
    """Return the lines of a crontab for an environment.

    Raises:
        ConfigError: a path cannot be written there.
    """
    return crontab_lines(job_of(settings), _schedule(settings))


def _schedule(settings: Settings) -> Schedule:
    return parse_schedule(settings.require_backup().schedule)


def job_of(settings: Settings) -> Job:
    """Return the job of an environment: this Python, this configuration, this user.

    Raises:
        ConfigError: a path has control characters.
    """
    file = settings.file
    program = [sys.executable, "-m", "pend_storage"]
    if file is not None:
        program += ["--config", str(file)]
    program += ["--env", settings.environment]
    if settings.schema_named_by == "--schema":
        program += ["--schema", settings.schema]
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError as error:
        raise ConfigError(
            f"the user {os.getuid()} has no name on this machine. Call this as the user "
            "that runs the backups."
        ) from error
    return Job(
        environment=settings.environment,
        program=tuple(program),
        folder=Path.cwd() if file is None else file.parent,
        user=user,
    )
