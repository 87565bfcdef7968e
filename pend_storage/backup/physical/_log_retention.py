"""Retention of the archived write-ahead log: what no backup of a server needs goes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pend_storage import crashpoints
from pend_storage.backup._manifest import BackupManifest
from pend_storage.backup._repository import Lease, Repository, StoredObject
from pend_storage.backup.physical._base import facts_of
from pend_storage.backup.physical._lsn import parse_lsn, parse_segment

__all__ = ["delete_log", "unneeded_log"]

_NAME: int = 24
"""Characters of the name of a segment."""
_UNLISTED = crashpoints.declare(
    "prune.wal-unlisted", "the manifest of a segment is deleted, and not its content"
)


def unneeded_log(
    repository: Repository, backups: Iterable[BackupManifest]
) -> list[StoredObject]:
    """Return the objects of segments that lie before every backup of their cluster.

    The log of a cluster without any backup stays: one may be about to be made. Histories of
    timelines stay always.

    Args:
        repository: with the archived log.
        backups: that are kept, of all kinds.
    """
    least: dict[str, tuple[int, int]] = {}
    for backup in backups:
        if backup.kind == "snapshot":
            continue
        facts = facts_of(backup)
        first = parse_lsn(facts.start) // facts.segment_size
        known = least.get(facts.system, (first, facts.segment_size))
        least[facts.system] = min(known, (first, facts.segment_size))
    return [
        found
        for system, (first, size) in sorted(least.items())
        for found in _before(repository.list(f"wal/{system}/"), first, size)
    ]


def delete_log(
    repository: Repository, objects: Iterable[StoredObject], lease: Lease
) -> None:
    """Delete segments; manifests go first, so that nothing half deleted is listed.

    Args:
        repository: with the archived log.
        objects: as :func:`unneeded_log` returns them.
        lease: of the pruning.
    """
    for found in sorted(objects, key=lambda o: not o.name.endswith(".json")):
        lease.require()
        repository.delete(found.name)
        _UNLISTED()


def _before(
    objects: Iterable[StoredObject], first: int, size: int
) -> Iterator[StoredObject]:
    for found in objects:
        segment = parse_segment(found.name.rpartition("/")[2][:_NAME], size)
        if segment is not None and segment.number < first:
            yield found
