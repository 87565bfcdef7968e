"""Verification of the backups of an environment, and of the archived log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from pend_storage._shown import cut
from pend_storage.backup._catalog import Catalog, Damage
from pend_storage.backup._manifest import BackupManifest, SegmentManifest
from pend_storage.backup._verify import (
    UNDECRYPTED,
    Verifier,
    Verifying,
    log_damage,
    with_affected,
)
from pend_storage.backup._window import windows
from pend_storage.backup.physical._verification import PHYSICAL_VERIFIERS, wal_damage
from pend_storage.backup.physical._wal import WalArchive
from pend_storage.config import Settings
from pend_storage.factory import load_schema
from pend_storage.operations.backup.opening import keys_of, open_repository
from pend_storage.operations.jobs import settings_job, staged
from pend_storage.operations.progress import Stage, silent

__all__ = ["Verification", "verify_backups"]

_MOST: Final = 20
"""Faults that a fact names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """Result of a verification."""

    repository: str
    backups: tuple[str, ...]
    """Ids of the backups that were read."""
    segments: int
    """Segments of the log that were read."""
    bytes: int
    """Stored bytes that were read."""
    deep: bool
    damaged: tuple[Damage, ...]
    """Everything that is wrong, with the backups whose windows it ends."""
    unread: tuple[str, ...]
    """Objects that no identity here can decrypt: only their stored bytes were compared."""
    undecoded: tuple[str, ...]
    """Backups and segments of another version of the schema: records were not decoded."""

    @property
    def ok(self) -> bool:
        """True where nothing is wrong."""
        return not self.damaged


def verify_backups(
    settings: Settings,
    backup_id: str | None = None,
    *,
    deep: bool = False,
    record: bool = True,
    verifiers: Mapping[str, Verifier] | None = None,
    stage: Stage = silent,
    by: str | None = None,
    reason: str | None = None,
) -> Verification:
    """Read backups and the segments that follow them, and compare them with their hashes.

    Args:
        settings: of the environment.
        backup_id: of one backup, with the segments of its window; None: everything.
        deep: read and decode each record, and compare digests, references and unique
            values.
        record: add the result as a fact, for listings, readiness and retention.
        verifiers: of further kinds of backups.
        stage: shows the progress, in bytes.
        by: who does it; None: the author of this context, or user, machine, process.
        reason: of the person; the job keeps it.

    Raises:
        ConfigError: no repository is configured, or there is no such backup, or a newer
            version has written it.
        StoreUnavailable: the repository cannot be reached.
    """
    repository = open_repository(settings)
    catalog = Catalog(repository)
    schema = load_schema(settings).schema if deep else None
    known = {**PHYSICAL_VERIFIERS, **(verifiers or {})}
    work = Verifying(
        repository, keys_of(settings), schema=schema, rows=deep, verifiers=known
    )
    backups, segments, damaged = _scope(catalog, backup_id)
    total = sum(p.size for b in backups for p in b.parts)
    total += sum(s.part.size for s in segments)
    with (
        settings_job(settings, "backup-verify", by=by, reason=reason) as job,
        staged(job, stage)("verify", unit="bytes") as progress,
    ):
        if progress is not None:
            work.on_bytes = lambda done: progress(done, total)
        for backup in backups:
            damaged += work.backup(backup)
        for segment in segments:
            damaged += work.segment(segment)
        job.finish(f"{len(backups):,} backups read, {len(damaged):,} objects damaged")
    if backup_id is None:
        damaged += _server_log_damage(work)
    result = Verification(
        repository=repository.url,
        backups=tuple(backup.id for backup in backups),
        segments=len(segments),
        bytes=work.bytes,
        deep=deep,
        damaged=tuple(with_affected(catalog, damage) for damage in damaged),
        unread=tuple(work.unread),
        undecoded=tuple(work.undecoded),
    )
    if record:
        _record(catalog, result)
    return result


def _server_log_damage(work: Verifying) -> Iterator[Damage]:
    """Read the archived write-ahead logs of all servers; yield what is damaged."""
    names = (each.name for each in work.repository.list("wal/"))
    for system in sorted({name.split("/")[1] for name in names}):
        archive = WalArchive(work.repository, work.keys, system)
        yield from wal_damage(archive, system)


def _scope(
    catalog: Catalog, backup_id: str | None
) -> tuple[list[BackupManifest], list[SegmentManifest], list[Damage]]:
    """Return what is to be read, and the damage that manifests and sizes show."""
    if backup_id is None:
        damaged = [*catalog.damaged(), *log_damage(catalog)]
        return catalog.backups(), catalog.segments(), damaged
    for damage in catalog.damaged():
        if damage.backup is not None and backup_id in damage.backup:
            return [], [], [d for d in catalog.damaged() if d.backup == damage.backup]
    manifest = catalog.backup(backup_id)
    [window] = windows([manifest], catalog.segments())
    of_log = [
        damage
        for damage in (*catalog.damaged(), *log_damage(catalog))
        if damage.backup is None
        and manifest.id in with_affected(catalog, damage).affected
    ]
    return [manifest], list(window.segments), of_log


def _record(catalog: Catalog, result: Verification) -> None:
    """Add the result to each backup that was read, and to each that a damage affects.

    A backup is good or damaged by its own parts: one whose log is damaged restores to all
    that lies before the damage.
    """
    known = {manifest.id for manifest in catalog.backups()}
    own: dict[str, list[str]] = {name: [] for name in result.backups}
    of_log: dict[str, list[str]] = {}
    of_keys: set[str] = set()
    for damage in result.damaged:
        faults = own if damage.backup is not None else of_log
        for name in known.intersection(damage.affected):
            faults.setdefault(name, []).append(f"{damage.name}: {damage.reason}")
            # A key that does not fit says nothing about the backup.
            if damage.reason == UNDECRYPTED:
                of_keys.add(name)
    for name in own.keys() - of_keys:
        catalog.add_fact(
            name,
            "verified",
            ok=not own[name],
            detail={
                "deep": result.deep,
                "damaged": [cut(text) for text in own[name][:_MOST]],
                "log": [cut(text) for text in of_log.get(name, [])[:_MOST]],
                "unread": len(result.unread),
            },
        )
