"""Creation of a snapshot in a repository: written, read back, and published at the end."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import msgspec

from pend_storage import crashpoints
from pend_storage._model.snapshots import SnapshotReader
from pend_storage._shown import cut
from pend_storage.backup._catalog import MANIFEST, Catalog, folder_of
from pend_storage.backup._log_reading import source_of
from pend_storage.backup._manifest import BackupManifest, Part, Point, packed
from pend_storage.backup._marks import marks_of
from pend_storage.backup._repository import Lease, Repository
from pend_storage.backup._snapshot_files import PART_BYTES, write_snapshot
from pend_storage.backup._streams import Keys, verify_stored
from pend_storage.backup._unclaimed import write_files
from pend_storage.errors import CorruptFile, StaleEpoch, StoreUnavailable
from pend_storage.events import Progress
from pend_storage.phases import ROLE_META, Role, RoleState
from pend_storage.store import Store

__all__ = ["LEASE", "Description", "create_snapshot", "new_id", "remove_interrupted"]

LEASE: Final = "create"
"""Lease of a process that makes a backup, of any kind."""
_RESERVE: Final = 64 << 20
"""Bytes that must stay free."""
_GROWTH: Final = 1.1
"""Size of a backup, compared with the one before."""
_ATTEMPTS: Final = 3
"""Times that a switch may come between."""
_LONGEST_LABEL: Final = 200

_VERIFIED: Final = crashpoints.declare(
    "backup.verified", "all parts are read back, and no manifest names them"
)
_PUBLISHED: Final = crashpoints.declare(
    "backup.published", "the manifest is stored, and readiness does not know of it"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """Description of a backup, beside its content."""

    environment: str
    library: str
    schema_module: str | None = None
    label: str | None = None
    keep: bool = False
    servers: Mapping[int, tuple[Literal["json", "postgres"], str | None]] | None = None
    """Side and version of the server, by the place of the store; None: one store alone."""


def new_id(kind: str, now: datetime) -> str:
    """Return a new id of a backup."""
    return f"{now:%Y%m%dT%H%M%SZ}-{kind}-{secrets.token_hex(3)}"


def remove_interrupted(catalog: Catalog, lease: Lease) -> int:
    """Remove the objects of backups that were never published; returns their number.

    Args:
        catalog: of the repository.
        lease: :data:`LEASE`; without it, they may belong to a backup under way.

    Raises:
        LockTimeout: the lease is lost.
        StoreUnavailable: the repository cannot be reached.
    """
    names = catalog.interrupted()
    for name in names:
        lease.require()
        catalog.repository.delete(name)
    return len(names)


def create_snapshot(
    stores: Sequence[Store],
    repository: Repository,
    keys: Keys,
    lease: Lease,
    description: Description,
    *,
    files: Mapping[str, Path] | None = None,
    part_bytes: int = PART_BYTES,
    progress: Progress | None = None,
) -> BackupManifest:
    """Make a snapshot of the primary: write it, read it back, publish it.

    Args:
        stores: of the environment, one or two.
        repository: where to write.
        keys: to encrypt to.
        lease: that is held.
        description: for the manifest.
        files: further files of the directory, by their path in it.
        part_bytes: bytes of content of a part.
        progress: called with the rows written, and 0.

    Raises:
        ConfigError: a permission is missing.
        CorruptFile: what was read back is not what was written; nothing is published.
        LockTimeout: the lease is lost, or the store's lock was not granted.
        StaleEpoch: roles have changed several times meanwhile.
        StoreUnavailable: a store or the repository cannot be reached, or is full.
    """
    _require_space(repository)
    for attempt in range(_ATTEMPTS):
        source = source_of(stores)
        with source.store.snapshot() as reader:
            try:
                _require_primary(reader)
            except StaleEpoch:
                if attempt == _ATTEMPTS - 1:
                    raise
                continue
            work = _Creation(repository, keys, lease, description, part_bytes)
            place = next(n for n, s in enumerate(stores) if s is source.store)
            manifest = work.write(reader, source.store, place, files or {}, progress)
        return work.publish(manifest)
    raise AssertionError("the last attempt returns or raises")


def _require_primary(reader: SnapshotReader) -> None:
    state = RoleState.from_meta(reader.meta.get(ROLE_META))
    if state.role not in {Role.PRIMARY, Role.FENCED}:
        raise StaleEpoch(
            store="the store", role=state.role.value, epoch=reader.point.epoch
        )


def _require_space(repository: Repository) -> None:
    """Refuse to begin what will not fit; the last backup shows how large one is."""
    free = repository.free_bytes()
    if free is None:
        return
    sizes = [
        sum(part.size for part in manifest.parts)
        for manifest in Catalog(repository).backups()
        if manifest.kind == "snapshot"
    ]
    needed = int(sizes[-1] * _GROWTH if sizes else 0) + _RESERVE
    if free < needed:
        raise StoreUnavailable(
            f"the backup needs about {needed:,} bytes and {free:,} are free; make room, or "
            "delete old backups: pend-storage backup prune",
            store=repository.url,
        )


class _Creation:
    """One backup under way."""

    def __init__(
        self,
        repository: Repository,
        keys: Keys,
        lease: Lease,
        description: Description,
        part_bytes: int,
    ) -> None:
        self._repository = repository
        self._keys = keys
        self._lease = lease
        self._description = description
        self._part_bytes = part_bytes
        self._started = datetime.now(UTC)
        self._id = new_id("snapshot", self._started)

    def write(
        self,
        reader: SnapshotReader,
        store: Store,
        place: int,
        files: Mapping[str, Path],
        progress: Progress | None,
    ) -> BackupManifest:
        """Write the parts; returns the manifest, which is not published."""
        folder = folder_of(self._id)
        done = write_snapshot(
            reader,
            store.schema,
            self._repository,
            self._keys,
            folder=folder,
            part_bytes=self._part_bytes,
            progress=progress,
        )
        parts: tuple[Part, ...] = done.parts
        digests: dict[str, str] = {}
        if files:
            part, digests = write_files(
                files, self._repository, self._keys, folder=folder
            )
            parts = (*parts, part)
        about = self._description
        side, server = (about.servers or {}).get(place, (None, None))
        point = reader.point
        return BackupManifest(
            id=self._id,
            kind="snapshot",
            environment=about.environment,
            label=None if about.label is None else cut(about.label, _LONGEST_LABEL),
            point=Point(
                identity=point.identity,
                epoch=point.epoch,
                sequence=point.sequence,
                at=reader.at.astimezone(UTC).isoformat(),
            ),
            side=side,
            started_at=self._started.isoformat(),
            finished_at="",
            library=about.library,
            schema_fingerprint=store.schema.fingerprint(),
            schema_module=about.schema_module,
            server=server,
            parts=parts,
            collections=done.collections,
            meta=dict(reader.meta),
            files=digests,
            kept=about.keep,
            marks={n: mark.sequence for n, mark in marks_of(reader.meta).items()},
        )

    def publish(self, manifest: BackupManifest) -> BackupManifest:
        """Read all parts back, and publish the manifest."""
        for part in manifest.parts:
            try:
                verify_stored(self._repository, part)
            except FileNotFoundError:
                raise CorruptFile(
                    "it was written, and is not there", path=part.name
                ) from None
        _VERIFIED()
        now = datetime.now(UTC).isoformat()
        done, text = packed(
            msgspec.structs.replace(manifest, finished_at=now, verified_at=now)
        )
        self._lease.require()
        name = f"{folder_of(manifest.id)}/{MANIFEST}"
        self._repository.put(name, [text], create_only=True)
        _PUBLISHED()
        return done
