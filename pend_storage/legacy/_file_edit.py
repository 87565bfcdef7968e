"""Edits of a legacy file inside a transaction, adopted like edits of the file itself.

What a program may say by writing the file, it may say through a view, and the same comes
of it. Only the records that an edit touches are looked at: those in whose place it
writes, and those that claim the same key or the same unique value.
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

__all__ = ["PATIENCE", "FileEdit", "has_written", "piece_of", "written"]

T = TypeVar("T")

PATIENCE: Final = 30.0
"""Seconds for which a write is repeated where others write the same all the time."""
_MOST_REFUSED: Final = 20
"""How often the store may refuse a write, each time for another reason."""


def written(layout: RecordPlacement, store: Store, fn: Callable[[Transaction], T]) -> T:
    """Call ``fn``, maybe several times, with a transaction, until it is committed.

    What it writes into files goes through :meth:`FileEdit.of`.

    Args:
        layout: of the file that is written.
        store: that is written to.
        fn: makes the edit.

    Raises:
        CorruptFile: the file is broken as a whole, so nothing can be written into it.
        InvalidRecord: a value is not JSON, or cannot be placed where that is asked for.
        StoreUnavailable: others wrote the same records all the time.
    """
    edits = _Edits()
    collections = {each.collection for each in store.layouts}

    def attempt() -> T:
        edits.begin()
        with Transaction(store) as tx:
            tx.companions[_Edits] = edits
            return fn(tx)

    for left in reversed(range(_MOST_REFUSED)):
        try:
            result = _repeated(attempt, layout)
        except UniqueViolation as error:
            place = (error.collection, error.key)
            if (
                error.collection not in collections
                or place in edits.refused
                or not left
            ):
                raise
            edits.refused[place] = str(error)
        except ReferenceViolation:
            if not left:  # else something has come to refer to what is deleted
                raise
        else:
            _tell(store, edits.told)
            return result
    raise AssertionError  # pragma: no cover - the last attempt raises, or returns


class _Edits:
    """The edits of files in one transaction, over all attempts at it."""

    def __init__(self) -> None:
        self.refused: Final[dict[Place, str]] = {}
        """Records that the store has refused, and why."""
        self.told: Final[list[Event]] = []
        self.known: Final[dict[str, FileEdit]] = {}
        """Of the present attempt, by file."""

    def begin(self) -> None:
        """Begin another attempt."""
        self.told.clear()
        self.known.clear()


def has_written(tx: Transaction) -> bool:
    """Whether views have written records in a transaction, of whatever file."""
    edits = tx.companions.get(_Edits)
    return edits is not None and any(w.has_written for w in edits.known.values())


def _tell(store: Store, told: Iterable[Event]) -> None:
    for event in told:
        store.tell(event)


def _repeated(attempt: Callable[[], T], layout: RecordPlacement) -> T:
    stop = tenacity.stop_after_delay(PATIENCE)
    try:
        return tenacity.Retrying(stop=stop, **ON_CONFLICT)(attempt)
    except Conflict as error:
        raise StoreUnavailable(
            f"others wrote {error.collection}[{shown(error.key)}] each time for "
            f"{PATIENCE:g} s. Nothing was written: try again when they are done",
            store=layout.file,
        ) from error


def piece_of(
    name: Any, value: Any, position: int, *, number: int = 0, collection: str
) -> Piece:
    """The text of a value, as a program would write it into the file.

    Args:
        name: its member name, a text; None in a list.
        value: what ``json.dump`` takes.
        position: where it stands in the file.
        number: its place in a list, for messages.
        collection: for the error.

    Raises:
        InvalidRecord: it is not JSON.
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
    except ValueError as error:  # not for every store, but maybe for a file
        try:
            # NaN would leave a file that other parsers cannot read.
            return json.dumps(value, allow_nan=False).encode()
        except (ValueError, TypeError, RecursionError):
            raise InvalidRecord(str(error), collection=collection) from None


@dataclass(slots=True)
class FileEdit(EditReads):
    """One edit of some records of a file, inside of a transaction."""

    strict: bool = False
    told: list[Event] = field(default_factory=list)
    """What to tell when it is committed."""

    @classmethod
    def of(
        cls, tx: Transaction, store: Store, layout: RecordPlacement, *, strict: bool
    ) -> FileEdit:
        """The edit of a file that is part of a transaction."""
        edits = tx.companions.get(_Edits)
        if edits is None:  # of a caller, who may write records between two calls
            alone = cls(store, tx, layout, strict=strict)
            tx.after_commit(partial(_tell, store, alone.told))
            return alone
        known: FileEdit | None = edits.known.get(layout.file)
        if known is None:
            refused, told = edits.refused, edits.told
            known = cls(store, tx, layout, refused, strict=strict, told=told)
            edits.known[layout.file] = known
        return known

    # -- one edit -----------------------------------------------------------------------

    def edit(
        self, gone: Sequence[Any], pieces: Sequence[Piece], same: Any = None
    ) -> list[Operation]:
        """Replace some records of the file by these texts; gives what that writes.

        Args:
            gone: the records in whose places something else stands now, or nothing.
            pieces: the texts, each with its position.
            same: a record that stays the same one, whatever its new text says.
        """
        self._require_sound()
        written = [(piece, self._entry(piece)) for piece in pieces]
        outcome = ClaimResolution(self, gone, written, same).settle()
        if self.strict and outcome.refused:
            raise self.refusal(outcome.refused[0])
        # How the file is written matters where all of it is read.
        parsed = ParsedFile(self.layout.missing(), outcome.entries)
        schema = self.store.schema
        adopted = adopt(
            self.layout, schema, parsed, outcome.gone, self.find, in_place=True
        )
        operations = [*outcome.operations, *adopted]
        self.apply(operations)
        return operations

    def rewrite(self, present: Sequence[Any], pieces: Iterable[Piece]) -> None:
        """Make the records of the file these texts, as reading it whole would.

        Args:
            present: the records of the file.
            pieces: the texts, by ascending position.
        """
        self._require_sound()
        reader = RecordReader(self.layout.file, self.layout.mapping, self.store.schema)
        entries = [self._sound(reader, piece) for piece in pieces]
        for entry in entries if self.strict else ():
            if entry.home.collection == QUARANTINE:
                raise self.refusal(entry.home.record.reason)
        parsed = ParsedFile(self.header(), entries)
        adopted = adopt(self.layout, self.store.schema, parsed, present, self.find)
        self.apply(adopted)

    def apply(self, operations: Iterable[Operation]) -> None:
        """Write what an adoption gives, and what follows from it."""
        removal = Removal(self.store.schema, self.store.layouts, self.layout, self)
        complete = removal.settle(operations)
        for operation in complete.values():
            verbs = self.tx.collection(operation.collection)
            if isinstance(operation, Delete):
                verbs.delete(operation.key)
            else:
                self._note(operation)
                verbs.write(operation)  # it is checked and encoded already
        self.remember(complete.values())
        event = removal.event()
        if event is not None:
            self.told.append(event)

    def _note(self, put: Put) -> None:
        """Tell of what goes to quarantine."""
        if put.collection != QUARANTINE or not self.layout.owns(put.record):
            return
        record: QuarantinedRecord = put.record
        is_item = self.layout.member_name(record) is None
        name = "an item" if is_item else shown(record.place)
        self.told.append(
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
        # Each by itself: what else claims the same is looked for in the store.
        reader = RecordReader(self.layout.file, self.layout.mapping, self.store.schema)
        return self._sound(reader, piece)

    def _sound(self, reader: RecordReader, piece: Piece) -> Entry:
        try:
            return reader.entry(piece)
        except CorruptFile as error:  # too large for quarantine as well
            raise self.refusal(error.reason) from error

    def refusal(self, reason: str) -> InvalidRecord:
        """The error that says why something cannot be written."""
        return InvalidRecord(reason, collection=self.layout.collection)

    def _require_sound(self) -> None:
        """Refuse to write where the file cannot show it.

        Raises:
            CorruptFile: it is broken as a whole.
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
