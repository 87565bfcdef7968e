"""Quarantined records: list them, try them again, accept them."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace

from pend_storage._layouts.broken_files import is_whole_file
from pend_storage._layouts.layout import Layout
from pend_storage._layouts.retained_forms import KEPT
from pend_storage._layouts.unread_files import as_stored
from pend_storage._model.records import EDIT_MARK, QuarantinedRecord, Versioned
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
from pend_storage.operations.quarantine_placement import (
    Placement,
    Retried,
    bring_back,
    is_lost_edit,
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
    "rehearsal_of",
    "require_file",
    "retry",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenFile:
    """Legacy file that is broken as a whole, and that needs a decision."""

    file: str
    id: str
    """Of its entry in quarantine."""
    reason: str
    unread: bool
    """Whether nothing of it could ever be read, so that what rests on it is refused."""


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
    """Find the quarantined record with an id, or with the only id that begins so.

    Raises:
        ConfigError: there is none, or more than one.
    """
    records = store.collection(QuarantinedRecord)
    found = records.get(text)
    if found is not None:
        return found
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
        ConfigError: neither is so; the message suggests a name.
    """
    known = [layout.file for layout in store.layouts]
    where = field("file").in_([name, f"{name}{EDIT_MARK}"])
    if name not in known and not store.collection(QuarantinedRecord).count(where):
        raise ConfigError(
            f"there is no legacy file {shown(name)}{did_you_mean(name, known)} The files "
            f"are: {listed(known)}."
        )


def accept(store: Store, record: QuarantinedRecord, note: str) -> QuarantinedRecord:
    """Accept a quarantined record: it stays in quarantine, and in its file, for good.

    Raises:
        Conflict: it was changed meanwhile.
    """
    known = _versioned(store, record)
    accepted = replace(known.record, status="accepted", note=note)
    store.collection(QuarantinedRecord).put(accepted, if_version=known.version)
    return accepted


def retry(
    store: Store, record: QuarantinedRecord, *, text: bytes | None = None
) -> Retried:
    """Parse a quarantined record again, and move it to its collection if it now fits.

    A value that lost against an edit, or against a commit, takes the place of what the
    store holds instead of it.

    It is one transaction: what it reads is checked at its commit, and where a commit to
    that came between, it is done again on top of it.

    Args:
        store: the primary store, with the layouts.
        record: what to try.
        text: repaired text in its place: of one record as it stands in the file (in a
            map with its name), or of the whole file.

    Raises:
        ConfigError: no layout claims its file, it is not in quarantine any more, or it
            comes back by itself.
        Conflict: it was decided about, or changed, meanwhile; or what it must read is
            changed all the time. Look at it, and try again.
    """
    layout = _layout_of(store, record)
    known = _versioned(store, record)
    outcome = Retried(id=record.id, file=record.file, place=record.place, placed=False)

    def attempt(tx: Transaction) -> Retried | Conflict:
        changed = _changed(tx, known)
        if changed is not None:  # reading again would pass over a decision about it
            return changed
        if is_lost_edit(known.record):
            value = known.record if text is None else replace(known.record, raw=text)
            return _brought_back(store, tx, layout, value, outcome)
        placement = Placement(
            store, tx, layout, known.record, text=text, refused=refused
        )
        result = placement.place(outcome)
        events[:] = [] if placement.event is None else [placement.event]
        return result

    events: list[Event] = []
    refused: dict[tuple[str, str], str] = {}
    whole = as_stored(record.file) if is_whole_file(record) else nullcontext()
    with whole:  # what is in that file is what is found out here
        while True:
            try:
                result = store.run(attempt)
            except UniqueViolation as error:
                place = (error.collection, error.key)
                if place in refused or not is_whole_file(record):
                    return replace(outcome, reason=str(error))
                refused[place] = str(error)  # the others of the file need not wait
            except (InvalidRecord, ReferenceViolation) as error:
                return replace(outcome, reason=str(error))
            else:
                return _settled(store, result, events)


def _settled(store: Store, result: Retried | Conflict, events: list[Event]) -> Retried:
    """Emit the events of a result; raises the result where it is an error."""
    if isinstance(result, Conflict):
        raise result
    for event in events:
        store.tell(event)
    return result


def _brought_back(
    store: Store,
    tx: Transaction,
    layout: Layout,
    value: QuarantinedRecord,
    outcome: Retried,
) -> Retried:
    """Place a value that lost over what the store holds instead."""
    reason = bring_back(store, tx, layout, value)
    placed = reason is None
    return replace(outcome, placed=placed, records=int(placed), reason=reason or "")


def _changed(tx: Transaction, known: Versioned[QuarantinedRecord]) -> Conflict | None:
    """Error for a quarantined record that was changed meanwhile; None where it was not."""
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
        f"no layout claims the file {record.file!r} any more; add it to LAYOUTS in the "
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
    """Copy every record of a store, with its version, into one in memory.

    What is refused there, the store refuses as well: types, uniqueness and references
    are the same. It takes as much memory as the records.

    Raises:
        StoreUnavailable: the store cannot be reached.
    """
    copy = MemoryStore(store.schema, layouts=store.layouts)
    with (
        as_stored()
    ):  # files that could not be read are copied as what is known of them
        backfill(store, copy, hook=lambda _: None)
    return copy
