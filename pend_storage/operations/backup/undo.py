"""Undo of changes of one record in an environment."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pend_storage._audit_record import record_done
from pend_storage._model.attribution import actor
from pend_storage._model.records import JSON
from pend_storage._model.snapshots import StoredChange
from pend_storage._shown import shown
from pend_storage.backup._catalog import Catalog
from pend_storage.backup._segments import read_changes
from pend_storage.backup._snapshot_files import read_rows
from pend_storage.backup._streams import Keys
from pend_storage.backup._target import Resolved
from pend_storage.backup._undo import Earlier, Undo, Wanted, plan_undo, write_undo
from pend_storage.backup._window import chains
from pend_storage.config import Settings
from pend_storage.errors import ChangesExpired, ConfigError, CorruptFile
from pend_storage.operations.backup.live import open_live
from pend_storage.operations.backup.opening import keys_of, open_repository
from pend_storage.operations.backup.restore import find_target
from pend_storage.operations.jobs import acted
from pend_storage.store import Store

__all__ = ["Undone", "parse_wanted", "undo"]

_WANTED: Final = re.compile(r"(?P<version>\d{1,18})|before:(?P<before>\d{1,18})")
_ARCHIVE: Final = "the archive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Undone:
    """Result of an undo, or of its plan."""

    undo: Undo
    version: int | None
    """Of the record, now; 0: it is deleted. None: nothing was written."""
    dry_run: bool


def parse_wanted(text: str | None) -> Wanted:
    """Parse ``VERSION`` or ``before:SEQUENCE``; None is the state before the present one.

    Raises:
        ConfigError: it is neither.
    """
    if text is None:
        return Wanted()
    found = _WANTED.fullmatch(text)
    if found is None:
        raise ConfigError(
            f"--to {shown(text)} is neither a version, such as 4711, nor before: with a "
            "sequence number, such as before:4711."
        )
    if found["version"] is not None:
        return Wanted(version=int(found["version"]))
    return Wanted(before=int(found["before"]))


def undo(
    settings: Settings,
    collection: str,
    key: str,
    *,
    to: str | None = None,
    by: str | None = None,
    reason: str | None = None,
    dry_run: bool = False,
) -> Undone:
    """Write an earlier value of a record again, as a new commit.

    Args:
        settings: of the environment.
        collection: name of the collection.
        key: of the record.
        to: a version, 0 for none, or ``before:SEQUENCE``; None: before the present one.
        by: author; None: this user, machine and process.
        reason: of the commit.
        dry_run: only find the earlier value.

    Raises:
        ConfigError: what was there is not known.
        Conflict: the record was changed meanwhile.
        UniqueViolation: another record has a unique value of the earlier one by now.
        ReferenceViolation: a reference would lead nowhere.
        StoreUnavailable: a store cannot be reached.
        UnknownCollection: there is none of that name.
    """
    wanted = parse_wanted(to)
    with open_live(settings) as live:
        store: Store = live.stores[0] if live.pair is None else live.pair
        archive = _Archive(settings, live.stores)
        plan = plan_undo(
            store,
            collection,
            key,
            wanted,
            logs={one.identity(): one for one in live.stores},
            archived=archive.find,
        )
        version = None
        if plan.is_needed and not dry_run:
            with acted(by, reason) as author:
                version = write_undo(store, plan, by=author, reason=actor().reason)
                details: dict[str, JSON] = {
                    "collection": plan.collection,
                    "from": str(plan.present),
                    "to": str(plan.earlier.version),
                    "version": str(version),
                }
                record_done(store, "undo", by=author, reason=None, details=details)
    return Undone(undo=plan, version=version, dry_run=dry_run)


class _Archive:
    """Archive of an environment, read where the logs do not reach back."""

    def __init__(self, settings: Settings, stores: tuple[Store, ...]) -> None:
        self._settings = settings
        self._stores = stores
        self._schema = stores[0].schema

    def find(
        self, collection: str, key: str, wanted: Wanted, present: int
    ) -> Earlier | None:
        """Find an earlier state; see :data:`pend_storage.backup._undo.Archived`."""
        if self._settings.backup is None:
            return None
        catalog = Catalog(open_repository(self._settings))
        keys = keys_of(self._settings)
        if wanted.version is not None:
            return self._version(catalog, keys, collection, key, wanted.version)
        found = self._before(catalog, keys, (collection, key), wanted, present)
        if found is not None:
            return found
        target = f"before:{collection}/{key}@{present}"
        if wanted.before is not None:
            target = f"before:{wanted.before}"
        with contextlib.suppress(ConfigError):  # the commit may not be archived yet
            resolved = find_target(self._settings, target, catalog, keys, self._stores)
            return self._state_at(resolved, catalog, keys, collection, key)
        with contextlib.suppress(ConfigError):  # nothing can be restored at all
            end = find_target(self._settings, "latest", catalog, keys, self._stores)
            if self._goes_on(end.upto, (collection, key, present)):
                return self._state_at(end, catalog, keys, collection, key)
        return None

    def _goes_on(self, end: int, wanted: tuple[str, str, int]) -> bool:
        """Return whether a log leads from the end of the archive to the present version.

        No log has an earlier change of the record, or it would have been found there. So
        what it was before is what it was at that end.
        """
        for store in self._stores:
            with contextlib.suppress(ChangesExpired):
                for change in store.changes(end):
                    if any(record[:3] == wanted for record in change.records):
                        return True
        return False

    def _before(
        self,
        catalog: Catalog,
        keys: Keys,
        place: tuple[str, str],
        wanted: Wanted,
        present: int,
    ) -> Earlier | None:
        """Return the value before, where one chain of segments has both.

        Between two entries of a chain none is missing.
        """
        for chain in chains(catalog.segments()):
            is_after = False
            for segment in reversed(chain.segments):
                entries = read_changes(
                    catalog.repository, [segment], keys, segment.after, segment.upto
                )
                states = [
                    (change.sequence, state)
                    for change in entries
                    if (state := self._in_change(change, *place)) is not None
                ]
                for sequence, state in reversed(states):
                    if wanted.before is not None:
                        is_after = chain.end.sequence >= wanted.before > sequence
                    if is_after:
                        return state
                    is_after = state.version == present
        return None

    def _state_at(
        self,
        resolved: Resolved,
        catalog: Catalog,
        keys: Keys,
        collection: str,
        key: str,
    ) -> Earlier:
        """Return the state of a record at a position."""
        begin = resolved.backup.point.sequence
        found = None
        for change in read_changes(
            catalog.repository, resolved.segments, keys, begin, resolved.upto
        ):
            found = self._in_change(change, collection, key) or found
        if found is not None:
            return found
        for name, row in read_rows(
            catalog.repository, resolved.backup, keys, collections=[collection]
        ):
            if name == collection and row.key == key:
                return self._earlier(collection, row.version, row.body)
        return Earlier(0, None, _ARCHIVE)

    def _version(
        self, catalog: Catalog, keys: Keys, collection: str, key: str, version: int
    ) -> Earlier | None:
        """Return what a record was in one version: from a segment, or from a backup."""
        for change in _changes_of(catalog, keys, version):
            found = self._in_change(change, collection, key)
            if found is not None and found.version == version:
                return found
        for backup in reversed(catalog.backups()):
            if backup.point.sequence < version or backup.kind != "snapshot":
                continue
            for name, row in read_rows(
                catalog.repository, backup, keys, collections=[collection]
            ):
                if (name, row.key, row.version) == (collection, key, version):
                    return self._earlier(collection, row.version, row.body)
        return None

    def _in_change(
        self, change: StoredChange, collection: str, key: str
    ) -> Earlier | None:
        for record in change.records:
            if (record.collection, record.key) == (collection, key):
                return self._earlier(collection, record.version, record.body)
        return None

    def _earlier(self, collection: str, version: int, body: bytes | None) -> Earlier:
        codec = self._schema[collection].codec
        record = None if body is None else codec.decode(body)
        return Earlier(version, record, _ARCHIVE)


def _changes_of(catalog: Catalog, keys: Keys, version: int) -> Iterator[StoredChange]:
    """Yield the entries of the segments that may have made a version."""
    for segment in reversed(catalog.segments()):
        # A version is the number of its commit, or lies a little above the one before.
        if segment.after < version:
            with contextlib.suppress(CorruptFile, FileNotFoundError):
                yield from read_changes(
                    catalog.repository, [segment], keys, segment.after, segment.upto
                )
