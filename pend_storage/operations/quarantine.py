"""Looking at quarantined records, trying them again, accepting them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from typing_extensions import override

from pend_storage.broken_files import is_whole_file
from pend_storage.errors import (
    ConfigError,
    Conflict,
    InvalidRecord,
    ReferenceViolation,
    UniqueViolation,
)
from pend_storage.events import Event
from pend_storage.kept import KEPT
from pend_storage.layout import Entry, Find, Layout, ParsedFile
from pend_storage.looks import TransactionLookups
from pend_storage.operations.lost_edits import bring_back, is_lost_edit
from pend_storage.query import field
from pend_storage.records import (
    EDIT_MARK,
    Delete,
    LegacyFile,
    Put,
    QuarantinedRecord,
    Row,
    Versioned,
)
from pend_storage.references import absorbed
from pend_storage.removal import Removal
from pend_storage.schema import QUARANTINE
from pend_storage.shown import shown
from pend_storage.store import Store
from pend_storage.stores.table import index_value
from pend_storage.transaction import Transaction
from pend_storage.unread import as_stored

__all__ = [
    "BrokenFile",
    "Retried",
    "accept",
    "broken_files",
    "find",
    "list_quarantined",
    "retry",
]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenFile:
    """A legacy file that is broken as a whole, and that nobody has decided about."""

    file: str
    id: str
    """Of its entry in quarantine."""
    reason: str
    unread: bool
    """Whether nothing of it could ever be read, so that what rests on it is refused."""


def broken_files(store: Store) -> tuple[BrokenFile, ...]:
    """The legacy files that are broken as a whole, by the primary's quarantine."""
    unread = {file.quarantined for file in store.unread_files()}
    files = {layout.file for layout in store.layouts}
    where = (field("place") == "", field("status") == "waiting")
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
    """Quarantined records by file and place, optionally of one file or one status."""
    names = [] if file is None else [file, f"{file}{EDIT_MARK}"]
    where = [] if file is None else [field("file").in_(names)]
    where += [] if status is None else [field("status") == status]
    records = store.collection(QuarantinedRecord)
    return list(records.find(*where, order_by=["file", "position", "place"]).items)


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
        f"there is {how} whose id begins with {shown(text)}. See: "
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
        if changed is not None:  # reading again would pass over what somebody decided
            return changed
        if is_lost_edit(known.record):
            value = known.record if text is None else replace(known.record, raw=text)
            return _brought_back(store, tx, layout, value, outcome)
        trial = _Trial(store, tx, layout, known.record, text=text, refused=refused)
        result = trial.place(outcome)
        told[:] = [] if trial.event is None else [trial.event]
        return result

    told: list[Event] = []
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
                return _settled(store, result, told)


def _settled(store: Store, result: Retried | Conflict, told: list[Event]) -> Retried:
    """Tell what came of it; raises what was found out instead."""
    if isinstance(result, Conflict):
        raise result
    for event in told:
        store.tell(event)
    return result


def _brought_back(
    store: Store,
    tx: Transaction,
    layout: Layout,
    value: QuarantinedRecord,
    outcome: Retried,
) -> Retried:
    """A value that lost, in the place of what the store holds instead."""
    reason = bring_back(store, tx, layout, value)
    placed = reason is None
    return replace(outcome, placed=placed, records=int(placed), reason=reason or "")


def _changed(tx: Transaction, known: Versioned[QuarantinedRecord]) -> Conflict | None:
    """The error for a quarantined record that is not what it was; None where it is."""
    key = known.record.id
    found = tx.collection(QuarantinedRecord).versioned(key)
    actual = 0 if found is None else found.version
    if actual == known.version:
        return None
    return Conflict(
        collection=QUARANTINE, key=key, expected=known.version, actual=actual
    )


class _Trial:
    """One attempt to place a quarantined record, inside a transaction."""

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
        """Records of a whole file that the store has refused, and why."""
        self._schema = store.schema
        self._tx = tx
        self._layout = layout
        self._record = record
        # Another text has not been judged yet, so it has no code.
        other = text is not None and text != record.raw
        self._trial = replace(record, raw=text or b"", code="") if other else record
        self.event: Event | None = None
        """What to tell when it is committed."""
        self._present: dict[tuple[str, str], Row] = {}
        """Records of a whole file that the store holds. They are compared with the file,
        and only those that are written are checked."""

    def place(self, outcome: Retried) -> Retried:
        """Write what the record becomes; gives what became of it."""
        layout, record = self._layout, self._record
        if is_whole_file(record):
            parsed = layout.parse(self._schema, self._trial.raw)
            entries = list(parsed.entries)
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
        if (reason := self._why_not(entries)) is not None:
            return replace(outcome, reason=reason)
        parsed = replace(parsed, entries=entries)
        adopted = layout.adopt(self._schema, parsed, present, self._find)
        if is_whole_file(record):
            operations = list(self._as_a_first_adoption(parsed.header, adopted))
        else:
            operations = [self._in_place(operation) for operation in adopted]
            aside = next(filter(None, map(_aside, operations)), None)
            if aside is not None:  # it refers to nothing
                return replace(outcome, reason=aside.reason)
        looks = _Looks(self._store, self._tx, self._find)
        removal = Removal(self._schema, self._store.layouts, layout, looks)
        complete = removal.settle(self._with_what_others_tell(operations))
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

    def _as_a_first_adoption(
        self, header: LegacyFile, operations: Iterable[Put | Delete]
    ) -> Iterator[Put | Delete]:
        """Operations of a whole file; who claims what another one has waits apart.

        Of records that claim one value, the first in the file has it.
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
                    reason = f"{claims[claim]!r} has the same {', '.join(claim[0])}"
            if reason is None:
                claims.update(dict.fromkeys(values, operation.key))
                yield operation
                continue
            aside = layout.set_aside(self._schema, header, operation.record, reason)
            seen = replace(aside.record, seen_at=datetime.now(UTC))
            yield self._schema.put(QUARANTINE, seen)

    def _write(self, operation: Put | Delete) -> None:
        """Write on top of what was compared, which must still be there at the end."""
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
        """The operation with its record where the quarantined one stood in the file."""
        layout, position = self._layout, self._record.position
        if position is None or operation.collection != layout.collection:
            return operation
        if isinstance(operation, Delete) or not layout.owns(operation.record):
            return operation
        placed = layout.placed(operation.record, position)
        return self._schema.put(operation.collection, placed)

    def _why_not(self, entries: Sequence[Entry]) -> str | None:
        """Why these entries cannot take the place of the quarantined record."""
        homes = [entry.home for entry in entries]
        waiting = [put.record for put in homes if put.collection == QUARANTINE]
        if is_whole_file(self._record):
            waiting = [found for found in waiting if is_whole_file(found)]
        if waiting:
            return str(waiting[0].reason)
        if is_whole_file(self._record):
            return None
        for put in homes:
            there = self._find(put.collection, put.key)
            if there is not None and self._layout.owns(there):
                return f"another record of the file has its key, {shown(put.key)}"
        return None

    # -- what other files say -----------------------------------------------------------

    def _with_what_others_tell(
        self, operations: Sequence[Put | Delete]
    ) -> Iterator[Put | Delete]:
        """The operations; other files have their say about records that they derive anew.

        When those files were adopted there was nothing yet that they could tell of.
        """
        own = {self._layout.collection, QUARANTINE}
        fresh = {
            (put.collection, put.key): put.record
            for put in operations
            if isinstance(put, Put)
            and put.collection not in own
            and self._find(put.collection, put.key) is None
        }
        with as_stored():  # what is known of them; they wait for nobody
            told = list(self._told_of(fresh)) if fresh else []
        for put in told:
            place = (put.collection, put.key)
            spec = self._schema[put.collection]
            fresh[place] = absorbed(spec, fresh[place], put.record)
        for operation in operations:
            record = fresh.get((operation.collection, operation.key))
            if record is None:
                yield operation
            else:
                yield self._schema.put(operation.collection, record)

    def _told_of(self, places: Collection[tuple[str, str]]) -> Iterator[Put]:
        """What the placed records of other files tell of these places.

        All of them are looked at; those that tell something are read once more, by the
        transaction.
        """
        for layout in self._store.layouts:
            if layout.file == self._layout.file:
                continue
            for row in self._store.scan(layout.collection):
                told = self._told(layout, row.record)
                if told is None:
                    break
                if any((put.collection, put.key) in places for put in told):
                    record = self._tx.collection(layout.collection).get(row.key)
                    for put in self._told(layout, record) or ():
                        if (put.collection, put.key) in places:
                            yield put

    def _told(self, layout: Layout, record: Any) -> list[Put] | None:
        """What a record tells of others; None where no record of its file ever does."""
        if record is None or not layout.owns(record):
            return []
        told = layout.told(self._schema, record)
        return None if told is None else list(told)


class _Looks(TransactionLookups):
    """With what was read of a whole file."""

    def __init__(self, store: Store, tx: Transaction, look: Find) -> None:
        super().__init__(store, tx)
        self._look = look

    @override
    def find(self, collection: str, key: str) -> Any:
        return self._look(collection, key)


def _aside(operation: Put | Delete) -> QuarantinedRecord | None:
    record = operation.record if isinstance(operation, Put) else None
    return record if isinstance(record, QuarantinedRecord) else None


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
