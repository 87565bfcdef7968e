"""Restore: fill an empty store with a snapshot and the changes after it, and seal it.

Nothing of the source is believed before it is verified: parts and segments by their hashes,
and what has arrived in the store by the digests of the manifest. The store is refused by
every process from the first row until it is promoted.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pend_storage import crashpoints
from pend_storage._model.snapshots import LogPoint, StoredChange
from pend_storage._restored import RestoreNote, note_of
from pend_storage._shown import listed, shown
from pend_storage.backup._catalog import MANIFEST, Catalog, folder_of
from pend_storage.backup._manifest import BackupManifest
from pend_storage.backup._repository import Repository
from pend_storage.backup._row_digest import RowDigest
from pend_storage.backup._seal import begin_filling, seal
from pend_storage.backup._segments import read_changes
from pend_storage.backup._snapshot_files import read_rows
from pend_storage.backup._streams import Keys
from pend_storage.backup._target import Resolved
from pend_storage.errors import ConfigError, CorruptFile
from pend_storage.events import Progress
from pend_storage.phases import ROLE_META
from pend_storage.store import Store

__all__ = ["USE", "RestoreReport", "fill", "in_use", "restore"]

USE: Final = "use-"
"""Prefix of the leases of those that read a backup, before its ID: it is not pruned."""
_LOADED_META: Final = "restore-loaded"
"""Meta entry of a store with the whole snapshot, while changes are replayed."""
_TICK: Final = 5_000
"""Entries between two calls of ``progress``."""

_BEGUN: Final = crashpoints.declare(
    "restore.begun", "the store is marked as one that is filled, and has no row"
)
_ROWS: Final = crashpoints.declare(
    "restore.rows", "the snapshot is loaded, and was not compared with the manifest"
)
_LOADED: Final = crashpoints.declare(
    "restore.loaded", "the snapshot is loaded and compared, and no change is replayed"
)
_REPLAYED: Final = crashpoints.declare(
    "restore.replayed", "the changes are replayed, and the store is not sealed"
)
_SEALED: Final = crashpoints.declare(
    "restore.sealed", "the store is sealed, and its restore has not reported"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreReport:
    """Outcome of a restore."""

    backup: str
    target: str
    point: LogPoint
    """Position that was restored; identity and epoch are those of the source."""
    commit: int
    """Last commit that is in it."""
    at: datetime
    """Time of that commit."""
    rows: int
    """Rows of the snapshot, tombstones included; 0 where they had been loaded before."""
    changes: int
    """Commits that were replayed after it."""
    records: Mapping[str, int]
    """Records by collection in the snapshot."""
    above: int
    """All later commits of the store are numbered above this."""
    resumed: bool
    """Whether an interrupted restore was continued."""
    seconds: float

    @property
    def rate(self) -> float:
        """Rows and commits per second."""
        return (self.rows + self.changes) / max(self.seconds, 0.001)


def restore(
    resolved: Resolved,
    catalog: Catalog,
    keys: Keys,
    store: Store,
    *,
    above: int = 0,
    complete: Callable[[], None] | None = None,
    progress: Progress | None = None,
) -> RestoreReport:
    """Restore to a position into an empty store, and seal it.

    After an interruption, call it again with the same store and position.

    Args:
        resolved: position.
        catalog: of the repository with the backup.
        keys: to decrypt with.
        store: an empty one, of the same schema, that no other process uses.
        above: highest number that is known to have been given after the position.
        complete: called when all data is there, before the seal: what the store derives
            from it can be made then.
        progress: called with rows and commits done, and those to do.

    Raises:
        ConfigError: the store is in use, or the backup has another schema.
        CorruptFile: the backup or a segment is damaged, or the store does not hold what
            the backup has.
        StoreUnavailable: the store or the repository cannot be reached.
        LockTimeout: the backup may have been pruned meanwhile.
    """
    started = time.monotonic()
    _require_schema(resolved.backup, store)
    above = max(above, resolved.upto, *(s.upto for s in resolved.later), 0)
    with in_use(catalog.repository, resolved.backup) as still_held:
        done = _filled(resolved, catalog, keys, store, progress)
        if complete is not None:
            complete()
        still_held()
        seal(
            store,
            source=resolved.point,
            above=above,
            meta=resolved.backup.meta,
            backup=resolved.backup.id,
            target=resolved.target,
        )
        _SEALED()
        loaded = store.meta(_LOADED_META)
        if loaded is not None:
            store.compare_and_set_meta(_LOADED_META, loaded, None)
    facts = resolved.backup.collections
    return RestoreReport(
        backup=resolved.backup.id,
        target=resolved.target,
        point=resolved.point,
        commit=resolved.commit,
        at=resolved.at,
        rows=done.rows,
        changes=done.changes,
        records={name: found.rows for name, found in facts.items()},
        above=above,
        resumed=done.resumed,
        seconds=time.monotonic() - started,
    )


@dataclass(frozen=True, slots=True)
class _Done:
    rows: int
    changes: int
    resumed: bool


def _filled(
    resolved: Resolved,
    catalog: Catalog,
    keys: Keys,
    store: Store,
    progress: Progress | None,
) -> _Done:
    """Fill a store, or what an interrupted call has left to do."""
    note, backup = note_of(store), resolved.backup
    resumed = note is not None
    if note is None:
        begin_filling(
            store, source=resolved.point, backup=backup.id, target=resolved.target
        )
        _BEGUN()
    else:
        _require_same(note, resolved)
        if (
            store.meta(ROLE_META) is not None
        ):  # the seal had begun, so all data is there
            return _Done(0, 0, resumed)
    rows = 0
    counter = _Counter(resolved, progress)
    if store.meta(_LOADED_META) is None:
        rows = _load(resolved, catalog, keys, store, counter)
        _LOADED()
    changes = _replay(resolved, catalog, keys, store, counter)
    _REPLAYED()
    return _Done(rows, changes, resumed)


def fill(resolved: Resolved, catalog: Catalog, keys: Keys, store: Store) -> None:
    """Fill a store that is thrown away afterwards, such as one for a comparison.

    Args and errors as :func:`restore`; the store is not sealed.
    """
    _require_schema(resolved.backup, store)
    with in_use(catalog.repository, resolved.backup):
        counter = _Counter(resolved, None)
        _load(resolved, catalog, keys, store, counter)
        _replay(resolved, catalog, keys, store, counter)


def _load(
    resolved: Resolved,
    catalog: Catalog,
    keys: Keys,
    store: Store,
    counter: _Counter,
) -> int:
    """Load the snapshot, and compare what has arrived with the manifest."""
    backup = resolved.backup
    rows = 0
    if _is_empty(store):
        source = read_rows(catalog.repository, backup, keys)
        rows = store.load_snapshot(source, progress=counter.rows)
    _ROWS()
    _require_equal(backup, store)
    store.compare_and_set_meta(_LOADED_META, None, backup.id)
    return rows


def _replay(
    resolved: Resolved, catalog: Catalog, keys: Keys, store: Store, counter: _Counter
) -> int:
    """Replay the changes after the snapshot, up to the position."""
    if not resolved.segments:
        return 0
    changes = read_changes(
        catalog.repository,
        resolved.segments,
        keys,
        resolved.backup.point.sequence,
        resolved.upto,
    )
    return store.load_changes(counter.counted(changes))


class _Counter:
    """Counter of rows and commits, for a progress bar."""

    def __init__(self, resolved: Resolved, progress: Progress | None) -> None:
        facts = resolved.backup.collections.values()
        self._rows = sum(found.rows + found.tombstones for found in facts)
        self._total = self._rows + sum(s.entries for s in resolved.segments)
        self._progress = progress

    def rows(self, done: int, total: int) -> None:
        """Report rows that were loaded."""
        del total
        if self._progress is not None:
            self._progress(min(done, self._rows), self._total)

    def counted(self, changes: Iterator[StoredChange]) -> Iterator[StoredChange]:
        """Yield changes, and report them."""
        for number, change in enumerate(changes, 1):
            yield change
            if self._progress is not None and number % _TICK == 0:
                self._progress(self._rows + number, self._total)
        if self._progress is not None:
            self._progress(self._total, self._total)


# -- checks ---------------------------------------------------------------------------------


def _require_schema(backup: BackupManifest, store: Store) -> None:
    if backup.schema_fingerprint == store.schema.fingerprint():
        return
    module = backup.schema_module
    named = "" if module is None else f" ({shown(module)})"
    raise ConfigError(
        f"the backup {backup.id} was made with another version of the schema{named}. Restore "
        "it with that version of the schema module, by --schema or from the program of that "
        "time; then bring the restored store to the present one: pend-storage db migrate, "
        "pend-storage json migrate."
    )


def _require_same(note: RestoreNote, resolved: Resolved) -> None:
    """Refuse a store that another restore has filled, or has begun to."""
    if note.point == resolved.point and note.backup == resolved.backup.id:
        return
    raise ConfigError(
        f"the store holds a restore of the backup {shown(note.backup)} to "
        f"{shown(note.target)} (sequence {note.sequence}). Name an empty directory or "
        "database; or drop this one."
    )


def _is_empty(store: Store) -> bool:
    return not any(
        next(store.scan(spec.name, deleted=True), None) is not None
        for spec in store.schema
    )


def _require_equal(backup: BackupManifest, store: Store) -> None:
    """Compare rows and tombstones of a store with the digests of a manifest."""
    wrong = []
    with store.snapshot() as reader:
        for name, facts in backup.collections.items():
            found = RowDigest(name).add_all(reader.rows(name))
            if found.facts() != facts:
                wrong.append(
                    f"{name} ({found.rows:,} records and {found.tombstones:,} tombstones "
                    f"in place of {facts.rows:,} and {facts.tombstones:,}, or other values)"
                )
    if wrong:
        raise CorruptFile(
            f"the restored store differs from the backup in {listed(wrong)}. Drop it, and "
            "restore into an empty one",
            path=f"backup {backup.id}",
        )


@contextlib.contextmanager
def in_use(
    repository: Repository, backup: BackupManifest
) -> Iterator[Callable[[], None]]:
    """Hold a lease that keeps a backup, and the segments after it, from being pruned.

    A repository that this user may only read cannot be pruned by it either: then there is
    none. Yields a function that raises LockTimeout once the lease may be lost.
    """
    still_held: Callable[[], None] = _always
    with contextlib.ExitStack() as held:
        name = f"{USE}{backup.id}-{secrets.token_hex(4)}"
        with contextlib.suppress(ConfigError):  # no permission to write
            still_held = held.enter_context(repository.lease(name)).require
        _require_published(repository, backup)
        try:
            yield still_held
        except FileNotFoundError as error:
            missing = error.filename or error
            raise CorruptFile(
                f"an object of it, or of the log after it, is missing: {missing}",
                path=f"backup {backup.id}",
            ) from error


def _always() -> None:
    """Stand for the lease of a repository without the permission to write."""


def _require_published(repository: Repository, backup: BackupManifest) -> None:
    """Refuse a backup that was pruned after it was found, and before it had a lease."""
    try:
        repository.read(f"{folder_of(backup.id)}/{MANIFEST}")
    except FileNotFoundError:
        raise ConfigError(
            f"the backup {backup.id} was pruned at this moment. Call it again: the target may "
            "be reached from another backup."
        ) from None
