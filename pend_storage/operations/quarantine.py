"""Quarantine: list, retry and accept the records in it."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace

from pend_storage._audit_record import record_done
from pend_storage._layouts.broken_files import is_whole_file
from pend_storage._layouts.layout import Layout
from pend_storage._layouts.retained_forms import KEPT
from pend_storage._layouts.unread_files import as_stored
from pend_storage._model.attribution import actor, current_actor
from pend_storage._model.records import EDIT_MARK, JSON, QuarantinedRecord, Versioned
from pend_storage._shown import did_you_mean, listed, shown
from pend_storage._transaction import Transaction
from pend_storage.backfill import backfill
from pend_storage.dualwrite._readiness import WAITING
from pend_storage.errors import (
    ConfigError,
    Conflict,
    InvalidRecord,
    ReferenceViolation,
    UniqueViolation,
)
from pend_storage.events import Event
from pend_storage.factory import PassiveEnvironment, load_schema
from pend_storage.operations.jobs import acted
from pend_storage.operations.quarantine_placement import (
    Placement,
    Retried,
    is_lost_edit,
    restore_lost_edit,
)
from pend_storage.query import field
from pend_storage.schema import QUARANTINE
from pend_storage.store import Store
from pend_storage.stores.memory import MemoryStore

__all__ = [
    "BrokenFile",
    "Retried",
    "accept",
    "broken_files",
    "find",
    "is_lost_edit",
    "list_quarantined",
    "looked_at",
    "rehearsal_of",
    "require_file",
    "retry",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenFile:
    """Legacy file that is broken as a whole, and that needs a decision."""

    file: str
    id: str
    """Id of its entry in quarantine."""
    reason: str
    unread: bool
    """Whether no content of the file could ever be read. Then commits and look-ups that
    depend on its records are refused."""


def looked_at(environment: PassiveEnvironment) -> Store:
    """Return the store whose quarantine is looked at; an empty one before there is one.

    Raises:
        PendStorageError: why the store from which the environment reads cannot be read.
    """
    if environment.is_unopened:
        module = load_schema(environment.settings)
        return MemoryStore(module.schema, layouts=module.layouts)
    return environment.primary()


def broken_files(store: Store) -> tuple[BrokenFile, ...]:
    """List the legacy files that are broken as a whole, by the primary's quarantine."""
    unread = {file.quarantined for file in store.unread_files()}
    files = {layout.file for layout in store.layouts}
    where = (field("place") == "", WAITING)
    found = store.collection(QuarantinedRecord).find(*where, order_by=["file"]).items
    return tuple(
        BrokenFile(
            file=record.file,
            id=record.id,
            reason=record.reason,
            unread=record.id in unread,
        )
        for record in found
        if is_whole_file(record) and record.file in files
    )


def list_quarantined(
    store: Store, *, file: str | None = None, status: str | None = None
) -> list[QuarantinedRecord]:
    """List quarantined records by file and place, optionally of one file or status."""
    names = [] if file is None else [file, f"{file}{EDIT_MARK}"]
    where = [] if file is None else [field("file").in_(names)]
    where += [] if status is None else [field("status") == status]
    records = store.collection(QuarantinedRecord)
    return list(records.find(*where, order_by=["file", "position", "place"]).items)


def find(store: Store, text: str) -> QuarantinedRecord:
    """Find a quarantined record by its id, or by an unambiguous beginning of it.

    Raises:
        ConfigError: no record matches, or more than one.
    """
    records = store.collection(QuarantinedRecord)
    found = records.get(text)
    if found is not None:
        return found
    # Two are enough to know that the beginning is ambiguous.
    items = records.find(field("id").starts_with(text), limit=2).items if text else ()
    if len(items) == 1:
        return items[0]
    how = "more than one quarantined record" if items else "no quarantined record"
    raise ConfigError(
        f"there is {how} whose id begins with {shown(text)}. See: "
        "pend-storage quarantine list"
    )


def require_file(store: Store, name: str) -> None:
    """Refuse a name of a file that no layout claims and no quarantined record has.

    Raises:
        ConfigError: the name is unknown; the message suggests one.
    """
    known = [layout.file for layout in store.layouts]
    where = field("file").in_([name, f"{name}{EDIT_MARK}"])
    if name not in known and not store.collection(QuarantinedRecord).count(where):
        raise ConfigError(
            f"there is no legacy file {shown(name)}{did_you_mean(name, known)} The files "
            f"are: {listed(known)}."
        )


def accept(
    store: Store, record: QuarantinedRecord, note: str, *, by: str | None = None
) -> QuarantinedRecord:
    """Accept a quarantined record: it stays in quarantine, and in its file, for good.

    Args:
        store: the primary store.
        record: the quarantined record.
        note: reason of the decision, which is stored with the record, and with the commit.
        by: who decides; None: the author of this context, or user, machine, process.

    Raises:
        Conflict: the record was changed meanwhile.
    """
    known = _versioned(store, record)
    accepted = replace(known.record, status="accepted", note=note)
    with acted(by, note) as author:
        store.collection(QuarantinedRecord).put(accepted, if_version=known.version)
        details: dict[str, JSON] = {
            "id": record.id,
            "file": record.file,
            "code": record.code,
        }
        record_done(store, "quarantine.accept", by=author, reason=note, details=details)
    return accepted


def retry(
    store: Store,
    record: QuarantinedRecord,
    *,
    text: bytes | None = None,
    by: str | None = None,
    reason: str | None = None,
) -> Retried:
    """Retry a quarantined record: parse it again, and place it in its collection if it fits.

    A value that lost against an edit, or against a commit, replaces the value that the
    store holds now.

    The retry is one transaction: its reads are checked at the commit, and where another
    commit has changed them, the retry is repeated on top of that commit.

    Args:
        store: the primary store, with the layouts.
        record: the quarantined record.
        text: repaired text in its place: of one record as it stands in the file (in a
            map with its name), or of the whole file.
        by: who does it; None: the author of this context, or user, machine, process.
        reason: of the person; the commit keeps it.

    Raises:
        ConfigError: no layout claims its file, the record is not in quarantine any more,
            or it will be placed together with another one.
        Conflict: the record was decided or changed meanwhile; or the records that it
            depends on are changed all the time. Read it again, and retry.
    """
    layout = _layout_of(store, record)
    known = _versioned(store, record)
    outcome = Retried(id=record.id, file=record.file, place=record.place, placed=False)

    def attempt(tx: Transaction) -> Retried | Conflict:
        changed = _changed(tx, known)
        # Returned, not raised: an exception would make ``store.run`` repeat the attempt,
        # and that would overrule a decision about the record.
        if changed is not None:
            return changed
        if is_lost_edit(known.record):
            value = known.record if text is None else replace(known.record, raw=text)
            return _restored(store, tx, layout, value, outcome)
        placement = Placement(
            store, tx, layout, known.record, text=text, refused=refused
        )
        result = placement.place(outcome)
        events[:] = [] if placement.event is None else [placement.event]
        return result

    events: list[Event] = []
    refused: dict[tuple[str, str], str] = {}
    whole = as_stored(record.file) if is_whole_file(record) else nullcontext()
    # An unread file refuses reads of its records; this retry is what reads it.
    with whole, acted(by, reason):
        while True:
            try:
                result = store.run(attempt)
            except UniqueViolation as error:
                place = (error.collection, error.key)
                if place in refused or not is_whole_file(record):
                    return replace(outcome, reason=str(error))
                # That record stays in quarantine by itself, and the others of the file
                # are placed in the next attempt.
                refused[place] = str(error)
            except (InvalidRecord, ReferenceViolation) as error:
                return replace(outcome, reason=str(error))
            else:
                return _finish(store, result, events)


def _finish(store: Store, result: Retried | Conflict, events: list[Event]) -> Retried:
    """Emit the events of a committed retry; raises a result that is an error."""
    if isinstance(result, Conflict):
        raise result
    for event in events:
        store.tell(event)
    if not isinstance(store, MemoryStore):  # a rehearsal
        details: dict[str, JSON] = {
            "id": result.id, "file": result.file,
            "placed": result.placed, "records": result.records,
        }  # fmt: skip
        by = actor().by or current_actor()
        record_done(store, "quarantine.retry", by=by, reason=None, details=details)
    return result


def _restored(
    store: Store,
    tx: Transaction,
    layout: Layout,
    value: QuarantinedRecord,
    outcome: Retried,
) -> Retried:
    """Restore a value that lost, and return the outcome."""
    reason = restore_lost_edit(store, tx, layout, value)
    placed = reason is None
    return replace(outcome, placed=placed, records=int(placed), reason=reason or "")


def _changed(tx: Transaction, known: Versioned[QuarantinedRecord]) -> Conflict | None:
    """Return the conflict of a quarantined record that was changed meanwhile, or None."""
    key = known.record.id
    found = tx.collection(QuarantinedRecord).versioned(key)
    actual = 0 if found is None else found.version
    if actual == known.version:
        return None
    return Conflict(
        collection=QUARANTINE, key=key, expected=known.version, actual=actual
    )


def _layout_of(store: Store, record: QuarantinedRecord) -> Layout:
    if record.code == KEPT:
        raise ConfigError(
            f"the quarantined record {record.id} is what the store held of a record whose "
            "member cannot be placed now. Correct that member in the file, or try the "
            "quarantined text of that member with a corrected one: it comes back with it."
        )
    lost = is_lost_edit(record)
    file = record.file.removesuffix(EDIT_MARK) if lost else record.file
    for layout in store.layouts:
        if layout.file == file:
            return layout
    raise ConfigError(
        f"no layout claims the file {shown(record.file)} any more; add it to LAYOUTS in the "
        "schema module."
    )


def _versioned(store: Store, record: QuarantinedRecord) -> Versioned[QuarantinedRecord]:
    found = store.collection(QuarantinedRecord).versioned(record.id)
    if found is None:
        raise ConfigError(
            f"the quarantined record {record.id} is not there any more. See: "
            "pend-storage quarantine list"
        )
    return found


def rehearsal_of(store: Store) -> MemoryStore:
    """Copy every record of a store, with its version, into a store in memory: for a dry run.

    A retry that fails there fails in the store as well: types, uniqueness and references
    are the same. The copy needs as much memory as the records.

    Raises:
        StoreUnavailable: the store cannot be reached.
    """
    copy = MemoryStore(store.schema, layouts=store.layouts)
    # Without this, the records of unread files would be refused to the copy.
    with as_stored():
        backfill(store, copy, hook=lambda _: None)
    return copy
