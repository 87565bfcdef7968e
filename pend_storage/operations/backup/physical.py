"""Physical backups of an environment's own database server, and the archive of its log."""

from __future__ import annotations

import secrets
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal

from pend_storage import crashpoints
from pend_storage._shown import shown
from pend_storage.backup._catalog import MANIFEST, Catalog, folder_of
from pend_storage.backup._creation import LEASE, remove_interrupted
from pend_storage.backup._manifest import BackupManifest, Point, packed
from pend_storage.backup._repository import Repository
from pend_storage.backup._streams import Keys, verify_stored
from pend_storage.backup.physical._base import (
    copy_server,
    describe,
    facts_of,
    fetch_manifest,
    store_base,
)
from pend_storage.backup.physical._combine import chain_of
from pend_storage.backup.physical._receiver import SLOT, Receiver, slot_warning
from pend_storage.backup.physical._server import (
    Server,
    connected,
    look_at,
    require_replication,
)
from pend_storage.backup.physical._targets import OFFSET_META
from pend_storage.backup.physical._tools import find_tools
from pend_storage.backup.physical._verification import PHYSICAL_VERIFIERS
from pend_storage.backup.physical._wal import WalArchive
from pend_storage.config import Settings
from pend_storage.errors import ConfigError, StoreUnavailable
from pend_storage.operations.backup.create import Created
from pend_storage.operations.backup.live import open_live
from pend_storage.operations.backup.opening import keys_of, open_repository
from pend_storage.operations.progress import Stage, silent
from pend_storage.phases import Role
from pend_storage.store import Store

__all__ = [
    "PHYSICAL_VERIFIERS",
    "ArchivedLog",
    "archive_server_log",
    "create_physical",
    "follow_server_log",
    "highest_number_of",
    "libpq_settings",
]

_VERIFIED: Final = crashpoints.declare(
    "backup.base-verified", "all parts are verified, and no manifest names them"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedLog:
    """Result of one pass of archiving a server's log."""

    files: int
    """Segments and histories that were stored."""
    warning: str | None
    """What should be set at the server."""


def create_physical(
    settings: Settings,
    *,
    incremental: bool = False,
    parent: str | None = None,
    label: str | None = None,
    keep: bool = False,
    wait: float = 0.0,
    stage: Stage = silent,
) -> Created:
    """Make a physical backup of the environment's own server, verified and published.

    Args:
        settings: of the environment, whose primary must be the database.
        incremental: only the blocks that changed since another backup; PostgreSQL 17.
        parent: id of that backup; None: the newest physical or incremental one.
        label: name for people.
        keep: outside of the policy of retention.
        wait: seconds to wait for another process that makes a backup.
        stage: gets the progress.

    Raises:
        ConfigError: the server does not allow it, or is no primary; or the programs of its
            version are not installed.
        CorruptFile: the copy, or what was stored of it, is not what the server sent.
        LockTimeout: another process makes a backup.
        StoreUnavailable: the server or the repository cannot be reached, or a disk is full.
    """
    began = time.monotonic()
    address = libpq_settings(settings)
    server = look_at(address)
    server.require_plain_files()
    if incremental:
        server.require_incremental()
    require_replication(address)
    find_tools(server.major, settings=address)
    repository, keys = open_repository(settings, create=True), keys_of(settings)
    with (
        open_live(settings) as live,
        repository.lease(LEASE, wait=wait) as lease,
    ):
        store = live.stores[live.sides.index("postgres")]
        _require_primary(store)
        removed = remove_interrupted(Catalog(repository), lease)
        base = _parent(repository, server, parent) if incremental else None
        work = _Backup(settings, address, server, repository, keys)
        made = work.make(store, base, label=label, keep=keep, stage=stage)
        lease.require()
        published, text = packed(made)
        name = f"{folder_of(made.id)}/{MANIFEST}"
        repository.put(name, [text], create_only=True)
        note = live.note(published)
    return Created(
        manifest=published,
        repository=repository.url,
        removed=removed,
        seconds=time.monotonic() - began,
        note=note,
    )


@dataclass(frozen=True, slots=True)
class _Backup:
    """Physical backup under way."""

    settings: Settings
    address: dict[str, Any]
    server: Server
    repository: Repository
    keys: Keys

    def make(
        self,
        store: Store,
        parent: BackupManifest | None,
        *,
        label: str | None,
        keep: bool,
        stage: Stage,
    ) -> BackupManifest:
        """Copy, verify, store and verify again; return the manifest to publish."""
        started = _now()
        kind: Literal["physical", "incremental"]
        kind = "physical" if parent is None else "incremental"
        backup = f"{started:%Y%m%dT%H%M%SZ}-{kind}-{secrets.token_hex(3)}"
        tools = find_tools(self.server.major, settings=self.address)
        offset = store.meta(OFFSET_META)
        with tempfile.TemporaryDirectory(prefix="pend-base-") as name:
            scratch = Path(name)
            known = None
            if parent is not None:
                known = fetch_manifest(parent, self.repository, self.keys, scratch)
            with stage("copying the server", unit="bytes"):
                copied = copy_server(tools, self.server, scratch, parent=known)
            facts = describe(copied, self.server, _integer(offset))
            if store.meta(OFFSET_META) != offset:
                raise StoreUnavailable(
                    "its numbers were moved during the copy", store="PostgreSQL"
                )
            point = self._point(store)
            with stage("storing it", unit="bytes"):
                parts = store_base(copied, self.repository, self.keys, backup)
        with stage("verifying what was stored", unit="bytes"):
            for part in parts:
                verify_stored(self.repository, part)
        _VERIFIED()
        ended = _now().isoformat(timespec="seconds")
        return BackupManifest(
            id=backup,
            kind=kind,
            environment=self.settings.environment,
            label=label,
            point=point,
            side="postgres",
            started_at=started.isoformat(timespec="seconds"),
            finished_at=ended,
            verified_at=ended,
            library=version("pend_storage"),
            schema_fingerprint=store.schema.fingerprint(),
            schema_module=self.settings.schema,
            server=self.server.version,
            parts=parts,
            parent=None if parent is None else parent.id,
            kept=keep,
            meta=facts,
        )

    def _point(self, store: Store) -> Point:
        """Return a point that has everything of the copy: no earlier one can be restored."""
        with connected(self.address) as connection:
            row = connection.execute("select pg_catalog.clock_timestamp()").fetchone()
        role = store.role()
        if role.role is not Role.PRIMARY:
            raise ConfigError(
                "the phase was changed during the backup, and the database is no longer "
                "primary. Nothing was published; make a backup of the new primary."
            )
        at: datetime = row[0] if row is not None else _now()
        return Point(
            identity=store.identity(),
            epoch=role.epoch,
            sequence=highest_number_of(store),
            at=at.astimezone(UTC).isoformat(),
        )


def highest_number_of(store: Store) -> int:
    """Return a number that no commit made up to now lies above."""
    head = store.head()
    return max((change.sequence for change in store.changes(head)), default=head)


def libpq_settings(settings: Settings) -> dict[str, Any]:
    """Return the settings of libpq that lead to the server. Never show them.

    Raises:
        ConfigError: no database is configured, or it is behind a pooler.
    """
    from pend_storage.stores.postgres._connection.address import (  # noqa: PLC0415
        Address,
    )

    wanted = settings.require_postgres()
    if wanted.pooler is not None:
        raise ConfigError(
            f"{settings.place}: postgres.pooler is set, and a pooler passes no connection "
            "for replication on. Give the server's own address to this command, in "
            "PEND_DATABASE_URL, and unset postgres.pooler there; or make snapshots, which "
            "go through it."
        )
    return dict(Address.parse(wanted.full_url).effective)


def _require_primary(store: Store) -> None:
    role = store.role().role
    if role is not Role.PRIMARY:
        raise ConfigError(
            f"the database is {role.value}: a physical backup has the state of the server, "
            "which follows another store now. Make a snapshot, which has that of the "
            "primary: `backup create` without --kind."
        )


def _parent(
    repository: Repository, server: Server, wanted: str | None
) -> BackupManifest:
    """Return the backup that an incremental one continues; its chain is whole."""
    catalog = Catalog(repository)
    known = {each.id: each for each in catalog.backups()}
    own = [
        each
        for each in known.values()
        if each.kind != "snapshot" and facts_of(each).system == server.system
    ]
    parent = catalog.backup(wanted) if wanted is not None else own[-1] if own else None
    if parent is None or parent not in own:
        name = "" if parent is None else f" {shown(parent.id)} is none."
        raise ConfigError(
            f"an incremental backup continues a physical one of the same server.{name} Make "
            "a full one first: `backup create --kind physical`."
        )
    chain_of(parent, known)
    return parent


# -- the log of the server ------------------------------------------------------------------


def archive_server_log(
    settings: Settings, spool: Path, *, slot: str = SLOT
) -> ArchivedLog:
    """Archive the server's log up to now.

    Args:
        settings: of the environment.
        spool: directory on a disk that survives, for what is not stored yet.
        slot: replication slot that keeps the log at the server.

    Raises: as :meth:`Receiver.once`; LockTimeout: another process archives it.
    """
    with _receiver(settings, spool, slot) as receiver:
        return ArchivedLog(files=receiver.once(), warning=slot_warning(receiver.server))


def follow_server_log(
    settings: Settings,
    spool: Path,
    stop: threading.Event,
    *,
    slot: str = SLOT,
    interval: float = 1.0,
) -> Iterator[ArchivedLog]:
    """Archive the server's log until an event is set; yield the result of each pass.

    Args:
        settings: of the environment.
        spool: as for :func:`archive_server_log`.
        stop: ends it.
        slot: as above.
        interval: seconds between two passes.

    Raises: as :meth:`Receiver.follow`.
    """
    with _receiver(settings, spool, slot) as receiver:
        warning = slot_warning(receiver.server)
        for files in receiver.follow(stop, interval=interval):
            yield ArchivedLog(files=files, warning=warning)
            warning = None


@contextmanager
def _receiver(settings: Settings, spool: Path, slot: str) -> Iterator[Receiver]:
    address = libpq_settings(settings)
    server = look_at(address)
    system, _ = require_replication(address)
    repository = open_repository(settings, create=True)
    archive = WalArchive(repository, keys_of(settings), system)
    with repository.lease(f"wal-{system}"):
        tools = find_tools(server.major, settings=address)
        yield Receiver(tools, server, archive, spool.absolute(), address, slot)


def _integer(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _now() -> datetime:
    return datetime.now(UTC)
