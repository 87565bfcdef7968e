"""Retention of the backups of an environment: pruning by its policy, and pins."""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass

from pend_storage._model.attribution import actor
from pend_storage.backup._catalog import Catalog
from pend_storage.backup._policy import Policy
from pend_storage.backup._prune import PRUNE, PruneReport, prune
from pend_storage.backup._standing import PINNED, standing_of
from pend_storage.backup.physical._log_retention import delete_log, unneeded_log
from pend_storage.config import Settings
from pend_storage.operations.backup.opening import open_repository
from pend_storage.operations.jobs import acted, settings_job

__all__ = ["Pin", "pin_backup", "policy_of", "prune_backups"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """Result of pinning a backup, or of giving it back to the policy."""

    id: str
    pinned: bool
    changed: bool
    """False where it was so before."""


def policy_of(settings: Settings) -> Policy:
    """Return the policy of retention of an environment.

    Raises:
        ConfigError: no repository is configured.
    """
    wanted = settings.require_backup()
    keep = wanted.keep
    return Policy(
        last=keep.last,
        hourly=keep.hourly,
        daily=keep.daily,
        weekly=keep.weekly,
        monthly=keep.monthly,
        yearly=keep.yearly,
        within=keep.within,
        log_within=wanted.log_within,
    )


def prune_backups(
    settings: Settings,
    *,
    dry_run: bool = False,
    wait: float = 0.0,
    by: str | None = None,
    reason: str | None = None,
) -> PruneReport:
    """Delete the backups and segments that the policy does not keep, and what they alone need.

    Args:
        settings: of the environment.
        dry_run: decide only.
        wait: seconds to wait for another pruning.
        by: who does it; None: the author of this context, or user, machine, process.
        reason: of the person; the job keeps it.

    Raises:
        ConfigError: no repository is configured, or a permission is missing.
        LockTimeout: another process prunes.
        StoreUnavailable: the repository cannot be reached.
    """
    if dry_run:
        return _pruned(settings, dry_run=True, wait=wait)
    with settings_job(
        settings, "backup-prune", by=by, reason=reason, can_wait=False
    ) as job:
        report = _pruned(settings, dry_run=False, wait=wait)
        job.finish(f"{len(report.deleted):,} backups deleted")
        return report


def _pruned(settings: Settings, *, dry_run: bool, wait: float) -> PruneReport:
    repository = open_repository(settings)
    report = prune(
        repository,
        policy_of(settings),
        environment=settings.environment,
        dry_run=dry_run,
        wait=wait,
    )
    gone = set(report.deleted) if dry_run else set()
    with contextlib.ExitStack() as held:
        lease = (
            None if dry_run else held.enter_context(repository.lease(PRUNE, wait=wait))
        )
        kept = [b for b in Catalog(repository).backups() if b.id not in gone]
        log = unneeded_log(repository, kept)
        if lease is not None:
            delete_log(repository, log, lease)
    return dataclasses.replace(
        report,
        abandoned=report.abandoned + len(log),
        bytes=report.bytes + sum(each.size for each in log),
    )


def pin_backup(
    settings: Settings,
    backup_id: str,
    *,
    pinned: bool,
    by: str | None = None,
    reason: str | None = None,
) -> Pin:
    """Keep a backup whatever the policy says, or give it back to the policy.

    Args:
        settings: of the environment.
        backup_id: or a part of it that names only one.
        pinned: whether it is kept.
        by: who does it; None: the author of this context, or user, machine, process.
        reason: of the person; both are kept with the backup.

    Raises:
        ConfigError: there is no such backup, or a permission is missing.
        StoreUnavailable: the repository cannot be reached.
    """
    catalog = Catalog(open_repository(settings))
    manifest = catalog.backup(backup_id)
    before = standing_of(manifest, catalog.facts(manifest.id)).pinned
    if before != pinned:
        with acted(by, reason) as author:
            detail = {"by": author, "reason": actor().reason}
            catalog.add_fact(manifest.id, PINNED, ok=pinned, detail=detail)
    return Pin(id=manifest.id, pinned=pinned, changed=before != pinned)
