"""Undo of changes of one record: its earlier value is written again, as a new commit.

What was there before is read from the change log, as far as that is kept, and else from
the archive. The commit is an ordinary one: checked against the version that was read,
recorded in the log with its author, and itself undone in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from pend_storage._model.diff import Difference, differences
from pend_storage._model.snapshots import KeyChange
from pend_storage._redaction import record_label, redacted
from pend_storage._restored import note_of
from pend_storage.backup._lineage import BACKFILL_META, POSITION_META
from pend_storage.errors import ChangesExpired, ConfigError, PendStorageError
from pend_storage.schema import LEGACY_FILES, CollectionSpec
from pend_storage.store import Store

__all__ = ["Archived", "Earlier", "Undo", "Wanted", "plan_undo", "write_undo"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """State that is wanted; without any member, that before the present version."""

    version: int | None = None
    """The value that this version had; 0: none, as before the record was made."""
    before: int | None = None
    """The value before the commit with this sequence number."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """Earlier state of a record."""

    version: int
    """0 where it is known that there was no record yet."""
    record: Any
    """None where there was none."""
    source: str
    """Where it was found: ``the change log``, ``the archive``."""


Archived: TypeAlias = Callable[[str, str, Wanted, int], Earlier | None]
"""Finds an earlier state in the archive, by collection, key, what is wanted and the present
version; None where it cannot be known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Undo:
    """Plan of an undo."""

    collection: str
    key: str
    present: int
    """Version that is there now, perhaps of a tombstone; 0: there is nothing."""
    is_there: bool
    """Whether there is a record now."""
    earlier: Earlier
    differences: tuple[Difference, ...]
    """From the present value (left) to the earlier one, redacted."""

    @property
    def is_needed(self) -> bool:
        """True where the earlier state is another one than the present."""
        return bool(self.differences) or self.is_there != (
            self.earlier.record is not None
        )

    @property
    def action(self) -> str:
        """Step to be taken: ``write``, ``delete`` or ``nothing``."""
        if not self.is_needed:
            return "nothing"
        return "delete" if self.earlier.record is None else "write"


def plan_undo(
    store: Store,
    collection: str,
    key: str,
    wanted: Wanted,
    *,
    logs: Mapping[str, Store],
    archived: Archived,
) -> Undo:
    """Find the earlier state of a record; nothing is written.

    Args:
        store: of the environment.
        collection: name of the collection.
        key: of the record.
        wanted: the state.
        logs: the stores with a log of their own, by identity: one, or two of a pair.
        archived: finds what the logs do not have any more.

    Raises:
        ConfigError: what was there is not known.
        StoreUnavailable: a store cannot be reached.
        UnknownCollection: there is none of that name.
    """
    spec = store.schema[collection]
    row = store.read(spec.name, [key], deleted=True).get(key)
    present = 0 if row is None else row.version
    record = None if row is None else row.record
    earlier = _from_logs(store.record_history(spec.name, key), present, wanted)
    if earlier is None:
        earlier = archived(spec.name, key, wanted, present)
    # Last of all: a log says nothing of rows that were loaded past it.
    if earlier is None and wanted.version is None and _is_complete(logs):
        earlier = Earlier(0, None, "the change log")
    if earlier is None:
        raise ConfigError(_unknown(spec, key, wanted))
    found: tuple[Difference, ...] = ()
    if record is not None and earlier.record is not None:
        found = differences(record, earlier.record)
    return Undo(
        collection=spec.name,
        key=key,
        present=present,
        is_there=record is not None,
        earlier=earlier,
        differences=tuple(redacted(spec, one).bounded() for one in found),
    )


def write_undo(
    store: Store, undo: Undo, *, by: str | None = None, reason: str | None = None
) -> int:
    """Write the earlier state as a new commit; returns the version, 0 without a record.

    Nothing is written where the state is that already.

    Args:
        store: of the environment.
        undo: the plan.
        by: author; None: that of the surrounding block.
        reason: of the commit; None: one that names the version that is undone.

    Raises:
        Conflict: the record was changed meanwhile.
        UniqueViolation: another record has a unique value of the earlier one by now.
        ReferenceViolation: what the earlier value refers to is gone, or what is to be
            deleted is referred to.
        StoreUnavailable: the store cannot be reached.
    """
    if not undo.is_needed:
        return undo.present if undo.is_there else 0
    records = store.collection(undo.collection)
    reason = reason or f"undo of version {undo.present}"
    with store.acting(by=by, reason=reason):
        if undo.earlier.record is None:
            records.delete(undo.key, if_version=undo.present)
            return 0
        expected = undo.present if undo.is_there else 0
        return records.put(undo.earlier.record, if_version=expected)


# -- the earlier state ----------------------------------------------------------------------


def _from_logs(
    history: Iterable[KeyChange],
    present: int,
    wanted: Wanted,
) -> Earlier | None:
    """Return the earlier state by the logs; None where they do not show it."""
    if wanted.version == 0:
        return Earlier(0, None, "the beginning")
    for change in history:
        if _fits(change, present, wanted):
            return Earlier(change.version, change.record, "the change log")
    return None


def _fits(change: KeyChange, present: int, wanted: Wanted) -> bool:
    if wanted.version is not None:
        return change.version == wanted.version
    if wanted.before is not None:
        return change.sequence < wanted.before
    return change.version < present or not present


def _is_complete(logs: Mapping[str, Store]) -> bool:
    """Return whether the logs have every commit that was ever made.

    Rows that were copied into a store are in no log of it. So a store that was restored,
    filled from one that is not there any more, or made of legacy files, shows nothing by
    the lack of an entry.
    """
    for store in logs.values():
        try:
            next(store.changes(0), None)
            if note_of(store) is not None:
                return False
            if next(store.scan(LEGACY_FILES), None) is not None:
                return False
            for name, member in ((POSITION_META, "of"), (BACKFILL_META, "source")):
                value = store.meta(name)
                if isinstance(value, Mapping) and value.get(member) not in logs:
                    return False
        except ChangesExpired:
            return False
        except PendStorageError:
            return False
    return bool(logs)


def _unknown(spec: CollectionSpec, key: str, wanted: Wanted) -> str:
    place = record_label(spec, key)
    what = "was there before"
    if wanted.version is not None:
        what = f"version {wanted.version} was"
    elif wanted.before is not None:
        what = f"was there before the commit {wanted.before}"
    return (
        f"{place}: what {what} is kept neither in the change log nor in an archive that can "
        "be read here. Name a version that is kept by --to VERSION, or --to 0 to delete "
        "what was not there at first; or restore to a store beside: pend-storage backup "
        "restore"
    )
