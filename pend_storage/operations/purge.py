"""Purge: erase what the stores, their files and the quarantine keep of deleted records."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pend_storage import crashpoints
from pend_storage._audit_record import record_done
from pend_storage._audit_retention import erase
from pend_storage._files.by_path import unlink
from pend_storage._layouts.broken_files import is_whole_file
from pend_storage._layouts.unread_files import as_stored
from pend_storage._model.attribution import Actor, actor, current_actor
from pend_storage._model.records import (
    JSON,
    FindingRecord,
    QuarantinedRecord,
)
from pend_storage._shown import shown
from pend_storage.config import JsonSettings, Settings
from pend_storage.dualwrite import DualWriteStore
from pend_storage.dualwrite._log_position import kept_changes
from pend_storage.dualwrite._roles import SIDES
from pend_storage.errors import ConfigError, PendStorageError
from pend_storage.factory import open_passive, open_primary
from pend_storage.operations.jobs import running_job
from pend_storage.operations.purge_search import (
    Holder,
    Needles,
    backups_of,
    holding_changes,
    holding_files,
    holding_records,
    leftovers_of,
    parts_of,
)
from pend_storage.schema import FINDINGS, QUARANTINE
from pend_storage.store import Store
from pend_storage.stores.json import JsonStore

__all__ = ["Purge", "deleted_keys", "enter", "purge"]

_SETTLED: Final = crashpoints.declare(
    "purge.settled", "quarantine and findings have lost the record, the stores have not"
)
_ERASED: Final = crashpoints.declare(
    "purge.erased", "the stores have lost the record, files are not searched yet"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Purge:
    """Outcome of a purge, or of its dry run."""

    dry_run: bool
    deleted: int = 0
    """Records that the purge itself deleted."""
    keys: int = 0
    """Keys whose tombstones and log entries were erased."""
    quarantined: tuple[str, ...] = ()
    """Ids of quarantined records that were erased."""
    findings: int = 0
    """Divergences that were erased."""
    files: tuple[str, ...] = ()
    """Files of the store's own directory that were deleted."""
    held: tuple[Holder, ...] = ()
    """What still holds an identifying text."""

    @property
    def ok(self) -> bool:
        """True where nothing that was searched holds the record."""
        return not self.held


def purge(
    settings: Settings,
    collection: str,
    keys: Iterable[str] = (),
    *,
    deleted: bool = False,
    delete: bool = False,
    dry_run: bool = False,
    backups: Iterable[Path] = (),
    by: str | None = None,
    reason: str | None = None,
) -> Purge:
    """Purge deleted records of one collection, and search for what still holds them.

    The texts that identify a record are its key, and the values of its unique fields, as
    far as the change log knows them. Repeat it after an interruption.

    Args:
        settings: of the environment.
        collection: name of the collection.
        keys: of the records.
        deleted: all records of the collection that are deleted, too.
        delete: delete records that are there; without it, they are refused.
        dry_run: change nothing, and report what would be erased.
        backups: folders with copies of the directory, besides the one that it is in.
        by: who does it; None: the author of this context, or user, machine, process.
        reason: of the person; the job and the commits keep it.

    Raises:
        ConfigError: a record is there, or a privilege is missing; nothing was purged.
        ReferenceViolation: another record refers to one that is to be deleted.
        StoreUnavailable: a store that takes part cannot be reached.
    """
    # Records that depend on an unread file are searched as far as they are known.
    with _opened(settings, dry_run=dry_run) as (store, parts), as_stored():
        name = store.schema[collection].name
        wanted = dict.fromkeys(keys)
        if deleted:
            wanted |= dict.fromkeys(deleted_keys(store, name))
        work = _Purge(store, parts, settings.json, name, list(wanted))
        if dry_run:
            return work.run(delete=delete, dry_run=dry_run, backups=backups)
        with running_job(store, "purge", by=by, reason=reason, can_wait=False):
            return work.run(delete=delete, dry_run=dry_run, backups=backups)


@contextlib.contextmanager
def _opened(
    settings: Settings, *, dry_run: bool
) -> Iterator[tuple[Store, tuple[Store, ...]]]:
    """Open the store that is read, and all that hold records; a dry run only reads."""
    if dry_run:
        with open_passive(settings) as environment:
            store = environment.primary()
            for side in SIDES if environment.pair is not None else ():
                environment.require(side)
            is_pair = environment.pair is not None
            yield store, tuple(environment.stores.values()) if is_pair else (store,)
    else:
        with open_primary(settings) as store:
            yield store, parts_of(store)


def deleted_keys(store: Store, collection: str) -> Iterator[str]:
    """Yield the keys of a collection that have a tombstone."""
    for row in store.scan(collection, deleted=True):
        if row.record is None:
            yield row.key


def enter(store: Store, details: Mapping[str, JSON], *, by: str | None = None) -> None:
    """Enter a purge in the audit, and apply the entry to a secondary.

    Args:
        store: of the environment, purged just now.
        details: of the entry.
        by: who did it; None: the author of this context.
    """
    record_done(store, "purge", by=by, reason=None, details=details)
    if isinstance(store, DualWriteStore):
        with contextlib.suppress(PendStorageError):
            store.catch_up()  # a purge ends without lag; its entry makes none


class _Purge:
    """One purge by key, on an open store."""

    def __init__(
        self,
        store: Store,
        parts: Sequence[Store],
        json: JsonSettings | None,
        collection: str,
        keys: Sequence[str],
    ) -> None:
        self._store = store
        self._parts = parts
        self._json = json
        self._name = collection
        self._keys = keys
        self._changes = list(_relevant(parts, collection, keys))
        self._needles = Needles(self._identifying_texts())

    def run(self, *, delete: bool, dry_run: bool, backups: Iterable[Path]) -> Purge:
        present = sorted(self._store.read(self._name, self._keys))
        if present and not delete:
            raise ConfigError(
                f"{self._name}[{shown(present[0])}] is not deleted"
                + (f", and {len(present) - 1:,} more are not" if present[1:] else "")
                + ". Delete it first, or let the purge delete it with --delete."
            )
        quarantined, findings = self._quarantined(), self._findings()
        leftovers = list(self._leftovers())
        held: list[Holder] = []
        if not dry_run:
            self._require_privileges()
            is_clean = self._erase(present, quarantined, findings)
            for path in leftovers:
                unlink(path)
            held += self._held(is_clean=is_clean)
        held += self._held_backups(backups)
        return Purge(
            dry_run=dry_run,
            deleted=len(present),
            keys=len(self._keys),
            quarantined=tuple(quarantined),
            findings=len(findings),
            files=tuple(map(str, leftovers)),
            held=tuple(held),
        )

    # -- what identifies the records ------------------------------------------------------

    def _identifying_texts(self) -> set[str]:
        found = set(self._keys)
        spec = self._store.schema[self._name]
        records = [
            row.record for row in self._store.read(self._name, self._keys).values()
        ]
        records += [
            r.record
            for r in self._changes
            if r.collection == self._name and r.record is not None
        ]
        for record in records:
            # Of fields that are unique together, one alone identifies nothing.
            alone = [group[0] for group in spec.unique if len(group) == 1]
            values = [getattr(record, name) for name in alone]
            found |= {value for value in values if isinstance(value, str)}
        return found - {""}

    def _quarantined(self) -> list[str]:
        """List the ids of quarantined records that hold an identifying text."""
        # A file that is broken as a whole is not erased for the sake of one record in it.
        rows = self._store.scan(QUARANTINE)
        records = [*(row.record for row in rows), *self._logged(QUARANTINE)]
        return sorted({r.id for r in records if self._is_about(r)})

    def _is_about(self, record: QuarantinedRecord) -> bool:
        if is_whole_file(record):
            return False
        return record.place in self._needles.texts or self._needles.are_in(record.raw)

    def _findings(self) -> list[str]:
        rows = self._store.scan(FINDINGS)
        records = [*(row.record for row in rows), *self._logged(FINDINGS)]
        mine: Iterator[FindingRecord] = (
            r for r in records if r.collection == self._name and r.key in self._keys
        )
        return sorted({r.id for r in mine})

    def _logged(self, collection: str) -> Iterator[Any]:
        for changed in self._changes:
            if changed.collection == collection and changed.record is not None:
                yield changed.record

    def _require_privileges(self) -> None:
        """Refuse before anything is done, where a database does not allow it."""
        for part in self._parts:
            if not isinstance(part, JsonStore):
                part.purge(self._name, ())

    # -- erasing --------------------------------------------------------------------------

    def _erase(
        self,
        present: Sequence[str],
        quarantined: Sequence[str],
        findings: Sequence[str],
    ) -> bool:
        """Delete and purge; return True where the stores have nothing left."""
        store = self._store
        with store.acting(reason=actor().reason or "purge"), store.transaction() as tx:
            for key in present:
                tx.collection(self._name).delete(key)
            for name, keys in ((QUARANTINE, quarantined), (FINDINGS, findings)):
                for key in keys:
                    tx.collection(name).delete(key)
        # The record itself last: what an interrupted purge has left is found by its log.
        done = [store.purge(QUARANTINE, quarantined)] if quarantined else []
        done += [store.purge(FINDINGS, findings)] if findings else []
        _SETTLED()
        done += [store.purge(name, found) for name, found in self._dependents()]
        author = Actor(actor().by or current_actor(), actor().reason or "purge")
        erased = erase(store, self._name, self._keys, author=author)
        done.append(erased.is_clean)
        done.append(store.purge(self._name, self._keys))
        _ERASED()
        details: dict[str, JSON] = {
            "collection": self._name,
            "keys": len(self._keys),
            "entries": erased.entries,
        }
        enter(store, details, by=author.by)
        return all(done)

    def _dependents(self) -> Iterator[tuple[str, list[str]]]:
        """Yield the collections whose key is that of the purged record, with deleted keys.

        A profile has the key of its user: its tombstone would name the user.
        """
        for spec in self._store.schema:
            if spec.references.get(spec.key) == self._name:
                rows = self._store.read(spec.name, self._keys, deleted=True)
                found = [key for key, row in rows.items() if row.record is None]
                if found:
                    yield spec.name, found

    def _leftovers(self) -> Iterator[Path]:
        for path in leftovers_of(self._json):
            if self._needles.are_in_file(path):
                yield path

    # -- what is left ---------------------------------------------------------------------

    def _held(self, *, is_clean: bool) -> Iterator[Holder]:
        yield from holding_records(self._store, self._needles)
        for part in self._parts:
            log = kept_changes(part)
            yield from holding_changes(part.schema, log, self._needles)
        if self._json is not None:
            more = self._json.files.values()
            unread: list[Holder] = []
            directory, needles = self._json.directory, self._needles
            for path in holding_files(directory, needles, more, unread=unread):
                yield Holder(kind="file", place=str(path))
            yield from unread
        if not is_clean:
            yield Holder(
                kind="store",
                place="a store that is detached or behind, or whose files cannot be "
                "written now; attach it or bring it up to date, and purge again",
            )

    def _held_backups(self, folders: Iterable[Path]) -> Iterator[Holder]:
        if self._json is None:
            return
        for copy in backups_of(self._json.directory, folders):
            unread: list[Holder] = []
            found = holding_files(copy, self._needles, [copy], unread=unread)
            if next(found, None) is not None or unread:
                yield Holder(kind="backup", place=str(copy))


def _relevant(
    parts: Iterable[Store], collection: str, keys: Sequence[str]
) -> Iterator[Any]:
    """Yield the changed records of the logs that may be about the purged ones."""
    wanted = frozenset(keys)
    for part in parts:
        for change in kept_changes(part):
            for changed in change.records:
                is_mine = changed.collection == collection and changed.key in wanted
                if is_mine or changed.collection in {QUARANTINE, FINDINGS}:
                    yield changed
