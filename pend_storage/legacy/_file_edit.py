"""Edits of a legacy file inside a transaction, adopted like edits of the file itself.

A write through a view has the same outcome as a program that writes the file. Only the
records that an edit touches are read: those that it replaces, and those that claim the
same key or the same unique value.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

import tenacity

from pend_storage._layouts.broken_files import BROKEN, is_whole_file
from pend_storage._layouts.layout import Entry, ParsedFile
from pend_storage._layouts.removal import Place, Removal
from pend_storage._layouts.retained_forms import Operation
from pend_storage._model.records import Delete, Put, QuarantinedRecord
from pend_storage._retry import ON_CONFLICT
from pend_storage._shown import shown
from pend_storage._timed_transaction import begin_edit
from pend_storage._transaction import Transaction
from pend_storage.codec import check_json
from pend_storage.errors import (
    Conflict,
    CorruptFile,
    InvalidRecord,
    ReferenceViolation,
    StoreUnavailable,
    UniqueViolation,
)
from pend_storage.events import Event
from pend_storage.legacy._adoption import adopt
from pend_storage.legacy._claim_resolution import ClaimResolution
from pend_storage.legacy._edit_reads import EditReads
from pend_storage.legacy._exact_json import dump
from pend_storage.legacy._placement import RecordPlacement
from pend_storage.legacy._record_reader import Piece, RecordReader
from pend_storage.schema import LEGACY_FILES, QUARANTINE
from pend_storage.store import Store

__all__ = ["PATIENCE", "FileEdit", "has_written", "piece_of", "run_edit"]

T = TypeVar("T")

PATIENCE: Final = 30.0
"""Seconds during which a conflicting write is retried."""
_MOST_REFUSED: Final = 20
"""Attempts at a write that the store refuses, each time for another record."""


def run_edit(
    layout: RecordPlacement, store: Store, fn: Callable[[Transaction], T]
) -> T:
    """Run an edit in a transaction of its own; retry conflicts and refused records.

    Args:
        layout: of the edited file.
        store: that holds its records.
        fn: makes the edit by :meth:`FileEdit.of`; called again after each conflict.

    Returns:
        The result of ``fn``.

    Raises:
        CorruptFile: the file is broken as a whole, so nothing can be written into it.
        InvalidRecord: a value is not JSON; or it cannot be placed, and the edit is strict.
        StoreUnavailable: other writers wrote the same records until the timeout.
    """
    edits = _Edits()
    collections = {each.collection for each in store.layouts}

    def attempt() -> T:
        edits.begin()
        with begin_edit(store) as tx:
            tx.companions[_Edits] = edits
            return fn(tx)

    for left in reversed(range(_MOST_REFUSED)):
        try:
            result = _with_retries(attempt, layout)
        except UniqueViolation as error:
            place = (error.collection, error.key)
            if (
                error.collection not in collections
                or place in edits.refused
                or not left
            ):
                raise
            # A record of another file has the value: the next attempt quarantines this one.
            edits.refused[place] = str(error)
        except ReferenceViolation:
            # A concurrent commit refers to a deleted record: the next attempt frees it.
            if not left:
                raise
        else:
            _emit(store, edits.events)
            return result
    raise AssertionError  # pragma: no cover - the last attempt raises, or returns


class _Edits:
    """Edits of files in one transaction, over all its attempts."""

    def __init__(self) -> None:
        self.refused: Final[dict[Place, str]] = {}
        """Reasons of records that the store has refused."""
        self.events: Final[list[Event]] = []
        self.known: Final[dict[str, FileEdit]] = {}
        """Edits of the present attempt, by file."""

    def begin(self) -> None:
        """Begin another attempt; keeps the refused records."""
        self.events.clear()
        self.known.clear()


def has_written(tx: Transaction) -> bool:
    """Return whether views have written records of any file in a transaction."""
    edits = tx.companions.get(_Edits)
    return edits is not None and any(w.has_written for w in edits.known.values())


def _emit(store: Store, events: Iterable[Event]) -> None:
    for event in events:
        store.tell(event)


def _with_retries(attempt: Callable[[], T], layout: RecordPlacement) -> T:
    stop = tenacity.stop_after_delay(PATIENCE)
    try:
        return tenacity.Retrying(stop=stop, **ON_CONFLICT)(attempt)
    except Conflict as error:
        raise StoreUnavailable(
            f"other writers changed {error.collection}[{shown(error.key)}] during each "
            f"attempt for {PATIENCE:g} s. Nothing was written: try again later",
            store=layout.file,
        ) from error


def piece_of(
    name: Any, value: Any, position: int, *, number: int = 0, collection: str
) -> Piece:
    """Render a value as the text that a program would write into the file.

    Args:
        name: member name, a text; None in a list.
        value: anything that ``json.dump`` takes.
        position: in the file.
        number: index in a list, for messages.
        collection: for the error.

    Raises:
        InvalidRecord: the value is not JSON.
    """
    if name is not None and not isinstance(name, str):
        reason = f"the member name {shown(name)} is not text"
        raise InvalidRecord(reason, collection=collection)
    text = _text_of(value, collection)
    before = b"" if name is None else _text_of(name, collection) + b": "
    return Piece(name, before + text, len(before), number, position)


def _text_of(value: Any, collection: str) -> bytes:
    try:
        return dump(check_json(value))
    except ValueError as error:  # not storable, but a file may hold it: quarantine it
        try:
            # NaN would leave a file that other parsers cannot read.
            return json.dumps(value, allow_nan=False).encode()
        except (ValueError, TypeError, RecursionError):
            raise InvalidRecord(str(error), collection=collection) from None


@dataclass(slots=True)
class FileEdit(EditReads):
    """Edit of some records of a file, inside of a transaction."""

    strict: bool = False
    events: list[Event] = field(default_factory=list)
    """Events to emit after the commit."""

    @classmethod
    def of(
        cls, tx: Transaction, store: Store, layout: RecordPlacement, *, strict: bool
    ) -> FileEdit:
        """Return the edit of a file that is part of a transaction."""
        edits = tx.companions.get(_Edits)
        # A caller's own transaction may write records between two calls: cache nothing.
        if edits is None:
            alone = cls(store, tx, layout, strict=strict)
            tx.after_commit(partial(_emit, store, alone.events))
            return alone
        known: FileEdit | None = edits.known.get(layout.file)
        if known is None:
            refused, events = edits.refused, edits.events
            known = cls(store, tx, layout, refused, strict=strict, events=events)
            edits.known[layout.file] = known
        return known

    # -- one edit -----------------------------------------------------------------------

    def edit(
        self, gone: Sequence[Any], pieces: Sequence[Piece], same: Any = None
    ) -> list[Operation]:
        """Replace some records of the file by these texts.

        Args:
            gone: the records that are replaced or deleted.
            pieces: the texts, each with its position.
            same: a record that keeps its identity, with any new content.

        Returns:
            The operations that were written.
        """
        self._require_unbroken()
        written = [(piece, self._entry(piece)) for piece in pieces]
        outcome = ClaimResolution(self, gone, written, same).resolve()
        if self.strict and outcome.refused:
            raise self.refusal(outcome.refused[0])
        # The header only matters to the adoption of a whole file.
        parsed = ParsedFile(self.layout.missing(), outcome.entries)
        schema = self.store.schema
        adopted = adopt(
            self.layout, schema, parsed, outcome.gone, self.find, in_place=True
        )
        operations = [*outcome.operations, *adopted]
        self.apply(operations)
        return operations

    def rewrite(self, present: Sequence[Any], pieces: Iterable[Piece]) -> None:
        """Replace all records of the file by these texts, as adopting the file would.

        Args:
            present: the records of the file.
            pieces: the texts, by ascending position.
        """
        self._require_unbroken()
        reader = RecordReader(self.layout.file, self.layout.mapping, self.store.schema)
        entries = [self._parse(reader, piece) for piece in pieces]
        for entry in entries if self.strict else ():
            if entry.home.collection == QUARANTINE:
                raise self.refusal(entry.home.record.reason)
        parsed = ParsedFile(self.header(), entries)
        adopted = adopt(self.layout, self.store.schema, parsed, present, self.find)
        self.apply(adopted)

    def apply(self, operations: Iterable[Operation]) -> None:
        """Write the operations of an adoption, and their consequences."""
        removal = Removal(self.store.schema, self.store.layouts, self.layout, self)
        complete = removal.settle(operations)
        for operation in complete.values():
            verbs = self.tx.collection(operation.collection)
            if isinstance(operation, Delete):
                verbs.delete(operation.key)
            else:
                self._report_quarantined(operation)
                verbs.write(operation)  # checked and encoded by the adoption already
        self.record_writes(complete.values())
        event = removal.event()
        if event is not None:
            self.events.append(event)

    def _report_quarantined(self, put: Put) -> None:
        """Add the event of a record that is quarantined."""
        if put.collection != QUARANTINE or not self.layout.owns(put.record):
            return
        record: QuarantinedRecord = put.record
        is_item = self.layout.member_name(record) is None
        name = "an item" if is_item else shown(record.place)
        self.events.append(
            Event(
                "file-write-quarantined",
                f"{self.layout.file}: what was written as {name} cannot be placed "
                f"({record.code}: {record.reason}). It stands in the file, and waits in "
                f"quarantine as {record.id}: write another value, or see "
                "`pend-storage quarantine show`",
                logging.WARNING,
            )
        )

    def _entry(self, piece: Piece) -> Entry:
        # Each text by itself: other claimants are looked up in the store.
        reader = RecordReader(self.layout.file, self.layout.mapping, self.store.schema)
        return self._parse(reader, piece)

    def _parse(self, reader: RecordReader, piece: Piece) -> Entry:
        try:
            return reader.entry(piece)
        except CorruptFile as error:  # too large even for quarantine
            raise self.refusal(error.reason) from error

    def refusal(self, reason: str) -> InvalidRecord:
        """Make the error for a value that cannot be written."""
        return InvalidRecord(reason, collection=self.layout.collection)

    def _require_unbroken(self) -> None:
        """Refuse a write to a broken file, which would not show it.

        Raises:
            CorruptFile: the file is broken as a whole.
        """
        aside = self.aside()
        broken = [r for r in aside if is_whole_file(r) and r.is_waiting]
        if not broken:
            return
        found = self.find(LEGACY_FILES, self.layout.file)
        if found is None or found.format.get("shape") != BROKEN:
            return
        (record, *_) = broken
        raise CorruptFile(record.reason, path=self.layout.file, quarantined=record.id)
