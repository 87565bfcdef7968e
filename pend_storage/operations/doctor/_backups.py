"""Checks of the backups: the repository, the last good one, the archive, the drill."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from pend_storage._shown import moment
from pend_storage.config import Settings
from pend_storage.errors import PendStorageError
from pend_storage.factory import open_passive
from pend_storage.operations.backup.facts import BackupFacts, BackupProbe
from pend_storage.operations.backup.opening import keys_of
from pend_storage.operations.doctor._findings import Finding, fail, ok, warn
from pend_storage.operations.status import log_of

__all__ = ["backup_findings"]

_CREATE: Final = "pend-storage backup create"
_LONG_AGO: Final = timedelta(days=90)


def backup_findings(settings: Settings) -> Iterator[Finding]:
    """Check the backups of an environment, which has a repository."""
    try:
        keys = keys_of(settings)
    except PendStorageError as error:
        yield fail("backup keys", str(error), error=error)
        return
    wanted = settings.require_backup()
    if wanted.encrypt_to and not keys.decrypts:
        yield ok("backup keys", "new backups are encrypted; this host cannot read them")
    with open_passive(settings) as environment:
        found = BackupProbe(settings).facts(log_of(environment))
    if found.problem is not None:
        yield fail("backups", found.problem, "Correct the address, or mount the place.")
        return
    yield _last_good(found)
    yield from _damage(found)
    yield _archive(found)
    yield _drill(found)


def _last_good(found: BackupFacts) -> Finding:
    good = found.last_good
    if good is None:
        return fail("backups", "there is no good backup", f"Make one: {_CREATE}")
    state = f"the last good one is {good.id}, with the state of {moment(good.at)}"
    if found.is_old:
        return fail("backups", f"{state}, which is too old", f"Make one: {_CREATE}")
    return ok("backups", state)


def _damage(found: BackupFacts) -> Iterator[Finding]:
    if found.damaged:
        yield fail(
            "backup damage",
            f"{found.damaged:,} backups or objects are damaged",
            "Look at them: pend-storage backup verify --all",
        )
    if found.failure is not None:
        yield fail(
            "backup schedule",
            f"the last scheduled backup failed: {found.failure}",
            "Remove the reason, then: pend-storage backup schedule run --once",
        )


def _archive(found: BackupFacts) -> Finding:
    lag = found.archive
    if lag is None or lag.upto is None:
        return warn(
            "archive",
            "the change log was never archived, so only whole backups can be restored",
            "Follow it: pend-storage backup archive --follow",
        )
    if lag.problem is not None:
        return warn("archive", lag.problem, "Call: pend-storage backup archive")
    return ok("archive", f"the change log is archived up to {lag.upto}")


def _drill(found: BackupFacts) -> Finding:
    drill = found.drill
    remedy = "Try a restore: pend-storage backup drill"
    if drill is None:
        return warn("drill", "no backup was ever restored for trial", remedy)
    if drill.outcome != "ok":
        reason = drill.reason or drill.outcome
        return fail("drill", f"the last drill was {drill.outcome}: {reason}", remedy)
    if datetime.now(UTC) - drill.at > _LONG_AGO:
        return warn("drill", f"the last drill was at {moment(drill.at)}", remedy)
    return ok("drill", f"the last drill, at {moment(drill.at)}, was good")
