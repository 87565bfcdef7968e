"""Looking at quarantined records, trying them again, accepting them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from pend_storage.errors import (
    ConfigError,
    InvalidRecord,
    ReferenceViolation,
    UniqueViolation,
)
from pend_storage.layout import Entry, Layout, ParsedFile, is_whole_file
from pend_storage.legacy.adoption import absorbed
from pend_storage.query import field
from pend_storage.records import (
    Delete,
    LegacyFile,
    Put,
    QuarantinedRecord,
    Versioned,
)
from pend_storage.schema import QUARANTINE
from pend_storage.store import Store

__all__ = ["Retried", "accept", "find", "list_quarantined", "retry"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retried:
    """What became of a quarantined record that was tried again."""

    id: str
    file: str
    place: str
    placed: bool
    records: int = 0
    """Records that it became; a whole file becomes many."""
    quarantined: int = 0
    """Of a whole file: records that cannot be placed one by one."""
    reason: str = ""
    """Why it stays in quarantine."""


def list_quarantined(
    store: Store, *, file: str | None = None, status: str | None = None
) -> list[QuarantinedRecord]:
    """Quarantined records by file and place, optionally of one file or one status."""
    where = [] if file is None else [field("file") == file]
    where += [] if status is None else [field("status") == status]
    records = store.collection(QuarantinedRecord)
    return list(records.find(*where, order_by=["file", "position"]).items)


def find(store: Store, text: str) -> QuarantinedRecord:
    """The quarantined record with this id, or whose id alone begins like this.

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
        f"there is {how} whose id begins with {text!r}. See: "
        "pend-storage quarantine list"
    )


def accept(store: Store, record: QuarantinedRecord, note: str) -> QuarantinedRecord:
    """Mark a record as one that may stay where it is; it does so in its file, too.

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

    Args:
        store: the primary store, with the layouts.
        record: what to try.
        text: repaired text in its place: of one record as it stands in the file (in a
            map with its name), or of the whole file.

    Raises:
        ConfigError: no layout claims its file, or it is not in quarantine any more.
        Conflict: it was changed meanwhile.
    """
    layout = _layout_of(store, record)
    known = _versioned(store, record)
    trial = known.record if text is None else replace(known.record, raw=text)
    outcome = Retried(id=record.id, file=record.file, place=record.place, placed=False)
    if is_whole_file(record):
        parsed = layout.parse(store.schema, trial.raw)
        parsed = replace(parsed, entries=tuple(parsed.entries))
        present = list(_records_of(store, layout))
    else:
        entry = layout.retry(store.schema, trial)
        parsed = ParsedFile(_header(store, layout), (entry,))
        present = [known.record]
    entries = list(parsed.entries)
    if (reason := _why_not(store, layout, record, entries)) is not None:
        return replace(outcome, reason=reason)
    adopted = layout.adopt(store.schema, parsed, present, partial(_find, store))
    operations = [_in_place(store, layout, known.record, o) for o in adopted]
    operations = list(_with_what_others_tell(store, layout, operations))
    operations.append(Delete(QUARANTINE, record.id))
    checks = {(QUARANTINE, record.id): known.version}
    try:
        store.commit(store.schema.batch(operations, checks))
    except (InvalidRecord, UniqueViolation, ReferenceViolation) as error:
        return replace(outcome, reason=str(error))
    waiting = sum(entry.home.collection == QUARANTINE for entry in entries)
    return replace(
        outcome, placed=True, records=len(entries) - waiting, quarantined=waiting
    )


def _in_place(
    store: Store, layout: Layout, record: QuarantinedRecord, operation: Put | Delete
) -> Put | Delete:
    """The operation with its record where the quarantined one stood in the file."""
    if record.position is None or operation.collection != layout.collection:
        return operation
    if isinstance(operation, Delete) or not layout.owns(operation.record):
        return operation
    placed = layout.placed(operation.record, record.position)
    return store.schema.put(operation.collection, placed)


def _with_what_others_tell(
    store: Store, layout: Layout, operations: Sequence[Put | Delete]
) -> Iterator[Put | Delete]:
    """The operations; other files have their say about records that they derive anew.

    When those files were adopted there was nothing yet that they could tell of.
    """
    own = {layout.collection, QUARANTINE}
    fresh = {
        (put.collection, put.key): put.record
        for put in operations
        if isinstance(put, Put)
        and put.collection not in own
        and _find(store, put.collection, put.key) is None
    }
    others = [other for other in store.layouts if other.file != layout.file]
    for put in _all_told(store, others) if fresh else ():
        place = (put.collection, put.key)
        if place in fresh:
            spec = store.schema[put.collection]
            fresh[place] = absorbed(spec, fresh[place], put.record)
    for operation in operations:
        record = fresh.get((operation.collection, operation.key))
        if record is None:
            yield operation
        else:
            yield store.schema.put(operation.collection, record)


def _all_told(store: Store, layouts: Iterable[Layout]) -> Iterator[Put]:
    """What the placed records of these files tell of others."""
    for layout in layouts:
        for row in store.scan(layout.collection):
            if not layout.owns(row.record):
                continue
            told = layout.told(store.schema, row.record)
            if told is None:
                break
            yield from told


def _layout_of(store: Store, record: QuarantinedRecord) -> Layout:
    for layout in store.layouts:
        if layout.file == record.file:
            return layout
    raise ConfigError(
        f"no layout claims the file {record.file!r} any more; add it to LAYOUTS in the "
        "schema module."
    )


def _header(store: Store, layout: Layout) -> LegacyFile:
    found = store.collection(LegacyFile).get(layout.file)
    return layout.missing() if found is None else found


def _why_not(
    store: Store, layout: Layout, record: QuarantinedRecord, entries: Sequence[Entry]
) -> str | None:
    """Why these entries cannot take the place of the quarantined record."""
    homes = [entry.home for entry in entries]
    waiting = [put.record for put in homes if put.collection == QUARANTINE]
    if is_whole_file(record):
        waiting = [found for found in waiting if is_whole_file(found)]
    if waiting:
        return str(waiting[0].reason)
    if is_whole_file(record):
        return None
    for put in homes:
        there = _find(store, put.collection, put.key)
        if there is not None and layout.owns(there):
            return f"another record of the file has its key, {put.key!r}"
    return None


def _records_of(store: Store, layout: Layout) -> Iterator[Any]:
    """Every record of a legacy file, those in quarantine too."""
    for name in (layout.collection, QUARANTINE):
        for row in store.scan(name):
            if layout.owns(row.record):
                yield row.record


def _find(store: Store, collection: str, key: str) -> Any:
    row = store.read(collection, (key,)).get(key)
    return None if row is None else row.record


def _versioned(store: Store, record: QuarantinedRecord) -> Versioned[QuarantinedRecord]:
    found = store.collection(QuarantinedRecord).versioned(record.id)
    if found is None:
        raise ConfigError(
            f"the quarantined record {record.id} is not there any more. See: "
            "pend-storage quarantine list"
        )
    return found
