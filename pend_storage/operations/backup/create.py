"""Creation of a backup of an environment."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pend_storage.backup._catalog import Catalog
from pend_storage.backup._creation import (
    LEASE,
    Description,
    create_snapshot,
    remove_interrupted,
)
from pend_storage.backup._manifest import BackupManifest
from pend_storage.config import Settings
from pend_storage.errors import PendStorageError
from pend_storage.operations.backup.live import Live, open_live, other_files
from pend_storage.operations.backup.opening import keys_of, open_repository
from pend_storage.operations.jobs import running_job, staged
from pend_storage.operations.progress import Stage, silent
from pend_storage.stores.json import JsonStore

if TYPE_CHECKING:
    from pend_storage.stores.postgres import PostgresStore

__all__ = ["Created", "create_backup"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """Backup that was made, verified and published."""

    manifest: BackupManifest
    repository: str
    """Address."""
    removed: int
    """Objects of interrupted backups that were removed before."""
    seconds: float
    note: str | None
    """Why readiness does not know of it; None: it does, or one store stands alone."""

    @property
    def records(self) -> int:
        """Records in it, without tombstones."""
        return sum(facts.rows for facts in self.manifest.collections.values())

    @property
    def size(self) -> int:
        """Bytes as stored."""
        return sum(part.size for part in self.manifest.parts)


def create_backup(
    settings: Settings,
    *,
    label: str | None = None,
    keep: bool = False,
    wait: float = 0.0,
    stage: Stage = silent,
    by: str | None = None,
    reason: str | None = None,
) -> Created:
    """Make a snapshot of an environment, read it back, and publish it.

    Args:
        settings: of the environment.
        label: for people.
        keep: outside of the policy from the beginning.
        wait: seconds to wait for another process that makes a backup.
        stage: shows the progress.
        by: who does it; None: the author of this context, or user, machine, process.
        reason: of the person; the job keeps it.

    Raises:
        ConfigError: no repository is configured, or a permission is missing.
        CorruptFile: what was read back is not what was written; nothing is published.
        LockTimeout: another process makes a backup.
        StoreUnavailable: a store or the repository cannot be reached, or is full.
    """
    started = time.monotonic()
    repository, keys = open_repository(settings, create=True), keys_of(settings)
    files = other_files(settings)
    with (
        open_live(settings) as live,
        repository.lease(LEASE, wait=wait) as lease,
        running_job(
            live.pair or live.stores[0], "backup-create", by=by, reason=reason
        ) as job,
        staged(job, stage)("backup") as progress,
    ):
        removed = remove_interrupted(Catalog(repository), lease)
        manifest = create_snapshot(
            live.stores,
            repository,
            keys,
            lease,
            _description(settings, live, label=label, keep=keep),
            files=files,
            progress=progress,
        )
        note = live.note(manifest)
        job.finish(f"{manifest.id} made and verified")
    return Created(
        manifest=manifest,
        repository=repository.url,
        removed=removed,
        seconds=time.monotonic() - started,
        note=note,
    )


def _description(
    settings: Settings, live: Live, *, label: str | None, keep: bool
) -> Description:
    servers = {
        place: (side, _server_version(store))
        for place, (side, store) in enumerate(zip(live.sides, live.stores, strict=True))
    }
    return Description(
        environment=settings.environment,
        library=version("pend_storage"),
        schema_module=settings.schema,
        label=label,
        keep=keep,
        servers=servers,
    )


def _server_version(store: Any) -> str | None:
    """Return the version of a database server; None for JSON, or where it is not known."""
    if isinstance(store, JsonStore):
        return None
    database: PostgresStore = store
    with contextlib.suppress(PendStorageError):
        return database.inspect().server_version.split(" ")[0]
    return None
