"""The records of one legacy file in one store: what the views are made of."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from pend_storage.codec import check_json
from pend_storage.errors import InvalidRecord
from pend_storage.layout import Entry
from pend_storage.legacy.adoption import absorbed, anchored
from pend_storage.legacy.exact import as_plain, dump
from pend_storage.legacy.quarantine import name_of, value_start
from pend_storage.legacy.reader import Piece, Reader
from pend_storage.namesakes import Text, hidden, text_of
from pend_storage.query import field
from pend_storage.records import Put, QuarantinedRecord
from pend_storage.schema import QUARANTINE, CollectionSpec
from pend_storage.shown import shown
from pend_storage.store import Store
from pend_storage.transaction import Transaction

if TYPE_CHECKING:
    from pend_storage.legacy.layout import RecordLayout

__all__ = ["Contents"]

_Reads: TypeAlias = Store | Transaction


@dataclass(frozen=True, slots=True)
class Contents:
    """Reads and writes the records of one file."""

    layout: RecordLayout
    store: Store

    @property
    def spec(self) -> CollectionSpec:
        """The collection of the records."""
        return self.store.schema[self.layout.collection]

    # -- reading ------------------------------------------------------------------------

    def all(self, reads: _Reads) -> list[Any]:
        """Every record in the file's order, quarantined ones included."""
        layout = self.layout
        found = reads.collection(layout.collection).find(*layout.mapping.where).items
        rows = [record for record in found if layout.owns(record)]
        rows += self._standing(rows, self.quarantined(reads))
        return sorted(rows, key=lambda record: layout.order(record, 0))

    def _standing(
        self, placed: Iterable[Any], aside: Iterable[QuarantinedRecord]
    ) -> list[QuarantinedRecord]:
        """The quarantined records that stand in the file."""
        found = [record for record in aside if record.position is not None]
        named = [text for r in found if (text := self._text(r)) is not None]
        if not named:
            return found
        names = {text.name for text in named}
        named += [
            text for r in placed if (text := self._text(r)) and text.name in names
        ]
        gone = hidden(named)
        return [record for record in found if record.id not in gone]

    def _text(self, record: Any) -> Text | None:
        waiting = isinstance(record, QuarantinedRecord)
        return text_of(self.layout, record, 0, record.id if waiting else None)

    def quarantined(self, reads: _Reads) -> tuple[QuarantinedRecord, ...]:
        """What of the file waits in quarantine."""
        found: tuple[QuarantinedRecord, ...]
        here = field("file") == self.layout.file
        found = reads.collection(QUARANTINE).find(here).items
        return found

    def value(self, record: Any) -> Any:
        """What the file says in the place of a record."""
        if not isinstance(record, QuarantinedRecord):
            return as_plain(self.layout.mapping.write(record))
        text = record.raw[value_start(record.raw) :]
        try:
            return json.loads(text, strict=False)
        except ValueError:
            return text.decode(errors="replace")

    def name(self, record: Any) -> str:
        """The member name of a record."""
        if not isinstance(record, QuarantinedRecord):
            return self.layout.mapping.name(record)
        name = name_of(record)
        return record.place if name is None else name

    # -- writing ------------------------------------------------------------------------

    def entry(self, name: str | None, value: Any) -> Entry:
        """What a written value becomes, behind everything that is there.

        Raises:
            InvalidRecord: it cannot be placed.
        """
        try:
            text = dump(check_json(value))
            shown = b"" if name is None else dump(check_json(name)) + b":"
        except ValueError as error:
            raise InvalidRecord(str(error), collection=self.layout.collection) from None
        reader = Reader(self.layout.file, self.layout.mapping, self.store.schema)
        entry = reader.entry(Piece(name, shown + text, len(shown), 0, now()))
        if entry.home.collection == QUARANTINE:
            raise self.refusal(entry.home.record.reason)
        return entry

    def put(self, tx: Transaction, record: Any, derived: Iterable[Put] = ()) -> None:
        """Write a record, and what else was told with it."""
        mine = (self.spec.name, self.spec.key_of(record))

        def leads(target: str, key: str) -> bool:
            # Read by the transaction: what is there, or is not, is checked at its end.
            there = (target, key) == mine
            return there or tx.collection(target).get(key) is not None

        # Where a reference must not be null, the store says what is wrong with it.
        tx.collection(self.spec.name).put(anchored(self.spec, record, leads) or record)
        for put in derived:
            target = self.store.schema[put.collection]
            told = anchored(target, put.record, leads)
            if told is not None:
                verbs = tx.collection(target.name)
                old = verbs.get(put.key)
                verbs.put(told if old is None else absorbed(target, old, told))

    def remove(self, tx: Transaction, record: Any) -> None:
        """Delete a record."""
        self.require_placed(record)
        tx.collection(self.spec.name).delete(self.spec.key_of(record))

    def require_placed(self, record: Any) -> None:
        """Refuse to change a quarantined record.

        Raises:
            InvalidRecord: it is one.
        """
        if isinstance(record, QuarantinedRecord):
            raise self.refusal(
                f"the record at {shown(record.place)} of {record.file} is quarantined "
                f"({record.reason}) and can only be read: `pend-storage quarantine` "
                "decides about it"
            )

    def refusal(self, reason: str) -> InvalidRecord:
        """The error that says why something cannot be written."""
        return InvalidRecord(reason, collection=self.layout.collection)


def now() -> int:
    """A position behind every other: positions from files are small numbers."""
    return time.time_ns() // 1_000
