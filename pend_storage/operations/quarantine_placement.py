"""Placement of quarantined records: the record moves to the collection of its file.

A value that lost against an edit of its file, or against a commit, replaces the value that
the store holds now (:func:`restore_lost_edit`).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from typing_extensions import override

from pend_storage._layouts.broken_files import is_whole_file
from pend_storage._layouts.crowded_files import read_bounded
from pend_storage._layouts.layout import Entry, Find, Layout, ParsedFile
from pend_storage._layouts.references import absorbed
from pend_storage._layouts.removal import Removal
from pend_storage._layouts.unread_files import as_stored
from pend_storage._model.records import (
    BESIDE,
    EDIT_MARK,
    EDITED,
    Delete,
    LegacyFile,
    Put,
    QuarantinedRecord,
    Row,
)
from pend_storage._shown import shown
from pend_storage._transaction import Transaction
from pend_storage._transaction_lookups import TransactionLookups
from pend_storage.events import Event
from pend_storage.schema import QUARANTINE
from pend_storage.store import Store
from pend_storage.stores._inmemory.table import index_value

__all__ = ["Placement", "Retried", "is_lost_edit", "restore_lost_edit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retried:
    """Result of the retry of a quarantined record."""

    id: str
    file: str
    place: str
    placed: bool
    records: int = 0
    """Number of records that it became; a whole file becomes many."""
    quarantined: int = 0
    """Records of a whole file that stay in quarantine one by one."""
    reason: str = ""
    """Reason why it stays in quarantine."""


class Placement:
    """One attempt to place a quarantined record in its collection, inside a transaction."""

    def __init__(
        self,
        store: Store,
        tx: Transaction,
        layout: Layout,
        record: QuarantinedRecord,
        *,
        text: bytes | None,
        refused: Mapping[tuple[str, str], str],
    ) -> None:
        self._store = store
        self._refused = refused
        """Records of a whole file that the store has refused, with the reasons."""
        self._schema = store.schema
        self._tx = tx
        self._layout = layout
        self._record = record
        # The code belongs to the old text; a repaired one was not parsed yet.
        other = text is not None and text != record.raw
        self._trial = replace(record, raw=text or b"", code="") if other else record
        self.event: Event | None = None
        """Event to emit after the commit."""
        self._present: dict[tuple[str, str], Row] = {}
        """Records of a whole file that the store holds. They are compared with the file,
        and only the versions of those that are written are checked at the commit."""

    def place(self, outcome: Retried) -> Retried:
        """Write the records that the quarantined one becomes.

        Args:
            outcome: the result so far, of which the returned one is a copy.

        Returns:
            The result; it has a reason where the record stays in quarantine.

        Raises:
            InvalidRecord: the text cannot be parsed.
            ReferenceViolation: the record refers to one that does not exist.
            UniqueViolation: another record has a value that must be unique.
        """
        layout, record = self._layout, self._record
        if is_whole_file(record):
            parsed = read_bounded(layout.parse(self._schema, self._trial.raw))
            entries = list(parsed.entries)
            # Scanned outside of the transaction: reads in it are checked at the commit,
            # and any commit to a large file would make the retry start again.
            self._present = {
                (name, row.key): row
                for name in (layout.collection, QUARANTINE)
                for row in self._store.scan(name)
                if layout.owns(row.record)
            }
            present = [row.record for row in self._present.values()]
        else:
            parsed = ParsedFile(self._header(), ())
            entries, present = [layout.retry(self._schema, self._trial)], [record]
        if (reason := self._refusal(entries)) is not None:
            return replace(outcome, reason=reason)
        parsed = replace(parsed, entries=entries)
        adopted = layout.adopt(self._schema, parsed, present, self._find)
        if is_whole_file(record):
            operations = list(self._claim_unique_values(parsed.header, adopted))
        else:
            operations = [self._in_place(operation) for operation in adopted]
            aside = next(filter(None, map(_as_quarantined, operations)), None)
            if aside is not None:  # its reference has no record
                return replace(outcome, reason=aside.reason)
        lookups = _FileLookups(self._store, self._tx, self._find)
        removal = Removal(self._schema, self._store.layouts, layout, lookups)
        complete = removal.settle(self._with_derived_by_others(operations))
        for operation in complete.values():
            self._write(operation)
        self.event = removal.event()
        if is_whole_file(record) and self._header() != parsed.header:
            self._tx.collection(LegacyFile).put(parsed.header)
        self._tx.collection(QUARANTINE).delete(record.id)
        waiting = sum(entry.home.collection == QUARANTINE for entry in entries)
        return replace(
            outcome, placed=True, records=len(entries) - waiting, quarantined=waiting
        )

    def _claim_unique_values(
        self, header: LegacyFile, operations: Iterable[Put | Delete]
    ) -> Iterator[Put | Delete]:
        """Yield the operations of a whole file; quarantine a record with a claimed value.

        Of several records with one unique value, the first in the file claims it, as in a
        first adoption.
        """
        layout, spec = self._layout, self._schema[self._layout.collection]
        claims: dict[tuple[Any, ...], str] = {}
        for operation in operations:
            if isinstance(operation, Delete) or operation.collection != spec.name:
                yield operation
                continue
            reason = self._refused.get((spec.name, operation.key))
            values = [
                (fields, value)
                for fields in spec.unique
                if (value := index_value(operation.record, fields)) is not None
            ]
            for claim in values:
                if claims.get(claim, operation.key) != operation.key:
                    reason = (
                        f"{shown(claims[claim])} has the same {', '.join(claim[0])}"
                    )
            if reason is None:
                claims.update(dict.fromkeys(values, operation.key))
                yield operation
                continue
            aside = layout.set_aside(self._schema, header, operation.record, reason)
            dated = replace(aside.record, seen_at=datetime.now(UTC))
            yield self._schema.put(QUARANTINE, dated)

    def _write(self, operation: Put | Delete) -> None:
        """Write an operation, on the condition that the compared version is still present."""
        verbs = self._tx.collection(operation.collection)
        row = self._present.get((operation.collection, operation.key))
        version = None if row is None else row.version
        if isinstance(operation, Put):
            verbs.put(operation.record, if_version=version)
        else:
            verbs.delete(operation.key, if_version=version)

    def _find(self, collection: str, key: str) -> Any:
        row = self._present.get((collection, key))
        return self._tx.collection(collection).get(key) if row is None else row.record

    def _header(self) -> LegacyFile:
        found = self._tx.collection(LegacyFile).get(self._layout.file)
        return self._layout.missing() if found is None else found

    def _in_place(self, operation: Put | Delete) -> Put | Delete:
        """Place the record at the position of the quarantined one in the file."""
        layout, position = self._layout, self._record.position
        if position is None or operation.collection != layout.collection:
            return operation
        if isinstance(operation, Delete) or not layout.owns(operation.record):
            return operation
        placed = layout.placed(operation.record, position)
        return self._schema.put(operation.collection, placed)

    def _refusal(self, entries: Sequence[Entry]) -> str | None:
        """Return the reason why entries cannot replace the quarantined record, or None."""
        homes = [entry.home for entry in entries]
        waiting = [put.record for put in homes if put.collection == QUARANTINE]
        # Records of a whole file may go to quarantine one by one; the file itself may not.
        if is_whole_file(self._record):
            waiting = [found for found in waiting if is_whole_file(found)]
        if waiting:
            return str(waiting[0].reason)
        if is_whole_file(self._record):
            return None
        for put in homes:
            present = self._find(put.collection, put.key)
            if present is not None and self._layout.owns(present):
                return f"another record of the file has its key, {shown(put.key)}"
        return None

    # -- records derived by other files -------------------------------------------------

    def _with_derived_by_others(
        self, operations: Sequence[Put | Delete]
    ) -> Iterator[Put | Delete]:
        """Complete new derived records by the values that other files derive for them.

        When those files were adopted, the derived record did not exist, so their values
        for it were not stored.
        """
        own = {self._layout.collection, QUARANTINE}
        fresh = {
            (put.collection, put.key): put.record
            for put in operations
            if isinstance(put, Put)
            and put.collection not in own
            and self._find(put.collection, put.key) is None
        }
        with as_stored():  # those files may be unread; their last known records count
            derived = list(self._derived_by_others(fresh)) if fresh else []
        for put in derived:
            place = (put.collection, put.key)
            spec = self._schema[put.collection]
            fresh[place] = absorbed(spec, fresh[place], put.record)
        for operation in operations:
            record = fresh.get((operation.collection, operation.key))
            if record is None:
                yield operation
            else:
                yield self._schema.put(operation.collection, record)

    def _derived_by_others(self, places: Collection[tuple[str, str]]) -> Iterator[Put]:
        """Yield the derived records of other files for these keys.

        All records are scanned outside of the transaction. Those that derive one of the
        keys are read once more in it, so that the commit checks them, and only them.
        """
        for layout in self._store.layouts:
            if layout.file == self._layout.file:
                continue
            for row in self._store.scan(layout.collection):
                derived = self._derived(layout, row.record)
                if derived is None:  # nor do the other records of this layout
                    break
                if any((put.collection, put.key) in places for put in derived):
                    record = self._tx.collection(layout.collection).get(row.key)
                    for put in self._derived(layout, record) or ():
                        if (put.collection, put.key) in places:
                            yield put

    def _derived(self, layout: Layout, record: Any) -> list[Put] | None:
        """List the records that a record derives; None where its layout derives none."""
        if record is None or not layout.owns(record):
            return []
        derived = layout.told(self._schema, record)
        return None if derived is None else list(derived)


class _FileLookups(TransactionLookups):
    """Look-ups that use the records of a whole file which were read already."""

    def __init__(self, store: Store, tx: Transaction, find: Find) -> None:
        super().__init__(store, tx)
        self._find_record = find

    @override
    def find(self, collection: str, key: str) -> Any:
        return self._find_record(collection, key)


def _as_quarantined(operation: Put | Delete) -> QuarantinedRecord | None:
    record = operation.record if isinstance(operation, Put) else None
    return record if isinstance(record, QuarantinedRecord) else None


# -- values that lost ---------------------------------------------------------------------


def is_lost_edit(record: QuarantinedRecord) -> bool:
    """Return whether a quarantined record is a value that lost, and is not in its file."""
    return record.code == EDITED and record.file.endswith(EDIT_MARK)


def restore_lost_edit(
    store: Store, tx: Transaction, layout: Layout, record: QuarantinedRecord
) -> str | None:
    """Restore a value that lost against an edit or a commit, over the present one.

    Args:
        store: the primary store.
        tx: the transaction; its reads are checked at the commit.
        layout: layout of the file.
        record: the quarantined value; its text may be a corrected one.

    Returns:
        The reason why the value cannot be restored; None where it is.

    Raises:
        Conflict: the present value was changed meanwhile.
        InvalidRecord: the text cannot be parsed.
    """
    header = tx.collection(LegacyFile).get(layout.file) or layout.missing()
    if record.position == BESIDE:
        try:
            ((name, value),) = json.loads(b"{%b}" % record.raw).items()
        except ValueError:
            return 'it is not one member of an object, as in "name": value'
        tx.collection(LegacyFile).put(layout.with_member(header, name, value))
    else:
        entry = layout.retry(store.schema, record)
        if entry.home.collection == QUARANTINE:
            return str(entry.home.record.reason)
        for put, version in _puts(store, tx, layout, ParsedFile(header, [entry])):
            tx.collection(put.collection).put(put.record, if_version=version)
    tx.collection(QUARANTINE).delete(record.id)
    return None


def _puts(
    store: Store, tx: Transaction, layout: Layout, parsed: ParsedFile
) -> Iterator[tuple[Put, int | None]]:
    """Yield the puts that restore the value, each with the version that it replaces."""
    name = layout.collection
    present = {r.key: r for r in store.scan(name) if layout.owns(r.record)}

    def find(collection: str, key: str) -> Any:
        row = present.get(key) if collection == name else None
        return tx.collection(collection).get(key) if row is None else row.record

    last = max((layout.position(r.record) or 0 for r in present.values()), default=0)
    rows = [row.record for row in present.values()]
    for operation in layout.adopt(store.schema, parsed, rows, find):
        if not isinstance(operation, Put):
            continue  # the text is one record; the others of the file stay
        row = present.get(operation.key) if operation.collection == name else None
        if row is not None:
            record = layout.merged(row.record, operation.record)
            yield store.schema.put(name, record), row.version
        elif operation.collection == name and _is_placed(layout, operation):
            record = layout.placed(operation.record, last + 1)
            yield store.schema.put(name, record), 0
        else:
            yield operation, None


def _is_placed(layout: Layout, put: Put) -> bool:
    return layout.owns(put.record) and layout.position(put.record) is not None
